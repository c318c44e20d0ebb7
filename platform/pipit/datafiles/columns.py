"""SCHEMA: the list of columns, read with its places. One pass over the file's own text.

``name Type [`json:path`] [DEFAULT expr] [CODEC(...)]``, what follows the name in any order, commas between columns,
one more allowed at the end, `--` comments and lines that start with `#`. A type gets the engine's own name (`INT` is
`Int32`); whether it exists is ClickHouse's to say, apart from what the dialect refuses by name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipit.datafiles import values
from pipit.datafiles.jsonpaths import EACH, parse_jsonpath
from pipit.datafiles.resources import Column, WarningKind
from pipit.datafiles.source import ParseReport
from pipit.errors import Reason
from pipit.sql.lexer import unescape
from pipit.sql.literals import quote_string
from pipit.sql.types import own_type

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DIRECTIVE = re.compile(r"[A-Z][A-Z_]{2,}(?=\s|$)")
_SPACE = " \t\n\r\f\v"
_ENDS_NAME = frozenset(_SPACE + ",`()'\"")
_CLOSERS = {"(": ")", "[": "]", "{": "}"}
_REFUSED = {
    "MATERIALIZED": ("MATERIALIZED columns are not supported", "Compute it in a materialized view, or use DEFAULT."),
    "ALIAS": ("ALIAS columns are not supported", "Compute it in the pipes that need it."),
    "EPHEMERAL": ("EPHEMERAL columns are not supported", "Use DEFAULT."),
    "TTL": ("column TTL is not supported", "Use ENGINE_TTL, which is for whole rows."),
    "NULL": ("NULL column syntax not supported", "use Nullable(...)"),
    "NOT": ("NOT NULL column syntax not supported", "Columns are not nullable by default: leave NOT NULL out."),
    "COMMENT": ("column COMMENT is not supported", "Write a -- comment, or use DESCRIPTION."),
    "PRIMARY": ("PRIMARY KEY is not supported in a column", "Use ENGINE_PRIMARY_KEY."),
    "STATISTICS": ("column STATISTICS is not supported", ""),
}
_ENDS_EXPRESSION = frozenset({"CODEC", "TTL", "COMMENT"})
# Between these a word is a name, not the next part of the column.
_OPERATORS = frozenset("+-*/%<>=!|&?:,.([")
_NULLABLE = ("Nullable(", "LowCardinality(Nullable(")
_HOLDS_RECORD = re.compile(r"\b(String|FixedString|JSON|Object|Dynamic|Variant|Map|Tuple)\b")
_HOLDS_ARRAY = re.compile(r"\b(Array|Nested|JSON|Object|Dynamic|Variant)\b")


def read_columns(report: ParseReport, start: int, end: int) -> tuple[Column, ...]:
    """The columns that stand in `report.text[start:end]`. What cannot be read is noted, and reading goes on."""
    return _Reader(report, start, end).columns()


_LOW = "LowCardinality("
_ZERO_FOR_EMPTY = re.compile(r"(?:Nullable\()?(?:Date|Time|U?Int\d|Float|BFloat|Decimal|UUID|IPv[46]|Bool)")
_NO_NULL = re.compile(r"(?:Array|Map|Tuple|Nested|AggregateFunction|JSON|Dynamic|Variant)\b")


def _bare(type_: str) -> str:
    """Without LowCardinality and Nullable around it."""
    for wrapper in (_LOW, "Nullable("):
        if type_.startswith(wrapper) and type_.endswith(")"):
            type_ = type_[len(wrapper) : -1]
    return type_


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a SCHEMA with what stands around them, for who writes it again. Offsets are the text's."""

    columns: tuple[tuple[Column, int, int], ...]  # where it begins, and where its last part ends
    comments: tuple[tuple[int, int], ...]  # from `--` or `#` to the end of the line


def read_layout(report: ParseReport, start: int, end: int) -> Layout:
    """As `read_columns`, with places. Only of use if the report has no errors."""
    reader = _Reader(report, start, end)
    columns = reader.columns()
    placed = tuple((column, *span) for column, span in zip(columns, reader.spans, strict=True))
    return Layout(placed, tuple(sorted(reader.comments.items())))


class _Refused(Exception):
    """This column cannot be read on. Its error is in the report already."""


@dataclass(slots=True)
class _Draft:
    name: str
    at: int
    type: str | None = None
    jsonpath: str | None = None
    jsonpath_at: int = 0
    default: str | None = None
    codec: str | None = None
    seen: set[str] = field(default_factory=set)


class _Reader:
    def __init__(self, report: ParseReport, start: int, end: int) -> None:
        self.report, self.text, self.i, self.end = report, report.text, start, end
        self._last = start  # where the part that was read last ends
        self.spans: list[tuple[int, int]] = []
        self.comments: dict[int, int] = {}

    def columns(self) -> tuple[Column, ...]:
        found: dict[str, Column] = {}
        while not self.report.full:
            self._space()
            if self.i >= self.end:
                break
            start = self.i
            if self.text[start] == ",":
                self.report.error("A column is missing before this comma", start)
                self.i += 1
                continue
            try:
                column = self._column()
            except _Refused:
                self.i = max(self.i, start + 1)
                self._recover()
                continue
            if column.name in found:
                self.report.error(
                    f"Duplicate column '{column.name}'",
                    start,
                    "Every column has a name of its own.",
                    reason=Reason.NAME_TAKEN,
                )
            if column.name not in found:
                found[column.name] = column
                self.spans.append((start, self._last))
        return tuple(found.values())

    def _column(self) -> Column:
        draft = _Draft("", self.i)
        quoted = self.text[self.i] in '`"'
        draft.name = self._name()
        self._last = self.i
        word = draft.name.upper()
        if not quoted and word in ("INDEX", "PROJECTION", "CONSTRAINT") and self._is_clause(word):
            raise self._refuse(f"{word} is not allowed inside SCHEMA", draft.at, "Use INDEXES > for indexes.")
        while True:
            self._space()
            if self.i >= self.end:
                break
            if self.text[self.i] == ",":
                self.i += 1
                break
            self._last = self._part(draft)
        if draft.type is None and draft.default is None:
            raise self._refuse("Column name and either type or DEFAULT are required", draft.at, "`name` Type")
        type_ = draft.type or ""
        default = draft.default
        if default is not None and default.upper() == "NULL":
            if type_ and not type_.startswith(_NULLABLE):
                type_ = self._nullable(draft, type_)
            default = default if not type_ else None
        elif default in ("''", '""') and _ZERO_FOR_EMPTY.match(plain := _bare(type_)):
            # Published files say so; the engine reads no such value from an empty text.
            default = f"defaultValueOfTypeName({quote_string(plain)})"
        if draft.jsonpath is not None:
            self._check_path(draft)
        return Column(draft.name, type_, draft.jsonpath, default, draft.codec, self.report.position(draft.at))

    def _nullable(self, draft: _Draft, type_: str) -> str:
        """The type of a column with DEFAULT NULL: the engine makes it Nullable, so the file is taken to say that."""
        if _NO_NULL.match(type_):
            message = f"The DEFAULT of '{draft.name}' is NULL, and {type_} cannot be Nullable"
            self.report.error(message, draft.at, "Leave DEFAULT out.")
            return type_
        low = type_.startswith(_LOW)
        written = f"{_LOW}Nullable({type_[len(_LOW) : -1]}))" if low else f"Nullable({type_})"
        message = f"'{draft.name}' is {type_} with DEFAULT NULL: it is taken as {written}"
        self.report.warn(message, draft.at, f"Write {written}.", kind=WarningKind.TAKEN_AS_NULLABLE)
        return written

    def _name(self) -> str:
        start, char = self.i, self.text[self.i]
        if char in '`"':
            self.i = self._quoted(start)
            name = unescape(self.text[start + 1 : self.i - 1], char)
        else:
            while self.i < self.end and self.text[self.i] not in _ENDS_NAME:
                self.i += 1
            if self.i == start:
                raise self._refuse(f"A column name is expected here, not {char}", start, "`name` Type")
            name = self.text[start : self.i]
        if not name.strip():
            raise self._refuse("The column has no name", start)
        if any("\ud800" <= c <= "\udfff" for c in name):
            raise self._refuse("The column's name is not valid text", start)
        return name

    def _part(self, draft: _Draft) -> int:
        """One part after the name: a type, a path, a default, a codec. Where it ends."""
        at = self.i
        if self.text[at] == "`":
            end = self._quoted(at)
            inner = self.text[at + 1 : end - 1]
            if not inner.lower().startswith("json:"):
                raise self._refuse("A comma is missing before this column", at)
            self._once(draft, "JSON path", at)
            draft.jsonpath, draft.jsonpath_at, self.i = inner[5:].strip(), at, end
            return end
        match = _WORD.match(self.text, at, self.end)
        if match is None:
            raise self._refuse(f"Unexpected {self.text[at]} in column '{draft.name}'", at, "`name` Type, `name` Type")
        word = match[0].upper()
        if word in _REFUSED and (word != "NOT" or draft.type is not None):
            message, hint = _REFUSED[word]
            raise self._refuse(message, at, hint)
        if word == "DEFAULT":
            self._once(draft, "DEFAULT", at)
            self.i = match.end()
            draft.default, end = self._expression()
            if not draft.default:
                raise self._refuse("DEFAULT needs an expression", at, "`name` Type DEFAULT now()")
            return end
        if word == "CODEC":
            self._once(draft, "CODEC", at)
            self.i = match.end()
            self._space()
            if self.i >= self.end or self.text[self.i] != "(":
                raise self._refuse("CODEC needs its methods in parentheses", at, "CODEC(ZSTD(1))")
            draft.codec = "CODEC" + values.one_line(self._group())
        elif draft.type is None:
            draft.type = self._type(match)
        else:
            raise self._refuse(
                f"Unexpected '{match[0]}' after the type of column '{draft.name}'", at, "Is a comma missing before it?"
            )
        return self.i

    def _type(self, match: re.Match[str]) -> str:
        start = self.i
        self.i = match.end()
        after = self.i
        self._space()
        if self.i < self.end and self.text[self.i] == "(":
            text = match[0] + self._group()
            after = self.i
        else:
            text = match[0]
            self.i = after
        self._check_type(start, after)
        return own_type(values.one_line(text))

    def _group(self) -> str:
        """The bracketed text from here to its closing bracket, without comments."""
        start, closers, pieces = self.i, [], []
        while self.i < self.end:
            char = self.text[self.i]
            if char in "'`\"":
                end = self._quoted(self.i)
                pieces.append(self.text[self.i : end])
                self.i = end
                continue
            if self._at_comment():
                self._line_end()
                continue
            if char in _CLOSERS:
                closers.append(_CLOSERS[char])
            elif char in ")]}" and char != closers.pop():
                raise self._refuse(f"This {char} closes a bracket of another kind", self.i)
            pieces.append(char)
            self.i += 1
            if not closers:
                return "".join(pieces)
        self.i = start + 1
        raise self._refuse("The bracket is not closed", start)

    def _expression(self) -> tuple[str, int]:
        """The expression of a DEFAULT, up to a comma, a JSON path, CODEC or the end; where its last piece ends."""
        pieces: list[str] = []
        last = self.i
        while self.i < self.end:
            char = self.text[self.i]
            if char == "," or (char == "`" and self.text.startswith("`json:", self.i)):
                break
            if char in _CLOSERS:
                pieces.append(self._group())
            elif char in ")]}":
                raise self._refuse("This bracket was never opened", self.i)
            elif char in "'`\"":
                end = self._quoted(self.i)
                pieces.append(self.text[self.i : end])
                self.i = end
            elif self._at_comment():
                self._line_end()
                continue
            elif match := _WORD.match(self.text, self.i, self.end):
                if match[0].upper() in _ENDS_EXPRESSION and not self._is_operand(pieces, match.end()):
                    break
                pieces.append(match[0])
                self.i = match.end()
            else:
                pieces.append(char)
                self.i += 1
            if not char.isspace():
                last = self.i
        return values.one_line("".join(pieces)), last

    def _is_operand(self, pieces: Sequence[str], end: int) -> bool:
        """Whether a word that may end a DEFAULT is a column's name in it: `ttl + 1`, `1 + codec`."""
        before = "".join(pieces).rstrip()[-1:]
        after = self.text[end : self.end].lstrip()[:1]
        return after != "(" and (before in _OPERATORS if before else after in _OPERATORS or after in ("", ","))

    def _check_type(self, start: int, end: int) -> None:
        """What the dialect refuses by name, at any depth. Noted only: the column can be read on."""
        i = start
        while i < end:
            char = self.text[i]
            if char in "'`\"":
                i = self._quoted(i)
                continue
            if self.text.startswith("--", i):
                found = self.text.find("\n", i, end)
                i = end if found < 0 else found
                continue
            match = _WORD.match(self.text, i, end)
            if match is None:
                # A number may be followed by letters (`0x1F`): they are not a word.
                i += 1
                while char.isdigit() and i < end and (self.text[i].isalnum() or self.text[i] == "_"):
                    i += 1
                continue
            i = match.end()
            after = i
            while after < end and self.text[after] in _SPACE:
                after += 1
            follows = self.text[after] if after < end else ""
            named = after > i and (follows.isalpha() or follows in ("_", "`"))  # the name of a tuple's element
            if named or follows in (".", "="):
                continue
            self._check_type_word(match[0], match.start(), follows, after)

    def _check_type_word(self, word: str, at: int, follows: str, after: int) -> None:
        if word.lower() == "datetime64":
            inner = self.text[after + 1 : after + 64].lstrip() if follows == "(" else ""
            if not inner[:1].isdigit():
                self.report.error(
                    "DateTime64 type without precision is not supported",
                    at,
                    "use DateTime64(3) instead",
                    reason=Reason.TYPE_UNSUPPORTED,
                )
        elif word in ("Int", "UInt"):
            sizes = ", ".join(f"{word}{bits}" for bits in (8, 16, 32, 64, 128, 256))
            self.report.error(
                f"Precision is mandatory for {word} types", at, f"Use one of {sizes}.", reason=Reason.TYPE_UNSUPPORTED
            )
        elif word.lower() == "boolean":
            self.report.error("Boolean type is not supported", at, "use Bool or UInt8", reason=Reason.TYPE_UNSUPPORTED)

    def _check_path(self, draft: _Draft) -> None:
        path = draft.jsonpath or ""
        try:
            steps = parse_jsonpath(path)
        except ValueError as problem:
            self.report.error(
                f"Invalid JSON path '{path}': {problem}",
                draft.jsonpath_at,
                "`json:$.a.b`, `json:$.a[:]`",
                reason=Reason.JSONPATH_INVALID,
            )
            return
        type_ = draft.type or "String"
        if EACH in steps and not _HOLDS_ARRAY.search(type_):
            self.report.error(
                f"The JSON path '{path}' gives an array, and column '{draft.name}' is {type_}",
                draft.jsonpath_at,
                f"Make it Array({type_}), or leave [:] out.",
                reason=Reason.JSONPATH_INVALID,
            )
        if not steps and not _HOLDS_RECORD.search(type_):
            self.report.error(
                f"The JSON path '$' gives the whole record, and column '{draft.name}' is {type_}",
                draft.jsonpath_at,
                "Use String or JSON.",
                reason=Reason.JSONPATH_INVALID,
            )

    def _once(self, draft: _Draft, part: str, at: int) -> None:
        if part in draft.seen:
            raise self._refuse(f"Column '{draft.name}' has two of: {part}", at, "Is a comma missing?")
        draft.seen.add(part)

    def _is_clause(self, word: str) -> bool:
        """Whether `INDEX` here is the keyword: a column of that name is followed by a type and then the end."""
        line = self.text[self.i : min(self.report.line_end(self.report.line_at(self.i)), self.i + 4096, self.end)]
        upper = line.upper().split()
        return {"INDEX": "TYPE", "PROJECTION": "(SELECT", "CONSTRAINT": "CHECK"}[word] in upper

    def _quoted(self, start: int) -> int:
        """The offset after the quoted text at `start`. It ends in its line, and in this block."""
        stop = min(self.end, self.report.line_end(self.report.line_at(start)))
        end = values.skip_quoted(self.text, start, stop)
        if end < 0:
            self.i = max(self.i, start)
            raise self._refuse("The quote is not closed in this line", start)
        return end

    def _space(self) -> None:
        """Moves over white space, `--` comments and lines that start with `#`."""
        while self.i < self.end:
            if self.text[self.i] in _SPACE:
                self.i += 1
            elif self._at_comment():
                self._line_end()
            else:
                return

    def _at_comment(self) -> bool:
        """`--` anywhere, and a `#` that begins its line."""
        if self.text[self.i] != "#":
            return self.text.startswith("--", self.i)
        i = self.i - 1
        while i >= 0 and self.text[i] in " \t":
            i -= 1
        return i < 0 or self.text[i] == "\n"

    def _line_end(self) -> None:
        """Moves over a comment."""
        found = self.text.find("\n", self.i, self.end)
        end = self.end if found < 0 else found
        self.comments[self.i] = end
        self.i = end

    def _recover(self) -> None:
        """Moves after the comma or the line end where the next column may begin."""
        depth = 0
        while self.i < self.end:
            char = self.text[self.i]
            self.i += 1
            if char in _CLOSERS:
                depth += 1
            elif char in ")]}":
                depth = max(0, depth - 1)
            elif char in ",\n" and depth == 0:
                return

    def _refuse(self, message: str, at: int, hint: str = "") -> _Refused:
        self.report.error(message, at, self._directive_hint(at) or hint)
        return _Refused()

    def _directive_hint(self, at: int) -> str:
        """An unindented word in capitals was probably meant as a directive that we do not know."""
        start = self.report.line_start(self.report.line_at(at))
        match = _DIRECTIVE.match(self.text, start)
        return f"If {match[0]} is meant as a directive: it is not one of .datasource files." if match else ""

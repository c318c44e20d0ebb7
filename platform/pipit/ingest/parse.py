"""From the columns of a data source to the SQL that reads a segment: parse in ClickHouse, never in Python
(rule 5).

A segment is lines. They are read with `LineAsString`, so that a line can never reach into the next one: an
unclosed object of one client cannot swallow the row of another. Each line is parsed once, by one
`JSONExtract` into a named tuple of texts (measured: faster than JSONEachRow, and it does not raise), and
each column is a checked cast out of that (`cast.py`). A line that is no JSON object, or one bad column,
makes the row bad; nothing else does.

Known, and documented for users: a number that lands in a String column is printed as JSON parsers hold it
(1.10 becomes 1.1), a numeric text such as "9" is taken by a number column, of duplicate keys the first
counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipit.datafiles.resources import Column
from pipit.errors import BadRequest
from pipit.ingest import cast, jsonpath
from pipit.ingest.jsonpath import JsonPath
from pipit.ingest.types import Type, parse, strip
from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string

Scalar = str | int | float | bool

FORMAT = "LineAsString"
LINE = "_pipit_line"
ROW = "_pipit_row"
BAD = "_pipit_bad"
STRUCTURE = f"{LINE} String"
QUARANTINE_COLUMNS = ("c__error_column", "c__error", "c__import_id", "insertion_date", "c__record")
BAD_ROW = "pipit: a bad row"
_LONG_INTEGERS = frozenset(f"{sign}Int{bits}" for sign in ("", "U") for bits in (64, 128, 256))
_VALUE = quote_string("value '")
_SHOWN = 200  # characters of a refused value that its reason repeats


@dataclass(frozen=True, slots=True)
class Field:
    """One column of the table as it comes out of a line."""

    column: Column
    type: Type
    path: JsonPath | None  # None: the token fixes the value
    x: str  # the wide value
    steps: tuple[str | int, ...] = ()  # arguments of the JSON functions that lead to the value

    @property
    def nullable(self) -> bool:
        return strip(self.type)[1]

    @property
    def compound(self) -> bool:
        return cast.is_compound(self.type)

    @property
    def optional(self) -> bool:
        return self.column.default is not None or self.nullable

    @property
    def absent(self) -> str:
        """No value at the path, or null. For arrays, maps and tuples only the JSON itself can tell."""
        if self.path is None:
            return "false"
        if not self.compound:
            return f"isNull({self.x})"
        return f"({self._empty} AND {_call('JSONType', self.steps)} = 'Null')"

    @property
    def wrong(self) -> str:
        """There is a value, and the type does not take it."""
        refused = cast.bad(self.type, self.x)
        if self.path is None:
            return refused
        checks = [refused, self._doubts]
        if self.compound:
            kind = strip(self.type)[0].name
            expected = {"Map": "'Object'", "Tuple": "'Object', 'Array'"}.get(kind, "'Array'")
            checks.append(f"({self._empty} AND {_call('JSONType', self.steps)} NOT IN ({expected}))")
        kept = [check for check in checks if check != "false"]
        return f"(({' OR '.join(kept)}) AND NOT {self.absent})" if kept else "false"

    @property
    def bad(self) -> str:
        """Wrong, or absent where the column needs a value; the cheapest form of it, since every row is asked."""
        if self.compound and self.path is not None:
            return self.wrong if self.column.default is not None else f"({self.wrong} OR {self.absent})"
        refused = cast.bad(self.type, self.x)  # for a type that is not Nullable, NULL is refused too
        if self.column.default is not None and not self.nullable:
            refused = f"(isNotNull({self.x}) AND {refused})"
        kept = [check for check in (refused, self._doubts) if check != "false"]
        return " OR ".join(kept) or "false"

    @property
    def _empty(self) -> str:
        return "true" if strip(self.type)[0].name == "Tuple" else f"empty({self.x})"

    @property
    def _doubts(self) -> str:
        """2^64 written as 18446744073709551616.0 is a double whose printed digits are another number."""
        if self.path is None or self.compound or strip(self.type)[0].name not in _LONG_INTEGERS:
            return "false"
        return f"(length({self.x}) >= 16 AND {_call('JSONType', self.steps)} = 'Double')"

    @property
    def value(self) -> str:
        """NULL where the engine is to put the default."""
        default = self.column.default
        value = cast.value(self.type, self.x)
        if default is None:
            return value
        if self.compound:
            return f"if({self.absent}, CAST({default}, {quote_string(self.type.text)}), {value})"
        if self.nullable:  # a null that was sent stays null
            missing = f"isNull({self.x}) AND {_call('JSONType', self.steps)} = 'Null'"
            has = _call("JSONHas", self.steps)
            default = f"CAST({default}, {quote_string(self.type.text)})"
            return f"if({missing} AND NOT {has}, {default}, {value})"
        return cast.or_null(strip(self.type)[0], self.x)

    @property
    def filled(self) -> str:
        """As `value`, with the default in it: for expressions over the row, such as the partition key."""
        default = self.column.default
        if default is None or self.compound or self.nullable:
            return self.value
        return f"ifNull({self.value}, CAST({default}, {quote_string(self.type.text)}))"

    @property
    def text(self) -> str:
        """The value as it was sent, for the quarantine."""
        if self.path is None:
            return self.x
        if self.path.is_record:
            return f"CAST({LINE}, 'Nullable(String)')"
        if self.path.inner:
            return f"if({self.absent}, NULL, toJSONString({self.x}))"
        return _call("JSONExtract", self.steps, "'Nullable(String)'")

    @property
    def reason(self) -> str:
        """Why this column refuses the row, in the dialect's words; '' when it does not."""
        name = self.column.name
        inner = strip(self.type)[0].text
        shown = f"substringUTF8(ifNull({self.text}, 'null'), 1, {_SHOWN})"
        what = quote_string(f"' on column '{name}' is not {inner}")
        wrong = f"concat({_VALUE}, {shown}, {what})"
        if self.optional or self.path is None:
            return f"multiIf({self.wrong}, {wrong}, '')"
        missing = (
            f"Strict type checking failed. Object does not have column '{name}', you should send a value or "
            f"recreate the table with a Nullable column type. While accessing jsonpath '{self.path.text}'"
        )
        return f"multiIf({self.absent}, {quote_string(missing)}, {self.wrong}, {wrong}, '')"


@dataclass(frozen=True, slots=True)
class Reader:
    """SQL over the marker `{source}`, a segment's lines. `frame` is the prefix of lines that are not rows."""

    fields: tuple[Field, ...]
    row_type: str  # the tuple that a line is extracted into; '' when no column needs it
    frame: str = ""
    columns: tuple[Column, ...] = field(default=())

    @property
    def names(self) -> str:
        return ", ".join(quote(f.column.name) for f in self.fields)

    @property
    def shown(self) -> tuple[Field, ...]:
        """The columns that the quarantine shows: not those whose names it needs itself."""
        return tuple(f for f in self.fields if f.column.name not in QUARANTINE_COLUMNS)

    @property
    def bad(self) -> str:
        """Whether a row is refused. Reads the line a second time only where that can matter."""
        checks = [f"({f.bad})" for f in self.fields if f.bad != "false"]
        checks.append(f"(NOT startsWith({LINE}, '{{') AND NOT {_is_object()})")
        if not any(_proves_json(f) for f in self.fields):
            nothing = [_nothing(f) for f in self.fields if f.path is not None and not f.path.is_record]
            quiet = " AND ".join(n for n in nothing if n)
            checks.append(f"({quiet + ' AND ' if quiet else ''}NOT isValidJSON({LINE}))")
        checks += [f"({guard})" for guard in self._shape_guards()]
        return " OR ".join(checks)

    def good_rows(self, *, strict: bool) -> str:
        """The rows for the table. `strict`: a bad row raises, so that one pass both checks and inserts."""
        values = ", ".join(f"{f.value} AS {quote(f.column.name)}" for f in self.fields)
        condition = f"throwIf({BAD}, {quote_string(BAD_ROW)}) = 0" if strict else f"NOT {BAD}"
        checked = f"SELECT {values}, {self.bad} AS {BAD} FROM {self._rows()}"
        return f"SELECT {self.names} FROM ({checked}) WHERE {condition}"

    def good_rows_of_group(self, partition: str, group: int, size: int) -> str:
        """The good rows whose partition is among the group-th `size` partitions of the segment."""
        ranked = (
            f"SELECT {self.names}, dense_rank() OVER (ORDER BY {partition}) - 1 AS _pipit_rank "
            f"FROM {self._filled_rows()}"
        )
        return f"SELECT {self.names} FROM ({ranked}) WHERE intDiv(_pipit_rank, {size}) = {group}"

    def partitions(self, partition: str) -> str:
        return f"SELECT uniqExact({partition}) AS partitions FROM {self._filled_rows()}"

    def counts(self, starts: Sequence[int]) -> str:
        """Rows and bad rows of each request; `starts` are the numbers of their first rows, from 0, ascending."""
        groups = ", ".join(str(s) for s in starts)
        numbered = f"SELECT rowNumberInAllBlocks() AS _pipit_number, {self.bad} AS {BAD} FROM {self._rows()}"
        return (
            f"SELECT roundDown(_pipit_number, [{groups}]) AS start, count() AS total, countIf({BAD}) AS bad "
            f"FROM ({numbered}) GROUP BY start"
        )

    def bad_rows(self, import_id: str) -> str:
        """The refused rows as the quarantine table keeps them (`quarantine.py` says its columns)."""
        whole = f"(isValidJSON({LINE}) AND {_is_object()})"
        texts = [f"if({whole}, {f.text}, NULL) AS {quote(f.column.name)}" for f in self.shown]
        reasons = [f"({quote_string(f.column.name)}, {f.reason})" for f in self.fields]
        reasons += [f"({quote_string(n)}, {r})" for n, r in self._shape_reasons()]
        listed = f"arrayFilter(_pipit_r -> _pipit_r.2 != '', [{', '.join(reasons)}])"
        broken = "[('', 'invalid JSON: the line is not a JSON object')]"
        own = [
            f"arrayMap(_pipit_r -> _pipit_r.1, if({whole}, {listed}, {broken}) AS _pipit_reasons)",
            "arrayMap(_pipit_r -> _pipit_r.2, _pipit_reasons)",
            quote_string(import_id),
            "now()",
            f"if({whole}, NULL, {LINE})",
        ]
        texts += [f"{value} AS {name}" for value, name in zip(own, QUARANTINE_COLUMNS, strict=True)]
        return f"SELECT {', '.join(texts)} FROM {self._rows()} WHERE {self.bad}"

    def _rows(self) -> str:
        frame = f" WHERE NOT startsWith({LINE}, {quote_string(self.frame)})" if self.frame else ""
        row = f", JSONExtract({LINE}, {quote_string(self.row_type)}) AS {ROW}" if self.row_type else ""
        return f"(SELECT {LINE}{row} FROM {{source}}{frame})"

    def _filled_rows(self) -> str:
        values = ", ".join(f"{f.filled} AS {quote(f.column.name)}" for f in self.fields)
        return f"(SELECT {values} FROM {self._rows()} WHERE NOT ({self.bad}))"

    def _parents(self) -> list[tuple[tuple[str | int, ...], Field]]:
        """Objects that paths lead through, each once with a column below it."""
        found: dict[tuple[str | int, ...], Field] = {}
        for f in self.fields:
            if f.path is not None and not f.path.is_record:
                for length, step in enumerate(f.path.outer[1:], 1):
                    if isinstance(step, str):
                        found.setdefault(f.path.outer[:length], f)
        return list(found.items())

    def _shape_guards(self) -> list[str]:
        """An array where an object should be is read by position: it is refused."""
        guards = []
        for path, _ in self._parents():
            key = path[-1]
            if isinstance(key, str):
                hint = quote_string(_regex(key) + r"[ \t]*:[ \t]*\[")
                guards.append(f"match({LINE}, {hint}) AND {_call('JSONType', _steps(path))} = 'Array'")
        return guards

    def _shape_reasons(self) -> list[tuple[str, str]]:
        reasons = []
        for path, f in self._parents():
            if isinstance(path[-1], str):
                assert f.path is not None
                text = f"an array stands where an object should. While accessing jsonpath '{f.path.text}'"
                array = f"{_call('JSONType', _steps(path))} = 'Array'"
                reasons.append((f.column.name, f"if({array}, {quote_string(text)}, '')"))
        return reasons


def problems(columns: Sequence[Column]) -> list[str]:
    """What cannot be read from JSON in a schema, a sentence each: for the validation of a project."""
    found = [
        f"column {c.name}: a column that is read from JSON needs a type" for c in columns if c.jsonpath and not c.type
    ]
    for column in _readable(columns):
        try:
            _field(column, _Tree())
            type = parse(column.type)
            if strip(type)[0].name == "AggregateFunction":
                raise ValueError("an AggregateFunction is filled by a materialized view, not from JSON")
        except (ValueError, IndexError) as error:
            found.append(f"column {column.name}: {error}")
    return found


def reader(columns: Sequence[Column], fixed: Mapping[str, Scalar] | None = None, frame: str = "") -> Reader:
    """Columns without a path are left to their default, unless no column has one: then each has `$.<name>`."""
    fixed = fixed or {}
    known = {c.name for c in columns}
    for name in fixed:
        if name not in known:
            raise BadRequest(f"The token fixes the column '{name}', which the data source does not have")
    tree = _Tree()
    fields: list[Field] = []
    for column in columns:
        if column.name in fixed:
            fields.append(_fixed(column, fixed[column.name]))
    for column in _readable(columns):
        if column.name not in fixed and strip(parse(column.type))[0].name != "AggregateFunction":
            fields.append(_field(column, tree))
    order = {c.name: n for n, c in enumerate(columns)}
    fields.sort(key=lambda f: order[f.column.name])
    return Reader(tuple(fields), str(tree) if tree else "", frame, tuple(columns))


def _readable(columns: Sequence[Column]) -> list[Column]:
    if any(c.jsonpath for c in columns):
        return [c for c in columns if c.jsonpath and c.type]
    return [replace(c, jsonpath=f"$['{_escape(c.name)}']") for c in columns if c.type]


def _fixed(column: Column, value: Scalar) -> Field:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    # The marker of the statement's source must not come a second time, whatever the token fixes.
    literal = quote_string(text).replace("{source}", "{\\x73ource}")
    x = f"CAST({literal}, 'Nullable(String)')"
    return Field(Column(column.name, column.type), parse(column.type), None, x)


def _field(column: Column, tree: _Tree) -> Field:
    """Puts what it reads into `tree` (the named tuple), or extracts it on its own where the tree cannot hold
    it.
    """
    assert column.jsonpath is not None
    path = jsonpath.parse(column.jsonpath)
    type = parse(column.type)
    inner = strip(type)[0]
    if path.each and inner.name != "Array":
        if path.inner:
            raise ValueError(f"{path.text} yields an array, and {column.type} is not an Array")
        path = JsonPath(path.outer, (), False, path.text)  # into a String: the JSON text of the array
    steps = _steps(path.outer)
    if path.is_record:
        return Field(column, type, path, f"CAST({LINE}, 'Nullable(String)')", steps)
    wide = cast.wide(inner.inner if path.inner else type)
    if path.outer and path.is_plain and _place(tree, path, wide):
        x = ROW
        for key in path.outer:
            x = f"tupleElement({x}, {quote_string(str(key))})"
    else:
        holder = f"Array({_nest(path.inner, wide)})" if path.inner else wide
        x = _call("JSONExtract", steps, quote_string(holder))
    for key in path.inner:
        x = f"tupleElement({x}, {quote_string(key)})"
    if inner.name.startswith("Decimal") and isinstance(path.outer[-1], str):
        x = _exact_number(x, path.outer[-1])
    return Field(column, type, path, x, steps)


class _Tree(dict[str, "str | _Tree"]):
    """What one JSONExtract reads: keys to wide types, or to objects, or to arrays of objects (`each`)."""

    def __init__(self, *, each: bool = False) -> None:
        super().__init__()
        self.each = each

    def __str__(self) -> str:
        inside = f"Tuple({', '.join(f'{quote(key)} {node}' for key, node in self.items())})"
        return f"Array({inside})" if self.each else inside


def _place(tree: _Tree, path: JsonPath, type: str) -> bool:
    """Whether the tree took the path. It cannot when a key is read as a value and as an object at once."""
    keys = [str(key) for key in (*path.outer, *path.inner)]
    for depth, key in enumerate(keys[:-1], 1):
        each = bool(path.inner) and depth == len(path.outer)
        child = tree.setdefault(key, _Tree(each=each))
        if not isinstance(child, _Tree) or child.each != each:
            return False
        tree = child
    return tree.setdefault(keys[-1], type) == type


def _nest(keys: Sequence[str], type: str) -> str:
    for key in reversed(keys):
        type = f"Tuple({quote(key)} {type})"
    return type


def _exact_number(x: str, key: str) -> str:
    """A JSON parser holds 0.1234567890123456789 as a double: for decimals the digits are taken from the line."""
    digits = quote_string(_regex(key) + r"[ \t]*:[ \t]*(-?[0-9][0-9.eE+-]*)")
    found = f"extract({LINE}, {digits})"
    same = f"JSONExtractFloat({found}) = JSONExtractFloat(assumeNotNull({x}))"
    return f"if(isNotNull({x}) AND {found} != '' AND {found} != {x} AND {same}, {found}, {x})"


def _proves_json(f: Field) -> bool:
    """Whether a row cannot be good unless its line was parsed."""
    required = f.path is not None and not f.path.is_record and not f.optional and not f.compound
    return required and strip(f.type)[0].name not in ("Dynamic", "Variant")


def _nothing(f: Field) -> str:
    if not f.compound:
        return f"isNull({f.x})"
    return "" if strip(f.type)[0].name == "Tuple" else f"empty({f.x})"


def _is_object() -> str:
    return rf"match({LINE}, '^[ \\t\\r]*[{{]')"


def _steps(path: Sequence[str | int]) -> tuple[str | int, ...]:
    """JSON functions count from 1."""
    return tuple(step + 1 if isinstance(step, int) else step for step in path)


def _call(function: str, steps: Sequence[str | int], *more: str) -> str:
    arguments = [str(s) if isinstance(s, int) else quote_string(s) for s in steps]
    return f"{function}({', '.join([LINE, *arguments, *more])})"


def _regex(key: str) -> str:
    """A JSON key in its quotes, for RE2."""
    return '"' + "".join(c if c.isalnum() else f"\\x{{{ord(c):x}}}" for c in key) + '"'


def _escape(name: str) -> str:
    return name.replace("\\", "\\\\").replace("'", "\\'")

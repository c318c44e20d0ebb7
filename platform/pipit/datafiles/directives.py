"""The lexical layer: a file's text -> its directives, in order. What each one means is not known here.

The rules are Tinybird's: the first word of a line is the directive; `WORD >` opens a
block, which ends at the first unindented line whose first word is a known directive; an unindented line that starts
with `#` is a comment everywhere; in a one-line value ` #` starts one too. One pass over the text, no recursion.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipit.datafiles import values, vocabulary
from pipit.datafiles.resources import WarningKind
from pipit.datafiles.source import MAX_FILE_CHARACTERS, ParseReport
from pipit.datafiles.vocabulary import Kind
from pipit.errors import Reason
from pipit.suggest import closest, did_you_mean

_SWALLOWED = re.compile(
    r"((?:SQL|SCHEMA|INDEXES|ROW_POLICY)[ \t]*>"
    r"|(?:NODE|TYPE|ENGINE|DATASOURCE|TARGET_DATASOURCE|COPY_MODE)[ \t]+\S+"
    r"|(?:COPY_SCHEDULE|ENGINE_[A-Z_]+)[ \t].+"
    r"|TOKEN[ \t]+\S+[ \t]+(?:READ|APPEND)"
    r"|INCLUDE[ \t]+\S+\.incl\b.*)"
)
_ENGINE = re.compile(r"^[ \t]*ENGINE[ \t]+(.*?)[ \t]*$", re.M | re.I)
_ENGINES = frozenset(engine.lower() for engine in vocabulary.ENGINES)
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Directive:
    """`name` is in capitals. `report.text[start:end]` is the value as it stands in the file; `text` is it without
    indentation, comment lines and blank lines around it (a block), or without its comment (a line)."""

    name: str
    offset: int
    start: int
    end: int
    block: bool
    text: str
    first: int  # where the first character of `text` stands in the file


def read_directives(report: ParseReport, kind: Kind) -> list[Directive]:
    """All directives of the file that its kind allows; everything else becomes an error of the report."""
    if len(report.text) > MAX_FILE_CHARACTERS:
        report.error(
            "The file is too large",
            hint=f"A datafile has at most {MAX_FILE_CHARACTERS:,} characters.",
            reason=Reason.FILE_UNREADABLE,
        )
        return []
    if "\0" in report.text:
        report.error(
            "The file holds a NUL character",
            report.text.index("\0"),
            "A datafile is plain UTF-8 text.",
            reason=Reason.FILE_UNREADABLE,
        )
        return []
    if surrogate := _SURROGATE.search(report.text):
        report.error(
            "The file holds half a character",
            surrogate.start(),
            "A datafile is plain UTF-8 text.",
            reason=Reason.FILE_UNREADABLE,
        )
        return []
    found: list[Directive] = []
    line = 1
    while line <= report.lines and not report.full:
        start, end = report.line_start(line), report.line_end(line)
        content = report.text[start:end]
        stripped = content.strip()
        line += 1
        if not stripped or stripped.startswith("#"):
            continue
        offset = start + content.index(stripped[0])
        word = stripped.split(None, 1)[0]
        rest = stripped[len(word) :]
        if len(word) > 1 and word.endswith(">") and not rest:
            word, rest = word[:-1], ">"  # `SQL>`
        value = rest.strip()
        if value.startswith(">"):
            after = block_end(report, kind, line)
            opened = report.text.index(">", offset) + 1
            directive = _block(report, word.upper(), offset, opened, line - 1, after)
            line = after
        else:
            kept = values.without_comment(rest)
            first = offset + len(word) + len(kept) - len(kept.lstrip())
            directive = Directive(
                word.upper(), offset, first, offset + len(word) + len(kept), False, kept.strip(), first
            )
        if _allowed(report, kind, word, directive):
            found.append(directive)
    return found


def block_end(report: ParseReport, kind: Kind, line: int) -> int:
    """The line that ends the block whose lines begin at `line`: the next directive's, or the one after the last."""
    while line <= report.lines:
        start, end = report.line_start(line), report.line_end(line)
        if start < end and not report.text[start].isspace():
            head = report.text[start : min(end, start + 64)].split(None, 1)
            word = head[0].removesuffix(">") if head else ""
            if vocabulary.ends_block(word, kind):
                break
        line += 1
    return line


def _block(report: ParseReport, name: str, offset: int, opened: int, line: int, after: int) -> Directive:
    """The block that `>` (just before `opened`, in `line`) opens and that ends before the line `after`."""
    rows: list[tuple[int, str]] = []  # where the row starts in the file, its text without white space at its end
    end = report.line_end(line)
    beside = report.text[opened:end].strip()
    beside = "" if beside.startswith("#") else beside
    margin: str | None = None
    for number in range(line + 1, after):
        start, end = report.line_start(number), report.line_end(number)
        row = report.text[start:end].rstrip()
        if row.startswith("#"):
            row = ""
        if row:
            indent = row[: len(row) - len(row.lstrip(" \t"))]
            margin = indent if margin is None else _common(margin, indent)
        rows.append((start, row))
    cut = len(margin or "")
    shown = [(at + cut, row[cut:]) for at, row in rows]
    if beside:
        shown.insert(0, (report.text.index(beside[0], opened), beside))
    first_row = next((i for i, (_, row) in enumerate(shown) if row.strip()), len(shown))
    shown = shown[first_row:]
    while shown and not shown[-1][1].strip():
        shown.pop()
    text = "\n".join(row for _, row in shown)
    first = shown[0][0] if shown else offset
    _warn_swallowed(report, name, rows)
    return Directive(name, offset, opened, end, True, text, first)


def _common(a: str, b: str) -> str:
    length = min(len(a), len(b))
    for i in range(length):
        if a[i] != b[i]:
            return a[:i]
    return a[:length]


def _warn_swallowed(report: ParseReport, name: str, rows: list[tuple[int, str]]) -> None:
    """An indented directive belongs to the block above it. That is the rule, and nearly always a slip."""
    for at, row in rows:
        content = row.strip()
        if row[:1].isspace() and content[:1].isupper() and _SWALLOWED.fullmatch(content):
            indent = len(row) - len(row.lstrip())
            report.warn(
                f"This line is indented, so it belongs to the {name} block above it",
                at + indent,
                "Start the line in the first column to make it a directive.",
                kind=WarningKind.INDENTED_DIRECTIVE,
            )


def _allowed(report: ParseReport, kind: Kind, word: str, directive: Directive) -> bool:
    """Whether the file may have this directive, in this form; notes the error if not."""
    name = directive.name
    if name == vocabulary.INCLUDE and kind != "connection":
        report.error(
            "INCLUDE must start its line, and name a file",
            directive.offset,
            'INCLUDE "includes/file.incl"',
            reason=Reason.INCLUDE_INVALID,
        )
        return False
    if name == vocabulary.SETTINGS and kind == "datasource":
        report.error(
            "SETTINGS option is not allowed, use ENGINE_SETTINGS instead.",
            directive.offset,
            "ENGINE_SETTINGS name=value, name=value",
        )
        return False
    if name not in vocabulary.OPTIONS[kind]:
        if kind == "pipe" and name in vocabulary.ENGINE_WORDS:
            return True  # Classic wrote the target's engine into the materialized node; `pipe` decides
        if name.startswith("ENGINE_") and _has_unknown_engine(report):
            return False  # an option of that engine, which has an error of its own
        report.error(
            f"{word} is not a valid option in {kind} files.",
            directive.offset,
            _suggestion(word, name, kind),
            reason=Reason.DIRECTIVE_UNKNOWN,
            subject=word,
        )
        return False
    if name in vocabulary.ONLY_BLOCKS and not directive.block:
        report.error(f"{name} must be multiline", directive.offset, f"Use > to start a multiline {name} block.")
        return False
    if directive.block and name not in vocabulary.BLOCKS:
        report.error(
            f"{name} does not support multiline arguments", directive.offset, "Write the value on the same line."
        )
        return False
    return True


def _has_unknown_engine(report: ParseReport) -> bool:
    """Whether some ENGINE is none of those that there are, nor nearly one: nothing can be said of its options."""
    named = [values.unquoted(found[1]) or "" for found in _ENGINE.finditer(report.text)]
    return any(name.lower() not in _ENGINES and not closest(name, vocabulary.ENGINES) for name in named)


def _suggestion(word: str, name: str, kind: Kind) -> str:
    if word.startswith("--"):
        return "A comment starts with #."
    homes = [other for other, options in vocabulary.OPTIONS.items() if name in options]
    if homes:
        return f"{name} belongs in {' and '.join(f'.{home}' for home in homes)} files."
    close = did_you_mean(name, vocabulary.OPTIONS[kind])
    return close or "Lines of a block are indented, and a directive starts its line."

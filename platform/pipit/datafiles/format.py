"""A datafile written again in one form: `format_text`. What it says stays as it is, and so do its comments.

The order of directives, the blank lines between them (no two in a row) and the values of single lines are the
author's. Even are: the directives' names (capitals), the indentation of blocks (four spaces), white space at the end
of lines, a blank line around blocks and before each NODE, and the columns of a SCHEMA: one a line, each as back-quoted
name, type, JSON path, DEFAULT, CODEC. SQL is a template before it is SQL, so it is only moved as a whole.

Promises: what is printed is read again, and is equal to what was read before, but for its places; else nothing is
printed (ProjectError). Printing what was printed changes nothing. An INCLUDE line stays as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from pipit.datafiles import vocabulary
from pipit.datafiles.columns import read_layout
from pipit.datafiles.connection import read_connection
from pipit.datafiles.datasource import read_datasource
from pipit.datafiles.describe import column_text
from pipit.datafiles.directives import block_end
from pipit.datafiles.pipe import read_pipe
from pipit.datafiles.resources import Connection, DataSource, Pipe, Position
from pipit.datafiles.source import ParseReport
from pipit.datafiles.vocabulary import Kind
from pipit.errors import DatafileError, ProjectError, Reason

# What can be formatted; a file that others include is a piece of them, and means nothing alone.
KINDS: dict[str, Kind] = {".datasource": "datasource", ".pipe": "pipe", ".connection": "connection"}

_INDENT = "    "
# Directives that stand for an INCLUDE: they end a block, and say nothing of what is compared.
_SAYS_NOTHING: dict[Kind, str] = {
    "datasource": "VERSION 0",
    "pipe": "VERSION 0",
    "connection": "KAFKA_KEY_AVRO_DESERIALIZATION ''",
}
_PLACE = re.compile(r"[0-9]+")


def format_text(text: str, *, file: str) -> str:
    """The file in its one form. Raises ProjectError with what is wrong in it, or if it would not mean the same."""
    kind = KINDS[PurePosixPath(file).suffix]
    before, errors = _read(text, file, kind)
    if errors:
        raise ProjectError(errors)
    report = ParseReport(file, text)
    printed = _joined(_chunks(report, kind))
    after, errors = _read(printed, file, kind)
    if errors or before != after:
        hint = "It was left as it is. This is a fault of pipit fmt: please report the file."
        raise ProjectError([DatafileError("The file cannot be formatted without changing it", file=file, hint=hint)])
    return printed


@dataclass(slots=True)
class _Chunk:
    """Lines that stay together: comments, and the directive below them."""

    lines: list[str]
    word: str = ""  # of the directive; empty: comments only
    block: bool = False
    apart: bool = False  # a blank line stood before it


def _chunks(report: ParseReport, kind: Kind) -> list[_Chunk]:
    found: list[_Chunk] = []
    comments: list[str] = []
    apart = False  # a blank line stands before what comes next
    line = 1

    def add(lines: list[str], word: str, block: bool = False) -> None:
        nonlocal comments, apart
        found.append(_Chunk([*comments, *lines], word, block, apart))
        comments, apart = [], False

    while line <= report.lines:
        row = _row(report, line)
        line += 1
        stripped = row.strip()
        if not stripped:
            if comments:
                add([], "")
            apart = True
            continue
        if stripped.startswith("#"):
            comments.append(stripped)
            continue
        word, value, opened = _split(report, line - 1, row)
        if word.upper() == vocabulary.INCLUDE:
            add([row], vocabulary.INCLUDE)
        elif opened < 0:
            add([f"{word.upper()} {value}".rstrip()], word.upper())
        else:
            after = block_end(report, kind, line)
            last = _without_tail(report, line, after)
            add(_block(report, kind, word.upper(), opened, line - 1, last), word.upper(), True)
            line = last
    if comments:
        add([], "")
    return found


def _joined(chunks: Sequence[_Chunk]) -> str:
    lines: list[str] = []
    for before, chunk in zip([None, *chunks], chunks, strict=False):
        if before is not None and (chunk.apart or chunk.word == "NODE" or (before.block and not _close(before, chunk))):
            lines.append("")
        lines += chunk.lines
    return "\n".join(lines) + "\n" if lines else ""


def _close(before: _Chunk, chunk: _Chunk) -> bool:
    """A node's description often stands right above its SQL."""
    return before.word == "DESCRIPTION" and chunk.word == "SQL"


def _row(report: ParseReport, line: int) -> str:
    return report.text[report.line_start(line) : report.line_end(line)].rstrip()


def _split(report: ParseReport, line: int, row: str) -> tuple[str, str, int]:
    """A directive's word and value, and the offset after its `>`, or -1 if it opens no block."""
    word = row.split(None, 1)[0]
    start = report.line_start(line) + len(row) - len(row.lstrip())
    value = row.strip()[len(word) :].strip()
    if len(word) > 1 and word.endswith(">") and not value:
        return word[:-1], "", start + len(word)
    if value.startswith(">"):
        return word, "", report.text.index(">", start + len(word)) + 1
    return word, value, -1


def _without_tail(report: ParseReport, line: int, after: int) -> int:
    """The block's end without the blank lines and unindented comments below it: they belong to what follows."""
    while after > line:
        row = _row(report, after - 1)
        if row and not row.startswith("#"):
            break
        after -= 1
    return after


def _block(report: ParseReport, kind: Kind, name: str, opened: int, line: int, after: int) -> list[str]:
    beside = report.text[opened : report.line_end(line)].strip()
    if name == "SCHEMA" and kind == "datasource":
        end = report.line_end(after - 1) if after > line + 1 else report.line_end(line)
        return [f"{name} >", *_columns(report, opened, end)]
    head = f"{name} >"
    rows = [_row(report, number) for number in range(line + 1, after)]
    margin = _margin(rows)
    inner = [row if row.startswith("#") else _INDENT + row[margin:] if row else "" for row in rows]
    if beside.startswith("#"):
        head += f" {beside}"
    elif beside:
        inner.insert(0, _INDENT + beside)
    while inner and not inner[0]:
        inner.pop(0)
    return [head, *inner]


def _margin(rows: Sequence[str]) -> int:
    """How many characters of white space all rows begin with; blank rows and comments aside."""
    margin: str | None = None
    for row in rows:
        if row and not row.startswith("#"):
            indent = row[: len(row) - len(row.lstrip(" \t"))]
            margin = indent if margin is None else _common(margin, indent)
    return len(margin or "")


def _common(a: str, b: str) -> str:
    length = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[:length]


def _columns(report: ParseReport, start: int, end: int) -> list[str]:
    """One column a line, with its comments: those that stand alone above it, one that stands beside it after it."""
    layout = read_layout(report, start, end)
    if report.errors:
        raise ProjectError(report.errors)
    alone: list[list[str]] = [[] for _ in range(len(layout.columns) + 1)]
    beside: list[list[str]] = [[] for _ in layout.columns]
    at = 0  # how many columns begin before the comment
    for begin, stop in layout.comments:
        while at < len(layout.columns) and layout.columns[at][1] < begin:
            at += 1
        comment = report.text[begin:stop].rstrip()
        line = report.line_start(report.position(begin).line)
        first = not report.text[max(line, start) : begin].strip()
        if at and not first:
            beside[at - 1].append(comment)
        elif at and begin < layout.columns[at - 1][2]:  # in the midst of a column
            alone[at - 1].append(comment)
        else:
            alone[at].append(comment if comment.startswith("#") and begin == line else _INDENT + comment)
    lines: list[str] = []
    for i, (column, _, _) in enumerate(layout.columns):
        *above, last = beside[i] or [""]
        lines += [row if row.startswith((" ", "#")) else _INDENT + row for row in (*alone[i], *above)]
        comma = "," if i + 1 < len(layout.columns) else ""
        lines.append(f"{_INDENT}{column_text(column)}{comma} {last}".rstrip())
    return lines + alone[-1]


def _read(text: str, file: str, kind: Kind) -> tuple[object, list[DatafileError]]:
    """What the file says, in a form that compares equal wherever things stand; and what is wrong with it.

    What an INCLUDE line stands for is not known here, and without it the rest may be incomplete: what is then said to
    be wrong has to stay the same, as everything else.
    """
    report = ParseReport(file, text)
    included = _included(report, kind)
    if included:
        report = ParseReport(file, _without(report, included, _SAYS_NOTHING[kind]))
    resource: DataSource | Pipe | Connection
    if kind == "datasource":
        resource = replace(read_datasource(report, "name").placeless(), text="")
    elif kind == "pipe":
        pipe = read_pipe(report, "name")
        nodes = (replace(node, position=Position(), sql_position=Position()) for node in pipe.nodes)
        resource = replace(pipe, nodes=tuple(nodes), text="")
    else:
        resource = replace(read_connection(report, "name"), text="")
    unknown = [error for error in report.errors if error.reason is Reason.DIRECTIVE_UNKNOWN]
    if included and not unknown:
        wrong = sorted(_PLACE.sub("", error.message) for error in report.errors)
        return (resource, [row for _, row in included], wrong), []
    return (resource, [], []), sorted(report.errors, key=lambda error: (error.line, error.column))


def _included(report: ParseReport, kind: Kind) -> list[tuple[int, str]]:
    """The INCLUDE lines and their numbers: where directives may stand, not in blocks."""
    found: list[tuple[int, str]] = []
    line = 1
    while line <= report.lines:
        row = _row(report, line)
        line += 1
        if not row.strip() or row.strip().startswith("#"):
            continue
        word, _, opened = _split(report, line - 1, row)
        if opened >= 0:
            line = block_end(report, kind, line)
        elif word.upper() == vocabulary.INCLUDE:
            found.append((line - 1, row))
    return found


def _without(report: ParseReport, lines: Sequence[tuple[int, str]], instead: str) -> str:
    rows = report.text.split("\n")
    for number, _ in lines:
        rows[number - 1] = instead
    return "\n".join(rows)

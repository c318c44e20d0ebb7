"""Records of a topic on their way into a table: a cut, as a file that the engine reads, and the columns of a record.

A cut is the records of one partition from one offset to another. Its file is RowBinary: each value stands in it byte by
byte as the topic has it, so the engine parses it (`parse.py`, with the same casts as an event), and no value can reach
into the next. A value that came in another format than JSON stands beside its JSON text.

A record that cannot be read for a reason of its own (`PROBLEM`) goes to the quarantine as a line that is no JSON does.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from pipit.datafiles.resources import Column
from pipit.ingest import cast, fault
from pipit.ingest.field import LINE, Field
from pipit.ingest.segment import NOTES, Frame, Header, Notes, Segment
from pipit.ingest.types import parse
from pipit.sql.literals import quote_string

FORMAT = "RowBinary"
SUFFIX = ".cut"
_VALUE, _JSON, _OFFSET, _TIME = "_pipit_value", "_pipit_json", "_pipit_offset", "_pipit_time"
_KEY, _HEADERS, _PROBLEM = "_pipit_key", "_pipit_headers", "_pipit_problem"
STRUCTURE = (
    f"{_VALUE} String, {_JSON} String, {_OFFSET} Int64, {_TIME} Int64, {_KEY} String, "
    f"{_HEADERS} Map(String, String), {_PROBLEM} String"
)
TOMBSTONE = "the record has no value: it is a tombstone, or empty"
_FOUND = (
    f"multiIf({_PROBLEM} != '', {_PROBLEM}, empty({_VALUE}), {quote_string(TOMBSTONE)}, "
    # A line break is white space in JSON, and a reason to refuse the value within a text. Lines hold none.
    f"empty({_JSON}) AND position({_VALUE}, '\\n') > 0 AND NOT isValidJSON({_VALUE}), "
    f"'{fault.INVALID_JSON}: the value is not a JSON object', '')"
)
PROBLEM = "_pipit_found"  # what is wrong with a record before it is read, if anything is
CARRIED = (_VALUE, _OFFSET, _TIME, _KEY, _HEADERS, PROBLEM)
LINES = (
    f"(SELECT {', '.join(CARRIED[:-1])}, {_FOUND} AS {PROBLEM}, "
    f"if(empty({_JSON}), replaceAll({_VALUE}, '\\n', ' '), {_JSON}) AS {LINE} FROM {{source}})"
)
COLUMNS = ("__value", "__topic", "__partition", "__offset", "__timestamp", "__key", "__headers")

_POSITION = struct.Struct("<qq")
_SHORT = tuple(bytes([n]) for n in range(128)) + tuple(bytes([n & 127 | 128, n >> 7]) for n in range(128, 16384))


@dataclass(frozen=True, slots=True)
class Form:
    """What is the same for all records of a cut. `raw`: `__value` keeps the value."""

    topic: str
    partition: int
    raw: bool = False


def fields(columns: Sequence[Column], form: Form) -> list[Field]:
    """The columns that tell where a record came from, and what it was: those without a jsonpath of their own."""
    return [_field(c, form) for c in columns if is_given(c)]


def is_given(column: Column) -> bool:
    return column.name in COLUMNS and column.jsonpath is None and bool(column.type)


# The columns as every such data source has them: their values need no cast.
_TYPED = {
    "__value": "String",
    "__topic": "LowCardinality(String)",
    "__partition": "Int16",
    "__offset": "Int64",
    "__timestamp": "DateTime",
    "__key": "String",
}
_LAST_MILLISECOND = 4294967295999  # of a DateTime


class _Typed(Field):
    """A value that is of the column's type already; a time may be beyond its range."""

    @property
    def p(self) -> str | None:
        return None

    @property
    def c(self) -> str | None:
        return None

    @property
    def bad(self) -> str:
        return f"{_TIME} > {_LAST_MILLISECOND}" if self.column.name == "__timestamp" else "false"

    @property
    def value(self) -> str:
        return self.x

    @property
    def filled(self) -> str:
        return self.x

    @property
    def unshown(self) -> str:
        return "false"

    @property
    def reason(self) -> str:
        if self.bad == "false":
            return "''"
        text = quote_string(f"the record's time is beyond what column '{self.column.name}' can hold")
        return f"if({self.bad}, {text}, '')"


def _field(column: Column, form: Form) -> Field:
    if column.default is None and _TYPED.get(column.name) == column.type:
        return _typed(column, form)
    value = shown = {
        "__value": _VALUE,
        "__topic": quote_string(form.topic),
        "__partition": f"'{form.partition}'",
        "__offset": f"toString({_OFFSET})",
        # The broker gives -1 where it knows no time.
        "__timestamp": f"toString(toDecimal64(greatest({_TIME}, 0) / 1000, 3))",
        "__key": _KEY,
        "__headers": _HEADERS,
    }[column.name]
    if column.name == "__value" and not form.raw:
        value = "''"
    type = parse(column.type)
    if cast.is_compound(type):
        value, shown = f"CAST({value}, {quote_string(cast.wide(type))})", f"toJSONString({shown})"
    else:
        value = f"CAST({value}, 'Nullable(String)')"
    plain = Column(column.name, column.type)  # a default is for what was not sent, and this always is
    return Field(plain, type, None, value, shown=f"CAST({shown}, 'Nullable(String)')")


def _typed(column: Column, form: Form) -> Field:
    value, shown = {
        "__value": (_VALUE if form.raw else "''", _VALUE),
        "__topic": (f"toLowCardinality({quote_string(form.topic)})", quote_string(form.topic)),
        "__partition": (f"toInt16({form.partition})", f"'{form.partition}'"),
        "__offset": (_OFFSET, f"toString({_OFFSET})"),
        "__timestamp": (f"toDateTime(intDiv(greatest({_TIME}, 0), 1000))", f"toString(intDiv({_TIME}, 1000))"),
        "__key": (_KEY, _KEY),
    }[column.name]
    plain = Column(column.name, column.type)
    return _Typed(plain, parse(column.type), None, value, shown=f"CAST({shown}, 'Nullable(String)')")


@dataclass(slots=True)
class Cut(Segment):
    """A segment that a topic keeps: its file may be lost, and is then made again."""

    identity: str = ""  # of its place in its topic: the deduplication token
    ends: list[int] = field(default_factory=list)  # of its rows in the file

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(SUFFIX)

    @property
    def mark(self) -> str:
        return ""

    @property
    def token(self) -> str:
        return self.identity

    def lines(self) -> list[bytes]:
        data = self.path.read_bytes()
        return [data[a:b] for a, b in zip([0, *self.ends], self.ends, strict=False)]

    def pieces(self) -> tuple[list[memoryview], int]:
        data = self.path.read_bytes()
        return [memoryview(data)], len([end for end in self.ends if end <= len(data)])

    def may_hold_lists(self) -> bool:
        data = self.path.read_bytes()
        return any(bracket in data for bracket in (b"[", b"\\u005b", b"\\u005B"))


def encode(
    value: bytes,
    offset: int,
    milliseconds: int,
    key: bytes = b"",
    headers: Sequence[tuple[str, bytes | None]] = (),
    json: bytes = b"",
    problem: str = "",
) -> bytes:
    """A record as a row of the file. `json`: the text to read, where the value is none itself."""
    size, length = len(value), len(key)
    parts = [
        _SHORT[size] if size < 16384 else _varint(size),
        value,
        _text(json) if json else b"\0",
        _POSITION.pack(offset, milliseconds),
        _SHORT[length] if length < 16384 else _varint(length),
        key,
    ]
    if headers:
        parts.append(_varint(len(headers)))
        for name, held in headers:
            parts += (_text(name.encode()), _text(held or b""))
    else:
        parts.append(b"\0")
    parts.append(_text(problem.encode()) if problem else b"\0")
    return b"".join(parts)


def write(path: Path, database: str, table: str, meta: Mapping[str, Any], identity: str, rows: Sequence[bytes]) -> Cut:
    """The cut, in its file, with what an attempt before noted of it. Blocks: call it in a thread.

    Not synced: a file that a crash took is made again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # An attempt that was given up may still be read by the engine: its file stays whole.
    fresh = path.with_suffix(".new")
    fresh.write_bytes(b"".join(rows))
    fresh.replace(path)
    cut = Cut(path, "", Header(database, table, time.time(), meta), identity=identity)
    for row in rows:
        cut.size += len(row)
        cut.ends.append(cut.size)
    cut.rows = len(rows)
    cut.frames = [Frame(cut.size, cut.rows, 0)]
    notes = path.with_suffix(NOTES)
    if notes.exists():
        cut.notes, cut.tried = msgspec.json.decode(notes.read_bytes(), type=Notes), True
    return cut


def _text(data: bytes) -> bytes:
    return _varint(len(data)) + data


def _varint(number: int) -> bytes:
    if number < 16384:
        return _SHORT[number]
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)

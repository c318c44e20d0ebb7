"""A segment: one plain file of rows, framed so that every acknowledged byte of it can be told from a torn
one.

    \\x1e<nonce> <crc> {"pipit": 1, ...}          the header: whose rows these are, and how to insert them
    \\x1e<nonce> <crc> {"n": 52, "r": 2, "c": ...}  a frame: the next 52 bytes are 2 rows of one request
    {"a": 1}
    {"a": 2}

Beside it, once it has failed, stands `<name>.notes`: what must be remembered of it over a restart. Where a table has
several generations, a segment that is in the one that is read is handed on to the others as `<name>.then.segment`: a
table's segments are those in its folder, whatever table the header names.

ClickHouse reads the file as it is, line by line, and skips the lines that start with \\x1e and the nonce:
128 random bits that no client knows, so no row can pass for a frame. Recovery follows the lengths, never
the text. Imports no engine: the log outlives it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from pipit.ingest import disk

VERSION = 1
SUFFIX = ".segment"
THEN = ".then"
NOTES = ".notes"
SCRATCH = ".scratch"  # files that mean nothing after a restart
_MARK = b"\x1e"
_LIST_BEGINS = (b"[", b"\\u005b", b"\\u005B")  # as it is, and escaped in a JSON string


_SHORT = {"length": "n", "rows": "r", "crc": "c", "key": "k", "digest": "d"}


class Frame(msgspec.Struct, frozen=True, rename=_SHORT):
    """One request's rows. `key` and `digest` are of its idempotency key and its content, '' without a key."""

    length: int
    rows: int
    crc: int
    key: str = ""
    digest: str = ""


class Header(msgspec.Struct, frozen=True):
    database: str
    table: str
    created: float
    meta: Mapping[str, Any]  # what the loader needs; the log does not look into it
    pipit: int = VERSION


class Notes(msgspec.Struct):
    """Of a segment that failed; on the disk before anything goes on. `blocks`: how far each table that it goes to
    had come then (`load.blocks`). `bad`: the bad rows of each request, once its rows are stored. `refused`: the
    rows (first, end, reason) that the table or a view cannot take, fixed before any of its rows is inserted without
    them. `found`: how many of these each search found, where there was more than one. `whole`: its rows are being
    stored in groups, and none may be left out of them any more. `held`: the requests (first row, end) that the view
    `fed` refuses rows of. The table has all rows then; the view gets those of the other requests at once and under a
    token apart, and what is left of the held ones later, under the segment's own.
    `parts`: where it was looked at before anything of it was stored, the requests (first row, end) that are stored
    together, each part under a token of its own, the first under the segment's; what is in the last is still to be
    looked at. `done`: how many parts are stored. `without`: generations that have its
    rows from a snapshot of its table.
    """

    blocks: dict[str, int] = msgspec.field(default_factory=dict)
    bad: list[int] = msgspec.field(default_factory=list)
    error: str = ""
    refused: list[tuple[int, int, str]] = msgspec.field(default_factory=list)
    found: list[int] = msgspec.field(default_factory=list)
    whole: bool = False
    held: list[tuple[int, int]] = msgspec.field(default_factory=list)
    fed: str = ""
    parts: list[list[tuple[int, int]]] = msgspec.field(default_factory=list)
    done: int = 0
    without: list[str] = msgspec.field(default_factory=list)


class Damaged(Exception):
    """A segment file whose header cannot be read."""


@dataclass(slots=True)
class Segment:
    """`size` is the length that is known to be good; what lies beyond it in the file was never acknowledged."""

    path: Path
    nonce: str
    header: Header
    size: int = 0
    rows: int = 0
    frames: list[Frame] = field(default_factory=list)
    waiters: dict[int, asyncio.Future[Any]] = field(default_factory=dict)  # by request; the loader's to resolve
    senders: list[str] = field(default_factory=list)  # of each request; not known after a restart
    notes: Notes = field(default_factory=Notes)
    tried: bool = False  # perhaps: some of its rows may be stored
    storing: float = 0.0  # seconds that its rows took in the last attempt: not what those cost that are refused
    _chain: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=16))

    @property
    def name(self) -> str:
        return self.path.name.partition(".")[0]

    @property
    def is_handed_on(self) -> bool:
        """Whether it is in the table that is read already."""
        return self.path.name.endswith(THEN + SUFFIX)

    @property
    def mark(self) -> str:
        """What every line starts with that is not a row."""
        return _MARK.decode() + self.nonce

    @property
    def token(self) -> str:
        """For deduplication: the name and a hash over all frames, which hold the checksums of the rows."""
        return f"{self.name}-{self._chain.hexdigest()}"

    @property
    def starts(self) -> list[int]:
        """The number of each request's first row."""
        starts, row = [], 0
        for frame in self.frames:
            starts.append(row)
            row += frame.rows
        return starts

    @property
    def requests(self) -> list[tuple[int, int]]:
        """The first row of each, and the row after its last."""
        return [(start, start + frame.rows) for start, frame in zip(self.starts, self.frames, strict=True)]

    def lines(self) -> list[bytes]:
        """Its rows, each with its line end. Blocks: call it in a thread."""
        data = self.path.read_bytes()[: self.size]
        mark = self.mark.encode()
        return [line + b"\n" for line in data.split(b"\n")[:-1] if not line.startswith(mark)]

    def pieces(self) -> tuple[list[memoryview], int]:
        """What stands between its frames, and how many rows that are. Blocks: call it in a thread."""
        data = memoryview(self.path.read_bytes())
        found: list[memoryview] = []
        end = _line_end(data, 0)
        for frame in self.frames:
            start = _line_end(data, end)
            end = start + frame.length
            found.append(data[start:end])
        return found, sum(bytes(piece).count(b"\n") for piece in found)

    def may_hold_lists(self) -> bool:
        """Whether its rows hold a JSON list, also in a text that a view may parse. Blocks: call it in a thread."""
        data = self.path.read_bytes()
        rows = data.find(b"\n", 0, self.size) + 1  # the header holds lists of its own
        return any(data.find(bracket, rows, self.size) >= 0 for bracket in _LIST_BEGINS)

    def answer(self, bad: Mapping[int, int]) -> None:
        """Tells who waits for these requests how many of their rows are bad; all others are in the table."""
        for index, number in bad.items():
            waiter = self.waiters.pop(index, None)
            if waiter is not None and not waiter.done():
                waiter.set_result(number)

    def scratch(self, purpose: str) -> Path:
        return self.path.with_suffix(f".{purpose}{SCRATCH}")

    def save_notes(self) -> None:
        """Blocks: call it in a thread. Raises OSError."""
        path = self.path.with_suffix(NOTES)
        fresh = self.path.with_suffix(SCRATCH)
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(self.notes))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        disk.sync_folder(path.parent)

    def add(self, frame: Frame, line: bytes) -> None:
        self.frames.append(frame)
        self.rows += frame.rows
        self.size += len(line) + frame.length
        self._chain.update(line)

    def line(self, content: msgspec.Struct) -> bytes:
        text = msgspec.json.encode(content)
        return b"%s%s %08x %s\n" % (_MARK, self.nonce.encode(), zlib.crc32(text), text)


def new(folder: Path, sequence: int, header: Header) -> Segment:
    """Nothing is written yet. Names sort by age and never come again, whatever the clock does."""
    nonce = secrets.token_hex(16)
    return Segment(folder / f"{sequence:020d}-{nonce[:8]}{SUFFIX}", nonce, header)


def frame(payload: bytes, rows: int, key: str = "", digest: str = "") -> Frame:
    return Frame(len(payload), rows, zlib.crc32(payload), key, digest)


def _line_end(data: memoryview, start: int) -> int:
    """The place after the line that begins at `start`: the header or a frame, which are short."""
    size = 4096
    while True:
        found = bytes(data[start : start + size]).find(b"\n")
        if found >= 0:
            return start + found + 1
        if start + size >= len(data):
            raise ValueError("A segment ends within a line")
        size *= 16


def sequence_of(path: Path) -> int:
    head = path.name.partition("-")[0]
    return int(head) if head.isdigit() else 0


def recover(path: Path) -> Segment:
    """Reads a file back up to its last whole frame, and cuts off what is torn after it.

    A cut in the middle (whole frames after broken bytes) is damage, not a crash: the file is kept aside, as
    it was, under `.damaged`. Raises Damaged where not even the header can be read.
    """
    data = path.read_bytes()
    end = data.find(b"\n") + 1
    space = data.find(b" ")
    nonce = data[1:space].decode("ascii", "replace") if data.startswith(_MARK) and 0 < space < end else ""
    text = _checked(data[:end], nonce)
    if not nonce or text is None:
        raise Damaged(f"The segment {path.name} has no readable header")
    try:
        header = msgspec.json.decode(text, type=Header)
    except msgspec.DecodeError:
        raise Damaged(f"The segment {path.name} has no readable header") from None
    segment = Segment(path, nonce, header, size=end, tried=True)
    while segment.size < len(data):
        start = segment.size
        end = data.find(b"\n", start) + 1
        text = _checked(data[start:end], nonce) if end else None
        if text is None:
            break
        found = msgspec.json.decode(text, type=Frame)
        payload = data[end : end + found.length]
        if len(payload) != found.length or zlib.crc32(payload) != found.crc:
            break
        segment.add(found, data[start:end])
    if segment.size < len(data):
        if data.find(_MARK + nonce.encode(), segment.size + 1) >= 0:
            path.with_suffix(".damaged").write_bytes(data)
        os.truncate(path, segment.size)
    notes = path.with_suffix(NOTES)
    if notes.exists():
        segment.notes = msgspec.json.decode(notes.read_bytes(), type=Notes)
    return segment


def _checked(line: bytes, nonce: str) -> bytes | None:
    parts = line.rstrip(b"\n").split(b" ", 2)
    if len(parts) != 3 or parts[0] != _MARK + nonce.encode() or not line.endswith(b"\n"):
        return None
    return parts[2] if parts[1] == b"%08x" % zlib.crc32(parts[2]) else None

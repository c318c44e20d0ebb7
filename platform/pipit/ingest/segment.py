"""A segment: one plain file of rows, framed so that every acknowledged byte of it can be told from a torn
one.

    \\x1e<nonce> <crc> {"pipit": 1, ...}          the header: whose rows these are, and how to insert them
    \\x1e<nonce> <crc> {"n": 52, "r": 2, "c": ...}  a frame: the next 52 bytes are 2 rows of one request
    {"a": 1}
    {"a": 2}

Where a token fixes columns to values, the values stand in each line, before the row: `\\x1f<nonce> "acme"\\x1f{"a": 1}`
(`values`). So requests of many tokens share a segment, if they fix the same columns.

Beside it, once it has failed, stands `<name>.notes`: what must be remembered of it over a restart. Where a table has
several generations, a segment that is in the one that is read is handed on to the others as `<name>.then.segment`: a
table's segments are those in its folder, whatever table the header names.

ClickHouse reads the file as it is, line by line, and skips the lines that start with \\x1e and the nonce:
128 random bits that no client knows, so no row can pass for a frame. Recovery follows the lengths, never
the text; behind damage it goes on at the next whole frame. Imports no engine: the log outlives it.
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
DAMAGED = ".damaged"
SCRATCH = ".scratch"  # files that mean nothing after a restart
_MARK = b"\x1e"
_VALUES = b"\x1f"
_LIST_BEGINS = (b"[", b"\\u005b", b"\\u005B")  # as it is, and escaped in a JSON string


_SHORT = {"length": "n", "rows": "r", "crc": "c", "key": "k", "digest": "d", "fixed": "f"}


@dataclass(frozen=True, slots=True)
class Fixed:
    """What a token fixes columns to, and as it stands in each line (`values`)."""

    values: Mapping[str, Any]
    listed: str


class Frame(msgspec.Struct, frozen=True, rename=_SHORT, omit_defaults=True):
    """One request's rows. `key` and `digest` are of its idempotency key and its content, '' without a key. `fixed`:
    what its token fixes, where the lines say it."""

    length: int
    rows: int
    crc: int
    key: str = ""
    digest: str = ""
    fixed: Mapping[str, Any] = {}


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
    """A segment file of which nothing can be loaded. `was_written`: it may hold rows that were acknowledged."""

    def __init__(self, message: str, *, was_written: bool = True) -> None:
        super().__init__(message)
        self.was_written = was_written


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
    damage: str = ""  # what of the file was lost, found when it was read back
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
    def value_mark(self) -> str:
        """What a line starts with that has the values of its token before the row."""
        return f"{_VALUES.decode()}{self.nonce} "

    def with_values(self, payload: bytes, fixed: Fixed) -> bytes:
        """Whole lines, each with the values before it."""
        before = f"{self.value_mark}{fixed.listed}{_VALUES.decode()}".encode()
        return before + payload[:-1].replace(b"\n", b"\n" + before) + b"\n"

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


def frame(payload: bytes, rows: int, key: str = "", digest: str = "", fixed: Fixed | None = None) -> Frame:
    return Frame(len(payload), rows, zlib.crc32(payload), key, digest, fixed.values if fixed else {})


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
    """Reads a file back, and cuts off what is torn after its last whole frame: that was never acknowledged.

    Damage is another thing: a frame that is not whole, and whole ones behind it. Only that frame is lost. The file is
    kept as it was, under `.damaged`; what is whole of it is written anew in its place; the segment's `damage` tells.
    Raises Damaged where nothing can be loaded, and OSError.
    """
    data = path.read_bytes()
    nonce, header, end = _header_of(path, data)
    segment = Segment(path, nonce, header, size=end, tried=True)
    whole = [data[:end]]
    lost: list[tuple[int, int]] = []  # from, to
    at = end
    while at < len(data):
        found = _frame_at(data, at, nonce)
        if found is None:
            following = _next_frame(data, at + 1, nonce)
            if following < 0:
                break
            lost.append((at, following))
            at = following
            continue
        frame, begins, ends = found
        segment.add(frame, data[at:begins])
        whole.append(data[at:ends])
        at = ends
    notes = path.with_suffix(NOTES)
    if notes.exists():
        segment.notes = msgspec.json.decode(notes.read_bytes(), type=Notes)
    if at < len(data) and _is_complete(data, at, nonce):
        lost.append((at, len(data)))  # it is all there and does not add up: perhaps it was acknowledged
    if lost:
        _mend(segment, whole, lost, len(data))
    elif at < len(data):
        os.truncate(path, at)
    return segment


def _header_of(path: Path, data: bytes) -> tuple[str, Header, int]:
    end = data.find(b"\n") + 1
    space = data.find(b" ")
    nonce = data[1:space].decode("ascii", "replace") if data.startswith(_MARK) and 0 < space < end else ""
    text = _checked(data[:end], nonce)
    try:
        if not nonce or text is None:
            raise ValueError
        return nonce, msgspec.json.decode(text, type=Header), end
    except ValueError:
        # The header is written together with the first rows: without a line behind it none was acknowledged.
        raise Damaged(f"The segment {path.name} has no readable header", was_written=0 < end < len(data)) from None


def _frame_at(data: bytes, at: int, nonce: str) -> tuple[Frame, int, int] | None:
    """The whole frame that begins there, and where its rows begin and end."""
    begins = data.find(b"\n", at) + 1
    text = _checked(data[at:begins], nonce) if begins else None
    if text is None:
        return None
    frame = msgspec.json.decode(text, type=Frame)
    payload = data[begins : begins + frame.length]
    if len(payload) != frame.length or zlib.crc32(payload) != frame.crc:
        return None
    return frame, begins, begins + frame.length


def _next_frame(data: bytes, start: int, nonce: str) -> int:
    """Where the next whole frame begins, -1 where none does."""
    mark = _MARK + nonce.encode() + b" "
    at = data.find(mark, start)
    while at >= 0 and _frame_at(data, at, nonce) is None:
        at = data.find(mark, at + 1)
    return at


def _is_complete(data: bytes, at: int, nonce: str) -> bool:
    """Whether the frame there says how long it is, and the file has as much."""
    begins = data.find(b"\n", at) + 1
    text = _checked(data[at:begins], nonce) if begins else None
    return text is not None and begins + msgspec.json.decode(text, type=Frame).length <= len(data)


def _mend(segment: Segment, whole: list[bytes], lost: list[tuple[int, int]], size: int) -> None:
    """Puts the frames that are whole in the place of the file. What is noted of a segment speaks of its rows by number,
    and they have other numbers then: such a one is left to a person.
    """
    notes, path = segment.notes, segment.path
    if notes.bad or notes.refused or notes.held or notes.parts:
        raise Damaged(f"The segment {path.name} is damaged, and may be half stored")
    _keep_damaged(path)
    mended = segment.scratch("mended")
    with mended.open("wb") as file:
        file.writelines(whole)
        disk.sync(file)
    mended.replace(path)
    disk.sync_folder(path.parent)
    places = ", ".join(f"{end - start} bytes at {start}" for start, end in lost[:10])
    more = f" and {len(lost) - 10} more places" if len(lost) > 10 else ""
    segment.damage = f"of {size} bytes {sum(b - a for a, b in lost)} are lost: {places}{more}"


def _keep_damaged(path: Path) -> None:
    """The file as it is now, also under another name; one that was kept before stays."""
    kept = path.with_suffix(DAMAGED)
    number = 1
    while True:
        try:
            os.link(path, kept)
            return
        except FileExistsError:
            number += 1
            kept = path.with_suffix(f".{number}{DAMAGED}")


def _checked(line: bytes, nonce: str) -> bytes | None:
    parts = line.rstrip(b"\n").split(b" ", 2)
    if len(parts) != 3 or parts[0] != _MARK + nonce.encode() or not line.endswith(b"\n"):
        return None
    return parts[2] if parts[1] == b"%08x" % zlib.crc32(parts[2]) else None

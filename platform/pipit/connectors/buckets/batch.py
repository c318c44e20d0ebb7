"""Objects on the disk that go into the table together: one load, under one token for each of its pieces.

A large object, or one of Parquet, is a batch alone. Small ones of CSV or NDJSON that are written in the same way are
one piece together, in the order of the batch; the quarantine still tells the file and the line of each row.
A batch is decided once, and written down before any of its rows is inserted. Whoever goes on with it inserts the same
bytes in the same pieces.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pipit.ingest import disk
from pipit.ingest.files.arrive import PARQUET, Arrived
from pipit.ingest.files.cut import ASIDE, PIECE_BYTES, PIECE_ROWS, FilePiece, FileSpan, SetAside
from pipit.ingest.files.store import FileStore, Load

MOST_OBJECTS = 1000
_COPIED = 1 << 20


class Member(msgspec.Struct, frozen=True):
    """One of a batch's objects. `rows`: lines that it has, good or bad; of Parquet 0."""

    key: str
    etag: str
    size: int
    attempts: int = 0
    rows: int = 0

    @property
    def version(self) -> str:
        return f"{self.etag} {self.size}"


class Batch(msgspec.Struct, frozen=True):
    """As the state keeps it while it is not done."""

    id: str
    members: tuple[Member, ...]
    load: Load


@dataclass(frozen=True, slots=True)
class Fetched:
    """An object that lies in a folder of its own, taken apart."""

    member: Member
    name: str  # for people
    format: str
    arrived: Arrived
    folder: Path

    @property
    def bytes(self) -> int:
        return sum(piece.bytes for piece in self.arrived.pieces)

    @property
    def rows(self) -> int:
        return sum(piece.rows for piece in self.arrived.pieces)

    @property
    def alone(self) -> bool:
        """Also one that failed before: it must not keep others out."""
        return self.format == PARQUET or len(self.arrived.pieces) > 1 or self.member.attempts > 0

    @property
    def shape(self) -> tuple[str, str, tuple[str, ...], int]:
        """Of those with the same one, lines may stand in one file."""
        a = self.arrived
        return self.format, a.delimiter, a.names, 0 if a.names else a.width


class Group:
    """Objects that become a batch. All of one shape, or one alone."""

    def __init__(self, first: Fetched) -> None:
        self.objects = [first]
        self.bytes, self.rows = first.bytes, first.rows

    def takes(self, other: Fetched) -> bool:
        return (
            len(self.objects) < MOST_OBJECTS
            and self.bytes + other.bytes <= PIECE_BYTES
            and self.rows + other.rows <= PIECE_ROWS
        )

    def add(self, other: Fetched) -> None:
        self.objects.append(other)
        self.bytes, self.rows = self.bytes + other.bytes, self.rows + other.rows


def made(files: FileStore, objects: Sequence[Fetched], *, id: str = "") -> Batch:
    """The batch of these objects, on the disk and synced; their own folders are gone. Blocks. Raises OSError."""
    id = id or uuid.uuid4().hex
    folder = files.make(id)
    first = objects[0]
    members = tuple(msgspec.structs.replace(one.member, rows=one.rows) for one in objects)
    if len(objects) == 1:
        for path in first.folder.iterdir():
            path.rename(folder / path.name)
        pieces, aside = first.arrived.pieces, first.arrived.set_aside
    else:
        pieces, aside = _together(folder, objects)
    load = Load(
        id,
        first.name,
        first.format,
        pieces,
        aside,
        first.arrived.delimiter,
        first.arrived.names,
        first.arrived.width,
        sum(one.arrived.bytes for one in objects),
    )
    files.put(load)
    for one in objects:
        shutil.rmtree(one.folder, ignore_errors=True)
    return Batch(id, members, load)


def _together(folder: Path, objects: Sequence[Fetched]) -> tuple[tuple[FilePiece, ...], int]:
    spans: list[FileSpan] = []
    lines = aside = 0
    with (folder / "000000").open("wb") as out, (folder / ASIDE).open("wb") as beside:
        for one in objects:
            for piece in one.arrived.pieces:  # one at most
                spans.append(FileSpan(one.name, lines, piece.first))
                lines += piece.lines
                with (one.folder / piece.name).open("rb") as file:
                    shutil.copyfileobj(file, out, _COPIED)
            if one.arrived.set_aside:
                for line in (one.folder / ASIDE).read_bytes().splitlines():
                    told = msgspec.json.decode(line, type=SetAside)
                    beside.write(msgspec.json.encode(msgspec.structs.replace(told, file=one.name)) + b"\n")
                aside += one.arrived.set_aside
        disk.sync(out)
        disk.sync(beside)
        size = os.fstat(out.fileno()).st_size
    pieces = [piece for one in objects for piece in one.arrived.pieces]
    if not pieces:
        return (), aside
    multiline = any(piece.multiline for piece in pieces)
    rows = sum(piece.rows for piece in pieces)
    return (FilePiece("000000", 1, size, rows, multiline, lines, tuple(spans)),), aside

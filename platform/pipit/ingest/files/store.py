"""The files that wait to be loaded: a folder each in the data directory, which says all that its load needs.

A folder counts from the moment its `load.json` is there: then all pieces are on the disk, synced. What is done is
written down behind that, piece by piece, so that a load that was cut off goes on where it was.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from pipit.errors import Conflict, Reason, Unavailable
from pipit.ingest import disk
from pipit.ingest.files.arrive import Arrived
from pipit.ingest.files.cut import FilePiece

_LOAD, _DONE = "load.json", "done.ndjson"
KEPT = "replay-"  # what the names of folders begin with that outlive their job (`ingest/replay.py`)


class Load(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was asked for, and how the file is written. `fixed`: what the token sets in every row. `names`: of the cells
    of CSV, empty where its first line is a row; then `width` says how many cells that has. `condition`: the rows that
    are replaced; only rows of the file for which it holds go in. `url`: where the file is, as long as it is not here;
    `parameters`: how it is written, as far as the request says it.
    """

    id: str
    file: str
    format: str
    pieces: tuple[FilePiece, ...] = ()
    set_aside: int = 0
    delimiter: str = ","
    names: tuple[str, ...] = ()
    width: int = 0
    bytes: int = 0
    fixed: dict[str, Any] = {}
    condition: str = ""
    url: str = ""
    parameters: dict[str, str] = {}


def with_file(load: Load, arrived: Arrived) -> Load:
    return replace(
        load,
        url="",
        pieces=arrived.pieces,
        set_aside=arrived.set_aside,
        delimiter=arrived.delimiter,
        names=arrived.names,
        width=arrived.width,
        bytes=arrived.bytes,
    )


class Tally(msgspec.Struct, frozen=True, omit_defaults=True):
    """`rows` went into the table, `bad` into the quarantine; `invalid` of these could not be taken apart. `left_out`:
    those for which the condition of a replacement does not hold.
    """

    rows: int = 0
    bad: int = 0
    invalid: int = 0
    left_out: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.rows + other.rows,
            self.bad + other.bad,
            self.invalid + other.invalid,
            self.left_out + other.left_out,
        )


class Done(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of what is done: a piece in a `table`, by its name for good (UUID); or that the first piece may be in
    the `tables`. Of an earlier version: the one table without a piece, and pieces without their table."""

    piece: str = ""
    tally: Tally = Tally()
    table: str = ""
    tables: tuple[str, ...] = ()


class FileStore:
    """Its methods block, but for paths: call them in a thread."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()  # the engine reads files by whole paths
        self._arriving: Counter[str] = Counter()  # by owner

    @contextmanager
    def arriving(self, most: int, owner: str, most_of_owner: int) -> Iterator[None]:
        """While a file arrives. Raises Unavailable where too many do, of all or of one owner."""
        if self._arriving.total() >= most or self._arriving[owner] >= most_of_owner:
            who = "of this token " if self._arriving.total() < most else ""
            raise Unavailable(f"Too many files {who}arrive at once", retry_after=5, reason=Reason.SERVER_BUSY)
        self._arriving[owner] += 1
        try:
            yield
        finally:
            self._arriving[owner] -= 1
            if not self._arriving[owner]:
                del self._arriving[owner]

    @property
    def root(self) -> Path:
        return self._root

    def folder(self, id: str) -> Path:
        return self._root / id

    def make(self, id: str) -> Path:
        """A folder for a file that arrives. Raises OSError, and Conflict where a file of this id arrives already."""
        self._root.mkdir(mode=0o700, exist_ok=True)
        folder = self.folder(id)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            raise Conflict(
                "A file under this Idempotency-Key is just arriving",
                hint="Wait for the answer to the first request, and send it again if that failed.",
                reason=Reason.JOB_IN_PROGRESS,
            ) from None
        return folder

    def empty(self, id: str) -> Path:
        """Its folder, without what a fetch that was cut off left there. Raises OSError."""
        folder = self.folder(id)
        for path in folder.iterdir():
            if path.name != _LOAD:
                path.unlink()
        return folder

    def put(self, load: Load) -> None:
        """From now on it survives a crash. Raises OSError."""
        folder = self.folder(load.id)
        fresh = folder / f"{_LOAD}.new"
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(load))
            disk.sync(file)
        fresh.replace(folder / _LOAD)
        disk.sync_folder(folder)
        disk.sync_folder(self._root)

    def get(self, id: str) -> Load | None:
        try:
            return msgspec.json.decode((self.folder(id) / _LOAD).read_bytes(), type=Load)
        except FileNotFoundError:
            return None

    def note(self, id: str, done: Done) -> None:
        """Raises OSError."""
        with (self.folder(id) / _DONE).open("ab") as file:
            file.write(msgspec.json.encode(done) + b"\n")
            disk.sync(file)

    def done(self, id: str) -> list[Done]:
        try:
            lines = (self.folder(id) / _DONE).read_bytes().split(b"\n")[:-1]  # a torn line was not acknowledged
        except FileNotFoundError:
            return []
        return [msgspec.json.decode(line, type=Done) for line in lines]

    def forget_done(self, id: str) -> None:
        (self.folder(id) / _DONE).unlink(missing_ok=True)

    def remove(self, id: str) -> None:
        shutil.rmtree(self.folder(id), ignore_errors=True)

    def clear(self, but: Collection[str]) -> None:
        """Everything that is none of these: what a crash left, or what ended."""
        try:
            found = os.listdir(self._root)
        except FileNotFoundError:
            return
        for name in found:
            if name not in but and not name.startswith(KEPT):
                shutil.rmtree(self._root / name, ignore_errors=True)

"""The log: what was acknowledged and is not yet in ClickHouse, as segment files on disk.

`append` returns once its rows are on the disk: one `fdatasync`, in a thread, serves every request that came
while the one before it ran. A request that fails leaves nothing behind: what it wrote is cut off again.
Rows of one table with one way to read them (`Stream`) share an open segment, which is sealed by size, rows
or age (the sooner, the less the last insert took), or when somebody waits for it; sealed segments are handed out in
order, and deleted only when the loader says so. While ClickHouse is away they wait here, up to a bound per table,
beyond which a request gets 503.

Layout: `<root>/<database>/<table>/<number>-<random>.segment`. One process owns a root (a lock file says so).
Imports no engine, so that it outlives it.

A data source may have several generations of its table: the live one, one before it, one to come (`Route`). Events are
the live one's; once a segment is in it, its file goes into the folders of the others. So the file's place says what is
still to be done, over every restart, and each generation gets each segment once, under its own table's tokens.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import fcntl
import logging
import os
import shutil
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from pipit.errors import NotFound, Reason, Unavailable
from pipit.ingest import disk, limits, segment
from pipit.ingest.counts import Counts
from pipit.ingest.segment import Damaged, Fixed, Frame, Header, Segment
from pipit.tables import TableKey

_log = logging.getLogger("pipit.ingest")


@dataclass(frozen=True, slots=True)
class Stream:
    """Rows that may stand in one segment: of one table, read in one way. `meta` is what the loader needs."""

    database: str
    table: str
    variant: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def table_key(self) -> TableKey:
        return self.database, self.table


@dataclass(frozen=True, slots=True)
class Generation:
    """One of the tables that take the same events. `meta`: what its segments have in place of their header's."""

    table: TableKey
    meta: Mapping[str, Any] = field(compare=False)


@dataclass(frozen=True, slots=True)
class Route:
    """The generations of a data source. `others` get each segment after the live one has it."""

    live: Generation
    others: tuple[Generation, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where the rows are: request number `index` of that segment."""

    segment: Segment
    index: int


@dataclass(frozen=True, slots=True)
class Pending:
    bytes: int = 0
    segments: int = 0
    rows: int = 0


@dataclass(slots=True)
class _Append:
    payload: bytes
    rows: int
    key: str
    digest: str
    fixed: Fixed | None
    urgent: bool
    outcome: asyncio.Future[Any] | None
    sender: str
    written: asyncio.Future[Receipt]


@dataclass(slots=True)
class _Open:
    """The open segment of a stream, and who waits for its next sync. A new file is made by its first batch."""

    stream: Stream
    segment: Segment | None = None
    fd: int = -1
    opened: float = 0.0
    urgent: bool = False  # somebody waits for the insert
    seal: bool = False  # as soon as the batch in hand is written
    queue: deque[_Append] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class _Table:
    sealed: deque[Segment] = field(default_factory=deque)
    taken: dict[str, Segment] = field(default_factory=dict)  # in the loader's hands
    streams: dict[str, _Open] = field(default_factory=dict)
    bytes: int = 0  # written or waiting to be
    pause: float = limits.SEAL_SECONDS  # the age at which an open segment is sealed
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Log:
    def __init__(
        self,
        root: Path,
        *,
        seal_bytes: int = limits.SEAL_BYTES,
        seal_rows: int = limits.SEAL_ROWS,
        seal_seconds: float = limits.SEAL_SECONDS,
        max_pending_bytes: int = limits.MAX_PENDING_BYTES,
    ) -> None:
        self._root = root
        self.counts = Counts()
        self._seal_bytes, self._seal_rows, self._seal_seconds = seal_bytes, seal_rows, seal_seconds
        self._max_pending = max_pending_bytes
        self._tables: dict[TableKey, _Table] = {}
        self._routes: dict[str, tuple[Route, ...]] = {}  # by database
        self._others: dict[TableKey, tuple[Generation, ...]] = {}  # of a live generation
        self._live: dict[TableKey, Generation] = {}  # of one that is not
        self._generations: dict[TableKey, Generation] = {}
        self._last = 0
        self._folders: set[Path] = set()  # that are known to be on the disk
        self._lock = -1
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="pipit-log")
        self.refused = ""  # why the disk took the last batch not; empty when it did
        self.syncs = 0  # how many fdatasyncs were made: group commit is seen here

    def open(self, routes: Mapping[str, Sequence[Route]] | None = None) -> list[Segment]:
        """Takes the directory and finds what a process before us left. Every such segment is sealed now. `routes`: by
        database, of the data sources that have several generations."""
        for database, known in (routes or {}).items():
            self._set_routes(database, known)
        self._root.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            self._lock = -1
            raise Unavailable(
                f"Another Pipit process already writes events in {self._root}",
                hint="Stop it, or give this one another --data directory.",
                reason=Reason.SERVER_CONFLICT,
            ) from None
        for path in self._root.glob(f"*/*/*{segment.SCRATCH}"):
            path.unlink()
        found: list[Segment] = []
        for path in sorted(self._root.glob(f"*/*/*{segment.SUFFIX}")):
            self._last = max(self._last, segment.sequence_of(path))
            try:
                recovered = segment.recover(path)
            except Damaged as error:
                kept = path.rename(path.with_suffix(segment.DAMAGED))
                if error.was_written:
                    _log.critical("%s: its events are not loaded, they are kept in %s", error, kept)
                else:  # a crash before the first sync: nothing in it was acknowledged
                    _log.warning("%s", error)
                continue
            except OSError as error:
                _log.critical("the segment %s waits for the next start: %s", path, error.strerror or error)
                continue
            if recovered.damage:
                _log.critical("the segment %s was damaged: %s. It is kept as it was beside it", path, recovered.damage)
            if recovered.rows == 0:
                path.unlink()
                continue
            key = (path.parent.parent.name, path.parent.name)
            self._hold(recovered, key)
            if key in self._live:
                self._pass_to_live(recovered, key)
            found.append(recovered)
        return found

    async def route(self, database: str, routes: Sequence[Route]) -> None:
        """From now on these are the generations of the database's data sources; nothing is inserted into any table of
        which that changes. Events that wait for a generation that is not live go to the live one first."""
        self._set_routes(database, routes)
        for key in [key for key in self._live if key[0] == database and key in self._tables]:
            table = self._tables[key]
            await self._seal_all(table)
            for held in (*table.sealed, *table.taken.values()):
                self._pass_to_live(held, key)

    def current(self, key: TableKey) -> TableKey:
        """The table to which events of this one go."""
        return self._live[key].table if key in self._live else key

    def others(self, key: TableKey) -> tuple[Generation, ...]:
        """The generations that get what a live table has."""
        return self._others.get(key, ())

    def of_live(self, key: TableKey) -> Generation | None:
        """The live generation, of a table that is not it."""
        return self._live.get(key)

    def begun(self, key: TableKey) -> bool:
        """Whether some rows of a segment that waits for the table may be in it, and others not. Nothing is inserted
        into it now."""
        table = self._tables.get(key)
        held = [*table.sealed, *table.taken.values()] if table else []
        return any(s.tried and not s.notes.bad for s in held)

    def fails(self, key: TableKey) -> bool:
        """Whether a segment is in the table and stays here for a view that failed on it."""
        table = self._tables.get(key)
        return any(held.notes.bad for held in (*table.sealed, *table.taken.values())) if table else False

    def snapshot_taken(self, key: TableKey, generation: str) -> None:
        """The rows that the table has now are put into another generation. What has its rows in the table, and is still
        here for a view that failed, must not come to them. Nothing is inserted into it now. Raises OSError."""
        table = self._tables.get(key)
        for held in (*table.sealed, *table.taken.values()) if table else ():
            if held.notes.bad and generation not in held.notes.without:
                held.notes.without.append(generation)
                held.save_notes()

    def holds(self, key: TableKey, taken: Segment) -> bool:
        """Whether the segment that was taken is still the table's."""
        return self._table(key).taken.get(taken.name) is taken

    def _set_routes(self, database: str, routes: Sequence[Route]) -> None:
        self._routes[database] = tuple(routes)
        everywhere = [route for known in self._routes.values() for route in known]
        self._others = {route.live.table: route.others for route in everywhere if route.others}
        self._live = {one.table: route.live for route in everywhere for one in route.others}
        self._generations = {one.table: one for route in everywhere for one in (route.live, *route.others)}

    def _hold(self, segment: Segment, key: TableKey) -> None:
        """It waits for this table from now on, and is read as this table's events are."""
        if segment.header.table != key[1]:
            known = self._generations.get(key)
            meta = {**segment.header.meta, **known.meta} if known else segment.header.meta
            segment.header = msgspec.structs.replace(segment.header, table=key[1], meta=meta)
        table = self._table(key)
        table.sealed.append(segment)
        table.bytes += segment.size
        table.changed.set()

    def _pass_to_live(self, held: Segment, key: TableKey) -> None:
        """Of a generation that is not live any more: a segment goes to the live one first, and comes back from there.

        Nothing of it was tried here, or all of its rows are stored and only a view failed on them: then it stays too.
        """
        if held.is_handed_on:
            return
        live = self._live[key].table
        path = self._folder(live) / held.path.name
        table = self._table(key)
        if not held.notes.bad:
            if table.taken.pop(held.name, None) is None:
                table.sealed.remove(held)
            table.bytes -= held.size
            held.path = held.path.rename(path)
            held.tried = False
            self._hold(held, live)
            return
        if live[1] not in held.notes.without:
            with contextlib.suppress(FileExistsError):
                os.link(held.path, path)
                self._hold(_again(held, path), live)
        notes = held.path.with_suffix(segment.NOTES)
        held.path = held.path.rename(held.path.with_suffix(segment.THEN + segment.SUFFIX))
        if notes.exists():
            notes.rename(held.path.with_suffix(segment.NOTES))

    def _folder(self, key: TableKey) -> Path:
        folder = self._root / key[0] / key[1]
        if folder not in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
            for parent in (self._root.parent, self._root, folder.parent):
                disk.sync_folder(parent)
            self._folders.add(folder)
        return folder

    async def _seal_all(self, table: _Table) -> None:
        while tasks := [o.task for o in table.streams.values() if o.task is not None]:
            await asyncio.wait(tasks)
        for open_ in table.streams.values():
            if open_.segment is not None:
                self._seal(table, open_)

    @property
    def tables(self) -> tuple[TableKey, ...]:
        return tuple(self._tables)

    def ever_written(self) -> set[TableKey]:
        """The tables that had segments here, also before this start."""
        return {(folder.parent.name, folder.name) for folder in self._root.glob("*/*") if folder.is_dir()}

    @property
    def generations(self) -> tuple[TableKey, ...]:
        """The tables that may get events from others."""
        return tuple(self._generations)

    async def append(
        self,
        stream: Stream,
        payload: bytes,
        rows: int,
        *,
        key: str = "",
        digest: str = "",
        urgent: bool = False,
        outcome: asyncio.Future[Any] | None = None,
        sender: str = "",
        fixed: Fixed | None = None,
    ) -> Receipt:
        """Durable when it returns. `payload` is whole lines. `outcome` is resolved by who loads the segment. `fixed`:
        by the token of these rows; it stands in each line then.
        """
        if stream.table_key in self._live:
            live = self._live[stream.table_key]
            variant = f"{stream.variant} of {stream.table}"
            stream = Stream(*live.table, variant, {**stream.meta, **live.meta})
        table = self._table(stream.table_key)
        if table.bytes + len(payload) > self._max_pending:
            raise Unavailable(
                "Too many events of this data source wait to be stored",
                retry_after=2,
                hint="Send them again later.",
                reason=Reason.SERVER_BUSY,
            )
        open_ = table.streams.get(stream.variant)
        if open_ is None:
            open_ = table.streams[stream.variant] = _Open(stream)
        written: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        open_.queue.append(_Append(payload, rows, key, digest, fixed, urgent, outcome, sender, written))
        table.bytes += len(payload)
        if open_.task is None:
            open_.task = asyncio.create_task(self._flush(table, open_))
        return await written

    def take(self, key: TableKey) -> Segment | None:
        """The oldest segment that is ready. An open one is sealed for it when it is due or somebody waits."""
        table = self._table(key)
        if not table.sealed:
            for open_ in table.streams.values():
                if open_.segment is not None and (open_.urgent or self._is_due(table, open_)):
                    self._seal(table, open_)
        if not table.sealed:
            return None
        taken = table.sealed.popleft()
        table.taken[taken.name] = taken
        return taken

    async def wait(self, key: TableKey) -> None:
        """Until `take` may have something: it was sealed, is due by age, or somebody waits for it."""
        table = self._table(key)
        idle = [o for o in table.streams.values() if o.segment is not None and o.task is None]
        left = min((0.0 if self._is_due(table, o) else table.pause - self._age(o) for o in idle), default=None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left):  # `wait_for` may swallow a cancellation
                await table.changed.wait()
        table.changed.clear()

    def hurry(self, key: TableKey) -> None:
        """Somebody waits for what is in the open segments."""
        table = self._table(key)
        for open_ in table.streams.values():
            open_.urgent |= open_.segment is not None or open_.task is not None
        table.changed.set()

    def pace(self, key: TableKey, seconds: float) -> None:
        """So long the last insert of good rows took: where that is little, the next ones come sooner. What refused rows
        cost is not in it: they would make the next segment wait, and most of its rows are others'.
        """
        wanted = max(limits.SEAL_SECONDS_LEAST, limits.SEAL_INSERTS * seconds)
        self._table(key).pause = min(self._seal_seconds, wanted)

    def trim(self, taken: Segment) -> None:
        """Nothing beyond what was acknowledged is inserted, even where cutting it off failed before."""
        if taken.path.stat().st_size > taken.size:
            os.truncate(taken.path, taken.size)

    def remove(self, taken: Segment) -> None:
        """Its rows are in ClickHouse: it goes on to the other generations of its table, or away."""
        others = () if taken.is_handed_on else self._others.get((taken.header.database, taken.header.table), ())
        for other in others:
            if other.table[1] in taken.notes.without:
                continue
            path = self._folder(other.table) / f"{taken.name}{segment.THEN}{segment.SUFFIX}"
            with contextlib.suppress(FileExistsError):
                os.link(taken.path, path)
                self._hold(_again(taken, path), other.table)
        taken.path.unlink(missing_ok=True)
        taken.path.with_suffix(segment.NOTES).unlink(missing_ok=True)
        self._forget(taken)

    def set_aside(self, taken: Segment, suffix: str) -> Path:
        """The file is kept under another name for a person, and no longer tried."""
        path = taken.path.rename(taken.path.with_suffix(suffix))
        self._forget(taken)
        return path

    async def discard(self, database: str) -> None:
        """Deletes all that waits for the tables of a database, for which no writer is left. Who waits is told."""
        self._set_routes(database, ())
        for key in [key for key in self._tables if key[0] == database]:
            await self._discard_table(key)
        folder = self._root / database
        self._folders = {known for known in self._folders if known.parent != folder}
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def discard_table(self, key: TableKey) -> None:
        """As `discard`, of one table that is no generation of a data source any more."""
        if key in self._tables:
            await self._discard_table(key)
        folder = self._root / key[0] / key[1]
        self._folders.discard(folder)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _discard_table(self, key: TableKey) -> None:
        table = self._tables[key]
        await self._seal_all(table)
        for held in (*table.sealed, *table.taken.values()):
            for waiter in held.waiters.values():
                if not waiter.done():
                    waiter.set_exception(NotFound("The data source was deleted", reason=Reason.DATASOURCE_NOT_FOUND))
                    waiter.exception()  # seen: nobody may be waiting for it
        del self._tables[key]

    def pending(self, key: TableKey) -> Pending:
        table = self._tables.get(key)
        if table is None:
            return Pending()
        held = [*table.sealed, *table.taken.values()]
        held += [o.segment for o in table.streams.values() if o.segment is not None]
        queued = [a for o in table.streams.values() for a in o.queue]
        rows = sum(s.rows for s in held) + sum(a.rows for a in queued)
        return Pending(table.bytes, len(held), rows)

    async def close(self) -> None:
        """Writes what was asked for, seals, and gives the directory back. Segments stay for the next start."""
        for table in self._tables.values():
            await self._seal_all(table)
        self._threads.shutdown(wait=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _table(self, key: TableKey) -> _Table:
        table = self._tables.get(key)
        if table is None:
            table = self._tables[key] = _Table(pause=self._seal_seconds)
        return table

    def _forget(self, taken: Segment) -> None:
        table = self._table((taken.header.database, taken.header.table))
        table.taken.pop(taken.name, None)
        table.bytes -= taken.size

    def _is_due(self, table: _Table, open_: _Open) -> bool:
        """Whether it is taken as soon as there is time for it."""
        large = open_.segment is not None and open_.segment.size >= limits.SEAL_AT_ONCE_BYTES
        return large or self._age(open_) >= table.pause

    def _age(self, open_: _Open) -> float:
        return time.monotonic() - open_.opened

    def _seal(self, table: _Table, open_: _Open) -> None:
        """Ends the open segment; while a batch is being written, that batch is its last."""
        if open_.task is not None:
            open_.seal = True
            return
        assert open_.segment is not None
        os.close(open_.fd)
        table.sealed.append(open_.segment)
        open_.segment, open_.fd, open_.seal, open_.urgent = None, -1, False, False
        table.changed.set()

    async def _flush(self, table: _Table, open_: _Open) -> None:
        """Group commit: everything that queued up during one sync is the next batch."""
        loop = asyncio.get_running_loop()
        while open_.queue:
            batch = list(self._batch(open_))
            created = open_.segment is None
            try:
                written = await loop.run_in_executor(self._threads, self._write, open_, batch)
            except OSError as error:
                self._refuse(table, batch, error)
                if open_.segment is not None and open_.segment.rows == 0:
                    os.close(open_.fd)
                    open_.segment = None
                elif open_.segment is not None:
                    open_.seal = True  # after a failed sync the file is not written again
            else:
                self.syncs += 1
                if self.refused:
                    self.refused = ""
                    _log.warning("the disk takes events again")
                assert open_.segment is not None
                table.bytes += open_.segment.size if created else 0
                for append, (frame, line) in zip(batch, written, strict=True):
                    open_.segment.add(frame, line)
                    table.bytes += len(line) + frame.length - len(append.payload)
                    open_.urgent |= append.urgent
                    index = len(open_.segment.frames) - 1
                    if append.outcome is not None:
                        open_.segment.waiters[index] = append.outcome
                    open_.segment.senders.append(append.sender)
                    if not append.written.done():
                        append.written.set_result(Receipt(open_.segment, index))
            if open_.segment is not None and (
                open_.seal
                or open_.segment.size >= self._seal_bytes
                or open_.segment.rows >= self._seal_rows
                or len(open_.segment.frames) >= limits.SEAL_REQUESTS
                or self._age(open_) >= table.pause
            ):
                open_.task, task = None, open_.task
                self._seal(table, open_)
                open_.task = task
            elif open_.segment is not None and open_.segment.size >= limits.SEAL_AT_ONCE_BYTES:
                table.changed.set()
        open_.task = None
        table.changed.set()

    def _batch(self, open_: _Open) -> Iterator[_Append]:
        size, rows, requests = 0, 0, 0
        if open_.segment is not None:
            size, rows, requests = open_.segment.size, open_.segment.rows, len(open_.segment.frames)
        while open_.queue and size < self._seal_bytes and rows < self._seal_rows:
            if requests >= limits.SEAL_REQUESTS:
                return
            append = open_.queue.popleft()
            requests += 1
            size += len(append.payload)
            rows += append.rows
            yield append

    def _refuse(self, table: _Table, batch: Sequence[_Append], error: OSError) -> None:
        if not self.refused:
            self.refused = error.strerror or type(error).__name__
            _log.error("events are refused until the disk takes them again: %s", self.refused)
        for append in batch:
            table.bytes -= len(append.payload)
            if not append.written.done():
                append.written.set_exception(
                    Unavailable(
                        "The server cannot store events now: its disk refuses them",
                        retry_after=5,
                        hint="Nothing of this request was kept. Send it again later.",
                        reason=Reason.DISK_FULL,
                    )
                )

    def _write(self, open_: _Open, batch: Sequence[_Append]) -> list[tuple[Frame, bytes]]:
        """In a thread. The whole batch is on the disk, or the file is as before and OSError is raised. Returns its
        frames and their lines.
        """
        created = open_.segment is None
        if created:
            self._create(open_)
        current = open_.segment
        assert current is not None
        buffers: list[bytes] = [current.line(current.header)] if created else []
        added: list[tuple[Frame, bytes]] = []
        for a in batch:
            payload = current.with_values(a.payload, a.fixed) if a.fixed else a.payload
            frame = segment.frame(payload, a.rows, a.key, a.digest, a.fixed)
            line = current.line(frame)
            added.append((frame, line))
            buffers += (line, payload)
        try:
            size = disk.write_all(open_.fd, buffers, current.size)
            os.fdatasync(open_.fd)
            if created:
                disk.sync_folder(current.path.parent)
        except OSError:
            try:
                if created:
                    current.path.unlink()
                else:
                    os.ftruncate(open_.fd, current.size)
            except OSError:
                _log.exception("cannot cut off a failed write; the loader will")
            raise
        if created:
            current.size = len(buffers[0])
        assert size == current.size + sum(len(line) + frame.length for frame, line in added)
        return added

    def _create(self, open_: _Open) -> None:
        stream = open_.stream
        folder = self._folder(stream.table_key)
        self._last = max(self._last + 1, time.time_ns() // 1000)
        header = Header(stream.database, stream.table, time.time(), stream.meta)
        created = segment.new(folder, self._last, header)
        open_.fd = os.open(created.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        open_.segment = created
        open_.opened = time.monotonic()


def _again(held: Segment, path: Path) -> Segment:
    """The same rows, for another table; nobody waits for them there."""
    again = copy.copy(held)
    again.path, again.notes, again.waiters, again.tried = path, segment.Notes(), {}, False
    return again

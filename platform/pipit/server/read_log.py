"""The audit log's way to its tables: records wait in memory for a moment, then go through the events' log.

`add` costs the request a place in a queue. A background task takes what waits and appends it, as any event: from then
on it is on the disk, survives a kill of every process, waits there while the engine is away, and gets into its table
once. What a kill can lose is what came in the last moment (`_SECONDS`). The queue is bounded: when the disk takes
nothing any more, the oldest records go, and the server's log says how many. Only the first records of a database
need the engine on their way: its tables are made then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping

import msgspec

from pipit.catalog.catalog import Catalog
from pipit.catalog.services import ENDPOINT_ERRORS, PIPE_STATS_RT, physical_name, quarantine_name
from pipit.datafiles.resources import DataSource
from pipit.errors import PipitError
from pipit.ingest import Ingest, Target
from pipit.query.log import ReadRecord
from pipit.tables.services import ServiceTables

log = logging.getLogger("pipit.read_log")

# From a read to the disk; longer where many databases are read: each takes an insert then, whose cost (some 60 ms of
# the engine) hardly depends on the number of its rows.
_SECONDS = 2.0
_SECONDS_PER_DATABASE = 0.25
_MOST_BYTES = 64 * 1024 * 1024  # of the records that wait in memory, about
_BYTES_AT_ONCE = 4 * 1024 * 1024  # in one append, about

Row = Mapping[str, object]


class _Queue:
    """The records that wait for one table, the oldest first, within a bound."""

    def __init__(self, service: DataSource, row: Callable[[ReadRecord], Row], most: int) -> None:
        self.service = service
        self.row = row
        self.lost = 0
        self._most = most
        self._records: deque[ReadRecord] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: ReadRecord) -> None:
        self._records.append(record)
        self._bytes += record.size
        self._bound()

    def put_back(self, records: list[ReadRecord]) -> None:
        self._records.extendleft(reversed(records))
        self._bytes += sum(record.size for record in records)
        self._bound()

    def take(self) -> list[ReadRecord]:
        taken, self._records, self._bytes = list(self._records), deque(), 0
        return taken

    def _bound(self) -> None:
        while self._bytes > self._most:
            self._bytes -= self._records.popleft().size
            self.lost += 1


class ReadLog:
    """For one event loop. `start`, then `add` from anywhere on it; `close` before the ingest that it writes to."""

    def __init__(
        self,
        catalog: Catalog,
        ingest: Ingest,
        tables: ServiceTables,
        *,
        seconds: float = _SECONDS,
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        self._catalog = catalog
        self._ingest = ingest
        self._tables = tables
        self._seconds = seconds
        replica = socket.gethostname()
        self._stats = _Queue(PIPE_STATS_RT, lambda record: record.stats_row(replica), most_bytes)
        self._errors = _Queue(ENDPOINT_ERRORS, ReadRecord.error_row, most_bytes // 4)
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Records that are in memory only."""
        return len(self._stats)

    def add(self, record: ReadRecord) -> None:
        self._stats.add(record)
        if record.failed:
            self._errors.add(record)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="pipit read log")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.flush()
        if self.waiting:
            log.warning("%d reads could not be written to the audit log before the end", self.waiting)

    async def flush(self) -> int:
        """Puts on the disk what waits; of how many databases. What cannot be written now waits on."""
        async with self._lock:
            return max([await self._flush(queue) for queue in (self._stats, self._errors)])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await asyncio.sleep(await self.flush() * _SECONDS_PER_DATABASE)
            except Exception:  # it must not end while the server runs
                log.exception("the audit log cannot be written now")

    async def _flush(self, queue: _Queue) -> int:
        if queue.lost:
            log.warning("%d rows are not in %s: it could not be written for too long", queue.lost, queue.service.name)
            queue.lost = 0
        # An environment that was deleted meanwhile took its log with it.
        by_database: dict[str, list[ReadRecord]] = {s.workspace.database: [] for s in self._catalog.everywhere}
        for record in queue.take():
            if record.database in by_database:
                by_database[record.database].append(record)
        left = [some for records in by_database.values() for some in _parts(records)]
        failed: list[ReadRecord] = []
        try:
            while left:
                try:
                    await self._write(queue, left[0])
                except (PipitError, OSError) as error:
                    log.info("%d rows of %s wait in memory: %s", len(left[0]), queue.service.name, error)
                    failed += left[0]
                left.pop(0)
        finally:
            queue.put_back([*failed, *(record for some in left for record in some)])
        return sum(map(bool, by_database.values()))

    async def _write(self, queue: _Queue, records: list[ReadRecord]) -> None:
        database = records[0].database
        await self._tables.make(database)
        body = b"\n".join([msgspec.json.encode(queue.row(record)) for record in records]) + b"\n"
        await self._ingest.append(target_of(queue.service, database), body)


def _parts(records: list[ReadRecord]) -> Iterator[list[ReadRecord]]:
    part: list[ReadRecord] = []
    size = 0
    for record in records:
        part.append(record)
        size += record.size
        if size > _BYTES_AT_ONCE:
            yield part
            part, size = [], 0
    if part:
        yield part


def target_of(service: DataSource, database: str) -> Target:
    return Target(
        database=database,
        table=physical_name(service),
        quarantine_table=quarantine_name(service),
        columns=service.columns,
        partition_key=service.engine.partition_key,
        name=service.name,
    )

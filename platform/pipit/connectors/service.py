"""The connectors of a server: a reader for each data source with a topic or a bucket, in step with what is deployed.

Only a workspace's own database is fed. An environment reads no topic: it would take records from the group that feeds
the live one. Nor does it load a bucket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path

from pipit.catalog.catalog import Catalog
from pipit.catalog.snapshot import Snapshot
from pipit.connectors.buckets.reader import BucketReader, Means, Outcome
from pipit.connectors.buckets.source import BucketSource, bucket_sources, is_bucket
from pipit.connectors.buckets.status import BucketStatus
from pipit.connectors.ops_log import OpsLog
from pipit.connectors.reader import Sink, TopicReader
from pipit.connectors.sink import TableSink
from pipit.connectors.source import Refused, Source, sources_of
from pipit.connectors.status import Status
from pipit.datafiles.resources import Project
from pipit.errors import BadRequest, NotFound, PipitError, Reason
from pipit.ingest import Ingest

log = logging.getLogger("pipit.connectors")

_CUTS_AT_ONCE = 2
_LOOK_SECONDS = 0.5
_SETTLE_SECONDS = 5.0


@dataclass(slots=True)
class _Running:
    source: Source | BucketSource
    reader: TopicReader | BucketReader
    task: asyncio.Task[None]


class Connectors:
    def __init__(
        self,
        catalog: Catalog,
        ingest: Ingest,
        ops_log: OpsLog,
        data_dir: Path,
        *,
        buckets: Means | None = None,
        sink: Sink | None = None,
    ) -> None:
        """`buckets`: what their readers need; None: no bucket is loaded here."""
        self._catalog = catalog
        self._ops_log = ops_log
        self._sink = sink or TableSink(catalog, ingest, data_dir / "segments" / "kafka")
        self._turns = asyncio.Semaphore(_CUTS_AT_ONCE)
        self._running: dict[tuple[str, str], _Running] = {}
        self._buckets = buckets
        self._status: dict[tuple[str, str], Status | BucketStatus] = {}
        self._stopped: set[tuple[str, str]] = set()  # database, data source
        self._seen: dict[str, Project] = {}
        self._changing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._stopped = await self._catalog.state.stopped_sources()
        self._task = asyncio.create_task(self._follow(), name="pipit connectors")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.gather(*(self._end(identity) for identity in list(self._running)))

    def status(self, snapshot: Snapshot, name: str) -> Status | None:
        """None: the data source reads no topic."""
        if name not in snapshot.tables or not snapshot.tables[name].datasource.kafka:
            return None
        found = self._status.get((snapshot.workspace.database, name))
        if isinstance(found, Status) and not self.is_stopped(snapshot, name):
            return found
        idle = self._idle(snapshot, name, "an environment reads no topic")
        return Status() if idle is None else Status(state="stopped", note=idle)

    def bucket_status(self, snapshot: Snapshot, name: str) -> BucketStatus | None:
        """None: the data source loads no bucket."""
        if name not in snapshot.tables or not is_bucket(snapshot.tables[name].datasource):
            return None
        found = self._status.get((snapshot.workspace.database, name))
        if isinstance(found, BucketStatus) and not self.is_stopped(snapshot, name):
            return found
        idle = self._idle(snapshot, name, "an environment loads no bucket")
        return BucketStatus() if idle is None else BucketStatus(state="stopped", note=idle)

    def _idle(self, snapshot: Snapshot, name: str, of_environment: str) -> str | None:
        """Why nothing reads for the data source; None: something does, or soon will."""
        if self.is_stopped(snapshot, name):
            return ""
        if snapshot.workspace.environment:
            return of_environment
        return "this server runs no connectors" if self._task is None else None

    async def sync(self, snapshot: Snapshot, name: str) -> Outcome:
        """Looks at the data source's bucket now, and returns when all that it found is seen to.

        Raises NotFound, BadRequest.
        """
        self.check_bucket(snapshot, name)
        if self._task is not None:
            await self._adjust()  # what was deployed a moment ago
        running = self._running.get((snapshot.workspace.database, name))
        if running is None or not isinstance(running.reader, BucketReader):
            status = self.bucket_status(snapshot, name) or BucketStatus()
            raise BadRequest(
                f"The bucket of '{name}' is not read: {status.note or 'the server is just starting'}",
                reason=Reason.NOT_CONNECTED,
                subject=name,
            )
        return await running.reader.sync()

    def is_stopped(self, snapshot: Snapshot, name: str) -> bool:
        return (snapshot.workspace.database_id, name) in self._stopped

    async def set_stopped(self, snapshot: Snapshot, name: str, *, stopped: bool) -> None:
        """Stays so over restarts and deploys. Raises NotFound, BadRequest."""
        self._connected(snapshot, name)
        database_id = snapshot.workspace.database_id
        await self._catalog.state.put_stopped_source(database_id, name, stopped=stopped)
        (self._stopped.add if stopped else self._stopped.discard)((database_id, name))
        self._seen.pop(snapshot.workspace.id, None)
        if self._task is not None:
            await self._adjust()

    def check_bucket(self, snapshot: Snapshot, name: str) -> None:
        """Raises NotFound, and BadRequest for a data source that loads no bucket, or is stopped."""
        self._connected(snapshot, name, needs_bucket=True)
        if self.is_stopped(snapshot, name):
            raise BadRequest(
                f"The bucket of '{name}' is not read: it is stopped",
                hint=f"`pipit datasource start {name}`",
                reason=Reason.NOT_CONNECTED,
                subject=name,
            )

    def _connected(self, snapshot: Snapshot, name: str, *, needs_bucket: bool = False) -> None:
        """Raises NotFound, and BadRequest for a data source that reads nothing from outside."""
        table = snapshot.tables.get(name)
        if table is None:
            raise NotFound(f"The data source '{name[:80]}' does not exist", reason=Reason.DATASOURCE_NOT_FOUND)
        if is_bucket(table.datasource) or (table.datasource.kafka and not needs_bucket):
            return
        raise BadRequest(
            f"The data source '{name}' loads no bucket" if needs_bucket else f"The data source '{name}' reads no topic",
            hint="Only one with IMPORT_BUCKET_URI is synced."
            if needs_bucket
            else "Only one with KAFKA_* or IMPORT_* settings is stopped and started.",
            reason=Reason.NOT_CONNECTED,
            subject=name,
        )

    async def _follow(self) -> None:
        while True:
            try:
                await self._adjust()
                await self._tell()
            except PipitError as error:
                log.warning("connectors: %s", error.message)
            except Exception:
                log.exception("the connectors cannot be brought in step with what is deployed")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _adjust(self) -> None:
        """Ends the readers of what is gone, stopped or changed, and begins those that lack."""
        async with self._changing:
            snapshots = self._catalog.snapshots
            if self._seen.keys() == snapshots.keys() and all(self._seen[i] is s.project for i, s in snapshots.items()):
                return
            wanted: dict[tuple[str, str], Source | BucketSource] = {}
            for snapshot in snapshots.values():
                buckets = bucket_sources(snapshot) if self._buckets is not None else {}
                for name, source in [*sources_of(snapshot).items(), *buckets.items()]:
                    identity = (snapshot.workspace.database, name)
                    if self.is_stopped(snapshot, name):
                        self._status.pop(identity, None)
                    elif isinstance(source, Refused):
                        kind = BucketStatus if name in buckets else Status
                        self._status[identity] = kind(state="error", note=str(source))
                    else:
                        wanted[identity] = source
            gone = [i for i, running in self._running.items() if wanted.get(i) != running.source]
            await asyncio.gather(*(self._end(identity) for identity in gone))
            for identity, source in wanted.items():
                if identity not in self._running:
                    self._begin(identity, source)
            self._seen = {id: s.project for id, s in snapshots.items()}

    async def _tell(self) -> None:
        for running in list(self._running.values()):
            snapshot = self._catalog.snapshots.get(running.source.workspace)
            source, reader = running.source, running.reader
            if snapshot is not None and isinstance(source, Source) and isinstance(reader, TopicReader):
                await self._ops_log.write(snapshot, source, reader.status)

    def _begin(self, identity: tuple[str, str], source: Source | BucketSource) -> None:
        reader: TopicReader | BucketReader
        if isinstance(source, BucketSource):
            assert self._buckets is not None
            loading = self._status[identity] = BucketStatus()
            reader = BucketReader(source, self._buckets, loading)
        else:
            reading = self._status[identity] = Status()
            reader = TopicReader(source, self._sink, self._turns, reading)
        task = asyncio.create_task(reader.run(), name=f"pipit connector of {source.name}")
        self._running[identity] = _Running(source, reader, task)

    async def _end(self, identity: tuple[str, str]) -> None:
        running = self._running.pop(identity)
        self._status.pop(identity, None)
        await running.reader.settle(_SETTLE_SECONDS)
        running.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running.task

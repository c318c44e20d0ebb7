"""The connectors of a server: a reader for each data source that reads a topic, kept in step with what is deployed.

Only a workspace's own database is fed. An environment reads no topic: it would take records from the group that feeds
the live one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path

from pipit.catalog.catalog import Catalog
from pipit.catalog.snapshot import Snapshot
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
    source: Source
    reader: TopicReader
    task: asyncio.Task[None]


class Connectors:
    def __init__(
        self, catalog: Catalog, ingest: Ingest, ops_log: OpsLog, data_dir: Path, *, sink: Sink | None = None
    ) -> None:
        self._catalog = catalog
        self._ops_log = ops_log
        self._sink = sink or TableSink(catalog, ingest, data_dir / "segments" / "kafka")
        self._turns = asyncio.Semaphore(_CUTS_AT_ONCE)
        self._running: dict[tuple[str, str], _Running] = {}
        self._status: dict[tuple[str, str], Status] = {}
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
        identity = (snapshot.workspace.database, name)
        if self.is_stopped(snapshot, name):
            return Status(state="stopped")
        found = self._status.get(identity)
        if found is not None:
            return found
        if snapshot.workspace.environment:
            return Status(state="stopped", note="an environment reads no topic")
        if self._task is None:
            return Status(state="stopped", note="this server runs no connectors")
        return Status()

    def is_stopped(self, snapshot: Snapshot, name: str) -> bool:
        return (snapshot.workspace.database_id, name) in self._stopped

    async def set_stopped(self, snapshot: Snapshot, name: str, *, stopped: bool) -> None:
        """Stays so over restarts and deploys. Raises NotFound, BadRequest."""
        table = snapshot.tables.get(name)
        if table is None:
            raise NotFound(f"The data source '{name[:80]}' does not exist", reason=Reason.DATASOURCE_NOT_FOUND)
        if not table.datasource.kafka:
            raise BadRequest(
                f"The data source '{name}' reads no topic",
                hint="Only one with KAFKA_* settings is stopped and started.",
                reason=Reason.NOT_CONNECTED,
                subject=name,
            )
        database_id = snapshot.workspace.database_id
        await self._catalog.state.put_stopped_source(database_id, name, stopped=stopped)
        (self._stopped.add if stopped else self._stopped.discard)((database_id, name))
        self._seen.pop(snapshot.workspace.id, None)
        if self._task is not None:
            await self._adjust()

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
            wanted: dict[tuple[str, str], Source] = {}
            for snapshot in snapshots.values():
                for name, source in sources_of(snapshot).items():
                    identity = (snapshot.workspace.database, name)
                    if self.is_stopped(snapshot, name):
                        self._status.pop(identity, None)
                    elif isinstance(source, Refused):
                        self._status[identity] = Status(state="error", note=str(source))
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
            if snapshot is not None:
                await self._ops_log.write(snapshot, running.source, running.reader.status)

    def _begin(self, identity: tuple[str, str], source: Source) -> None:
        told = self._status[identity] = Status()
        reader = TopicReader(source, self._sink, self._turns, told)
        task = asyncio.create_task(reader.run(), name=f"pipit topic {source.topic}")
        self._running[identity] = _Running(source, reader, task)

    async def _end(self, identity: tuple[str, str]) -> None:
        running = self._running.pop(identity)
        self._status.pop(identity, None)
        await running.reader.settle(_SETTLE_SECONDS)
        running.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running.task

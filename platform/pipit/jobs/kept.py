"""Every generation of a data source's table: the live one, that of the deployment before, and that of one that waits.

What a file loads, what is deleted or truncated, is so in all of them: else a rollback would lose rows, or bring back
what was deleted. Such a write may wait: for a place, its file, a lock. So which tables these are is looked at with the
locks in hand. While a new generation is filled they are not to be had: so it has what the others have.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pipit.catalog.catalog import Catalog
from pipit.catalog.snapshot import Snapshot, Table, Workspace
from pipit.errors import BadRequest, Conflict, NotFound, PipitError, Reason, Unavailable
from pipit.ingest import Ingest
from pipit.tables import Locks, Mode, TableKey

_BACKLOG_SECONDS = 60.0  # for events that another generation has not yet, while others go on
_DRAIN_SECONDS = 5.0  # for the last of them
_LOOK_SECONDS = 0.05
_FEW = 10_000  # events: so many are loaded in a moment

With = Callable[[Snapshot, Table], Iterable[Table]]  # what a write goes to besides


@dataclass(frozen=True, slots=True)
class Generation:
    """A table, and the deployments that have it, the live one first."""

    table: Table
    snapshots: tuple[Snapshot, ...]
    is_live: bool

    @property
    def deployment(self) -> int:
        return self.snapshots[0].deployment

    @property
    def keys(self) -> tuple[TableKey, TableKey]:
        """Of the table and of its quarantine: both get a new generation together."""
        return self.table.key, (self.table.database, self.table.quarantine)


class KeptTables:
    def __init__(self, catalog: Catalog, locks: Locks, ingest: Ingest) -> None:
        self._catalog = catalog
        self._locks = locks
        self._ingest = ingest

    def of(self, workspace: Workspace, name: str) -> list[Generation]:
        """The live one first. Raises NotFound where what is live has no such data source."""
        kept = self._catalog.kept(workspace.id, workspace.environment)
        found: dict[str, list[Snapshot]] = {}
        for snapshot in kept:
            if name in snapshot.tables:
                found.setdefault(snapshot.tables[name].physical, []).append(snapshot)
        if name not in kept[0].tables:
            raise NotFound(f"The data source '{name}' was deleted", reason=Reason.DATASOURCE_NOT_FOUND)
        return [Generation(s[0].tables[name], tuple(s), s[0] is kept[0]) for s in found.values()]

    @asynccontextmanager
    async def acquire(
        self, workspace: Workspace, name: str, mode: Mode, *, along: With = lambda _, table: ()
    ) -> AsyncIterator[list[Generation]]:
        """Holds every generation in the mode, with its quarantine and what goes `along` in its deployments."""

        def wanted() -> tuple[list[Generation], set[TableKey]]:
            found = self.of(workspace, name)
            keys = {key for one in found for key in one.keys}
            return found, keys | {other.key for one in found for s in one.snapshots for other in along(s, one.table)}

        while True:
            _, keys = wanted()
            async with self._locks.acquire(sorted(keys), mode):
                found, now = wanted()
                if now <= keys:
                    yield found
                    return

    @asynccontextmanager
    async def held(self, tables: Iterable[TableKey]) -> AsyncIterator[None]:
        """Nothing is inserted into them: they are held in mode REPLACE already."""
        async with self._locks.acquire(tables, Mode.ALTER):
            yield

    @asynccontextmanager
    async def altering(self, generations: Sequence[Generation]) -> AsyncIterator[None]:
        """Holds the live one, so that nothing is inserted, when the others have every event that it has. They are held
        in mode REPLACE already. Raises Conflict where they do not catch up."""
        live, others = generations[0], generations[1:]
        until = time.monotonic() + _BACKLOG_SECONDS
        while any(self._ingest.behind(one.table.key) > _FEW for one in others) and time.monotonic() < until:
            await asyncio.sleep(_LOOK_SECONDS)
        async with self._locks.acquire(live.keys, Mode.ALTER):
            for one in others:
                if not await self._ingest.drained(one.table.key, _DRAIN_SECONDS):
                    raise Conflict(
                        f"Deployment {one.deployment}, which is kept, has not all events yet that were acknowledged",
                        hint="Try again: they come by themselves, and nothing was changed.",
                        reason=Reason.EVENTS_BEHIND,
                        subject=str(one.deployment),
                    )
            yield


def check_not_made(catalog: Catalog, workspace: Workspace, name: str) -> None:
    """Raises Conflict where a new table for the data source is being made: that may take long."""
    live = catalog.snapshot(workspace.id, workspace.environment)
    coming = catalog.coming(workspace.id, workspace.environment)
    if coming is None or coming is catalog.beside(workspace.id, workspace.environment).staging:
        return
    old, new = live.tables.get(name), coming.snapshot.tables.get(name)
    if old is not None and new is not None and old.physical != new.physical:
        raise Conflict(
            f"Deployment {coming.row.id}, which is being made, has a new table for '{name}'",
            hint="Ask again when it is made.",
            reason=Reason.DEPLOYMENT_WAITS,
            subject=str(coming.row.id),
        )


def refused_by(one: Generation, error: PipitError) -> PipitError:
    """A write that the live deployment takes, and another one that is kept does not. Nothing of it was done."""
    if isinstance(error, Unavailable):
        return error
    return BadRequest(
        f"Deployment {one.deployment}, which is kept, has a table for '{one.table.name}' to which this cannot be done: "
        f"{error.message}",
        hint=f"A deployment that is made live must have it too. `pipit deployment discard {one.deployment}` lets go of "
        "that one; or ask for something that both tables take.",
        reason=Reason.KEPT_DEPLOYMENT_REFUSES,
        subject=str(one.deployment),
    )

"""The locks of what is written into the live table alone: a file's rows, deletes, truncates.

Such a write is prepared for what is live, and may then wait: for a place, its file, a lock. When it has the lock,
another generation of the table may be live, or one is being made that has the rows as they were. So it looks again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from pipit.catalog.catalog import Catalog
from pipit.catalog.snapshot import Table, Workspace
from pipit.errors import Conflict, Reason
from pipit.tables import Locks, Mode, TableKey


class LiveTables:
    def __init__(self, catalog: Catalog, locks: Locks) -> None:
        self._catalog = catalog
        self._locks = locks

    @asynccontextmanager
    async def acquire(
        self,
        workspace: Workspace,
        tables: Sequence[Table],
        mode: Mode,
        *,
        also: Iterable[TableKey] = (),
        replaces: str = "",
        begun: bool = False,
    ) -> AsyncIterator[None]:
        """Holds the tables, and those of `also`, in the mode. Raises Conflict as `check_live` does."""
        async with self._locks.acquire([*(table.key for table in tables), *also], mode):
            check_live(self._catalog, workspace, tables, replaces=replaces, begun=begun)
            yield


def check_live(
    catalog: Catalog, workspace: Workspace, tables: Iterable[Table], *, replaces: str = "", begun: bool = False
) -> None:
    """Raises Conflict where a table is not the live one, or where a new generation of it is being made or waits.

    `replaces`: a data source whose rows are replaced; what views fill from it must have no new generation either.
    `begun`: whether some rows are stored already, from before a wait for the engine.
    """
    live = catalog.snapshot(workspace.id, workspace.environment)
    part = ". A part of the rows is stored: see what the table has before you send them again" if begun else ""
    for table in tables:
        now = live.tables.get(table.name)
        if now is None or now.physical != table.physical:
            raise Conflict(
                f"Deployment {live.deployment} became live and has {'another' if now else 'no'} table for "
                f"'{table.name}'{part}",
                hint="Ask for it again: it was meant for the table that was live before.",
                reason=Reason.DEPLOYMENT_WAITS,
                subject=str(live.deployment),
            )
    coming = catalog.coming(workspace.id, workspace.environment)
    if coming is None:
        return
    names = {table.name for table in tables}
    for name, new in coming.snapshot.tables.items():
        there = live.tables.get(name)
        is_new = there is None or there.physical != new.physical
        if is_new and (name in names or (replaces and replaces in new.sources)):
            is_made = coming is catalog.beside(workspace.id, workspace.environment).staging
            raise Conflict(
                f"Deployment {coming.row.id}, which {'waits to be live' if is_made else 'is being made'}, has a new "
                f"table for '{name}'{part}",
                hint="Ask again when it is live, or promote or discard it (`pipit deployment`): what is loaded or "
                "deleted now would be lost.",
                reason=Reason.DEPLOYMENT_WAITS,
                subject=str(coming.row.id),
            )

"""The objects of one deploy in the workspace's database: made beside the live ones, and taken back if it fails.

Nothing that the live deployment names is changed, but for columns that are added to its tables. Every step of
`undo` and `drop_*` can be repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipit.catalog.snapshot import Snapshot
from pipit.deploy.ddl import column_definition, create_table
from pipit.deploy.ddl_check import checked
from pipit.deploy.plan import Plan
from pipit.deploy.views import View, match_of, trigger
from pipit.engine.client import Engine
from pipit.errors import DatafileError, ProjectError
from pipit.ingest import create_quarantine, quarantine_column
from pipit.ingest.match import Match
from pipit.sql.identifiers import quote


class Objects:
    def __init__(self, engine: Engine, live: Snapshot, new: Snapshot, plan: Plan) -> None:
        self._engine = engine
        self._live = live
        self._new = new
        self._plan = plan
        self._made: list[str] = []
        self.selects: dict[str, str] = {}  # of the views that were made

    async def make(self, views: Mapping[str, View]) -> None:
        """New tables, new columns, then these views, filled from the rows that are there."""
        await self._create_tables()
        await self._add_columns()
        await self._create_views(views)

    async def undo(self) -> None:
        for name in reversed(self._made):
            await drop(self._engine, self._live.workspace.database, name)
        for addition in self._plan.new_columns:
            table = self._live.tables[addition.datasource]
            for physical in (table.physical, table.quarantine):
                where = f"{quote(table.database)}.{quote(physical)}"
                await self._engine.command(f"ALTER TABLE {where} DROP COLUMN IF EXISTS {quote(addition.column.name)}")

    async def drop_views(self, keys: Sequence[str]) -> None:
        """Objects of the live deployment's views, once it is no longer the live one."""
        for key in keys:
            await drop(self._engine, self._live.workspace.database, self._live.names.views[key])

    async def drop_datasources(self) -> None:
        for name in self._plan.deleted_datasources:
            table = self._live.tables[name]
            await drop(self._engine, table.database, table.physical)
            await drop(self._engine, table.database, table.quarantine)

    async def _create_tables(self) -> None:
        for name in self._plan.new_datasources:
            table = self._new.tables[name]
            self._made += [table.physical, table.quarantine]
            await self._engine.command(
                await checked(self._engine, create_table(table.datasource, table.database, table.physical))
            )
            await self._engine.command(create_quarantine(table.datasource, table.database, table.quarantine))

    async def _add_columns(self) -> None:
        for addition in self._plan.new_columns:
            table = self._new.tables[addition.datasource]
            place = f"AFTER {quote(addition.after)}" if addition.after else "FIRST"
            for physical, definition in (
                (table.physical, column_definition(addition.column)),
                (table.quarantine, quarantine_column(addition.column)),
            ):
                where = f"{quote(table.database)}.{quote(physical)}"
                # One that a deploy which was cut off left behind may have another type.
                await self._engine.command(f"ALTER TABLE {where} DROP COLUMN IF EXISTS {quote(addition.column.name)}")
                await self._engine.command(
                    await checked(self._engine, f"ALTER TABLE {where} ADD COLUMN {definition} {place}")
                )

    async def _create_views(self, views: Mapping[str, View]) -> None:
        fills: list[tuple[View, Match]] = []
        for key, view in views.items():
            columns = await match_of(self._engine, view)
            physical = self._new.names.views[key]
            self.selects[key] = columns.text
            self._made.append(physical)
            await self._engine.command(view.create(self._new.workspace.database, physical, columns))
            source = trigger(self._new, view)
            if source not in self._live.tables or key not in self._plan.new_views:
                continue  # a new source is filled through its own views; a changed view keeps its history
            if view.target.datasource.backfill_skip or not await self._has_rows(source):
                continue
            if view.target.name in self._live.tables:
                raise ProjectError([_cannot_fill(view, source)])
            fills.append((view, columns))
        for view, columns in fills:
            await self._engine.command(view.fill(columns))

    async def _has_rows(self, name: str) -> bool:
        table = self._live.tables[name]
        where = f"{quote(table.database)}.{quote(table.physical)}"
        return bool(await self._engine.rows(f"SELECT 1 AS found FROM {where} LIMIT 1"))


async def drop(engine: Engine, database: str, name: str) -> None:
    await engine.command(f"DROP TABLE IF EXISTS {quote(database)}.{quote(name)} SYNC")


def _cannot_fill(view: View, source: str) -> DatafileError:
    place = view.node.node.position
    return DatafileError(
        f"'{view.target.name}' is live and '{source}' has rows: filling a live target is not possible yet",
        file=place.file or view.pipe.pipe.file,
        line=place.line,
        column=place.column,
        hint=f"Write BACKFILL skip in {view.target.datasource.file} and deploy: new rows come from then on. Then "
        f"`pipit populate {view.pipe.name} --truncate` fills '{view.target.name}' anew from all rows of '{source}', in "
        "one step, if this view is all that fills it. Or use a new target.",
    )

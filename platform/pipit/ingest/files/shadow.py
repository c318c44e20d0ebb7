"""What a table's views make of rows that are prepared beside it: copies of the views, from and into tables beside.

For a replacement whose rows go on through views: the targets' new rows are made with the table's, and take their places
with it. What is behind a target goes on likewise, however far.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass, field

from pipit.catalog.snapshot import staging_of
from pipit.engine.client import Engine
from pipit.errors import PipitError
from pipit.ingest.probe import target_of
from pipit.sql.identifiers import quote
from pipit.sql.references import find_tables, rename


@dataclass(slots=True)
class Shadow:
    """`targets`: the physical tables whose rows are made anew beside them. `views`: what makes them."""

    engine: Engine
    database: str
    targets: list[str] = field(default_factory=list)
    views: list[str] = field(default_factory=list)

    def _place(self, name: str) -> str:
        return f"{quote(self.database)}.{quote(name)}"

    async def cast(self, table: str, wanted: Collection[str]) -> None:
        """Of the views on `table`, whose copy beside it is there: those into `wanted` tables."""
        rows = await self.engine.rows(
            "SELECT name, as_select AS sql, create_table_query AS created, dependencies_table AS views "
            "FROM system.tables WHERE database = {database:String}",
            {"database": self.database},
        )
        known = {str(row["name"]): row for row in rows}
        todo = [table]
        while todo:
            source = todo.pop()
            for view in known.get(source, {}).get("views", ()):
                target = target_of(str(known[view]["created"])) if view in known else None
                if target is None or target not in wanted:
                    continue
                if target not in self.targets:
                    await self.engine.command(f"DROP TABLE IF EXISTS {self._place(staging_of(target))} SYNC")
                    await self.engine.command(
                        f"CREATE TABLE {self._place(staging_of(target))} AS {self._place(target)}"
                    )
                    self.targets.append(target)
                    todo.append(target)
                await self._attach(view, str(known[view]["sql"]), source, target)

    async def _attach(self, view: str, sql: str, source: str, target: str) -> None:
        read = {
            found.start: self._place(staging_of(source))
            for found in find_tables(sql)
            if found.name == source and found.database in (None, self.database)
        }
        copy = staging_of(view)
        await self.engine.command(f"DROP TABLE IF EXISTS {self._place(copy)} SYNC")
        await self.engine.command(
            f"CREATE MATERIALIZED VIEW {self._place(copy)} TO {self._place(staging_of(target))} AS {rename(sql, read)}"
        )
        self.views.append(copy)

    async def end_views(self) -> None:
        """What is written from now on goes on into no target."""
        views, self.views = self.views, []
        for view in views:
            await self.engine.command(f"DROP TABLE IF EXISTS {self._place(view)} SYNC")

    async def exchange(self) -> None:
        for target in self.targets:
            await self.engine.command(f"EXCHANGE TABLES {self._place(target)} AND {self._place(staging_of(target))}")

    async def drop(self) -> None:
        with contextlib.suppress(PipitError):  # the next run drops it, or the next start
            await self.end_views()
            for target in self.targets:
                await self.engine.command(f"DROP TABLE IF EXISTS {self._place(staging_of(target))} SYNC")
        self.targets = []

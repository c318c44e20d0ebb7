"""How a job's rows get into their table: appended, or in the place of all rows.

A replacement is prepared in a table beside the target and takes its place in one step: no reader sees a half of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from pipit.catalog.snapshot import Table, staging_of
from pipit.engine.client import Engine, Settings
from pipit.errors import Conflict, PipitError, Reason
from pipit.ingest import limits
from pipit.ingest.match import Match, matched
from pipit.query.disclosure import no_secret_quoted
from pipit.query.plan import Plan
from pipit.query.read import Written
from pipit.sql.identifiers import quote

_ATTEMPTS = 5  # of a replacement whose target is changed by deployments meanwhile
# What a job parses as JSON are rows of many tenants.
_JSON: Settings = {**limits.JSON_SETTINGS, **limits.JSON_LIST_SETTINGS}


@dataclass(frozen=True, slots=True)
class Into:
    """A table, and which of its columns a statement gives. It is the `Destination` of `Reader.write`."""

    table: Table
    physical: str
    match: Match

    @property
    def settings(self) -> Settings:
        return _JSON

    def insert(self, sql: str, settings: Mapping[str, str]) -> str:
        return self.match.insert(f"{quote(self.table.database)}.{quote(self.physical)}", sql, settings)


async def match_of(engine: Engine, plan: Plan, target: Table) -> Match:
    """The columns of what is planned against those of the table that it is to fill."""
    with no_secret_quoted(plan.params):
        return await matched(
            engine,
            plan.composed.sql,
            plan.params,
            database=target.database,
            table=target.physical,
            name=target.name,
            settings=plan.composed.settings,
        )


async def replace(
    engine: Engine,
    target: Table,
    write: Callable[[str], Awaitable[Written]],
    altering: Callable[[], contextlib.AbstractAsyncContextManager[None]],
) -> Written:
    """All rows of the target make room for those that `write` puts into the table of the name that it is given.

    The caller holds the target's lock in mode REPLACE: a tenant's filters know the one name that the new rows have
    meanwhile. `altering` takes it in mode ALTER. Raises Conflict where deployments keep changing the target.
    """
    staging = staging_of(target.physical)
    database = quote(target.database)
    live, beside = f"{database}.{quote(target.physical)}", f"{database}.{quote(staging)}"
    for _ in range(_ATTEMPTS):
        await engine.command(f"DROP TABLE IF EXISTS {beside} SYNC")
        await engine.command(f"CREATE TABLE {beside} AS {live}")
        try:
            written = await write(staging)
            # A row that is being inserted must not be lost between the two names, nor a column of a deployment.
            async with altering():
                if await _alike(engine, target, staging):
                    await engine.command(f"EXCHANGE TABLES {live} AND {beside}")
                    return written
        finally:
            await _drop(engine, beside)
    raise Conflict(
        f"Deployments changed '{target.name}' while its rows were prepared",
        hint="Run it again when they are done.",
        reason=Reason.TABLE_CHANGED,
        subject=target.name,
    )


async def _alike(engine: Engine, target: Table, staging: str) -> bool:
    """Whether both tables have the same columns."""
    rows = await engine.rows(
        "SELECT count() AS n, uniqExact(columns) AS forms FROM (SELECT table, groupArray((name, type, default_kind, "
        "default_expression)) AS columns FROM (SELECT * FROM system.columns WHERE database = {database:String} AND "
        "table IN ({live:String}, {staging:String}) ORDER BY table, position) GROUP BY table)",
        {"database": target.database, "live": target.physical, "staging": staging},
    )
    return (int(rows[0]["n"]), int(rows[0]["forms"])) == (2, 1)


async def _drop(engine: Engine, table: str) -> None:
    with contextlib.suppress(PipitError):  # the next run drops it, or the next start
        await engine.command(f"DROP TABLE IF EXISTS {table} SYNC")

"""A table's rows are replaced: prepared in a table beside it, which then takes its place in one step.

No reader sees a half of the new rows, and what fails leaves the old ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pipit.catalog.snapshot import Table, staging_of
from pipit.engine.client import Engine
from pipit.errors import Conflict, PipitError, Reason
from pipit.sql.identifiers import quote

Written = TypeVar("Written")

_ATTEMPTS = 5  # of a replacement whose target is changed by deployments meanwhile


async def replace(
    engine: Engine,
    target: Table,
    write: Callable[[str], Awaitable[Written]],
    altering: Callable[[], contextlib.AbstractAsyncContextManager[None]],
) -> Written:
    """Replaces all rows of the target by those that `write` puts into the table of the name that it is given.

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
                if await alike(engine, target, staging):
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


async def alike(engine: Engine, target: Table, staging: str) -> bool:
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

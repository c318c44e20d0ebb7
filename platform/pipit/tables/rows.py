"""Rows leave a table: all of them, or those of a condition. Views and their targets keep what they made of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from pipit.engine.client import Engine
from pipit.errors import SqlError
from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string

_POLL_SECONDS = 0.05
_POLL_MOST = 2.0


@dataclass(frozen=True, slots=True)
class Mutation:
    """How far the engine has come with a delete. `failed`: why it stopped; the engine goes on trying."""

    done: bool
    failed: str = ""


async def truncate(engine: Engine, database: str, table: str) -> None:
    await engine.command(
        f"TRUNCATE TABLE {quote(database)}.{quote(table)} SYNC", settings={"max_table_size_to_drop": 0}
    )


async def matching(engine: Engine, database: str, table: str, condition: str, partition: str = "") -> int:
    """How many rows a condition names. It has been checked."""
    where = f"({condition})" + (f" AND _partition_id = {quote_string(partition)}" if partition else "")
    (found,) = await engine.rows(
        f"SELECT count() AS _pipit_n FROM {quote(database)}.{quote(table)} WHERE {where}", settings={"readonly": 1}
    )
    return int(found["_pipit_n"])


async def delete(
    engine: Engine,
    database: str,
    table: str,
    condition: str,
    mark: str,
    *,
    lightweight: bool = False,
    partition: str = "",
    projections: str = "",
) -> None:
    """Begins it; `ended` waits. `mark` tells it from all others, and is in its text for good.

    `lightweight`: rows are hidden at once, and leave the disk with the next merge.
    """
    where = f"({condition}) AND {quote_string(mark)} != ''"
    of = f" IN PARTITION ID {quote_string(partition)}" if partition else ""
    place = f"{quote(database)}.{quote(table)}"
    if lightweight:
        settings: dict[str, str | int | float] = {"lightweight_deletes_sync": 0}
        if projections:
            # A setting of the table, and the engine's default for it is to refuse.
            await engine.command(
                f"ALTER TABLE {place} MODIFY SETTING lightweight_mutation_projection_mode = {quote_string(projections)}"
            )
        await engine.command(f"DELETE FROM {place}{of} WHERE {where}", settings=settings)
        return
    await engine.command(f"ALTER TABLE {place} DELETE{of} WHERE {where}", settings={"mutations_sync": 0})


async def mutation(engine: Engine, database: str, table: str, mark: str) -> Mutation | None:
    """None where there is none with this mark."""
    rows = await engine.rows(
        "SELECT min(is_done) AS done, count() AS n, anyLast(latest_fail_reason) AS why FROM system.mutations "
        "WHERE database = {database:String} AND table = {table:String} AND position(command, {mark:String}) > 0",
        {"database": database, "table": table, "mark": mark},
    )
    if not int(rows[0]["n"]):
        return None
    return Mutation(bool(rows[0]["done"]), str(rows[0]["why"]))


async def ended(engine: Engine, database: str, table: str, mark: str) -> None:
    """Raises SqlError where the condition fails on a row; then it is taken back."""
    pause = _POLL_SECONDS
    while True:
        found = await mutation(engine, database, table, mark)
        if found is None or found.done:
            return
        if found.failed:
            await engine.command(
                "KILL MUTATION WHERE database = {database:String} AND table = {table:String} "
                "AND position(command, {mark:String}) > 0",
                {"database": database, "table": table, "mark": mark},
            )
            raise SqlError("The condition fails on a row of the table", detail=found.failed[:300])
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _POLL_MOST)


async def partitions(engine: Engine, database: str, table: str) -> Sequence[tuple[str, str]]:
    """Value and id of each that has rows."""
    rows = await engine.rows(
        "SELECT DISTINCT partition, partition_id FROM system.parts "
        "WHERE active AND database = {database:String} AND table = {table:String} ORDER BY partition_id",
        {"database": database, "table": table},
    )
    return [(str(row["partition"]), str(row["partition_id"])) for row in rows]

"""A copy pipe's work: `INSERT INTO target SELECT ...` of what its node gives, appended, or in the place of all rows.

The statement is composed and examined like every other text of the project, and reads as the workspace itself: row
policies are for tenants, and what a tenant may read of the target is the target's own policy.
A replacement is prepared in a table beside the target and takes its place in one step: no reader sees a half of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from weakref import WeakValueDictionary

from pipit.catalog.build import node_error
from pipit.catalog.snapshot import CompiledNode, CompiledPipe, Snapshot, Table, staging_of
from pipit.engine.client import Engine, ParamValue
from pipit.errors import BadRequest, Conflict, PipitError
from pipit.ingest import Ingest, limits
from pipit.ingest.match import matched
from pipit.jobs import schedule
from pipit.query.compose import Composer
from pipit.query.examine import Examiner
from pipit.sql.identifiers import quote
from pipit.templates import Binder, RequestValue

APPEND, REPLACE = "append", "replace"
MODES = (APPEND, REPLACE)
_turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
_ATTEMPTS = 5  # of a replacement whose target is changed by deployments meanwhile
_SETTINGS: Mapping[str, str | int | float] = {
    "insert_deduplicate": 0,  # the same rows copied twice are there twice
    "max_execution_time": 3600,
    "wait_end_of_query": 1,
    # What a copy parses as JSON are rows of many tenants.
    **limits.JSON_SETTINGS,
    **limits.JSON_LIST_SETTINGS,
}


@dataclass(frozen=True, slots=True)
class Copy:
    """`sql` is composed over physical tables; its settings stand beside it."""

    pipe: CompiledPipe
    node: CompiledNode
    target: Table
    sql: str
    params: Mapping[str, ParamValue]
    settings: Mapping[str, str]
    reads_target: bool = False


@dataclass(slots=True)
class Written:
    rows: int = 0
    bytes: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)

    def take(self, counts: Mapping[str, int]) -> None:
        self.rows += counts.get("written_rows", 0)
        self.bytes += counts.get("written_bytes", 0)


async def prepare(
    engine: Engine,
    snapshot: Snapshot,
    pipe: CompiledPipe,
    node: CompiledNode,
    values: Mapping[str, RequestValue],
    *,
    now: datetime | None = None,
    make_services: Callable[[str], Awaitable[None]] | None = None,
) -> Copy:
    """Raises what is wrong with the parameters, the SQL or the target: before any job is made of it."""
    target = snapshot.tables.get(node.node.target_datasource)
    if target is None:
        raise BadRequest(f"The data source '{node.node.target_datasource}', to which it copies, does not exist")
    moment = schedule.text_of(now or datetime.now(UTC))
    binder = Binder()
    composed = Composer().pipe(snapshot, pipe, node, {**values, "job_timestamp": moment}, binder)
    if make_services is not None and not snapshot.service_tables.isdisjoint(composed.tables):
        await make_services(snapshot.workspace.database)
    await Examiner(engine).examine(snapshot, composed, binder)
    reads = f"{target.database}.{target.physical}" in composed.tables
    return Copy(pipe, node, target, composed.sql, dict(binder.params), composed.settings, reads)


async def run(engine: Engine, ingest: Ingest, copy: Copy, mode: str) -> Written:
    """To the end. Cancelling it ends the statement in the engine; of an append that was cut off rows may be there."""
    target = copy.target
    found = await matched(
        engine,
        copy.sql,
        copy.params,
        database=target.database,
        table=target.physical,
        name=target.name,
        settings=copy.settings,
    )
    columns = found.columns
    if not columns:
        raise node_error(
            copy.pipe.pipe, copy.node.node, f"No column of the query is a column of '{copy.target.name}'", hint=""
        )
    text = found.select(copy.sql, copy.settings)
    if mode == APPEND:
        # A view that is made meanwhile must not see a half of the rows, nor a populate count a half twice.
        async with ingest.feeding(copy.target.database, copy.target.physical):
            return await insert(engine, copy.target, copy.target.physical, columns, text, copy.params)
    if copy.reads_target:  # an event that comes after it was read would be lost: it waits in its segment
        async with ingest.paused(copy.target.database, copy.target.physical):
            return await replace(engine, None, copy.target, columns, text, copy.params)
    return await replace(engine, ingest, copy.target, columns, text, copy.params)


async def replace(
    engine: Engine,
    ingest: Ingest | None,
    target: Table,
    columns: tuple[str, ...],
    rows: str,
    params: Mapping[str, ParamValue],
    *,
    settings: Mapping[str, str | int | float] | None = None,
) -> Written:
    """All rows of the target make room for `rows`, those of a SELECT, in one step.

    No `ingest`: the caller has the target's turn, and its writer waits already. Raises Conflict where deployments keep
    changing the target.
    """
    staging = staging_of(target.physical)
    database = quote(target.database)
    live, beside = f"{database}.{quote(target.physical)}", f"{database}.{quote(staging)}"
    async with turn_of(target) if ingest else contextlib.nullcontext():
        for _ in range(_ATTEMPTS):
            await engine.command(f"DROP TABLE IF EXISTS {beside} SYNC")
            await engine.command(f"CREATE TABLE {beside} AS {live}")
            try:
                written = await insert(engine, target, staging, columns, rows, params, settings=settings)
                # An event that is being inserted must not be lost between the two names, nor a column of a deployment,
                # which keeps the writer still as well.
                async with ingest.paused(target.database, target.physical) if ingest else contextlib.nullcontext():
                    if await _alike(engine, target, staging):
                        await engine.command(f"EXCHANGE TABLES {live} AND {beside}")
                        return written
            finally:
                await _drop(engine, beside)
    raise Conflict(
        f"Deployments changed '{target.name}' while its rows were prepared", hint="Run it again when they are done."
    )


def turn_of(target: Table) -> asyncio.Lock:
    """One replacement of a table at a time: a tenant's filters know the one name that its rows have meanwhile.

    Taken before the writer of any table is made to wait.
    """
    key = (target.database, target.physical)
    turn = _turns.get(key)
    if turn is None:
        turn = _turns[key] = asyncio.Lock()
    return turn


async def _alike(engine: Engine, target: Table, staging: str) -> bool:
    """Whether both tables have the same columns."""
    rows = await engine.rows(
        "SELECT count() AS n, uniqExact(columns) AS forms FROM (SELECT table, groupArray((name, type, default_kind, "
        "default_expression)) AS columns FROM (SELECT * FROM system.columns WHERE database = {database:String} AND "
        "table IN ({live:String}, {staging:String}) ORDER BY table, position) GROUP BY table)",
        {"database": target.database, "live": target.physical, "staging": staging},
    )
    return (int(rows[0]["n"]), int(rows[0]["forms"])) == (2, 1)


async def insert(
    engine: Engine,
    target: Table,
    physical: str,
    columns: tuple[str, ...],
    rows: str,
    params: Mapping[str, ParamValue],
    *,
    settings: Mapping[str, str | int | float] | None = None,
) -> Written:
    """`rows` of a SELECT of these columns, into the target or what is prepared beside it."""
    into = f"{quote(target.database)}.{quote(physical)}"
    text = f"INSERT INTO {into} ({', '.join(map(quote, columns))}) {rows}"
    written = Written()
    async with engine.stream(
        text, params, settings={**_SETTINGS, **(settings or {})}, database=target.database, counts=written.take
    ) as chunks:
        async for _ in chunks:
            pass
    return written


async def _drop(engine: Engine, table: str) -> None:
    with contextlib.suppress(PipitError):  # the next run drops it, or the next start
        await engine.command(f"DROP TABLE IF EXISTS {table} SYNC")


def mode_of(node: CompiledNode, asked: str) -> str:
    """Raises BadRequest."""
    mode = (asked or node.node.copy_mode).lower()
    if mode not in MODES:
        raise BadRequest(f"'{asked[:40]}' is not a mode of a copy", hint="_mode=append or _mode=replace.")
    return mode

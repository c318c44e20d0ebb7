"""What a crash, or a deletion that it cut off, left behind in the engine: found and dropped."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable
from dataclasses import replace

from msgspec import structs

from pipit.catalog.catalog import Catalog
from pipit.catalog.snapshot import STAGING, Snapshot, Table, Workspace
from pipit.catalog.state import DeploymentRow, Status, TableNames
from pipit.deploy.alterations import ModifyColumn, ModifyTtl
from pipit.deploy.apply import alter, drop, drop_columns
from pipit.deploy.generations import CHUNK, FROZEN, MAKING, SIDE, is_beside
from pipit.deploy.hidden_columns import unnamed_columns
from pipit.engine.client import Engine
from pipit.engine.codes import Code
from pipit.errors import PipitError, SqlError, Unavailable
from pipit.ingest import Ingest
from pipit.sql.identifiers import quote
from pipit.tables.scratch import SCRATCH_NAME
from pipit.tables.sizes import sizes_of

log = logging.getLogger("pipit.deploy")

_DROP_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 0)  # seconds between attempts; after the last one it is an error
_BESIDE = rf"{SIDE}|{FROZEN}|{MAKING}|{CHUNK}\d+_[0-9a-f]{{8}}_"
_INTO = re.compile(r" TO `?[^`. ]+`?\.`?([^`. (]+)")  # of a materialized view
_OWN_OBJECT = re.compile(rf"(?:{STAGING}|{_BESIDE})?(?:{STAGING})?[dqm]\d+_[A-Za-z_][A-Za-z0-9_]*")


async def drop_database(engine: Engine, ingest: Ingest, database: str) -> None:
    """With the rows that are on their way there."""
    await ingest.discard(database)
    for pause in _DROP_PAUSES:
        try:
            await engine.command(f"DROP DATABASE IF EXISTS {quote(database)} SYNC")
            return
        except SqlError as error:  # a log was just making its tables there; once it is done it makes no more
            if not pause or error.engine_code != Code.DATABASE_NOT_EMPTY:
                raise
            await asyncio.sleep(pause)
        except Unavailable:
            log.warning("the engine is away: the database %s is dropped at the next start", database)
            return


async def finish_alterations(engine: Engine, catalog: Catalog) -> None:
    """Of every deployment that is live, where a crash came before."""
    for snapshot in catalog.everywhere:
        await finish(engine, snapshot)


async def finish(engine: Engine, snapshot: Snapshot) -> None:
    """What a deployment alters once it is live. What is done already is no work."""
    tables = {table.physical: table for table in snapshot.tables.values()}
    for physical, late in snapshot.names.late.items():
        if physical not in tables:
            continue
        table = tables[physical]
        columns = [column for column in table.datasource.columns if column.name in late]
        for column in columns:
            await alter(engine, ModifyColumn(table, column, column))
        if "" in late:
            ttl = table.datasource.engine.ttl
            await alter(engine, ModifyTtl(table, ttl, ttl), settings={"materialize_ttl_after_modify": 0})


def names_of(tables: TableNames) -> tuple[str, ...]:
    """Every object that they name."""
    return (*tables.datasources.values(), *tables.quarantines.values(), *tables.views.values())


def _kept(rows: Iterable[DeploymentRow], live: int) -> list[DeploymentRow]:
    """The deployments that are kept, whether they can be read or not."""
    previous = next((row.details.previous for row in rows if row.id == live), 0)
    return [
        row
        for row in rows
        if (row.live and row.id in (live, previous)) or row.details.status == Status.DATA_READY
    ]


async def _intruding(engine: Engine, live: Snapshot, kept: Iterable[TableNames]) -> set[str]:
    """Views of deployments that are not live, into tables that what is live uses: a switch that was cut off left them.
    Beside the live one's own they would count each row twice; a switch makes them again."""
    views = {name for tables in kept for name in tables.views.values()} - set(live.names.views.values())
    rows = await engine.rows(
        "SELECT name, create_table_query AS written FROM system.tables "
        "WHERE database = {d:String} AND engine = 'MaterializedView' AND has({views:Array(String)}, name)",
        {"d": live.workspace.database, "views": sorted(views)},
    )
    into = {str(row["name"]): _INTO.search(str(row["written"])) for row in rows}
    shared = set(live.names.datasources.values())
    return {name for name, found in into.items() if found is not None and found[1] in shared}


async def columns_of_none(
    engine: Engine, catalog: Catalog, workspace: Workspace
) -> list[tuple[Table, tuple[str, ...]]]:
    """By table: the columns that no deployment has which is kept. None as long as one of these cannot be read."""
    kept = catalog.kept(workspace.id, workspace.environment)
    rows = await catalog.state.deployments(workspace.database_id)
    readable = {snapshot.deployment for snapshot in kept}
    if any(row.id not in readable for row in _kept(rows, kept[0].deployment)):
        return []
    making = catalog.making(workspace.id, workspace.environment)
    return await unnamed_columns(engine, (*kept, *([making.snapshot] if making else [])))


async def drop_columns_of_none(engine: Engine, catalog: Catalog) -> None:
    """At the start, when nothing is inserted yet. What the engine refuses is said, and stays hidden."""
    for snapshot in catalog.everywhere:
        for table, columns in await columns_of_none(engine, catalog, snapshot.workspace):
            log.warning("dropping %s of '%s': no deployment that is kept has them", ", ".join(columns), table.name)
            try:
                await drop_columns(engine, table, columns)
            except Unavailable:
                raise
            except PipitError as error:
                log.warning("the columns of '%s' cannot be dropped: %s", table.name, error)


async def drop_leftovers(engine: Engine, catalog: Catalog) -> None:
    """Scratch databases, those of deleted workspaces and environments, objects that no live deployment names."""
    databases = {str(row["name"]) for row in await engine.rows("SELECT name FROM system.databases")}
    state = catalog.state
    theirs = {w.database for w in await state.workspaces()} | {e.database for e in await state.environments()}
    deleted = await state.deleted_databases()
    for name in sorted(databases - theirs):
        if name in deleted or SCRATCH_NAME.fullmatch(name):
            await engine.command(f"DROP DATABASE IF EXISTS {quote(name)} SYNC")
    tables = await sizes_of(engine, [snapshot.workspace.database for snapshot in catalog.everywhere])
    for snapshot in catalog.everywhere:
        place = snapshot.workspace.database_id
        rows = await state.deployments(place)
        making = catalog.making(snapshot.workspace.id, snapshot.workspace.environment)
        for row in rows:
            goes_on = making is not None and making.row.id == row.id
            if not row.live and row.details.status == Status.CREATING and not goes_on:
                why = "The server stopped while it was made"
                details = structs.replace(row.details, status=Status.FAILED, error=why)
                await state.put_deployment(place, replace(row, details=details))
        kept = [*(row.tables for row in _kept(rows, snapshot.deployment)), *([making.snapshot.names] if making else [])]
        named = {name for tables in (snapshot.names, *kept) for name in names_of(tables)}
        named -= await _intruding(engine, snapshot, kept)
        orphans = tables[snapshot.workspace.database].keys() - named
        # Views first: one that still feeds a table must not outlive it.
        for orphan in sorted(orphans, key=lambda name: name[0] != "m"):
            is_needed = making is not None and is_beside(orphan)
            if _OWN_OBJECT.fullmatch(orphan) and not is_needed:
                log.warning("dropping %s.%s: no live deployment names it", snapshot.workspace.database, orphan)
                await drop(engine, snapshot.workspace.database, orphan)

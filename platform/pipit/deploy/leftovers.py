"""What a crash, or a deletion that it cut off, left behind in the engine: found and dropped."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable
from dataclasses import replace

from msgspec import structs

from pipit.catalog.catalog import Catalog
from pipit.catalog.snapshot import STAGING, Snapshot
from pipit.catalog.state import DeploymentRow, Status, TableNames
from pipit.deploy.alterations import ModifyColumn, ModifyTtl
from pipit.deploy.apply import alter, drop
from pipit.deploy.generations import FROZEN, SIDE
from pipit.engine.client import Engine
from pipit.engine.codes import Code
from pipit.errors import SqlError, Unavailable
from pipit.ingest import Ingest
from pipit.sql.identifiers import quote
from pipit.tables.scratch import SCRATCH_NAME
from pipit.tables.sizes import sizes_of

log = logging.getLogger("pipit.deploy")

_DROP_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 0)  # seconds between attempts; after the last one it is an error
_OWN_OBJECT = re.compile(rf"(?:{STAGING}|{SIDE}|{FROZEN})?(?:{STAGING})?[dqm]\d+_[A-Za-z_][A-Za-z0-9_]*")


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


def _kept(rows: Iterable[DeploymentRow], live: int) -> list[TableNames]:
    """Of the deployments that are kept, whether they can be read or not."""
    previous = next((row.details.previous for row in rows if row.id == live), 0)
    return [
        row.tables
        for row in rows
        if (row.live and row.id in (live, previous)) or row.details.status == Status.DATA_READY
    ]


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
        for row in rows:
            if not row.live and row.details.status == Status.CREATING:
                why = "The server stopped while it was made"
                details = structs.replace(row.details, status=Status.FAILED, error=why)
                await state.put_deployment(place, replace(row, details=details))
        kept = _kept(rows, snapshot.deployment)
        named = {name for tables in (snapshot.names, *kept) for name in names_of(tables)}
        orphans = tables[snapshot.workspace.database].keys() - named
        # Views first: one that still feeds a table must not outlive it.
        for orphan in sorted(orphans, key=lambda name: name[0] != "m"):
            if _OWN_OBJECT.fullmatch(orphan):
                log.warning("dropping %s.%s: no live deployment names it", snapshot.workspace.database, orphan)
                await drop(engine, snapshot.workspace.database, orphan)

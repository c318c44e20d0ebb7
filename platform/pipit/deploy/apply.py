"""One operation of a plan, as the engine carries it out, and how it is taken back.

What the live deployment names is changed only in ways that it reads alike (`alterations.py`). `undo`, and what drops,
can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import assert_never

from pipit.catalog.snapshot import Table
from pipit.datafiles.resources import Column
from pipit.deploy.alterations import (
    AddColumn,
    AddIndex,
    Alteration,
    DropIndex,
    ModifyColumn,
    ModifySettings,
    ModifyTtl,
    reverse,
    statements,
)
from pipit.deploy.compare import place_of_change
from pipit.deploy.compared import misfits
from pipit.deploy.defaults import check_rows
from pipit.deploy.plan import CreateTable, CreateView, DropView, Fill, Prepare, Settle
from pipit.engine.client import Engine, Settings
from pipit.errors import DatafileError, ProjectError, Reason
from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string
from pipit.tables.ddl import create_table
from pipit.tables.ddl_check import checked
from pipit.tables.quarantine import create_quarantine, quarantine_column


async def apply(engine: Engine, operation: Prepare | Settle | DropView) -> None:
    match operation:
        case CreateTable(table):
            await _create_table(engine, table)
        case AddColumn():
            await _add_column(engine, operation)
        case ModifyColumn():
            await _modify_column(engine, operation)
        case AddIndex(table, index):
            await alter(engine, operation)
            # Parts that are there get it in the background.
            await _command(engine, table, f"MATERIALIZE INDEX {quote(index.name)}")
        case DropIndex() | ModifyTtl() | ModifySettings():
            await alter(engine, operation)
        case CreateView(view, physical, match):
            await engine.command(view.create(operation.database, physical, match))
        case Fill(view, match):
            await engine.command(view.fill(match))
        case DropView(_, database, physical):
            await drop(engine, database, physical)
        case _:
            assert_never(operation)


async def undo(engine: Engine, operation: Prepare) -> None:
    """Also of one that was cut off half-way."""
    match operation:
        case CreateTable(table):
            await _drop_table(engine, table)
        case AddColumn(table, column, found=found):
            if not found:
                await drop_columns(engine, table, [column.name])
        case ModifyColumn() | AddIndex() | DropIndex() | ModifyTtl() | ModifySettings():
            await alter(engine, reverse(operation))
        case CreateView(_, physical):
            await drop(engine, operation.database, physical)
        case Fill():
            pass  # its target is new, and goes with the table
        case _:
            assert_never(operation)


async def drop(engine: Engine, database: str, name: str) -> None:
    await engine.command(f"DROP TABLE IF EXISTS {quote(database)}.{quote(name)} SYNC")


async def drop_columns(engine: Engine, table: Table, columns: Iterable[str]) -> None:
    """From the table and its quarantine, with their values."""
    for column in columns:
        for where in _both(table):
            await engine.command(f"ALTER TABLE {where} DROP COLUMN IF EXISTS {quote(column)}")


async def alter(engine: Engine, alteration: Alteration, *, settings: Settings | None = None) -> None:
    """What has to be written anew for it is written in the background, and gone on with after a crash."""
    (where, _) = _both(alteration.table)
    for statement in statements(alteration, where):
        await engine.command(await checked(engine, statement), settings={"mutations_sync": 0, **(settings or {})})


async def _create_table(engine: Engine, table: Table) -> None:
    statement = create_table(table.datasource, table.database, table.physical)
    await engine.command(await checked(engine, statement))
    await engine.command(create_quarantine(table.datasource, table.database, table.quarantine))


async def _add_column(engine: Engine, adding: AddColumn) -> None:
    table, column, after = adding.table, adding.column, adding.after
    if adding.found and column.name in await _columns(engine, table):
        return
    # One that a deploy which was cut off left behind may have another type.
    await drop_columns(engine, table, [column.name])
    (_, quarantine) = _both(table)
    await alter(engine, adding)
    place = f"AFTER {quote(after)}" if after else "FIRST"
    await engine.command(f"ALTER TABLE {quarantine} ADD COLUMN {quarantine_column(column)} {place}")
    if column.default is not None:
        await check_rows(engine, table, column)


async def _modify_column(engine: Engine, change: ModifyColumn) -> None:
    before, after = change.before, change.after
    if unfit := await misfits(engine, change):  # rows may have come since the plan was made
        place = place_of_change(change)
        message = f"{unfit:,} rows of '{change.table.name}' hold a value of '{after.name}' that is no {after.type}"
        line, at = place.line, place.column
        raise ProjectError(
            [DatafileError(message, file=place.file, line=line, column=at, reason=Reason.VALUES_DO_NOT_FIT)]
        )
    if before.default != after.default and await _is_unwritten(engine, change.table, before):
        await _write_default(engine, change.table, before)
    await alter(engine, change)


async def _is_unwritten(engine: Engine, table: Table, column: Column) -> bool:
    """Whether rows are older than the column: the engine computes its DEFAULT whenever they are read."""
    of_table = "database = {database:String} AND table = {table:String} AND active"
    return bool(
        await engine.rows(
            f"SELECT 1 FROM system.parts WHERE {of_table} AND rows > 0 AND name NOT IN "
            f"(SELECT name FROM system.parts_columns WHERE {of_table} AND column = {{column:String}}) LIMIT 1",
            {"database": table.database, "table": table.physical, "column": column.name},
        )
    )


async def _write_default(engine: Engine, table: Table, column: Column) -> None:
    """Another DEFAULT must not change what rows read that are there."""
    if column.default is None:
        value = f"DEFAULT defaultValueOfTypeName({quote_string(column.type)})"
        await _command(engine, table, f"MODIFY COLUMN {quote(column.name)} {column.type} {value}")
    await _command(engine, table, f"MATERIALIZE COLUMN {quote(column.name)}", wait=True)
    if column.default is None:
        await _command(engine, table, f"MODIFY COLUMN {quote(column.name)} REMOVE DEFAULT")


async def _command(engine: Engine, table: Table, clause: str, *, wait: bool = False) -> None:
    (where, _) = _both(table)
    statement = await checked(engine, f"ALTER TABLE {where} {clause}")
    await engine.command(statement, settings={"mutations_sync": int(wait)})


async def _columns(engine: Engine, table: Table) -> set[str]:
    rows = await engine.rows(
        "SELECT name FROM system.columns WHERE database = {database:String} AND table = {table:String}",
        {"database": table.database, "table": table.physical},
    )
    return {str(row["name"]) for row in rows}


async def _drop_table(engine: Engine, table: Table) -> None:
    await drop(engine, table.database, table.physical)
    await drop(engine, table.database, table.quarantine)


def _both(table: Table) -> Iterator[str]:
    """The quoted names of the table and of its quarantine."""
    for physical in (table.physical, table.quarantine):
        yield f"{quote(table.database)}.{quote(physical)}"

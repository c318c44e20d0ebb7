"""One operation of a plan, as the engine carries it out, and how it is taken back.

Nothing that the live deployment names is changed, but for columns that are added to its tables. `undo`, and what
drops, can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from pipit.catalog.snapshot import Table
from pipit.datafiles.resources import Column
from pipit.deploy.defaults import check_rows
from pipit.deploy.plan import AddColumn, CreateTable, CreateView, DropTable, DropView, Fill, Prepare
from pipit.engine.client import Engine
from pipit.sql.identifiers import quote
from pipit.tables.ddl import column_definition, create_table
from pipit.tables.ddl_check import checked
from pipit.tables.quarantine import create_quarantine, quarantine_column


async def apply(engine: Engine, operation: Prepare | DropView | DropTable) -> None:
    match operation:
        case CreateTable(table):
            await _create_table(engine, table)
        case AddColumn(table, column, after):
            await _add_column(engine, table, column, after)
        case CreateView(view, physical, match):
            await engine.command(view.create(operation.database, physical, match))
        case Fill(view, match):
            await engine.command(view.fill(match))
        case DropView(_, database, physical):
            await drop(engine, database, physical)
        case DropTable(table):
            await _drop_table(engine, table)
        case _:
            assert_never(operation)


async def undo(engine: Engine, operation: Prepare) -> None:
    """Also of one that was cut off half-way."""
    match operation:
        case CreateTable(table):
            await _drop_table(engine, table)
        case AddColumn(table, column):
            for where in _both(table):
                await _drop_column(engine, where, column)
        case CreateView(_, physical):
            await drop(engine, operation.database, physical)
        case Fill():
            pass  # its target is new, and goes with the table
        case _:
            assert_never(operation)


async def drop(engine: Engine, database: str, name: str) -> None:
    await engine.command(f"DROP TABLE IF EXISTS {quote(database)}.{quote(name)} SYNC")


async def _create_table(engine: Engine, table: Table) -> None:
    statement = create_table(table.datasource, table.database, table.physical)
    await engine.command(await checked(engine, statement))
    await engine.command(create_quarantine(table.datasource, table.database, table.quarantine))


async def _add_column(engine: Engine, table: Table, column: Column, after: str) -> None:
    place = f"AFTER {quote(after)}" if after else "FIRST"
    for where, definition in zip(_both(table), (column_definition(column), quarantine_column(column)), strict=True):
        # One that a deploy which was cut off left behind may have another type.
        await _drop_column(engine, where, column)
        await engine.command(await checked(engine, f"ALTER TABLE {where} ADD COLUMN {definition} {place}"))
    if column.default is not None:
        await check_rows(engine, table, column)


async def _drop_column(engine: Engine, where: str, column: Column) -> None:
    await engine.command(f"ALTER TABLE {where} DROP COLUMN IF EXISTS {quote(column.name)}")


async def _drop_table(engine: Engine, table: Table) -> None:
    await drop(engine, table.database, table.physical)
    await drop(engine, table.database, table.quarantine)


def _both(table: Table) -> Iterator[str]:
    """The quoted names of the table and of its quarantine."""
    for physical in (table.physical, table.quarantine):
        yield f"{quote(table.database)}.{quote(physical)}"

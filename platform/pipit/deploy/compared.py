"""The comparison of the files with what is live, as far as the engine has a say in it.

Each alteration is tried on an empty table of the live definition first: what the engine refuses there is not planned.
Rows are looked at where the engine would not refuse: a value that a narrower type cannot hold, rows that a shorter TTL
deletes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipit.catalog.snapshot import Snapshot, Table
from pipit.datafiles.resources import DataSource, Project
from pipit.deploy.alterations import AddColumn, Alteration, ModifyColumn, ModifyTtl, statements
from pipit.deploy.compare import (
    Allowed,
    Comparison,
    NeedsRebuild,
    RebuildCause,
    compare_projects,
    place_of_change,
)
from pipit.deploy.hidden_columns import still_there
from pipit.deploy.same_tables import same_tables
from pipit.engine.client import Engine
from pipit.errors import DatafileError, PipitError, Unavailable
from pipit.sql.identifiers import quote
from pipit.sql.lexer import LexerKind, significant, tokenize
from pipit.tables import ddl
from pipit.tables.ddl_check import checked
from pipit.tables.scratch import scratch_database


async def compared(
    engine: Engine, live: Snapshot, project: Project, *, allowed: Allowed, weaker: Sequence[DatafileError] = ()
) -> Comparison:
    """Raises only what is no fault of the project: Unavailable."""
    live = await still_there(engine, live)
    same = await same_tables(engine, live, project)
    found = compare_projects(live, project, allowed=allowed, same=same, weaker=weaker)
    if not found.alterations and not found.instead:
        return found
    found = found.settled(await _refused(engine, live, found.alterations))
    found = found.settled(await _misfits(engine, found.alterations))
    return replace(
        found,
        alterations=tuple([await _counted(engine, one) for one in found.alterations]),
        instead=tuple([await _counted(engine, one) for one in found.instead]),
    )


async def _refused(engine: Engine, live: Snapshot, alterations: Sequence[Alteration]) -> list[NeedsRebuild]:
    refused: list[NeedsRebuild] = []
    async with scratch_database(engine) as database:
        made: set[str] = set()
        for alteration in alterations:
            table = alteration.table
            where = f"{quote(database)}.{quote(table.physical)}"
            try:
                if table.name not in made:
                    made.add(table.name)
                    await _make(engine, database, table, live.project.datasources[table.name])
                for statement in statements(alteration, where):
                    await engine.command(await checked(engine, statement))
            except Unavailable:
                raise
            except PipitError as error:
                if isinstance(alteration, AddColumn):
                    continue  # what is wrong with a new column is said of the files
                message = f"{_named(alteration)}, and the engine cannot alter the table to it: {error.message}"
                column = alteration.after.name if isinstance(alteration, ModifyColumn) else ""
                place = place_of_change(alteration)
                refused.append(NeedsRebuild(table.name, RebuildCause.REFUSED, message, place, column))
    return refused


async def _make(engine: Engine, database: str, table: Table, live: DataSource) -> None:
    """The table as it stands, without rows."""
    await engine.command(await checked(engine, ddl.create_table(live, database, table.physical)))


def _named(alteration: Alteration) -> str:
    match alteration:
        case AddColumn(_, column):
            return f"The column '{column.name}' is new"
        case ModifyColumn(_, before, after) if before.type != after.type:
            return f"The type of '{after.name}' changes from {before.type} to {after.type}"
        case ModifyColumn(_, _, after):
            return f"The definition of '{after.name}' changes"
        case ModifyTtl():
            return "The TTL changes"
        case _:
            settings = "before" in getattr(alteration, "__slots__", ())
            return "ENGINE_SETTINGS change" if settings else "The indexes change"


async def _misfits(engine: Engine, alterations: Sequence[Alteration]) -> list[NeedsRebuild]:
    found: list[NeedsRebuild] = []
    for one in alterations:
        if isinstance(one, ModifyColumn) and (number := await misfits(engine, one)):
            rows = f"{number:,} row{'' if number == 1 else 's'}"
            message = (
                f"The type of '{one.after.name}' changes from {one.before.type} to {one.after.type}, "
                f"and {rows} hold a value that does not fit"
            )
            place = place_of_change(one)
            found.append(NeedsRebuild(one.table.name, RebuildCause.TYPE, message, place, one.after.name))
    return found


async def misfits(engine: Engine, change: ModifyColumn) -> int:
    """The rows whose value the new type cannot hold."""
    return await _count(engine, change.table, change.misfit) if change.misfit else 0


async def _counted(engine: Engine, alteration: Alteration) -> Alteration:
    if not isinstance(alteration, ModifyTtl) or not _is_simple(alteration.after):
        return alteration
    return replace(alteration, expired=await _count(engine, alteration.table, f"({alteration.after}) <= now()"))


def _is_simple(ttl: str) -> bool:
    """One moment, after which a row goes."""
    words = {t.text.upper() for t in significant(tokenize(ttl)) if t.kind is LexerKind.WORD}
    depth = 0
    for token in significant(tokenize(ttl)):
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if token.kind is LexerKind.COMMA and not depth:
            return False
    return bool(ttl) and not words & {"WHERE", "DELETE", "RECOMPRESS", "GROUP", "SET", "TO"}


async def _count(engine: Engine, table: Table, condition: str) -> int:
    where = f"{quote(table.database)}.{quote(table.physical)}"
    try:
        (row,) = await engine.rows(f"SELECT count() AS n FROM {where} WHERE {condition}", settings={"readonly": 1})
    except Unavailable:
        raise
    except PipitError:  # it reads a column that is new: no row has it
        return 0
    return int(row["n"])

"""Columns that the files no longer have. They stay in their tables, hidden, for as long as a deployment is kept that
has them; then they are dropped with their values. So are those that a deploy which was cut off has added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from msgspec import structs

from pipit.catalog.snapshot import Snapshot, Table
from pipit.catalog.state import HiddenColumn
from pipit.engine.client import Engine


async def unnamed_columns(engine: Engine, kept: Sequence[Snapshot]) -> list[tuple[Table, tuple[str, ...]]]:
    """Of each table of these deployments, which are all that are kept in their database: the columns that it or its
    quarantine has and that the files of none of them name."""
    tables: dict[str, Table] = {}
    named: dict[str, set[str]] = {}
    hidden: dict[str, set[str]] = {}
    for snapshot in kept:
        for table in snapshot.tables.values():
            tables.setdefault(table.physical, table)
            named.setdefault(table.physical, set()).update(column.name for column in table.datasource.columns)
            hidden.setdefault(table.physical, set()).update(snapshot.names.hidden.get(table.physical, ()))
    if not tables:
        return []
    has = await _columns(engine, kept[0].workspace.database)
    found: list[tuple[Table, tuple[str, ...]]] = []
    for physical, table in tables.items():
        own = {name for name in has.get(physical, ()) if not {name, name.partition(".")[0]} & named[physical]}
        # The quarantine has columns of its own: of these, only what was a column of the table goes.
        left = (hidden[physical] - named[physical]) & has.get(table.quarantine, set())
        if own | left:
            found.append((table, tuple(sorted(own | left))))
    return found


async def still_there(engine: Engine, live: Snapshot) -> Snapshot:
    """What is live, where only those columns count as hidden that its tables still have."""
    if not any(live.names.hidden.values()):
        return live
    has = await _columns(engine, live.workspace.database)
    hidden: Mapping[str, dict[str, HiddenColumn]] = {
        physical: {name: kept for name, kept in columns.items() if name in has.get(physical, ())}
        for physical, columns in live.names.hidden.items()
    }
    names = structs.replace(live.names, hidden={physical: columns for physical, columns in hidden.items() if columns})
    tables = {
        name: replace(table, hidden=frozenset(names.hidden.get(table.physical, ())))
        for name, table in live.tables.items()
    }
    return replace(live, names=names, tables=tables)


async def _columns(engine: Engine, database: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    rows = await engine.rows(
        "SELECT table, name FROM system.columns WHERE database = {database:String}", {"database": database}
    )
    for row in rows:
        found.setdefault(str(row["table"]), set()).add(str(row["name"]))
    return found

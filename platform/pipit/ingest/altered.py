"""A segment that waits over a deploy: its columns as it was written for, and as the table has them now.

Its rows are text, so they are read as the table is now: a value that the new type cannot hold goes to the quarantine,
and a column that was dropped is left out. Rows that were stored before the change fit the new type, else the table
could not have been altered; so a replay of them changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipit.datafiles.resources import Column
from pipit.engine.client import Engine
from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string

Altered = Mapping[str, str | None]  # column -> its type now; None: it is gone


async def altered_columns(engine: Engine, database: str, table: str, columns: Sequence[Sequence[str]]) -> Altered:
    """Those that are not what they were. `columns`: name and type first, as a segment's header has them."""
    rows = await engine.rows(
        "SELECT name, type FROM system.columns WHERE database = {database:String} AND table = {table:String}",
        {"database": database, "table": table},
    )
    now = {str(row["name"]): str(row["type"]) for row in rows}
    if not now:
        return {}  # there is no such table: that is told elsewhere
    parents = {name.partition(".")[0] for name in now}
    then = {name: type for name, type, *_ in columns}
    gone: dict[str, str | None] = {name: None for name in then if name not in now and name not in parents}
    odd = {name: type for name, type in then.items() if type and name in now and now[name] != type}
    if odd:  # perhaps only written in another way
        structure = ", ".join(f"{quote(name)} {type}" for name, type in odd.items())
        described = await engine.rows(f"DESCRIBE TABLE null({quote_string(structure)})")
        odd = {str(row["name"]): str(row["type"]) for row in described}
    return gone | {name: now[name] for name, type in odd.items() if now.get(name, type) != type}


def as_now(columns: Sequence[Column], altered: Altered) -> tuple[Column, ...]:
    found: list[Column] = []
    for column in columns:
        type = altered.get(column.name, column.type)
        if type is not None:
            found.append(replace(column, type=type))
    return tuple(found)

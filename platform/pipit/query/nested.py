"""A composed statement inside of another one: its columns as the engine describes them, its rows for an INSERT.

Used by what writes a node's rows: views, copies, populates, targets made of a node.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipit.engine.client import Engine, ParamValue
from pipit.sql.literals import quote_string


def subquery(sql: str) -> str:
    """The statement in brackets. It may end with a comment, so the closing one stands in a line of its own."""
    return f"({sql}\n)"


def with_settings(text: str, settings: Mapping[str, str]) -> str:
    """A statement under these settings."""
    if settings:
        text += " SETTINGS " + ", ".join(f"{name} = {quote_string(value)}" for name, value in settings.items())
    return text


async def described(
    engine: Engine,
    sql: str,
    params: Mapping[str, ParamValue] | None = None,
    *,
    database: str,
    settings: Mapping[str, str],
) -> list[tuple[str, str]]:
    """Name and type of each column that it gives. It has been examined."""
    rows = await engine.rows(f"DESCRIBE TABLE {subquery(sql)}", params, database=database, settings=settings)
    return [(str(row["name"]), str(row["type"])) for row in rows]

"""The tables that stand in a database, with the engine's own figures of what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipit.engine.client import Engine


@dataclass(frozen=True, slots=True)
class Size:
    """`bytes` are those on the disk."""

    rows: int = 0
    bytes: int = 0


Sizes = Mapping[str, Size]  # by physical name


async def sizes_of(engine: Engine, databases: Sequence[str]) -> Mapping[str, Sizes]:
    """What stands in each of these databases, asked at once. What holds no rows of its own, a view, has no size."""
    found: dict[str, dict[str, Size]] = {database: {} for database in databases}
    rows = await engine.rows(
        "SELECT database, name, ifNull(total_rows, 0) AS rows, ifNull(total_bytes, 0) AS bytes "
        "FROM system.tables WHERE has({databases:Array(String)}, database)",
        {"databases": list(databases)},
    )
    for row in rows:
        found[row["database"]][row["name"]] = Size(int(row["rows"]), int(row["bytes"]))
    return found


async def sizes_in(engine: Engine, database: str) -> Sizes:
    return (await sizes_of(engine, [database]))[database]


async def free_bytes(engine: Engine) -> int:
    """On the disk of the engine that has the least."""
    (row,) = await engine.rows("SELECT min(unreserved_space) AS free FROM system.disks")
    return int(row["free"])

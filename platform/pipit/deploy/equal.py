"""Whether two texts of a data source mean the same table: what the engine makes of both, compared.

`(a, b)` and `a, b`, `INTERVAL 30 DAY` and `toIntervalDay(30)`, `INT` and `Int32`, a primary key that repeats the
sorting key: the engine knows all of these, so both are made, empty, in a scratch database, and its own descriptions
are compared.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from pipit.catalog.snapshot import Snapshot
from pipit.datafiles.resources import DataSource, Project
from pipit.deploy import ddl
from pipit.deploy.gate import checked
from pipit.deploy.scratch import scratch_database
from pipit.engine.client import Engine
from pipit.errors import PipitError, Unavailable
from pipit.sql.expressions import is_one_group

_HEAD = re.compile(r"^(.*?)(?: PARTITION BY | PRIMARY KEY | ORDER BY | SAMPLE BY | TTL | SETTINGS |$)", re.DOTALL)
_TTL = re.compile(r" TTL (.*?)(?: SETTINGS .*)?$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Image:
    """A table as the engine describes it."""

    columns: tuple[tuple[str, ...], ...]
    indexes: tuple[tuple[str, ...], ...]
    engine: tuple[str, ...]


async def same_tables(engine: Engine, live: Snapshot, project: Project) -> dict[str, DataSource]:
    """The data sources that are written in another way than they are deployed and are the same tables, each with the
    live text's words for what is the same. Raises Unavailable."""
    changed = {
        name: (before, after)
        for name, after in project.datasources.items()
        if (before := live.project.datasources.get(name)) is not None and _table(before) != _table(after)
    }
    if not changed:
        return {}
    same: dict[str, DataSource] = {}
    async with scratch_database(engine) as database:
        for number, (name, (before, after)) in enumerate(changed.items()):
            if _settings(before) != _settings(after):
                continue
            try:
                images = [
                    await _image(engine, database, f"t{number}_{side}", source)
                    for side, source in enumerate((before, after))
                ]
            except Unavailable:
                raise
            except PipitError:  # the validation says what is wrong with it
                continue
            if images[0] == images[1]:
                same[name] = _in_words_of(before, after)
    return same


def _table(source: DataSource) -> DataSource:
    """What of it the table is made of."""
    bare = source.placeless()
    return DataSource("", "", tuple(replace(c, jsonpath=None) for c in bare.columns), bare.engine, indexes=bare.indexes)


def _settings(source: DataSource) -> dict[str, str]:
    return {name: value.strip("'\"") for name, value in source.engine.settings.items()}


def _in_words_of(before: DataSource, after: DataSource) -> DataSource:
    columns = tuple(
        replace(new, type=old.type, default=old.default, codec=old.codec)
        for old, new in zip(before.columns, after.columns, strict=True)
    )
    return replace(after, columns=columns, engine=before.engine, indexes=before.indexes)


async def _image(engine: Engine, database: str, table: str, source: DataSource) -> _Image:
    if refused := ddl.problems(source):
        raise refused[0]
    await engine.command(await checked(engine, ddl.create_table(source, database, table)))
    where = "database = {database:String} AND table = {table:String}"
    names = {"database": database, "table": table}
    columns = await engine.rows(
        "SELECT name, type, default_kind, default_expression, compression_codec FROM system.columns "
        f"WHERE {where} ORDER BY position",
        names,
    )
    indexes = await engine.rows(
        f"SELECT name, type_full, expr, toString(granularity) AS granularity FROM system.data_skipping_indices "
        f"WHERE {where} ORDER BY name",
        names,
    )
    (made,) = await engine.rows(
        "SELECT engine_full, partition_key, sorting_key, primary_key, sampling_key FROM system.tables "
        "WHERE database = {database:String} AND name = {table:String}",
        names,
    )
    full = str(made["engine_full"])
    head, ttl = _HEAD.match(full), _TTL.search(full)
    keys = [str(made[key]) for key in ("partition_key", "sorting_key", "primary_key", "sampling_key")]
    described = [head[1] if head else ""]
    described += [await _tree(engine, text) for text in (*keys, ttl[1] if ttl else "")]
    for column in columns:
        column["default_expression"] = await _tree(engine, str(column["default_expression"]))
    for index in indexes:
        index["expr"] = await _tree(engine, str(index["expr"]))
    return _Image(_rows(columns), _rows(indexes), tuple(described))


def _rows(rows: Collection[dict[str, object]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(map(str, row.values())) for row in rows)


async def _tree(engine: Engine, expression: str) -> str:
    """What the engine reads in it: `1 + 1` and `plus(1, 1)` are the same tree."""
    bare = _bare(expression)
    if not bare:
        return ""
    return (await engine.query(f"EXPLAIN AST SELECT {bare}", format="TSVRaw")).decode("utf-8", "replace")


def _bare(text: object) -> str:
    """Without brackets around all of it."""
    found = str(text).strip()
    while found.startswith("(") and is_one_group(found) and "," not in found:
        found = found[1:-1].strip()
    return found

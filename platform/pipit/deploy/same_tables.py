"""Whether two texts of a data source mean the same table: what the engine makes of both, compared.

`(a, b)` and `a, b`, `INTERVAL 30 DAY` and `toIntervalDay(30)`, `INT` and `Int32`, a primary key that repeats the
sorting key: the engine knows all of these, so both are made, empty, in a scratch database, and its own descriptions
are compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipit.catalog.snapshot import Snapshot
from pipit.datafiles.resources import Column, DataSource, Project
from pipit.deploy.compare import Same
from pipit.engine.client import Engine
from pipit.errors import PipitError, Unavailable
from pipit.sql.expressions import is_one_group
from pipit.tables import ddl
from pipit.tables.ddl_check import checked
from pipit.tables.scratch import scratch_database

_HEAD = re.compile(r"^(.*?)(?: PARTITION BY | PRIMARY KEY | ORDER BY | SAMPLE BY | TTL | SETTINGS |$)", re.DOTALL)
_TTL = re.compile(r" TTL (.*?)(?: SETTINGS .*)?$", re.DOTALL)


# What of the engine's line the engine describes together, before its keys.
_HEAD_FIELDS = ("name", "ver", "is_deleted", "sign", "version", "columns")
_KEYS = ("partition_key", "sorting_key", "primary_key", "sampling_key")


@dataclass(frozen=True, slots=True)
class _Column:
    type: str
    default: tuple[str, str]  # its kind, and what the engine reads in the expression
    codec: str


@dataclass(frozen=True, slots=True)
class _Image:
    """A table as the engine describes it, property by property."""

    columns: Mapping[str, _Column]
    indexes: Mapping[str, tuple[str, ...]]
    head: str
    clauses: Mapping[str, str]  # the keys and the TTL, by their fields' names


async def same_tables(engine: Engine, live: Snapshot, project: Project) -> dict[str, Same]:
    """The data sources that are written in another way than they are deployed, each with the live text's words for
    all that means the same: what then still differs is another table. Raises Unavailable."""
    changed = {
        name: (before, after)
        for name, after in project.datasources.items()
        if (before := live.project.datasources.get(name)) is not None and _table(before) != _table(after)
    }
    if not changed:
        return {}
    same: dict[str, Same] = {}
    async with scratch_database(engine) as database:
        defaults = await _default_settings(engine)
        for number, (name, (before, after)) in enumerate(changed.items()):
            try:
                old = await _image(engine, database, f"t{number}_0", before)
                new = await _image(engine, database, f"t{number}_1", after)
            except Unavailable:
                raise
            except PipitError:  # the validation says what is wrong with it
                continue
            settings = _settings(before, defaults) == _settings(after, defaults)
            said = _in_words_of(before, after, old, new, settings=settings)
            same[name] = Same(said, _types(old), _types(new))
    return same


def _types(image: _Image) -> dict[str, str]:
    return {name: column.type for name, column in image.columns.items()}


def _table(source: DataSource) -> DataSource:
    """What of it the table is made of."""
    bare = source.placeless()
    return DataSource("", "", tuple(replace(c, jsonpath=None) for c in bare.columns), bare.engine, indexes=bare.indexes)


async def _default_settings(engine: Engine) -> dict[str, str]:
    """What a table has that does not say it."""
    rows = await engine.rows("SELECT name, value FROM system.merge_tree_settings")
    return {str(row["name"]): str(row["value"]) for row in rows}


def _settings(source: DataSource, defaults: Mapping[str, str]) -> dict[str, str]:
    """What it says, without what is so anyway."""
    said = {name: value.strip("'\"") for name, value in source.engine.settings.items()}
    return {name: value for name, value in said.items() if defaults.get(name) != value}


def _in_words_of(before: DataSource, after: DataSource, old: _Image, new: _Image, *, settings: bool) -> DataSource:
    """`after`, with the words of `before` for each property that is the same in both."""
    columns = {column.name: column for column in before.columns}
    engine = {name: getattr(before.engine, name) for name in new.clauses if old.clauses[name] == new.clauses[name]}
    if old.head == new.head:
        engine |= {name: getattr(before.engine, name) for name in _HEAD_FIELDS}
    if settings:
        engine["settings"] = before.engine.settings
    return replace(
        after,
        columns=tuple(
            _column(columns[c.name], c, old.columns[c.name], new.columns[c.name]) if c.name in columns else c
            for c in after.columns
        ),
        engine=replace(after.engine, **engine),
        indexes=before.indexes if old.indexes == new.indexes else after.indexes,
    )


def _column(before: Column, after: Column, old: _Column, new: _Column) -> Column:
    return replace(
        after,
        type=before.type if old.type == new.type else after.type,
        default=before.default if old.default == new.default else after.default,
        codec=before.codec if old.codec == new.codec else after.codec,
    )


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
    clauses = {key: await _tree(engine, _key(str(made[key]))) for key in _KEYS}
    clauses["ttl"] = await _tree(engine, ttl[1] if ttl else "")
    return _Image(
        {
            str(column["name"]): _Column(
                str(column["type"]),
                (str(column["default_kind"]), await _tree(engine, str(column["default_expression"]))),
                str(column["compression_codec"]),
            )
            for column in columns
        },
        {
            str(index["name"]): (
                str(index["type_full"]),
                await _tree(engine, str(index["expr"])),
                str(index["granularity"]),
            )
            for index in indexes
        },
        head[1] if head else "",
        clauses,
    )


def _key(text: str) -> str:
    """`tuple()` is no key, as no line is."""
    return "" if text.strip() == "tuple()" else text


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

"""The DDL of a data source: pure text from typed resources. Names are quoted; expressions are the author's own, so
`problems` judges each of them first, and none is printed where it could end the clause that it stands in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from pipit.datafiles import ParseReport
from pipit.datafiles.resources import Column, DataSource, Index, Position
from pipit.errors import DatafileError
from pipit.sql.expressions import (
    ExpressionError,
    Kind,
    check_codec,
    check_column_name,
    check_expression,
    check_setting,
    check_type,
    is_one_group,
)
from pipit.sql.identifiers import quote
from pipit.tables.settings import table_settings

# What new ClickHouse refuses and real projects need; see docs/differences.
_COMPATIBLE: Mapping[str, str] = {
    "allow_nullable_key": "1",
    "allow_dimensions_outside_sorting_key": "1",
    "allow_suspicious_indices": "1",
}

_KEYS = ("sorting_key", "partition_key", "primary_key", "sampling_key", "columns")


def problems(datasource: DataSource) -> list[DatafileError]:
    """Every piece of the definition that is not what it should be, with its place."""
    found: list[DatafileError] = []
    for what, position, check in _pieces(datasource):
        try:
            check()
        except ExpressionError as error:
            message = f"{what} is refused: {error.message}"
            found.append(
                DatafileError(
                    message,
                    file=position.file or datasource.file,
                    line=position.line or 1,
                    column=position.column or 1,
                    hint=error.hint,
                    reason=error.reason,
                    subject=error.subject,
                )
            )
    return found


def _pieces(datasource: DataSource) -> Iterator[tuple[str, Position, Callable[[], object]]]:
    for column in datasource.columns:
        place, named = column.position, f"column '{column.name[:80]}'"
        yield f"The name of {named}", place, partial(check_column_name, column.name)
        if column.type:
            yield f"The type of {named}", place, partial(check_type, column.type)
        if column.default is not None:
            yield f"The DEFAULT of {named}", place, partial(check_expression, column.default, kind=Kind.DEFAULT)
        if column.codec:
            yield f"The CODEC of {named}", place, partial(check_codec, column.codec)
    place = position_of(datasource, "INDEXES")
    for index in datasource.indexes:
        yield f"The name of index '{index.name[:80]}'", place, partial(check_column_name, index.name)
        for what, text, kind in (("expression", index.expression, Kind.INDEX), ("type", index.type, Kind.INDEX_TYPE)):
            yield f"The {what} of index '{index.name}'", place, partial(check_expression, text, kind=kind)
    engine = datasource.engine
    for option in _KEYS:
        if text := getattr(engine, option):
            word = f"ENGINE_{option.upper()}"
            yield word, position_of(datasource, word), partial(check_expression, text, kind=Kind.KEY)
    for option in ("ver", "is_deleted", "sign", "version"):
        if name := getattr(engine, option):
            word = f"ENGINE_{option.upper()}"
            yield word, position_of(datasource, word), partial(check_column_name, name)
    if engine.ttl:
        yield "ENGINE_TTL", position_of(datasource, "ENGINE_TTL"), partial(check_expression, engine.ttl, kind=Kind.TTL)
    for name, value in engine.settings.items():
        yield "ENGINE_SETTINGS", position_of(datasource, "ENGINE_SETTINGS"), partial(check_setting, name, value)


def position_of(datasource: DataSource, word: str) -> Position:
    """Where the directive stands in the file."""
    found = re.search(rf"^[ \t]*{word}\b", datasource.text, re.MULTILINE)
    if found is None:
        return datasource.engine.position
    place = ParseReport(datasource.file, datasource.text, datasource.parts).position(found.end())
    return replace(place, column=1)


def create_table(datasource: DataSource, database: str, physical: str) -> str:
    lines = [column_definition(c) for c in datasource.columns]
    lines += [index_definition(i) for i in datasource.indexes]
    body = ",\n    ".join(lines)
    return (
        f"CREATE TABLE IF NOT EXISTS {quote(database)}.{quote(physical)}\n(\n    {body}\n)\n{engine_clause(datasource)}"
    )


def column_definition(column: Column) -> str:
    parts = [quote(column.name), column.type]
    if column.default is not None:
        parts.append(f"DEFAULT ({column.default})")
    if column.codec:
        parts.append(column.codec)
    return " ".join(p for p in parts if p)


def index_definition(index: Index) -> str:
    granularity = f" GRANULARITY {index.granularity}" if index.granularity else ""
    return f"INDEX {quote(index.name)} ({index.expression}) TYPE {index.type}{granularity}"


def engine_clause(datasource: DataSource) -> str:
    """ENGINE, keys, TTL and SETTINGS."""
    engine = datasource.engine
    if engine.name == "Null":
        return "ENGINE = Null"
    arguments: dict[str, list[str]] = {
        "ReplacingMergeTree": [_name(engine.ver), _name(engine.is_deleted)],
        "SummingMergeTree": [_tuple(engine.columns) if engine.columns else ""],
        "CollapsingMergeTree": [_name(engine.sign)],
        "VersionedCollapsingMergeTree": [_name(engine.sign), _name(engine.version)],
    }
    given = [a for a in arguments.get(engine.name, []) if a]
    clause = [f"ENGINE = {engine.name}({', '.join(given)})"]
    if engine.partition_key:
        clause.append(f"PARTITION BY {_tuple(engine.partition_key)}")
    if engine.primary_key:
        clause.append(f"PRIMARY KEY {_tuple(engine.primary_key)}")
    clause.append(f"ORDER BY {_tuple(engine.sorting_key) if engine.sorting_key else 'tuple()'}")
    if engine.sampling_key:
        clause.append(f"SAMPLE BY {_tuple(engine.sampling_key)}")
    if engine.ttl:
        clause.append(f"TTL {engine.ttl}")
    settings = engine_settings(datasource)
    clause.append("SETTINGS " + ", ".join(f"{name} = {value}" for name, value in settings.items()))
    return "\n".join(clause)


def engine_settings(datasource: DataSource) -> dict[str, str]:
    """All that the table is made with."""
    return {**_COMPATIBLE, **dict(datasource.engine.settings), **table_settings()}


def _name(column: str) -> str:
    return quote(column) if column else ""


def _tuple(expression: str) -> str:
    """A key's expression list in parentheses; `tuple()` and one already in them stay."""
    text = expression.strip()
    return text if text == "tuple()" or is_one_group(text) else f"({text})"

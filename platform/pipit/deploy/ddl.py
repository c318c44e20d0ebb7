"""The DDL of a data source: pure text from typed resources. Names are quoted; expressions are the author's own.

Every table carries a deduplication window (design, "A write": a replay must find its token in landing tables, targets
and quarantine alike), so the settings come from `ingest`, which knows how much can be pending.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipit.datafiles.resources import Column, DataSource, Index
from pipit.ingest import table_settings
from pipit.sql.identifiers import quote

# What new ClickHouse refuses and real projects need; see docs/differences.
_COMPATIBLE: Mapping[str, str] = {
    "allow_nullable_key": "1",
    "allow_dimensions_outside_sorting_key": "1",
    "allow_suspicious_indices": "1",
}


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
        parts.append(f"DEFAULT {column.default}")
    if column.codec:
        parts.append(column.codec)
    return " ".join(p for p in parts if p)


def index_definition(index: Index) -> str:
    granularity = f" GRANULARITY {index.granularity}" if index.granularity else ""
    return f"INDEX {quote(index.name)} {index.expression} TYPE {index.type}{granularity}"


def engine_clause(datasource: DataSource) -> str:
    """ENGINE, keys, TTL and SETTINGS."""
    engine = datasource.engine
    if engine.name == "Null":
        return "ENGINE = Null"
    arguments: dict[str, list[str]] = {
        "ReplacingMergeTree": [engine.ver, engine.is_deleted],
        "SummingMergeTree": [_tuple(engine.columns) if engine.columns else ""],
        "CollapsingMergeTree": [engine.sign],
        "VersionedCollapsingMergeTree": [engine.sign, engine.version],
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
    settings = {**_COMPATIBLE, **dict(engine.settings), **table_settings()}
    clause.append("SETTINGS " + ", ".join(f"{name} = {value}" for name, value in settings.items()))
    return "\n".join(clause)


def _tuple(expression: str) -> str:
    """A key's expression list in parentheses; `tuple()` and one already in them stay."""
    text = expression.strip()
    if text.startswith("(") and text.endswith(")") and _closes_at_end(text):
        return text
    return text if text == "tuple()" else f"({text})"


def _closes_at_end(text: str) -> bool:
    """Whether the first parenthesis is closed by the last: `(a), (b)` is not one group."""
    depth = 0
    for place, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return place == len(text) - 1
    return False

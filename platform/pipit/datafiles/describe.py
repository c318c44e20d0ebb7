"""Resources as text and as API objects: a `.datasource` printed again, `sql_schema`, the columns as the API has them.

Canonical order of a column: back-quoted name, type, JSON path, DEFAULT, CODEC (Tinybird's dialect).
What `print_datasource` prints parses back to an equal resource, apart from its places and its text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pipit.datafiles.engines import key_items
from pipit.datafiles.resources import Column, DataSource, Index, TableEngine
from pipit.sql.identifiers import quote

_OPTIONS = (
    "partition_key",
    "sorting_key",
    "primary_key",
    "sampling_key",
    "ttl",
    "ver",
    "is_deleted",
    "sign",
    "version",
    "columns",
)
_UNSAFE = re.compile(r"[^A-Za-z0-9_]")


def sql_schema(columns: Iterable[Column]) -> str:
    """The columns in one line, as `schema.sql_schema` of the API."""
    return ", ".join(column_text(column) for column in columns)


def column_text(column: Column) -> str:
    parts = [quote(column.name)]
    if column.type:
        parts.append(column.type)
    if column.jsonpath is not None:
        parts.append(f"`json:{column.jsonpath}`")
    if column.default is not None:
        parts.append(f"DEFAULT {column.default}")
    if column.codec is not None:
        parts.append(column.codec)
    return " ".join(parts)


def column_object(column: Column) -> dict[str, object]:
    """One column as the API has it. `Nullable(T)` is split; `LowCardinality(Nullable(T))` stays a type."""
    type_, nullable = column.type, False
    if type_.startswith("Nullable(") and type_.endswith(")"):
        type_, nullable = type_[len("Nullable(") : -1], True
    return {
        "name": column.name,
        "normalized_name": _UNSAFE.sub("_", column.name),
        "type": type_,
        "nullable": nullable,
        "default_value": None if column.default is None else f"DEFAULT {column.default}",
        "codec": column.codec,
        "jsonpath": column.jsonpath,
        "auto": False,
    }


def index_object(index: Index) -> dict[str, object]:
    return {"name": index.name, "expr": index.expression, "type_full": index.type, "granularity": index.granularity}


def engine_object(engine: TableEngine) -> dict[str, object]:
    """The `engine` object of the API: what was written, without what was not."""
    found: dict[str, object] = {"engine": engine.name, "engine_full": _engine_full(engine)}
    found.update({option: value for option in _OPTIONS if (value := getattr(engine, option))})
    return found


def datasource_type(source: DataSource) -> str:
    """The `type` of the API: where the rows come from."""
    if source.kafka:
        return "kafka"
    if source.postgres:
        return "postgres"
    if source.imports:
        uri = source.imports.get("IMPORT_BUCKET_URI", "")
        return "gcs" if uri.startswith("gs://") else source.imports.get("IMPORT_SERVICE", "s3")
    return "ndjson" if any(column.jsonpath for column in source.columns) else "csv"


def print_datasource(source: DataSource) -> str:
    """The data source as a `.datasource` file."""
    blocks: list[str] = [] if source.version is None else [f"VERSION {source.version}"]
    if source.description:
        blocks.append(_block("DESCRIPTION", source.description))
    head = [f'TOKEN "{grant.name}" {grant.permission}' for grant in source.tokens]
    if source.tags:
        head.append(f"TAGS {_quoted(', '.join(source.tags))}")
    blocks += ["\n".join(head)] if head else []
    # Columns without a place were added by a connector, which will do it again.
    written = [column for column in source.columns if column.position.line or not (source.kafka or source.imports)]
    blocks.append(_block("SCHEMA", ",\n".join(column_text(column) for column in written)))
    blocks.append("\n".join(_engine_lines(source.engine)))
    if source.indexes:
        blocks.append(_block("INDEXES", "\n".join(_index_text(index) for index in source.indexes)))
    if source.row_policy is not None:
        if source.row_policy.filters:
            blocks.append(_block("ROW_POLICY", source.row_policy.condition))
        else:
            blocks.append(f"ROW_POLICY none REASON {_quoted(source.row_policy.reason)}")
        if source.row_policy.optional:
            blocks.append(f"ROW_POLICY_OPTIONAL {', '.join(sorted(source.row_policy.optional))}")
    for settings in (source.kafka, source.imports, source.postgres):
        if settings:
            blocks.append("\n".join(_setting_text(name, value) for name, value in settings.items()))
    if source.shared_with:
        blocks.append(_block("SHARED_WITH", ",\n".join(source.shared_with)))
    if source.forward_query:
        blocks.append(_block("FORWARD_QUERY", source.forward_query))
    if source.backfill_skip:
        blocks.append("BACKFILL skip")
    return "\n\n".join(blocks) + "\n"


def _engine_lines(engine: TableEngine) -> list[str]:
    lines = [f'ENGINE "{engine.name}"']
    for option in _OPTIONS:
        value = getattr(engine, option)
        if value:
            lines.append(f"ENGINE_{option.upper()} {_quoted(value)}")
    if engine.settings:
        settings = ", ".join(f"{name}={value}" for name, value in engine.settings.items())
        lines.append(f"ENGINE_SETTINGS {_quoted(settings)}")
    return lines


def _engine_full(engine: TableEngine) -> str:
    """The engine as ClickHouse writes it, without replication."""
    arguments = [value for value in (engine.ver, engine.is_deleted, engine.sign, engine.version) if value]
    if engine.columns:
        arguments.append(f"({', '.join(key_items(engine.columns))})")
    clauses = [engine.name + (f"({', '.join(arguments)})" if arguments else "")]
    for word, value in (
        ("PARTITION BY", engine.partition_key),
        ("PRIMARY KEY", engine.primary_key),
        ("ORDER BY", engine.sorting_key),
        ("SAMPLE BY", engine.sampling_key),
    ):
        if value:
            clauses.append(f"{word} ({', '.join(key_items(value))})")
    if engine.ttl:
        clauses.append(f"TTL {engine.ttl}")
    if engine.settings:
        clauses.append("SETTINGS " + ", ".join(f"{name} = {value}" for name, value in engine.settings.items()))
    return " ".join(clauses)


def _index_text(index: Index) -> str:
    granularity = f" GRANULARITY {index.granularity}" if index.granularity is not None else ""
    return f"{quote(index.name)} {index.expression} TYPE {index.type}{granularity}"


def _setting_text(name: str, value: str) -> str:
    return _block(name, value) if "\n" in value else f"{name} {_quoted(value)}"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _block(name: str, text: str) -> str:
    lines = "\n".join(f"    {line}" if line.strip() else "" for line in text.split("\n"))
    return f"{name} >\n{lines}"

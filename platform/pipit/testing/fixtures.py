"""A project's fixtures into a fresh workspace: `fixtures/<data source>.ndjson|csv|parquet|sql`.

Classic's `datasources/fixtures/` too. Files are loaded as any file is, over HTTP, bad rows into the quarantine. A
`.sql` fixture is a SELECT whose rows are sent as events. Data sources that a view or a copy fills come after the
others, and only if they are still empty then, as `tb build` has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipit.catalog.snapshot import Snapshot, Table
from pipit.datafiles.resources import NodeType
from pipit.errors import PipitError
from pipit.ingest.limits import JSON_SETTINGS
from pipit.sql.identifiers import quote
from pipit.testing.harness import FreshWorkspace

FOLDERS = ("fixtures", "datasources/fixtures")
ENDINGS = ("ndjson", "jsonl", "csv", "parquet", "sql")
_FORMATS = {".csv": "csv", ".parquet": "parquet", ".ndjson": "ndjson", ".jsonl": "ndjson"}
_CHUNK_BYTES = 8 * 1024 * 1024  # below what one request may hold
_LOADING: dict[str, str | int | float] = {
    "date_time_input_format": "best_effort",
    "input_format_null_as_default": 1,
    "input_format_defaults_for_omitted_fields": 1,
    "input_format_parquet_allow_missing_columns": 1,
    "input_format_skip_unknown_fields": 1,
    **JSON_SETTINGS,
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one fixture brought. `problem` is empty when all of it is in the table."""

    file: str
    datasource: str
    rows: int = 0
    problem: str = ""


def fixture_of(project: Path, name: str) -> Path | None:
    for folder in FOLDERS:
        for ending in ENDINGS:
            path = project / folder / f"{name}.{ending}"
            if path.is_file():
                return path
    return None


async def load_fixtures(workspace: FreshWorkspace, project: Path) -> list[Loaded]:
    """Loads every fixture that has a data source. What goes wrong with one is in the answer, and stops no other."""
    snapshot = workspace.snapshot
    filled = filled_by_pipes(snapshot)
    found: list[Loaded] = []
    for name in sorted(snapshot.tables, key=lambda one: (one in filled, one)):
        path = fixture_of(project, name)
        if path is None or (name in filled and await count(workspace, snapshot.tables[name])):
            continue
        file = path.relative_to(project).as_posix()
        try:
            found.append(await _load(workspace, snapshot.tables[name], path, file))
        except (PipitError, OSError, UnicodeDecodeError) as problem:
            message = problem.message if isinstance(problem, PipitError) else str(problem)
            found.append(Loaded(file, name, 0, message))
    return found


def filled_by_pipes(snapshot: Snapshot) -> frozenset[str]:
    """The data sources that views and copies write to."""
    nodes = [node.node for pipe in snapshot.pipes.values() for node in pipe.nodes.values()]
    return frozenset(
        [n.datasource for n in nodes if n.type is NodeType.MATERIALIZED]
        + [n.target_datasource for n in nodes if n.type is NodeType.COPY]
    )


async def count(workspace: FreshWorkspace, table: Table) -> int:
    rows = await workspace.server.engine.rows(
        f"SELECT count() AS n FROM {quote(table.database)}.{quote(table.physical)}"
    )
    return int(rows[0]["n"])


async def _load(workspace: FreshWorkspace, table: Table, path: Path, file: str) -> Loaded:
    name = table.name
    if path.suffix == ".sql":
        reply = await workspace.post("/v0/sql", body=f"{_select(path)} FORMAT JSONEachRow".encode())
        if reply.status != 200:
            return Loaded(file, name, 0, reply.error)
        return await _send(workspace, table, _chunks(reply.body), file)
    if _is_state(table):
        before = await count(workspace, table)
        await _insert_states(workspace, table, path)
        return Loaded(file, name, await count(workspace, table) - before)
    return await _append(workspace, table, path, file)


async def _append(workspace: FreshWorkspace, table: Table, path: Path, file: str) -> Loaded:
    """As any file is loaded (`ingest/files`)."""
    format = _FORMATS[path.suffix]
    asked = {"mode": "append", "name": table.name, "format": format}
    reply = await workspace.post("/v0/datasources", asked, await asyncio.to_thread(path.read_bytes))
    if reply.status != 200 or not isinstance(reply.json, dict):
        return Loaded(file, table.name, 0, reply.error)
    rows, bad = int(reply.json["successful_rows"]), int(reply.json["quarantine_rows"])
    return Loaded(file, table.name, rows, await _why(workspace, table, bad) if bad else "")


async def _send(workspace: FreshWorkspace, table: Table, chunks: Iterator[bytes], file: str) -> Loaded:
    rows = bad = 0
    for chunk in chunks:
        reply = await workspace.post("/v0/events", {"name": table.name, "wait": "true"}, chunk)
        if reply.status not in (200, 202) or not isinstance(reply.json, dict):
            return Loaded(file, table.name, rows, reply.error)
        rows += int(reply.json["successful_rows"])
        bad += int(reply.json["quarantined_rows"])
    return Loaded(file, table.name, rows, await _why(workspace, table, bad) if bad else "")


async def _why(workspace: FreshWorkspace, table: Table, bad: int) -> str:
    reasons = await workspace.server.engine.rows(
        "SELECT concat(if(isNull(min(c__line)), '', concat('line ', toString(min(c__line)), ': ')), "
        f"arrayStringConcat(c__error, '; ')) AS why FROM {quote(table.database)}.{quote(table.quarantine)} "
        "GROUP BY c__error ORDER BY count() DESC, min(c__line), why LIMIT 1"
    )
    reason = f", such as: {reasons[0]['why']}" if reasons else ""
    return f"{bad} rows do not fit the schema and are in {table.name}_quarantine{reason}"


async def _insert_states(workspace: FreshWorkspace, table: Table, path: Path) -> None:
    """States, which events and files cannot fill, straight into the table, as the engine writes them."""
    columns = table.datasource.columns
    structure = ", ".join(f"{quote(column.name)} {column.type}" for column in columns)
    listed = ", ".join(quote(column.name) for column in columns)
    await workspace.server.engine.insert_file(
        f"{quote(table.database)}.{quote(table.physical)} ({listed})",
        f"SELECT {listed} FROM {{source}}",
        path,
        format={"csv": "CSVWithNames", "parquet": "Parquet"}.get(_FORMATS[path.suffix], "JSONEachRow"),
        structure=structure,
        settings=_LOADING,
    )


def _is_state(table: Table) -> bool:
    return any("AggregateFunction(" in column.type for column in table.datasource.columns)


def _select(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip().rstrip(";").rstrip()


def _chunks(content: bytes) -> Iterator[bytes]:
    """Whole lines, at most so many bytes at once."""
    start = 0
    while start < len(content):
        end = start + _CHUNK_BYTES
        if end < len(content):
            end = content.rfind(b"\n", start, end) + 1 or len(content)
        if content[start:end].strip():
            yield content[start:end]
        start = end

"""A project's fixtures into a fresh workspace: `fixtures/<data source>.ndjson|csv|parquet|sql`.

Classic's `datasources/fixtures/` too. NDJSON goes the way of events: over HTTP, through jsonpaths, bad rows into the
quarantine. CSV and Parquet are loaded by columns (by position where a CSV has no header). A `.sql` fixture is a SELECT
whose rows are sent as NDJSON. Data sources that a view or a copy fills come after the others, and only if they are
still empty then, as `tb build` has it.
"""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipit.catalog.snapshot import Snapshot, Table
from pipit.datafiles.resources import NodeType
from pipit.errors import PipitError, SqlError
from pipit.ingest import cast
from pipit.ingest.limits import JSON_SETTINGS
from pipit.ingest.types import parse, strip
from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string
from pipit.testing.harness import FreshWorkspace

FOLDERS = ("fixtures", "datasources/fixtures")
ENDINGS = ("ndjson", "jsonl", "csv", "parquet", "sql")
_CHUNK_BYTES = 8 * 1024 * 1024  # below what one request may hold
_LOADING: dict[str, str | int | float] = {
    "date_time_input_format": "best_effort",
    "input_format_null_as_default": 1,
    "input_format_defaults_for_omitted_fields": 1,
    "input_format_parquet_allow_missing_columns": 1,
    "input_format_skip_unknown_fields": 1,
    **JSON_SETTINGS,
}
# A line that cannot be taken apart is skipped, and counted.
_PAST_ERRORS = {"input_format_allow_errors_num": 1_000_000_000, "input_format_allow_errors_ratio": 1}


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
        except (PipitError, OSError, UnicodeDecodeError, csv.Error) as problem:
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
    if path.suffix in (".ndjson", ".jsonl") and not _is_state(table):
        return await _send(workspace, table, _chunks(await asyncio.to_thread(path.read_bytes)), file)
    before = await count(workspace, table)
    problem = await _insert(workspace, table, path)
    return Loaded(file, name, await count(workspace, table) - before, problem)


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
        f"SELECT arrayStringConcat(c__error, '; ') AS why FROM {quote(table.database)}.{quote(table.quarantine)} "
        "GROUP BY why ORDER BY count() DESC, why LIMIT 1"
    )
    reason = f", such as: {reasons[0]['why']}" if reasons else ""
    return f"{bad} rows do not fit the schema and are in {table.name}_quarantine{reason}"


async def _insert(workspace: FreshWorkspace, table: Table, path: Path) -> str:
    """By columns, straight into the table: CSV and Parquet, and what events cannot fill. Says what did not go in."""
    columns = table.datasource.columns
    types = {column.name: column.type for column in columns}
    format = {".csv": "CSV", ".parquet": "Parquet"}.get(path.suffix, "JSONEachRow")
    names = [column.name for column in columns]
    settings = dict(_LOADING)
    if format == "CSV":
        header = _header(path, frozenset(names))
        settings["input_format_csv_skip_first_lines"] = 1 if header else 0
        if set(header) <= types.keys():
            names = header or names
    cells = [Cell.of(name, types[name], format == "CSV") for name in names]
    structure = ", ".join(f"{quote(cell.name)} {cell.source}" for cell in cells)
    listed = ", ".join(map(quote, names))
    wrong = " OR ".join(cell.wrong for cell in cells if cell.wrong) or "false"
    into = f"{quote(table.database)}.{quote(table.physical)} ({listed})"
    # An alias of the name of a column would stand in its place in every other expression.
    values = ", ".join(f"{cell.value} AS _pipit_{n}" for n, cell in enumerate(cells))
    chosen = ", ".join(f"_pipit_{n} AS {quote(cell.name)}" for n, cell in enumerate(cells))
    select = f"SELECT {chosen} FROM (SELECT {values}, {wrong} AS _pipit_wrong FROM {{source}}) WHERE NOT _pipit_wrong"
    source = {"format": format, "structure": structure}
    engine = workspace.server.engine
    problems = []
    try:
        await engine.insert_file(into, select, path, settings=settings, **source)
    except SqlError as error:
        if format == "Parquet":
            raise
        settings |= _PAST_ERRORS
        await engine.insert_file(into, select, path, settings=settings, **source)
        (read,) = await engine.select_file("SELECT count() AS n FROM {source}", path, settings=settings, **source)
        problems.append(await asyncio.to_thread(_unread, path, names, int(read["n"]), error))
    if wrong != "false":
        problems.append(await _wrong_cells(workspace, path, cells, wrong, source, settings))
    return "; ".join(filter(None, problems))


@dataclass(frozen=True, slots=True)
class Cell:
    """A column as it is read from the file. A cell of CSV is a text: what it becomes is what that text would be in an
    event, but that `true` is 1 for a number, and a date may have any form that the engine knows.
    """

    name: str
    type: str
    source: str  # the type that the file is read with
    value: str
    wrong: str = ""  # the condition under which the cell is refused

    @classmethod
    def of(cls, name: str, type: str, is_text: bool) -> Cell:
        x = quote(name)
        inner, _ = strip(parse(type))
        if not is_text or not (inner.name in cast.CHECKED or inner.name.startswith("Decimal")):
            return cls(name, type, type, x)
        value = cast.of_cell(inner, x)
        return cls(name, type, "Nullable(String)", value, f"(isNotNull({x}) AND isNull({value}))")


async def _wrong_cells(
    workspace: FreshWorkspace,
    path: Path,
    cells: Sequence[Cell],
    wrong: str,
    source: Mapping[str, str],
    settings: Mapping[str, str | int | float],
) -> str:
    """How many rows have a cell that is no value of its column, and the first of these cells."""
    checked = [cell for cell in cells if cell.wrong]
    says = ", ".join(
        f"{cell.wrong}, concat('value \\'', substringUTF8({quote(cell.name)}, 1, 100), {quote_string(end)})"
        for cell in checked
        for end in [f"' on column '{cell.name}' is not {cell.type}"]
    )
    (row,) = await workspace.server.engine.select_file(
        f"SELECT count() AS n, any(_pipit_says) AS first "
        f"FROM (SELECT multiIf({says}, '') AS _pipit_says FROM {{source}} WHERE {wrong})",
        path,
        settings={**settings, "max_threads": 1},
        format=source["format"],
        structure=source["structure"],
    )
    return f"{row['n']} rows do not fit the schema and are left out, such as: {row['first']}" if int(row["n"]) else ""


def _unread(path: Path, names: Sequence[str], read: int, error: SqlError) -> str:
    """How many lines the engine could not take apart, and the first one, as far as it can be told."""
    if path.suffix != ".csv":
        lines = sum(1 for line in path.read_bytes().splitlines() if line.strip())
        return f"{max(lines - read, 1)} lines cannot be read and are left out: {error.message}"
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.reader(file)
        first, rows = "", 0
        for number, record in enumerate(reader):
            if number == 0 and set(names) & set(record):
                continue
            rows += bool(record)
            if record and len(record) != len(names) and not first:
                first = f"line {reader.line_num} has {len(record)} cells and not {len(names)}"
    return f"{max(rows - read, 1)} lines cannot be read and are left out: {first or error.message}"


def _header(path: Path, names: frozenset[str]) -> list[str]:
    """The first line, if one of its cells is a column's name; else the file has no header."""
    with path.open(encoding="utf-8", newline="") as file:
        first = next(csv.reader(file), [])
    return first if len(set(first)) == len(first) and names & set(first) else []


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

"""A project's fixtures as rows of its columns: what real data looks like."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipit import jsontext
from pipit.catalog.snapshot import Snapshot
from pipit.datafiles.resources import DataSource

_MOST_ROWS = 200
_MOST_BYTES = 1024 * 1024


def read_fixtures(folder: Path, snapshot: Snapshot) -> dict[str, list[Mapping[str, Any]]]:
    """Data source -> rows by column. What cannot be read is left out: fixtures only shape the data."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for name, table in snapshot.tables.items():
        for ending in ("ndjson", "csv"):
            path = folder / "fixtures" / f"{name}.{ending}"
            try:
                with path.open(encoding="utf-8") as file:
                    text = file.read(_MOST_BYTES)
                rows = _ndjson(text, table.datasource) if ending == "ndjson" else _csv(text, table.datasource)
            except (OSError, ValueError, csv.Error):
                continue
            if rows:
                found[name] = rows
                break
    return found


def _ndjson(text: str, datasource: DataSource) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    for line in text.splitlines()[:_MOST_ROWS]:
        if not line.strip():
            continue
        try:
            tree = jsontext.exact(line)
        except ValueError:
            break  # the file was cut here
        row: dict[str, Any] = {}
        for column in datasource.columns:
            path = (column.jsonpath or f"$.{column.name}").removeprefix("$")
            value: Any = tree
            for step in path.strip(".").split(".") if path.strip(".") else []:
                value = value.get(step) if isinstance(value, dict) and "[" not in step else None
            if value is not None:
                whole = isinstance(value, (dict, list)) and column.type.startswith(("String", "LowCardinality"))
                row[column.name] = jsontext.text(value) if whole else value
        if row:
            rows.append(row)
    return rows


def _csv(text: str, datasource: DataSource) -> list[Mapping[str, Any]]:
    lines = list(csv.reader(io.StringIO(text)))[:_MOST_ROWS]
    names = [column.name for column in datasource.columns]
    if lines and set(lines[0]) <= set(names):
        header, lines = lines[0], lines[1:]
    else:
        header = names
    return [dict(zip(header, line, strict=False)) for line in lines if len(line) == len(header)]

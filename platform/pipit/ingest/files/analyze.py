"""Which columns a file has, and a schema that would take it. The engine looks; a person decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pipit.engine.client import Engine
from pipit.errors import BadRequest, Reason, SqlError
from pipit.ingest.files.arrive import CSV, NDJSON, PARQUET
from pipit.ingest.types import Type, parse
from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string

_PREVIEW_ROWS = 10
_FORMATS = {CSV: "CSV", NDJSON: "JSONEachRow", PARQUET: "Parquet"}
_SETTINGS: dict[str, str | int | float] = {
    "input_format_try_infer_dates": 1,
    "input_format_try_infer_datetimes": 1,
    "input_format_max_rows_to_read_for_schema_inference": 100_000,
    "input_format_json_read_numbers_as_strings": 0,
    "input_format_csv_detect_header": 1,
    "input_format_allow_errors_num": 1000,
    "input_format_allow_errors_ratio": 0.1,
    "output_format_json_quote_64bit_integers": 0,
}


@dataclass(frozen=True, slots=True)
class FoundColumn:
    name: str
    path: str
    type: str
    expression: str

    @property
    def definition(self) -> str:
        return f"`{self.name}` {self.type} `json:{self.path}`"


def format_of(head: bytes) -> str:
    """By what it begins with."""
    if head.startswith(b"PAR1"):
        return PARQUET
    return NDJSON if head.lstrip()[:1] in (b"{", b"[") else CSV


async def analyzed(engine: Engine, path: Path, format: str, delimiter: str) -> dict[str, Any]:
    """The object of the API. Raises BadRequest where the engine cannot make out columns."""
    if not engine.embedded:
        raise BadRequest("Files are analyzed by the built-in engine only", reason=Reason.FORMAT_UNSUPPORTED)
    source = f"file({quote_string(str(path))}, '{_FORMATS[format]}')"
    settings = {**_SETTINGS, "format_csv_delimiter": delimiter}
    try:
        described = await engine.rows(f"DESCRIBE {source}", settings=settings)
        columns = [c for row in described for c in _columns(str(row["name"]), parse(" ".join(row["type"].split())))]
        present = ", ".join(f"avg(isNotNull({c.expression}))" for c in columns) or "0"
        (shares,) = await engine.rows(f"SELECT [{present}] AS shares FROM {source}", settings=settings)
        preview = await engine.query(f"SELECT * FROM {source} LIMIT {_PREVIEW_ROWS}", settings=settings, format="JSON")
    except SqlError as error:
        raise BadRequest(
            f"The file cannot be read as {format}",
            hint="Name its format, and of CSV what separates its cells (dialect_delimiter).",
            detail=error.message[:300],
            reason=Reason.BODY_INVALID,
        ) from None
    found = [_settled(c, float(share)) for c, share in zip(columns, shares["shares"], strict=True)]
    return {
        "analysis": {
            "columns": [
                {"path": c.path, "recommended_type": c.type, "present_pct": round(float(share), 4), "name": c.name}
                for c, share in zip(found, shares["shares"], strict=True)
            ],
            "schema": ", ".join(c.definition for c in found),
        },
        "preview": msgspec.json.decode(preview),
        "dialect": {"delimiter": delimiter} if format == CSV else {},
    }


def _columns(name: str, type: Type, path: str = "$", expression: str = "", label: str = "") -> Iterator[FoundColumn]:
    """Of objects, what is in them."""
    step = f"{path}.{name}" if name.replace("_", "").isalnum() else f"{path}['{name}']"
    at = f"tupleElement({expression}, {quote_string(name)})" if expression else quote(name)
    shown = f"{label}_{name}" if label else name
    inner = type.inner if type.name == "Nullable" else type
    if inner.name == "Tuple" and all(n for n, _ in inner.elements()):
        for element, of in inner.elements():
            yield from _columns(element, of, step, at, shown)
        return
    text = _plain(inner)
    yield FoundColumn(_name(shown), step + ("[:]" if inner.name == "Array" else ""), text, at)


def _plain(type: Type) -> str:
    """What a table should hold of what the engine saw in the file."""
    if type.name == "Array":
        inner = type.inner.inner if type.inner.name == "Nullable" else type.inner
        return f"Array({_plain(inner)})" if inner.name not in ("Array", "Tuple", "Map") else "Array(String)"
    if type.name in ("Tuple", "Map", "Nothing", "Variant", "Dynamic", "JSON"):
        return "String"
    return type.text


def _settled(column: FoundColumn, share: float) -> FoundColumn:
    """A value that may be missing is one that may be NULL."""
    if share >= 1 or column.type.startswith("Array("):
        return column
    return FoundColumn(column.name, column.path, f"Nullable({column.type})", column.expression)


def _name(text: str) -> str:
    name = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in text)
    return name if name and not name[0].isdigit() else f"_{name}"

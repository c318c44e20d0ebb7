"""The formats of endpoints: a URL's extension or an SQL text's FORMAT -> ClickHouse's name and a content type.

An allow-list: what is not here is refused (attack H06), because some formats of the engine read templates, schemas
or settings.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipit.errors import BadRequest, Reason
from pipit.sql.references import single_statement, trailing_clauses


@dataclass(frozen=True, slots=True)
class Format:
    name: str  # ClickHouse's
    content_type: str
    statistics: bool = False  # the format carries row counts of its own
    binary: bool = False  # a line of text behind it would be taken for data, or not be seen


JSON = Format("JSON", "application/json; charset=utf-8", statistics=True)
CSV = Format("CSVWithNames", "text/csv; charset=utf-8; header=present")
NDJSON = Format("JSONEachRow", "application/x-ndjson; charset=utf-8")
PARQUET = Format("Parquet", "application/vnd.apache.parquet", binary=True)

# GET /v0/pipes/<name>.<extension>
EXTENSIONS = {
    "json": JSON,
    "csv": CSV,
    "csvwithnames": CSV,
    "ndjson": NDJSON,
    "parquet": PARQUET,
}

_TEXT = "text/plain; charset=utf-8"
_TSV = "text/tab-separated-values; charset=utf-8"
TSV = Format("TSV", _TSV)

# `... FORMAT X` on /v0/sql
SQL_FORMATS = {
    f.name.lower(): f
    for f in (
        JSON,
        Format("CSV", "text/csv; charset=utf-8; header=absent"),
        CSV,
        TSV,
        Format("TSVWithNames", _TSV),
        Format("TabSeparated", _TSV),
        Format("TabSeparatedWithNamesAndTypes", _TSV),
        Format("PrettyCompact", _TEXT),
        NDJSON,
        PARQUET,
        Format("JSONStrings", "application/json; charset=utf-8", statistics=True),
        Format("JSONCompact", "application/json; charset=utf-8", statistics=True),
        Format("JSONCompactEachRow", "application/x-ndjson; charset=utf-8"),
        Format("JSONCompactEachRowWithNamesAndTypes", "application/x-ndjson; charset=utf-8"),
        Format("Native", "application/octet-stream", binary=True),
        Format("RowBinaryWithNamesAndTypes", "application/octet-stream", binary=True),
        Format("Markdown", "text/markdown; charset=utf-8"),
    )
}


# What a client may say of the output, as parameters of a request: how a value is written, never which. Each is 0 or 1.
OUTPUT_SETTINGS = (
    "output_format_json_quote_64bit_integers",
    "output_format_json_quote_64bit_floats",
    "output_format_json_quote_decimals",
    "output_format_json_quote_denormals",
    "output_format_json_escape_forward_slashes",
    "output_format_json_named_tuples_as_objects",
    "output_format_parquet_string_as_string",
)
_SWITCH = {"0": "0", "1": "1", "false": "0", "true": "1"}


def output_settings(sent: Iterable[tuple[str, object]]) -> dict[str, str]:
    """Those of a request's parameters that are settings of the output; the last one counts. Raises BadRequest."""
    found: dict[str, str] = {}
    for name, value in sent:
        if name in OUTPUT_SETTINGS:
            if isinstance(value, (list, dict)) or str(value).lower() not in _SWITCH:
                raise BadRequest(
                    f"The parameter '{name}' must be 0 or 1", reason=Reason.PARAMETER_INVALID, subject=name
                )
            found[name] = _SWITCH[str(value).lower()]
    return found


def split_format(text: str, default: Format) -> tuple[str, Format]:
    """A workspace's SQL without its FORMAT clause, and the format. Raises SqlError, BadRequest."""
    statement, found = single_statement(text), default
    for clause in trailing_clauses(statement):
        if clause.kind == "into":
            raise BadRequest("INTO OUTFILE is not allowed", reason=Reason.CLAUSE_REFUSED)
        if clause.kind == "format":
            if clause.value.lower() not in SQL_FORMATS:
                raise BadRequest(
                    f"The format '{clause.value[:40]}' is not supported",
                    hint=f"Use one of {', '.join(f.name for f in SQL_FORMATS.values())}.",
                    reason=Reason.FORMAT_UNSUPPORTED,
                )
            found = SQL_FORMATS[clause.value.lower()]
            statement = statement[: clause.start] + statement[clause.end :]
    return statement, found

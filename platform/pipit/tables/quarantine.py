"""The quarantine table of a data source: every refused row, with its reasons.

The columns are the dialect's: each column of the data source as Nullable(String), `c__error_column`,
`c__error`, `c__import_id` (the segment or import that brought the row), `insertion_date`. Three are ours: `c__record`
holds the whole line of what was not a JSON object at all, or has a shape that the columns cannot show; `c__file` and
`c__line` say where in a loaded file the row stands. The table belongs to the data source's owner; tenants' tokens do
not reach it. Rows stay until they are truncated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipit.datafiles.resources import Column, DataSource
from pipit.engine.client import Engine
from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string
from pipit.tables.settings import table_settings

QUARANTINE_COLUMNS = ("c__error_column", "c__error", "c__import_id", "insertion_date", "c__record")
_TYPES = ("Array(String)", "Array(String)", "Nullable(String)", "DateTime", "Nullable(String)")
PLACE_COLUMNS = (("c__file", "Nullable(String)"), ("c__line", "Nullable(UInt64)"))
# A data source's column of one of these names is not shown there.
OWN_COLUMNS = frozenset((*QUARANTINE_COLUMNS, *(name for name, _ in PLACE_COLUMNS)))


def create_quarantine(datasource: DataSource, database: str, physical: str) -> str:
    """A data source's column that is named as one of ours gives way."""
    own = [f"{quote(name)} {type}" for name, type in (*zip(QUARANTINE_COLUMNS, _TYPES, strict=True), *PLACE_COLUMNS)]
    listed = [quarantine_column(c) for c in datasource.columns if c.name not in OWN_COLUMNS]
    settings = ", ".join(f"{name} = {value}" for name, value in table_settings().items())
    return (
        f"CREATE TABLE IF NOT EXISTS {quote(database)}.{quote(physical)} ({', '.join([*listed, *own])}) "
        f"ENGINE = MergeTree ORDER BY insertion_date SETTINGS {settings}"
    )


def quarantine_column(column: Column) -> str:
    """The definition of a data source's column in its quarantine table."""
    return f"{quote(column.name)} Nullable(String)"


def add_place_columns(database: str, physical: str) -> str:
    """For a table that an older version made."""
    added = ", ".join(f"ADD COLUMN IF NOT EXISTS {quote(name)} {type}" for name, type in PLACE_COLUMNS)
    return f"ALTER TABLE {quote(database)}.{quote(physical)} {added}"


_GROUPS = 100  # of reasons that are shown, the ones with most rows
_SHOWN = 500  # characters of a value
_READING: Mapping[str, str | int] = {"readonly": 1}


@dataclass(frozen=True, slots=True)
class Counted:
    rows: int
    first: str = ""
    last: str = ""

    @property
    def shown(self) -> dict[str, Any]:
        return {"rows": self.rows, "first_seen": self.first or None, "last_seen": self.last or None}


async def filled(engine: Engine, database: str) -> frozenset[str]:
    """The tables of the database that have rows, quarantines and others."""
    rows = await engine.rows(
        "SELECT DISTINCT table FROM system.parts WHERE active AND rows > 0 AND database = {database:String}",
        {"database": database},
    )
    return frozenset(str(row["table"]) for row in rows)


async def counted(engine: Engine, database: str, physical: str) -> Counted:
    (row,) = await engine.rows(
        "SELECT count() AS n, toString(min(insertion_date)) AS first, toString(max(insertion_date)) AS last "
        f"FROM {quote(database)}.{quote(physical)}",
        settings=_READING,
    )
    return Counted(int(row["n"]), row["first"], row["last"]) if int(row["n"]) else Counted(0)


async def groups(engine: Engine, database: str, physical: str, samples: int) -> list[dict[str, Any]]:
    """The rows by what is wrong with them, the most first. A reason is shown without the value that it is about."""
    described = await engine.rows(
        "SELECT name FROM system.columns WHERE database = {database:String} AND table = {table:String} "
        "ORDER BY position",
        {"database": database, "table": physical},
    )
    names = [str(row["name"]) for row in described]
    shown = [name for name in names if name not in ("c__error_column", "c__error")]
    values = ", ".join(f"({quote_string(name)}, substringUTF8(toString({quote(name)}), 1, {_SHOWN}))" for name in shown)
    # The value, and the number of a place, differ from row to row.
    reason = "_pipit_r"
    for end in ("' on column ", "', the DEFAULT of "):
        pattern, instead = quote_string(f"(?s)^value '.*{end}"), quote_string(f"value ...{end.removeprefix(chr(39))}")
        reason = f"replaceRegexpOne({reason}, {pattern}, {instead})"
    found = await engine.rows(
        "SELECT c__error_column AS _pipit_columns, "
        f"arrayMap(_pipit_r -> substringUTF8({reason}, 1, {_SHOWN}), c__error) AS _pipit_reasons, "
        "count() AS _pipit_rows, toString(min(insertion_date)) AS _pipit_first, "
        "toString(max(insertion_date)) AS _pipit_last, "
        f"groupArray({max(samples, 1)})((c__error, arrayFilter(_pipit_v -> isNotNull(_pipit_v.2), [{values}]))) "
        f"AS _pipit_samples FROM {quote(database)}.{quote(physical)} "
        f"GROUP BY _pipit_columns, _pipit_reasons ORDER BY _pipit_rows DESC, _pipit_reasons LIMIT {_GROUPS}",
        settings=_READING,
    )
    return [
        {
            "columns": row["_pipit_columns"],
            "reasons": row["_pipit_reasons"],
            "rows": int(row["_pipit_rows"]),
            "first_seen": row["_pipit_first"],
            "last_seen": row["_pipit_last"],
            "samples": [_sample(*one) for one in row["_pipit_samples"][:samples]],
        }
        for row in found
    ]


def _sample(reasons: list[str], values: list[list[str]]) -> dict[str, Any]:
    return {**{str(name): value for name, value in values}, "c__error": reasons}

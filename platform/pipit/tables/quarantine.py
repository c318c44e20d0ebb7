"""The quarantine table of a data source: every refused row, with its reasons.

The columns are the dialect's: each column of the data source as Nullable(String), `c__error_column`,
`c__error`, `c__import_id` (the segment or import that brought the row), `insertion_date`. Three are ours: `c__record`
holds the whole line of what was not a JSON object at all, or has a shape that the columns cannot show; `c__file` and
`c__line` say where in a loaded file the row stands. The table belongs to the data source's owner; tenants' tokens do
not reach it. Rows stay until they are truncated.
"""

from __future__ import annotations

from pipit.datafiles.resources import Column, DataSource
from pipit.sql.identifiers import quote
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

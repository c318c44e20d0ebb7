"""The quarantine table of a data source: every refused row, with its reasons.

The columns are the dialect's: each column of the data source as Nullable(String), `c__error_column`,
`c__error`, `c__import_id` (the segment that brought the row), `insertion_date`. One is ours: `c__record`
holds the whole line of what was not a JSON object at all, or has a shape that the columns cannot show. It
belongs to the data source's owner, like the table itself; tenants' tokens do not reach it. Rows stay until
they are truncated.
"""

from __future__ import annotations

from pipit.datafiles.resources import Column, DataSource
from pipit.sql.identifiers import quote
from pipit.tables.settings import table_settings

QUARANTINE_COLUMNS = ("c__error_column", "c__error", "c__import_id", "insertion_date", "c__record")
_TYPES = ("Array(String)", "Array(String)", "Nullable(String)", "DateTime", "Nullable(String)")


def create_quarantine(datasource: DataSource, database: str, physical: str) -> str:
    """A data source's column that is named as one of ours gives way."""
    own = [f"{quote(name)} {type}" for name, type in zip(QUARANTINE_COLUMNS, _TYPES, strict=True)]
    listed = [quarantine_column(c) for c in datasource.columns if c.name not in QUARANTINE_COLUMNS]
    settings = ", ".join(f"{name} = {value}" for name, value in table_settings().items())
    return (
        f"CREATE TABLE IF NOT EXISTS {quote(database)}.{quote(physical)} ({', '.join([*listed, *own])}) "
        f"ENGINE = MergeTree ORDER BY insertion_date SETTINGS {settings}"
    )


def quarantine_column(column: Column) -> str:
    """The definition of a data source's column in its quarantine table."""
    return f"{quote(column.name)} Nullable(String)"

"""The quarantine table of a data source: every refused row, with its reasons (rule 3).

The columns are the dialect's: each column of the data source as Nullable(String), `c__error_column`,
`c__error`, `c__import_id` (the segment that brought the row), `insertion_date`. One is ours: `c__record`
holds the whole line of what was not a JSON object at all, or has a shape that the columns cannot show. It
belongs to the data source's owner, like the table itself; tenants' tokens do not reach it. Rows stay until
they are truncated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from pipit.datafiles.resources import Column
from pipit.ingest.limits import table_settings
from pipit.ingest.parse import QUARANTINE_COLUMNS, Reader
from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string

_TYPES = ("Array(String)", "Array(String)", "Nullable(String)", "DateTime", "Nullable(String)")


def columns(source: Sequence[Column]) -> tuple[tuple[str, str], ...]:
    """Names and types. A data source's column that is named as one of ours gives way."""
    own = zip(QUARANTINE_COLUMNS, _TYPES, strict=True)
    return (*((c.name, "Nullable(String)") for c in source if c.name not in QUARANTINE_COLUMNS), *own)


def create_table(database: str, table: str, source: Sequence[Column]) -> str:
    listed = ", ".join(f"{quote(name)} {type}" for name, type in columns(source))
    settings = ", ".join(f"{name} = {value}" for name, value in table_settings().items())
    return (
        f"CREATE TABLE IF NOT EXISTS {quote(database)}.{quote(table)} ({listed}) "
        f"ENGINE = MergeTree ORDER BY insertion_date SETTINGS {settings}"
    )


def insert_columns(reader: Reader) -> str:
    """The column list that goes with `Reader.bad_rows`."""
    names = [f.column.name for f in reader.shown]
    return ", ".join(quote(name) for name in (*names, *QUARANTINE_COLUMNS))


class _Accepted(Reader):
    """Shows, as `bad_rows`, the rows that nothing is wrong with for the reader."""

    @property
    def bad(self) -> str:
        return f"NOT ({super().bad})"


def refused_rows(reader: Reader, import_id: str, reasons: Sequence[str]) -> str:
    """Rows that read well and that the table did not take, with the engine's reasons: the n-th for the n-th row,
    and the last one for all that follow. It names no column: the engine does not say it.
    """
    rows = _Accepted(**{part.name: getattr(reader, part.name) for part in fields(reader)}).bad_rows(import_id)
    # A value of a client's may stand in a reason: it must not pass for the marker of the source.
    texts = ", ".join(quote_string(reason.replace("{", "(").replace("}", ")")) for reason in reasons)
    values = {
        "c__error_column": "['']",
        "c__error": f"[[{texts}][least(rowNumberInAllBlocks() + 1, {len(reasons)})]]",
    }
    names = [*(quote(f.column.name) for f in reader.shown), *QUARANTINE_COLUMNS]
    return f"SELECT {', '.join(f'{values[n]} AS {n}' if n in values else n for n in names)} FROM ({rows})"

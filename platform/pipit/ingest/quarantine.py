"""Statements that put refused rows into the quarantine table of their data source (`tables/quarantine.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from pipit.ingest.parse import Reader
from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string
from pipit.tables.quarantine import QUARANTINE_COLUMNS


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

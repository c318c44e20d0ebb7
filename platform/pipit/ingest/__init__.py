"""Ingestion: events into segments on disk, segments into tables, bad rows into the quarantine."""

from pipit.datafiles.resources import Column, DataSource
from pipit.ingest import quarantine
from pipit.ingest.body import read_body
from pipit.ingest.limits import DEDUPLICATION_WINDOW, table_settings
from pipit.ingest.log import Pending
from pipit.ingest.parse import problems
from pipit.ingest.service import AppendResult, Ingest, Target
from pipit.ingest.target import target_of
from pipit.sql.identifiers import quote


def create_quarantine(datasource: DataSource, database: str, physical: str) -> str:
    """DDL of the quarantine table."""
    return quarantine.create_table(database, physical, datasource.columns)


def quarantine_column(column: Column) -> str:
    """The definition of a data source's column in its quarantine table."""
    return f"{quote(column.name)} Nullable(String)"


__all__ = [
    "DEDUPLICATION_WINDOW",
    "AppendResult",
    "Ingest",
    "Pending",
    "Target",
    "create_quarantine",
    "problems",
    "quarantine_column",
    "read_body",
    "table_settings",
    "target_of",
]

"""A data source of the catalog as the writers of events see it."""

from __future__ import annotations

from pipit.catalog.snapshot import Table
from pipit.ingest.service import Target


def target_of(table: Table) -> Target:
    return Target(
        database=table.database,
        table=table.physical,
        quarantine_table=table.quarantine,
        columns=table.datasource.columns,
        partition_key=table.datasource.engine.partition_key,
        name=table.datasource.name,
    )

"""How topics are read, as rows of `tinybird.kafka_ops_log`: through the ingest, so they are on the disk like events."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from pipit.catalog.services import KAFKA_OPS_LOG, physical_name, quarantine_name
from pipit.catalog.snapshot import Snapshot
from pipit.connectors.source import Source
from pipit.connectors.status import Status
from pipit.errors import PipitError
from pipit.ingest import Ingest, Target
from pipit.tables.services import ServiceTables

log = logging.getLogger("pipit.connectors")

SECONDS = 10.0  # between two rows of a partition
NO_PARTITION = -1  # of a row about the whole topic


class OpsLog:
    def __init__(self, ingest: Ingest, tables: ServiceTables, *, seconds: float = SECONDS) -> None:
        self._ingest, self._tables, self._seconds = ingest, tables, seconds
        self._written: dict[tuple[str, str], float] = {}  # when the rows of a source were last written
        self._told: dict[tuple[str, str], tuple[str, str]] = {}

    async def write(self, snapshot: Snapshot, source: Source, status: Status) -> None:
        """What happened since the last time, if it is time or something is wrong. A failure is logged only."""
        rows = self._rows(snapshot, source, status)
        if not rows:
            return
        database = snapshot.workspace.database
        target = Target(
            database=database,
            table=physical_name(KAFKA_OPS_LOG),
            quarantine_table=quarantine_name(KAFKA_OPS_LOG),
            columns=KAFKA_OPS_LOG.columns,
            partition_key=KAFKA_OPS_LOG.engine.partition_key,
            name=KAFKA_OPS_LOG.name,
        )
        try:
            await self._tables.make(database)
            await self._ingest.append(target, b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
        except (PipitError, OSError) as error:
            log.info("%d rows of kafka_ops_log are lost: %s", len(rows), error)

    def _rows(self, snapshot: Snapshot, source: Source, status: Status) -> list[dict[str, object]]:
        identity, now = source.identity, time.monotonic()
        row = _row(snapshot, source)
        rows: list[dict[str, object]] = []
        told = (status.state, status.note)
        if told != self._told.get(identity):
            self._told[identity] = told
            if status.state in ("error", "waiting"):
                rows.append(row(NO_PARTITION, msg_type="error", msg=status.note, lag=status.lag))
        if now - self._written.get(identity, now - self._seconds) < self._seconds:
            return rows
        self._written[identity] = now
        for number, partition in status.partitions.items():
            done = partition.take()
            if done is None:
                continue
            bad = f"{done.bad} records are in quarantine" if done.bad else ""
            rows.append(
                row(
                    number,
                    msg_type="warning" if bad else "info",
                    msg=bad,
                    lag=partition.lag,
                    processed_messages=done.rows,
                    processed_bytes=done.bytes,
                    committed_messages=done.rows,
                    time_process=done.seconds_to_encode,
                    time_write=done.seconds_to_store,
                )
            )
        return rows


def _row(snapshot: Snapshot, source: Source) -> Callable[..., dict[str, object]]:
    id = snapshot.workspace.resource_id("datasource", source.name)
    at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")

    def made(partition: int, **values: object) -> dict[str, object]:
        return {
            "timestamp": at,
            "datasource_id": id,
            "topic": source.topic,
            "partition": partition,
            "processed_messages": 0,
            "processed_bytes": 0,
            "committed_messages": 0,
            "time_read": 0.0,
            "time_process": 0.0,
            "time_write": 0.0,
            **values,
        }

    return made

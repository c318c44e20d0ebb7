"""Operations on data sources, as rows of `tinybird.datasources_ops_log`: through the ingest, like events."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from pipit.catalog.services import DATASOURCES_OPS_LOG
from pipit.catalog.snapshot import Workspace
from pipit.errors import PipitError
from pipit.ingest import Ingest
from pipit.jobs.job import DELETE, DONE, IMPORT, SINK, SYNC, Job
from pipit.server.read_log import target_of
from pipit.tables.services import ServiceTables

log = logging.getLogger("pipit.server")


class OperationsLog:
    def __init__(self, ingest: Ingest, tables: ServiceTables) -> None:
        self._ingest = ingest
        self._tables = tables

    async def job(self, workspace: Workspace, job: Job) -> None:
        """Of a job that has ended. What a sync loads is there already, batch by batch; a sink changes nothing here."""
        if job.kind in (SYNC, SINK):
            return
        rows, bad = job.rows, int(job.result.get("quarantine_rows", 0))
        written = 0 if job.kind == DELETE else rows
        await self.write(
            workspace,
            event_type=_event_type(job),
            datasource=job.datasource,
            error="" if job.status == DONE else job.error or job.status,
            elapsed=seconds_between(job.started_at, job.updated_at),
            options={**job.parameters, "mode": job.mode},
            more={
                "import_id": job.id if job.kind == IMPORT else None,
                "job_id": job.id,
                "rows": rows,
                "rows_quarantine": bad,
                "operation_id": job.id,
                "written_rows": written,
                "written_bytes": job.bytes,
                "written_rows_quarantine": bad,
                "pipe_id": job.pipe_id if job.pipe else "",
                "pipe_name": job.pipe,
            },
        )

    async def write(
        self,
        workspace: Workspace,
        *,
        event_type: str,
        datasource: str,
        elapsed: float,
        error: str = "",
        options: Mapping[str, Any] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """Raises nothing: what was done is done, whether it can be written down or not."""
        given = {name: str(value) for name, value in (options or {}).items() if value}
        row = {
            "timestamp": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
            "event_type": event_type,
            "datasource_id": workspace.resource_id("datasource", datasource),
            "datasource_name": datasource,
            "result": "error" if error else "ok",
            "elapsed_time": round(elapsed, 3),
            "error": error or None,
            "options_names": list(given),
            "options_values": list(given.values()),
            **_NOTHING,
            **(more or {}),
        }
        try:
            await self._tables.make(workspace.database)
            line = msgspec.json.encode(row) + b"\n"
            await self._ingest.append(target_of(DATASOURCES_OPS_LOG, workspace.database), line)
        except PipitError as failure:
            log.warning("an operation on '%s' is not in datasources_ops_log: %s", datasource, failure)


_NOTHING: Mapping[str, Any] = {
    "request_id": "",
    "import_id": None,
    "job_id": None,
    "rows": None,
    "rows_quarantine": None,
    "blocks_ids": [],
    "operation_id": "",
    "read_rows": 0,
    "read_bytes": 0,
    "cpu_time": 0,
    "memory_usage": 0,
    "written_rows": 0,
    "written_bytes": 0,
    "written_rows_quarantine": 0,
    "written_bytes_quarantine": 0,
    "pipe_id": "",
    "pipe_name": "",
    "release": "",
    "resource_tags": [],
}


def _event_type(job: Job) -> str:
    return {IMPORT: job.mode, DELETE: "delete"}.get(job.kind, job.kind)


def seconds_between(start: str, end: str) -> float:
    if not (start and end):
        return 0.0
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()

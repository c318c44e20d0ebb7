"""Jobs that have ended, as rows of `tinybird.jobs_log`: through the ingest, so they are on the disk like events."""

from __future__ import annotations

import msgspec

from pipit.catalog.services import JOBS_LOG, SINKS_OPS_LOG
from pipit.catalog.snapshot import Workspace
from pipit.ingest import Ingest
from pipit.jobs.job import DONE, SINK, Job
from pipit.server.operations_log import OperationsLog, seconds_between
from pipit.server.read_log import target_of
from pipit.tables.services import ServiceTables


class TableJobLog:
    def __init__(self, ingest: Ingest, tables: ServiceTables, operations: OperationsLog) -> None:
        self._operations = operations
        self._ingest = ingest
        self._tables = tables

    async def write(self, workspace: Workspace, job: Job) -> None:
        await self._operations.job(workspace, job)
        await self._tables.make(workspace.database)
        if job.kind == SINK:
            line = msgspec.json.encode(_sink(job)) + b"\n"
            await self._ingest.append(target_of(SINKS_OPS_LOG, workspace.database), line)
        row = {
            "job_id": job.id,
            "job_type": job.kind,
            "status": job.status,
            "error": job.error or None,
            "workspace_id": workspace.id,
            "request_id": "",
            "pipe_id": job.pipe_id or None,
            "datasource_id": job.datasource_id or None,
            "created_at": job.created_at,
            "started_at": job.started_at or None,
            "updated_at": job.updated_at,
            "job_metadata": msgspec.json.encode(
                {"mode": job.mode, "rows": job.rows, "scheduled_for": job.scheduled_for, "parameters": job.parameters}
            ).decode(),
        }
        await self._ingest.append(target_of(JOBS_LOG, workspace.database), msgspec.json.encode(row) + b"\n")


def _sink(job: Job) -> dict[str, object]:
    """The row of `tinybird.sinks_ops_log`."""
    files = job.result.get("files", 0)
    return {
        "timestamp": job.updated_at[:23],
        "job_id": job.id,
        "service": job.result.get("service", ""),
        "pipe_name": job.pipe,
        "pipe_id": job.pipe_id,
        "result": "ok" if job.status == DONE else "error",
        "error": job.error or (None if job.status == DONE else job.status),
        "elapsed_time": round(seconds_between(job.started_at, job.updated_at), 3),
        "read_rows": job.rows,
        "read_bytes": 0,
        "written_rows": job.rows,
        "written_bytes": job.bytes,
        "cpu_time": 0,
        "output": job.result.get("file_names", []),
        "parameters": {name: str(value) for name, value in job.parameters.items()},
        "options": {**job.options, "files": str(files)},
        "token_name": job.asked_by,
    }

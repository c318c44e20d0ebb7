"""Looks at a data source's bucket now, and loads what is new there (`connectors/buckets/`)."""

from __future__ import annotations

import asyncio
import time

from pipit.catalog.snapshot import Snapshot
from pipit.connectors import Connectors
from pipit.errors import Unavailable
from pipit.jobs.job import SYNC, Job
from pipit.jobs.kinds import JobOutcome, Work
from pipit.query.read import Written

_PATIENCE_SECONDS, _PAUSE_SECONDS = 60.0, 0.5  # with a reader that a deploy replaces


class SyncJobs:
    """The job kind."""

    name = SYNC
    noun = "sync"
    lane = "syncs"
    alone = False

    def __init__(self, connectors: Connectors) -> None:
        self._connectors = connectors

    async def prepare(self, snapshot: Snapshot, job: Job) -> Work:
        """Raises NotFound, BadRequest."""
        self._connectors.check_bucket(snapshot, job.datasource)

        async def run() -> Written:
            until = time.monotonic() + _PATIENCE_SECONDS
            while True:
                try:
                    found = await self._connectors.sync(snapshot, job.datasource)
                    break
                except Unavailable:
                    if time.monotonic() > until:
                        raise
                await asyncio.sleep(_PAUSE_SECONDS)
            result = {
                "files": found.objects,
                "failed_files": found.failed,
                "successful_rows": found.rows,
                "quarantine_rows": found.quarantined,
            }
            return JobOutcome(found.rows, found.bytes, result)

        return Work(run, repeatable=True)

    async def clear(self, job: Job) -> None:
        """It keeps nothing."""

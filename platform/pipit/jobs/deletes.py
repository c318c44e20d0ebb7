"""Deletes the rows of a data source for which a condition holds. What views made of them stays.

The engine remembers what it has begun, under the job's id: a delete that a crash cut off is waited for, and never begun
a second time. So rows that came in after it began stay, whatever they are.
"""

from __future__ import annotations

from typing import Any

from pipit.catalog.snapshot import Snapshot, Table, Workspace
from pipit.engine.client import Engine
from pipit.errors import BadRequest, NotFound, Reason
from pipit.jobs import conditions
from pipit.jobs.job import DELETE, Job
from pipit.jobs.kinds import JobOutcome, Work
from pipit.jobs.live import LiveTables
from pipit.query.read import Written
from pipit.tables import Mode, rows

PROJECTION_MODES = ("", "throw", "drop", "rebuild")


class DeleteJobs:
    """The job kind. A job's parameters: `delete_condition`, and `lightweight`, `partition`, `projection_mode`."""

    name = DELETE
    noun = "delete"
    lane = "deletes"
    alone = False

    def __init__(self, engine: Engine, live: LiveTables) -> None:
        self._engine = engine
        self._live = live

    async def prepare(self, snapshot: Snapshot, job: Job) -> Work:
        """Raises NotFound, BadRequest and SqlError."""
        table, name = rows_of(snapshot, job.datasource)
        asked = {key: str(value) for key, value in job.parameters.items()}
        quarantine = name == table.quarantine
        condition = await conditions.checked(
            self._engine, table, asked.get("delete_condition", ""), "delete_condition", quarantine=quarantine
        )

        async def run() -> Written:
            return await self._run(snapshot.workspace, job, table, name, condition, asked)

        return Work(run, repeatable=True)

    async def clear(self, job: Job) -> None:
        """It keeps nothing."""

    async def _run(
        self, workspace: Workspace, job: Job, table: Table, name: str, condition: str, asked: dict[str, str]
    ) -> Written:
        lightweight = bool(asked.get("lightweight"))
        database = table.database
        count = 0
        # Of a quarantine the table too: both get a new generation together.
        # A replacement that has read rows which are deleted meanwhile would bring them back.
        async with self._live.acquire(workspace, [table], Mode.REPLACE, also=[(database, name)]):
            known = await rows.partitions(self._engine, database, name)
            wanted = asked.get("partition", "")
            chosen = next((id for value, id in known if wanted in (value, id)), "") if wanted else ""
            if await rows.mutation(self._engine, database, name, job.id) is None and (chosen or not wanted):
                async with self._live.acquire(workspace, [table], Mode.ALTER, also=[(database, name)]):
                    count = await rows.matching(self._engine, database, name, condition, chosen)
                    if count:
                        await rows.delete(
                            self._engine,
                            database,
                            name,
                            condition,
                            job.id,
                            lightweight=lightweight,
                            partition=chosen,
                            projections=asked.get("projection_mode", ""),
                        )
            await rows.ended(self._engine, database, name, job.id)
        scanned = [value for value, id in known if chosen in ("", id)] if not wanted or chosen else []
        result: dict[str, Any] = {"delete_id": job.id, "rows_affected": count}
        if lightweight:
            result["mutation"] = {
                "partitions_scanned": scanned,
                "partitions_done": scanned,
                "partitions_in_progress": [],
            }
        return JobOutcome(count, 0, result)


def rows_of(snapshot: Snapshot, name: str) -> tuple[Table, str]:
    """The data source, and the physical table that is meant: its own or its quarantine's. Raises NotFound."""
    table = snapshot.tables.get(name)
    if table is not None:
        return table, table.physical
    table = snapshot.tables.get(name.removesuffix("_quarantine"))
    if table is not None and name.endswith("_quarantine"):
        return table, table.quarantine
    raise NotFound(f'Data Source "{name[:200]}" does not exist', reason=Reason.DATASOURCE_NOT_FOUND, subject=name)


def projection_mode(text: str) -> str:
    """Raises BadRequest."""
    if text not in PROJECTION_MODES:
        raise BadRequest(
            f"'{text[:40]}' is not a projection_mode",
            hint="throw, drop or rebuild.",
            reason=Reason.PARAMETER_INVALID,
            subject="projection_mode",
        )
    return text

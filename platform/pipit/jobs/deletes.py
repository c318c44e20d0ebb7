"""Deletes the rows of a data source for which a condition holds, in every generation of its table. What views made of
them stays.

The engine remembers what it has begun, under the job's id: a delete that a crash cut off is waited for, and never begun
a second time. So rows that came in after it began stay, whatever they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipit.catalog.snapshot import Snapshot, Table, Workspace
from pipit.engine.client import Engine
from pipit.errors import BadRequest, NotFound, PipitError, Reason
from pipit.jobs import conditions
from pipit.jobs.job import DELETE, Job
from pipit.jobs.kept import Generation, KeptTables, refused_by
from pipit.jobs.kinds import JobOutcome, Work
from pipit.query.read import Written
from pipit.tables import Mode, rows

PROJECTION_MODES = ("", "throw", "drop", "rebuild")


class DeleteJobs:
    """The job kind. A job's parameters: `delete_condition`, and `lightweight`, `partition`, `projection_mode`."""

    name = DELETE
    noun = "delete"
    lane = "deletes"
    alone = False

    def __init__(self, engine: Engine, kept: KeptTables) -> None:
        self._engine = engine
        self._kept = kept

    async def prepare(self, snapshot: Snapshot, job: Job) -> Work:
        """Raises NotFound, BadRequest and SqlError."""
        table, name = rows_of(snapshot, job.datasource)
        asked = {key: str(value) for key, value in job.parameters.items()}
        quarantine = name == table.quarantine
        condition = await conditions.checked(
            self._engine, table, asked.get("delete_condition", ""), "delete_condition", quarantine=quarantine
        )
        generations = self._kept.of(snapshot.workspace, table.name)
        await self._check_each(generations, condition, quarantine, asked.get("partition", ""))

        async def run() -> Written:
            return await self._run(snapshot.workspace, job, table.name, quarantine, condition, asked)

        return Work(run, repeatable=True)

    async def clear(self, job: Job) -> None:
        """It keeps nothing."""

    async def _check_each(
        self, generations: Sequence[Generation], condition: str, quarantine: bool, partition: str
    ) -> None:
        """Raises BadRequest where a table of another deployment cannot tell which rows are meant."""
        key = generations[0].table.datasource.engine.partition_key
        for one in generations[1:]:
            try:
                await conditions.checked(self._engine, one.table, condition, "delete_condition", quarantine=quarantine)
            except PipitError as error:
                raise refused_by(one, error) from None
            if partition and one.table.datasource.engine.partition_key != key:
                raise refused_by(one, BadRequest("it has other partitions"))

    async def _run(
        self, workspace: Workspace, job: Job, name: str, quarantine: bool, condition: str, asked: dict[str, str]
    ) -> Written:
        """Begun in every generation at one moment, or in none."""
        lightweight = bool(asked.get("lightweight"))
        wanted = asked.get("partition", "")
        count = 0
        scanned: list[str] = []
        # A replacement that has read rows which are deleted meanwhile would bring them back.
        async with self._kept.acquire(workspace, name, Mode.REPLACE) as generations:
            await self._check_each(generations, condition, quarantine, wanted)
            places = [one.table.quarantine if quarantine else one.table.physical for one in generations]
            known = [await rows.mutation(self._engine, workspace.database, place, job.id) for place in places]
            if None in known:
                async with self._kept.altering(generations):
                    for one, place, mutation in zip(generations, places, known, strict=True):
                        parts = await rows.partitions(self._engine, workspace.database, place)
                        chosen = next((id for value, id in parts if wanted in (value, id)), "") if wanted else ""
                        if wanted and not chosen:
                            continue
                        number = await rows.matching(self._engine, workspace.database, place, condition, chosen)
                        if one.is_live:
                            count = number
                            scanned = [value for value, id in parts if chosen in ("", id)]
                        if mutation is None and number:
                            await rows.delete(
                                self._engine,
                                workspace.database,
                                place,
                                condition,
                                job.id,
                                lightweight=lightweight,
                                partition=chosen,
                                projections=asked.get("projection_mode", ""),
                            )
            for place in places:
                await rows.ended(self._engine, workspace.database, place, job.id)
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

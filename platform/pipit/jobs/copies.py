"""Copies: the rows of a copy pipe's node are appended to a table, or replace all of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

from pipit.catalog.build import node_error
from pipit.catalog.lineage import written_with
from pipit.catalog.snapshot import CompiledNode, CompiledPipe, Snapshot, Table
from pipit.errors import BadRequest, NotFound, Reason
from pipit.jobs.job import Job
from pipit.jobs.kinds import Work, read_for
from pipit.jobs.targets import FillsTables, match_of
from pipit.query.limits import COPY
from pipit.query.plan import Plan
from pipit.query.queries import copy_query
from pipit.query.read import Written
from pipit.tables import Mode, TableKey
from pipit.tables.staging import replace

APPEND, REPLACE = "append", "replace"
MODES = (APPEND, REPLACE)


class CopyJobs(FillsTables):
    """The job kind. A job's `made_at` is its pipe's `job_timestamp`."""

    name = COPY.name
    noun = "copy"
    lane = ""
    alone = True

    async def prepare(self, snapshot: Snapshot, job: Job) -> Work:
        """Raises what is wrong with the parameters, the SQL or the target."""
        pipe, node = copy_node(snapshot, job.pipe)
        target = snapshot.tables.get(node.node.target_datasource)
        if target is None:
            raise BadRequest(
                f"The data source '{node.node.target_datasource}', to which it copies, does not exist",
                reason=Reason.DATASOURCE_NOT_FOUND,
            )
        made_at = job.made_at or job.created_at[: len("2026-01-01 00:00:00")]  # older versions did not keep it
        query = copy_query(pipe.name, node.name, job.parameters, job_timestamp=made_at)
        plan = await self._reader.prepare(read_for(snapshot, job, query))
        reads_target = f"{target.database}.{target.physical}" in plan.composed.tables
        altered = [table.key for table in written_with(snapshot, target)]

        async def run() -> Written:
            return await self._run(plan, pipe, node, target, job.mode, altered)

        return Work(run, repeatable=job.mode == REPLACE and not reads_target)

    async def _run(
        self,
        plan: Plan,
        pipe: CompiledPipe,
        node: CompiledNode,
        target: Table,
        mode: str,
        altered: Sequence[TableKey],
    ) -> Written:
        """Runs to the end. If it is cancelled, the engine stops too, and an append may have left some rows.

        `altered`: the tables that take no inserts while the new table replaces the target.
        """
        match = await match_of(self._engine, plan, target)
        if not match.columns:
            raise node_error(
                pipe.pipe, node.node, f"No column of the query is a column of '{target.name}'", hint=""
            )

        write = self._writer(plan, target, match)
        if mode == APPEND:
            # A view that is made meanwhile must not see a half of the rows, nor a populate count a half twice.
            async with self._locks.acquire([target.key], Mode.APPEND):
                return await write(target.physical)
        altering = partial(self._locks.acquire, altered, Mode.ALTER)
        async with self._locks.acquire([target.key], Mode.REPLACE):
            if f"{target.database}.{target.physical}" not in plan.composed.tables:
                return await replace(self._engine, target, write, altering)
            async with altering():  # a row that comes after it was read would be lost
                return await replace(self._engine, target, write, nullcontext)


def copy_node(snapshot: Snapshot, name: str) -> tuple[CompiledPipe, CompiledNode]:
    """Raises NotFound, BadRequest."""
    pipe = snapshot.pipes.get(name)
    if pipe is None:
        raise NotFound(f"Pipe '{name[:200]}' not found", reason=Reason.PIPE_NOT_FOUND, subject=name)
    node = pipe.copy_node
    if node is None:
        raise BadRequest(
            f"'{pipe.name}' is not a copy pipe", hint="Its node has to be of TYPE copy.", reason=Reason.NODE_NOT_FOUND
        )
    return pipe, node


def mode_of(node: CompiledNode, asked: str) -> str:
    """Raises BadRequest."""
    mode = (asked or node.node.copy_mode).lower()
    if mode not in MODES:
        raise BadRequest(
            f"'{asked[:40]}' is not a mode of a copy",
            hint="_mode=append or _mode=replace.",
            reason=Reason.PARAMETER_INVALID,
            subject="_mode",
        )
    return mode

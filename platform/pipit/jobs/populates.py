"""Populates: fills the target of a materialized node from all rows of its source, on request.

Each row of the source is counted once. Nothing is inserted into the source meanwhile (events wait in their segments),
so a row is either read by the populate or goes through the view afterwards. Jobs that replace or change the target
wait as well. Rows that the view wrote to the target before are there twice, unless `truncate` replaces them; readers
see the old rows until all new ones are there.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

from pipit.catalog.lineage import leftmost_table, written_with
from pipit.catalog.snapshot import CompiledNode, CompiledPipe, Snapshot, Table
from pipit.datafiles.resources import NodeType
from pipit.errors import BadRequest, NotFound, Reason
from pipit.jobs.job import Job
from pipit.jobs.kinds import Work, read_for
from pipit.jobs.targets import FillsTables, match_of
from pipit.query.limits import POPULATE
from pipit.query.plan import Plan
from pipit.query.queries import populate_query
from pipit.query.read import Written
from pipit.sql.expressions import ExpressionError, check_condition
from pipit.sql.identifiers import quote
from pipit.tables import Mode, TableKey
from pipit.tables.staging import replace

_RANDOM_RANGE = 2**32  # of the engine's rand()


@dataclass(frozen=True, slots=True)
class _Asked:
    """`condition` is over the source's columns; empty for all rows."""

    truncate: bool
    subset: float
    condition: str


class PopulateJobs(FillsTables):
    """The job kind. A job's parameters are those of the request that asked for it."""

    name = POPULATE.name
    noun = "populate"
    lane = ""
    alone = True

    async def prepare(self, snapshot: Snapshot, job: Job) -> Work:
        """Raises NotFound, and BadRequest where the condition is none. One that starts anew is all or nothing."""
        pipe, node = materialized_node(snapshot, job.pipe, job.node)
        target = snapshot.tables[node.node.datasource]
        asked = _asked(job)
        sent = {name: str(value) for name, value in job.parameters.items()}
        whole = populate_query(pipe.name, node.name, sent, narrowed={})
        plan = await self._reader.prepare(read_for(snapshot, job, whole))
        source = snapshot.tables.get(leftmost_table(snapshot, plan.composed.sql))
        if source is None:
            raise BadRequest(f"The node '{node.name}' reads no data source, so there is nothing to fill it from")
        if condition := await self._condition(source, asked):
            some = populate_query(
                pipe.name, node.name, sent, narrowed={f"{source.database}.{source.physical}": condition}
            )
            plan = await self._reader.prepare(read_for(snapshot, job, some))
        reads_target = f"{target.database}.{target.physical}" in plan.composed.tables
        altered = _altered(snapshot, source, target, truncate=asked.truncate)

        async def run() -> Written:
            return await self._run(plan, target, altered, truncate=asked.truncate)

        return Work(run, repeatable=asked.truncate and not reads_target)

    async def _condition(self, source: Table, asked: _Asked) -> str:
        """Raises BadRequest, SqlError."""
        conditions: list[str] = []
        if asked.condition:
            await self._check(source, asked.condition)
            conditions.append(f"({asked.condition})")
        if asked.subset < 1:
            conditions.append(f"rand() < {int(asked.subset * _RANDOM_RANGE)}")
        return " AND ".join(conditions)

    async def _check(self, source: Table, condition: str) -> None:
        try:
            check_condition(condition)
        except ExpressionError as error:
            raise BadRequest(
                f"populate_condition: {error.message}",
                hint=f"Write one condition over the columns of '{source.name}', such as date >= '2026-01-01'.",
                reason=Reason.PARAMETER_INVALID,
                subject="populate_condition",
            ) from None
        where = f"{quote(source.database)}.{quote(source.physical)}"
        await self._engine.query(f"SELECT 1 FROM {where} WHERE ({condition}) LIMIT 0", settings={"readonly": 1})

    async def _run(self, plan: Plan, target: Table, altered: frozenset[TableKey], *, truncate: bool) -> Written:
        """Runs to the end. If it is cancelled, some rows may be in the target, unless it was to be truncated."""
        match = await match_of(self._engine, plan, target)
        write = self._writer(plan, target, match)
        if not truncate:
            async with self._locks.acquire(altered, Mode.ALTER, appending=[target.key]):
                return await write(target.physical)
        async with (
            self._locks.acquire([target.key], Mode.REPLACE),
            self._locks.acquire(altered, Mode.ALTER),
        ):
            return await replace(self._engine, target, write, nullcontext)


def materialized_node(snapshot: Snapshot, pipe: str, node: str) -> tuple[CompiledPipe, CompiledNode]:
    """`node`: its name or id. Raises NotFound, BadRequest."""
    found = snapshot.pipes.get(pipe)
    if found is None:
        raise NotFound(f"Pipe '{pipe[:200]}' not found", reason=Reason.PIPE_NOT_FOUND, subject=pipe)
    compiled = found.nodes.get(node) or next(
        (n for n in found.nodes.values() if snapshot.workspace.resource_id(f"node/{pipe}", n.name) == node), None
    )
    if compiled is None:
        raise NotFound(f"The pipe '{pipe}' has no node '{node[:200]}'", reason=Reason.NODE_NOT_FOUND, subject=node)
    if compiled.node.type is not NodeType.MATERIALIZED:
        raise BadRequest(
            f"The node '{compiled.name}' is not materialized",
            hint="It has no data source to be filled.",
            reason=Reason.NODE_NOT_FOUND,
        )
    return found, compiled


def _asked(job: Job) -> _Asked:
    """The route has checked the values."""
    sent = {name: str(value) for name, value in job.parameters.items()}
    return _Asked(
        truncate=sent.get("truncate", "").lower() in ("true", "1"),
        subset=float(sent.get("populate_subset") or 1),
        condition=sent.get("populate_condition", "").strip(),
    )


def _altered(snapshot: Snapshot, source: Table, target: Table, *, truncate: bool) -> frozenset[TableKey]:
    """The tables that take no inserts meanwhile."""
    names = {source.name, *source.sources} - {target.name}
    found = {snapshot.tables[name].key for name in names if name in snapshot.tables}
    return frozenset(found | {table.key for table in written_with(snapshot, target)} if truncate else found)

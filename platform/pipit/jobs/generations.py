"""The rows of a copy or a populate go into every generation of its target: the live table, that of the deployment
before, and that of one that waits to be live. Each runs its own pipe over its own tables, so that none lacks what the
others have; one that fails is in the job's result. (Loads and deletes see to that themselves: `kept.py`.)

While a generation is being filled the job waits for its target (`Mode.REBUILD`); what it wrote before is in the fill.
"""

from __future__ import annotations

import logging

from pipit.catalog.catalog import Catalog
from pipit.catalog.snapshot import Snapshot
from pipit.datafiles.resources import NodeType
from pipit.errors import Forbidden, NotFound, PipitError
from pipit.jobs.job import Job
from pipit.jobs.kinds import JobKind, JobOutcome, Work
from pipit.jobs.loads import missing_in
from pipit.query.limits import COPY
from pipit.query.read import Written

log = logging.getLogger("pipit.jobs")


class InEveryGeneration:
    """A kind of jobs that does so."""

    def __init__(self, catalog: Catalog, kind: JobKind) -> None:
        self._catalog = catalog
        self._kind = kind

    @property
    def name(self) -> str:
        return self._kind.name

    @property
    def noun(self) -> str:
        return self._kind.noun

    @property
    def lane(self) -> str:
        return self._kind.lane

    @property
    def alone(self) -> bool:
        return self._kind.alone

    async def clear(self, job: Job) -> None:
        await self._kind.clear(job)

    async def prepare(self, snapshot: Snapshot, job: Job) -> Work:
        work = await self._kind.prepare(snapshot, job)
        if not job.pipe:
            return work

        async def run() -> Written:
            written = await work.run()
            result = dict(written.result) if isinstance(written, JobOutcome) else {}
            failed = await self._elsewhere(snapshot, job)
            return JobOutcome(written.rows, written.bytes, {**result, **missing_in(failed)})

        return Work(run, work.repeatable)

    async def _elsewhere(self, snapshot: Snapshot, job: Job) -> dict[int, PipitError]:
        """In the generations that there are once the rows are written; what failed, by deployment."""
        workspace = snapshot.workspace
        done = {_target(snapshot, job), ""}
        failed: dict[int, PipitError] = {}
        if len(done) == 1:
            return failed
        try:
            kept = self._catalog.kept(workspace.id, workspace.environment)
        except (NotFound, Forbidden):  # it is deleted
            return {}
        for other in kept:
            target = _target(other, job)
            if target in done:
                continue
            done.add(target)
            try:
                await (await self._kind.prepare(other, job)).run()
            except PipitError as error:
                log.warning(
                    "the %s of '%s' failed in deployment %d, which is kept: %s",
                    self.noun,
                    job.pipe,
                    other.deployment,
                    error,
                )
                failed[other.deployment] = error
        return failed


def _target(snapshot: Snapshot, job: Job) -> str:
    """The physical table that the job fills; '' where its pipe is not in that deployment."""
    pipe = snapshot.pipes.get(job.pipe)
    if pipe is None:
        return ""
    for node in pipe.nodes.values():
        is_copy = node.node.type is NodeType.COPY and job.kind == COPY.name
        is_view = node.node.type is NodeType.MATERIALIZED and job.kind != COPY.name
        named = job.node in (node.name, snapshot.workspace.resource_id(f"node/{job.pipe}", node.name))
        if is_copy or (is_view and named):
            name = node.node.target_datasource if is_copy else node.node.datasource
            return snapshot.tables[name].physical if name in snapshot.tables else ""
    return ""

"""A job's rows go into every generation of its target: the live table, that of the deployment before, and that of one
that waits to be live. Each runs its own pipe over its own tables, so that none lacks what the others have.

While a generation is being filled the job waits for its target (`Mode.REBUILD`); what it wrote before is in the fill.
"""

from __future__ import annotations

import logging

from pipit.catalog.catalog import Catalog
from pipit.catalog.snapshot import Snapshot
from pipit.datafiles.resources import NodeType
from pipit.errors import Conflict, Forbidden, NotFound, PipitError, Reason
from pipit.jobs.job import Job
from pipit.jobs.kinds import JobKind, Work
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
            self._check_nothing_waits(snapshot, job)

        async def run() -> Written:
            written = await work.run()
            await self._elsewhere(snapshot, job)
            return written

        return Work(run, work.repeatable)

    def _check_nothing_waits(self, snapshot: Snapshot, job: Job) -> None:
        """What is loaded from a file, or deleted, is so in the live table alone. Raises Conflict."""
        waits = self._catalog.beside(snapshot.workspace.id, snapshot.workspace.environment).staging
        mine, theirs = snapshot.tables.get(job.datasource), waits and waits.snapshot.tables.get(job.datasource)
        if waits and mine and theirs and mine.physical != theirs.physical:
            raise Conflict(
                f"Deployment {waits.row.id}, which waits to be live, has a new table for '{job.datasource}'",
                hint="Promote or discard it first (`pipit deployment`): what is loaded or deleted now would be lost.",
                reason=Reason.DEPLOYMENT_WAITS,
                subject=str(waits.row.id),
            )

    async def _elsewhere(self, snapshot: Snapshot, job: Job) -> None:
        """In the generations that there are once the rows are written; one that fails is said in the log."""
        workspace = snapshot.workspace
        done = _target(snapshot, job)
        try:
            kept = self._catalog.kept(workspace.id, workspace.environment)
        except (NotFound, Forbidden):  # it is deleted
            return
        for other in kept:
            target = _target(other, job)
            if target in ("", done) or not done:
                continue
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

"""All jobs of a server: it starts, cancels and schedules them, and stores them in the state.

A job is written to the state before its work begins. So after a restart the server knows which jobs waited and which
were running:

- A job that waited runs now.
- A job that was running runs again if it is all or nothing, like a replacement that does not read what it replaces.
- Any other job that was running ends with an error. It is not run again.

The row of a scheduled run has its minute, and each minute runs once. After a downtime only the latest missed run is
made up for. Copies of one pipe do not overlap: a second request is refused, a second scheduled run is skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from pipit.catalog.catalog import Catalog
from pipit.catalog.snapshot import Snapshot, Workspace
from pipit.catalog.state import now
from pipit.errors import BadRequest, Conflict, NotFound, PipitError, Reason, Unavailable
from pipit.jobs import copies, populates, schedule, sinks
from pipit.jobs.generations import InEveryGeneration
from pipit.jobs.job import CANCELLED, CANCELLING, DONE, ERROR, MISSING_IN, SINK, WAITING, WORKING, Job
from pipit.jobs.kept import check_not_made
from pipit.jobs.kinds import JobKind, JobOutcome, Work
from pipit.query.limits import COPY, POPULATE
from pipit.query.read import Written
from pipit.templates import RequestValue

log = logging.getLogger("pipit.jobs")

_AT_ONCE = 4  # jobs of a lane that work, of all workspaces; others wait
_KEPT = 100  # of each database and kind
_KEPT_FOR = timedelta(hours=96)  # longer than a previous deployment is kept
_MISSED = timedelta(days=1)  # how late a scheduled run may still be made up for
_TICK_SECONDS = 5.0
_PATIENCE_SECONDS = 60.0  # with an engine that is away when a job's state is to be written
_PAUSE_SECONDS = 0.2
_INSIDE = "It failed inside Pipit; the server's log says how."
_CUT_OFF = "The server stopped while it ran. It did not run again by itself, because some of its rows may be there"


class JobLog(Protocol):
    """Writes a job that has ended to `tinybird.jobs_log`."""

    async def write(self, workspace: Workspace, job: Job) -> None: ...


class Jobs:
    """For one event loop. Call `start` first, and `close` before the engine stops."""

    def __init__(
        self,
        catalog: Catalog,
        kinds: Iterable[JobKind],
        *,
        job_log: JobLog | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._catalog = catalog
        self._kinds: dict[str, JobKind] = {kind.name: InEveryGeneration(catalog, kind) for kind in kinds}
        self._job_log = job_log
        self._left: list[tuple[str, Job]] = []  # by a server that stopped: database_id and job, oldest first
        self._clock = clock
        self._jobs: dict[str, dict[str, Job]] = {}  # by database and id, oldest first
        self._paused: dict[str, frozenset[str]] = {}  # by database: names of pipes
        self._resumed: dict[tuple[str, str], datetime] = {}  # by database and pipe: earlier runs are not made up
        self._tasks: dict[str, asyncio.Task[None]] = {}  # by job
        self._cancelling: set[str] = set()
        self._awaited: dict[str, int] = {}  # how many requests wait for the end of a job
        self._failures: dict[str, PipitError] = {}  # of those
        self._slots: dict[str, asyncio.Semaphore] = {}  # by lane
        self._ticking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Reads the jobs back, goes on with what was left, and begins to look at schedules."""
        await self.read_back()
        await self.go_on()
        self._ticking = asyncio.create_task(self._tick(), name="pipit schedules")

    async def read_back(self) -> None:
        """Reads the jobs of the last days. Those that a stopped server left open stay so only if they can run again."""
        for database_id, fields in await self._catalog.state.jobs(since=datetime.now(UTC) - _KEPT_FOR):
            self._jobs.setdefault(database_id, {})[fields["id"]] = msgspec.convert(fields, Job)
        for row in await self._catalog.state.paused_copies():
            if row.paused:
                self._paused[row.database_id] = self._paused.get(row.database_id, frozenset()) | {row.pipe}
            else:
                self._resumed[row.database_id, row.pipe] = row.at
        for database_id, jobs in self._jobs.items():
            for job in [job for job in jobs.values() if job.is_open and job.id not in self._tasks]:
                if job.status == CANCELLING:
                    await self._put(database_id, replace(job, status=CANCELLED, updated_at=now()))
                elif job.status == WAITING or job.repeatable:
                    jobs[job.id] = replace(job, status=WAITING, started_at="")
                    self._left.append((database_id, jobs[job.id]))
                else:
                    await self._put(database_id, replace(job, status=ERROR, error=_CUT_OFF, updated_at=now()))
        self._left.sort(key=lambda left: left[1].created_at)

    async def go_on(self) -> None:
        """Runs the jobs that `read_back` left open, with the definitions that are live now."""
        snapshots = {snapshot.workspace.database_id: snapshot for snapshot in self._catalog.everywhere}
        left, self._left = self._left, []
        for database_id, job in left:
            snapshot = snapshots.get(database_id)
            if snapshot is None:
                await self._put(database_id, replace(job, status=ERROR, error="Its database is gone", updated_at=now()))
                continue
            log.info("the %s of '%s', which waited or was cut off when the server stopped, runs", job.kind, job.pipe)
            self._begin(snapshot.workspace, job, Work(partial(self._again, snapshot, job), job.repeatable))

    async def _again(self, snapshot: Snapshot, job: Job) -> Written:
        work = await self._kind(job.kind).prepare(snapshot, job)
        database_id = snapshot.workspace.database_id
        known = self._jobs[database_id][job.id]
        if work.repeatable != known.repeatable:  # its definition has changed meanwhile
            await self._put(database_id, replace(known, repeatable=work.repeatable))
        return await work.run()

    async def close(self) -> None:
        """Cancels running jobs. The next start goes on as after a crash."""
        tasks = [*self._tasks.values(), *([self._ticking] if self._ticking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- what people ask for

    async def copy(
        self,
        snapshot: Snapshot,
        name: str,
        values: Mapping[str, RequestValue],
        *,
        mode: str = "",
        asked_by: str = "",
        scheduled_for: str = "",
    ) -> Job:
        """Starts a copy; its job is written when this returns.

        Raises NotFound, BadRequest, Conflict where one of the pipe's is under way, and what is wrong with the SQL.
        """
        pipe, node = copies.copy_node(snapshot, name)
        mode = copies.mode_of(node, mode)
        job = self._new(snapshot, COPY.name, pipe.name, node.node.target_datasource)
        job = replace(job, mode=mode, parameters=dict(values), asked_by=asked_by, scheduled_for=scheduled_for)
        return await self._start(snapshot, replace(job, made_at=schedule.text_of(self._clock())))

    async def sink(
        self,
        snapshot: Snapshot,
        name: str,
        values: Mapping[str, RequestValue],
        *,
        options: Mapping[str, str] | None = None,
        asked_by: str = "",
        scheduled_for: str = "",
    ) -> Job:
        """Starts a sink; its job is written when this returns. `options`: in the place of the node's EXPORT_ words.

        Raises NotFound, BadRequest, Conflict where one of the pipe's is under way, and what is wrong with the SQL.
        """
        pipe, _ = sinks.sink_node(snapshot, name)
        job = self._new(snapshot, SINK, pipe.name, "")
        job = replace(job, parameters=dict(values), asked_by=asked_by, scheduled_for=scheduled_for)
        made_at = schedule.text_of(self._clock())
        return await self._start(snapshot, replace(job, made_at=made_at, options=dict(options or {})))

    async def populate(
        self, snapshot: Snapshot, name: str, node: str, *, parameters: Mapping[str, Any], asked_by: str = ""
    ) -> Job:
        """Starts what fills the target of a materialized node. `parameters` are those of `populates`.

        Raises NotFound, BadRequest, and Conflict where one of the pipe's is under way.
        """
        pipe, compiled = populates.materialized_node(snapshot, name, node)
        job = self._new(snapshot, POPULATE.name, pipe.name, compiled.node.datasource)
        job = replace(job, node=compiled.name, parameters=dict(parameters), asked_by=asked_by)
        return await self._start(snapshot, job)

    async def work_on(
        self,
        snapshot: Snapshot,
        kind: str,
        datasource: str,
        *,
        id: str = "",
        mode: str = "",
        parameters: Mapping[str, Any] | None = None,
        asked_by: str = "",
        owner: str = "",
        result: Mapping[str, Any] | None = None,
    ) -> Job:
        """Starts a job on a data source. `owner`: who may ask after it; `result`: what it shows until it ends.

        Raises what its kind does when it prepares: then there is no job.
        """
        job = self._new(snapshot, kind, "", datasource, id)
        job = replace(job, mode=mode, parameters=dict(parameters or {}), asked_by=asked_by, owner=owner)
        return await self._start(snapshot, replace(job, result=dict(result or {})))

    def known(self, snapshot: Snapshot, id: str) -> Job | None:
        return self._jobs.get(snapshot.workspace.database_id, {}).get(id)

    def missing_in(self, database_id: str, deployment: int) -> list[Job]:
        """The jobs whose rows that deployment lacks, though it is kept: they failed there. One that was run again
        since, and writes all that there is, made good for those before."""
        found: list[Job] = []
        for job in self._jobs.get(database_id, {}).values():
            if str(deployment) in job.result.get(MISSING_IN, {}):
                found.append(job)
            elif job.status == DONE and job.pipe and job.writes_all:
                found = [one for one in found if (one.kind, one.pipe, one.node) != (job.kind, job.pipe, job.node)]
        return found

    @property
    def open_ids(self) -> frozenset[str]:
        """Of all jobs that have not ended, in every database."""
        return frozenset(job.id for jobs in self._jobs.values() for job in jobs.values() if job.is_open)

    def open_counts(self) -> Mapping[tuple[str, str], int]:
        """How many wait or work, by kind and status, in every database."""
        return Counter((job.kind, job.status) for jobs in self._jobs.values() for job in jobs.values() if job.is_open)

    def _new(self, snapshot: Snapshot, kind: str, pipe: str, target: str, id: str = "") -> Job:
        workspace = snapshot.workspace
        return Job(
            id=id or str(uuid.uuid4()),
            kind=kind,
            status=WAITING,
            created_at=now(),
            pipe=pipe,
            pipe_id=workspace.resource_id("pipe", pipe),
            datasource=target,
            datasource_id=workspace.resource_id("datasource", target),
        )

    async def _start(self, snapshot: Snapshot, job: Job) -> Job:
        """Raises Conflict, and what its kind does when it prepares: then there is no job."""
        workspace, database_id, kind = snapshot.workspace, snapshot.workspace.database_id, self._kind(job.kind)
        under_way = [j for j in self._jobs.get(database_id, {}).values() if j.is_open and j.kind == job.kind]
        if kind.alone and any(j.pipe == job.pipe for j in under_way):
            raise Conflict(
                f"A {kind.noun} of '{job.pipe}' is under way",
                hint="Try again when it is done, or cancel it.",
                reason=Reason.JOB_IN_PROGRESS,
            )
        if not job.pipe:
            check_not_made(self._catalog, workspace, job.datasource.removesuffix("_quarantine"))
        # Taken before the first wait: two requests at once must not both find the pipe free.
        self._jobs.setdefault(database_id, {})[job.id] = job
        try:
            work = await kind.prepare(snapshot, job)
            job = replace(job, repeatable=work.repeatable)
            await self._put(database_id, job)
        except BaseException:
            del self._jobs[database_id][job.id]
            raise
        self._begin(workspace, job, work)
        return job

    def _kind(self, name: str) -> JobKind:
        """Raises BadRequest for a kind that this server does not have."""
        kind = self._kinds.get(name)
        if kind is None:
            raise BadRequest(f"This server does not run jobs of the kind '{name}'")
        return kind

    def listed(self, snapshot: Snapshot, *, kind: str = "", status: str = "") -> list[Job]:
        """Newest first."""
        jobs = reversed(self._jobs.get(snapshot.workspace.database_id, {}).values())
        return [job for job in jobs if kind in ("", job.kind) and status in ("", job.status)]

    def waiting_for(self, job: Job) -> str:
        """What a job that waits, waits for; empty for others."""
        if job.status != WAITING:
            return ""
        waiting = {j.id for jobs in self._jobs.values() for j in jobs.values() if j.status == WAITING}
        before = 0
        for id in self._tasks:  # in the order in which they get a database_id
            if id == job.id:
                break
            before += id in waiting
        return f"a free place: {_AT_ONCE} jobs of this server run at once, and {before} wait before this one"

    def job(self, snapshot: Snapshot, id: str) -> Job:
        """Raises NotFound, for a job of another workspace too."""
        found = self._jobs.get(snapshot.workspace.database_id, {}).get(id)
        if found is None:
            raise NotFound(f"Job '{id[:80]}' not found", reason=Reason.JOB_NOT_FOUND)
        return found

    async def cancel(self, snapshot: Snapshot, id: str) -> Job:
        """Raises NotFound, and BadRequest for one that has ended."""
        job = self.job(snapshot, id)
        task = self._tasks.get(id)
        if task is None or job.status not in (WAITING, WORKING):
            raise BadRequest(f"The job is {job.status}: it cannot be cancelled", reason=Reason.JOB_ENDED)
        job = replace(job, status=CANCELLING, updated_at=now())
        self._jobs[snapshot.workspace.database_id][id] = job
        self._end(id, task)
        return job

    async def end(self, database_ids: Iterable[str], *, pipes: Collection[str] | None = None) -> None:
        """Cancels what runs in these databases, which are about to go, and waits for it. `pipes`: only theirs."""
        ids = [
            id
            for database_id in database_ids
            for id, job in self._jobs.get(database_id, {}).items()
            if id in self._tasks and (pipes is None or job.pipe in pipes)
        ]
        tasks = [self._tasks[id] for id in ids]
        for id, task in zip(ids, tasks, strict=True):
            self._end(id, task)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, id: str, task: asyncio.Task[None]) -> None:
        self._cancelling.add(id)
        # Not at once: a task that is cancelled before its first step never runs, and nobody would write its end.
        asyncio.get_running_loop().call_soon(task.cancel)

    async def cancel_copies(self, snapshot: Snapshot, name: str) -> list[Job]:
        """Those of a pipe that are under way. Raises NotFound."""
        pipe, _ = copies.copy_node(snapshot, name)
        open_ones = [j for j in self.listed(snapshot, kind=COPY.name) if j.pipe == pipe.name and j.id in self._tasks]
        return [await self.cancel(snapshot, job.id) for job in open_ones if job.status in (WAITING, WORKING)]

    async def pause(self, snapshot: Snapshot, name: str, *, paused: bool) -> None:
        """A paused copy does not run on its schedule; on demand it does. Raises NotFound, BadRequest."""
        pipe, node = copies.copy_node(snapshot, name)
        if node.node.copy_schedule.startswith("@"):
            raise BadRequest(
                f"'{pipe.name}' has no schedule", hint="It runs on demand only.", reason=Reason.SCHEDULE_MISSING
            )
        database_id = snapshot.workspace.database_id
        await self._catalog.state.put_paused_copy(database_id, pipe.name, paused=paused)
        rest = self._paused.get(database_id, frozenset()) - {pipe.name}
        if not paused and pipe.name in self._paused.get(database_id, frozenset()):
            self._resumed[database_id, pipe.name] = self._clock()
        self._paused[database_id] = rest | {pipe.name} if paused else rest

    def is_paused(self, snapshot: Snapshot, name: str) -> bool:
        return name in self._paused.get(snapshot.workspace.database_id, frozenset())

    async def outcome(self, snapshot: Snapshot, id: str) -> Job:
        """Waits for the end of a job, and returns it when it is done. Raises why it is not."""
        task = self._tasks.get(id)
        if task is not None:
            self._awaited[id] = self._awaited.get(id, 0) + 1
            try:
                await asyncio.wait([task])
            finally:
                self._awaited[id] -= 1
        failure = self._failures.get(id)
        if not self._awaited.get(id):
            self._awaited.pop(id, None)
            self._failures.pop(id, None)
        if failure is not None:
            raise failure
        job = self.job(snapshot, id)
        if job.status in (WAITING, WORKING):  # the server stops, and goes on with it when it starts
            raise Unavailable("The server is stopping", retry_after=2, reason=Reason.SERVER_STOPPING)
        if job.status != DONE:
            raise BadRequest(job.error or f"The job is {job.status}", reason=Reason.JOB_ENDED)
        return job

    async def ended(self, id: str) -> None:
        """Waits for the end of a job of this server."""
        task = self._tasks.get(id)
        if task is not None:
            await asyncio.wait([task])

    # --- schedules

    async def _tick(self) -> None:
        while True:
            try:
                await self.run_due()
            except PipitError as error:
                log.warning("schedules cannot be looked at now: %s", error)
            except Exception:  # it must not end while the server runs
                log.exception("schedules cannot be looked at now")
            await asyncio.sleep(_TICK_SECONDS)

    async def run_due(self) -> list[Job]:
        """Starts each copy and sink whose minute has come and has not run, in every workspace and environment."""
        until = schedule.minute(self._clock())
        started: list[Job] = []
        for snapshot in self._catalog.everywhere:
            for one in schedule.scheduled(snapshot):
                name = one.pipe.name
                due = schedule.last_due(one.cron, self._last_run(snapshot, name, one.kind), until)
                if due is None or (one.kind == COPY.name and self.is_paused(snapshot, name)):
                    continue
                start = self.copy if one.kind == COPY.name else self.sink
                try:
                    started.append(
                        await start(snapshot, name, {}, asked_by="schedule", scheduled_for=schedule.text_of(due))
                    )
                except Conflict:
                    log.info("the %s '%s' of %s is skipped: the one before still runs", one.kind, name, due)
                    await self._skipped(snapshot, one, due, f"The {one.kind} before it was still running")
                except Unavailable:
                    raise  # the engine is away: it is tried again
                except PipitError as error:
                    await self._skipped(snapshot, one, due, error.message)
                except Exception:  # of one pipe; the others go on
                    log.exception("the %s '%s' of %s cannot be started", one.kind, name, due)
                    await self._skipped(snapshot, one, due, _INSIDE)
        return started

    def _last_run(self, snapshot: Snapshot, pipe: str, kind: str) -> datetime:
        """The last minute that has been seen to: an older one does not run any more."""
        known = [
            datetime.fromisoformat(job.scheduled_for).replace(tzinfo=UTC)
            for job in self._jobs.get(snapshot.workspace.database_id, {}).values()
            if (job.pipe, job.kind) == (pipe, kind) and job.scheduled_for
        ]
        database_id = snapshot.workspace.database_id
        resumed = self._resumed.get((database_id, pipe)) if kind == COPY.name else None
        known += [schedule.minute(resumed)] if resumed else []
        if not known:  # a schedule begins with the deployment that brought it
            known = [schedule.minute(datetime.fromisoformat(snapshot.created_at).replace(tzinfo=UTC))]
        return max(*known, schedule.minute(self._clock()) - _MISSED)

    async def _skipped(self, snapshot: Snapshot, one: schedule.Scheduled, due: datetime, why: str) -> None:
        """A run that did not begin is a job, too: somebody has to see it."""
        workspace = snapshot.workspace
        job = replace(
            self._new(snapshot, one.kind, one.pipe.name, one.target),
            status=ERROR,
            updated_at=now(),
            mode=one.node.node.copy_mode if one.kind == COPY.name else "",
            asked_by="schedule",
            scheduled_for=schedule.text_of(due),
            error=why,
        )
        await self._put(workspace.database_id, job)
        await self._log(workspace, job)

    # --- running

    def _begin(self, workspace: Workspace, job: Job, work: Work) -> None:
        task = asyncio.create_task(self._run(workspace, job, work), name=f"pipit job {job.id}")
        self._tasks[job.id] = task

        def over(_: asyncio.Task[None]) -> None:
            self._tasks.pop(job.id, None)
            self._cancelling.discard(job.id)

        task.add_done_callback(over)

    async def _run(self, workspace: Workspace, job: Job, work: Work) -> None:
        database_id = workspace.database_id
        ended: dict[str, Any]
        try:
            async with self._places(job.kind):
                job = replace(job, status=WORKING, started_at=now(), updated_at=now())
                await self._put_patiently(database_id, job)
                written = await work.run()
            ended = {"status": DONE, "rows": written.rows, "bytes": written.bytes}
            if isinstance(written, JobOutcome):
                ended["result"] = {**job.result, **written.result}
        except asyncio.CancelledError:
            job = self._jobs[database_id].get(job.id, job) if job.status == WORKING else job
            if job.id in self._cancelling:
                ended = {"status": CANCELLED}
            elif job.status == WAITING or job.repeatable:
                return  # the server stops; as it stands in the state, the next one goes on with it
            else:
                ended = {"status": ERROR, "error": _CUT_OFF}
        except PipitError as error:
            ended = {"status": ERROR, "error": error.message}
            if job.id in self._awaited:
                self._failures[job.id] = error
        except Exception:
            log.exception("the job %s failed", job.id)
            ended = {"status": ERROR, "error": _INSIDE}
        job = replace(job, updated_at=now(), **ended)
        self._jobs[database_id][job.id] = job
        with contextlib.suppress(PipitError):  # the engine stays away: at the next start it counts as stopped
            await self._put_patiently(database_id, job)
        await self._log(workspace, job)
        kind = self._kinds.get(job.kind)
        if kind is not None:
            await kind.clear(job)

    def _places(self, kind: str) -> asyncio.Semaphore:
        return self._slots.setdefault(self._kind(kind).lane, asyncio.Semaphore(_AT_ONCE))

    async def _put_patiently(self, database_id: str, job: Job) -> None:
        """Waits for an engine that is away: it is mostly back soon. Raises Unavailable."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                await self._put(database_id, job)
                return
            except Unavailable:
                if time.monotonic() > until:
                    raise
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _put(self, database_id: str, job: Job) -> None:
        await self._catalog.state.put_job(database_id, job.id, msgspec.to_builtins(job))
        jobs = self._jobs.setdefault(database_id, {})
        jobs[job.id] = job
        for old in _too_many(jobs.values()):
            del jobs[old]

    async def _log(self, workspace: Workspace, job: Job) -> None:
        if self._job_log is None:
            return
        try:
            await self._job_log.write(workspace, job)
        except PipitError as error:
            log.warning("the job %s is not in jobs_log: %s", job.id, error)


def _too_many(jobs: Iterable[Job]) -> list[str]:
    """The oldest that are over the number that is kept, and have ended; of each pipe its last scheduled run stays."""
    listed = list(jobs)
    last = {(job.pipe, job.kind): job.id for job in listed if job.scheduled_for}
    found: list[str] = []
    for kind in {job.kind for job in listed}:
        of_kind = [job for job in listed if job.kind == kind]
        ended = [
            job.id
            for job in of_kind
            if not job.is_open and job.id not in last.values() and MISSING_IN not in job.result
        ]
        found += ended[: max(len(of_kind) - _KEPT, 0)]
    return found

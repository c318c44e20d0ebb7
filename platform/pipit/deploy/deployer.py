"""The one way to change what is deployed.

A deploy makes one plan (`planner.py`), complete with every refusal, before anything is touched; then it carries out
that plan (`execute.py`). `check` stops in between, so both say the same. A workspace's environments follow its own
database (`environments.py`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pipit.catalog.build import build_snapshot
from pipit.catalog.catalog import Catalog, Deployed
from pipit.catalog.names import first_names
from pipit.catalog.snapshot import Snapshot
from pipit.catalog.state import TokenRow, now
from pipit.datafiles import parse_project, with_secrets
from pipit.datafiles.resources import Project
from pipit.datafiles.resources import Warning as ProjectWarning
from pipit.deploy.append_check import AppendCheck
from pipit.deploy.carry import carries
from pipit.deploy.compare import Allowed
from pipit.deploy.compared import compared
from pipit.deploy.environments import EnvironmentOutcome, Environments
from pipit.deploy.execute import Executor
from pipit.deploy.leftovers import drop_columns_of_none, drop_database, drop_leftovers, finish_alterations
from pipit.deploy.plan import DeployRefused, Plan, refusals_of
from pipit.deploy.planner import Change, make_plan, restored, unchanged
from pipit.deploy.progress import Making
from pipit.deploy.routes import generations_of
from pipit.deploy.targets import with_targets
from pipit.deploy.tokens import datafile_tokens
from pipit.deploy.touched import stamp, touched
from pipit.deploy.validate import validate
from pipit.deploy.views import matches_of, must_make_views_again
from pipit.engine.client import Engine
from pipit.errors import Conflict, DatafileError, NotFound, PipitError, ProjectError, Reason, Unavailable
from pipit.ingest import Generations, Ingest
from pipit.ingest.match import Match
from pipit.jobs import Jobs
from pipit.jobs.job import MISSING_IN, Job
from pipit.tables import Locks
from pipit.tables.sizes import free_bytes, sizes_in

log = logging.getLogger("pipit.deploy")

Result = TypeVar("Result")

_PATIENCE_SECONDS = 30.0  # longer than an engine restart takes


@dataclass(frozen=True, slots=True)
class Outcome:
    """`result` is the dialect's: success, no_changes, failed (with `check`: what would have happened)."""

    result: str
    plan: Plan
    snapshot: Snapshot
    warnings: tuple[ProjectWarning, ...] = ()
    seconds: float = 0.0
    environments: tuple[EnvironmentOutcome, ...] = ()
    staged: Snapshot | None = None  # what was made and waits to be live


class Deployer:
    def __init__(
        self,
        engine: Engine,
        catalog: Catalog,
        ingest: Ingest,
        locks: Locks,
        *,
        jobs: Jobs | None = None,
        patience: float = _PATIENCE_SECONDS,
        keep_previous: bool = True,
        reads: Callable[[], int] = lambda: 0,
    ) -> None:
        """`jobs`: those of what is dropped end before. `patience`: how long a caller waits for an engine that went
        away; what has to be done is done after. `keep_previous`: whether the deployment before stays beside what is
        live, and takes every event. `reads`: how many queries were begun, to which a fill gives way."""
        self._engine = engine
        self._catalog = catalog
        self._ingest = ingest
        self._jobs = jobs
        self.appends = AppendCheck(engine)
        self._busy: set[str] = set()
        self._going: dict[str, asyncio.Future[Any]] = {}  # what goes on when its caller leaves, by workspace
        self._resumed: dict[str, asyncio.Future[Any]] = {}  # those of them that a start goes on with
        self._sound: dict[str, Snapshot] = {}  # by place: what was live when its views were last looked at
        self._updating: dict[str, asyncio.Future[tuple[EnvironmentOutcome, ...]]] = {}
        self._executor = Executor(
            engine,
            catalog,
            ingest,
            locks,
            self.appends,
            jobs,
            patience=patience,
            keep_previous=keep_previous,
            reads=reads,
        )
        self._environments = Environments(engine, catalog, self._executor)

    @property
    def unsettled(self) -> Mapping[str, asyncio.Future[bool]]:
        """By place: what deploys still have to finish or take back."""
        return self._executor.unsettled

    async def deploy(
        self,
        workspace_id: str,
        files: Mapping[str, str],
        *,
        check: bool = False,
        allow_destructive: bool = False,
        allow_weaker: bool = False,
        promote: bool = True,
        unthrottled: bool = False,
        regressions: Callable[[Snapshot, Project], Sequence[DatafileError]] | None = None,
    ) -> Outcome:
        """With `check` the plan alone: what this call would do without it, or the error that it would raise. Without
        `promote` it is made and filled and takes every event, and nothing is live of it until `promote` is called: no
        live table is altered for it. New tables are filled with the engine's whole power where it is `unthrottled`;
        else queries come first. Once that has begun it goes on when the caller leaves, and after a restart of the
        server; a deploy that comes meanwhile waits for one that a start goes on with.

        Raises DeployRefused with everything that is wrong, Conflict when a deploy is under way. `regressions` says what
        the project confines less than what is live (`audit.policy_regression`). `allow_weaker` says that it may.
        """
        started = time.monotonic()
        if not check and workspace_id in self._resumed:
            await asyncio.wait({self._resumed[workspace_id]})
        async with self._exclusive(workspace_id):
            live = self._catalog.snapshot(workspace_id)
            if not check:
                self._check_nothing_waits(workspace_id)
            try:
                project = await self._project(live, files)
                weaker = regressions(live, project) if regressions is not None else ()
            except ProjectError as error:
                raise DeployRefused(refusals_of(error.errors)) from None
            allowed = Allowed(allow_destructive, allow_weaker)
            change = await self._change(live, project, allowed, weaker, waits=not promote)
            if change:
                plan = make_plan(change, await sizes_in(self._engine, live.workspace.database))
            else:
                plan = unchanged(live, project.warnings)
            again = self._kept_as(live, project) if change and promote else None
            if change and again is not None:
                plan = restored(change, plan, again.snapshot)
            plan.check()
            outcome = Outcome("success" if change else "no_changes", plan, live, plan.warnings)
            matches = change.matches if change else None
            if check:
                environments = await self._environments.plan(workspace_id, plan.snapshot, matches, waits=not promote)
            elif change and (plan.rebuilds or not promote):
                work = self._carry_out(change, plan, outcome, promote=promote, unthrottled=unthrottled)
                outcome = await self._to_the_end(workspace_id, work)
                environments = outcome.environments
            else:
                if change and again is not None and plan.go_live is not None:
                    snapshot = await self._executor.switch(live.workspace, again, under=plan.go_live.row)
                    outcome = replace(outcome, snapshot=snapshot)
                elif change:
                    plan, snapshot = await self._executor.execute(change, plan, unthrottled=unthrottled)
                    outcome = replace(outcome, plan=plan, snapshot=snapshot)
                environments = await self._update_environments(workspace_id, matches=matches)
                await self._fetch_needs(workspace_id)
            return replace(outcome, environments=environments, seconds=time.monotonic() - started)

    async def _carry_out(
        self, change: Change, plan: Plan, outcome: Outcome, *, promote: bool, unthrottled: bool
    ) -> Outcome:
        """A plan that makes tables anew, or is to wait, in every environment."""
        workspace_id = change.live.workspace.id
        if promote:
            plan, snapshot = await self._executor.execute(change, plan, unthrottled=unthrottled)
            outcome = replace(outcome, plan=plan, snapshot=snapshot)
            environments = await self._update_environments(workspace_id, matches=change.matches)
            await self._fetch_needs(workspace_id)
        else:
            plan, staged = await self._executor.stage(change, plan, unthrottled=unthrottled)
            outcome = replace(outcome, plan=plan, staged=staged.snapshot)
            environments = await self._environments.stage(workspace_id, plan.snapshot, change.matches)
        return replace(outcome, environments=environments)

    async def _to_the_end(self, workspace_id: str, work: Coroutine[Any, Any, Result]) -> Result:
        """In a task of its own, which goes on when the caller leaves. Raises Unavailable when the server ends."""
        going = self._start(workspace_id, work)
        try:
            return await asyncio.shield(going)
        except asyncio.CancelledError:
            if not going.cancelled():
                raise
            raise Unavailable(
                "The server stops; the deployment is gone on with by its next start", reason=Reason.DEPLOY_IN_PROGRESS
            ) from None

    def _start(self, workspace_id: str, work: Coroutine[Any, Any, Result]) -> asyncio.Future[Result]:
        going = asyncio.ensure_future(work)
        self._going[workspace_id] = going

        def ended(_: object) -> None:
            self._going.pop(workspace_id, None)
            self._resumed.pop(workspace_id, None)
            if not going.cancelled() and (error := going.exception()) is not None:  # also where nobody waits for it
                log.info("a deployment was not made: %s", error)

        going.add_done_callback(ended)
        return going

    async def resume(self) -> None:
        """At start: goes on with the deployments whose tables were being filled. Nothing may be inserted by statements
        before this returns."""
        for workspace_id in self._catalog.snapshots:
            made = self._catalog.making(workspace_id)
            if made is None or not made.row.details.can_go_on:
                continue
            log.info("deployment %d is gone on with", made.row.id)
            holds = asyncio.Event()
            going: asyncio.Future[Any] = self._start(workspace_id, self._resume(workspace_id, made, holds))
            self._resumed[workspace_id] = going
            held: asyncio.Future[Any] = asyncio.ensure_future(holds.wait())
            await asyncio.wait({going, held}, return_when=asyncio.FIRST_COMPLETED)
            held.cancel()

    async def _resume(self, workspace_id: str, made: Deployed, holds: asyncio.Event) -> None:
        live = await self._executor.resume(self._catalog.snapshot(workspace_id).workspace, made, holds)
        if live is not None:
            await self._update_environments(workspace_id)
            await self._fetch_needs(workspace_id)
        elif self._catalog.environments(workspace_id):
            matches = await matches_of(self._engine, made.snapshot)
            await self._environments.stage(workspace_id, made.snapshot, matches)

    def making(self, workspace_id: str) -> Making | None:
        """The deployment that is being made in the workspace's own database."""
        return self._executor.making.get(self._catalog.snapshot(workspace_id).workspace.database_id)

    async def close(self) -> None:
        """What is being made is left as it is: the next start goes on with it."""
        self._executor.is_ending = True
        going = [*self._going.values()]
        for one in going:
            one.cancel()
        await asyncio.gather(*going, return_exceptions=True)

    def _kept_as(self, live: Snapshot, project: Project) -> Deployed | None:
        """The deployment before, where these are its files and it has a data source that was removed since: with its
        rows. What else comes back is made as ever: a view of tables that stayed fills its gap."""
        previous = self._catalog.beside(live.workspace.id).previous
        if previous is None or dict(previous.row.files) != dict(project.files):
            return None
        return previous if previous.snapshot.tables.keys() - live.tables.keys() else None

    async def promote(
        self, workspace_id: str, number: int, *, force: bool = False
    ) -> tuple[EnvironmentOutcome, ...]:
        """Makes the deployment live that waits to be, in every environment. Raises NotFound, and Conflict where it
        lacks what a job wrote, unless by `force`."""
        async with self._exclusive(workspace_id):
            waits = self._catalog.beside(workspace_id).staging
            if waits is None or waits.row.id != number:
                raise self._no_deployment(workspace_id, number, "does not wait to be live")
            self._check_complete(workspace_id, number, force)
            return await self._switch(workspace_id, waits)

    async def rollback(
        self,
        workspace_id: str,
        *,
        force: bool = False,
        regressions: Callable[[Snapshot, Project], Sequence[DatafileError]] | None = None,
    ) -> tuple[EnvironmentOutcome, ...]:
        """Makes the deployment live again that was before, in every environment, with every event that came since.
        What is live now is then the previous one. Raises Conflict where none is kept or where it lacks what a job
        wrote, unless by `force`; and DeployRefused where it confines less than what is live: `regressions`."""
        async with self._exclusive(workspace_id):
            self._check_nothing_waits(workspace_id)
            previous = self._catalog.beside(workspace_id).previous
            if previous is None:
                raise Conflict(
                    "No deployment is kept to go back to",
                    hint="Deploy the earlier commit of the project.",
                    reason=Reason.NO_PREVIOUS,
                )
            weaker: Sequence[DatafileError] = ()
            if regressions is not None:
                weaker = regressions(self._catalog.snapshot(workspace_id), previous.snapshot.project)
            if weaker:
                raise DeployRefused(refusals_of(weaker, Reason.CONFINES_LESS))
            self._check_complete(workspace_id, previous.row.id, force)
            return await self._switch(workspace_id, previous)

    async def discard(self, workspace_id: str, number: int) -> None:
        """Drops a deployment that waits to be live, or the previous one, with all that only it has; one that is being
        made is made no further. Raises NotFound, Conflict for what is live."""
        making = self.making(workspace_id)
        if making is not None and making.number == number:
            making.discard()
            await asyncio.wait({making.task})
            return
        async with self._exclusive(workspace_id):
            beside = self._catalog.beside(workspace_id)
            gone = next((one for one in (beside.staging, beside.previous) if one and one.row.id == number), None)
            if gone is None:
                raise self._no_deployment(workspace_id, number, "is not kept")
            await self._discard(workspace_id, gone)

    async def expire(self, seconds: float) -> None:
        """Drops each previous deployment that was live last so long ago."""
        for live in self._catalog.everywhere:
            workspace = live.workspace
            beside = self._catalog.beside(workspace.id, workspace.environment)
            since = beside.live.details.previous_since if beside.live else 0.0
            if beside.previous is None or time.time() - since < seconds:
                continue
            try:
                async with self._exclusive(workspace.id):
                    if self._catalog.beside(workspace.id, workspace.environment).previous is beside.previous:
                        log.info("deployment %d is kept no longer", beside.previous.row.id)
                        await self._executor.discard(workspace, beside.previous)
            except (Conflict, Unavailable):
                continue  # the next time

    async def _switch(self, workspace_id: str, to: Deployed) -> tuple[EnvironmentOutcome, ...]:
        await self._executor.switch(self._catalog.snapshot(workspace_id).workspace, to)
        environments = await self._update_environments(workspace_id)
        await self._fetch_needs(workspace_id)
        return environments

    async def _discard(self, workspace_id: str, gone: Deployed) -> None:
        await self._executor.discard(self._catalog.snapshot(workspace_id).workspace, gone)
        for row in self._catalog.environments(workspace_id):
            beside = self._catalog.beside(workspace_id, row.name)
            for one in (beside.staging, beside.previous):
                if one is not None and one.row.id == gone.row.id:
                    await self._executor.discard(one.snapshot.workspace, one)

    def missing(self, workspace_id: str, number: int) -> list[Job]:
        """The jobs whose rows that deployment lacks, here or in an environment."""
        workspace = self._catalog.snapshot(workspace_id).workspace
        places = [workspace.database_id, *(row.id for row in self._catalog.environments(workspace_id))]
        return [job for place in places for job in self._jobs.missing_in(place, number)] if self._jobs else []

    def _check_complete(self, workspace_id: str, number: int, force: bool) -> None:
        missing = self.missing(workspace_id, number)
        if missing and not force:
            raise Conflict(
                f"Deployment {number} is not complete. {lacks(missing[-1], number)}",
                hint="Run it again if it writes all that there is, or make the deployment live as it is with --force.",
                reason=Reason.DEPLOYMENT_INCOMPLETE,
                subject=str(number),
            )

    def _check_nothing_waits(self, workspace_id: str) -> None:
        waits = self._catalog.beside(workspace_id).staging
        if waits is not None:
            raise Conflict(
                f"Deployment {waits.row.id} waits to be live",
                hint=f"`pipit deployment promote {waits.row.id}` or `pipit deployment discard {waits.row.id}` first.",
                reason=Reason.DEPLOYMENT_WAITS,
                subject=str(waits.row.id),
            )

    def _no_deployment(self, workspace_id: str, number: int, what: str) -> PipitError:
        live = self._catalog.snapshot(workspace_id).deployment
        if number == live:
            return Conflict(f"Deployment {number} is live", reason=Reason.DEPLOYMENT_LIVE, subject=str(number))
        return NotFound(
            f"Deployment {number} {what}",
            hint="`pipit deployment ls` shows those that are kept.",
            reason=Reason.DEPLOYMENT_NOT_FOUND,
            subject=str(number),
        )

    async def generations(self) -> dict[str, list[Generations]]:
        """By database: where events go into several tables."""
        return {
            live.workspace.database: await generations_of(self.appends, live, self._beside(live))
            for live in self._catalog.everywhere
        }

    def _beside(self, live: Snapshot) -> list[Snapshot]:
        """What takes the events as well."""
        id, environment = live.workspace.id, live.workspace.environment
        making = self._catalog.making(id, environment)
        return [*self._catalog.kept(id, environment)[1:], *([making.snapshot] if making is not None else [])]

    async def add_environment(self, workspace_id: str, name: str) -> EnvironmentOutcome:
        """Another database of the workspace, with what is live deployed in it. Raises BadRequest, Conflict.

        Where that fails, the environment is there all the same, with nothing in it: it lags behind.
        """
        async with self._exclusive(workspace_id):
            await self._catalog.create_environment(workspace_id, name)
            (outcome,) = await self._update_environments(workspace_id, only=name)
            return outcome

    async def remove_environment(self, workspace_id: str, name: str) -> None:
        """The environment with its rows, and with those that are on their way there. Raises NotFound, Conflict."""
        async with self._exclusive(workspace_id):
            gone = await self._catalog.delete_environment(workspace_id, name)
            await self._end_jobs([gone.id])
            await drop_database(self._engine, self._ingest, gone.database)

    async def remove_workspace(self, workspace_id: str) -> None:
        """The workspace with its tokens, its environments and all rows. Raises NotFound, Conflict."""
        async with self._exclusive(workspace_id):
            places = [workspace_id, *(row.id for row in self._catalog.environments(workspace_id))]
            databases = await self._catalog.delete_workspace(workspace_id)
            await self._end_jobs(places)
            for database in databases:
                await drop_database(self._engine, self._ingest, database)

    async def _end_jobs(self, places: Iterable[str], *, pipes: Collection[str] | None = None) -> None:
        """Nothing is dropped while a job works in it."""
        if self._jobs is not None:
            await self._jobs.end(places, pipes=pipes)

    async def catch_up(self) -> None:
        """At start: what lags behind is brought up to date. One that fails is logged, and served as it is."""
        for database in await self._catalog.state.deleted_databases():
            await self._ingest.discard(database)
        for workspace_id in self._catalog.snapshots:
            await self._update_environments(workspace_id)
            await self._fetch_needs(workspace_id)

    async def _fetch_needs(self, workspace_id: str) -> None:
        """What appends need is asked of the engine before the first one comes: later it may be away."""
        for live in self._catalog.everywhere:
            if live.workspace.id == workspace_id:
                try:
                    await self.appends.needs(live)
                except Unavailable:
                    log.warning("the engine is away: what appends need is asked with the first one")

    async def clean_up(self) -> None:
        """Finishes and drops what a crash left behind."""
        await finish_alterations(self._engine, self._catalog)
        await drop_leftovers(self._engine, self._catalog)
        await drop_columns_of_none(self._engine, self._catalog)

    @asynccontextmanager
    async def _exclusive(self, workspace_id: str) -> AsyncIterator[None]:
        """One change at a time of what a workspace has deployed anywhere. Raises Conflict."""
        places = {workspace_id, *(row.id for row in self._catalog.environments(workspace_id))}
        busy = workspace_id in {*self._busy, *self._updating, *self._going}
        if busy or places & self.unsettled.keys():
            raise Conflict(
                "Another deployment of this workspace is in progress",
                hint="Try again when it is done.",
                reason=Reason.DEPLOY_IN_PROGRESS,
            )
        self._busy.add(workspace_id)
        try:
            yield
        finally:
            self._busy.discard(workspace_id)

    async def _update_environments(
        self, workspace_id: str, *, only: str = "", matches: Mapping[str, Match] | None = None
    ) -> tuple[EnvironmentOutcome, ...]:
        """In a task of its own: a caller that leaves does not keep half of the environments from it."""
        updating = asyncio.ensure_future(self._environments.update(workspace_id, only=only, matches=matches))
        self._updating[workspace_id] = updating
        updating.add_done_callback(lambda _: self._updating.pop(workspace_id, None))
        return await asyncio.shield(updating)

    async def _change(
        self, live: Snapshot, project: Project, allowed: Allowed, weaker: Sequence[DatafileError], *, waits: bool
    ) -> Change | None:
        """What a plan is made of; None: nothing changes. `waits`: it is not to be live at once. Raises DeployRefused
        where the project cannot be compiled."""
        workspace_id = live.workspace.id
        comparison = await compared(self._engine, live, project, allowed=allowed, weaker=weaker)
        comparison = comparison.beside() if waits else comparison
        tokens = self._tokens(workspace_id, project)
        self._catalog.credentials.check_free(workspace_id, (token.name for token in tokens))
        tokens_differ = tokens != self._catalog.tokens(workspace_id)
        differs = comparison or comparison.refusals or tokens_differ or not live.deployment
        if not differs and (self._sound.get(live.workspace.database_id) is live):
            return None
        if not differs and not await must_make_views_again(self._engine, live):
            self._sound[live.workspace.database_id] = live
            return None
        try:
            compiled = build_snapshot(live.workspace, project, first_names(project.datasources), secrets=live.secrets)
        except ProjectError as error:
            raise DeployRefused((*comparison.refusals, *refusals_of(error.errors))) from None
        tried = await stamp(self._engine)
        only = touched(compiled, comparison) if comparison and self._is_sound(live, tried) else None
        findings = await validate(self._engine, live.workspace, project, only=only, compiled=compiled)
        carried = await carries(self._engine, live, [project.datasources[name] for name in sorted(comparison.rebuilds)])
        number = await self._catalog.state.last_deployment(live.workspace.database_id) + 1
        return Change(
            live,
            compiled,
            comparison,
            findings.matches,
            number,
            now(),
            tokens,
            findings.errors,
            findings.warnings,
            tried,
            carried.found,
            tuple(carried.refusals),
            await free_bytes(self._engine),
            allowed.destructive,
        )

    def _is_sound(self, live: Snapshot, tried: str) -> bool:
        """Whether all that is live was tried as it would be now. Environments may lag behind, and need all views."""
        settings = live.workspace.settings
        alone = not self._catalog.environments(live.workspace.id)
        return live.names.tried == tried and alone and not settings.unfixed_appends

    async def _project(self, live: Snapshot, files: Mapping[str, str]) -> Project:
        """The files as a project, with the data sources that Classic has in no file."""

        def read(files: Mapping[str, str]) -> Project:
            return with_secrets(parse_project(files), live.secrets)

        project, errors = await with_targets(self._engine, live.workspace, read(files), read, secrets=live.secrets)
        if errors:
            raise ProjectError(errors)
        return project

    def _tokens(self, workspace_id: str, project: Project) -> tuple[TokenRow, ...]:
        return datafile_tokens(workspace_id, project, self._catalog.tokens(workspace_id))


def lacks(job: Job, number: int) -> str:
    """What is said of a deployment in which the job failed."""
    why = job.result[MISSING_IN][str(number)]
    return f"It lacks what the job {job.id} ({job.kind} of '{job.pipe or job.datasource}') wrote: {why}"

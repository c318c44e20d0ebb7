"""The one way to change what is deployed.

Nothing is half-deployed: new objects are made beside the live ones under names that nothing refers to, then one row
makes the deployment live, then what is no longer named is dropped. A crash in between leaves objects that no
deployment names; they are dropped at the next start. Writers of the tables involved wait meanwhile: acknowledged events
stay in their segments, so a new view sees each row once, from the backfill or from the insert.

A workspace's environments follow its own database (`environments.py`).
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from msgspec import structs

from pipit.catalog.build import build_snapshot, placed
from pipit.catalog.catalog import Catalog
from pipit.catalog.snapshot import STAGING, Snapshot
from pipit.catalog.state import DeploymentRow, TokenRow, now
from pipit.datafiles import parse_project, with_secrets
from pipit.datafiles.resources import Project
from pipit.datafiles.resources import Warning as ProjectWarning
from pipit.deploy.append_check import AppendCheck
from pipit.deploy.apply import Objects, drop
from pipit.deploy.commit import became_live, insist
from pipit.deploy.environments import EnvironmentOutcome, Environments, tables_of
from pipit.deploy.plan import Plan, make_plan, rename_views
from pipit.deploy.same_tables import same_tables
from pipit.deploy.scratch import SCRATCH_NAME
from pipit.deploy.targets import with_targets
from pipit.deploy.tokens import datafile_tokens
from pipit.deploy.validate import validate
from pipit.deploy.views import View, must_make_views_again, names_with_sources, trigger, views_of, views_to_make_again
from pipit.engine.client import Engine
from pipit.engine.codes import Code
from pipit.errors import Conflict, DatafileError, ProjectError, SqlError, Unavailable
from pipit.ingest import Ingest
from pipit.jobs import Jobs
from pipit.query.compose import Composer
from pipit.sql.identifiers import quote

log = logging.getLogger("pipit.deploy")

_PATIENCE_SECONDS = 30.0  # longer than an engine restart takes
_DROP_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 0)  # seconds between attempts; after the last one it is an error
_OWN_OBJECT = re.compile(rf"(?:{STAGING})?[dqm]\d+_[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Outcome:
    """`result` is the dialect's: success, no_changes, failed (with `check`: what would have happened)."""

    result: str
    plan: Plan
    snapshot: Snapshot
    warnings: tuple[ProjectWarning, ...] = ()
    seconds: float = 0.0
    environments: tuple[EnvironmentOutcome, ...] = ()


class Deployer:
    def __init__(
        self,
        engine: Engine,
        catalog: Catalog,
        ingest: Ingest,
        *,
        jobs: Jobs | None = None,
        patience: float = _PATIENCE_SECONDS,
    ) -> None:
        """`jobs`: those of what is dropped end before. `patience`: how long a caller waits for an engine that went
        away; what has to be done is done after."""
        self._engine = engine
        self._catalog = catalog
        self._ingest = ingest
        self._jobs = jobs
        self._patience = patience
        self.appends = AppendCheck(engine)
        self._busy: set[str] = set()
        self._ending: dict[str, asyncio.Future[bool]] = {}  # what a deploy still has to finish or take back
        self._following: dict[str, asyncio.Future[tuple[EnvironmentOutcome, ...]]] = {}
        self._environments = Environments(engine, catalog, self._apply)

    async def deploy(
        self,
        workspace_id: str,
        files: Mapping[str, str],
        *,
        check: bool = False,
        allow_destructive: bool = False,
        allow_weaker: bool = False,
        compare: Callable[[Snapshot, Project], None] | None = None,
    ) -> Outcome:
        """Raises ProjectError with everything that is wrong, Conflict when a deploy is under way.

        `compare` is asked whether the project may follow what is live, and raises if not: whether it confines less is
        for `audit.policy_regression`. `allow_weaker` says that it may.
        """
        started = time.monotonic()
        async with self._alone(workspace_id):
            outcome = await self._deploy(workspace_id, files, check, allow_destructive, allow_weaker, compare)
            if not check:
                outcome = replace(outcome, environments=await self._follow(workspace_id))
                await self._learn(workspace_id)
            return replace(outcome, seconds=time.monotonic() - started)

    async def add_environment(self, workspace_id: str, name: str) -> EnvironmentOutcome:
        """Another database of the workspace, with what is live deployed in it. Raises BadRequest, Conflict.

        Where that fails, the environment is there all the same, with nothing in it: it lags behind.
        """
        async with self._alone(workspace_id):
            await self._catalog.create_environment(workspace_id, name)
            (outcome,) = await self._follow(workspace_id, only=name)
            return outcome

    async def remove_environment(self, workspace_id: str, name: str) -> None:
        """The environment with its rows, and with those that are on their way there. Raises NotFound, Conflict."""
        async with self._alone(workspace_id):
            gone = await self._catalog.delete_environment(workspace_id, name)
            await self._end_jobs([gone.id])
            await self._drop_database(gone.database)

    async def remove_workspace(self, workspace_id: str) -> None:
        """The workspace with its tokens, its environments and all rows. Raises NotFound, Conflict."""
        async with self._alone(workspace_id):
            places = [workspace_id, *(row.id for row in self._catalog.environments(workspace_id))]
            databases = await self._catalog.delete_workspace(workspace_id)
            await self._end_jobs(places)
            for database in databases:
                await self._drop_database(database)

    async def _end_jobs(self, places: Iterable[str], *, pipes: Collection[str] | None = None) -> None:
        """Nothing is dropped while a job works in it."""
        if self._jobs is not None:
            await self._jobs.end(places, pipes=pipes)

    async def _drop_database(self, database: str) -> None:
        """With the rows that are on their way there."""
        await self._ingest.discard(database)
        for pause in _DROP_PAUSES:
            try:
                await self._engine.command(f"DROP DATABASE IF EXISTS {quote(database)} SYNC")
                return
            except SqlError as error:  # a log was just making its tables there; once it is done it makes no more
                if not pause or error.engine_code != Code.DATABASE_NOT_EMPTY:
                    raise
                await asyncio.sleep(pause)
            except Unavailable:
                log.warning("the engine is away: the database %s is dropped at the next start", database)
                return

    async def catch_up(self) -> None:
        """At start: what lags behind is brought up to date. One that fails is logged, and served as it is."""
        for database in await self._catalog.state.deleted_databases():
            await self._ingest.discard(database)
        for workspace_id in self._catalog.snapshots:
            await self._follow(workspace_id)
            await self._learn(workspace_id)

    async def _learn(self, workspace_id: str) -> None:
        """What appends need is asked of the engine before the first one comes: later it may be away."""
        for live in self._catalog.everywhere:
            if live.workspace.id == workspace_id:
                try:
                    await self.appends.needs(live)
                except Unavailable:
                    log.warning("the engine is away: what appends need is asked with the first one")

    async def clean_up(self) -> None:
        """Drops what a crash left behind: scratch databases, those of deleted workspaces and environments, objects
        that no live deployment names."""
        databases = {str(row["name"]) for row in await self._engine.rows("SELECT name FROM system.databases")}
        state = self._catalog.state
        theirs = {w.database for w in await state.workspaces()} | {e.database for e in await state.environments()}
        deleted = await state.deleted_databases()
        for name in sorted(databases - theirs):
            if name in deleted or SCRATCH_NAME.fullmatch(name):
                await self._engine.command(f"DROP DATABASE IF EXISTS {quote(name)} SYNC")
        tables = await tables_of(self._engine, [s.workspace.database for s in self._catalog.everywhere])
        for snapshot in self._catalog.everywhere:
            names = snapshot.names
            named = {*names.datasources.values(), *names.quarantines.values(), *names.views.values()}
            orphans = tables[snapshot.workspace.database] - named
            # Views first: one that still feeds a table must not outlive it.
            for orphan in sorted(orphans, key=lambda name: name[0] != "m"):
                if _OWN_OBJECT.fullmatch(orphan):
                    log.warning("dropping %s.%s: no live deployment names it", snapshot.workspace.database, orphan)
                    await drop(self._engine, snapshot.workspace.database, orphan)

    @asynccontextmanager
    async def _alone(self, workspace_id: str) -> AsyncIterator[None]:
        """One change at a time of what a workspace has deployed anywhere. Raises Conflict."""
        unsettled = {workspace_id, *(row.id for row in self._catalog.environments(workspace_id))}
        if workspace_id in self._busy or workspace_id in self._following or unsettled & self._ending.keys():
            raise Conflict("Another deployment of this workspace is in progress", hint="Try again when it is done.")
        self._busy.add(workspace_id)
        try:
            yield
        finally:
            self._busy.discard(workspace_id)

    async def _follow(self, workspace_id: str, *, only: str = "") -> tuple[EnvironmentOutcome, ...]:
        """In a task of its own: a caller that leaves does not keep half of the environments from it."""
        following = asyncio.ensure_future(self._environments.follow(workspace_id, only=only))
        self._following[workspace_id] = following
        following.add_done_callback(lambda _: self._following.pop(workspace_id, None))
        return await asyncio.shield(following)

    async def _deploy(
        self,
        workspace_id: str,
        files: Mapping[str, str],
        check: bool,
        allow_destructive: bool,
        allow_weaker: bool,
        compare: Callable[[Snapshot, Project], None] | None,
    ) -> Outcome:
        live = self._catalog.snapshot(workspace_id)
        project = await self._project(live, files)
        if compare is not None:
            compare(live, project)
        database = live.workspace.database
        existing = (await tables_of(self._engine, [database]))[database]
        plan = make_plan(
            live,
            project,
            existing=existing,
            allow_destructive=allow_destructive,
            allow_weaker=allow_weaker,
            same=await same_tables(self._engine, live, project),
        )
        tokens = self._tokens(workspace_id, project)
        self._catalog.credentials.check_free(workspace_id, (token.name for token in tokens))
        tokens_changed = tokens != self._catalog.tokens(workspace_id)
        unchanged = plan.is_empty and not plan.errors and not tokens_changed and bool(live.deployment)
        if unchanged and not await must_make_views_again(self._engine, live):
            foreseen = await self._environments.foresee(workspace_id, live.project) if check else ()
            return Outcome("no_changes", plan, live, plan.warnings, environments=foreseen)
        findings = await validate(self._engine, live.workspace, project, secrets=live.secrets)
        if plan.errors or findings.errors:
            raise ProjectError(plan.errors + findings.errors)
        warnings = plan.warnings + findings.warnings
        plan = replace(plan, rechecked_views=views_to_make_again(live, findings.selects))
        if check:
            foreseen = await self._environments.foresee(workspace_id, project)
            return Outcome("success", plan, live, warnings, environments=foreseen)
        snapshot = await self._apply(live, project, plan, live.deployment + 1)
        return Outcome("success", plan, snapshot, warnings)

    async def _project(self, live: Snapshot, files: Mapping[str, str]) -> Project:
        """The files as a project, with the data sources that Classic has in no file."""

        def read(files: Mapping[str, str]) -> Project:
            return with_secrets(parse_project(files), live.secrets)

        project, errors = await with_targets(self._engine, live.workspace, read(files), read, secrets=live.secrets)
        if errors:
            raise ProjectError(errors)
        return project

    async def _apply(self, live: Snapshot, project: Project, plan: Plan, number: int) -> Snapshot:
        """Makes the plan live in the snapshot's database. An environment gets what its workspace has."""
        workspace = live.workspace
        environment = workspace.environment
        created_at = now()

        def built() -> Snapshot:
            if environment:
                own = self._catalog.snapshot(workspace.id)
                return placed(own, workspace, plan.names, deployment=number, created_at=created_at)
            return build_snapshot(
                workspace, project, plan.names, deployment=number, created_at=created_at, secrets=live.secrets
            )

        new = built()
        new_views, live_views = views_of(new, Composer()), views_of(live, Composer())
        if environment:
            plan = replace(
                plan, rechecked_views=views_to_make_again(live, self._catalog.snapshot(workspace.id).names.selects)
            )
        changed = _changed_views(live_views, new_views)
        # The same view with other conversions: the rows that are there stay.
        anew = tuple(k for k in plan.rechecked_views if k in live_views and k in new_views and k not in changed)
        replaced = changed + anew
        if replaced:
            existing = (await tables_of(self._engine, [workspace.database]))[workspace.database]
            plan = rename_views(plan, replaced, existing)
        # Sources all the way up: first what feeds directly, then closed over all tables.
        plan = replace(plan, names=names_with_sources(plan.names, new, new_views))
        closed = {t.physical: sorted(t.sources) for t in built().tables.values()}
        plan = replace(plan, names=structs.replace(plan.names, sources=closed))
        new = built()
        to_create = {k: v for k, v in new_views.items() if k in plan.new_views or k in replaced}
        leaving = (*plan.gone_views, *replaced)
        tokens = () if environment else self._tokens(workspace.id, project)
        objects = Objects(self._engine, live, new, plan)
        failure: BaseException | None = None
        row: DeploymentRow | None = None  # once it is asked to be written
        async with AsyncExitStack() as stack:
            altered = {addition.datasource for addition in plan.new_columns}
            await self._pause_writers(stack, live, new, to_create, [live_views[k] for k in leaving], altered)
            try:
                await objects.make(to_create)
                names = structs.replace(plan.names, selects={**plan.names.selects, **objects.selects})
                row = DeploymentRow(number, created_at, project.files, names, tokens)
                await self._catalog.commit(workspace.id, row, project, environment=environment)
            except BaseException as error:
                failure = error
            pauses = stack.pop_all()

        async def end() -> bool:
            """Whether the deployment is live; what is not to stay is gone. The writers wait until then."""
            async with pauses:
                is_live = failure is None
                if row is not None and failure is not None:
                    is_live = await became_live(self._catalog.state, workspace.place, row)
                    if is_live:
                        self._catalog.adopt(workspace.id, row, project, environment=environment)
                await insist(lambda: objects.drop_views(leaving)) if is_live else await insist(objects.undo)
            if is_live:
                if plan.deleted_datasources:
                    await self._end_jobs([workspace.place], pipes=_pipes_left_behind(live, new, plan))
                await insist(objects.drop_datasources)
            return is_live

        # A task of its own: a caller that leaves, or an engine that stays away, must not leave it half-done.
        ending = asyncio.ensure_future(end())
        self._ending[workspace.place] = ending
        ending.add_done_callback(lambda _: self._ending.pop(workspace.place, None))
        await asyncio.wait({ending}, timeout=self._patience)
        if failure is None:
            return self._catalog.snapshot(workspace.id, environment)
        if not ending.done() and row is not None:
            raise Unavailable(
                "The engine went away while the deployment was written; whether it is live is not known yet",
                hint="It is settled as soon as the engine answers. Deploy again then; nothing is deployed twice.",
            ) from failure
        if ending.done() and ending.result() and not isinstance(failure, asyncio.CancelledError):
            return self._catalog.snapshot(workspace.id, environment)
        raise failure

    async def _pause_writers(
        self,
        stack: AsyncExitStack,
        live: Snapshot,
        new: Snapshot,
        created: Mapping[str, View],
        dropped: list[View],
        altered: set[str],
    ) -> None:
        """The writers of every table that feeds a changing view, directly or through other views, wait.

        So do those of tables that get columns: a copy's replacement, which was made before, must not take their place.
        """
        sources = altered & live.tables.keys()
        for snapshot, views in ((new, created.values()), (live, dropped)):
            for view in views:
                name = trigger(snapshot, view)
                if name in live.tables:
                    sources |= {name, *(s for s in snapshot.tables[name].sources if s in live.tables)}
        for name in sorted(sources):
            table = live.tables[name]
            await stack.enter_async_context(self._ingest.paused(table.database, table.physical))

    def _tokens(self, workspace_id: str, project: Project) -> tuple[TokenRow, ...]:
        return datafile_tokens(workspace_id, project, self._catalog.tokens(workspace_id))


def _pipes_left_behind(live: Snapshot, new: Snapshot, plan: Plan) -> set[str]:
    """The pipes that may be reading or writing what is deleted: a job of theirs would keep it there."""
    return {
        name
        for name, pipe in live.pipes.items()
        if name not in new.pipes
        or new.pipes[name].pipe != pipe.pipe
        or any(node.node.target_datasource in plan.deleted_datasources for node in pipe.nodes.values())
    }


def _changed_views(live: Mapping[str, View], new: Mapping[str, View]) -> tuple[str, ...]:
    """Views whose SQL changes. Only `DEPLOYMENT_METHOD alter` says that history may stay as it is."""
    changed = [k for k, v in new.items() if k in live and not v.says_the_same(live[k])]
    errors = [
        DatafileError(
            f"The SQL of the materialized node '{new[k].node.name}' changes, so the rows of "
            f"'{new[k].target.name}' would have to be made again. This version cannot do that yet",
            file=new[k].node.node.position.file or new[k].pipe.pipe.file,
            line=new[k].node.node.position.line,
            column=new[k].node.node.position.column,
            hint="Add DEPLOYMENT_METHOD alter to keep the rows that are there, or use a new target data source.",
        )
        for k in changed
        if new[k].node.node.deployment_method.lower() != "alter"
    ]
    if errors:
        raise ProjectError(errors)
    return tuple(changed)

"""Carries a plan out: all of it goes live, or nothing of it stays.

New objects are made beside the live ones under names that nothing refers to, then one row makes the deployment live,
then what no deployment that is kept names is dropped. A crash in between leaves objects that no deployment names; they
are dropped at the next start. Writers of the tables involved wait meanwhile: acknowledged events stay in segments, so
a new view sees each row once, from the fill or from the insert.

Where tables get a new generation the writers wait twice, for a moment each: while the rows that are there are told
from those to come (`stage`), and when the deployment goes live (`switch`). In between the new generation is filled, and
takes each event after the live one has it. So does the generation before, for as long as its deployment is kept: so
one row makes it live again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace

from msgspec import structs

from pipit.catalog.catalog import Beside, Catalog, Deployed
from pipit.catalog.snapshot import Snapshot, Workspace
from pipit.catalog.state import DeploymentRow, Details, Status
from pipit.datafiles.resources import Project
from pipit.deploy import fill, routes
from pipit.deploy.alterations import Alteration, ModifyColumn
from pipit.deploy.append_check import AppendCheck
from pipit.deploy.apply import apply, drop, drop_columns, undo
from pipit.deploy.commit import became_live, until_done
from pipit.deploy.fill import Fillings
from pipit.deploy.generations import frozen_of, is_beside
from pipit.deploy.leftovers import columns_of_none, finish, names_of
from pipit.deploy.plan import Cause, CreateTable, CreateView, DropView, Fill, Plan, Prepare, Rebuild, Settle
from pipit.deploy.planner import Change, make_plan
from pipit.deploy.progress import Making
from pipit.deploy.shared_tables import Alignment, alignment, with_hidden
from pipit.deploy.views import View, match_of, trigger, views_of
from pipit.engine.client import Engine
from pipit.errors import Conflict, Reason, Unavailable
from pipit.ingest import Ingest
from pipit.jobs import Jobs
from pipit.query.compose import Composer
from pipit.sql.barrier import full_type
from pipit.tables import Locks, Mode, TableKey
from pipit.tables.sizes import Size, Sizes, sizes_in

_QUIET_SECONDS = 30.0  # for segments of which only a part is stored
_DRAIN_SECONDS = 5.0  # for the events that the generation which is to be live has not yet
_BACKLOG_SECONDS = 600.0  # the same before the writers wait, of a deploy that made tables anew
_FEW = 10_000  # events: so many are loaded in a moment
_LOOK_SECONDS = 0.02
_AGAIN_SECONDS = 0.5
_SETTLED_SECONDS = 1.0  # for a topic's position, which follows what is stored


@dataclass(frozen=True, slots=True)
class _Step:
    """What is done while the writers wait: made, made live, dropped. `gone`: deployments that are kept no longer."""

    plan: Plan
    row: DeploymentRow
    compiled: Snapshot
    made: Sequence[Prepare]
    retire: Sequence[DropView]
    gone: Sequence[Deployed] = ()
    after: DeploymentRow | None = None  # what is live now, where an earlier deployment is to be live again
    finish: bool = False  # what it alters once it is live may not have been done


class _MadeAnew(Exception):
    """Rows came since the plan was made, so that a table has to be made anew, as the plan that was made then says."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan


class _RowsCame(Exception):
    """A table that was empty when the plan was made is not any more, or the other way round: so is the plan that was
    made then."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan


class Executor:
    def __init__(
        self,
        engine: Engine,
        catalog: Catalog,
        ingest: Ingest,
        locks: Locks,
        appends: AppendCheck,
        jobs: Jobs | None,
        *,
        patience: float,
        keep_previous: bool,
        reads: Callable[[], int],
    ) -> None:
        """`patience`: how long a caller waits for an engine that went away; what has to be done is done after.
        `keep_previous`: whether the deployment before stays, and takes every event. `reads`: how many queries were
        begun."""
        self._engine = engine
        self._catalog = catalog
        self._ingest = ingest
        self._locks = locks
        self._appends = appends
        self._jobs = jobs
        self._patience = patience
        self._keep_previous = keep_previous
        self._reads = reads
        self.is_ending = False  # what is cancelled from now on is gone on with by the next start
        self.making: dict[str, Making] = {}  # by place: what is being made
        self.unsettled: dict[str, asyncio.Future[bool]] = {}  # by place: what is still to be finished or taken back
        self._endings: set[asyncio.Future[None]] = set()  # of deployments that nobody asked to wait

    async def execute(self, change: Change, plan: Plan, *, unthrottled: bool = False) -> tuple[Plan, Snapshot]:
        """Makes the change's plan live: the plan that was carried out, and what is live then.

        Rows may have come since it was made, so once the writers wait it is made again. Raises DeployRefused where it
        then has refusals.
        """
        if plan.rebuilds:
            return await self._stage_and_switch(change, plan, unthrottled)
        live = change.live

        async def step() -> _Step:
            made = plan
            if plan.waiting:
                made = make_plan(change, await sizes_in(self._engine, live.workspace.database))
            made.check()
            if made.rebuilds:
                raise _MadeAnew(made)
            self._check_views(made)
            assert made.go_live is not None
            row, gone = self._successor(live.workspace, made.go_live.row)
            beside = self._catalog.beside(live.workspace.id, live.workspace.environment)
            after = beside.live if row.id < live.deployment else None  # an environment that follows a rollback
            return _Step(made, row, made.snapshot, (*made.prepare, *made.switch), made.retire, gone, after)

        try:
            return await self._go_live(live.workspace, [table.key for table in plan.waiting], step)
        except _MadeAnew as anew:  # its locks are those of the tables to be made anew
            return await self._stage_and_switch(change, anew.plan, unthrottled)

    async def _stage_and_switch(self, change: Change, plan: Plan, unthrottled: bool) -> tuple[Plan, Snapshot]:
        """A crash before the fill, or while its rows are put into the tables, leaves nothing that waits: nobody asked
        for that."""
        workspace = change.live.workspace
        plan, staged = await self.stage(change, plan, waits=False, unthrottled=unthrottled)
        return plan, await self._switch_at_once(workspace, staged, plan)

    async def _switch_at_once(self, workspace: Workspace, staged: Deployed, plan: Plan | None) -> Snapshot:
        try:
            return await self.switch(workspace, staged, plan.settle if plan else (), backlog=_BACKLOG_SECONDS)
        except BaseException as error:
            left = self._catalog.beside(workspace.id, workspace.environment).staging
            goes_on = self._goes_on(error) and staged.row.details.can_go_on
            if left is staged and not goes_on:
                unsettled = self.unsettled.get(workspace.database_id)
                if unsettled is None:
                    await self.discard(workspace, staged, plan)
                else:  # whether it is live is not known yet
                    ending = asyncio.ensure_future(self._discard_unless_live(workspace, staged, plan, unsettled))
                    self._endings.add(ending)
                    ending.add_done_callback(self._endings.discard)
            raise

    async def _discard_unless_live(
        self, workspace: Workspace, staged: Deployed, plan: Plan | None, settled: asyncio.Future[bool]
    ) -> None:
        await asyncio.wait({settled})
        while self._catalog.beside(workspace.id, workspace.environment).staging is staged:
            try:
                await self.discard(workspace, staged, plan)
            except Unavailable:
                await asyncio.sleep(_AGAIN_SECONDS)

    # ---- a deployment that is not live yet

    async def stage(
        self, change: Change, plan: Plan, *, waits: bool = True, unthrottled: bool = False
    ) -> tuple[Plan, Deployed]:
        """Makes everything of the plan but its views into tables that are live, and fills it, while events go on. From
        then on it takes every event. It is not live: `switch` makes it so, at once unless it `waits`.

        Raises what the plan refuses, Conflict where events are half stored for long or somebody discarded it, and
        ProjectError where a row does not fit; then nothing of it stays. When the server ends, a fill that has begun is
        left as it is: `resume` goes on with it.
        """
        workspace = change.live.workspace
        assert plan.go_live is not None
        row = replace(plan.go_live.row, live=False, details=Details(status=Status.CREATING))
        await self._catalog.state.put_deployment(workspace.database_id, row)
        with self._making(workspace, row.id) as making:
            while True:
                try:
                    return await self._stage(making, change, plan, row, waits, unthrottled)
                except _RowsCame as came:
                    plan = came.plan
                    if workspace.database_id in self.unsettled:  # what was begun is still there
                        raise Unavailable(
                            "The engine went away while the deployment was made",
                            hint="Nothing was changed. Deploy again when the engine answers.",
                            reason=Reason.DEPLOY_UNSETTLED,
                        ) from None

    async def _stage(
        self, making: Making, change: Change, plan: Plan, row: DeploymentRow, waits: bool, unthrottled: bool
    ) -> tuple[Plan, Deployed]:
        workspace = change.live.workspace
        begun: list[Prepare | Rebuild] = []
        statements = AsyncExitStack()
        try:
            # What a copy writes is in the rows that are carried over, or it goes into each generation afterwards.
            old = [rebuild.old.key for rebuild in plan.rebuilds if rebuild.old is not None]
            await statements.enter_async_context(self._locks.acquire(old, Mode.REBUILD))
            fillings, plan = await self._tell_apart(workspace, change, plan, row, begun, waits, unthrottled)
            assert plan.go_live is not None
            row = replace(row, tables=plan.go_live.row.tables)
            if not workspace.environment:  # an environment that was cut off is brought up to date by the next start
                row = _with_fillings(row, fillings)
                await until_done(lambda: self._catalog.state.put_deployment(workspace.database_id, row))
            row, staged = await self._fill(making, workspace, row, fillings, plan.snapshot.project)
            return plan, staged
        except BaseException as error:
            if self._goes_on(error) and row.details.can_go_on and not making.is_discarded:
                raise
            images = [*map(frozen_of, fill.images_of(plan))]
            status = Status.DISCARDED if making.is_discarded else Status.FAILED
            failed = replace(row, details=Details(status=status, error="" if making.is_discarded else str(error)))
            taking_back = self._take_back(workspace, failed, begun, images, again=isinstance(error, _RowsCame))
            await self._settle(workspace, taking_back)
            if making.is_discarded:
                raise _discarded_meanwhile(row.id) from None
            raise
        finally:
            self._catalog.set_making(workspace.id, workspace.environment, None)
            await statements.aclose()

    async def _tell_apart(
        self,
        workspace: Workspace,
        change: Change,
        plan: Plan,
        row: DeploymentRow,
        begun: list[Prepare | Rebuild],
        waits: bool,
        unthrottled: bool,
    ) -> tuple[Fillings, Plan]:
        """The rows that are there from those that come: from now on events go into the new generations too.

        What can be done before the writers wait is done before. Raises _RowsCame where the plan is another one by then.
        """
        waiting = [table.key for table in plan.waiting]
        at_once = [operation for operation in plan.prepare if _disturbs_nobody(operation, plan, change.live)]
        own: set[str] = set()
        for rebuild in plan.rebuilds:
            begun.append(rebuild)
            own |= {rebuild.table.physical, rebuild.table.quarantine}
            await fill.create(self._engine, rebuild)
        alters = not all(isinstance(operation, CreateTable | CreateView) for operation in plan.prepare)
        if not alters:  # else the images are made of what the tables become
            await fill.make_images(self._engine, plan)
        for operation in at_once:
            begun.append(operation)
            own |= _made_by(operation)
            await apply(self._engine, operation)
        fillings = await fill.fillings_of(self._engine, plan, waits=waits, unthrottled=unthrottled)
        beside = self._catalog.beside(workspace.id, workspace.environment).snapshots
        live = self._catalog.snapshot(workspace.id, workspace.environment)
        if len(at_once) == len(plan.prepare):  # what appends need there is known when the writers wait
            await routes.generations_of(self._appends, live, (*beside, plan.snapshot))
        async with await self._quiet(waiting, waiting if plan.rebuilds else ()):
            sizes = await sizes_in(self._engine, workspace.database)
            there = {name: size for name, size in sizes.items() if name not in own and not is_beside(name)}
            if _filled(there, change.live) != _filled(plan.sizes, change.live):
                came = make_plan(change, there)
                came.check()
                raise _RowsCame(came)
            self._check_views(plan)
            # Loads, deletes and truncates are refused from here on: the fill does not see them.
            made = Deployed(replace(row, tables=plan.snapshot.names), plan.snapshot)
            self._catalog.set_making(workspace.id, workspace.environment, made)
            for operation in plan.prepare:
                if operation not in at_once:
                    begun.append(operation)
                    await apply(self._engine, operation)
            if alters:
                await fill.make_images(self._engine, plan)
            await fill.freeze(self._engine, plan)
            for rebuild in plan.rebuilds:
                if rebuild.old is not None:
                    self._ingest.snapshot_taken(rebuild.old.key, rebuild.table.physical)
            await self._route(workspace, plan.snapshot)
        return fillings, plan

    async def _fill(
        self, making: Making, workspace: Workspace, row: DeploymentRow, fillings: Fillings, project: Project
    ) -> tuple[DeploymentRow, Deployed]:
        """The new generations get their rows, and the deployment is kept beside what is live."""
        engine, database, place = self._engine, workspace.database, workspace.database_id
        filler = fill.Filler(engine, database, fillings, making.progress, making.throttle(self._reads))
        await filler.run()
        if fillings.tables:
            if row.details.filling:  # which rows are there could not be told after a crash
                row = replace(row, details=Details(status=Status.CREATING))
                await filler.again(lambda: self._catalog.state.put_deployment(place, row))
            await fill.attach(engine, database, fillings)
            if not workspace.environment:
                row = _with_fillings(row, structs.replace(fillings, tables=()))
                await until_done(lambda: self._catalog.state.put_deployment(place, row))
        await fill.tidy(engine, database, fillings.images)
        if fillings.waits:
            row = replace(row, details=Details(status=Status.DATA_READY))
        staged = self._catalog.deployed(workspace.id, workspace.environment, row, project)
        beside = self._catalog.beside(workspace.id, workspace.environment)
        await self._catalog.put_beside(
            workspace.id, workspace.environment, replace(beside, staging=staged), *([row] if fillings.waits else [])
        )
        return row, staged

    async def resume(self, workspace: Workspace, made: Deployed, holds: asyncio.Event) -> Snapshot | None:
        """Goes on with a deployment whose fill was cut off: what is live then, or None where it waits. `holds` is set
        once nothing that does not go into the new generations is inserted any more.

        Raises as `stage` does; then nothing of it stays.
        """
        row = made.row
        fillings = fill.fillings_from(row.details.filling)
        with self._making(workspace, row.id) as making:
            try:
                async with self._locks.acquire([(workspace.database, name) for name in fillings.old], Mode.REBUILD):
                    holds.set()
                    row, staged = await self._fill(making, workspace, row, fillings, made.snapshot.project)
            except BaseException as error:
                if self._goes_on(error) and not making.is_discarded:
                    raise
                await self._settle(workspace, self._give_up(workspace, made, fillings, making, str(error)))
                if making.is_discarded:
                    raise _discarded_meanwhile(row.id) from None
                raise
            finally:
                self._catalog.set_making(workspace.id, workspace.environment, None)
        return None if fillings.waits else await self._switch_at_once(workspace, staged, None)

    async def _give_up(
        self, workspace: Workspace, made: Deployed, fillings: Fillings, making: Making, why: str
    ) -> bool:
        status = Status.DISCARDED if making.is_discarded else Status.FAILED
        failed = replace(made.row, details=Details(status=status, error="" if making.is_discarded else why))
        self._catalog.set_making(workspace.id, workspace.environment, None)
        await self._drop(workspace, made)
        for one in fillings.tables:
            await until_done(lambda one=one: fill.drop_begun(self._engine, workspace.database, one.physical))  # type: ignore[misc]
        await until_done(lambda: fill.tidy(self._engine, workspace.database, fillings.images))
        await until_done(lambda: self._catalog.state.put_deployment(workspace.database_id, failed))
        return False

    async def _take_back(
        self,
        workspace: Workspace,
        failed: DeploymentRow,
        begun: Sequence[Prepare | Rebuild],
        images: Sequence[str],
        *,
        again: bool,
    ) -> bool:
        """`again`: it is begun anew at once."""
        made = [operation.table for operation in begun if isinstance(operation, Rebuild)]
        async with self._locks.acquire([table.key for table in made], Mode.ALTER):
            await self._route(workspace)
            for table in made:
                await self._ingest.discard_table(table.key)
            for operation in reversed(begun):
                if isinstance(operation, Rebuild):
                    rebuild = operation
                    await until_done(lambda rebuild=rebuild: fill.undo(self._engine, rebuild))  # type: ignore[misc]
                else:
                    await self._undo(operation)
            await until_done(lambda: fill.tidy(self._engine, workspace.database, images))
        if not again:
            await until_done(lambda: self._catalog.state.put_deployment(workspace.database_id, failed))
        return False

    def _goes_on(self, error: BaseException) -> bool:
        return self.is_ending and isinstance(error, asyncio.CancelledError)

    @contextmanager
    def _making(self, workspace: Workspace, number: int) -> Iterator[Making]:
        task = asyncio.current_task()
        assert task is not None
        making = self.making[workspace.database_id] = Making(number, task)
        try:
            yield making
        finally:
            del self.making[workspace.database_id]

    # ---- one row

    async def switch(
        self,
        workspace: Workspace,
        to: Deployed,
        settle: Sequence[Settle] = (),
        *,
        under: DeploymentRow | None = None,
        backlog: float | None = None,
    ) -> Snapshot:
        """Makes a deployment live that takes every event already: the one that waits, or the one before.

        Views into tables that it shares with what is live change places in the same moment. `settle`: what its plan
        alters now. `under`: the one before, deployed again under another number. What was altered since it was live is
        altered back. `backlog`: how many seconds it may take until its tables have all events. Raises
        Conflict where it takes longer.
        """
        live = self._catalog.snapshot(workspace.id, workspace.environment)
        aligned = Alignment()
        beside = self._catalog.beside(workspace.id, workspace.environment)
        if beside.previous is to:  # what was deployed in between has altered tables that both have
            aligned = await alignment(self._engine, live, to.snapshot)
            hiding = with_hidden(under or to.row, live, to.snapshot)
            aimed = self._catalog.deployed(workspace.id, workspace.environment, hiding, to.snapshot.project)
        else:
            aimed = to
        theirs, mine = views_of(live, Composer()), views_of(aimed.snapshot, Composer())
        shared = set(live.names.datasources.values()) & set(to.snapshot.names.datasources.values())
        made = [
            CreateView(view, to.snapshot.names.views[key], await match_of(self._engine, view), Cause.CHANGED)
            for key, view in mine.items()
            if view.target.physical in shared and to.snapshot.names.views[key] not in live.names.views.values()
        ]
        retire = [
            DropView(key, live.workspace.database, live.names.views[key], Cause.CHANGED)
            for key, view in theirs.items()
            if view.target.physical in shared and live.names.views[key] not in to.snapshot.names.views.values()
        ]
        changed = {(one.table.name, one.after.name) for one in aligned.before if isinstance(one, ModifyColumn)}
        plain = [
            one for one in _without_words(live, to.snapshot) if (one.table.name, one.after.name) not in changed
        ]
        late = {name for name, table in live.tables.items() if table.physical in to.snapshot.names.late}
        late |= {one.table.name for one in plain} | aligned.tables
        names = _fed(to.snapshot, [one.view for one in made]) | _fed(live, [theirs[one.key] for one in retire])
        names |= {source for name in late for source in (name, *live.tables[name].sources)}
        pairs = [
            (table.key, to.snapshot.tables[name].key)
            for name, table in live.tables.items()
            if name in to.snapshot.tables and to.snapshot.tables[name].physical != table.physical
        ]
        waiting = {live.tables[name].key for name in names if name in live.tables} | {old for old, _ in pairs}
        earlier = aimed.row.id < live.deployment

        async def step() -> _Step:
            for _, new in pairs:
                if not await self._ingest.drained(new, _DRAIN_SECONDS):
                    raise _behind(to)
            row = self._with_tokens(workspace, aimed.row) if earlier else aimed.row
            row, gone = self._successor(workspace, row, to)
            after = self._catalog.beside(workspace.id, workspace.environment).live if earlier else None
            plan = Plan(aimed.snapshot, settle=(*settle, *aligned.after))
            first: list[Prepare] = [*aligned.before, *plain, *made]
            return _Step(plan, row, aimed.snapshot, first, retire, gone, after, finish=not settle)

        # While writers go on: the few that are left then do not hold them up for long.
        await self._caught_up(to, [new for _, new in pairs], self._patience if backlog is None else backlog)
        _, snapshot = await self._go_live(workspace, sorted(waiting), step, half=[old for old, _ in pairs])
        return snapshot

    async def _caught_up(self, to: Deployed, tables: Collection[TableKey], seconds: float) -> None:
        """Raises Conflict where new tables still lack many events that the live ones have: they would come late."""
        until = time.monotonic() + seconds
        while any(self._ingest.behind(table) > _FEW for table in tables):
            if time.monotonic() > until:
                raise _behind(to)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _go_live(
        self,
        workspace: Workspace,
        waiting: Collection[TableKey],
        make: Callable[[], Awaitable[_Step]],
        *,
        half: Collection[TableKey] = (),
    ) -> tuple[Plan, Snapshot]:
        """`make` says what to do once the writers wait. `half`: tables of which no segment may be half stored then."""
        failure: BaseException | None = None
        begun: list[Prepare] = []
        committing = False
        async with await self._quiet(waiting, half) as stack:
            step = await make()
            row, environment = step.row, workspace.environment
            before = self._catalog.beside(workspace.id, environment).live
            try:
                for operation in step.made:
                    begun.append(operation)
                    await apply(self._engine, operation)
                committing = True
                await self._catalog.commit(
                    workspace.id,
                    row,
                    step.compiled.project,
                    environment=environment,
                    after=step.after,
                    compiled=step.compiled,
                )
            except Conflict as error:  # another server's is live: it is certain that this one is not
                failure, committing = error, False
            except BaseException as error:
                failure = error
            writers = stack.pop_all()

        async def end() -> bool:
            """Whether the deployment is live; what is not to stay is gone. The writers wait until then."""
            async with writers:
                is_live = failure is None
                if committing and failure is not None:
                    instead = before if step.after is not None else None
                    is_live = await became_live(self._catalog.state, workspace.database_id, row, instead)
                    if is_live:
                        self._catalog.adopt(workspace.id, row, step.compiled.project, environment=environment)
                if is_live:
                    await self._route(workspace)
                    for late in step.plan.settle:
                        await self._until_done(late)
                    if step.finish:
                        await until_done(lambda: finish(self._engine, step.plan.snapshot))
                    for view in step.retire:
                        await self._until_done(view)
                else:
                    for operation in reversed(begun):
                        await self._undo(operation)
            if is_live:
                for one in step.gone:
                    await self.let_go(workspace, one)
            return is_live

        ending = await self._settle(workspace, end())
        if failure is None:
            return step.plan, self._catalog.snapshot(workspace.id, environment)
        if not ending.done() and committing:
            raise Unavailable(
                "The engine went away while the deployment was written; whether it is live is not known yet",
                hint="It is settled as soon as the engine answers. Deploy again then; nothing is deployed twice.",
                reason=Reason.DEPLOY_UNSETTLED,
            ) from failure
        if ending.done() and ending.result() and not isinstance(failure, asyncio.CancelledError):
            return step.plan, self._catalog.snapshot(workspace.id, environment)
        raise failure

    def _with_tokens(self, workspace: Workspace, row: DeploymentRow) -> DeploymentRow:
        """An earlier deployment's row without the static tokens that a later one took away: a rollback gives no secret
        back its rights."""
        if workspace.environment:
            return row
        named = {token.id for token in self._catalog.tokens(workspace.id)}
        return replace(row, tokens=tuple(token for token in row.tokens if token.id in named))

    def _successor(
        self, workspace: Workspace, row: DeploymentRow, to: Deployed | None = None
    ) -> tuple[DeploymentRow, list[Deployed]]:
        """The row of what is to be live, which says what stays beside it; and what does not stay."""
        live = self._catalog.snapshot(workspace.id, workspace.environment)
        beside = self._catalog.beside(workspace.id, workspace.environment)
        keeps = self._keep_previous and live.deployment > 0 and beside.live is not None
        details = structs.replace(
            row.details,
            status=Status.LIVE,
            filling="",
            previous=live.deployment if keeps else 0,
            previous_since=time.time() if keeps else 0.0,
        )
        gone = [one for one in (beside.previous,) if one is not None and one is not to]
        if not keeps and beside.live is not None:
            gone.append(Deployed(beside.live, live))
        return replace(row, live=True, details=details), gone

    # ---- what is kept no longer

    async def discard(self, workspace: Workspace, gone: Deployed, plan: Plan | None = None) -> None:
        """A deployment that waits to be live, or the one before, with the tables and rows that no other one has.
        `plan`: what it altered of live tables is taken back."""
        beside = self._catalog.beside(workspace.id, workspace.environment)
        left = Beside(
            beside.live,
            None if beside.previous is gone else beside.previous,
            None if beside.staging is gone else beside.staging,
        )
        await self._catalog.put_beside(workspace.id, workspace.environment, left, _discarded(gone.row))
        await self._settle(workspace, self._drop(workspace, gone, plan))

    async def let_go(self, workspace: Workspace, gone: Deployed) -> None:
        """The same, of one that nothing points to any more."""
        place = workspace.database_id
        await until_done(lambda: self._catalog.state.put_deployment(place, _discarded(gone.row)))
        await self._drop(workspace, gone)

    async def _drop(self, workspace: Workspace, gone: Deployed, plan: Plan | None = None) -> bool:
        kept = self._catalog.kept(workspace.id, workspace.environment)
        live = kept[0]
        named = {name for snapshot in kept for name in names_of(snapshot.names)}
        names = gone.snapshot.names
        tables = [table for table in gone.snapshot.tables.values() if table.physical not in named]
        if self._jobs is not None and any(table.name not in live.tables for table in tables):
            deleted = {table.name for table in tables}
            pipes = frozenset(
                name
                for name, pipe in gone.snapshot.pipes.items()
                if name not in live.pipes
                or live.pipes[name].pipe != pipe.pipe
                or any(node.node.target_datasource in deleted for node in pipe.nodes.values())
            )
            await self._jobs.end([workspace.database_id], pipes=pipes)
        async with self._locks.acquire([table.key for table in tables], Mode.ALTER):
            await self._route(workspace)
            for table in tables:
                await self._ingest.discard_table(table.key)
            for view in (view for view in names.views.values() if view not in named):
                await self._dropped(workspace.database, view)
            for table in tables:
                await self._dropped(workspace.database, table.physical)
                await self._dropped(workspace.database, table.quarantine)
        altered = [one for one in plan.prepare if isinstance(one, Alteration)] if plan else []
        if plan and altered:
            async with self._locks.acquire([table.key for table in plan.waiting], Mode.ALTER):
                for one in reversed(altered):
                    await self._undo(one)
        await until_done(lambda: self._drop_columns(workspace))
        return True

    async def _drop_columns(self, workspace: Workspace) -> None:
        """Those that no deployment has any more which is kept."""
        found = await columns_of_none(self._engine, self._catalog, workspace)
        if not found:
            return
        live = self._catalog.snapshot(workspace.id, workspace.environment)
        names = {name for table, _ in found for name in (table.name, *table.sources)}
        tables = {table.key for table, _ in found} | {live.tables[name].key for name in names if name in live.tables}
        async with self._locks.acquire(sorted(tables), Mode.ALTER):
            for table, columns in await columns_of_none(self._engine, self._catalog, workspace):
                await drop_columns(self._engine, table, columns)

    # ---- helpers

    async def _route(self, workspace: Workspace, extra: Snapshot | None = None) -> None:
        """Events go into every generation that is kept, and into that of `extra`, which is being made."""
        live = self._catalog.snapshot(workspace.id, workspace.environment)
        beside = self._catalog.beside(workspace.id, workspace.environment)
        others = (*beside.snapshots, extra) if extra is not None else beside.snapshots
        await self._ingest.route(
            workspace.database, await routes.generations_of(self._appends, live, others)
        )

    async def _quiet(self, waiting: Collection[TableKey], half: Collection[TableKey]) -> AsyncExitStack:
        """The locks of these tables, at a moment when no segment of those of `half` is half stored. Raises Conflict."""
        until = time.monotonic() + _QUIET_SECONDS
        while True:
            stack = AsyncExitStack()
            await stack.enter_async_context(self._locks.acquire(waiting, Mode.ALTER))
            await self._ingest.settled(half, _SETTLED_SECONDS)
            busy = [table for table in half if self._ingest.begun(table)]
            if not busy:
                return stack
            await stack.aclose()
            if time.monotonic() > until:
                raise Conflict(
                    "Events that the tables refuse in part are still being sorted, or a topic's position is not known",
                    hint="Deploy again when they are done, or when the topic can be read; nothing was changed.",
                    reason=Reason.EVENTS_BEING_SORTED,
                )
            await asyncio.sleep(_LOOK_SECONDS)

    def _check_views(self, plan: Plan) -> None:
        """A view that is filled now has the rows that another one fails on, and would get them again when that one
        works. Raises Conflict."""
        if not plan.rebuilds and not any(isinstance(operation, Fill) for operation in plan.prepare):
            return
        anew = {rebuild.old.name for rebuild in plan.rebuilds if rebuild.old is not None}
        for table in plan.waiting:
            if table.name not in anew and self._ingest.fails(table.key):
                raise Conflict(
                    f"'{table.name}' has events that one of its views fails on",
                    hint="Delete the view that fails, or its pipe, in a deploy of its own; add it again in the next.",
                    reason=Reason.VIEW_FAILS,
                    subject=table.name,
                )

    async def _settle(self, workspace: Workspace, work: Awaitable[bool]) -> asyncio.Future[bool]:
        """A task of its own: a caller that leaves, or an engine that stays away, must not leave it half-done."""
        ending = asyncio.ensure_future(work)
        self.unsettled[workspace.database_id] = ending
        ending.add_done_callback(lambda _: self.unsettled.pop(workspace.database_id, None))
        await asyncio.wait({ending}, timeout=self._patience)
        return ending

    async def _dropped(self, database: str, name: str) -> None:
        await until_done(lambda: drop(self._engine, database, name))

    async def _until_done(self, operation: Settle | DropView) -> None:
        await until_done(lambda: apply(self._engine, operation))

    async def _undo(self, operation: Prepare) -> None:
        await until_done(lambda: undo(self._engine, operation))


def _behind(to: Deployed) -> Conflict:
    return Conflict(
        f"Deployment {to.row.id} has not all events yet that were acknowledged",
        hint="Try again: they come by themselves, and nothing was changed.",
        reason=Reason.EVENTS_BEHIND,
        subject=str(to.row.id),
    )


def _discarded(row: DeploymentRow) -> DeploymentRow:
    details = structs.replace(row.details, status=Status.DISCARDED, filling="")
    return replace(row, live=False, files={}, tokens=(), details=details)


def _with_fillings(row: DeploymentRow, fillings: Fillings) -> DeploymentRow:
    return replace(row, details=Details(status=Status.CREATING, filling=fillings.text()))


def _discarded_meanwhile(number: int) -> Conflict:
    return Conflict(
        f"Deployment {number} was discarded while it was made",
        hint="Nothing was changed. Deploy again when you want it.",
        reason=Reason.DEPLOYMENT_DISCARDED,
        subject=str(number),
    )


def _filled(sizes: Sizes, live: Snapshot) -> set[str]:
    """The live tables that hold rows."""
    return {table.physical for table in live.tables.values() if sizes.get(table.physical, Size()).rows}


def _disturbs_nobody(operation: Prepare, plan: Plan, live: Snapshot) -> bool:
    """Whether it can be done while events come: a new table, or a view of one that gets none yet."""
    if isinstance(operation, CreateTable):
        return True
    if not isinstance(operation, CreateView) or not all(isinstance(o, CreateTable | CreateView) for o in plan.prepare):
        return False  # what else there is to do comes first
    source = plan.snapshot.tables.get(trigger(plan.snapshot, operation.view))
    return source is not None and source.physical not in live.names.datasources.values()


def _made_by(operation: Prepare) -> set[str]:
    if isinstance(operation, CreateTable):
        return {operation.table.physical, operation.table.quarantine}
    return {operation.physical} if isinstance(operation, CreateView) else set()


def _without_words(live: Snapshot, to: Snapshot) -> list[ModifyColumn]:
    """The columns of tables that both share which lose their words (LowCardinality) before `to` is live: it does not
    know of them, and puts up no barrier against what they tell of other tenants."""
    found: list[ModifyColumn] = []
    for name, table in live.tables.items():
        other = to.tables.get(name)
        theirs = other.datasource.columns if other and other.physical == table.physical else ()
        types = {column.name: column.type for column in theirs}
        for column in table.datasource.columns:
            if column.name in types and ModifyColumn(table, replace(column, type=types[column.name]), column).late:
                found.append(ModifyColumn(table, column, replace(column, type=full_type(column.type))))
    return found


def _fed(snapshot: Snapshot, views: Iterable[View]) -> set[str]:
    """The data sources whose inserts reach these views."""
    names: set[str] = set()
    for view in views:
        source = trigger(snapshot, view)
        if source in snapshot.tables:
            names |= {source, *snapshot.tables[source].sources}
    return names



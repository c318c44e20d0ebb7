"""Carries a plan out: all of it goes live, or nothing of it stays.

New objects are made beside the live ones under names that nothing refers to, then one row makes the deployment live,
then what is no longer named is dropped. A crash in between leaves objects that no deployment names; they are dropped at
the next start. Writers of the tables involved wait meanwhile: acknowledged events stay in their segments, so a new view
sees each row once, from the fill or from the insert.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from pipit.catalog.catalog import Catalog
from pipit.catalog.snapshot import Snapshot
from pipit.deploy.apply import apply, undo
from pipit.deploy.commit import became_live, until_done
from pipit.deploy.plan import DropTable, DropView, EndJobs, Plan, Prepare, Settle
from pipit.deploy.planner import Change, make_plan
from pipit.engine.client import Engine
from pipit.errors import Conflict, Reason, Unavailable
from pipit.jobs import Jobs
from pipit.tables import Locks, Mode
from pipit.tables.sizes import sizes_in


class Executor:
    def __init__(self, engine: Engine, catalog: Catalog, locks: Locks, jobs: Jobs | None, *, patience: float) -> None:
        """`patience`: how long a caller waits for an engine that went away; what has to be done is done after."""
        self._engine = engine
        self._catalog = catalog
        self._locks = locks
        self._jobs = jobs
        self._patience = patience
        self.unsettled: dict[str, asyncio.Future[bool]] = {}  # by database: what is to be finished or taken back

    async def execute(self, change: Change, plan: Plan) -> tuple[Plan, Snapshot]:
        """Makes the change's plan live: the plan that was carried out, and what is live then.

        Rows may have come since it was made, so once the writers wait it is made again. Raises DeployRefused where it
        then has refusals.
        """
        failure: BaseException | None = None
        begun: list[Prepare] = []
        committing = False
        async with AsyncExitStack() as stack:
            waiting = [table.key for table in plan.waiting]
            await stack.enter_async_context(self._locks.acquire(waiting, Mode.ALTER))
            if plan.waiting:
                plan = make_plan(change, await sizes_in(self._engine, change.live.workspace.database))
            plan.check()
            assert plan.go_live is not None
            row, project, workspace = plan.go_live.row, plan.snapshot.project, plan.snapshot.workspace
            try:
                for operation in plan.prepare:
                    begun.append(operation)
                    await apply(self._engine, operation)
                committing = True
                await self._catalog.commit(workspace.id, row, project, environment=workspace.environment)
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
                    is_live = await became_live(self._catalog.state, workspace.database_id, row)
                    if is_live:
                        self._catalog.adopt(workspace.id, row, project, environment=workspace.environment)
                if is_live:
                    for late in plan.settle:
                        await self._until_done(late)
                    for view in plan.retire:
                        await self._until_done(view)
                else:
                    for operation in reversed(begun):
                        await self._take_back(operation)
            if is_live:
                for last in plan.delete:
                    await (self._end(last) if isinstance(last, EndJobs) else self._until_done(last))
            return is_live

        # A task of its own: a caller that leaves, or an engine that stays away, must not leave it half-done.
        ending = asyncio.ensure_future(end())
        self.unsettled[workspace.database_id] = ending
        ending.add_done_callback(lambda _: self.unsettled.pop(workspace.database_id, None))
        await asyncio.wait({ending}, timeout=self._patience)
        if failure is None:
            return plan, self._catalog.snapshot(workspace.id, workspace.environment)
        if not ending.done() and committing:
            raise Unavailable(
                "The engine went away while the deployment was written; whether it is live is not known yet",
                hint="It is settled as soon as the engine answers. Deploy again then; nothing is deployed twice.",
                reason=Reason.DEPLOY_UNSETTLED,
            ) from failure
        if ending.done() and ending.result() and not isinstance(failure, asyncio.CancelledError):
            return plan, self._catalog.snapshot(workspace.id, workspace.environment)
        raise failure

    async def _end(self, jobs: EndJobs) -> None:
        if self._jobs is not None:
            await self._jobs.end([jobs.database_id], pipes=jobs.pipes)

    async def _until_done(self, operation: Settle | DropView | DropTable) -> None:
        await until_done(lambda: apply(self._engine, operation))

    async def _take_back(self, operation: Prepare) -> None:
        await until_done(lambda: undo(self._engine, operation))

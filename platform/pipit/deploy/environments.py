"""A workspace's environments follow what is live in the workspace's own database.

The project was validated and its deletions were approved for the workspace; here it is applied to the other databases,
a few at once, each made live by its own one row. An environment that cannot take it stays whole on what it has: it is
named in the outcome, and tried again by the next deploy, also by one that changes nothing, and at the next start.
An environment's deployment has the number of the workspace's deployment that it holds; another number: it lags behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipit.catalog.catalog import Catalog
from pipit.catalog.snapshot import Snapshot
from pipit.catalog.state import now
from pipit.deploy.carry import carries
from pipit.deploy.compare import Allowed
from pipit.deploy.compared import compared
from pipit.deploy.execute import Executor
from pipit.deploy.planner import Change, make_plan
from pipit.deploy.views import matches_of
from pipit.engine.client import Engine
from pipit.errors import PipitError, ProjectError, Reason, Unavailable
from pipit.ingest.match import Match
from pipit.tables.sizes import Sizes, free_bytes, sizes_of

log = logging.getLogger("pipit.deploy")

_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class EnvironmentOutcome:
    """`result`: success, no_changes (it had it), or failed: `error` says why it stays on `deployment`."""

    name: str
    result: str
    deployment: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Known:
    """What the engine was asked once for all environments: what stands in each, and what each view takes."""

    sizes: Mapping[str, Sizes]
    matches: Mapping[str, Match]


class Environments:
    """Brings environments to the workspace's live deployment, each with a plan of its own: its rows are its own."""

    def __init__(self, engine: Engine, catalog: Catalog, executor: Executor) -> None:
        self._engine = engine
        self._catalog = catalog
        self._executor = executor

    async def update(
        self, workspace_id: str, *, only: str = "", matches: Mapping[str, Match] | None = None
    ) -> tuple[EnvironmentOutcome, ...]:
        """All of them, or the one of this name. Raises nothing that one of them met.

        `matches` are what the live views take of their queries, where that is known.
        """
        own = self._catalog.snapshot(workspace_id)
        return await self._each(own, matches, only=only, check=False)

    async def plan(
        self, workspace_id: str, own: Snapshot, matches: Mapping[str, Match] | None, *, waits: bool = False
    ) -> tuple[EnvironmentOutcome, ...]:
        """What would be said of each, were this the workspace's own snapshot; nothing is changed. `waits`: as `stage`
        would say it."""
        return await self._each(own, matches, only="", check=True, stage=waits)

    async def stage(
        self, workspace_id: str, staged: Snapshot, matches: Mapping[str, Match]
    ) -> tuple[EnvironmentOutcome, ...]:
        """The same deployment in each, beside what is live there, where it waits as well."""
        return await self._each(staged, matches, only="", check=False, stage=True)

    async def _each(
        self, own: Snapshot, matches: Mapping[str, Match] | None, *, only: str, check: bool, stage: bool = False
    ) -> tuple[EnvironmentOutcome, ...]:
        rows = [row for row in self._catalog.environments(own.workspace.id) if only in ("", row.name)]
        if not rows:
            return ()
        admitted = asyncio.Semaphore(_AT_ONCE)
        known: _Known | PipitError
        try:
            sizes = await sizes_of(self._engine, [row.database for row in rows])
            if matches is None:
                behind = any(self._deployment(own, row.name) != own.deployment for row in rows)
                matches = await matches_of(self._engine, own) if behind else {}
            known = _Known(sizes, matches)
        except PipitError as error:
            known = error

        async def one(name: str) -> EnvironmentOutcome:
            async with admitted:
                return await self._one(own, name, known, check, stage)

        return tuple(await asyncio.gather(*(one(row.name) for row in rows)))

    def _deployment(self, own: Snapshot, name: str) -> int:
        try:
            return self._catalog.snapshot(own.workspace.id, name).deployment
        except PipitError:  # it cannot be read
            return own.deployment

    async def _one(
        self, own: Snapshot, name: str, known: _Known | PipitError, check: bool, stage: bool
    ) -> EnvironmentOutcome:
        deployment = 0
        try:
            live = self._catalog.snapshot(own.workspace.id, name)
            deployment = live.deployment
            if deployment == own.deployment:
                return EnvironmentOutcome(name, "no_changes", deployment)
            if isinstance(known, PipitError):
                raise known
            if not self._engine.available:  # each would wait for it, one after the other
                raise Unavailable("The engine is away", reason=Reason.ENGINE_UNAVAILABLE)
            reached = await self._apply(own, live, known, check=check, stage=stage)
            return EnvironmentOutcome(name, "success", deployment if check or stage else reached)
        except Exception as error:  # of one environment; the others go on
            if not isinstance(error, PipitError):
                log.exception("the environment '%s' cannot be brought up to date", name)
            why = _said(error)
            if not check:
                log.warning("the environment '%s' stays on deployment %d: %s", name, deployment, why)
            return EnvironmentOutcome(name, "failed", deployment, why)

    async def _apply(
        self, own: Snapshot, live: Snapshot, known: _Known, *, check: bool, stage: bool
    ) -> int:
        """Makes of the environment what the workspace is, unless it is to `check`; the number of its deployment."""
        workspace = live.workspace
        beside = self._catalog.beside(workspace.id, workspace.environment)
        for one in (beside.staging, beside.previous) if not stage and not check else ():
            if one is not None and one.row.id == own.deployment:  # it is all there
                return (await self._executor.switch(workspace, one)).deployment
        kept = beside.previous
        if kept is not None and not stage and not check and dict(kept.row.files) == dict(own.project.files):
            again = replace(kept.row, id=own.deployment, created_at=now())
            return (await self._executor.switch(workspace, kept, under=again)).deployment
        if beside.staging is not None and not check:
            await self._executor.discard(workspace, beside.staging)
        # What goes was approved for the workspace; the environment has only what the workspace had.
        comparison = await compared(self._engine, live, own.project, allowed=Allowed(destructive=True))
        comparison = comparison.beside() if stage else comparison
        anew = [own.project.datasources[name] for name in sorted(comparison.rebuilds)]
        carried = await carries(self._engine, live, anew)
        change = Change(
            live,
            own,
            comparison,
            known.matches,
            own.deployment,
            now(),
            tried=own.names.tried,
            carries=carried.found,
            unfit=tuple(carried.refusals),
            free=await free_bytes(self._engine),
            destructive=True,
        )
        plan = make_plan(change, known.sizes[live.workspace.database])
        plan.check()
        if stage and not check:
            await self._executor.stage(change, plan)
        elif not check:
            await self._executor.execute(change, plan)
        return own.deployment


def _said(error: Exception) -> str:
    """One line for the workspace's admin."""
    if isinstance(error, ProjectError) and error.errors:
        more = len(error.errors) - 1
        return f"{error.errors[0]}" + (f" (and {more} more)" if more else "")
    return error.message if isinstance(error, PipitError) else "It failed inside Pipit; the server's log says how."

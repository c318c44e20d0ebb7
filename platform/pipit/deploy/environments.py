"""A workspace's environments follow what is live in the workspace's own database.

The project was validated and its deletions were approved for the workspace; here it is applied to the other databases,
a few at once, each made live by its own one row. An environment that cannot take it stays whole on what it has: it is
named in the outcome, and tried again by the next deploy, also by one that changes nothing, and at the next start.
An environment's deployment has the number of the workspace's deployment that it holds; another number: it lags behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from pipit.catalog.catalog import Catalog
from pipit.catalog.snapshot import Snapshot
from pipit.datafiles.resources import Project
from pipit.deploy.plan import Plan, make_plan
from pipit.deploy.same_tables import same_tables
from pipit.engine.client import Engine
from pipit.errors import PipitError, ProjectError, Unavailable

log = logging.getLogger("pipit.deploy")

_AT_ONCE = 4

Apply = Callable[[Snapshot, Project, Plan, int], Awaitable[Snapshot]]


@dataclass(frozen=True, slots=True)
class EnvironmentOutcome:
    """`result`: success, no_changes (it had it), or failed: `error` says why it stays on `deployment`."""

    name: str
    result: str
    deployment: int
    error: str = ""


class Environments:
    """Brings environments to the workspace's live deployment. `apply` makes one plan live in one database."""

    def __init__(self, engine: Engine, catalog: Catalog, apply: Apply) -> None:
        self._engine = engine
        self._catalog = catalog
        self._apply = apply

    async def follow(self, workspace_id: str, *, only: str = "") -> tuple[EnvironmentOutcome, ...]:
        """All of them, or the one of this name. Raises nothing that one of them met."""
        project = self._catalog.snapshot(workspace_id).project
        return await self._each(workspace_id, project, only=only, check=False)

    async def foresee(self, workspace_id: str, project: Project) -> tuple[EnvironmentOutcome, ...]:
        """What a deploy of this project would say of each; nothing is changed."""
        return await self._each(workspace_id, project, only="", check=True)

    async def _each(
        self, workspace_id: str, project: Project, *, only: str, check: bool
    ) -> tuple[EnvironmentOutcome, ...]:
        rows = [row for row in self._catalog.environments(workspace_id) if only in ("", row.name)]
        if not rows:
            return ()
        turn = asyncio.Semaphore(_AT_ONCE)
        tables: Mapping[str, frozenset[str]] | Exception
        try:
            tables = await tables_of(self._engine, [row.database for row in rows])
        except PipitError as error:
            tables = error

        async def one(name: str) -> EnvironmentOutcome:
            async with turn:
                return await self._one(workspace_id, name, project, tables, check)

        return tuple(await asyncio.gather(*(one(row.name) for row in rows)))

    async def _one(
        self,
        workspace_id: str,
        name: str,
        project: Project,
        tables: Mapping[str, frozenset[str]] | Exception,
        check: bool,
    ) -> EnvironmentOutcome:
        deployment = 0
        try:
            own = self._catalog.snapshot(workspace_id)
            live = self._catalog.snapshot(workspace_id, name)
            deployment = live.deployment
            if deployment == own.deployment and project is own.project:
                return EnvironmentOutcome(name, "no_changes", deployment)
            if isinstance(tables, Exception):
                raise tables
            if not self._engine.available:  # each would wait for it, one after the other
                raise Unavailable("The engine is away")
            # What goes was approved for the workspace; the environment has only what the workspace had.
            same = await same_tables(self._engine, live, project)
            existing = tables[live.workspace.database]
            plan = make_plan(live, project, existing=existing, allow_destructive=True, same=same)
            if plan.errors:
                raise ProjectError(plan.errors)
            if not check:
                await self._apply(live, project, plan, own.deployment)
                deployment = own.deployment
            return EnvironmentOutcome(name, "success", deployment)
        except Exception as error:  # of one environment; the others go on
            if not isinstance(error, PipitError):
                log.exception("the environment '%s' cannot be brought up to date", name)
            why = _said(error)
            if not check:
                log.warning("the environment '%s' stays on deployment %d: %s", name, deployment, why)
            return EnvironmentOutcome(name, "failed", deployment, why)


async def tables_of(engine: Engine, databases: Sequence[str]) -> Mapping[str, frozenset[str]]:
    """What stands in each of these databases, asked at once."""
    found: dict[str, set[str]] = {database: set() for database in databases}
    rows = await engine.rows(
        "SELECT database, name FROM system.tables WHERE has({databases:Array(String)}, database)",
        {"databases": list(databases)},
    )
    for row in rows:
        found[row["database"]].add(row["name"])
    return {database: frozenset(names) for database, names in found.items()}


def _said(error: Exception) -> str:
    """One line for the workspace's admin."""
    if isinstance(error, ProjectError) and error.errors:
        more = len(error.errors) - 1
        return f"{error.errors[0]}" + (f" (and {more} more)" if more else "")
    return error.message if isinstance(error, PipitError) else "It failed inside Pipit; the server's log says how."

"""The one way to change what is deployed (design, section 3, "A deploy").

Nothing is half-deployed: new objects are made beside the live ones under names that nothing refers to, then one row
makes the deployment live, then what is no longer named is dropped. A crash in between leaves objects that no
deployment names; they are dropped at the next start. Writers of the tables involved wait meanwhile: acknowledged events
stay in their segments, so a new view sees each row once, from the backfill or from the insert.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pipit.access.tokens import make_token, token_id
from pipit.catalog.build import build_snapshot
from pipit.catalog.catalog import Catalog
from pipit.catalog.snapshot import Snapshot
from pipit.catalog.state import DeploymentRow, TokenRow
from pipit.datafiles import parse_project, with_secrets
from pipit.datafiles.resources import Project
from pipit.datafiles.resources import Warning as ProjectWarning
from pipit.deploy.ddl import column_definition, create_table
from pipit.deploy.plan import Plan, make_plan, rename_views
from pipit.deploy.validate import SCRATCH_PREFIX, validate
from pipit.deploy.views import View, common_columns, trigger, views_of
from pipit.engine.client import Engine
from pipit.errors import Conflict, DatafileError, ProjectError, Unavailable
from pipit.ingest import Ingest, create_quarantine, quarantine_column
from pipit.query.compose import Composer
from pipit.sql.identifiers import quote

log = logging.getLogger("pipit.deploy")

# How often to ask for the fate of a commit, half a second apart: longer than an engine restart takes.
_SETTLE_ATTEMPTS = 60
_OWN_OBJECT = re.compile(r"[dqm]\d+_[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Outcome:
    """`result` is the dialect's: success, no_changes, failed (with `check`: what would have happened)."""

    result: str
    plan: Plan
    snapshot: Snapshot
    warnings: tuple[ProjectWarning, ...] = ()
    seconds: float = 0.0


class Deployer:
    def __init__(self, engine: Engine, catalog: Catalog, ingest: Ingest) -> None:
        self._engine = engine
        self._catalog = catalog
        self._ingest = ingest
        self._busy: set[str] = set()

    async def deploy(
        self,
        workspace_id: str,
        files: Mapping[str, str],
        *,
        check: bool = False,
        allow_destructive: bool = False,
    ) -> Outcome:
        """Raises ProjectError with everything that is wrong, Conflict when a deploy is under way."""
        if workspace_id in self._busy:
            raise Conflict("Another deployment of this workspace is in progress", hint="Try again when it is done.")
        self._busy.add(workspace_id)
        try:
            return await self._deploy(workspace_id, files, check, allow_destructive)
        finally:
            self._busy.discard(workspace_id)

    async def clean_up(self) -> None:
        """Drops what a crash left behind: scratch databases, objects that no live deployment names."""
        databases = await self._engine.rows(
            "SELECT name FROM system.databases WHERE startsWith(name, {prefix:String})",
            {"prefix": SCRATCH_PREFIX},
        )
        for row in databases:
            await self._engine.command(f"DROP DATABASE IF EXISTS {quote(row['name'])} SYNC")
        for snapshot in self._catalog.snapshots.values():
            names = snapshot.names
            named = {*names.datasources.values(), *names.quarantines.values(), *names.views.values()}
            orphans = await self._tables(snapshot.workspace.database) - named
            # Views first: one that still feeds a table must not outlive it.
            for orphan in sorted(orphans, key=lambda name: name[0] != "m"):
                if _OWN_OBJECT.fullmatch(orphan):
                    log.warning("dropping %s.%s: no live deployment names it", snapshot.workspace.database, orphan)
                    await self._drop(snapshot.workspace.database, orphan)

    async def _deploy(
        self, workspace_id: str, files: Mapping[str, str], check: bool, allow_destructive: bool
    ) -> Outcome:
        started = time.monotonic()
        live = self._catalog.snapshot(workspace_id)
        project = with_secrets(parse_project(files), live.secrets)
        existing = await self._tables(live.workspace.database)
        plan = make_plan(live, project, existing=frozenset(existing), allow_destructive=allow_destructive)
        tokens_changed = self._datafile_tokens(workspace_id, project) != [
            t for t in self._catalog.tokens(workspace_id) if t.origin == "datafile"
        ]
        if plan.is_empty and not plan.errors and not tokens_changed and live.deployment:
            return Outcome("no_changes", plan, live, plan.warnings, time.monotonic() - started)
        findings = await validate(self._engine, live.workspace, project, secrets=live.secrets)
        if plan.errors or findings.errors:
            raise ProjectError(plan.errors + findings.errors)
        warnings = plan.warnings + findings.warnings
        if check:
            return Outcome("success", plan, live, warnings, time.monotonic() - started)
        snapshot = await self._apply(live, project, plan, dict(files))
        return Outcome("success", plan, snapshot, warnings, time.monotonic() - started)

    async def _apply(self, live: Snapshot, project: Project, plan: Plan, files: dict[str, str]) -> Snapshot:
        number = live.deployment + 1
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        new = build_snapshot(
            live.workspace, project, plan.names, deployment=number, created_at=now, secrets=live.secrets
        )
        new_views, live_views = views_of(new, Composer()), views_of(live, Composer())
        replaced = _changed_views(live_views, new_views)
        if replaced:
            plan = rename_views(plan, replaced, frozenset(await self._tables(live.workspace.database)))
            new = replace(new, names=plan.names)
        to_create = {k: v for k, v in new_views.items() if k in plan.new_views or k in replaced}
        leaving = (*plan.gone_views, *replaced)
        to_drop = [live.names.views[k] for k in leaving]
        async with self._writers_paused(live, new, to_create, [live_views[k] for k in leaving]):
            made: list[str] = []
            try:
                await self._create_tables(new, plan, made)
                await self._add_columns(new, plan)
                await self._create_views(live, new, plan, to_create, made)
            except BaseException:
                await asyncio.shield(self._undo(live, plan, made))
                raise
            row = DeploymentRow(number, now, files, plan.names)
            tokens = self._datafile_tokens(live.workspace.id, project)
            try:
                committed = await self._catalog.commit(live.workspace.id, row, project, tokens)
            except BaseException:
                if not await asyncio.shield(self._was_committed(live, number)):
                    await asyncio.shield(self._undo(live, plan, made))
                    raise
                committed = self._catalog.snapshot(live.workspace.id)
            for name in to_drop:
                await self._drop(live.workspace.database, name)
        for name in plan.deleted_datasources:
            await self._drop(live.workspace.database, live.tables[name].physical)
            await self._drop(live.workspace.database, live.tables[name].quarantine)
        return committed

    @asynccontextmanager
    async def _writers_paused(
        self, live: Snapshot, new: Snapshot, created: Mapping[str, View], dropped: list[View]
    ) -> AsyncIterator[None]:
        """The writers of every table that feeds a changing view, directly or through other views, wait."""
        sources: set[str] = set()
        for snapshot, views in ((new, created.values()), (live, dropped)):
            for view in views:
                name = trigger(snapshot, view)
                if name in live.tables:
                    sources |= {name, *(s for s in snapshot.tables[name].sources if s in live.tables)}
        async with AsyncExitStack() as stack:
            for name in sorted(sources):
                table = live.tables[name]
                await stack.enter_async_context(self._ingest.paused(table.database, table.physical))
            yield

    async def _create_tables(self, new: Snapshot, plan: Plan, made: list[str]) -> None:
        for name in plan.new_datasources:
            table = new.tables[name]
            made += [table.physical, table.quarantine]
            await self._engine.command(create_table(table.datasource, table.database, table.physical))
            await self._engine.command(create_quarantine(table.datasource, table.database, table.quarantine))

    async def _add_columns(self, new: Snapshot, plan: Plan) -> None:
        for addition in plan.new_columns:
            table = new.tables[addition.datasource]
            place = f"AFTER {quote(addition.after)}" if addition.after else "FIRST"
            for physical, definition in (
                (table.physical, column_definition(addition.column)),
                (table.quarantine, quarantine_column(addition.column)),
            ):
                where = f"{quote(table.database)}.{quote(physical)}"
                # One that a deploy which was cut off left behind may have another type.
                await self._engine.command(f"ALTER TABLE {where} DROP COLUMN IF EXISTS {quote(addition.column.name)}")
                await self._engine.command(f"ALTER TABLE {where} ADD COLUMN {definition} {place}")

    async def _create_views(
        self, live: Snapshot, new: Snapshot, plan: Plan, views: Mapping[str, View], made: list[str]
    ) -> None:
        fills: list[tuple[View, tuple[str, ...]]] = []
        for key, view in views.items():
            columns = await common_columns(self._engine, view)
            physical = new.names.views[key]
            made.append(physical)
            await self._engine.command(view.create(new.workspace.database, physical, columns))
            source = trigger(new, view)
            if source not in live.tables or key not in plan.new_views or view.target.datasource.backfill_skip:
                continue  # a new source is filled through its own views; a changed view keeps its history
            if not await self._has_rows(live, source):
                continue
            if view.target.name in live.tables:
                raise ProjectError([self._cannot_fill(view, source)])
            fills.append((view, columns))
        for view, columns in fills:
            await self._engine.command(view.fill(columns))

    def _cannot_fill(self, view: View, source: str) -> DatafileError:
        place = view.node.node.position
        return DatafileError(
            f"'{view.target.name}' is live and '{source}' has rows: filling a live target is not possible yet",
            file=view.pipe.pipe.file,
            line=place.line,
            column=place.column,
            hint=f"Write BACKFILL skip in {view.target.datasource.file} to start with new rows, or use a new target.",
        )

    async def _was_committed(self, live: Snapshot, number: int) -> bool:
        """After a commit whose answer was lost: what the state says, as soon as it can be asked.

        If it cannot be asked for long, nothing is undone: the next start reads the row and cleans up.
        """
        for _ in range(_SETTLE_ATTEMPTS):
            try:
                reloaded = await self._catalog.reload(live.workspace.id)
                return reloaded.deployment == number
            except Unavailable:
                await asyncio.sleep(0.5)
        return True

    async def _has_rows(self, live: Snapshot, name: str) -> bool:
        table = live.tables[name]
        where = f"{quote(table.database)}.{quote(table.physical)}"
        return bool(await self._engine.rows(f"SELECT 1 AS found FROM {where} LIMIT 1"))

    async def _undo(self, live: Snapshot, plan: Plan, made: list[str]) -> None:
        """Takes back what a failed deploy made. What cannot be taken back now is dropped at the next start."""
        try:
            for name in reversed(made):
                await self._drop(live.workspace.database, name)
            for addition in plan.new_columns:
                table = live.tables[addition.datasource]
                for physical in (table.physical, table.quarantine):
                    where = f"{quote(table.database)}.{quote(physical)}"
                    name = quote(addition.column.name)
                    await self._engine.command(f"ALTER TABLE {where} DROP COLUMN IF EXISTS {name}")
        except Exception as error:
            log.warning("a failed deploy left objects behind; they are dropped at the next start: %s", error)

    async def _drop(self, database: str, name: str) -> None:
        await self._engine.command(f"DROP TABLE IF EXISTS {quote(database)}.{quote(name)} SYNC")

    async def _tables(self, database: str) -> set[str]:
        rows = await self._engine.rows(
            "SELECT name FROM system.tables WHERE database = {database:String}", {"database": database}
        )
        return {str(r["name"]) for r in rows}

    def _datafile_tokens(self, workspace_id: str, project: Project) -> list[TokenRow]:
        """The tokens that files name, with the scopes that all files together give them, in order of name."""
        scopes: dict[str, list[str]] = {}
        for datasource in project.datasources.values():
            for grant in datasource.tokens:
                scopes.setdefault(grant.name, []).append(f"DATASOURCES:{grant.permission.upper()}:{datasource.name}")
        for pipe in project.pipes.values():
            for grant in pipe.tokens:
                scopes.setdefault(grant.name, []).append(f"PIPES:READ:{pipe.name}")
        have = {t.name: t for t in self._catalog.tokens(workspace_id)}
        rows: list[TokenRow] = []
        for name in sorted(scopes):
            before = have.get(name)
            unique = tuple(dict.fromkeys(scopes[name]))
            if before is not None:
                rows.append(replace(before, scopes=unique, origin="datafile"))
            else:
                token = make_token(owner=workspace_id)
                rows.append(TokenRow(token_id(token), name, token, unique, "datafile"))
        return rows


def _changed_views(live: Mapping[str, View], new: Mapping[str, View]) -> tuple[str, ...]:
    """Views whose SQL changes. Only `DEPLOYMENT_METHOD alter` says that history may stay as it is."""
    changed = [k for k, v in new.items() if k in live and (v.sql, v.target.name) != (live[k].sql, live[k].target.name)]
    errors = [
        DatafileError(
            f"The SQL of the materialized node '{new[k].node.name}' changes, so the rows of "
            f"'{new[k].target.name}' would have to be made again. This version cannot do that yet",
            file=new[k].pipe.pipe.file,
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

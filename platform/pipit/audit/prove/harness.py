"""The real thing, for a proof: an engine in a folder of its own, workspaces, deployments, tokens, reads.

Nothing is bent: files are deployed unchanged, tokens are minted and checked, and every answer comes from the one way
to read. Only how queries are run is set (one thread), and that inserts do not wait for the disk. All of it is gone when
the context ends.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from pipit import jsontext
from pipit.access import grants, refusals
from pipit.access.context import Scope, SecurityContext, TokenKind
from pipit.access.jwt import mint
from pipit.access.tokens import make_token
from pipit.audit.prove.answers import TenantAnswer
from pipit.audit.prove.appends import Append
from pipit.audit.prove.cases import ProofCase
from pipit.audit.prove.knowledge import Reach
from pipit.audit.prove.rows import Row, event
from pipit.audit.prove.tenants import TenantView
from pipit.catalog.snapshot import CompiledPipe, Snapshot, Table, mixed_columns
from pipit.deploy.append_check import AppendCheck
from pipit.deploy.views import trigger, views_of
from pipit.errors import DatafileError, PipitError, ProjectError, Unavailable
from pipit.ingest import target_of
from pipit.jobs.targets import Into, match_of
from pipit.query.cache import MAX_SECONDS
from pipit.query.compose import Composer
from pipit.query.formats import JSON
from pipit.query.limits import REPEATABLE, Limits
from pipit.query.nested import subquery
from pipit.query.plan import Plan
from pipit.query.queries import PipeQuery, Read, copy_query
from pipit.server import Config, Server, open_server
from pipit.sql.identifiers import quote
from pipit.sql.mixed import settled
from pipit.tables.ddl import column_definition

log = logging.getLogger("pipit.prove")

_TOKEN_SECONDS = 6 * 3600
_REQUEST = "of the proof"  # the id that a refusal quotes: the same for all
_SECRET = re.compile(r"tb_(?:secret|var)\s*\(\s*[\"']([A-Za-z_][\w.\-]*)[\"']")
_INSERT = {
    "insert_deduplicate": 0,
    "max_threads": 1,
    "max_insert_threads": 1,
    "insert_null_as_default": 1,
    "input_format_null_as_default": 1,
    "input_format_defaults_for_omitted_fields": 1,
    "parallel_view_processing": 0,
}
_ATTEMPTS = 12
_JOB_TIMESTAMP = "2026-01-01 00:00:00"  # of all copies, so that a copy writes the same whenever it runs
_PATIENCE = 2.0  # seconds that events which failed are waited for


class Clock:
    """Goes as time does, and can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


class ProofHarness:
    def __init__(self, server: Server, cache_clock: Clock, folder: Path) -> None:
        self.engine = server.engine
        self.folder = folder
        self.numbers = itertools.count()
        self.catalog = server.catalog
        self.ingest = server.ingest
        self.reader = server.reader
        self.authenticator = server.authenticator
        self._deployer = server.deployer
        self._cache_clock = cache_clock
        self.composer = Composer()
        self.asked = 0

    @property
    def appends(self) -> AppendCheck:
        return self._deployer.appends

    def forget(self) -> None:
        """No answer that was kept is given again: the cache's clock goes on by more than anything is kept for."""
        self._cache_clock.ahead += 2 * MAX_SECONDS

    async def deploy(self, name: str, files: Mapping[str, str]) -> tuple[World, dict[str, str], dict[str, str]]:
        """A workspace with what of the files deploys; the files that did, and those that did not with the reason."""
        workspace = await self.catalog.create_workspace(name)
        secrets = {found for text in files.values() for found in _SECRET.findall(text)}
        for secret in sorted(secrets):
            await self.catalog.put_secret(workspace.id, secret, "a-secret-of-the-proof")
        left = dict(files)
        refused: dict[str, str] = {}
        for _ in range(_ATTEMPTS):
            try:
                await self._deployer.deploy(workspace.id, left)
            except ProjectError as error:
                bad = _files_of(error, left)
                if not bad:
                    raise
                refused |= bad
                left = {path: text for path, text in left.items() if path not in bad}
            else:
                break
        await self.engine.command("SYSTEM STOP MERGES")
        world = World(self, workspace.id)
        await world.prepare()
        return world, left, refused


class World:
    """One workspace with one deployment, whose rows are what was last loaded."""

    def __init__(self, harness: ProofHarness, id: str) -> None:
        self.harness = harness
        self.id = id
        self.loaded: tuple[Row, ...] = ()
        self._changed = True  # since the last load
        self.failed_copies: dict[str, str] = {}
        self._tokens: dict[tuple[object, ...], str] = {}
        self._order: list[str] = []
        self._copies: list[tuple[Plan, Into]] = []

    @property
    def snapshot(self) -> Snapshot:
        return self.harness.catalog.snapshot(self.id)

    async def prepare(self) -> None:
        snapshot = self.snapshot
        await self._hasten(snapshot.workspace.database)
        triggers = [trigger(snapshot, view) for view in views_of(snapshot, self.harness.composer).values()]
        # What a view joins stands in its table before the rows come that fire the view.
        self._order = sorted(snapshot.tables, key=lambda name: (triggers.count(name), name))
        copies: list[tuple[Plan, Into]] = []
        security = SecurityContext(snapshot.workspace.id, TokenKind.ADMIN, "prove")
        for pipe in snapshot.pipes.values():
            node = pipe.copy_node
            if node is None or node.node.target_datasource not in snapshot.tables:
                continue
            target = snapshot.tables[node.node.target_datasource]
            query = copy_query(pipe.name, node.name, {}, job_timestamp=_JOB_TIMESTAMP)
            try:
                plan = await self.harness.reader.prepare(Read(snapshot, security, query))
                copies.append((plan, Into(target, target.physical, await match_of(self.harness.engine, plan, target))))
            except PipitError as error:
                self.failed_copies[target.name] = error.message
        self._copies = _in_order(snapshot, copies)

    async def _hasten(self, database: str) -> None:
        """Rows that are gone with the proof need not outlive a crash: nothing waits for the disk."""
        engine = self.harness.engine
        tables = await engine.rows(
            "SELECT name FROM system.tables WHERE database = {database:String} AND engine LIKE '%MergeTree'",
            {"database": database},
        )
        for found in tables:
            await engine.command(
                f"ALTER TABLE {quote(database)}.{quote(str(found['name']))} "
                "MODIFY SETTING fsync_after_insert = 0, fsync_part_directory = 0"
            )

    async def load(self, rows: Sequence[Row]) -> None:
        """Empties the workspace, then inserts the rows; views are filled by it, and copies run once after it.

        Nothing is done for rows that are there already.
        """
        self.harness.forget()
        if not self._changed and self.loaded == tuple(rows):
            return
        self._changed = True
        engine, database = self.harness.engine, self.snapshot.workspace.database
        dirty = await engine.rows(
            "SELECT name FROM system.tables WHERE database = {database:String} AND total_rows > 0 AND name LIKE 'd%'",
            {"database": database},
        )
        for found in dirty:
            await engine.command(f"TRUNCATE TABLE {quote(database)}.{quote(str(found['name']))}")
        by_table: dict[str, list[Row]] = {}
        for row in rows:
            by_table.setdefault(row.table, []).append(row)
        for name in self._order:
            if name in by_table:
                await self.insert(name, by_table[name])
        for plan, into in self._copies:
            try:
                await self.harness.reader.write(plan, into)
            except Unavailable:
                raise
            except PipitError as error:
                self.failed_copies[into.table.name] = error.message
        self.loaded = tuple(rows)
        self._changed = False

    async def insert(self, name: str, rows: Sequence[Row]) -> None:
        """In two blocks, so that states are merged; a row is in the same one of them wherever it is inserted.

        From a file, as events are: rows in the statement's text do not fire every view (one with a scalar subquery).
        """
        self._changed = True
        table = self.snapshot.tables[name]
        types = {column.name: column.type for column in table.datasource.columns}
        into = f"{quote(table.database)}.{quote(table.physical)}"
        for odd in (0, 1):
            blocks: dict[tuple[str, ...], list[Mapping[str, object]]] = {}
            for row in rows:
                if row.id % 2 == odd:
                    blocks.setdefault(tuple(row.values), []).append(row.values)
            for names, block in blocks.items():
                columns = ", ".join(map(quote, names))
                path = self.harness.folder / f"{self.id}-{name}-{next(self.harness.numbers)}.ndjson"
                path.write_bytes(b"\n".join(map(msgspec.json.encode, block)))
                try:
                    await self.harness.engine.insert_file(
                        f"{into} ({columns})",
                        f"SELECT {columns} FROM {{source}}",
                        path,
                        format="JSONEachRow",
                        structure=", ".join(f"{quote(n)} {types[n]}" for n in names),
                        settings=_INSERT,
                    )
                finally:
                    path.unlink()

    async def silent(self) -> frozenset[str]:
        """Targets that are empty although what fills them has rows for them: nothing can be said of who reads them."""
        found: set[str] = set()
        for view in views_of(self.snapshot, self.harness.composer).values():
            if await self.count(view.target.name):
                continue
            settings: dict[str, str | int | float] = {**view.settings, **_INSERT}
            rows = await self.harness.engine.rows(f"SELECT count() AS n FROM {subquery(view.sql)}", settings=settings)
            if int(rows[0]["n"]):
                found.add(view.target.name)
        return frozenset(found)

    async def insertable(self, rows: Sequence[Row]) -> list[Row]:
        """Those of the rows that the engine takes, views included; the rest would stop all that come with them."""
        await self.load(())
        found: list[Row] = []
        for name in self._order:
            found += await self._insertable(name, [row for row in rows if row.table == name])
        await self.load(())
        return sorted(found, key=lambda row: row.id)

    async def _insertable(self, name: str, rows: list[Row]) -> list[Row]:
        if not rows:
            return []
        try:
            await self.insert(name, rows)
        except Unavailable:
            raise
        except PipitError as error:
            log.debug("rows of %s are refused: %s", name, error.message)
            if len(rows) == 1:
                return []
            middle = len(rows) // 2
            return await self._insertable(name, rows[:middle]) + await self._insertable(name, rows[middle:])
        return rows

    async def count(self, name: str) -> int:
        table = self.snapshot.tables[name]
        found = await self.harness.engine.rows(
            f"SELECT count() AS n FROM {quote(table.database)}.{quote(table.physical)}"
        )
        return int(found[0]["n"])

    async def visible(self, rows: Sequence[Row], view: TenantView) -> frozenset[int]:
        """The rows that a policy lets this view of the data see: the engine evaluates the policy's own filter."""
        snapshot, engine = self.snapshot, self.harness.engine
        pipe = next(iter(snapshot.pipes.values()))
        security = self.harness.authenticator.check(self.token(pipe, view, frozenset()), self.harness.catalog.keyring)
        found: set[int] = set()
        for name in {row.table for row in rows}:
            table = snapshot.tables[name]
            held = [row for row in rows if row.table == name]
            if table.policy is None:
                found |= {row.id for row in held}
                continue
            scratch = f"{quote(table.database)}.`scratch_of_the_proof`"
            columns = ", ".join(
                ["`_pipit_row` UInt64", *(_definition(table, c.name) for c in table.datasource.columns)]
            )
            await engine.command(f"CREATE TABLE {scratch} ({columns}) ENGINE = Memory")
            try:
                await engine.insert(scratch, [{**r.values, "_pipit_row": r.id} for r in held], settings=_INSERT)
                condition = settled(table.policy.filter_for(security), mixed_columns(table.datasource))
                seen = await engine.rows(f"SELECT _pipit_row AS id FROM {scratch} WHERE {condition}")
                found |= {int(row["id"]) for row in seen}
            finally:
                await engine.command(f"DROP TABLE IF EXISTS {scratch} SYNC")
        return frozenset(found)

    def token(self, pipe: CompiledPipe, view: TenantView, names: frozenset[str]) -> str:
        """A JWT as the team's backend would make it, signed with this workspace's key."""
        scope = view.scope(pipe, names)
        key = (pipe.name, view.tenant, view.label, tuple(scope.fixed_params))
        if key not in self._tokens:
            workspace = self.snapshot.workspace
            self._tokens[key] = mint(
                workspace.id,
                workspace.admin_token,
                name=view.tenant,
                scopes=[scope],
                expires_at=int(time.time()) + _TOKEN_SECONDS,
                context={k: list(v) if isinstance(v, tuple) else v for k, v in view.context.items()},
            )
        return self._tokens[key]

    async def ask(self, pipe: str, view: TenantView, case: ProofCase, reach: Reach) -> TenantAnswer:
        """What this token gets for this request, here and now."""
        snapshot, harness = self.snapshot, self.harness
        harness.asked += 1
        names = frozenset(parameter.name for parameter in reach.parameters)
        security: SecurityContext | None = None
        try:
            token = self.token(snapshot.pipes[pipe], view, names)
            security = harness.authenticator.check(token, harness.catalog.keyring)
            read = Read(snapshot, security, PipeQuery(pipe, case.request, JSON))
            async with harness.reader.open(read) as answer:
                return TenantAnswer(200, b"".join([chunk async for chunk in answer.chunks]))
        except Unavailable:
            raise
        except PipitError as error:
            told = refusals.shown_to(error, security, _REQUEST)
            return TenantAnswer(error.status, f"{error.code}: {told.get('error', error.message)}".encode())

    async def append(self, sent: Append) -> TenantAnswer:
        """What the sender gets for these events, once they are in the table: the one way in, with its checks."""
        self._changed = True
        harness, table = self.harness, self.snapshot.tables[sent.table]
        security: SecurityContext | None = None
        try:
            security = harness.authenticator.check(self._sender(sent), harness.catalog.keyring)
            fixed = grants.append(security, table.name)
            await harness.appends.check(self.snapshot, table, security, fixed)
            body = b"".join(jsontext.encode(event(row, table.datasource)) + b"\n" for row in sent.rows)
            result = await harness.ingest.append(target_of(table), body, wait=True, fixed_values=fixed)
        except Unavailable:
            raise
        except PipitError as error:
            return TenantAnswer(error.status, jsontext.encode(refusals.shown_to(error, security, _REQUEST)))
        counts = {"successful_rows": result.successful_rows, "quarantined_rows": result.quarantined_rows}
        return TenantAnswer(200, jsontext.encode(counts))

    def _sender(self, sent: Append) -> str:
        """The token of a tenant, as the team's backend would make it; the workspace's own for nobody."""
        workspace = self.snapshot.workspace
        if not sent.tenant:
            return workspace.admin_token
        return mint(
            workspace.id,
            workspace.admin_token,
            name=sent.tenant,
            scopes=[Scope("DATASOURCES:APPEND", sent.table, fixed_values=sent.fixed)],
            expires_at=int(time.time()) + _TOKEN_SECONDS,
        )

    def waits(self, name: str) -> bool:
        """Whether events of this data source are still to be inserted: what was appended failed."""
        table = self.snapshot.tables[name]
        return self.harness.ingest.pending(table.database, table.physical).rows > 0

    async def drained(self, name: str) -> None:
        """Waits a little for what failed to be tried again."""
        table = self.snapshot.tables[name]
        await self.harness.ingest.drain(table.database, table.physical, _PATIENCE)


@asynccontextmanager
async def open_proof_harness() -> AsyncIterator[ProofHarness]:
    """An engine in a temporary folder. Raises EngineStartError. Leaves no process and no file."""
    folder = Path(tempfile.mkdtemp(prefix="pipit-prove-"))
    try:
        rows = folder / "rows"
        rows.mkdir()
        clock = Clock()
        config = Config(
            data_dir=folder,
            admin_token=make_token(owner="prove"),
            file_roots=(rows,),
            limits=Limits(steady=REPEATABLE),
            background=False,
            cache_clock=clock,
        )
        async with open_server(config) as server:
            yield ProofHarness(server, clock, rows)
    finally:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))


def _definition(table: Table, name: str) -> str:
    column = next(c for c in table.datasource.columns if c.name == name)
    text = column_definition(column)
    return text.replace(column.codec, "") if column.codec else text


def _files_of(error: ProjectError, files: Collection[str]) -> dict[str, str]:
    errors: Sequence[DatafileError] = error.errors
    return {e.file: str(e.message) for e in reversed(errors) if e.file in files}


def _in_order(snapshot: Snapshot, copies: list[tuple[Plan, Into]]) -> list[tuple[Plan, Into]]:
    """A copy that reads what another one fills runs after it."""
    targets = {into.table.name for _, into in copies}

    def waits_for(copy: tuple[Plan, Into]) -> int:
        name = copy[1].table.name
        return len(snapshot.tables[name].sources & targets - {name})

    return sorted(copies, key=waits_for)

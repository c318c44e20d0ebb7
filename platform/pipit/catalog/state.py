"""The state that outlives every process: append-only tables in the engine's database `pipit` (rule 6).

Rows are only ever appended; of the rows of a key the one with the highest `version` counts (`ORDER BY version DESC
LIMIT 1 BY key`); only jobs are forgotten after a while. A deployment is live when its one row says so, and that row
holds all of it: files, names of tables, tokens. There is no second step that could be lost. Nothing here is cached;
`Catalog` holds what was read. What opens something (secrets, tokens) is encrypted where the server has keys (`Seals`).

Of two writers that have read the same rows of a table, one appends; the other one reads again, and decides again
(`_append`). Jobs and paused copies have one writer each, and go without.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec

from pipit.catalog.sealing import NO_SEALS, Seals
from pipit.engine.client import Engine
from pipit.errors import Conflict, DiskFull, Reason, Unavailable

log = logging.getLogger("pipit.catalog")

DATABASE = "pipit"
DEFAULT_WORKSPACE = "default"

# Every state table: its columns, its key. `version` grows with every row, whatever the clock does.
_TABLES: Mapping[str, str] = {
    "workspaces": "id String, name String, database String, admin_token String, deleted Bool",
    "deployments": (
        "workspace_id String, id UInt64, live Bool, created_at DateTime64(6, 'UTC'), files String, tables String, "
        "tokens String, details String"
    ),
    "secrets": "workspace_id String, name String, value String, created_at DateTime64(6, 'UTC'), deleted Bool",
    "settings": "workspace_id String, value String",
    "tokens": "workspace_id String, id String, value String, deleted Bool",
    "issuers": "workspace_id String, name String, value String, deleted Bool",
    "environments": (
        "workspace_id String, id String, name String, database String, created_at DateTime64(6, 'UTC'), deleted Bool"
    ),
    # Of a database: that of a workspace or of an environment, by its id.
    "jobs": "place String, id String, value String",
    "paused_copies": "place String, pipe String, paused Bool",
    "stopped_sources": "place String, datasource String, stopped Bool",
    # Objects of buckets, by where they lie: which version was last seen to, and how that ended.
    "imported": (
        "place String, datasource String, bucket String, object String, object_version String, status String, "
        "attempts UInt32, rows UInt64, error String, at DateTime64(6, 'UTC')"
    ),
    # Those that are being loaded together: what exactly goes in under which token.
    "import_batches": "place String, datasource String, id String, value String, done Bool",
    "import_passes": "place String, datasource String, value String",
}
_KEYS: Mapping[str, str] = {
    "workspaces": "id",
    "deployments": "workspace_id, id",
    "secrets": "workspace_id, name",
    "settings": "workspace_id",
    "tokens": "workspace_id, id",
    "issuers": "workspace_id, name",
    "environments": "workspace_id, id",
    "jobs": "place, id",
    "paused_copies": "place, pipe",
    "stopped_sources": "place, datasource",
    "imported": "place, datasource, bucket, object",
    "import_batches": "place, datasource, id",
    "import_passes": "place, datasource",
}
# The column of a table that is sealed (`Seals`), with the id of its key beside it in `key_id`.
_SEALED: Mapping[str, str] = {
    "workspaces": "admin_token",
    "deployments": "tokens",
    "secrets": "value",
    "tokens": "value",
}
_BEING_SEALED = "_being_sealed"  # behind the name of the table that takes a table's place
_RESEALED_ROWS = 20  # at once: a deployment's row has all of its files
_OF_ONE_WRITER = frozenset(
    {"jobs", "paused_copies", "stopped_sources", "imported", "import_batches", "import_passes"}
)
# State rows are few and must be on disk when the call returns. A writer that slept while more rows than the window
# were appended could take its turn again.
_WINDOW = 10_000
_WINDOWS = {
    "non_replicated_deduplication_window": _WINDOW,
    "replicated_deduplication_window": _WINDOW,
    "replicated_deduplication_window_seconds": 365 * 24 * 3600,
}
_DURABLE_TABLE = "fsync_after_insert=1, fsync_part_directory=1"
# A token whose row is nowhere to be seen belongs to a writer that was killed between the two, after this.
_BURNT_SECONDS, _LOOK_SECONDS = 3.0, 0.05
_PATIENCE_SECONDS = 30.0  # for an engine that went away after it took the rows
_TRIES = 100


@dataclass(frozen=True, slots=True)
class WorkspaceRow:
    id: str
    name: str
    database: str
    admin_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class EnvironmentRow:
    """Another database of a workspace. `id` is also what its deployments are kept under."""

    workspace_id: str
    id: str
    name: str
    database: str
    created_at: str


class HiddenColumn(msgspec.Struct, frozen=True, kw_only=True):
    """A column that the files no longer have, as they had it last. It stays in the table with its values."""

    type: str
    default: str | None = None
    codec: str | None = None


class TableNames(msgspec.Struct, frozen=True, kw_only=True):
    """Logical names to physical ones, for one deployment, and where the rows of each physical table come from.

    `sources` and `lost` only ever grow while the table lives: rows stay when the view that wrote them is gone.
    `selects` is what a view's object takes of its query; one that an earlier version made has none, and takes the
    columns as they are. `hidden` are removed columns that are still in the table: no query of this deployment sees
    them. `late` is what of a table is altered only after the deployment is live, so perhaps not yet: names of columns,
    and "" for its TTL.
    """

    datasources: dict[str, str] = {}  # events -> d1_events
    quarantines: dict[str, str] = {}  # events -> q1_events
    views: dict[str, str] = {}  # "pipe.node" -> m1_pipe__node
    sources: dict[str, list[str]] = {}  # d1_daily -> [events]: all that ever fed it, all the way up
    selects: dict[str, str] = {}  # "pipe.node" -> the expressions
    lost: dict[str, list[str]] = {}  # d1_daily -> those of its sources that had a policy when they were deleted
    hidden: dict[str, dict[str, HiddenColumn]] = {}  # d1_events -> by name
    late: dict[str, list[str]] = {}  # d1_events -> what is still to be altered
    tried: str = ""  # the versions of Pipit and of the engine that tried all of the project


class WorkspaceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a workspace turns on for itself. Everything is off until its admin says otherwise."""

    require_policies: bool = False  # every table that a tenant can reach has a ROW_POLICY, or says why not
    tenant_sql: bool = False  # JWTs with DATASOURCES:READ may send their own SELECT to /v0/sql
    # JWTs may append without fixing the columns that views and copies hand on to tables with a policy. For workspaces
    # whose JWTs were made before that was asked of them.
    unfixed_appends: bool = False


FILES, HTTP = "datafile", "api"  # where a token comes from: files name it, or it was made over HTTP


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A static token. One that datafiles name lives as long as the deployment that has it, with the files' scopes.

    A row of its own (`State.tokens`) is one that was made over HTTP, or the newest secret of one that files name.
    """

    id: str
    name: str
    token: str = field(repr=False)
    scopes: tuple[str, ...] = ()
    origin: str = FILES  # or HTTP
    description: str = ""
    environment: str = ""


class Status(StrEnum):
    """Of a deployment. LIVE and PREVIOUS are never written: the row that is live says which the previous one is."""

    CREATING = "creating"  # its tables are being filled
    DATA_READY = "data_ready"  # it is staging: complete, and takes every event; not live
    LIVE = "live"
    PREVIOUS = "previous"  # was live before, is kept and takes every event
    FAILED = "failed"
    DISCARDED = "discarded"


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """What else is known of a deployment. `previous`: the one that is kept beside it while it is live; 0: none."""

    status: str = ""
    previous: int = 0
    previous_since: float = 0.0  # when that one was live last
    error: str = ""
    answer: str = ""  # what a client is told of it, as JSON: `api/deployments.py`
    filling: str = ""  # while it is being made: what its new tables are filled with, as JSON (`deploy/fill.py`)

    @property
    def can_go_on(self) -> bool:
        """Whether it is being made, and a start of the server goes on with it."""
        return self.status == Status.CREATING and bool(self.filling)


@dataclass(frozen=True, slots=True)
class DeploymentRow:
    id: int
    created_at: str
    files: Mapping[str, str]
    tables: TableNames
    tokens: tuple[TokenRow, ...] = ()
    details: Details = field(default_factory=Details)
    live: bool = True  # it is, or was


@dataclass(frozen=True, slots=True)
class PausedRow:
    """A copy's schedule that somebody paused, or resumed, `at` that time."""

    database_id: str  # of a workspace or an environment; the column is called `place`
    pipe: str
    paused: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class ImportedRow:
    """What became of an object's version: `status` is loaded, failed (it is tried again) or parked (it is not)."""

    object: str
    object_version: str
    status: str
    attempts: int = 0
    rows: int = 0
    error: str = ""
    at: str = ""


@dataclass(frozen=True, slots=True)
class SecretRow:
    name: str
    value: str = field(repr=False)
    created_at: str
    updated_at: str


def now() -> str:
    """A row's `created_at`."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


class State:
    """Reads and appends state rows. Errors are the engine's: Unavailable while it is away."""

    def __init__(self, engine: Engine, seals: Seals = NO_SEALS) -> None:
        self._engine = engine
        self._seals = seals
        self._last_version = 0

    async def prepare(self) -> None:
        """Creates what is missing; safe to repeat. Raises BadRequest where secrets are sealed with keys not given."""
        there = await self._columns()
        if not there:
            await self._engine.command(f"CREATE DATABASE IF NOT EXISTS `{DATABASE}`")
        for table, columns in _TABLES.items():
            if table not in there:
                await self._engine.command(
                    f"CREATE TABLE IF NOT EXISTS `{DATABASE}`.`{table}` ({columns}, version UInt64, writer String) "
                    f"ENGINE = MergeTree ORDER BY ({_KEYS[table]}, version) "
                    f"SETTINGS {_DURABLE_TABLE}, {_windows()}"
                )
            elif table not in _OF_ONE_WRITER and "writer" not in there[table]:
                await self._engine.command(f"ALTER TABLE `{DATABASE}`.`{table}` MODIFY SETTING {_windows()}")
                await self._add_column(there, table, "writer")
            newest = await self._engine.rows(f"SELECT max(version) AS version FROM `{DATABASE}`.`{table}`")
            # A clock that was set back must not make new rows older than those that are there.
            self._last_version = max(self._last_version, int(newest[0]["version"]))
        await self._add_column(there, "deployments", "tokens")
        await self._add_column(there, "deployments", "details")
        stale: dict[str, bool] = {}
        for table in _SEALED:
            await self._add_column(there, table, "key_id")
            found = await self._engine.rows(f"SELECT DISTINCT key_id FROM `{DATABASE}`.`{table}` WHERE {_kept(table)}")
            for row in found:
                self._seals.check(row["key_id"])
            stale[table] = any(row["key_id"] != self._seals.first for row in found)
        for table in _SEALED:
            if f"{table}{_BEING_SEALED}" in there:
                await self._engine.command(f"DROP TABLE IF EXISTS {_being_sealed(table)} SYNC")
            if stale[table]:
                await self._seal_again(table)

    async def _columns(self) -> dict[str, set[str]]:
        """Of each table that is there."""
        found: dict[str, set[str]] = {}
        for row in await self._engine.rows(f"SELECT table, name FROM system.columns WHERE database = '{DATABASE}'"):
            found.setdefault(row["table"], set()).add(row["name"])
        return found

    async def _add_column(self, there: Mapping[str, set[str]], table: str, column: str) -> None:
        """To a table that an earlier version made. A statement that has nothing to do is not sent: the engine writes
        the table's definition anew all the same, which loses it on a full disk."""
        if column not in there.get(table, ()):
            await self._engine.command(
                f"ALTER TABLE `{DATABASE}`.`{table}` ADD COLUMN IF NOT EXISTS `{column}` String"
            )

    async def _seal_again(self, table: str) -> None:
        """Writes the rows of no key and of older keys anew, into another table that takes this one's place.

        A row that is only deleted stays readable on the disk for minutes; a table that is dropped is gone. Until they
        change places nothing is changed; what a start that broke off left behind is dropped by the next one.
        """
        current, made = f"`{DATABASE}`.`{table}`", _being_sealed(table)
        stale = f"(key_id != '{self._seals.first}' AND {_kept(table)})"
        await self._engine.command(f"CREATE TABLE {made} AS {current}")
        await self._engine.command(f"INSERT INTO {made} SELECT * FROM {current} WHERE NOT {stale}")
        version = 0
        while rows := await self._engine.rows(
            f"SELECT * FROM {current} WHERE {stale} AND version > {version} ORDER BY version LIMIT {_RESEALED_ROWS}"
        ):
            version = int(rows[-1]["version"])
            await self._engine.insert(made, [self._sealed(table, self._opened(table, row)) for row in rows])
        await self._engine.command(f"EXCHANGE TABLES {current} AND {made}")
        await self._engine.command(f"DROP TABLE {made} SYNC")

    async def workspaces(self) -> list[WorkspaceRow]:
        rows = await self._latest("workspaces", "name, database, admin_token", where="NOT deleted")
        return [WorkspaceRow(r["id"], r["name"], r["database"], r["admin_token"]) for r in rows]

    async def add_workspace(self, name: str, database: str, admin_token: str, *, id: str = "") -> WorkspaceRow:
        """Raises Conflict if the name is taken, or the database, also by a workspace that was deleted."""

        async def free() -> None:
            if any(w.name == name for w in await self.workspaces()):
                raise Conflict(
                    f"There is already a workspace named '{name}'",
                    hint="Choose another name.",
                    reason=Reason.NAME_TAKEN,
                )
            await self._free(database)

        row = WorkspaceRow(id or str(uuid.uuid4()), name, database, admin_token)
        await self._append("workspaces", [asdict(row) | {"deleted": False}], free)
        return row

    async def delete_workspace(self, row: WorkspaceRow) -> None:
        """Its environments have to be deleted before."""
        await self._append("workspaces", [asdict(row) | {"deleted": True}])

    async def deployment(self, workspace_id: str) -> DeploymentRow | None:
        """The live deployment: that of the newest row that was not given up."""
        rows = await self._deployments(workspace_id, "live", order="version DESC LIMIT 1")
        return rows[0] if rows else None

    async def deployments(self, workspace_id: str, *, ids: Sequence[int] = ()) -> list[DeploymentRow]:
        """As each stands now, by number; of those that were given up nothing is known. `ids`: these alone."""
        numbers = ", ".join(str(int(id)) for id in ids)
        where = "(live OR details != '')" + (f" AND id IN ({numbers})" if ids else "")
        return await self._deployments(workspace_id, where, order="id")

    async def last_deployment(self, workspace_id: str) -> int:
        """The highest number that one ever had."""
        (row,) = await self._engine.rows(
            f"SELECT max(id) AS id FROM `{DATABASE}`.deployments WHERE workspace_id = {{workspace:String}} "
            "AND (live OR details != '')",
            {"workspace": workspace_id},
        )
        return int(row["id"])

    async def _deployments(self, workspace_id: str, where: str, *, order: str) -> list[DeploymentRow]:
        rows = await self._engine.rows(
            "SELECT workspace_id, id, live, toString(created_at) AS created_at, files, tables, tokens, details, key_id "
            f"FROM `{DATABASE}`.deployments WHERE workspace_id = {{workspace:String}} AND {where} "
            f"AND (id, version) IN (SELECT id, max(version) FROM `{DATABASE}`.deployments "
            f"WHERE workspace_id = {{workspace:String}} GROUP BY id) ORDER BY {order}",
            {"workspace": workspace_id},
        )
        return [_deployment(self._opened("deployments", row)) for row in rows]

    async def commit_deployment(
        self, workspace_id: str, deployment: DeploymentRow, *, after: DeploymentRow | None = None
    ) -> None:
        """The one row that makes a deployment live. Raises Conflict where a later one is, or another of its number.

        `after`: the one that is live now, where an earlier one is to be live again.
        """

        async def newest() -> None:
            live = await self.deployment(workspace_id)
            ours = (deployment.id, deployment.created_at)
            if live is None or (live.id, live.created_at) == ours:
                return
            other = after is not None and (live.id, live.created_at) != (after.id, after.created_at)
            if other or (after is None and live.id >= deployment.id):
                raise Conflict(f"Deployment {live.id} went live meanwhile", hint="See what it changed, and try again.")

        await self._append("deployments", [_row(workspace_id, replace(deployment, live=True))], newest)

    async def put_deployment(self, workspace_id: str, deployment: DeploymentRow) -> None:
        """What is known of one that is not live."""
        await self._append("deployments", [_row(workspace_id, replace(deployment, live=False))])

    async def give_up_deployment(self, workspace_id: str, deployment: DeploymentRow) -> None:
        """Once this returns, the deployment is not live and never will be, even if its row is still on its way.

        That row's version is older than this one's. A later deployment may take the number again.
        """
        gone = {"workspace_id": workspace_id, "id": deployment.id, "live": False, "created_at": deployment.created_at}
        await self._append("deployments", [gone])

    async def secrets(self, workspace_id: str) -> list[SecretRow]:
        rows = await self._latest(
            "secrets",
            "value, toString(created_at) AS created_at, "
            "toString(fromUnixTimestamp64Micro(version::Int64, 'UTC')) AS updated_at",
            where="NOT deleted",
            workspace_id=workspace_id,
        )
        return [SecretRow(r["name"], r["value"], r["created_at"], r["updated_at"]) for r in rows]

    async def put_secret(
        self, workspace_id: str, name: str, value: str, *, created_at: str = "", deleted: bool = False
    ) -> None:
        """`created_at`: of the secret that gets another value; now, if it is new."""
        row = {
            "workspace_id": workspace_id,
            "name": name,
            "value": value,
            "created_at": created_at or now(),
            "deleted": deleted,
        }
        await self._append("secrets", [row])

    async def settings(self, workspace_id: str) -> WorkspaceSettings:
        rows = await self._latest("settings", "value", where="1", workspace_id=workspace_id)
        return msgspec.json.decode(rows[0]["value"], type=WorkspaceSettings) if rows else WorkspaceSettings()

    async def put_settings(self, workspace_id: str, settings: WorkspaceSettings) -> None:
        value = msgspec.json.encode(settings).decode()
        await self._append("settings", [{"workspace_id": workspace_id, "value": value}])

    async def put_admin_token(self, workspace: WorkspaceRow) -> None:
        """The workspace's row with its new admin token."""
        await self._append("workspaces", [asdict(workspace) | {"deleted": False}])

    async def tokens(self, workspace_id: str) -> list[TokenRow]:
        rows = await self._latest("tokens", "value", where="NOT deleted", workspace_id=workspace_id)
        return [msgspec.json.decode(r["value"], type=TokenRow) for r in rows]

    async def put_token(self, workspace_id: str, token: TokenRow, *, deleted: bool = False) -> None:
        value = "" if deleted else msgspec.json.encode(token).decode()
        await self._append(
            "tokens", [{"workspace_id": workspace_id, "id": token.id, "value": value, "deleted": deleted}]
        )

    async def issuers(self, workspace_id: str) -> dict[str, str]:
        """Registrations by name, as they were written."""
        rows = await self._latest("issuers", "value", where="NOT deleted", workspace_id=workspace_id)
        return {r["name"]: r["value"] for r in rows}

    async def put_issuer(self, workspace_id: str, name: str, value: str, *, deleted: bool = False) -> None:
        await self._append(
            "issuers", [{"workspace_id": workspace_id, "name": name, "value": value, "deleted": deleted}]
        )

    async def environments(self) -> list[EnvironmentRow]:
        """Of all workspaces, in order of creation."""
        return await self._environments("NOT deleted")

    async def deleted_databases(self) -> set[str]:
        """Of deleted workspaces and environments; after a crash they may still be there. Names are never used again."""
        gone = await self._latest("workspaces", "database", where="deleted")
        return {row["database"] for row in gone} | {e.database for e in await self._environments("deleted")}

    async def add_environment(self, row: EnvironmentRow) -> None:
        """Raises Conflict if the workspace has one of its name, in whatever case, or the database is taken."""

        async def free() -> None:
            # One letter's case must not decide whose rows a token opens, nor what a file system takes for one name.
            mine = (e.name for e in await self.environments() if e.workspace_id == row.workspace_id)
            taken = next((name for name in mine if name.lower() == row.name.lower()), None)
            if taken is not None:
                raise Conflict(
                    f"There is already an environment named '{taken}'",
                    hint="Choose another name.",
                    reason=Reason.NAME_TAKEN,
                )
            await self._free(row.database)

        await self._append("environments", [asdict(row) | {"deleted": False}], free)

    async def delete_environment(self, row: EnvironmentRow) -> None:
        await self._append("environments", [asdict(row) | {"deleted": True}])

    async def jobs(self, *, since: datetime) -> list[tuple[str, dict[str, Any]]]:
        """Place and fields of each job that was written to since then, oldest first; older ones are forgotten."""
        first = int(since.timestamp() * 1_000_000)
        old = f"FROM `{DATABASE}`.jobs WHERE version < {first}"
        if await self._engine.rows(f"SELECT 1 {old} LIMIT 1"):
            try:
                await self._engine.command(
                    f"ALTER TABLE `{DATABASE}`.jobs DELETE WHERE version < {first}", settings={"mutations_sync": 1}
                )
            except DiskFull as error:
                log.warning("jobs of long ago stay in the state: %s", error.message)
        rows = await self._latest("jobs", "value", where=f"version >= {first}")
        found = [(row["place"], msgspec.json.decode(row["value"])) for row in rows]
        return sorted(found, key=lambda one: str(one[1]["created_at"]))

    async def put_job(self, database_id: str, id: str, fields: Mapping[str, Any]) -> None:
        await self._append("jobs", [{"place": database_id, "id": id, "value": msgspec.json.encode(fields).decode()}])

    async def paused_copies(self) -> list[PausedRow]:
        """The copies that were ever paused or resumed, with what was said last."""
        rows = await self._latest("paused_copies", "paused, version", where="1")
        return [
            PausedRow(r["place"], r["pipe"], bool(r["paused"]), datetime.fromtimestamp(int(r["version"]) / 1e6, UTC))
            for r in rows
        ]

    async def put_paused_copy(self, database_id: str, pipe: str, *, paused: bool) -> None:
        await self._append("paused_copies", [{"place": database_id, "pipe": pipe, "paused": paused}])

    async def stopped_sources(self) -> set[tuple[str, str]]:
        """The place and the name of each data source that is not to read its topic."""
        rows = await self._latest("stopped_sources", "stopped", where="1")
        return {(r["place"], r["datasource"]) for r in rows if r["stopped"]}

    async def put_stopped_source(self, place: str, datasource: str, *, stopped: bool) -> None:
        await self._append("stopped_sources", [{"place": place, "datasource": datasource, "stopped": stopped}])

    async def imported(
        self, place: str, datasource: str, bucket: str, first: str, last: str
    ) -> dict[str, ImportedRow]:
        """What became of the objects from the first to the last, in the order of their keys' bytes."""
        rows = await self._engine.rows(
            "SELECT object, object_version, status, attempts, rows, error, toString(at) AS at "
            f"FROM `{DATABASE}`.imported WHERE place = {{place:String}} AND datasource = {{datasource:String}} "
            "AND bucket = {bucket:String} AND object >= {first:String} AND object <= {last:String} "
            "ORDER BY version DESC LIMIT 1 BY object",
            {"place": place, "datasource": datasource, "bucket": bucket, "first": first, "last": last},
        )
        return {row["object"]: ImportedRow(**row) for row in rows}

    async def imported_counts(self, place: str, datasource: str, bucket: str) -> dict[str, tuple[int, int]]:
        """Of each status how many objects, and their rows."""
        rows = await self._engine.rows(
            "SELECT status, count() AS n, sum(rows) AS total FROM "
            f"(SELECT status, rows FROM `{DATABASE}`.imported WHERE place = {{place:String}} "
            "AND datasource = {datasource:String} AND bucket = {bucket:String} "
            "ORDER BY version DESC LIMIT 1 BY object) GROUP BY status",
            {"place": place, "datasource": datasource, "bucket": bucket},
        )
        return {row["status"]: (int(row["n"]), int(row["total"])) for row in rows}

    async def not_imported(self, place: str, datasource: str, bucket: str, most: int) -> list[ImportedRow]:
        """The objects that failed last, newest first."""
        rows = await self._engine.rows(
            "SELECT object, object_version, status, attempts, rows, error, toString(at) AS at FROM "
            f"(SELECT * FROM `{DATABASE}`.imported WHERE place = {{place:String}} "
            "AND datasource = {datasource:String} AND bucket = {bucket:String} "
            "ORDER BY version DESC LIMIT 1 BY object) "
            f"WHERE status != 'loaded' ORDER BY version DESC LIMIT {int(most)}",
            {"place": place, "datasource": datasource, "bucket": bucket},
        )
        return [ImportedRow(**row) for row in rows]

    async def put_imported(self, place: str, datasource: str, bucket: str, rows: Sequence[ImportedRow]) -> None:
        where = {"place": place, "datasource": datasource, "bucket": bucket}
        await self._append("imported", [where | asdict(row) | {"at": row.at or now()} for row in rows])

    async def import_batches(self) -> list[tuple[str, str, str, str]]:
        """Place, data source, id and value of those that are not done, oldest first."""
        rows = await self._engine.rows(
            f"SELECT place, datasource, id, value FROM `{DATABASE}`.import_batches "
            f"WHERE id NOT IN (SELECT id FROM `{DATABASE}`.import_batches WHERE done) ORDER BY version"
        )
        return [(row["place"], row["datasource"], row["id"], row["value"]) for row in rows]

    async def put_import_batch(self, place: str, datasource: str, id: str, value: str, *, done: bool = False) -> None:
        row = {"place": place, "datasource": datasource, "id": id, "value": value, "done": done}
        await self._append("import_batches", [row])

    async def import_pass(self, place: str, datasource: str) -> str:
        """What is known of the last look that saw to the whole bucket; empty before the first."""
        rows = await self._engine.rows(
            f"SELECT value FROM `{DATABASE}`.import_passes WHERE place = {{place:String}} "
            "AND datasource = {datasource:String} ORDER BY version DESC LIMIT 1",
            {"place": place, "datasource": datasource},
        )
        return str(rows[0]["value"]) if rows else ""

    async def put_import_pass(self, place: str, datasource: str, value: str) -> None:
        await self._append("import_passes", [{"place": place, "datasource": datasource, "value": value}])

    async def databases(self) -> set[str]:
        """Every database that any workspace or environment ever had, deleted ones too."""
        rows = await self._engine.rows(
            f"SELECT database FROM `{DATABASE}`.workspaces UNION DISTINCT "
            f"SELECT database FROM `{DATABASE}`.environments"
        )
        return {str(r["database"]) for r in rows}

    async def _environments(self, where: str) -> list[EnvironmentRow]:
        rows = await self._latest("environments", "name, database, toString(created_at) AS created_at", where=where)
        found = [EnvironmentRow(r["workspace_id"], r["id"], r["name"], r["database"], r["created_at"]) for r in rows]
        return sorted(found, key=lambda row: (row.created_at, row.name))

    async def _latest(
        self, table: str, columns: str, *, where: str, workspace_id: str | None = None
    ) -> list[dict[str, str]]:
        """The newest row of each key, if `where` holds for it."""
        key = _KEYS[table]
        scope = "WHERE workspace_id = {workspace:String} " if workspace_id is not None else ""
        columns = f"{columns}, key_id" if table in _SEALED else columns
        rows = await self._engine.rows(
            f"SELECT {key}, {columns} FROM (SELECT * FROM `{DATABASE}`.`{table}` {scope}"
            f"ORDER BY version DESC LIMIT 1 BY {key}) WHERE {where} ORDER BY {key}",
            {"workspace": workspace_id} if workspace_id is not None else None,
        )
        return [self._opened(table, row) for row in rows]

    async def _free(self, database: str) -> None:
        if database in await self.databases():
            raise Conflict(f"The database '{database}' was taken meanwhile", hint="Try again.")

    async def _append(
        self,
        table: str,
        rows: Sequence[Mapping[str, object]],
        check: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`check` reads what has to hold, and raises where it does not. It is asked of the rows that ours follow.

        Each insert has a deduplication token that names the newest row which was there before it: of those with the
        same token the engine takes one, and none says which. So the writer looks for its own id.
        """
        if not rows:
            return
        sealed = [self._sealed(table, row) for row in rows]
        if table in _OF_ONE_WRITER:
            await self._insert(table, sealed, self._next_version(), "", "")
            return
        writer = uuid.uuid4().hex
        burnt, before, since = 0, -1, 0.0
        for tried in range(_TRIES):
            if tried and await self._is_there(table, writer):  # the server that was asked first may have been behind
                return
            newest = await self._engine.rows(f"SELECT max(version) AS version FROM `{DATABASE}`.`{table}`")
            seen = int(newest[0]["version"])
            if seen != before:
                burnt, before, since = 0, seen, time.monotonic()
            elif time.monotonic() - since > _BURNT_SECONDS:
                burnt, since = burnt + 1, time.monotonic()
            if check is not None:
                await check()
            self._last_version = max(self._last_version, seen)
            await self._insert(table, sealed, self._next_version(), writer, f"{table} after {seen} ({burnt})")
            if await self._is_there(table, writer):
                return
            await asyncio.sleep(_LOOK_SECONDS)
        raise Unavailable("Other servers write to the state all the time", hint="Try again in a moment.", retry_after=5)

    async def _is_there(self, table: str, writer: str) -> bool:
        """Asked again while the engine is away: what was written must not be told as a failure."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return bool(
                    await self._engine.rows(
                        f"SELECT 1 FROM `{DATABASE}`.`{table}` WHERE writer = {{writer:String}} LIMIT 1",
                        {"writer": writer},
                    )
                )
            except Unavailable:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(_LOOK_SECONDS)

    async def _insert(
        self, table: str, rows: Sequence[Mapping[str, object]], version: int, writer: str, token: str
    ) -> None:
        numbered = [dict(row) | {"version": version + n} for n, row in enumerate(rows)]
        self._last_version = version + len(rows) - 1
        settings: dict[str, str | int] = {}
        if token:
            numbered = [row | {"writer": writer} for row in numbered]
            settings = {"insert_deduplicate": 1, "insert_deduplication_token": token}
        await self._engine.insert(f"`{DATABASE}`.`{table}`", numbered, settings=settings)

    def _sealed(self, table: str, row: Mapping[str, Any]) -> dict[str, Any]:
        column = _SEALED.get(table, "")
        if not row.get(column):
            return dict(row)
        text, key_id = self._seals.seal(row[column], _row_key(table, row))
        return dict(row) | {column: text, "key_id": key_id}

    def _opened(self, table: str, row: Mapping[str, Any]) -> dict[str, Any]:
        column = _SEALED.get(table, "")
        if not row.get(column):
            return dict(row)
        return dict(row) | {column: self._seals.open(row[column], row["key_id"], _row_key(table, row))}

    def _next_version(self) -> int:
        self._last_version = max(self._last_version + 1, time.time_ns() // 1000)
        return self._last_version


def _row(workspace_id: str, deployment: DeploymentRow) -> dict[str, object]:
    return {
        "workspace_id": workspace_id,
        "id": deployment.id,
        "live": deployment.live,
        "created_at": deployment.created_at,
        "files": msgspec.json.encode(dict(deployment.files)).decode(),
        "tables": msgspec.json.encode(deployment.tables).decode(),
        "tokens": msgspec.json.encode(deployment.tokens).decode(),
        "details": msgspec.json.encode(deployment.details).decode(),
    }


def _deployment(row: Mapping[str, Any]) -> DeploymentRow:
    return DeploymentRow(
        id=int(row["id"]),
        created_at=row["created_at"],
        files=msgspec.json.decode(row["files"] or "{}", type=dict[str, str]),
        tables=msgspec.json.decode(row["tables"] or "{}", type=TableNames),
        tokens=msgspec.json.decode(row["tokens"] or "[]", type=tuple[TokenRow, ...]),
        details=msgspec.json.decode(row["details"] or "{}", type=Details),
        live=bool(row["live"]),
    )


def _windows() -> str:
    return ", ".join(f"{name}={value}" for name, value in _WINDOWS.items())


def _being_sealed(table: str) -> str:
    return f"`{DATABASE}`.`{table}{_BEING_SEALED}`"


def _kept(table: str) -> str:
    """Where there is something to seal."""
    return f"{_SEALED[table]} != ''"


def _row_key(table: str, row: Mapping[str, Any]) -> list[str]:
    return [table, *(str(row[key]) for key in _KEYS[table].split(", "))]

"""All workspaces of a server: their snapshots, the keyring that checks tokens, and the methods that change them.

A change is first written to the state. Then a reference is swapped, and requests see it; no snapshot is mutated. So a
read of a snapshot never waits, and works while the engine is away. A change raises what the engine raises. If the
deployment of a workspace cannot be read, requests to it get 503 and the log has the reason; the others are served.

A workspace has its own database, and one for each of its environments. Each has a snapshot of its own. Only `snapshot`
finds the database of a token's environment, and it looks only in the token's own workspace.
"""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pipit.access.claims import MAX_ENVIRONMENT
from pipit.access.keyring import Keyring, WorkspaceKey
from pipit.access.tokens import make_token
from pipit.catalog.build import build_snapshot, in_database
from pipit.catalog.credentials import Credentials
from pipit.catalog.policy_checks import unpoliced_tables
from pipit.catalog.sealing import NO_SEALS, Seals
from pipit.catalog.snapshot import Snapshot, Workspace
from pipit.catalog.state import (
    DEFAULT_WORKSPACE,
    DeploymentRow,
    EnvironmentRow,
    SecretRow,
    State,
    Status,
    TableNames,
    TokenRow,
    WorkspaceRow,
    WorkspaceSettings,
    now,
)
from pipit.datafiles import parse_project, with_secrets
from pipit.datafiles.resources import Project
from pipit.engine.client import Engine
from pipit.errors import BadRequest, Conflict, Forbidden, NotFound, ProjectError, QueryTimeout, Reason, Unavailable
from pipit.sql.identifiers import is_resource_name, quote

log = logging.getLogger("pipit.catalog")

_DATABASE_PREFIX = "pipit_"
_SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,127}")
MAX_SECRETS = 100
MAX_ENVIRONMENTS = 500

SnapshotKey = tuple[str, str]  # workspace id, environment; "" is the workspace's own database


@dataclass(frozen=True, slots=True)
class Deployed:
    """A deployment beside the live one: its row, and what a request would see of it."""

    row: DeploymentRow
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Beside:
    """What is kept beside a live deployment: the one before it, and the one that waits to be live (staging)."""

    live: DeploymentRow | None = None  # the live one's own row
    previous: Deployed | None = None
    staging: Deployed | None = None

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        return tuple(one.snapshot for one in (self.previous, self.staging) if one is not None)


class Catalog:
    """Loads the state, holds the snapshots, and writes the state.

    Two others write rows of the state: `Credentials` (tokens and registrations) and `deploy/commit.py` (a deployment
    that is given up).
    """

    def __init__(
        self,
        engine: Engine,
        admin_token: str,
        *,
        keep_admin_token: Callable[[str], None] | None = None,
        seals: Seals = NO_SEALS,
    ) -> None:
        """`keep_admin_token` stores a new admin token of the default workspace. None: the token was given from outside,
        and can only be changed there."""
        self._engine = engine
        self._admin_token = admin_token  # the default workspace's
        self._keep_admin_token = keep_admin_token
        self.state = State(engine, seals)
        self.credentials = Credentials(self.state)
        self._snapshots: Mapping[SnapshotKey, Snapshot] = {}
        self._broken: Mapping[SnapshotKey, Workspace] = {}  # those whose deployment cannot be read
        self._beside: Mapping[SnapshotKey, Beside] = {}
        self._making: dict[SnapshotKey, Deployed] = {}
        self._environments: Mapping[str, tuple[EnvironmentRow, ...]] = {}
        self._tokens: Mapping[str, tuple[TokenRow, ...]] = {}
        self._secrets: Mapping[str, tuple[SecretRow, ...]] = {}
        self._changing = asyncio.Lock()

    @property
    def keyring(self) -> Keyring:
        return self.credentials.keyring

    @property
    def snapshots(self) -> Mapping[str, Snapshot]:
        """Each workspace in its own database, by workspace id."""
        return {id: snapshot for (id, environment), snapshot in self._snapshots.items() if not environment}

    @property
    def everywhere(self) -> tuple[Snapshot, ...]:
        """Each workspace in its own database and in those of its environments."""
        return tuple(self._snapshots.values())

    def snapshot(self, workspace_id: str, environment: str = "") -> Snapshot:
        """The workspace in its own database, or in that of its environment of this name.

        Raises Forbidden, with one text, for every name that is not an environment of this very workspace.
        """
        key = (workspace_id, environment)
        found = self._snapshots.get(key)
        if found is None and key in self._broken:
            raise _broken(self._broken[key])
        if found is None and environment:
            raise Forbidden(
                "The token names an environment that does not exist",
                hint="Its issuer names it; `pipit environment ls` shows those that there are.",
                reason=Reason.ENVIRONMENT_NOT_FOUND,
            )
        if found is None:
            raise NotFound("The workspace does not exist", reason=Reason.WORKSPACE_NOT_FOUND)
        return found

    def beside(self, workspace_id: str, environment: str = "") -> Beside:
        """What is kept beside what is live there."""
        return self._beside.get((workspace_id, environment), Beside())

    def staging(self, workspace_id: str, environment: str = "") -> Snapshot:
        """What waits to be live; what is live where nothing waits. Raises as `snapshot` does."""
        live = self.snapshot(workspace_id, environment)
        waits = self.beside(workspace_id, environment).staging
        return waits.snapshot if waits else live

    def coming(self, workspace_id: str, environment: str = "") -> Deployed | None:
        """What waits to be live, or is being made: its new tables are filled from rows that were there before."""
        return self.beside(workspace_id, environment).staging or self._making.get((workspace_id, environment))

    def making(self, workspace_id: str, environment: str = "") -> Deployed | None:
        """The deployment whose tables are being filled."""
        return self._making.get((workspace_id, environment))

    def set_making(self, workspace_id: str, environment: str, making: Deployed | None) -> None:
        """The deployment whose tables are being filled from now on; None: none is."""
        if making is None:
            self._making.pop((workspace_id, environment), None)
        else:
            self._making[workspace_id, environment] = making

    def kept(self, workspace_id: str, environment: str = "") -> tuple[Snapshot, ...]:
        """What is live, and what is kept beside it: whatever their names of tables name stays."""
        return (self.snapshot(workspace_id, environment), *self.beside(workspace_id, environment).snapshots)

    @property
    def default(self) -> Snapshot:
        return self.snapshot(next(w.id for w in self._workspaces() if w.name == DEFAULT_WORKSPACE))

    def environments(self, workspace_id: str) -> tuple[EnvironmentRow, ...]:
        """In order of creation."""
        return self._environments.get(workspace_id, ())

    async def load(self) -> None:
        """Reads everything back after a start: workspaces, tokens, secrets, the live deployment of each."""
        await self.state.prepare()
        rows = await self.state.workspaces()
        environments = await self.state.environments()
        if not any(r.name == DEFAULT_WORKSPACE for r in rows):
            rows.append(
                await self.state.add_workspace(DEFAULT_WORKSPACE, _DATABASE_PREFIX + DEFAULT_WORKSPACE, admin_token="")
            )
        for row in rows:
            await self._load_workspace(row, tuple(e for e in environments if e.workspace_id == row.id))
        self._rebuild_keyring()

    async def create_workspace(self, name: str) -> Workspace:
        """One database and one admin token of its own. Raises BadRequest on a bad name, Conflict on a taken one."""
        if not is_resource_name(name) or len(name) > 64:
            raise BadRequest(
                f"'{name[:80]}' is not a valid workspace name",
                hint="Letters, digits and underscores, not starting with a digit; 64 at most.",
                reason=Reason.NAME_INVALID,
            )
        async with self._changing:
            id = str(uuid.uuid4())
            database = await self._free_database(_DATABASE_PREFIX + name)
            row = await self.state.add_workspace(name, database, make_token(owner=id), id=id)
            await self._load_workspace(row, ())
            self._rebuild_keyring()
        return self.snapshot(row.id).workspace

    async def delete_workspace(self, workspace_id: str) -> tuple[str, ...]:
        """From now on no token opens it, nor its environments. Its databases are still there: whoever calls this drops
        them. Raises NotFound, and Conflict for the default workspace."""
        async with self._changing:
            row = next((r for r in await self.state.workspaces() if r.id == workspace_id), None)
            if row is None:
                raise NotFound("The workspace does not exist", reason=Reason.WORKSPACE_NOT_FOUND)
            if row.name == DEFAULT_WORKSPACE:
                raise Conflict(
                    "The default workspace cannot be deleted: its admin token manages the others",
                    reason=Reason.WORKSPACE_PROTECTED,
                )
            environments = self.environments(workspace_id)
            for environment in environments:
                await self.state.delete_environment(environment)
            await self.state.delete_workspace(row)
            self._snapshots = {place: s for place, s in self._snapshots.items() if place[0] != workspace_id}
            self._broken = {place: w for place, w in self._broken.items() if place[0] != workspace_id}
            self._beside = {place: kept for place, kept in self._beside.items() if place[0] != workspace_id}
            self._environments = {id: rows for id, rows in self._environments.items() if id != workspace_id}
            self._tokens = {id: tokens for id, tokens in self._tokens.items() if id != workspace_id}
            self._secrets = {id: secrets for id, secrets in self._secrets.items() if id != workspace_id}
            self.credentials.forget(workspace_id)
            self._rebuild_keyring()
        return (row.database, *(environment.database for environment in environments))

    async def create_environment(self, workspace_id: str, name: str) -> Snapshot:
        """Another, empty database of the workspace. Raises BadRequest on a bad name, Conflict on a taken one."""
        if not is_resource_name(name) or len(name) > MAX_ENVIRONMENT:
            raise BadRequest(
                f"'{name[:80]}' is not a valid environment name",
                hint=f"Letters, digits and underscores, no digit first, no SQL word; {MAX_ENVIRONMENT} at most.",
                reason=Reason.NAME_INVALID,
            )
        async with self._changing:
            workspace = self.snapshot(workspace_id).workspace
            rows = self.environments(workspace_id)
            if len(rows) >= MAX_ENVIRONMENTS:
                raise BadRequest(
                    f"A workspace has at most {MAX_ENVIRONMENTS} environments",
                    hint="Delete one.",
                    reason=Reason.LIMIT_REACHED,
                )
            database = await self._free_database(f"{_DATABASE_PREFIX}{workspace.name}__{name}")
            row = EnvironmentRow(workspace_id, str(uuid.uuid4()), name, database, now())
            await self.state.add_environment(row)
            await self._load_environment(row)
        return self.snapshot(workspace_id, name)

    async def delete_environment(self, workspace_id: str, name: str) -> EnvironmentRow:
        """From now on no token opens it. Its database is still there: whoever calls this drops it."""
        async with self._changing:
            rows = self.environments(workspace_id)
            gone = next((row for row in rows if row.name == name), None)
            if gone is None:
                raise NotFound(f"The environment '{name[:80]}' does not exist", reason=Reason.ENVIRONMENT_NOT_FOUND)
            await self.state.delete_environment(gone)
            self._environments = dict(self._environments) | {workspace_id: tuple(r for r in rows if r is not gone)}
            self._set_snapshot((workspace_id, name), None, None)
            self._beside = {place: kept for place, kept in self._beside.items() if place != (workspace_id, name)}
        return gone

    async def commit(
        self,
        workspace_id: str,
        deployment: DeploymentRow,
        project: Project,
        *,
        environment: str = "",
        after: DeploymentRow | None = None,
        compiled: Snapshot | None = None,
    ) -> Snapshot:
        """Writes the deployment's one row, then lets requests see it: tables, pipes and tokens at one moment.

        `compiled`: this very project, where it is compiled already, for whichever database of the workspace.
        `after`: what is live now, where an earlier deployment is to be live again. When it raises, the row may be
        written or not, or on its way: the state's rows have the answer.
        """
        snapshot = self._built(workspace_id, environment, deployment, project, compiled)
        await self.state.commit_deployment(snapshot.workspace.database_id, deployment, after=after)
        return self._publish(snapshot, deployment)

    async def put_beside(self, workspace_id: str, environment: str, beside: Beside, *changed: DeploymentRow) -> None:
        """Writes the rows of deployments that are not live, as they are from now on, then shows what is kept."""
        place = self.snapshot(workspace_id, environment).workspace.database_id
        for row in changed:
            await self.state.put_deployment(place, row)
        self._beside = dict(self._beside) | {(workspace_id, environment): beside}

    def deployed(
        self, workspace_id: str, environment: str, row: DeploymentRow, project: Project | None = None
    ) -> Deployed:
        """A deployment as requests would see it. Raises ProjectError where its files cannot be read any more."""
        if project is None:
            project = _deployed_project(row.files, self._secret_values(workspace_id))
        built = self._built(workspace_id, environment, row, project)
        return Deployed(row, replace(built, secrets=self._secret_values(workspace_id)))

    def adopt(
        self, workspace_id: str, deployment: DeploymentRow, project: Project, *, environment: str = ""
    ) -> Snapshot:
        """Lets requests see a deployment whose row is known to be written."""
        return self._publish(self._built(workspace_id, environment, deployment, project), deployment)

    def tokens(self, workspace_id: str) -> tuple[TokenRow, ...]:
        """Those that the live deployment's files name, as it has them; `credentials.tokens` has all, as they are."""
        return self._tokens.get(workspace_id, ())

    async def refresh_admin_token(self, workspace_id: str) -> str:
        """A new admin token; the old one, and every JWT that it signed, count for nothing from the next request on.

        Raises Conflict where the old one was given from outside and would be back after a restart.
        """
        async with self._changing:
            row = next((r for r in await self.state.workspaces() if r.id == workspace_id), None)
            if row is None:
                raise NotFound("The workspace does not exist", reason=Reason.WORKSPACE_NOT_FOUND)
            token = make_token(owner=workspace_id)
            if row.admin_token:
                await self.state.put_admin_token(replace(row, admin_token=token))
            elif self._keep_admin_token is not None:
                await asyncio.to_thread(self._keep_admin_token, token)
                self._admin_token = token
            else:
                raise Conflict(
                    "The default workspace's admin token comes from PIPIT_ADMIN_TOKEN, so it cannot be refreshed here",
                    hint="Set PIPIT_ADMIN_TOKEN to a new secret and restart the server: its JWTs end with it.",
                    reason=Reason.TOKEN_PROTECTED,
                )
            self._change_each(
                workspace_id, lambda live: replace(live, workspace=replace(live.workspace, admin_token=token))
            )
            broken = {p: replace(w, admin_token=token) for p, w in self._broken.items() if p[0] == workspace_id}
            self._broken = dict(self._broken) | broken
            self._rebuild_keyring()
        return token

    def secrets(self, workspace_id: str) -> tuple[SecretRow, ...]:
        return self._secrets.get(workspace_id, ())

    async def put_secret(self, workspace_id: str, name: str, value: str) -> SecretRow:
        """Sets a secret. Pipes see it at once; datafiles at the next deploy, as the dialect says."""
        if not _SECRET_NAME.fullmatch(name):
            raise BadRequest(
                f"'{name[:80]}' is not a valid secret name",
                hint="Letters, digits, '_', '.' and '-'.",
                reason=Reason.NAME_INVALID,
            )
        known = {s.name: s.created_at for s in self.secrets(workspace_id)}
        if name not in known and len(known) >= MAX_SECRETS:
            raise BadRequest(
                f"A workspace has at most {MAX_SECRETS} secrets",
                hint="Delete one that is not used.",
                reason=Reason.LIMIT_REACHED,
            )
        async with self._changing:
            await self.state.put_secret(workspace_id, name, value, created_at=known.get(name, ""))
            await self._reload_secrets(workspace_id)
        return next(s for s in self.secrets(workspace_id) if s.name == name)

    async def delete_secret(self, workspace_id: str, name: str) -> None:
        if name not in {s.name for s in self.secrets(workspace_id)}:
            raise NotFound("Variable not found", reason=Reason.SECRET_NOT_FOUND)
        async with self._changing:
            await self.state.put_secret(workspace_id, name, "", deleted=True)
            await self._reload_secrets(workspace_id)

    async def put_settings(self, workspace_id: str, settings: WorkspaceSettings) -> None:
        """Requests that begin after this see them.

        Raises ProjectError when they require policies and what is deployed lets a tenant reach a table without one.
        """
        async with self._changing:
            if settings.require_policies:
                snapshots = [s for (id, _), s in self._snapshots.items() if id == workspace_id]
                wanted = [replace(s, workspace=replace(s.workspace, settings=settings)) for s in snapshots]
                if errors := {error.identity: error for live in wanted for error in unpoliced_tables(live)}:
                    raise ProjectError(list(errors.values()))
            await self.state.put_settings(workspace_id, settings)
            self._change_each(
                workspace_id, lambda live: replace(live, workspace=replace(live.workspace, settings=settings))
            )

    def _change_each(self, workspace_id: str, change: Callable[[Snapshot], Snapshot]) -> None:
        """Changes the snapshots of all databases of the workspace at once."""
        mine = {key: change(s) for key, s in self._snapshots.items() if key[0] == workspace_id}
        self._snapshots = dict(self._snapshots) | mine

        def changed(one: Deployed | None) -> Deployed | None:
            return replace(one, snapshot=change(one.snapshot)) if one else None

        self._beside = {
            place: replace(kept, previous=changed(kept.previous), staging=changed(kept.staging))
            if place[0] == workspace_id
            else kept
            for place, kept in self._beside.items()
        }

    def _built(
        self,
        workspace_id: str,
        environment: str,
        deployment: DeploymentRow,
        project: Project,
        compiled: Snapshot | None = None,
    ) -> Snapshot:
        workspace = self.snapshot(workspace_id, environment).workspace
        own = compiled or (self.snapshot(workspace_id) if environment else None)
        if own is not None and own.project is project:
            return in_database(
                own, workspace, deployment.tables, deployment=deployment.id, created_at=deployment.created_at
            )
        return build_snapshot(
            workspace,
            project,
            deployment.tables,
            deployment=deployment.id,
            created_at=deployment.created_at,
        )

    def _publish(self, snapshot: Snapshot, row: DeploymentRow) -> Snapshot:
        id, environment = snapshot.workspace.id, snapshot.workspace.environment
        before, beside = self.snapshot(id, environment), self.beside(id, environment)
        previous = None
        if row.details.previous and beside.live is not None and row.details.previous == beside.live.id:
            previous = Deployed(beside.live, before)
        elif row.details.previous and beside.previous and row.details.previous == beside.previous.row.id:
            previous = beside.previous
        staging = beside.staging if beside.staging and beside.staging.row.id != row.id else None
        self._beside = dict(self._beside) | {(id, environment): Beside(row, previous, staging)}
        # A secret may have changed while the project was validated: take today's. So with the settings and the token.
        today = self.snapshot(id, environment).workspace
        workspace = replace(snapshot.workspace, settings=today.settings, admin_token=today.admin_token)
        snapshot = replace(snapshot, workspace=workspace, secrets=self._secret_values(id))
        self._set_snapshot((id, environment), snapshot, None)
        if not environment:  # tokens are the workspace's
            self._tokens = dict(self._tokens) | {id: row.tokens}
            self._rebuild_keyring()
        return snapshot

    def _set_snapshot(self, key: SnapshotKey, snapshot: Snapshot | None, broken: Workspace | None) -> None:
        """The snapshot of a database from now on; or the workspace, if it cannot be read; or nothing."""
        snapshots = {p: s for p, s in self._snapshots.items() if p != key}
        unreadable = {p: w for p, w in self._broken.items() if p != key}
        self._snapshots = snapshots | {key: snapshot} if snapshot else snapshots
        self._broken = unreadable | {key: broken} if broken else unreadable

    async def _load_workspace(self, row: WorkspaceRow, environments: tuple[EnvironmentRow, ...]) -> None:
        settings = await self.state.settings(row.id)
        workspace = Workspace(row.id, row.name, row.database, row.admin_token or self._admin_token, settings)
        await self._make_database(row.database)
        secrets = tuple(await self.state.secrets(row.id))
        self._secrets = dict(self._secrets) | {row.id: secrets}
        values = {s.name: s.value for s in secrets}
        snapshot: Snapshot | None = None
        tokens: tuple[TokenRow, ...] = ()
        try:
            snapshot, tokens = await self._read_deployment(workspace, values)
        except (Unavailable, QueryTimeout):
            raise
        except Exception:  # whatever it is, it must not take the other workspaces with it
            log.exception("the deployment of the workspace '%s' cannot be read; it is not served", row.name)
        await self.credentials.load(row.id)
        self._tokens = dict(self._tokens) | {row.id: tokens}
        self._set_snapshot((row.id, ""), snapshot, None if snapshot else workspace)
        await self._load_beside(row.id, "")
        for environment in environments:
            await self._load_environment(environment)

    async def _load_environment(self, row: EnvironmentRow) -> None:
        own = self._snapshots.get((row.workspace_id, ""))
        workspace = own.workspace if own else self._broken[(row.workspace_id, "")]
        workspace = replace(workspace, database=row.database, environment=row.name, environment_id=row.id)
        await self._make_database(row.database)
        snapshot: Snapshot | None = None
        try:
            deployment = await self.state.deployment(row.id)
            if deployment and own and own.deployment == deployment.id and own.project.files == deployment.files:
                snapshot = in_database(
                    own, workspace, deployment.tables, deployment=deployment.id, created_at=deployment.created_at
                )
            else:  # it missed a deploy
                snapshot, _ = self._from_row(workspace, deployment, self._secret_values(row.workspace_id))
        except (Unavailable, QueryTimeout):
            raise
        except Exception:  # as above
            log.exception("the environment '%s' of '%s' cannot be read; it is not served", row.name, workspace.name)
        known = [known for known in self.environments(row.workspace_id) if known.id != row.id]
        self._environments = dict(self._environments) | {row.workspace_id: (*known, row)}
        self._set_snapshot((row.workspace_id, row.name), snapshot, None if snapshot else workspace)
        await self._load_beside(row.workspace_id, row.name)

    async def _load_beside(self, workspace_id: str, environment: str) -> None:
        """One that cannot be read is not kept in sight; its tables stay, as long as its row is there."""
        live = self._snapshots.get((workspace_id, environment))
        if live is None:
            return
        rows = await self.state.deployments(live.workspace.database_id)
        own = next((row for row in rows if row.id == live.deployment), None)
        kept: dict[str, Deployed] = {}
        for row in rows:
            is_previous = own is not None and row.live and row.id == own.details.previous
            is_made = not row.live and row.details.can_go_on
            if is_previous or is_made or (not row.live and row.details.status == Status.DATA_READY):
                what = "previous" if is_previous else "making" if is_made else "staging"
                try:
                    kept[what] = self.deployed(workspace_id, environment, row)
                except Exception:  # as above
                    log.exception("deployment %d of '%s' cannot be read", row.id, live.workspace.name)
        self.set_making(workspace_id, environment, kept.get("making"))
        self._beside = dict(self._beside) | {
            (workspace_id, environment): Beside(own, kept.get("previous"), kept.get("staging"))
        }

    async def _make_database(self, name: str) -> None:
        """Writes nothing if the database exists: a server must start on a full disk too."""
        if not await self._engine.rows("SELECT 1 FROM system.databases WHERE name = {name:String}", {"name": name}):
            await self._engine.command(f"CREATE DATABASE IF NOT EXISTS {quote(name)}")

    async def _free_database(self, wanted: str) -> str:
        """A name that no database of Pipit has or ever had.

        Names of workspaces and environments are joined here, so `a__b` + `c` and `a` + `b__c` want the same one. And
        what waits on disk for the database of a deleted environment must not find another one of its name.
        """
        taken = await self.state.databases()
        taken |= {str(row["name"]) for row in await self._engine.rows("SELECT name FROM system.databases")}
        number = 1
        while (name := wanted if number == 1 else f"{wanted}__{number}") in taken:
            number += 1
        return name

    async def _read_deployment(
        self, workspace: Workspace, secrets: Mapping[str, str]
    ) -> tuple[Snapshot, tuple[TokenRow, ...]]:
        return self._from_row(workspace, await self.state.deployment(workspace.id), secrets)

    def _from_row(
        self, workspace: Workspace, deployment: DeploymentRow | None, secrets: Mapping[str, str]
    ) -> tuple[Snapshot, tuple[TokenRow, ...]]:
        if deployment is None:
            return build_snapshot(workspace, Project(), TableNames(), secrets=secrets), ()
        snapshot = build_snapshot(
            workspace,
            _deployed_project(deployment.files, secrets),
            deployment.tables,
            deployment=deployment.id,
            created_at=deployment.created_at,
            secrets=secrets,
        )
        return snapshot, deployment.tokens

    async def _reload_secrets(self, workspace_id: str) -> None:
        rows = tuple(await self.state.secrets(workspace_id))
        self._secrets = dict(self._secrets) | {workspace_id: rows}
        values = self._secret_values(workspace_id)
        self._change_each(workspace_id, lambda live: replace(live, secrets=values))

    def _workspaces(self) -> list[Workspace]:
        """All workspaces, also those that cannot be read, without their environments."""
        everyone = [*(s.workspace for s in self._snapshots.values()), *self._broken.values()]
        return [w for w in everyone if not w.environment]

    def _secret_values(self, workspace_id: str) -> dict[str, str]:
        return {s.name: s.value for s in self.secrets(workspace_id)}

    def _rebuild_keyring(self) -> None:
        keys = [WorkspaceKey(w.id, w.name, w.admin_token) for w in self._workspaces()]
        self.credentials.publish(keys, self._tokens)


def _broken(workspace: Workspace) -> Unavailable:
    return Unavailable(
        f"What is deployed in the workspace '{workspace.name}' cannot be read",
        hint="The server's log has the reason.",
    )


def _deployed_project(files: Mapping[str, str], secrets: Mapping[str, str]) -> Project:
    """What was deployed. A secret deleted since then must not keep a server from starting."""
    project = parse_project(files)
    try:
        return with_secrets(project, secrets)
    except ProjectError:
        return project

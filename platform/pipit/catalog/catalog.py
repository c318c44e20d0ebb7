"""All workspaces of a server: snapshots to read from, the keyring to check tokens with, and the ways to change them.

A change is written to the state first and seen by requests after: a reference is swapped, nothing is mutated. Reading
a snapshot never waits and never fails because the engine is away; changing one raises what the engine raises. A
workspace whose deployment cannot be read is broken (503, with the reason in the log); the others are served.
"""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import Mapping
from dataclasses import replace

from pipit.access.keyring import Keyring, StaticToken, WorkspaceKey
from pipit.access.tokens import make_token, parse_scope
from pipit.catalog.build import build_snapshot
from pipit.catalog.snapshot import Snapshot, Workspace
from pipit.catalog.state import (
    DEFAULT_WORKSPACE,
    DeploymentRow,
    SecretRow,
    State,
    TableNames,
    TokenRow,
    WorkspaceRow,
    WorkspaceSettings,
)
from pipit.datafiles import parse_project, with_secrets
from pipit.datafiles.resources import Project
from pipit.engine.client import Engine
from pipit.errors import BadRequest, NotFound, ProjectError, QueryTimeout, Unavailable
from pipit.sql.identifiers import is_resource_name, quote

log = logging.getLogger("pipit.catalog")

_DATABASE_PREFIX = "pipit_"
_SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,127}")
MAX_SECRETS = 100


class Catalog:
    """Loads the state, holds a snapshot per workspace, and is the only writer of state rows."""

    def __init__(self, engine: Engine, admin_token: str) -> None:
        self._engine = engine
        self._admin_token = admin_token  # the default workspace's
        self.state = State(engine)
        self._snapshots: Mapping[str, Snapshot] = {}
        self._broken: Mapping[str, Workspace] = {}  # those whose deployment cannot be read
        self._tokens: Mapping[str, tuple[TokenRow, ...]] = {}
        self._secrets: Mapping[str, tuple[SecretRow, ...]] = {}
        self._keyring = Keyring.build([], [])
        self._changing = asyncio.Lock()

    @property
    def keyring(self) -> Keyring:
        return self._keyring

    @property
    def snapshots(self) -> Mapping[str, Snapshot]:
        """By workspace id."""
        return self._snapshots

    def snapshot(self, workspace_id: str) -> Snapshot:
        found = self._snapshots.get(workspace_id)
        if found is None and workspace_id in self._broken:
            raise _broken(self._broken[workspace_id])
        if found is None:
            raise NotFound("The workspace does not exist")
        return found

    @property
    def default(self) -> Snapshot:
        everyone = [*(s.workspace for s in self._snapshots.values()), *self._broken.values()]
        return self.snapshot(next(w.id for w in everyone if w.name == DEFAULT_WORKSPACE))

    async def load(self) -> None:
        """Reads everything back after a start: workspaces, tokens, secrets, the live deployment of each."""
        await self.state.prepare()
        rows = await self.state.workspaces()
        if not any(r.name == DEFAULT_WORKSPACE for r in rows):
            rows.append(
                await self.state.add_workspace(DEFAULT_WORKSPACE, _DATABASE_PREFIX + DEFAULT_WORKSPACE, admin_token="")
            )
        for row in rows:
            await self._load_workspace(row)
        self._rebuild_keyring()

    async def create_workspace(self, name: str) -> Workspace:
        """One database and one admin token of its own. Raises BadRequest on a bad name, Conflict on a taken one."""
        if not is_resource_name(name) or len(name) > 64:
            raise BadRequest(
                f"'{name[:80]}' is not a valid workspace name",
                hint="Letters, digits and underscores, not starting with a digit; 64 at most.",
            )
        async with self._changing:
            id = str(uuid.uuid4())
            row = await self.state.add_workspace(name, _DATABASE_PREFIX + name, make_token(owner=id), id=id)
            await self._load_workspace(row)
            self._rebuild_keyring()
        return self._snapshots[row.id].workspace

    async def commit(self, workspace_id: str, deployment: DeploymentRow, project: Project) -> Snapshot:
        """Writes the deployment's one row, then lets requests see it: tables, pipes and tokens at one moment.

        When it raises, the row may be written or not, or on its way: the state's rows have the answer.
        """
        snapshot = self._built(workspace_id, deployment, project)
        await self.state.commit_deployment(workspace_id, deployment)
        return self._publish(snapshot, deployment.tokens)

    def adopt(self, workspace_id: str, deployment: DeploymentRow, project: Project) -> Snapshot:
        """Lets requests see a deployment whose row is known to be written."""
        return self._publish(self._built(workspace_id, deployment, project), deployment.tokens)

    def tokens(self, workspace_id: str) -> tuple[TokenRow, ...]:
        return self._tokens.get(workspace_id, ())

    def secrets(self, workspace_id: str) -> tuple[SecretRow, ...]:
        return self._secrets.get(workspace_id, ())

    async def put_secret(self, workspace_id: str, name: str, value: str) -> SecretRow:
        """Sets a secret. Pipes see it at once; datafiles at the next deploy, as the dialect says."""
        if not _SECRET_NAME.fullmatch(name):
            raise BadRequest(f"'{name[:80]}' is not a valid secret name", hint="Letters, digits, '_', '.' and '-'.")
        names = {s.name for s in self.secrets(workspace_id)}
        if name not in names and len(names) >= MAX_SECRETS:
            raise BadRequest(f"A workspace has at most {MAX_SECRETS} secrets", hint="Delete one that is not used.")
        async with self._changing:
            await self.state.put_secret(workspace_id, name, value)
            await self._reload_secrets(workspace_id)
        return next(s for s in self.secrets(workspace_id) if s.name == name)

    async def delete_secret(self, workspace_id: str, name: str) -> None:
        if name not in {s.name for s in self.secrets(workspace_id)}:
            raise NotFound("Variable not found")
        async with self._changing:
            await self.state.put_secret(workspace_id, name, "", deleted=True)
            await self._reload_secrets(workspace_id)

    async def put_settings(self, workspace_id: str, settings: WorkspaceSettings) -> None:
        """Requests that begin after this see them."""
        async with self._changing:
            await self.state.put_settings(workspace_id, settings)
            live = self.snapshot(workspace_id)
            changed = replace(live, workspace=replace(live.workspace, settings=settings))
            self._snapshots = dict(self._snapshots) | {workspace_id: changed}

    def _built(self, workspace_id: str, deployment: DeploymentRow, project: Project) -> Snapshot:
        return build_snapshot(
            self.snapshot(workspace_id).workspace,
            project,
            deployment.tables,
            deployment=deployment.id,
            created_at=deployment.created_at,
        )

    def _publish(self, snapshot: Snapshot, tokens: tuple[TokenRow, ...]) -> Snapshot:
        id = snapshot.workspace.id
        # A secret may have changed while the project was validated: take today's.
        snapshot = replace(snapshot, secrets=self._secret_values(id))
        self._tokens = dict(self._tokens) | {id: tokens}
        self._snapshots = dict(self._snapshots) | {id: snapshot}
        self._rebuild_keyring()
        return snapshot

    async def _load_workspace(self, row: WorkspaceRow) -> None:
        settings = await self.state.settings(row.id)
        workspace = Workspace(row.id, row.name, row.database, row.admin_token or self._admin_token, settings)
        await self._engine.command(f"CREATE DATABASE IF NOT EXISTS {quote(row.database)}")
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
        self._tokens = dict(self._tokens) | {row.id: tokens}
        others = {id: s for id, s in self._snapshots.items() if id != row.id}
        broken = {id: w for id, w in self._broken.items() if id != row.id}
        self._snapshots = others | {row.id: snapshot} if snapshot else others
        self._broken = broken if snapshot else broken | {row.id: workspace}

    async def _read_deployment(
        self, workspace: Workspace, secrets: Mapping[str, str]
    ) -> tuple[Snapshot, tuple[TokenRow, ...]]:
        deployment = await self.state.deployment(workspace.id)
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
        if workspace_id not in self._snapshots:
            return
        changed = replace(self._snapshots[workspace_id], secrets=self._secret_values(workspace_id))
        self._snapshots = dict(self._snapshots) | {workspace_id: changed}

    def _secret_values(self, workspace_id: str) -> dict[str, str]:
        return {s.name: s.value for s in self.secrets(workspace_id)}

    def _rebuild_keyring(self) -> None:
        workspaces = [*(s.workspace for s in self._snapshots.values()), *self._broken.values()]
        static = [
            StaticToken(workspace_id=id, id=t.id, name=t.name, token=t.token, scopes=tuple(map(parse_scope, t.scopes)))
            for id, rows in self._tokens.items()
            for t in rows
        ]
        keys = [WorkspaceKey(w.id, w.name, w.admin_token) for w in workspaces]
        self._keyring = Keyring.build(keys, static, generation=self._keyring.generation + 1)


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

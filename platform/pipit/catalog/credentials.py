"""A workspace's static tokens and registered keys. They are stored in the state, and checked as one `Keyring`.

A change is first written to the state, and counts from the next request on. If a call raises, requests see no change;
after a restart, what the state's rows say counts. The scopes of tokens that files name come from the deployment: only
their latest secret and description are stored here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from pipit.access.claims import MAX_ENVIRONMENT
from pipit.access.fetch import FetchedKeys
from pipit.access.issuers import MAX_ISSUERS, Issuer, TrustedIssuer, check_unambiguous, read_issuer
from pipit.access.jwks import KeySet, read_keys
from pipit.access.keyring import ADMIN_NAME, Keyring, StaticToken, WorkspaceKey
from pipit.access.tokens import make_token, parse_scope, token_id
from pipit.catalog.state import FILES, HTTP, State, TokenRow
from pipit.errors import BadRequest, Conflict, NotFound, PipitError, Reason
from pipit.sql.identifiers import is_resource_name

log = logging.getLogger("pipit.catalog")

MAX_TOKENS = 1000  # of a workspace, made over HTTP
MAX_NAME, MAX_DESCRIPTION, MAX_SCOPES = 256, 1024, 1000


class Credentials:
    """The only writer of tokens and registrations. For one event loop."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._keys: tuple[WorkspaceKey, ...] = ()
        self._deployed: Mapping[str, tuple[TokenRow, ...]] = {}
        self._kept: Mapping[str, Mapping[str, TokenRow]] = {}  # by workspace and id
        self._issuers: Mapping[str, Mapping[str, Issuer]] = {}  # by workspace and name
        self._inline: dict[tuple[str, str], KeySet] = {}
        self._keyring = Keyring.build([], [])
        self._changing = asyncio.Lock()
        self.fetched = FetchedKeys(changed=self._rebuild)

    @property
    def keyring(self) -> Keyring:
        return self._keyring

    async def load(self, workspace_id: str) -> None:
        """Reads a workspace's rows back; `publish` lets requests see them."""
        rows = await self._state.tokens(workspace_id)
        self._kept = {**self._kept, workspace_id: {row.id: row for row in rows}}
        issuers: dict[str, Issuer] = {}
        for name, value in (await self._state.issuers(workspace_id)).items():
            try:
                issuers[name] = read_issuer(msgspec.json.decode(value, type=dict[str, Any]), name)
            except (PipitError, msgspec.MsgspecError):
                log.exception("the key '%s' of the workspace %s cannot be read; it opens nothing", name, workspace_id)
        self._put_issuers(workspace_id, issuers)

    def forget(self, workspace_id: str) -> None:
        """Of a workspace that is deleted. Whoever calls this publishes the keys that are left."""
        self._kept = {id: rows for id, rows in self._kept.items() if id != workspace_id}
        self._put_issuers(workspace_id, {})
        self._issuers = {id: named for id, named in self._issuers.items() if id != workspace_id}

    def publish(self, keys: Iterable[WorkspaceKey], deployed: Mapping[str, tuple[TokenRow, ...]]) -> None:
        """The workspaces with their secrets, and the tokens that their live deployments name."""
        self._keys, self._deployed = tuple(keys), dict(deployed)
        self._rebuild()

    def tokens(self, workspace_id: str) -> tuple[TokenRow, ...]:
        """All static tokens as they are now, but for the workspace's admin token: the files' first."""
        kept = self._kept.get(workspace_id, {})
        files = self._deployed.get(workspace_id, ())
        newest = [
            replace(row, token=kept[row.id].token, description=kept[row.id].description) if row.id in kept else row
            for row in files
        ]
        return (*newest, *sorted((row for row in kept.values() if row.origin == HTTP), key=lambda row: row.name))

    def find(self, workspace_id: str, reference: str) -> TokenRow | None:
        """A token by its id, its name or its text."""
        rows = self.tokens(workspace_id)
        for name in ("id", "name", "token"):
            found = next((row for row in rows if reference and getattr(row, name) == reference), None)
            if found is not None:
                return found
        return None

    def check_free(self, workspace_id: str, names: Iterable[str]) -> None:
        """Raises Conflict if files name a token that was made over HTTP: two owners of one token's scopes."""
        kept = self._kept.get(workspace_id, {})
        taken = {row.name for row in kept.values() if row.origin == HTTP}.intersection(names)
        if taken:
            raise Conflict(
                f"The token '{min(taken)}', which the files name, was made over HTTP",
                hint="Delete that one (`pipit token rm`), or give the one of the files another name.",
                reason=Reason.NAME_TAKEN,
            )

    async def create(
        self, workspace_id: str, name: str, scopes: Iterable[str], *, description: str = "", environment: str = ""
    ) -> TokenRow:
        """Raises BadRequest on a bad name, scope or environment, Conflict on a taken name."""
        async with self._changing:
            rows = self.tokens(workspace_id)
            if sum(row.origin == HTTP for row in rows) >= MAX_TOKENS:
                raise BadRequest(
                    f"A workspace has at most {MAX_TOKENS} tokens",
                    hint="Delete some that are not used.",
                    reason=Reason.LIMIT_REACHED,
                )
            token = make_token(owner=workspace_id)
            row = TokenRow(token_id(token), _name(name, rows), token, _scopes(scopes), HTTP)
            row = replace(row, description=_description(description), environment=_environment(environment))
            await self._keep(workspace_id, row)
        return row

    async def change(
        self,
        workspace_id: str,
        id: str,
        *,
        name: str | None = None,
        scopes: Iterable[str] | None = None,
        description: str | None = None,
        environment: str | None = None,
    ) -> TokenRow:
        """What is None stays. Raises Conflict where files own what would change, NotFound, BadRequest."""
        async with self._changing:
            row = self._row(workspace_id, id)
            if row.origin == FILES and not (name in (None, row.name) and scopes is None and environment is None):
                raise Conflict(
                    f"The token '{row.name}' is named by files: its name and scopes follow them",
                    hint="Change the TOKEN lines and deploy.",
                    reason=Reason.FOLLOWS_FILES,
                )
            if name is not None and name != row.name:
                row = replace(row, name=_name(name, self.tokens(workspace_id)))
            if scopes is not None:
                row = replace(row, scopes=_scopes(scopes))
            if description is not None:
                row = replace(row, description=_description(description))
            if environment is not None:
                row = replace(row, environment=_environment(environment))
            await self._keep(workspace_id, row)
        return row

    async def refresh(self, workspace_id: str, id: str) -> TokenRow:
        """A new secret; the old one counts for nothing from the next request on."""
        async with self._changing:
            row = self._row(workspace_id, id)
            row = replace(row, token=make_token(owner=workspace_id, id=row.id))
            await self._keep(workspace_id, row)
        return row

    async def delete(self, workspace_id: str, id: str) -> None:
        """Raises Conflict for a token that files name."""
        async with self._changing:
            row = self._row(workspace_id, id)
            if row.origin == FILES:
                raise Conflict(
                    f"The token '{row.name}' is named by files: it goes with its last TOKEN line",
                    hint="Remove its TOKEN lines and deploy; to end its secret at once, refresh it.",
                    reason=Reason.FOLLOWS_FILES,
                )
            await self._state.put_token(workspace_id, row, deleted=True)
            mine = {k: v for k, v in self._kept[workspace_id].items() if k != row.id}
            self._kept = {**self._kept, workspace_id: mine}
            self._rebuild()

    def issuers(self, workspace_id: str) -> Mapping[str, Issuer]:
        return self._issuers.get(workspace_id, {})

    def keys(self, workspace_id: str, name: str) -> KeySet:
        """The keys of a registration, as they are known now."""
        issuer = self.issuers(workspace_id)[name]
        return self.fetched.keys(issuer.jwks_url) if issuer.jwks_url else self._inline[(workspace_id, name)]

    async def put_issuer(self, workspace_id: str, issuer: Issuer) -> None:
        """Registers, or replaces the one of this name. Raises Conflict where a token could mean two registrations."""
        async with self._changing:
            mine = {**self.issuers(workspace_id), issuer.name: issuer}
            if len(mine) > MAX_ISSUERS:
                raise BadRequest(
                    f"A workspace has at most {MAX_ISSUERS} keys",
                    hint="Remove one that is not used.",
                    reason=Reason.LIMIT_REACHED,
                )
            if any(issuer.issuer == key.id for key in self._keys):
                raise BadRequest("'issuer' cannot be a workspace's id", reason=Reason.KEY_INVALID)
            everyone = {**self._issuers, workspace_id: mine}
            check_unambiguous(one for named in everyone.values() for one in named.values())
            _check_own_keys(mine.values())
            await self._state.put_issuer(workspace_id, issuer.name, msgspec.json.encode(issuer).decode())
            self._put_issuers(workspace_id, mine)
            self._rebuild()

    async def delete_issuer(self, workspace_id: str, name: str) -> None:
        """Every token that its keys signed counts for nothing from the next request on."""
        async with self._changing:
            if name not in self.issuers(workspace_id):
                raise NotFound(f"There is no key '{name[:80]}'", reason=Reason.KEY_NOT_FOUND)
            await self._state.put_issuer(workspace_id, name, "", deleted=True)
            self._put_issuers(workspace_id, {k: v for k, v in self.issuers(workspace_id).items() if k != name})
            self._rebuild()

    def _row(self, workspace_id: str, id: str) -> TokenRow:
        found = next((row for row in self.tokens(workspace_id) if row.id == id), None)
        if found is None:
            raise NotFound("The token does not exist any more", reason=Reason.TOKEN_NOT_FOUND)
        return found

    async def _keep(self, workspace_id: str, row: TokenRow) -> None:
        await self._state.put_token(workspace_id, row)
        self._kept = {**self._kept, workspace_id: {**self._kept.get(workspace_id, {}), row.id: row}}
        self._rebuild()

    def _put_issuers(self, workspace_id: str, issuers: Mapping[str, Issuer]) -> None:
        self._issuers = {**self._issuers, workspace_id: issuers}
        self._inline = {place: keys for place, keys in self._inline.items() if place[0] != workspace_id}
        self._inline |= {(workspace_id, n): read_keys(i.jwks) for n, i in issuers.items() if i.jwks is not None}
        self.fetched.watch(i.jwks_url for named in self._issuers.values() for i in named.values() if i.jwks_url)

    def _rebuild(self) -> None:
        static = [
            StaticToken(id, row.id, row.name, row.token, tuple(map(parse_scope, row.scopes)), row.environment)
            for id in self._deployed.keys() | self._kept.keys()
            for row in self.tokens(id)
        ]
        trusted = [
            TrustedIssuer(id, issuer, self.keys(id, name))
            for id, named in self._issuers.items()
            for name, issuer in named.items()
        ]
        self._keyring = Keyring.build(self._keys, static, trusted)


def _name(name: str, rows: Iterable[TokenRow]) -> str:
    if not 0 < len(name) <= MAX_NAME or not name.isprintable() or "/" in name or name != name.strip():
        raise BadRequest(
            f"'{name[:80]}' is not a valid name of a token",
            hint=f"Printable text without '/', at most {MAX_NAME}.",
            reason=Reason.NAME_INVALID,
        )
    if name == ADMIN_NAME or any(row.name == name for row in rows):
        raise Conflict(
            f"There is already a token named '{name}'",
            hint="Choose another name, or refresh that one.",
            reason=Reason.NAME_TAKEN,
        )
    return name


def _scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(scopes))
    if len(found) > MAX_SCOPES:
        raise BadRequest(f"A token has at most {MAX_SCOPES} scopes", reason=Reason.LIMIT_REACHED)
    for scope in found:
        parse_scope(scope)
    return found


def _description(text: str) -> str:
    if len(text) > MAX_DESCRIPTION or "\0" in text:
        raise BadRequest(
            f"The description of a token has at most {MAX_DESCRIPTION} characters", reason=Reason.PARAMETER_TOO_LARGE
        )
    return text


def _environment(name: str) -> str:
    if name and not (is_resource_name(name) and len(name) <= MAX_ENVIRONMENT):
        raise BadRequest(f"'{name[:80]}' is not a valid name of an environment", reason=Reason.NAME_INVALID)
    return name


def _check_own_keys(issuers: Iterable[Issuer]) -> None:
    """Keys without `iss` are told apart by `kid` and algorithm alone."""
    seen: dict[tuple[str, str], str] = {}
    for issuer in issuers:
        if issuer.issuer or issuer.jwks is None:
            continue
        for place in read_keys(issuer.jwks).keys:
            if seen.setdefault(place, issuer.name) != issuer.name:
                raise Conflict(
                    f"The keys '{seen[place]}' and '{issuer.name}' have the same 'kid'",
                    hint="Give each key a 'kid' of its own, or an 'issuer'.",
                    reason=Reason.KEY_CONFLICT,
                )

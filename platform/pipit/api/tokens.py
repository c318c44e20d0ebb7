"""Tokens over HTTP (Tinybird's HTTP API): static ones, and JWTs that the server signs.

Who may manage tokens without being an admin (scope TOKENS) neither sees, makes nor changes one that is an admin's: a
token must not be able to make itself a greater one. Whoever asks for a token that is not there, or not theirs to see,
gets one and the same 403.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipit.access import grants
from pipit.access.claims import LAST_SECOND, read_context, read_environment, read_rps, read_scopes, strict_object
from pipit.access.context import Scope, SecurityContext, TokenKind
from pipit.access.jwt import mint
from pipit.access.keyring import ADMIN_NAME
from pipit.access.tokens import checked_scope, parse_scope, token_object
from pipit.api.answers import JSONResponse
from pipit.api.requests import authenticate, query_pairs, read_body, server_of, token_of, whole_number
from pipit.api.token_warnings import warnings_of
from pipit.catalog.snapshot import Snapshot
from pipit.catalog.state import TokenRow
from pipit.errors import BadRequest, Conflict, Forbidden, Reason

_ADMIN_SCOPES = frozenset({"ADMIN", "ADMIN_USER"})
_MAX_FIELDS = 2_000


@dataclass(slots=True)
class _Wanted:
    """What a request says about a token: URL, then form or JSON body. A field that is given twice is refused."""

    fields: dict[str, Any] = field(default_factory=dict)
    scopes: list[str] | None = None
    document: Mapping[str, Any] = field(default_factory=dict)  # a JSON body, whole

    def text(self, name: str) -> str | None:
        value = self.fields.get(name)
        if value is not None and not isinstance(value, str):
            raise BadRequest(f"'{name}' must be a text", reason=Reason.PARAMETER_INVALID, subject=name)
        return value

    def add(self, name: str, value: Any) -> None:
        if name in self.fields:
            raise BadRequest(f"The parameter '{name}' is given twice", reason=Reason.PARAMETER_REPEATED, subject=name)
        self.fields[name] = value


_FIELDS = frozenset({"name", "description", "environment", "expiration_time"})


async def _wanted(request: Request) -> _Wanted:
    wanted = _Wanted()
    pairs = query_pairs(request)
    body = await read_body(request, server_of(request).config.max_body_bytes)
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if body.strip():
        if kind == "application/json" or body.lstrip()[:1] == b"{":
            try:
                wanted.document = strict_object(body)
            except ValueError:
                raise BadRequest(
                    "The body must be a JSON object in which no name stands twice", reason=Reason.BODY_INVALID
                ) from None
        elif kind in ("application/x-www-form-urlencoded", ""):
            try:
                pairs = [*pairs, *parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS)]
            except ValueError:
                raise BadRequest("The form body cannot be read", reason=Reason.BODY_INVALID) from None
        else:
            raise BadRequest(
                f"A token cannot be read from a body of type '{kind[:80]}'",
                hint="Send application/json or application/x-www-form-urlencoded.",
                reason=Reason.BODY_TYPE_UNSUPPORTED,
            )
    for name, value in pairs:
        if name == "scope":
            wanted.scopes = [*(wanted.scopes or []), value]
        elif name in _FIELDS:
            wanted.add(name, value)
    for name in _FIELDS & wanted.document.keys():
        wanted.add(name, wanted.document[name])
    return wanted


def _static_scopes(wanted: _Wanted) -> list[str] | None:
    """Scope strings from the URL, a form, or a JSON body's `scopes` (texts, or objects); None if it names none."""
    found = wanted.scopes
    for name in ("scope", "scopes"):
        listed = wanted.document.get(name)
        if listed is None:
            continue
        if not isinstance(listed, list):
            raise BadRequest(
                f"'{name}' must be a list",
                hint='Such as ["PIPES:READ:top_pages"].',
                reason=Reason.PARAMETER_INVALID,
                subject=name,
            )
        found = [*(found or []), *(_scope_text(item) for item in listed)]
    if found is not None:
        for scope in found:
            parse_scope(scope)
    return found


def _scope_text(item: object) -> str:
    if isinstance(item, str):
        return item
    if not isinstance(item, dict) or not item.keys() <= {"type", "resource", "filter"}:
        raise BadRequest("A scope is a text, or an object with 'type' and 'resource'", reason=Reason.SCOPE_INVALID)
    type, resource, filter = (item.get(name) or "" for name in ("type", "resource", "filter"))
    if not (isinstance(type, str) and isinstance(resource, str) and isinstance(filter, str)):
        raise BadRequest("'type' and 'resource' of a scope are texts", reason=Reason.SCOPE_INVALID)
    scope = checked_scope(type, resource, filter)
    return f"{scope.type}:{scope.resource}" if scope.resource else scope.type


async def list_tokens(request: Request) -> Response:
    """GET /v0/tokens"""
    security, snapshot = authenticate(request)
    grants.require_tokens(security)
    rows = server_of(request).catalog.credentials.tokens(snapshot.workspace.id)
    listed = [_admin_object(snapshot)] if security.manages_workspace else []
    return JSONResponse({"tokens": listed + [_object(row) for row in rows if _may_manage(security, row.scopes)]})


async def create_token(request: Request) -> Response:
    """POST /v0/tokens: a static token; with `expiration_time` a JWT, which is kept nowhere.

    With `check=true` in the URL the answer has `warnings`, too: what the token will not open.
    """
    security, snapshot = authenticate(request)
    grants.require_tokens(security)
    wanted = await _wanted(request)
    if "expiration_time" in wanted.fields:
        grants.require_admin(security)
        made = _minted(snapshot, wanted)
        return JSONResponse({"token": made} | await _warnings(request, made))
    for name in ("context", "limits"):
        if name in wanted.document:
            raise BadRequest(
                f"A static token takes no '{name}'",
                hint="For a JWT give 'expiration_time'.",
                reason=Reason.PARAMETER_INVALID,
                subject=name,
            )
    scopes = _static_scopes(wanted)
    if not wanted.text("name") or not scopes:
        raise BadRequest(
            "The parameters 'name' and 'scope' are needed",
            hint="Such as name=dashboards&scope=PIPES:READ:top_pages; with 'expiration_time' it is a JWT.",
            reason=Reason.PARAMETER_MISSING,
        )
    _check_scopes(security, scopes)
    row = await server_of(request).catalog.credentials.create(
        snapshot.workspace.id,
        wanted.text("name") or "",
        scopes,
        description=wanted.text("description") or "",
        environment=wanted.text("environment") or "",
    )
    return JSONResponse(_object(row) | await _warnings(request, row.token))


async def _warnings(request: Request, made: str) -> dict[str, object]:
    asked = ("check", "true") in query_pairs(request)
    return {"warnings": await warnings_of(server_of(request), made)} if asked else {}


async def token(request: Request) -> Response:
    """GET, PUT, DELETE /v0/tokens/<id, name or text>"""
    security, snapshot = authenticate(request)
    reference = request.path_params["reference"]
    credentials = server_of(request).catalog.credentials
    id = snapshot.workspace.id
    if _is_admin_token(snapshot, reference) and security.manages_workspace:
        if request.method == "GET":
            return JSONResponse(_admin_object(snapshot))
        raise Conflict(
            "The workspace admin token cannot be changed or deleted",
            hint=f"POST /v0/tokens/{id}/refresh gives it a new secret.",
            reason=Reason.TOKEN_PROTECTED,
        )
    row = credentials.find(id, reference)
    # Whoever holds a token may look at it: it tells them nothing that they could not try out.
    own = row is not None and security.kind is TokenKind.STATIC and row.token == token_of(request)
    if row is None or not (_may_manage(security, row.scopes) or (own and request.method == "GET")):
        raise _unknown()
    if request.method == "GET":
        return JSONResponse(_object(row))
    if request.method == "DELETE":
        await credentials.delete(id, row.id)
        return JSONResponse({"ok": True})
    wanted = await _wanted(request)
    scopes = _static_scopes(wanted)
    _check_scopes(security, scopes or ())
    row = await credentials.change(
        id,
        row.id,
        name=wanted.text("name"),
        scopes=scopes,
        description=wanted.text("description"),
        environment=wanted.text("environment"),
    )
    return JSONResponse(_object(row))


async def refresh_token(request: Request) -> Response:
    """POST /v0/tokens/<id, name or text>/refresh: a new secret. That of the admin token ends all its JWTs."""
    security, snapshot = authenticate(request)
    reference = request.path_params["reference"]
    catalog = server_of(request).catalog
    id = snapshot.workspace.id
    if _is_admin_token(snapshot, reference) and security.manages_workspace:
        made = await catalog.refresh_admin_token(id)
        return JSONResponse(_admin_object(snapshot) | {"token": made})
    row = catalog.credentials.find(id, reference)
    if row is None or not _may_manage(security, row.scopes):
        raise _unknown()
    return JSONResponse(_object(await catalog.credentials.refresh(id, row.id)))


def _minted(snapshot: Snapshot, wanted: _Wanted) -> str:
    """A JWT for `{"scopes": [...], "limits": {...}, "context": {...}, "environment": ""}`."""
    expires = wanted.fields["expiration_time"]
    if not isinstance(expires, int) or isinstance(expires, bool):
        expires = whole_number(expires, LAST_SECOND) if isinstance(expires, str) else None
    name = wanted.text("name")
    if not name or expires is None:
        raise BadRequest(
            "The parameters 'name' and 'expiration_time' (seconds since 1970) are needed",
            reason=Reason.PARAMETER_MISSING,
        )
    if expires <= time.time():
        raise BadRequest(
            "The parameter 'expiration_time' is past",
            hint="Give a later second: `date +%s` plus 3600.",
            reason=Reason.PARAMETER_INVALID,
            subject="expiration_time",
        )
    if wanted.scopes is not None:
        raise BadRequest("The scopes of a JWT stand in the JSON body, as 'scopes'", reason=Reason.BODY_INVALID)
    try:
        scopes, context = read_scopes(wanted.document.get("scopes")), read_context(wanted.document.get("context") or {})
        rps = read_rps(wanted.document.get("limits"))
        environment = read_environment(wanted.fields["environment"]) if "environment" in wanted.fields else ""
    except Forbidden as error:
        raise BadRequest(error.message, hint=error.hint, reason=Reason.CLAIM_INVALID) from None
    workspace = snapshot.workspace
    return mint(
        workspace.id,
        workspace.admin_token,
        name=name,
        scopes=scopes,
        expires_at=expires,
        context=context,
        rps=rps,
        environment=environment,
    )


def _may_manage(security: SecurityContext, scopes: tuple[str, ...]) -> bool:
    if security.manages_workspace:
        return True
    if security.environment:  # it could give itself another one, or none
        return False
    manages = security.kind is TokenKind.STATIC and bool(security.scopes_for("TOKENS", ""))
    return manages and not _makes_an_admin(scopes)


def _makes_an_admin(scopes: Iterable[str]) -> bool:
    """By what a text means, not by how it is written. Raises BadRequest on a text that is no scope."""
    return any(parse_scope(text).type in _ADMIN_SCOPES for text in scopes)


def _check_scopes(security: SecurityContext, scopes: list[str] | tuple[()]) -> None:
    if not security.manages_workspace and _makes_an_admin(scopes):
        raise Forbidden(
            f"The token '{security.name}' cannot make an admin's token",
            hint="Use the workspace's admin token.",
            reason=Reason.ADMIN_REQUIRED,
        )


def _is_admin_token(snapshot: Snapshot, reference: str) -> bool:
    workspace = snapshot.workspace
    return reference in (workspace.id, ADMIN_NAME, workspace.admin_token)


def _unknown() -> Forbidden:
    return Forbidden(
        "Token has not enough permissions to get information about this token", reason=Reason.ADMIN_REQUIRED
    )


def _object(row: TokenRow) -> dict[str, object]:
    shown = token_object(
        id=row.id,
        token=row.token,
        name=row.name,
        description=row.description,
        scopes=map(parse_scope, row.scopes),
        origin=row.origin,
    )
    return shown | ({"environment": row.environment} if row.environment else {})


def _admin_object(snapshot: Snapshot) -> dict[str, object]:
    workspace = snapshot.workspace
    return token_object(
        id=workspace.id,
        name=ADMIN_NAME,
        token=workspace.admin_token,
        scopes=(Scope("ADMIN"),),
        origin="workspace",
    )


routes = [
    Route("/v0/tokens", list_tokens, methods=["GET"]),
    Route("/v0/tokens", create_token, methods=["POST"]),
    Route("/v0/tokens/", list_tokens, methods=["GET"]),
    Route("/v0/tokens/", create_token, methods=["POST"]),
    Route("/v0/tokens/{reference}/refresh", refresh_token, methods=["POST"]),
    Route("/v0/tokens/{reference}", token, methods=["GET", "PUT", "DELETE"]),
]

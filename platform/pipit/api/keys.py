"""/v0/workspace/keys: public keys that a workspace registered, whose JWTs it accepts. For its admin.

A registration is an `Issuer` inside (`access/issuers.py`) and a key to people: in URLs, the CLI and the docs.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pipit.access import grants
from pipit.access.claims import strict_object
from pipit.access.issuers import Issuer, read_issuer
from pipit.access.jwt import missing_keys
from pipit.api.answers import JSONResponse
from pipit.api.requests import authenticate, read_body, server_of, token_of
from pipit.catalog.snapshot import Snapshot
from pipit.errors import BadRequest, NotFound, PipitError, Reason


async def list_keys(request: Request) -> Response:
    """GET /v0/workspace/keys: who else may sign the workspace's tokens."""
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    issuers = server_of(request).catalog.credentials.issuers(snapshot.workspace.id)
    return JSONResponse({"keys": [_key_object(request, snapshot, issuer) for issuer in issuers.values()]})


async def key(request: Request) -> Response:
    """GET, PUT, DELETE /v0/workspace/keys/<name>; PUT with the registration as a JSON object makes or replaces it."""
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    server = server_of(request)
    credentials, id, name = server.catalog.credentials, snapshot.workspace.id, request.path_params["name"]
    if request.method == "PUT":
        try:
            document = strict_object(await read_body(request, server.config.max_body_bytes))
        except ValueError:
            raise BadRequest(
                "The body must be a JSON object in which no name stands twice", reason=Reason.BODY_INVALID
            ) from None
        document.pop("known_keys", None)  # as GET shows it, it may be sent back
        issuer = read_issuer(document, name)
        await credentials.put_issuer(id, issuer)
        if issuer.jwks_url:
            await credentials.fetched.learn([issuer.jwks_url])
        return JSONResponse(_key_object(request, snapshot, issuer))
    if name not in credentials.issuers(id):
        raise NotFound(
            f"There is no key '{name[:80]}'",
            hint="GET /v0/workspace/keys lists those that there are.",
            reason=Reason.KEY_NOT_FOUND,
            subject=name,
        )
    if request.method == "DELETE":
        await credentials.delete_issuer(id, name)
        return JSONResponse({"ok": True})
    return JSONResponse(_key_object(request, snapshot, credentials.issuers(id)[name]))


class KeysFirst:
    """Before a request with a token of a key that is not known: its registered URL is asked, within bounds.

    So the first token after a provider changed its keys is not refused. Nothing is decided here.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            server = scope["app"].state.server
            credentials = server.catalog.credentials
            if credentials.fetched.has_urls:
                try:
                    text = token_of(Request(scope))
                except PipitError:
                    text = ""  # the route says what is wrong
                if text and not server.authenticator.remembers(text, credentials.keyring):
                    await credentials.fetched.learn(missing_keys(text, credentials.keyring))
        await self._app(scope, receive, send)


def _key_object(request: Request, snapshot: Snapshot, issuer: Issuer) -> dict[str, Any]:
    """The registration, and the keys that count now: none yet, if its URL has not answered."""
    known = server_of(request).catalog.credentials.keys(snapshot.workspace.id, issuer.name)
    listed = [{"kid": k.kid, "alg": k.algorithm} for k in known.keys.values()]
    shown: dict[str, Any] = msgspec.to_builtins(issuer)
    return shown | {"known_keys": listed}


routes = [
    Route("/v0/workspace/keys", list_keys, methods=["GET"]),
    Route("/v0/workspace/keys/{name}", key, methods=["GET", "PUT", "DELETE"]),
]

"""What a request carries, bounded: its token, its parameters from query, form and JSON, its body.

The order and source of parameters are kept; what wins is decided in `access.params`, never here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from pipit.access.authenticate import bearer_tokens
from pipit.access.context import SecurityContext
from pipit.access.params import Parameter, RequestParams
from pipit.api.objects import datasource_of, is_resource_id, pipe_of
from pipit.api.server import Server
from pipit.catalog.snapshot import Snapshot
from pipit.errors import BadRequest, TooLarge

MAX_URL_BYTES = 8 * 1024
MAX_PARAMETERS = 1_000


def server_of(request: Request) -> Server:
    server: Server = request.app.state.server
    return server


def authenticate(request: Request) -> tuple[SecurityContext, Snapshot]:
    """The token's context and the snapshot that this request holds from now to its end.

    Raises Forbidden (bad, missing or expired token), BadRequest (two tokens), RateLimited.
    """
    server = server_of(request)
    security = server.authenticator.authenticate(
        bearer_tokens(request.headers.getlist("authorization")),
        [v for k, v in query_pairs(request) if k == "token"],
        server.catalog.keyring,
    )
    headers = server.limiter.check(security)
    request.state.rate_headers = headers
    snapshot = server.catalog.snapshot(security.workspace_id)
    return named_scopes(security, snapshot), snapshot


def named_scopes(security: SecurityContext, snapshot: Snapshot) -> SecurityContext:
    """Scopes may name resources by id (tinybird.md 3.7); from here on there are only names."""
    if not any(is_resource_id(scope.resource) for scope in security.scopes):
        return security
    scopes = tuple(
        replace(
            scope,
            resource=pipe_of(snapshot, scope.resource)
            if scope.type.startswith("PIPES:")
            else datasource_of(snapshot, scope.resource),
        )
        for scope in security.scopes
    )
    return replace(security, scopes=scopes)


def query_pairs(request: Request) -> list[tuple[str, str]]:
    """The query string's pairs in order. `;` separates nothing."""
    raw: bytes = request.scope["query_string"]
    return _pairs(raw.decode("latin-1"))


async def parameters(
    request: Request, limit: int, *, body: bool = True, reserved: Sequence[str] = ("q", "format")
) -> tuple[RequestParams, dict[str, str]]:
    """Query string, then the body if it is a form or JSON: (template parameters, the reserved ones by name).

    Reserved names are consumed by the server and never reach a template; of several, the first counts. Raises
    BadRequest, TooLarge.
    """
    found = [Parameter("query", name, value) for name, value in query_pairs(request)]
    if body and request.method in ("POST", "PUT"):
        found += await _body_parameters(request, limit)
    if len(found) > MAX_PARAMETERS:
        raise BadRequest(f"More than {MAX_PARAMETERS} parameters")
    controls: dict[str, str] = {}
    for parameter in found:
        if parameter.name in reserved:
            controls.setdefault(parameter.name, str(parameter.value))
    names = {*reserved, "token"}
    return RequestParams(tuple(p for p in found if p.name not in names)), controls


async def read_body(request: Request, limit: int) -> bytes:
    """The body, at most `limit` bytes as sent. Raises TooLarge as soon as that is known."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise TooLarge(f"The body is larger than {limit} bytes", hint="Send it in parts.")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"The body is larger than {limit} bytes", hint="Send it in parts.")
        chunks.append(chunk)
    return b"".join(chunks)


async def _body_parameters(request: Request, limit: int) -> list[Parameter]:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        async with request.form(max_files=0, max_fields=MAX_PARAMETERS, max_part_size=limit) as form:
            return [Parameter("form", k, v) for k, v in form.multi_items() if isinstance(v, str)]
    body = await read_body(request, limit)
    if not body.strip():
        return []
    if kind == "application/json" or (kind != "application/x-www-form-urlencoded" and body.lstrip()[:1] == b"{"):
        return [Parameter("json", name, value) for name, value in _json_pairs(body)]
    if kind in ("application/x-www-form-urlencoded", ""):
        try:
            return [Parameter("form", k, v) for k, v in _pairs(body.decode())]
        except UnicodeDecodeError:
            raise BadRequest("The form body is not valid UTF-8") from None
    raise BadRequest(
        f"Parameters cannot be read from a body of type '{kind[:80]}'",
        hint="Send application/json or application/x-www-form-urlencoded.",
    )


def _pairs(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="strict")
    except UnicodeDecodeError:
        raise BadRequest("A parameter is not valid UTF-8") from None
    except ValueError:
        raise BadRequest(f"More than {MAX_PARAMETERS} parameters") from None


class _Pairs(list[tuple[str, Any]]):
    """An object's members in order, repeated names kept."""


def _json_pairs(body: bytes) -> list[tuple[str, Any]]:
    try:
        value = json.loads(body, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        raise BadRequest("The body is not valid JSON") from None
    if not isinstance(value, _Pairs):
        raise BadRequest("The JSON body must be an object of parameters")
    return [(name, _plain(member)) for name, member in value]


def _plain(value: Any) -> Any:
    if isinstance(value, _Pairs):
        return {k: _plain(v) for k, v in value}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value

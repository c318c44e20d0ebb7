"""What a request carries, bounded: its token, its parameters from query, form and JSON, its body.

Every body that is read here or with `bounded` is counted as it arrives, whatever its Content-Length and its form say;
event bodies have a reader of their own (`ingest.body`). The order and source of parameters are kept; what wins is
decided in `access.params`, never here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.types import Message

from pipit.access.authenticate import bearer_tokens, one_token
from pipit.access.context import SecurityContext
from pipit.access.params import RequestParams, SentParameter
from pipit.access.tokens import digest
from pipit.api.objects import datasource_of, is_resource_id, pipe_of
from pipit.catalog.snapshot import Snapshot
from pipit.errors import BadRequest, Reason, TooLarge
from pipit.server import Server

STAGING = "__tb__deployment"
REMAINING = "X-RateLimit-Remaining"
MAX_URL_BYTES = 8 * 1024
MAX_PARAMETERS = 1_000
MAX_JSON_DEPTH = 32
_PAIRS = "pipit.query_pairs"  # in a request's scope: they are asked for several times
DIGEST = 16  # hex digits of a token's SHA-256: they name it in the audit log


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who sent a request, once that is known. `token` is a digest, never the token."""

    security: SecurityContext
    snapshot: Snapshot
    token: str


def server_of(request: Request) -> Server:
    server: Server = request.app.state.server
    return server


def authenticate(request: Request, *, reads: bool = False) -> tuple[SecurityContext, Snapshot]:
    """The token's context and the snapshot that this request holds from now to its end.

    With `reads` that may be the deployment that waits to be live: `__tb__deployment=staging`, for tokens that may. What
    is written, and what is managed, is always the live one's.

    Raises Forbidden (bad, missing or expired token), BadRequest (two tokens), RateLimited.
    """
    server = server_of(request)
    token = token_of(request)
    security, snapshot = viewer_of(server, token)
    if reads and security.may_read_staging and (STAGING, "staging") in query_pairs(request):
        waits = server.catalog.staging(security.workspace_id, security.environment)
        security, snapshot = _with_names(server.authenticator.check(token, server.catalog.keyring), waits), waits
    request.state.viewer = Viewer(security, snapshot, digest(token).hex()[:DIGEST])
    request.state.rate_headers = server.limiter.check(security)
    return security, snapshot


def count_write(request: Request, security: SecurityContext, datasource: str) -> None:
    """Of events or a file into a data source. The answer has the headers of the limit that is nearer.

    Raises RateLimited.
    """
    server = server_of(request)
    headers = server.limiter.check_write(security, datasource, server.config.writes_rps)
    known: dict[str, str] = dict(request.state.rate_headers)
    if headers and int(headers[REMAINING]) <= int(known.get(REMAINING, headers[REMAINING])):
        request.state.rate_headers = headers


def token_of(request: Request) -> str:
    """The text of the request's one token, whatever it is worth. Raises Forbidden for none, BadRequest for two."""
    sent = [value.decode("latin-1") for name, value in request.scope["headers"] if name == b"authorization"]
    return one_token(bearer_tokens(sent), [v for k, v in query_pairs(request) if k == "token"])


def viewer_of(server: Server, token: str) -> tuple[SecurityContext, Snapshot]:
    """Who holds this token, and the workspace as it stands, in the token's environment. Raises Forbidden.

    Every use of a token begins here, so that what is explained is what is served, and no environment but the token's
    own is ever seen: the snapshot names one database.
    """
    security = server.authenticator.check(token, server.catalog.keyring)
    snapshot = server.catalog.snapshot(security.workspace_id, security.environment)
    return _with_names(security, snapshot), snapshot


def _with_names(security: SecurityContext, snapshot: Snapshot) -> SecurityContext:
    """Scopes may name resources by id (Tinybird's HTTP API); from here on there are only names."""
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
    if not raw:
        return []
    known: list[tuple[str, str]] | None = request.scope.get(_PAIRS)
    if known is None:
        known = request.scope[_PAIRS] = _pairs(raw.decode("latin-1"))
    return known


async def parameters(
    request: Request, limit: int, *, body: bool = True, reserved: Sequence[str] = ("q", "format")
) -> tuple[RequestParams, dict[str, str]]:
    """Query string, then the body if it is a form or JSON: (template parameters, the reserved ones by name).

    Reserved names are consumed by the server and never reach a template; of several, the first counts. Raises
    BadRequest, TooLarge.
    """
    found = [SentParameter("query", name, value) for name, value in query_pairs(request)]
    if body and request.method in ("POST", "PUT"):
        found += await _body_parameters(request, limit)
    if len(found) > MAX_PARAMETERS:
        raise BadRequest(f"More than {MAX_PARAMETERS} parameters", reason=Reason.TOO_MANY_PARAMETERS)
    controls: dict[str, str] = {}
    for parameter in found:
        if parameter.name in reserved:
            controls.setdefault(parameter.name, str(parameter.value))
    names = {*reserved, "token"}
    return RequestParams(tuple(p for p in found if p.name not in names)), controls


def bounded(request: Request, limit: int, what: str = "body") -> Request:
    """The same request; whoever reads its body gets TooLarge as soon as it is known to exceed `limit` bytes."""
    size = 0
    refusal = TooLarge(
        f"The {what} is larger than {limit} bytes", hint="Send it in parts.", reason=Reason.BODY_TOO_LARGE
    )

    async def receive() -> Message:
        nonlocal size
        message = await request.receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise refusal
        return message

    if (whole_number(request.headers.get("content-length", ""), limit) or 0) > limit:
        raise refusal
    return Request(request.scope, receive)


async def read_body(request: Request, limit: int) -> bytes:
    """The body, at most `limit` bytes as sent. Raises TooLarge."""
    return b"".join([chunk async for chunk in bounded(request, limit).stream()])


def whole_number(text: str, most: int) -> int | None:
    """A number written with the digits 0 to 9 and nothing else; what is larger than `most` is `most` + 1."""
    if not (text.isascii() and text.isdecimal()):
        return None
    digits = text.lstrip("0")
    return most + 1 if len(digits) > len(str(most)) else min(int(digits or "0"), most + 1)


async def _body_parameters(request: Request, limit: int) -> list[SentParameter]:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        counted = bounded(request, limit)
        async with counted.form(max_files=0, max_fields=MAX_PARAMETERS, max_part_size=limit) as form:
            return [SentParameter("form", k, v) for k, v in form.multi_items() if isinstance(v, str)]
    body = await read_body(request, limit)
    if not body.strip():
        return []
    if kind == "application/json" or (kind != "application/x-www-form-urlencoded" and body.lstrip()[:1] == b"{"):
        return [SentParameter("json", name, value) for name, value in _json_pairs(body)]
    if kind in ("application/x-www-form-urlencoded", ""):
        try:
            return [SentParameter("form", k, v) for k, v in _pairs(body.decode())]
        except UnicodeDecodeError:
            raise BadRequest("The form body is not valid UTF-8", reason=Reason.BODY_INVALID) from None
    raise BadRequest(
        f"Parameters cannot be read from a body of type '{kind[:80]}'",
        hint="Send application/json or application/x-www-form-urlencoded.",
        reason=Reason.BODY_TYPE_UNSUPPORTED,
    )


def _pairs(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="strict")
    except UnicodeDecodeError:
        raise BadRequest("A parameter is not valid UTF-8", reason=Reason.PARAMETER_INVALID) from None
    except ValueError:
        raise BadRequest(f"More than {MAX_PARAMETERS} parameters", reason=Reason.TOO_MANY_PARAMETERS) from None


class _Pairs(list[tuple[str, Any]]):
    """An object's members in order, repeated names kept."""


def _json_pairs(body: bytes) -> list[tuple[str, Any]]:
    try:
        value = json.loads(body, object_pairs_hook=_Pairs, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        raise BadRequest("The body is not valid JSON", reason=Reason.BODY_INVALID) from None
    if not isinstance(value, _Pairs):
        raise BadRequest("The JSON body must be an object of parameters", reason=Reason.BODY_INVALID)
    return [(name, _plain(member, 1)) for name, member in value]


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _plain(value: Any, depth: int) -> Any:
    """Objects as dictionaries. The depth is bounded, so that nothing that walks a value later runs out of stack."""
    if not isinstance(value, list):
        return value
    if depth > MAX_JSON_DEPTH:
        raise BadRequest(f"The JSON body is nested more than {MAX_JSON_DEPTH} deep", reason=Reason.BODY_INVALID)
    if isinstance(value, _Pairs):
        return {k: _plain(v, depth + 1) for k, v in value}
    return [_plain(v, depth + 1) for v in value]

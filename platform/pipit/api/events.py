"""POST /v0/events: bytes in, acknowledged when they are on disk (202) or in the table (200 with `wait=true`)."""

from __future__ import annotations

import hashlib

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipit.access import grants
from pipit.access.context import Scope, SecurityContext
from pipit.access.tokens import digest
from pipit.api.answers import JSONResponse
from pipit.api.requests import authenticate, bounded, count_write, query_pairs, server_of, token_of
from pipit.errors import BadRequest, NotFound, Reason
from pipit.ingest import read_body, target_of

_TRUE = frozenset({"true", "1", "yes"})


async def events(request: Request) -> Response:
    server = server_of(request)
    security, snapshot = authenticate(request)
    query: dict[str, str] = {}
    for name, value in query_pairs(request):
        if name in ("name", "format", "wait") and query.setdefault(name, value) != value:
            raise BadRequest(
                f"The parameter '{name}' is given twice with different values",
                reason=Reason.PARAMETER_REPEATED,
                subject=name,
            )
    if not query.get("name"):
        raise BadRequest(
            "The parameter 'name' is missing",
            hint="POST /v0/events?name=<data source>",
            reason=Reason.PARAMETER_MISSING,
            subject="name",
        )
    format = query.get("format", "ndjson").lower()
    if format not in ("ndjson", "json"):
        raise BadRequest(
            f"The format '{format[:40]}' is not supported",
            hint="Use ndjson or json.",
            reason=Reason.FORMAT_UNSUPPORTED,
            subject=format,
        )
    name = query["name"]
    table = snapshot.datasource(name)
    values = grants.append(security, table.name if table else name, exists=table is not None)
    if table is None:
        raise NotFound(
            f'Data Source "{name[:200]}" does not exist',
            hint="Deploy it first.",
            reason=Reason.DATASOURCE_NOT_FOUND,
            subject=name,
        )
    count_write(request, security, table.name)
    await server.deployer.appends.check(snapshot, table, security, values)
    wait = query.get("wait", "false").lower() in _TRUE
    limit = server.config.max_event_bytes
    stream = bounded(request, limit).stream()  # too long by its own word is refused before anything is sent
    body = await read_body(stream, request.headers.getlist("content-encoding"), limit=limit)
    result = await server.ingest.append(
        target_of(table),
        body,
        format=format,
        wait=wait,
        fixed_values=values,
        idempotency_key=request.headers.get("idempotency-key"),
        scope=sender_of(security, token_of(request)),
    )
    return JSONResponse(
        {"successful_rows": result.successful_rows, "quarantined_rows": result.quarantined_rows},
        status_code=200 if result.loaded else 202,
        headers=dict(request.state.rate_headers),
    )


def owner_of(security: SecurityContext, token: str) -> str:
    """By which a job remembers who asked for it. Tenants whose tokens differ only in what they fix are not the same."""
    fixed = sorted(repr((s.resource, sorted(s.fixed_values.items()))) for s in security.scopes if s.fixed_values)
    who = f"{sender_of(security, token)}:{fixed}" if fixed else sender_of(security, token)
    return hashlib.blake2b(who.encode(), digest_size=16).hexdigest()


def sender_of(security: SecurityContext, token: str) -> str:
    """Within whom an idempotency key means something: a renewed token of the same tenant is the same sender.

    A JWT that says nothing of whose it is, is one of its own: another tenant's may have the same name.
    """
    sender = f"{security.kind}:{security.name}:{sorted(security.context.items())}"
    reads = sorted(repr((s.resource, s.filter, sorted(s.fixed_params.items()))) for s in security.scopes if _narrows(s))
    if reads:
        return f"{sender}:{reads}"
    known = bool(security.context) or any(scope.fixed_values for scope in security.scopes)
    return sender if known or not security.is_tenant else f"{sender}:{digest(token).hex()}"


def _narrows(scope: Scope) -> bool:
    return bool(scope.filter or scope.fixed_params)


routes = [Route("/v0/events", events, methods=["POST"])]

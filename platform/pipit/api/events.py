"""POST /v0/events: bytes in, acknowledged when they are on disk (202) or in the table (200 with `wait=true`)."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipit.access import grants
from pipit.access.context import FixedValue, SecurityContext
from pipit.api.requests import authenticate, bounded, query_pairs, server_of
from pipit.catalog.snapshot import Table
from pipit.errors import BadRequest, Forbidden, NotFound
from pipit.ingest import Target, read_body

_TRUE = frozenset({"true", "1", "yes"})


async def events(request: Request) -> Response:
    server = server_of(request)
    security, snapshot = authenticate(request)
    query: dict[str, str] = {}
    for name, value in query_pairs(request):
        if name in ("name", "format", "wait") and query.setdefault(name, value) != value:
            raise BadRequest(f"The parameter '{name}' is given twice with different values")
    if not query.get("name"):
        raise BadRequest("The parameter 'name' is missing", hint="POST /v0/events?name=<data source>")
    format = query.get("format", "ndjson").lower()
    if format not in ("ndjson", "json"):
        raise BadRequest(f"The format '{format[:40]}' is not supported", hint="Use ndjson or json.")
    name = query["name"]
    table = snapshot.datasource(name)
    values = grants.append(security, table.name if table else name, exists=table is not None)
    if table is None:
        raise NotFound(f'Data Source "{name[:200]}" does not exist', hint="Deploy it first.")
    _check_policy(security, table, values)
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
        scope=f"{security.kind}:{security.name}:{sorted(security.context.items())}",
    )
    return JSONResponse(
        {"successful_rows": result.successful_rows, "quarantined_rows": result.quarantined_rows},
        status_code=200 if result.loaded else 202,
        headers=dict(request.state.rate_headers),
    )


def _check_policy(security: SecurityContext, table: Table, fixed: Mapping[str, FixedValue]) -> None:
    """A tenant's token fixes every column that decides whose a row is, or it could write another tenant's rows."""
    if not security.is_tenant or table.policy is None:
        return
    columns = table.policy.columns_for(security)
    missing = sorted(columns - fixed.keys())
    if missing or not fixed:
        named = f" for {', '.join(repr(name) for name in missing)}" if missing else ""
        raise Forbidden(
            f"A JWT that appends to '{table.name}' must set 'fixed_values'{named}: the data source has a row policy",
            hint="Without them its holder could write another tenant's rows. Fix the columns that the policy reads.",
        )


def target_of(table: Table) -> Target:
    """The table as the writers see it."""
    return Target(
        database=table.database,
        table=table.physical,
        quarantine_table=table.quarantine,
        columns=table.datasource.columns,
        partition_key=table.datasource.engine.partition_key,
        name=table.datasource.name,
    )


routes = [Route("/v0/events", events, methods=["POST"])]

"""What is in quarantine and why, and its replay. For tokens of the workspace: the rows may be of any tenant."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipit.access import grants
from pipit.access.context import SecurityContext
from pipit.api.answers import JSONResponse
from pipit.api.events import owner_of
from pipit.api.objects import datasource_of
from pipit.api.requests import authenticate, query_pairs, server_of, token_of, whole_number
from pipit.catalog.snapshot import Snapshot, Table
from pipit.errors import BadRequest, Forbidden, NotFound, Reason
from pipit.jobs.job import REPLAY
from pipit.tables import quarantine

_MOST_SAMPLES = 20
_SAMPLES = 3


async def quarantines(request: Request) -> Response:
    """GET /v0/quarantine: the data sources that have rows there, with counts."""
    security, snapshot = _reader(request)
    engine = server_of(request).engine
    readable = [t for t in snapshot.tables.values() if grants.may_read_datasource(security, t.name)]
    filled = await quarantine.filled(engine, snapshot.workspace.database)
    found = []
    for table in readable:
        if table.quarantine in filled:
            counted = await quarantine.counted(engine, table.database, table.quarantine)
            if counted.rows:
                found.append({"datasource": _named(snapshot, table), **counted.shown})
    found.sort(key=lambda one: (-int(one["rows"]), str(one["datasource"]["name"])))
    return JSONResponse({"quarantine": found})


async def one(request: Request) -> Response:
    """GET /v0/datasources/<name>/quarantine?samples=3: its rows by reason, with some of each."""
    security, snapshot = _reader(request)
    table = _table(security, snapshot, request.path_params["name"])
    asked = dict(query_pairs(request)).get("samples", str(_SAMPLES))
    samples = whole_number(asked, _MOST_SAMPLES)
    if samples is None or samples > _MOST_SAMPLES:
        raise BadRequest(
            f"'{asked[:40]}' is not a number of samples",
            hint=f"A whole number up to {_MOST_SAMPLES}.",
            reason=Reason.PARAMETER_INVALID,
            subject="samples",
        )
    engine = server_of(request).engine
    counted = await quarantine.counted(engine, table.database, table.quarantine)
    groups = await quarantine.groups(engine, table.database, table.quarantine, samples)
    return JSONResponse({"datasource": _named(snapshot, table), **counted.shown, "reasons": groups})


async def replay(request: Request) -> Response:
    """POST /v0/datasources/<name>/quarantine/replay: the job."""
    security, snapshot = authenticate(request)
    name = datasource_of(snapshot, request.path_params["name"])
    grants.rewrite(security, name)
    if name not in snapshot.tables:
        raise _unknown(name)
    jobs = server_of(request).jobs
    job = await jobs.work_on(
        snapshot, REPLAY, name, asked_by=security.name, owner=owner_of(security, token_of(request))
    )
    return JSONResponse(job.shown(str(request.base_url), waiting_for=jobs.waiting_for(job)))


def _reader(request: Request) -> tuple[SecurityContext, Snapshot]:
    security, snapshot = authenticate(request)
    if security.is_tenant:
        raise Forbidden(
            "A JWT cannot look into the quarantine: its rows may be of any tenant",
            hint="Use a token of the workspace.",
            reason=Reason.WORKSPACE_TOKEN_REQUIRED,
        )
    return security, snapshot


def _table(security: SecurityContext, snapshot: Snapshot, asked: str) -> Table:
    name = datasource_of(snapshot, asked)
    table = snapshot.tables.get(name)
    if table is None or not grants.may_read_datasource(security, name):
        raise _unknown(name)
    return table


def _unknown(name: str) -> NotFound:
    return NotFound(f'Data Source "{name[:200]}" does not exist', reason=Reason.DATASOURCE_NOT_FOUND, subject=name)


def _named(snapshot: Snapshot, table: Table) -> dict[str, Any]:
    return {"id": snapshot.workspace.resource_id("datasource", table.name), "name": table.name}


routes = [
    Route("/v0/quarantine", quarantines, methods=["GET"]),
    Route("/v0/datasources/{name}/quarantine", one, methods=["GET"]),
    Route("/v0/datasources/{name}/quarantine/replay", replay, methods=["POST"]),
]

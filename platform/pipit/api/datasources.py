"""/v0/datasources: what is deployed, with counts (Tinybird's HTTP API)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pipit.access import grants
from pipit.api.answers import JSONResponse
from pipit.api.objects import attributes, datasource_object, datasource_of
from pipit.api.requests import authenticate, server_of
from pipit.catalog.snapshot import Snapshot
from pipit.engine import Engine
from pipit.errors import Forbidden, NotFound, Reason


async def datasources(request: Request) -> Response:
    server = server_of(request)
    security, snapshot = authenticate(request, reads=True)
    if security.is_tenant:
        raise Forbidden(
            "A JWT cannot list data sources: their counts are of all tenants", reason=Reason.WORKSPACE_TOKEN_REQUIRED
        )
    sizes = await _sizes(server.engine, snapshot)
    wanted = attributes(request, "attrs")
    listed = [
        datasource_object(snapshot, table, sizes.get(table.physical, {}), wanted)
        for table in snapshot.tables.values()
        if grants.may_read_datasource(security, table.name)
    ]
    return JSONResponse({"datasources": listed})


async def datasource(request: Request) -> Response:
    server = server_of(request)
    security, snapshot = authenticate(request, reads=True)
    if security.is_tenant:
        raise Forbidden(
            "A JWT cannot look at data sources: their counts are of all tenants", reason=Reason.WORKSPACE_TOKEN_REQUIRED
        )
    name = datasource_of(snapshot, request.path_params["name"])
    table = snapshot.tables.get(name)
    if table is None or not grants.may_read_datasource(security, name):
        raise NotFound(f'Data Source "{name[:200]}" does not exist', reason=Reason.DATASOURCE_NOT_FOUND)
    sizes = await _sizes(server.engine, snapshot)
    found = datasource_object(snapshot, table, sizes.get(table.physical, {}), attributes(request, "attrs"))
    return JSONResponse(found)


async def datafile(request: Request) -> Response:
    security, snapshot = authenticate(request, reads=True)
    grants.require_admin(security)
    table = snapshot.tables.get(request.path_params["name"])
    if table is None:
        raise NotFound(
            f'Data Source "{request.path_params["name"][:200]}" does not exist', reason=Reason.DATASOURCE_NOT_FOUND
        )
    return PlainTextResponse(table.datasource.text)


async def _sizes(engine: Engine, snapshot: Snapshot) -> dict[str, dict[str, int]]:
    rows = await engine.rows(
        "SELECT table, sum(rows) AS rows, sum(bytes_on_disk) AS bytes FROM system.parts "
        "WHERE active AND database = {database:String} GROUP BY table",
        {"database": snapshot.workspace.database},
    )
    return {r["table"]: {"rows": int(r["rows"]), "bytes": int(r["bytes"])} for r in rows}


routes = [
    Route("/v0/datasources", datasources, methods=["GET"]),
    Route("/v0/datasources/{name}.datasource", datafile, methods=["GET"]),
    Route("/v1/datasources/{name}.datasource", datafile, methods=["GET"]),
    Route("/v0/datasources/{name}", datasource, methods=["GET"]),
]

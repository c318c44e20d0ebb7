"""Rows leave a data source (Tinybird's HTTP API): by a condition, as a job, or all of them. Never for a JWT."""

from __future__ import annotations

from time import monotonic

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipit.access import grants
from pipit.api.answers import JSONResponse
from pipit.api.events import owner_of
from pipit.api.objects import datasource_of
from pipit.api.requests import authenticate, parameters, server_of, token_of
from pipit.errors import BadRequest, Reason
from pipit.jobs import conditions
from pipit.jobs.deletes import projection_mode, rows_of
from pipit.jobs.job import DELETE
from pipit.jobs.kept import KeptTables, check_not_made
from pipit.tables import Mode, rows

_NAMES = ("delete_condition", "dry_run", "wait", "partition", "projection_mode")
_TRUE = frozenset({"true", "1", "yes"})
_DRAIN_SECONDS = 10.0


async def delete(request: Request) -> Response:
    """POST /v0/datasources/<name>/delete: the job, or with dry_run what it would delete."""
    return await _delete(request, lightweight=False)


async def delete_lightly(request: Request) -> Response:
    """POST /v1/datasources/<name>/delete: rows are hidden at once; with wait=true, the answer comes when they are."""
    return await _delete(request, lightweight=True)


async def _delete(request: Request, *, lightweight: bool) -> Response:
    security, snapshot = authenticate(request)
    name = datasource_of(snapshot, request.path_params["name"])
    grants.rewrite(security, name.removesuffix("_quarantine"))
    table, physical = rows_of(snapshot, name)
    server = server_of(request)
    _, asked = await parameters(request, server.config.max_body_bytes, reserved=_NAMES)
    condition = await conditions.checked(
        server.engine,
        table,
        asked.get("delete_condition", ""),
        "delete_condition",
        quarantine=physical == table.quarantine,
    )
    if physical == table.physical:  # what was acknowledged before is meant too
        await server.ingest.drain(table.database, physical, _DRAIN_SECONDS)
    if asked.get("dry_run", "").lower() in _TRUE:
        found = await rows.matching(server.engine, table.database, physical, condition)
        return JSONResponse({"rows_to_be_deleted": found})
    chosen = {
        "delete_condition": condition,
        "lightweight": "true" if lightweight else "",
        "partition": asked.get("partition", ""),
        "projection_mode": projection_mode(asked.get("projection_mode", "")),
    }
    job = await server.jobs.work_on(
        snapshot,
        DELETE,
        name,
        parameters={key: value for key, value in chosen.items() if value},
        asked_by=security.name,
        owner=owner_of(security, token_of(request)),
    )
    if lightweight and asked.get("wait", "").lower() in _TRUE:
        job = await server.jobs.outcome(snapshot, job.id)
        return JSONResponse({"rows_affected": job.rows, "mutation": job.result["mutation"], "job_id": job.id})
    shown = job.shown(str(request.base_url), waiting_for=server.jobs.waiting_for(job))
    return JSONResponse({**shown, "delete_id": job.id})


async def truncate(request: Request) -> Response:
    """POST /v0/datasources/<name>/truncate, also of <name>_quarantine: 205."""
    security, snapshot = authenticate(request)
    name = datasource_of(snapshot, request.path_params["name"])
    grants.rewrite(security, name.removesuffix("_quarantine"))
    table, physical = rows_of(snapshot, name)
    server = server_of(request)
    if physical == table.physical and not await server.ingest.drain(table.database, physical, _DRAIN_SECONDS):
        raise BadRequest(
            f"Events of '{name}' that were acknowledged before cannot be stored now, so they cannot be deleted",
            hint="Try again when the engine has taken them in.",
            reason=Reason.NOT_APPENDABLE,
        )
    started = monotonic()
    check_not_made(server.catalog, snapshot.workspace, table.name)
    kept = KeptTables(server.catalog, server.locks, server.ingest)
    async with kept.acquire(snapshot.workspace, table.name, Mode.REPLACE) as generations, kept.altering(generations):
        for one in generations:
            place = one.table.physical if physical == table.physical else one.table.quarantine
            await rows.truncate(server.engine, table.database, place)
    await server.operations.write(
        snapshot.workspace, event_type="truncate", datasource=name, elapsed=monotonic() - started
    )
    return Response(status_code=205)


routes = [
    Route("/v0/datasources/{name}/delete", delete, methods=["POST"]),
    Route("/v1/datasources/{name}/delete", delete_lightly, methods=["POST"]),
    Route("/v0/datasources/{name}/truncate", truncate, methods=["POST"]),
]

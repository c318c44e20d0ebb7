"""Copies on demand and their schedules, populates, and jobs (shapes: Tinybird's HTTP API). For admin tokens.

A token of an environment runs the copies of that environment and sees its jobs: rows never leave a database.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipit.access import grants
from pipit.access.context import SecurityContext
from pipit.access.params import merge
from pipit.api.answers import JSONResponse
from pipit.api.events import owner_of
from pipit.api.objects import pipe_object, pipe_of
from pipit.api.requests import authenticate, parameters, server_of, token_of
from pipit.connectors.buckets.export import OVERRIDES
from pipit.datafiles.resources import Node
from pipit.errors import BadRequest, Reason
from pipit.jobs import KINDS, STATUSES, Job
from pipit.jobs.job import MISSING_IN, SINK
from pipit.jobs.schedule import copies

FAILED = "The load failed. The workspace's owner finds the reason under the job's id."
_POPULATION = ("truncate", "populate_subset", "populate_condition")


async def run_copy(request: Request) -> Response:
    """POST /v0/pipes/<p>/copy?<params>&_mode=append|replace: the pipe, and the job that works for it."""
    security, snapshot = authenticate(request)
    grants.run_jobs(security)
    server = server_of(request)
    sent, controls = await parameters(request, server.config.max_body_bytes, reserved=("_mode", "q", "format"))
    name = pipe_of(snapshot, request.path_params["name"])
    job = await server.jobs.copy(
        snapshot, name, merge(sent, {}, snapshot.lists), mode=controls.get("_mode", ""), asked_by=security.name
    )
    pipe = snapshot.pipes[name]
    shown = {"id": job.pipe_id, "name": pipe.name, "description": pipe.pipe.description}
    return JSONResponse(shown | {"job": _shown(request, job)})


async def run_sink(request: Request) -> Response:
    """POST /v0/pipes/<p>/sink?<params>: the job. Some words of the node may be given for this run."""
    security, snapshot = authenticate(request)
    grants.run_jobs(security)
    server = server_of(request)
    reserved = (*OVERRIDES, "q")
    sent, controls = await parameters(request, server.config.max_body_bytes, reserved=reserved)
    name = pipe_of(snapshot, request.path_params["name"])
    options = {word: controls[word] for word in OVERRIDES if controls.get(word)}
    values = merge(sent, {}, snapshot.lists)
    job = await server.jobs.sink(snapshot, name, values, options=options, asked_by=security.name)
    pipe = snapshot.pipes[name]
    shown = {"id": job.pipe_id, "name": pipe.name, "description": pipe.pipe.description}
    return JSONResponse(shown | {"job": _shown(request, job)})


async def all_sinks(request: Request) -> Response:
    """GET /v0/sinks: the workspace's sinks with their schedules (ours; `pipit sink ls`)."""
    security, snapshot = authenticate(request)
    grants.run_jobs(security)
    jobs = server_of(request).jobs
    found = []
    for pipe in snapshot.pipes.values():
        node = pipe.sink_node
        if node is None:
            continue
        given = node.node.exports
        last = next((j for j in jobs.listed(snapshot, kind=SINK) if j.pipe == pipe.name), None)
        found.append(
            {
                "id": snapshot.workspace.resource_id("pipe", pipe.name),
                "name": pipe.name,
                "node": node.name,
                "connection": given.get("EXPORT_CONNECTION_NAME", ""),
                "path": given.get("EXPORT_BUCKET_URI", "") or given.get("EXPORT_KAFKA_TOPIC", ""),
                "file_template": given.get("EXPORT_FILE_TEMPLATE", ""),
                "schedule": given.get("EXPORT_SCHEDULE", ""),
                "last_job": _shown(request, last) if last else None,
            }
        )
    return JSONResponse({"sinks": found})


async def pause_copy(request: Request) -> Response:
    return await _set_paused(request, paused=True)


async def resume_copy(request: Request) -> Response:
    return await _set_paused(request, paused=False)


async def _set_paused(request: Request, *, paused: bool) -> Response:
    security, snapshot = authenticate(request)
    grants.run_jobs(security)
    name = pipe_of(snapshot, request.path_params["name"])
    jobs = server_of(request).jobs
    await jobs.pause(snapshot, name, paused=paused)
    pipe = snapshot.pipes[name]
    shown = pipe_object(snapshot, pipe, request, frozenset())
    node = pipe.copy_node
    assert node is not None  # else it could not have been paused
    return JSONResponse(shown | {"schedule": _schedule(node.node, paused=jobs.is_paused(snapshot, name))})


async def cancel_copy(request: Request) -> Response:
    """POST /v0/pipes/<p>/copy/cancel: what of it is under way."""
    security, snapshot = authenticate(request)
    grants.run_jobs(security)
    name = pipe_of(snapshot, request.path_params["name"])
    cancelled = await server_of(request).jobs.cancel_copies(snapshot, name)
    pipe = snapshot.pipes[name]
    shown = {"id": snapshot.workspace.resource_id("pipe", pipe.name), "name": pipe.name}
    return JSONResponse(shown | {"jobs": [_shown(request, job) for job in cancelled]})


async def run_population(request: Request) -> Response:
    """POST /v0/pipes/<p>/nodes/<n>/population?truncate=&populate_subset=&populate_condition=: the job that fills."""
    security, snapshot = authenticate(request)
    grants.run_jobs(security)
    server = server_of(request)
    _, controls = await parameters(request, server.config.max_body_bytes, reserved=_POPULATION)
    name = pipe_of(snapshot, request.path_params["name"])
    _check_flag(controls, "truncate")
    _check_fraction(controls, "populate_subset")
    asked = {name: controls[name] for name in _POPULATION if controls.get(name)}
    job = await server.jobs.populate(
        snapshot, name, request.path_params["node"], parameters=asked, asked_by=security.name
    )
    return JSONResponse({"job": _shown(request, job)})


def _shown(request: Request, job: Job) -> dict[str, Any]:
    return job.shown(str(request.base_url), waiting_for=server_of(request).jobs.waiting_for(job))


def _check_flag(controls: Mapping[str, str], name: str) -> None:
    if controls.get(name, "").lower() not in ("", "true", "false", "1", "0"):
        raise BadRequest(f"The parameter '{name}' is true or false", reason=Reason.PARAMETER_INVALID, subject=name)


def _check_fraction(controls: Mapping[str, str], name: str) -> None:
    try:
        found = float(controls.get(name) or 1)
    except ValueError:
        found = 0.0
    if not 0 < found <= 1:
        raise BadRequest(
            f"The parameter '{name}' is a number above 0, at most 1",
            hint="0.1 is a tenth of the rows.",
            reason=Reason.PARAMETER_INVALID,
            subject=name,
        )


async def all_copies(request: Request) -> Response:
    """GET /v0/copies: the workspace's copy pipes with their schedules (ours; `pipit copy ls`)."""
    security, snapshot = authenticate(request)
    grants.run_jobs(security)
    jobs = server_of(request).jobs
    found = [
        {
            "id": snapshot.workspace.resource_id("pipe", pipe.name),
            "name": pipe.name,
            "node": node.name,
            "target_datasource": node.node.target_datasource,
            "mode": node.node.copy_mode,
            "schedule": _schedule(node.node, paused=jobs.is_paused(snapshot, pipe.name)),
            "last_job": next(
                (_shown(request, j) for j in jobs.listed(snapshot, kind="copy") if j.pipe == pipe.name),
                None,
            ),
        }
        for pipe, node in copies(snapshot)
    ]
    return JSONResponse({"copies": found})


def _schedule(node: Node, *, paused: bool) -> dict[str, Any]:
    cron = node.copy_schedule
    scheduled = not cron.startswith("@")
    return {
        "cron": cron if scheduled else None,
        "timezone": "Etc/UTC",
        "status": ("shutdown" if paused else "running") if scheduled else "on-demand",
    }


async def jobs(request: Request) -> Response:
    """GET /v0/jobs?kind=&status=: newest first, of the last 96 hours."""
    security, snapshot = authenticate(request)
    grants.run_jobs(security)
    kind, status = request.query_params.get("kind", ""), request.query_params.get("status", "")
    if status and status not in STATUSES:
        raise BadRequest(
            f"'{status[:40]}' is not a status of a job",
            hint=f"One of {', '.join(STATUSES)}.",
            reason=Reason.PARAMETER_INVALID,
            subject="status",
        )
    if kind and not kind.replace("_", "").isalnum():
        raise BadRequest(
            "The parameter 'kind' is not a kind of job",
            hint=f"There are {', '.join(KINDS)}.",
            reason=Reason.PARAMETER_INVALID,
            subject="kind",
        )
    found = server_of(request).jobs.listed(snapshot, kind=kind, status=status)
    return JSONResponse({"jobs": [_shown(request, job) for job in found]})


def for_reader(shown: dict[str, Any], security: SecurityContext) -> dict[str, Any]:
    """A job without what the engine said of anybody's rows, where a tenant reads it."""
    if not security.is_tenant:
        return shown
    told = {name: value for name, value in shown.items() if name != MISSING_IN}
    return told | {"error": FAILED, "errors": [FAILED]} if "error" in told else told


async def job(request: Request) -> Response:
    """GET /v0/jobs/<id>: for admins, and for the token that asked for a load."""
    security, snapshot = authenticate(request)
    jobs = server_of(request).jobs
    known = jobs.known(snapshot, request.path_params["id"])
    if known is None or not known.owner or known.owner != owner_of(security, token_of(request)):
        grants.run_jobs(security)
    found = jobs.job(snapshot, request.path_params["id"])
    return JSONResponse(for_reader(_shown(request, found), security))


async def cancel_job(request: Request) -> Response:
    security, snapshot = authenticate(request)
    grants.run_jobs(security)
    found = await server_of(request).jobs.cancel(snapshot, request.path_params["id"])
    return JSONResponse(_shown(request, found))


routes = [
    Route("/v0/pipes/{name}/copy", run_copy, methods=["POST"]),
    Route("/v0/pipes/{name}/sink", run_sink, methods=["POST"]),
    Route("/v0/sinks", all_sinks, methods=["GET"]),
    Route("/v0/pipes/{name}/copy/pause", pause_copy, methods=["POST"]),
    Route("/v0/pipes/{name}/copy/resume", resume_copy, methods=["POST"]),
    Route("/v0/pipes/{name}/copy/cancel", cancel_copy, methods=["POST"]),
    Route("/v0/pipes/{name}/nodes/{node}/population", run_population, methods=["POST"]),
    Route("/v0/copies", all_copies, methods=["GET"]),
    Route("/v0/jobs", jobs, methods=["GET"]),
    Route("/v0/jobs/{id}", job, methods=["GET"]),
    Route("/v0/jobs/{id}/cancel", cancel_job, methods=["POST"]),
]

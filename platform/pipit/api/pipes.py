"""/v0/pipes: endpoints as data, and what is deployed as objects. Shapes: Tinybird's HTTP API."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pipit.access import grants
from pipit.access.context import SecurityContext
from pipit.api.answers import JSONResponse
from pipit.api.objects import attributes, pipe_object, pipe_of, tenant_pipe_object
from pipit.api.openapi import document
from pipit.api.origin import log_refusals, read_of
from pipit.api.requests import authenticate, parameters, server_of
from pipit.api.responses import ReadResponse
from pipit.catalog.snapshot import CompiledPipe, Snapshot
from pipit.errors import BadRequest, NotFound, Reason
from pipit.query.formats import EXTENSIONS, output_settings
from pipit.query.queries import PipeQuery

FOLDER = "/v0/pipes/"
OPENAPI = "openapi.json"  # no endpoint's name


def _asked_for(request: Request) -> str:
    name: str = request.path_params["file"].rpartition(".")[0]
    viewer = getattr(request.state, "viewer", None)
    return pipe_of(viewer.snapshot, name) if viewer else name


@log_refusals(_asked_for)
async def endpoint(request: Request) -> Response:
    """GET|POST /v0/pipes/<name or id>.<extension>"""
    server = server_of(request)
    _, snapshot = authenticate(request, reads=True)
    name, _, extension = request.path_params["file"].rpartition(".")
    format = EXTENSIONS.get(extension)
    if format is None:
        raise NotFound(
            f"The format '{extension[:40]}' does not exist",
            hint=f"Use one of {', '.join(sorted(EXTENSIONS))}.",
            reason=Reason.FORMAT_UNSUPPORTED,
            subject=extension,
        )
    params, controls = await parameters(request, server.config.max_body_bytes)
    settings = output_settings((p.name, p.value) for p in params.sent)
    query = PipeQuery(pipe_of(snapshot, name), params, format, controls.get("q", ""), settings)
    return ReadResponse(server.reader, read_of(request, query), headers=dict(request.state.rate_headers))


async def pipes(request: Request) -> Response:
    """GET /v0/pipes: what the token may read."""
    security, snapshot = authenticate(request, reads=True)
    listed = [
        _shown(request, security, snapshot, pipe)
        for pipe in snapshot.pipes.values()
        if grants.may_read_pipe(security, pipe.name)
    ]
    return JSONResponse({"pipes": listed})


async def pipe(request: Request) -> Response:
    """GET /v0/pipes/<name or id>"""
    security, snapshot = authenticate(request, reads=True)
    name = pipe_of(snapshot, request.path_params["file"])
    found = snapshot.pipes.get(name)
    if found is None or not grants.may_read_pipe(security, name):
        raise NotFound(f"Pipe '{name[:200]}' not found", reason=Reason.PIPE_NOT_FOUND)
    return JSONResponse(_shown(request, security, snapshot, found))


def _shown(request: Request, security: SecurityContext, snapshot: Snapshot, pipe: CompiledPipe) -> dict[str, Any]:
    wanted = attributes(request, "attrs")
    if security.is_tenant:
        return tenant_pipe_object(snapshot, pipe, security, request, wanted)
    return pipe_object(snapshot, pipe, request, wanted)


async def pipe_or_endpoint(request: Request) -> Response:
    """A name with a dot is data, one without is the object."""
    if "." in request.path_params["file"]:
        return await endpoint(request)
    if request.method == "POST":
        raise BadRequest("Pipes change only by deployments", hint="pipit deploy", reason=Reason.FOLLOWS_FILES)
    return await pipe(request)


async def datafile(request: Request) -> Response:
    """GET /v1/pipes/<name>.pipe: the text as deployed; for workspace tokens."""
    security, snapshot = authenticate(request, reads=True)
    grants.require_admin(security)
    found = snapshot.pipes.get(request.path_params["name"])
    if found is None:
        raise NotFound(f"Pipe '{request.path_params['name'][:200]}' not found", reason=Reason.PIPE_NOT_FOUND)
    return PlainTextResponse(found.pipe.text)


async def openapi(request: Request) -> Response:
    security, snapshot = authenticate(request, reads=True)
    readable = [p for p in snapshot.pipes.values() if p.endpoint is not None and grants.may_read_pipe(security, p.name)]
    return JSONResponse(document(snapshot, readable, security, str(request.base_url)))


routes = [
    Route("/v0/pipes", pipes, methods=["GET"]),
    Route(FOLDER + OPENAPI, openapi, methods=["GET"]),
    Route(FOLDER + "{file}", pipe_or_endpoint, methods=["GET", "POST"]),
    Route("/v1/pipes/{name}.pipe", datafile, methods=["GET"]),
]

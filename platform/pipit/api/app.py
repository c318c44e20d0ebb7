"""The ASGI application: routes, the one error shape, CORS, request ids, URL limits. Thin; all behaviour is below."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipit import __version__
from pipit.access.refusals import hides, shown_to
from pipit.api import (
    connectors,
    datasources,
    deletes,
    deployments,
    docs,
    environments,
    events,
    explain,
    jobs,
    keys,
    loads,
    metrics,
    pipes,
    quarantine,
    sql,
    tokens,
    workspaces,
)
from pipit.api.answers import JSONResponse
from pipit.api.broken import BrokenOff
from pipit.api.compress import Compressed
from pipit.api.headers import find, headers_of, put, vary
from pipit.api.requests import MAX_URL_BYTES, Viewer, whole_number
from pipit.errors import BadRequest, MethodNotAllowed, NotFound, PipitError, Reason, UriTooLong
from pipit.server import Config, Server, open_server

log = logging.getLogger("pipit.api")

# What is still taken, and thrown away, of a body that has been refused: a connection that is closed while the client
# sends is reset, and the client never reads why.
_DRAIN_BYTES = 32 * 1024 * 1024
_DRAIN_SECONDS = 2.0
_SMALL_BYTES = 1024 * 1024
_ROOM_BYTES = 1024 * 1024  # with less on the disk events are refused, or will be soon

# What a browser's script may read besides the body.
_EXPOSED = [
    "X-Request-Id",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "Retry-After",
]


def create_app(config: Config, *, extra_routes: Sequence[BaseRoute] = ()) -> Starlette:
    """The application of one server; it starts the engine when it starts and stops it when it stops."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with open_server(config) as server:
            app.state.server = server
            yield

    return app_with(lifespan, extra_routes)


def app_for(server: Server, *, extra_routes: Sequence[BaseRoute] = ()) -> Starlette:
    """The application of a server that is open already (tests, the CLI)."""
    app = app_with(None, extra_routes)
    app.state.server = server
    return app


class _Application(Starlette):
    """Starlette's. Plain reads of endpoints, which are most requests, go past the layers and routes that do nothing for
    them: their answers are the same, to the byte."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._reads = RequestFrame(Compressed(keys.KeysFirst(_read)), plain=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_plain_read(scope):
            scope["app"] = self
            await self._reads(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def _is_plain_read(scope: Scope) -> bool:
    """GET /v0/pipes/<name>.<extension>, from no browser's script on another page."""
    path: str = scope["path"]
    if scope["method"] != "GET" or not path.startswith(pipes.FOLDER) or scope.get("root_path"):
        return False
    file = path[len(pipes.FOLDER) :]
    if "." not in file or "/" in file or file == pipes.OPENAPI:
        return False
    return not any(name == b"origin" for name, _ in scope["headers"])


async def _read(scope: Scope, receive: Receive, send: Send) -> None:
    """What the route of endpoints does."""
    scope["path_params"] = {"file": scope["path"][len(pipes.FOLDER) :]}
    request = Request(scope, receive, send)
    try:
        response = await pipes.endpoint(request)
        await response(scope, receive, send)
    except PipitError as error:  # nothing is sent yet: what fails later breaks the answer off
        response = await _pipit_error(request, error)
        await response(scope, receive, send)


def app_with(lifespan: Any, extra_routes: Sequence[BaseRoute]) -> Starlette:
    return _Application(
        routes=[
            *pipes.routes,  # what is asked for most is looked at first
            Route("/v0/health", health, methods=["GET"]),
            Route("/v0/ready", ready, methods=["GET"]),
            Route("/version", version, methods=["GET"]),
            *events.routes,
            *jobs.routes,
            *sql.routes,
            *connectors.routes,
            *loads.routes,
            *deletes.routes,
            *quarantine.routes,
            *datasources.routes,
            *workspaces.routes,
            *tokens.routes,
            *keys.routes,
            *environments.routes,
            *deployments.routes,
            *explain.routes,
            *docs.routes,
            *metrics.routes,
            *extra_routes,
        ],
        middleware=[
            # Outermost, so that a browser may read every answer, the frame's own refusals too.
            Middleware(
                _Cors,
                allow_origins=["*"],
                allow_methods=["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"],
                allow_headers=["*"],
                expose_headers=_EXPOSED,
                max_age=86400,
            ),
            Middleware(RequestFrame),
            Middleware(Compressed),
            Middleware(keys.KeysFirst),
        ],
        exception_handlers={
            PipitError: _pipit_error,
            HTTPException: _http_error,
        },
        lifespan=lifespan,
    )


async def health(request: Request) -> Response:
    """Whether the API lives: 200 also while the engine is away, since events are accepted without it, and on a full
    disk, since reads are answered: starting the server again would help with neither.

    Needs no token and says nothing about anybody's data.
    """
    return JSONResponse(_engine_state(request))


async def ready(request: Request) -> Response:
    """Whether reads can be answered: 503 while the engine is away. For load balancers; not a reason to restart."""
    state = _engine_state(request)
    if state["engine"]:
        return JSONResponse(state)
    return JSONResponse(state, status_code=503, headers={"Retry-After": "1"})


def _engine_state(request: Request) -> dict[str, object]:
    server: Server = request.app.state.server
    there = server.engine.available
    if there and _is_disk_full(server):
        return {"status": "disk_full", "engine": there}
    return {"status": "ok" if there else "engine_unavailable", "engine": there}


def _is_disk_full(server: Server) -> bool:
    """Reads are answered, and what has to be stored is refused."""
    if server.ingest.disk_refuses:
        return True
    try:
        found = os.statvfs(server.config.data_dir)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _ROOM_BYTES


async def version(request: Request) -> Response:
    return JSONResponse({"version": __version__})


class _Cors(CORSMiddleware):
    """The same; quick for who is no browser on another page."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or any(name == b"origin" for name, _ in scope["headers"]):
            await super().__call__(scope, receive, send)
            return

        async def varied(message: Message) -> None:
            if message["type"] == "http.response.start":
                vary(headers_of(message), b"Origin")
            await send(message)

        await self.app(scope, receive, varied)


class RequestFrame:
    """Around every request: an id, bounds on the URL, and headers that keep responses out of shared caches.

    An unexpected exception becomes a 500 with the request id and nothing else; its trace goes to the log.
    """

    def __init__(self, app: ASGIApp, *, plain: bool = False) -> None:
        """`plain`: it is the outermost layer of requests without Origin."""
        self._app = app
        self._plain = plain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(16)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        state["rate_headers"] = {}
        started = False
        body = _Body(scope, receive)
        receive = body.receive

        async def framed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.body" and body.refused and not message.get("more_body"):
                await send({**message, "more_body": True})
                await body.drain()
                message = {"type": "http.response.body", "body": b""}
            if message["type"] == "http.response.start":
                started = True
                body.refused = message["status"] >= 400 and body.is_coming
                headers = headers_of(message)
                put(headers, b"x-request-id", request_id.encode())
                if find(headers, b"cache-control") is None:
                    headers.append((b"cache-control", b"private, no-store"))
                vary(headers, b"Authorization, Origin" if self._plain else b"Authorization")
                put(headers, b"x-content-type-options", b"nosniff")
                if body.refused and not body.is_small:
                    put(headers, b"connection", b"close")
            await send(message)

        url_bytes = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        if url_bytes > MAX_URL_BYTES:
            error = UriTooLong(
                f"The URL is longer than {MAX_URL_BYTES} bytes", hint="Send the parameters in a POST body."
            )
            await JSONResponse(error.body(), status_code=error.status)(scope, receive, framed)
            return
        try:
            await self._app(scope, receive, framed)
        except ClientDisconnect:
            log.info("request %s: the client left before its body was complete", request_id)
        except BrokenOff as broken:
            log.warning("request %s: the answer was broken off: %s", request_id, broken)
            raise
        except Exception:
            log.exception("request %s failed", request_id)
            if started:
                raise
            error_500 = PipitError("Internal error", hint=f"Quote the request id {request_id} when you report it.")
            await JSONResponse(error_500.body(), status_code=500)(scope, receive, framed)


class _Body:
    """A request's body on its way: whether some of it is still to come, and how to be rid of that."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self.refused = False
        self.is_coming = self.is_small = False
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if b"content-length" not in headers and b"transfer-encoding" not in headers:
            return
        # Who waits for a `100 Continue` sends nothing after a refusal.
        self.is_coming = b"expect" not in headers
        declared = whole_number(headers.get(b"content-length", b"").decode("latin-1"), _SMALL_BYTES)
        self.is_small = declared is not None and declared <= _SMALL_BYTES  # worth keeping the connection for

    async def receive(self) -> Message:
        message = await self._receive()
        if not message.get("more_body"):  # nor is there in a disconnect
            self.is_coming = False
        return message

    async def drain(self) -> None:
        """Takes the rest, within bounds."""
        until = monotonic() + _DRAIN_SECONDS
        taken = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while self.is_coming and taken < _DRAIN_BYTES and monotonic() < until:
                    taken += len((await self.receive()).get("body", b""))


async def _pipit_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PipitError)
    headers = dict(request.state.rate_headers) | dict(error.headers)
    viewer: Viewer | None = getattr(request.state, "viewer", None)
    security = viewer.security if viewer else None
    if error.detail or hides(error, security):
        said = error.detail or error.message
        log.warning("request %s: %d %s: %s", request.state.request_id, error.status, error.message, said)
    elif error.status >= 500:
        log.warning("request %s: %d %s", request.state.request_id, error.status, error.message)
    body = shown_to(error, security, request.state.request_id)
    return JSONResponse(body, status_code=error.status, headers=headers)


async def _http_error(request: Request, error: Exception) -> Response:
    """The router's own refusals, in our shape."""
    assert isinstance(error, HTTPException)
    ours: PipitError
    if error.status_code == 404:
        ours = NotFound("Not found", hint="See /docs for the paths that exist.", reason=Reason.PATH_NOT_FOUND)
    elif error.status_code == 405:
        ours = MethodNotAllowed("Method not allowed", headers=error.headers)
    else:
        ours = BadRequest(str(error.detail))
        ours.status = error.status_code
    return JSONResponse(ours.body(), status_code=ours.status, headers=dict(ours.headers))


__all__ = ["Config", "app_for", "create_app"]

"""What a request says of itself, for the audit log; and the reads that are refused before they become a query.

A request without a valid token belongs to no workspace, so it stands in the server's own log only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import wraps

from starlette.requests import Request
from starlette.responses import Response

from pipit.api.requests import Viewer, query_pairs, server_of
from pipit.errors import BadRequest
from pipit.query.log import Asked
from pipit.query.queries import Query, Read, ReadOrigin

Endpoint = Callable[[Request], Awaitable[Response]]


def origin_of(request: Request) -> ReadOrigin:
    viewer: Viewer | None = getattr(request.state, "viewer", None)
    query = request.scope["query_string"].decode("latin-1")
    path = request.scope["path"]
    return ReadOrigin(
        method=request.method,
        url=f"{path}?{query}" if query else path,
        user_agent=next((v.decode("latin-1") for k, v in request.scope["headers"] if k == b"user-agent"), None),
        client_ip=request.client.host if request.client else None,
        token=viewer.token if viewer else "",
    )


def read_of(request: Request, query: Query) -> Read:
    """What this request reads, once its token is known."""
    viewer: Viewer = request.state.viewer
    return Read(viewer.snapshot, viewer.security, query, request.state.request_id, origin_of(request))


def log_refusals(pipe_of: Callable[[Request], str]) -> Callable[[Endpoint], Endpoint]:
    """For a route that answers with a `ReadResponse`, which logs itself: what the route refuses before is logged too.

    `pipe_of` says what was asked for.
    """

    def decorate(endpoint: Endpoint) -> Endpoint:
        @wraps(endpoint)
        async def logged(request: Request) -> Response:
            try:
                return await endpoint(request)
            except Exception as error:
                viewer: Viewer | None = getattr(request.state, "viewer", None)
                if viewer is not None:
                    asked = Asked(
                        viewer.snapshot,
                        viewer.security,
                        pipe_of(request),
                        _in_the_url(request),
                        request.state.request_id,
                        origin_of(request),
                    )
                    server_of(request).reader.refused(asked, error)
                raise

        return logged

    return decorate


def _in_the_url(request: Request) -> Iterable[tuple[str, object]]:
    try:
        return [(name, value) for name, value in query_pairs(request) if name not in ("q", "token", "format")]
    except BadRequest:
        return ()

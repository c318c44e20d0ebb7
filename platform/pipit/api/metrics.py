"""GET /metrics for Prometheus. For who runs the server: the default workspace's admin token, or a token for this alone.

Not open to loopback: behind a proxy on the same machine everybody comes from there.
"""

from __future__ import annotations

import hmac

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipit.api.requests import authenticate, server_of, token_of
from pipit.api.workspaces import require_server_admin


async def metrics(request: Request) -> Response:
    server = server_of(request)
    expected = server.config.metrics_token
    if not (expected and hmac.compare_digest(token_of(request).encode(), expected.encode())):
        security, _ = authenticate(request)
        require_server_admin(server.catalog, security)
    text, media_type = server.metrics.shown(request.headers.get("accept", ""))
    return Response(text, media_type=media_type)


routes = [Route("/metrics", metrics, methods=["GET"])]

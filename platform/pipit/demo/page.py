"""The page at /demo: a plain front-end that holds one customer's JWT at a time and draws what it can read.

`pipit serve --demo` mounts these routes and nothing else does: /demo/session.json hands out tokens to whoever
can reach the port, which is right for sample data on one's own machine and for nothing else. The tokens are
short-lived, name the demo's endpoints only, and are refused to other origins and other names (`guard`). No file
is loaded from anywhere but here. What runs for a viewer is shown by `inspect`, on a loopback address only.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Protocol

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from pipit.access.context import Scope
from pipit.api.answers import JSONResponse
from pipit.demo.events import CUSTOMERS
from pipit.demo.guard import check_site
from pipit.demo.inspect import inspect
from pipit.errors import Forbidden

TOKEN_SECONDS = 3600
LOOPBACK = ("127.0.0.1", "localhost", "::1")

_ENDPOINTS = (
    "active_users",
    "top_features",
    "latency_percentiles",
    "errors_by_feature",
    "funnel",
    "retention",
    "teams",
    "recent_activity",
)
_BILLING = "usage_for_billing"

_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


class Mint(Protocol):
    """Makes a JWT of the served workspace: `partial(pipit.access.jwt.mint, workspace_id, admin_token)`."""

    def __call__(
        self, *, name: str, scopes: Sequence[Scope], context: Mapping[str, object], expires_at: int
    ) -> str: ...


@dataclass(frozen=True, slots=True)
class DemoViewer:
    """Somebody who looks at the page, and what their token says about them."""

    id: str
    label: str
    customer: str
    team: str = ""

    @property
    def context(self) -> dict[str, str]:
        return {"customer_id": self.customer} | ({"team": self.team} if self.team else {})

    @property
    def scopes(self) -> list[Scope]:
        """A manager of one team may read everything but the bill, which is the whole company's."""
        names = _ENDPOINTS if self.team else (*_ENDPOINTS, _BILLING)
        return [Scope("PIPES:READ", resource=name, fixed_params=self.context) for name in names]


VIEWERS = (
    *(DemoViewer(c.id, c.name, c.id) for c in CUSTOMERS),
    DemoViewer("acme-sales", "Acme Corp, manager of sales", "acme", team="sales"),
)


def token_for(viewer: DemoViewer, mint: Mint, *, expires_at: int) -> str:
    return mint(
        name=f"demo-{viewer.id}", scopes=viewer.scopes, context=viewer.context, expires_at=expires_at
    )


def demo_routes(mint: Mint, *, host: str = "127.0.0.1") -> list[BaseRoute]:
    """The routes of `pipit serve --demo` on this address; on a loopback one, with the look inside."""
    assets = _read_assets()
    looks_inside = host in LOOPBACK

    async def session(request: Request) -> Response:
        try:
            check_site(request, name=host.lower())
        except Forbidden as error:
            return JSONResponse(error.body(), error.status, headers=_HEADERS)
        expires_at = int(time.time()) + TOKEN_SECONDS
        viewers = [
            {
                "id": v.id,
                "label": v.label,
                "customer": v.customer,
                "team": v.team,
                "token": token_for(v, mint, expires_at=expires_at),
            }
            for v in VIEWERS
        ]
        found = {"viewers": viewers, "looks_inside": looks_inside}
        return JSONResponse(found, headers=_HEADERS | {"Cache-Control": "no-store"})

    async def page(request: Request) -> Response:
        return assets["index.html"]

    async def slash(request: Request) -> Response:
        return RedirectResponse("/demo", 308)

    async def static(request: Request) -> Response:
        asset = assets.get(request.path_params["name"])
        return asset or JSONResponse({"error": "No such file in the demo"}, 404, headers=_HEADERS)

    return [
        Route("/demo", page),
        Route("/demo/", slash),
        Route("/demo/session.json", session),
        Route("/demo/static/{name:path}", static),
        *([Route("/demo/inspect", inspect, methods=["POST"])] if looks_inside else []),
    ]


def _read_assets() -> dict[str, Response]:
    """All files of the page, read once: names are looked up, never joined to a path."""
    root = files(__package__) / "static"
    found: dict[str, Response] = {}
    for folder, prefix in ((root, ""), (root / "echarts", "echarts/")):
        for file in folder.iterdir():
            kind = _TYPES.get(file.name.rpartition(".")[2])
            if kind and file.is_file():
                headers = _HEADERS | {"Cache-Control": "no-cache"}
                found[prefix + file.name] = Response(file.read_bytes(), media_type=kind, headers=headers)
    return found

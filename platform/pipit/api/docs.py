"""GET /docs/errors.html: the page that every error's `documentation` points to, made from the error tree itself."""

from __future__ import annotations

from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from pipit.errors import PipitError

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "code{font-size:.95em}dt{margin-top:1.2rem;font-weight:600}dd{margin:0}"
)


def error_classes() -> list[type[PipitError]]:
    """The tree, by status and code; a subclass without a code of its own is the same error to a reader."""
    found: list[type[PipitError]] = []
    waiting: list[type[PipitError]] = [PipitError]
    while waiting:
        kind = waiting.pop()
        if "code" in vars(kind):
            found.append(kind)
        waiting.extend(kind.__subclasses__())
    return sorted(found, key=lambda kind: (kind.status, kind.code))


async def errors(request: Request) -> Response:
    items = "".join(
        f'<dt id="{kind.code}"><code>{kind.code}</code> &middot; {kind.status}</dt>'
        f"<dd>{escape(' '.join((kind.__doc__ or '').split()))}</dd>"
        for kind in error_classes()
    )
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Pipit: errors</title>'
        f"<style>{_STYLE}</style><h1>Errors</h1><p>Every error is a JSON object with <code>error</code>, "
        f"<code>code</code>, <code>documentation</code> and, often, <code>hint</code>.</p><dl>{items}</dl></html>"
    )
    return HTMLResponse(page)


routes = [Route("/docs/errors.html", errors, methods=["GET"])]

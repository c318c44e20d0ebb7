"""The pages that errors' `documentation` points to, and the way there; the list of errors is the error tree itself."""

from __future__ import annotations

import re
from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from pipit import __version__
from pipit.errors import PipitError
from pipit.reasons import Reason

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
    reasons = "".join(
        f'<dt id="reason-{reason.value}"><code>{reason.value}</code></dt>'
        f"<dd>{_html(reason.cause)}. {_html(reason.remedy)}.</dd>"
        for reason in Reason
    )
    body = (
        "<h1>Errors</h1><p>Every error is a JSON object with <code>error</code>, <code>reason</code>, "
        "<code>code</code>, <code>documentation</code> and, often, <code>hint</code>.</p>"
        f"<h2>Codes</h2><dl>{items}</dl><h2>Reasons</h2><dl>{reasons}</dl>"
    )
    return HTMLResponse(_page("Pipit: errors", body))


def _html(text: str) -> str:
    """Of the little Markdown that the texts of reasons have: code, and links, whose pages are not served here."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", escape(text)))


async def index(request: Request) -> Response:
    """GET / and /docs: where things are. Says nothing about anybody's data."""
    links = "".join(f'<li><a href="{at}">{at}</a>: {escape(text)}</li>' for at, text in _PLACES.items())
    body = (
        f"<h1>Pipit {__version__}</h1><p>This is an API. Its paths need <code>Authorization: Bearer TOKEN</code>."
        f" An endpoint answers at <code>/v0/pipes/&lt;name&gt;.json</code>.</p><ul>{links}</ul>"
    )
    return HTMLResponse(_page("Pipit", body))


async def templates(request: Request) -> Response:
    """GET /cli/advanced-templates.html: where the dialect's template errors point to."""
    items = "".join(f'<dt id="{at}">{escape(of)}</dt><dd>{escape(text)}</dd>' for at, (of, text) in _TERMS.items())
    body = (
        "<h1>Templates</h1><p>The SQL of an endpoint is a template: values of a request come in with functions that "
        f"check them. An error names the parameter, and what it takes.</p><dl>{items}</dl>"
    )
    return HTMLResponse(_page("Pipit: templates", body))


def _page(title: str, body: str) -> str:
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en">{head}{body}</html>'


_PLACES = {
    "/docs/errors.html": "the errors and what they mean",
    "/cli/advanced-templates.html": "what a template's errors mean",
    "/v0/pipes/openapi.json": "OpenAPI of the endpoints that your token may read",
    "/v0/health": "whether the server lives",
}
_TERMS = {
    "parameters": ("{{Int32(name, default)}}", "A parameter with its type; one without a default has to be sent."),
    "columns": ("{{columns(name, 'a,b')}}", "Columns that a request chooses; the default says which there are."),
    "json": ("{{JSON(name)}}", "A value that is JSON text, or an object of a JSON body."),
    "cache": ("{{cache_ttl('1m')}}", "For how long responses are cached: 5s, 1m, 5m, 30m or 1h."),
}

routes = [
    Route("/", index, methods=["GET"]),
    Route("/docs", index, methods=["GET"]),
    Route("/docs/errors.html", errors, methods=["GET"]),
    Route("/cli/advanced-templates.html", templates, methods=["GET"]),
]

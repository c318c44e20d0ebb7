"""GET|POST /v0/sql: a workspace token's own SELECT; a JWT's where the workspace allows it (`query/tenant_sql.py`)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipit.api.origin import log_refusals, read_of
from pipit.api.requests import authenticate, parameters, read_body, server_of
from pipit.api.responses import ReadResponse
from pipit.errors import BadRequest, Reason
from pipit.query import tenant_sql
from pipit.query.formats import JSON, TSV, output_settings
from pipit.query.queries import QUERY_API, SqlQuery

_FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data", "application/json")


@log_refusals(lambda _: QUERY_API)
async def sql(request: Request) -> Response:
    server = server_of(request)
    security, snapshot = authenticate(request, reads=True)
    if security.is_tenant:
        tenant_sql.require(snapshot, security)
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    # A body is read once: it is the statement, or it is parameters.
    is_text = request.method == "POST" and kind not in _FORM_TYPES
    text = _text(await read_body(request, server.config.max_body_bytes)) if is_text else ""
    request_parameters, controls = await parameters(
        request, server.config.max_body_bytes, body=not is_text, reserved=("q", "format", "pipeline")
    )
    text = text if text.strip() else controls.get("q", "")
    if not text.strip():
        raise BadRequest(
            "The parameter 'q' is missing",
            hint="GET /v0/sql?q=SELECT ...",
            reason=Reason.PARAMETER_MISSING,
            subject="q",
        )
    # Without a FORMAT clause: JSON for a client that asks for it, else the engine's own default.
    default = JSON if "application/json" in request.headers.get("accept", "") else TSV
    query = SqlQuery(
        text,
        request_parameters,
        default,
        pipeline=controls.get("pipeline", ""),
        settings=output_settings((p.name, p.value) for p in request_parameters.sent),
    )
    return ReadResponse(server.reader, read_of(request, query), headers=dict(request.state.rate_headers))


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise BadRequest("The SQL text is not valid UTF-8", reason=Reason.BODY_INVALID) from None


routes = [Route("/v0/sql", sql, methods=["GET", "POST"])]

"""POST /v1/explain: what an endpoint would run for a token, without running it. For admin tokens only.

The same decisions as a read, made by the same functions (rule 4): those of `query.planner`. The answer shows SQL,
filters and settings, which no tenant ever sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipit.access import grants
from pipit.access.params import RequestParams, SentParameter
from pipit.api.answers import JSONResponse
from pipit.api.objects import pipe_of
from pipit.api.requests import authenticate, read_body, server_of, viewer_of
from pipit.catalog.lineage import parameter_names
from pipit.catalog.snapshot import Snapshot
from pipit.errors import BadRequest, Forbidden, Reason
from pipit.query.formats import JSON
from pipit.query.plan import Plan
from pipit.query.queries import PipeQuery, Read
from pipit.suggest import did_you_mean
from pipit.templates import is_reserved


class _Explain(msgspec.Struct, forbid_unknown_fields=True):
    """`parameters` as a query string would carry them; `token`: whose view, instead of the admin's own."""

    pipe: str
    parameters: list[tuple[str, str]] = []
    token: str = ""


async def explain(request: Request) -> Response:
    server = server_of(request)
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    try:
        asked = msgspec.json.decode(await read_body(request, server.config.max_body_bytes), type=_Explain)
    except msgspec.MsgspecError as error:
        raise BadRequest(f"The body does not say what to explain: {error}", reason=Reason.BODY_INVALID) from None
    viewer = security
    if asked.token:
        viewer, snapshot = viewer_of(server, asked.token)
        if viewer.workspace_id != security.workspace_id:
            raise Forbidden("The token to explain for belongs to another workspace", reason=Reason.TOKEN_ELSEWHERE)
    read = Read(snapshot, viewer, pipe_query(snapshot, asked.pipe, asked.parameters))
    plan = await server.reader.prepare(read)
    unknown = _unknown_parameters(snapshot, asked)
    return JSONResponse(explained(plan) | {"unknown_parameters": unknown})


def _unknown_parameters(snapshot: Snapshot, asked: _Explain) -> list[dict[str, str]]:
    """What is sent and changes nothing: neither the pipe nor what it reads asks for it. With what may be meant."""
    known = parameter_names(snapshot, snapshot.pipes[pipe_of(snapshot, asked.pipe)])
    sent = dict.fromkeys(name for name, _ in asked.parameters)
    unknown = [name for name in sent if name not in known and not is_reserved(name)]
    return [{"name": name, "hint": did_you_mean(name, sorted(known))} for name in unknown]


def pipe_query(snapshot: Snapshot, pipe: str, parameters: Sequence[tuple[str, str]]) -> PipeQuery:
    """A read of an endpoint, its parameters as a query string would carry them."""
    params = RequestParams(tuple(SentParameter("query", name, value) for name, value in parameters))
    return PipeQuery(pipe_of(snapshot, pipe), params, JSON)


def explained(plan: Plan) -> dict[str, Any]:
    """A plan as JSON tells it. For admins' eyes only."""
    known, viewer = plan.read.snapshot.physical_tables, plan.read.security
    return {
        "sql": plan.composed.sql,
        "parameters": dict(plan.params),
        "filters": dict(plan.filters),
        "settings": {k: v for k, v in plan.settings.items() if k != "additional_table_filters"},
        "tables": {physical: known[physical].table.name for physical in sorted(plan.reads) if physical in known},
        "as": {"kind": viewer.kind.value, "name": viewer.name},
    }


routes = [Route("/v1/explain", explain, methods=["POST"])]

__all__ = ["explain", "explained", "pipe_query", "routes"]

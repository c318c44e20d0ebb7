"""POST /demo/inspect: what runs for two viewers of an endpoint, and what each of them gets.

For developers on their own machine: mounted by `pipit serve --demo` on a loopback address and nowhere else, answered to
the workspace's admin token and to nothing else, and only to this machine's own page (`guard.check_local`). The token is
typed in by a person who has it; no route gives it out. The plan is the one of /v1/explain, in the project's own names,
the rows are those of the endpoint, both by the one way to read.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response

from pipit.access import grants
from pipit.access.context import SecurityContext
from pipit.api.answers import JSONResponse
from pipit.api.explain import explained, pipe_query
from pipit.api.requests import authenticate, read_body, server_of, viewer_of
from pipit.catalog.snapshot import Snapshot
from pipit.demo.guard import check_local
from pipit.demo.readable import readable
from pipit.errors import BadRequest, Forbidden, PipitError, Reason, Unavailable
from pipit.query.queries import Read
from pipit.server import Server

_BODY_BYTES = 64 * 1024


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    """`tokens`: the viewers'; an empty one is the workspace itself."""

    pipe: str
    tokens: tuple[str, str]
    parameters: list[tuple[str, str]] = []


async def inspect(request: Request) -> Response:
    check_local(request)
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise BadRequest("Send JSON, and say so in Content-Type", reason=Reason.BODY_TYPE_UNSUPPORTED)
    server = server_of(request)
    try:
        asked = msgspec.json.decode(await read_body(request, _BODY_BYTES), type=_Asked)
    except msgspec.MsgspecError as error:
        raise BadRequest(f"The body does not say what to look at: {error}", reason=Reason.BODY_INVALID) from None
    viewers = [viewer_of(server, token) if token else (security, snapshot) for token in asked.tokens]
    if any(viewer.workspace_id != security.workspace_id for viewer, _ in viewers):
        raise Forbidden("A viewer's token belongs to another workspace", reason=Reason.TOKEN_ELSEWHERE)
    views = [await _view(server, held, viewer, asked) for viewer, held in viewers]
    return JSONResponse({"views": views})


async def _view(server: Server, snapshot: Snapshot, viewer: SecurityContext, asked: _Asked) -> dict[str, Any]:
    """A refusal is an answer too. Raises Unavailable: that one is not about the viewer."""
    try:
        query = pipe_query(snapshot, asked.pipe, asked.parameters)
        read = Read(snapshot, viewer, query)
        plan = readable(explained(await server.reader.prepare(read)), query.pipe)
        async with server.reader.open(read) as answer:
            rows = b"".join([chunk async for chunk in answer.chunks])
    except Unavailable:
        raise
    except PipitError as error:
        return {"refused": {"status": error.status, "error": error.message}}
    return {"plan": plan, "answer": orjson.Fragment(rows)}


__all__ = ["inspect"]

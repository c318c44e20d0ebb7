"""/v0/workspace/environments: the workspace's other databases. For a token that manages the workspace.

A token of an environment manages nothing, not even its own environment, and does not learn which others there are.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipit.access import grants
from pipit.api.answers import JSONResponse
from pipit.api.requests import authenticate, parameters, server_of
from pipit.catalog.snapshot import Snapshot
from pipit.catalog.state import EnvironmentRow
from pipit.deploy import EnvironmentOutcome
from pipit.errors import BadRequest, PipitError, Reason
from pipit.server import Server


async def environments(request: Request) -> Response:
    """GET: all of them, in order of creation."""
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    server = server_of(request)
    rows = server.catalog.environments(snapshot.workspace.id)
    return JSONResponse({"environments": [environment_object(server, snapshot, row) for row in rows]})


async def create(request: Request) -> Response:
    """POST with `name`: answers when the workspace's live deployment is in it, or says why it is not."""
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    server = server_of(request)
    _, controls = await parameters(request, server.config.max_body_bytes, reserved=("name",))
    outcome = await server.deployer.add_environment(snapshot.workspace.id, controls.get("name", ""))
    row = next(r for r in server.catalog.environments(snapshot.workspace.id) if r.name == outcome.name)
    made = environment_object(server, server.catalog.snapshot(snapshot.workspace.id), row)
    return JSONResponse(made | outcome_object(outcome))


async def remove(request: Request) -> Response:
    """DELETE .../<name>?confirm=true: the environment and all of its rows."""
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    name = request.path_params["name"]
    if request.query_params.get("confirm") != "true":
        raise BadRequest(
            "Deleting an environment deletes its database with all of its rows",
            hint="Add confirm=true if that is what you want.",
            reason=Reason.CONFIRMATION_MISSING,
        )
    await server_of(request).deployer.remove_environment(snapshot.workspace.id, name)
    return JSONResponse({"ok": True})


def environment_object(server: Server, own: Snapshot, row: EnvironmentRow) -> dict[str, Any]:
    """`status`: live; behind (it missed a deploy, the next one brings it up to date); broken (it is not served)."""
    try:
        deployment = server.catalog.snapshot(row.workspace_id, row.name).deployment
        status = "live" if deployment == own.deployment else "behind"
    except PipitError:
        deployment, status = 0, "broken"
    return {
        "id": row.id,
        "name": row.name,
        "database": row.database,
        "created_at": row.created_at,
        "deployment": str(deployment),
        "status": status,
    }


def outcome_object(outcome: EnvironmentOutcome) -> dict[str, str]:
    """What a deploy did to one environment."""
    found = {"name": outcome.name, "result": outcome.result, "deployment": str(outcome.deployment)}
    return found | {"error": outcome.error} if outcome.error else found


routes = [
    Route("/v0/workspace/environments", environments, methods=["GET"]),
    Route("/v0/workspace/environments", create, methods=["POST"]),
    Route("/v0/workspace/environments/{name}", remove, methods=["DELETE"]),
]

"""Workspaces, their settings and secrets: for admin tokens (Tinybird's HTTP API)."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipit.access import grants
from pipit.access.claims import strict_object
from pipit.access.context import SecurityContext
from pipit.api.answers import JSONResponse
from pipit.api.requests import authenticate, parameters, read_body, server_of
from pipit.catalog.catalog import Catalog
from pipit.catalog.snapshot import Workspace
from pipit.catalog.state import DEFAULT_WORKSPACE, SecretRow, WorkspaceSettings
from pipit.errors import BadRequest, Forbidden, NotFound, Reason


async def workspace(request: Request) -> Response:
    """GET /v0|v1/workspace: the workspace of the token."""
    security, snapshot = authenticate(request)
    if security.is_tenant:
        raise Forbidden("A JWT cannot look at the workspace", reason=Reason.WORKSPACE_TOKEN_REQUIRED)
    return JSONResponse(
        _workspace_object(snapshot.workspace) | {"scope": "admin" if security.manages_workspace else "user"}
    )


async def workspaces(request: Request) -> Response:
    """GET /v1/user/workspaces: all of the server's, for the default workspace's admin token."""
    security, _ = authenticate(request)
    catalog = server_of(request).catalog
    require_server_admin(catalog, security)
    listed = [_workspace_object(s.workspace) | {"token": s.workspace.admin_token} for s in catalog.snapshots.values()]
    return JSONResponse({"workspaces": listed, "organization_id": None, "organization_name": None})


async def create_workspace(request: Request) -> Response:
    """POST /v1/workspaces?name=: the only answer that carries the new admin token, besides the list above."""
    security, _ = authenticate(request)
    server = server_of(request)
    require_server_admin(server.catalog, security)
    _, controls = await parameters(request, server.config.max_body_bytes, reserved=("name",))
    made = await server.catalog.create_workspace(controls.get("name", ""))
    return JSONResponse(_workspace_object(made) | {"token": made.admin_token})


async def delete_workspace(request: Request) -> Response:
    """DELETE /v1/workspaces/<id>?confirmation=<its name>: with its tokens, environments and rows, for good."""
    security, _ = authenticate(request)
    server = server_of(request)
    require_server_admin(server.catalog, security)
    _, controls = await parameters(request, server.config.max_body_bytes, reserved=("confirmation",))
    workspace = server.catalog.snapshot(request.path_params["id"]).workspace
    if controls.get("confirmation") != workspace.name:
        raise BadRequest(
            f"The workspace '{workspace.name}' is deleted with all of its rows",
            hint=f"Send confirmation={workspace.name} if that is what you want.",
            reason=Reason.CONFIRMATION_MISSING,
        )
    await server.deployer.remove_workspace(workspace.id)
    return JSONResponse(_workspace_object(workspace))


async def settings(request: Request) -> Response:
    """GET /v0/workspace/settings; PUT with a JSON object of those that change."""
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    server = server_of(request)
    now = msgspec.to_builtins(snapshot.workspace.settings)
    if request.method == "PUT":
        try:
            wanted = now | strict_object(await read_body(request, server.config.max_body_bytes))
            changed = msgspec.convert(wanted, WorkspaceSettings)
        except ValueError as error:
            raise BadRequest(
                f"The settings cannot be read: {error}",
                hint=f"Send a JSON object; there are {', '.join(now)}.",
                reason=Reason.BODY_INVALID,
            ) from None
        await server.catalog.put_settings(snapshot.workspace.id, changed)
        now = msgspec.to_builtins(changed)
    return JSONResponse(now)


async def variables(request: Request) -> Response:
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    rows = server_of(request).catalog.secrets(snapshot.workspace.id)
    return JSONResponse({"variables": [_variable_object(r) for r in rows]})


async def create_variable(request: Request) -> Response:
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    server = server_of(request)
    _, controls = await parameters(request, server.config.max_body_bytes, reserved=("name", "value", "type"))
    if "name" not in controls or "value" not in controls:
        raise BadRequest("The parameters 'name' and 'value' are both needed", reason=Reason.PARAMETER_MISSING)
    row = await server.catalog.put_secret(snapshot.workspace.id, controls["name"], controls["value"])
    return JSONResponse(_variable_object(row))


async def variable(request: Request) -> Response:
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    server = server_of(request)
    name = request.path_params["name"]
    known = {r.name: r for r in server.catalog.secrets(snapshot.workspace.id)}
    if name not in known:
        raise NotFound(
            "Not found" if request.method == "GET" else "Variable not found",
            reason=Reason.SECRET_NOT_FOUND,
            subject=name,
        )
    if request.method == "GET":
        return JSONResponse(_variable_object(known[name]))
    if request.method == "DELETE":
        await server.catalog.delete_secret(snapshot.workspace.id, name)
        return JSONResponse({"ok": True})
    _, controls = await parameters(request, server.config.max_body_bytes, reserved=("value",))
    if "value" not in controls:
        raise BadRequest("The parameter 'value' is missing", reason=Reason.PARAMETER_MISSING, subject="value")
    return JSONResponse(
        _variable_object(await server.catalog.put_secret(snapshot.workspace.id, name, controls["value"]))
    )


def require_server_admin(catalog: Catalog, security: SecurityContext) -> None:
    grants.require_admin(security)
    if catalog.snapshot(security.workspace_id).workspace.name != DEFAULT_WORKSPACE:
        raise Forbidden("Only the default workspace's admin token manages workspaces", reason=Reason.ADMIN_REQUIRED)


def _workspace_object(workspace: Workspace) -> dict[str, Any]:
    return {
        "id": workspace.id,
        "name": workspace.name,
        "user_id": workspace.id,
        "user_email": "",
        "main": None,
        "is_forward": True,
        "is_branch": False,
    }


def _variable_object(row: SecretRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "type": "secret",
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "edited_by": "",
    }


routes = [
    Route("/v0/workspace", workspace, methods=["GET"]),
    Route("/v1/workspace", workspace, methods=["GET"]),
    Route("/v0/workspace/settings", settings, methods=["GET", "PUT"]),
    Route("/v1/user/workspaces", workspaces, methods=["GET"]),
    Route("/v1/workspaces", create_workspace, methods=["POST"]),
    Route("/v1/workspaces/{id}", delete_workspace, methods=["DELETE"]),
    Route("/v0/variables", variables, methods=["GET"]),
    Route("/v0/variables", create_variable, methods=["POST"]),
    Route("/v0/variables/{name}", variable, methods=["GET", "PUT", "DELETE"]),
]

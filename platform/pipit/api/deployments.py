"""POST /v1/deploy and its kin: a whole project as multipart files (Tinybird's HTTP API)."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipit.access import grants
from pipit.api.answers import JSONResponse
from pipit.api.environments import outcome_object
from pipit.api.requests import authenticate, bounded, server_of
from pipit.audit.policy_regression import check_not_weaker
from pipit.catalog.snapshot import Snapshot
from pipit.datafiles.resources import Warning as ProjectWarning
from pipit.deploy import Outcome, Plan
from pipit.errors import BadRequest, NotFound, ProjectError

_MAX_FILES = 10_000
_PARTS = ("data_project://", "data_project_vendored://")


async def deploy(request: Request) -> Response:
    """`check=true` validates and plans only. Answers when the deployment is live: nothing to poll for.

    A project that confines less than what is live is refused, unless `allow_weaker=true`.
    """
    return await _deploy(request, key="deployment")


async def build(request: Request) -> Response:
    """The dialect's development deploy; here the same operation, answered under the key `build`."""
    return await _deploy(request, key="build")


async def _deploy(request: Request, *, key: str) -> Response:
    server = server_of(request)
    security, snapshot = authenticate(request)
    grants.deploy(security)
    files = await _files(request, server.config.max_project_bytes)
    flags = request.query_params
    allow_weaker = flags.get("allow_weaker") == "true"
    try:
        outcome = await server.deployer.deploy(
            snapshot.workspace.id,
            files,
            check=flags.get("check") == "true",
            allow_destructive=flags.get("allow_destructive_operations") == "true",
            allow_weaker=allow_weaker,
            compare=None if allow_weaker else check_not_weaker,
        )
    except ProjectError as error:
        failed = error.body() | {"result": "failed", "error": error.message}
        return JSONResponse(failed, status_code=error.status)
    return JSONResponse({"result": outcome.result, key: deployment_object(outcome)})


async def deployments(request: Request) -> Response:
    """GET /v1/deployments: the live one."""
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    return JSONResponse({"deployments": [_live_object(snapshot)] if snapshot.deployment else []})


async def deployment(request: Request) -> Response:
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    if request.path_params["id"] != str(snapshot.deployment):
        raise NotFound(f"The deployment '{request.path_params['id'][:40]}' does not exist")
    return JSONResponse({"deployment": _live_object(snapshot)})


async def files(request: Request) -> Response:
    """GET /v1/deployments/live/files: the project as it is deployed, for admin tokens (`pipit check`, `pull`)."""
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    return JSONResponse({"files": dict(snapshot.project.files)})


async def _files(request: Request, limit: int) -> dict[str, str]:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise BadRequest("A project is sent as multipart/form-data", hint="Use `pipit deploy`.")
    found: dict[str, str] = {}
    counted = bounded(request, limit, "project")
    async with counted.form(max_files=_MAX_FILES, max_fields=100, max_part_size=limit) as form:
        for name, part in form.multi_items():
            if name not in _PARTS or not isinstance(part, UploadFile) or not part.filename:
                continue
            raw = await part.read()
            file = _relative(part.filename)
            if file in found:
                raise BadRequest(f"The file '{file[:200]}' is sent twice")
            try:
                found[file] = raw.decode()
            except UnicodeDecodeError:
                raise BadRequest(f"The file '{file[:200]}' is not UTF-8 text") from None
    return found


def _relative(filename: str) -> str:
    """A path inside the project. The server never opens it, but errors and vendored names are made from it."""
    filename = unquote(filename)  # some clients send `datasources%2Fx.datasource`
    parts = filename.replace("\\", "/").split("/")
    if filename.startswith("/") or ".." in parts or "\0" in filename:
        raise BadRequest(f"The file name '{filename[:200]}' leaves the project")
    return "/".join(p for p in parts if p not in ("", "."))


def deployment_object(outcome: Outcome) -> dict[str, Any]:
    """A deployment that was made or planned, as `/v1/deploy` answers."""
    plan: Plan = outcome.plan
    return _live_object(outcome.snapshot) | {
        "new_datasource_names": list(plan.new_datasources),
        "changed_datasource_names": list(plan.changed_datasources),
        "deleted_datasource_names": list(plan.deleted_datasources),
        "new_pipe_names": list(plan.new_pipes),
        "changed_pipe_names": _changed_pipes(plan),
        "deleted_pipe_names": list(plan.deleted_pipes),
        "new_data_connector_names": list(plan.new_connections),
        "changed_data_connector_names": list(plan.changed_connections),
        "deleted_data_connector_names": list(plan.deleted_connections),
        "changes": _changes(plan),
        "feedback": [_feedback(w) for w in outcome.warnings],
        "environments": [outcome_object(one) for one in outcome.environments],
        "seconds": round(outcome.seconds, 3),
    }


def _live_object(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "id": str(snapshot.deployment),
        "status": "data_ready",
        "live": True,
        "created_at": snapshot.created_at,
        "new_datasource_names": [],
        "changed_datasource_names": [],
        "deleted_datasource_names": [],
        "disconnected_data_source_names": [],
        "new_pipe_names": [],
        "changed_pipe_names": [],
        "deleted_pipe_names": [],
        "new_data_connector_names": [],
        "changed_data_connector_names": [],
        "deleted_data_connector_names": [],
        "token_changes": [],
        "data_movements": [],
        "new_data_connector_ids": [],
        "feedback": [],
        "errors": [],
    }


def _feedback(warning: ProjectWarning) -> dict[str, Any]:
    return {
        "resource": warning.file,
        "level": "WARNING",
        "message": str(warning),
        "hint": warning.hint,
        "filename": warning.file,
        "line": warning.line,
        "column": warning.column,
        "text": warning.message,
    }


def _changed_pipes(plan: Plan) -> list[str]:
    """Those whose text changes, and those whose views are made again."""
    again = (key.partition(".")[0] for key in plan.rechecked_views)
    return list(dict.fromkeys([*plan.changed_pipes, *(name for name in again if name not in plan.new_pipes)]))


def _changes(plan: Plan) -> list[dict[str, str]]:
    """What changes inside a data source, for people; Pipit's own addition to the dialect's answer."""
    listed = [
        {"resource": c.datasource, "change": f"new column {c.column.name} {c.column.type}"} for c in plan.new_columns
    ]
    for what, keys in (("new", plan.new_views), ("changed", plan.changed_views), ("deleted", plan.gone_views)):
        listed += [{"resource": k.partition(".")[0], "change": f"{what} materialized view"} for k in keys]
    for key in plan.rechecked_views:
        text = "materialized view made again with checked conversions; its rows stay"
        listed.append({"resource": key.partition(".")[0], "change": text})
    return listed


routes = [
    Route("/v1/deploy", deploy, methods=["POST"]),
    Route("/v1/build", build, methods=["POST"]),
    Route("/v1/deployments", deployments, methods=["GET"]),
    Route("/v1/deployments/live/files", files, methods=["GET"]),
    Route("/v1/deployments/{id}", deployment, methods=["GET"]),
]

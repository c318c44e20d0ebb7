"""POST /v1/deploy and its kin: a whole project as multipart files (Tinybird's HTTP API)."""

from __future__ import annotations

from dataclasses import replace
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
from pipit.audit.policy_regression import policy_regressions
from pipit.catalog.snapshot import Snapshot
from pipit.datafiles.resources import Warning as ProjectWarning
from pipit.deploy import Outcome
from pipit.deploy.describe import changes, operation_objects
from pipit.deploy.plan import Cause, Difference, Plan
from pipit.errors import BadRequest, NotFound, ProjectError, Reason

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
            regressions=None if allow_weaker else policy_regressions,
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
        raise NotFound(
            f"The deployment '{request.path_params['id'][:40]}' does not exist", reason=Reason.DEPLOYMENT_NOT_FOUND
        )
    return JSONResponse({"deployment": _live_object(snapshot)})


async def files(request: Request) -> Response:
    """GET /v1/deployments/live/files: the project as it is deployed, for admin tokens (`pipit check`, `pull`)."""
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    return JSONResponse({"files": dict(snapshot.project.files)})


async def _files(request: Request, limit: int) -> dict[str, str]:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise BadRequest(
            "A project is sent as multipart/form-data", hint="Use `pipit deploy`.", reason=Reason.BODY_TYPE_UNSUPPORTED
        )
    found: dict[str, str] = {}
    counted = bounded(request, limit, "project")
    async with counted.form(max_files=_MAX_FILES, max_fields=100, max_part_size=limit) as form:
        for name, part in form.multi_items():
            if name not in _PARTS or not isinstance(part, UploadFile) or not part.filename:
                continue
            raw = await part.read()
            file = _relative(part.filename)
            if file in found:
                raise BadRequest(f"The file '{file[:200]}' is sent twice", reason=Reason.BODY_INVALID)
            try:
                found[file] = raw.decode()
            except UnicodeDecodeError:
                raise BadRequest(f"The file '{file[:200]}' is not UTF-8 text", reason=Reason.BODY_INVALID) from None
    return found


def _relative(filename: str) -> str:
    """A path inside the project. The server never opens it, but errors and vendored names are made from it."""
    filename = unquote(filename)  # some clients send `datasources%2Fx.datasource`
    parts = filename.replace("\\", "/").split("/")
    if filename.startswith("/") or ".." in parts or "\0" in filename:
        raise BadRequest(f"The file name '{filename[:200]}' leaves the project", reason=Reason.BODY_INVALID)
    return "/".join(p for p in parts if p not in ("", "."))


def deployment_object(outcome: Outcome) -> dict[str, Any]:
    """A deployment that was made or planned, as `/v1/deploy` answers. `changes`, `operations`, `environments` and
    `seconds` are Pipit's own additions to the dialect."""
    plan = outcome.plan
    return _live_object(outcome.snapshot) | {
        **_names("datasource", plan.datasources),
        **_names("pipe", replace(plan.pipes, changed=_changed_pipes(plan))),
        **_names("data_connector", plan.connections),
        "changes": changes(plan),
        "operations": operation_objects(plan),
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
        "kind": warning.kind or "",
    }


def _names(kind: str, difference: Difference) -> dict[str, list[str]]:
    return {
        f"new_{kind}_names": list(difference.new),
        f"changed_{kind}_names": list(difference.changed),
        f"deleted_{kind}_names": list(difference.deleted),
    }


def _changed_pipes(plan: Plan) -> tuple[str, ...]:
    """Those whose text changes, and those whose views are made again."""
    again = [made.view.pipe.name for made in plan.views_made if made.cause is Cause.CONVERSIONS]
    return tuple(dict.fromkeys([*plan.pipes.changed, *(name for name in again if name not in plan.pipes.new)]))


routes = [
    Route("/v1/deploy", deploy, methods=["POST"]),
    Route("/v1/build", build, methods=["POST"]),
    Route("/v1/deployments", deployments, methods=["GET"]),
    Route("/v1/deployments/live/files", files, methods=["GET"]),
    Route("/v1/deployments/{id}", deployment, methods=["GET"]),
]

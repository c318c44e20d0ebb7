"""POST /v1/deploy and its kin: a whole project as multipart files (Tinybird's HTTP API)."""

from __future__ import annotations

from collections.abc import Sequence
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
from pipit.catalog.state import DeploymentRow, Status
from pipit.datafiles.resources import Warning as ProjectWarning
from pipit.deploy import EnvironmentOutcome, Outcome
from pipit.deploy.deployer import lacks
from pipit.deploy.describe import changes, operation_objects
from pipit.deploy.plan import Cause, Difference, How, Plan, Rebuild
from pipit.deploy.progress import Making
from pipit.deploy.shared_tables import gaps
from pipit.errors import BadRequest, NotFound, ProjectError, Reason
from pipit.server import Server

_MAX_FILES = 10_000
_PARTS = ("data_project://", "data_project_vendored://")


async def deploy(request: Request) -> Response:
    """`check=true` validates and plans only. Answers when the deployment is live: nothing to poll for. Without
    `auto_promote=true` it is made and filled, takes every event, and waits to be live.

    A project that confines less than what is live is refused, unless `allow_weaker=true`.
    """
    promote = request.query_params.get("auto_promote") == "true"
    return await _deploy(request, key="deployment", promote=promote)


async def build(request: Request) -> Response:
    """The dialect's development deploy; here the same operation, answered under the key `build`."""
    return await _deploy(request, key="build", promote=True)


async def _deploy(request: Request, *, key: str, promote: bool) -> Response:
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
            promote=promote,
            unthrottled=flags.get("unthrottled") == "true",
            regressions=None if allow_weaker else policy_regressions,
        )
    except ProjectError as error:
        failed = error.body() | {"result": "failed", "error": error.message}
        return JSONResponse(failed, status_code=error.status)
    return JSONResponse({"result": outcome.result, key: deployment_object(outcome)})


async def deployments(request: Request) -> Response:
    """GET /v1/deployments: the live one, then the one that waits to be live. Clients of the dialect delete whatever
    else they see, so the previous one is not among them.

    `include_deleted=true`: all that there ever were; `kept=true`: the previous one too, and one that is being made.
    """
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    server = server_of(request)
    flags = request.query_params
    listed = await _kept(server, snapshot)
    if flags.get("include_deleted") == "true":
        known = {one["id"] for one in listed}
        rows = await server.catalog.state.deployments(snapshot.workspace.database_id)
        listed = [_row_object(row, "") for row in rows if str(row.id) not in known] + listed
    elif flags.get("kept") != "true":
        listed = [one for one in listed if one["state"] not in (Status.PREVIOUS, Status.CREATING)]
    return JSONResponse({"deployments": listed})


async def deployment(request: Request) -> Response:
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    return JSONResponse({"deployment": await _found(server_of(request), snapshot, _number(request))})


async def set_live(request: Request) -> Response:
    """POST /v1/deployments/<id>/set-live: the one that waits, or the previous one, in every environment. The previous
    one by the rules of a rollback; whether the one that waits may confine less was said when it was made."""
    security, snapshot = authenticate(request)
    grants.deploy(security)
    server, number = server_of(request), _number(request)
    previous = server.catalog.beside(snapshot.workspace.id).previous
    if number == snapshot.deployment:
        outcomes: tuple[EnvironmentOutcome, ...] = ()
    elif previous is not None and previous.row.id == number:
        outcomes = await _rolled_back(request, snapshot)
    else:
        outcomes = await server.deployer.promote(snapshot.workspace.id, number, force=_forced(request))
    return await _switched(server, snapshot, outcomes)


async def rollback(request: Request) -> Response:
    """POST /v1/deployments/rollback: the previous one is live again, in every environment.

    One that confines less than what is live is refused, unless `allow_weaker=true`.
    """
    security, snapshot = authenticate(request)
    grants.deploy(security)
    previous = server_of(request).catalog.beside(snapshot.workspace.id).previous
    warnings = gaps(snapshot, previous.snapshot) if previous is not None else ()
    return await _switched(server_of(request), snapshot, await _rolled_back(request, snapshot), warnings)


async def _rolled_back(request: Request, live: Snapshot) -> tuple[EnvironmentOutcome, ...]:
    allow_weaker = request.query_params.get("allow_weaker") == "true"
    regressions = None if allow_weaker else policy_regressions
    deployer = server_of(request).deployer
    return await deployer.rollback(live.workspace.id, force=_forced(request), regressions=regressions)


def _forced(request: Request) -> bool:
    """Whether a deployment may be live that lacks what a job wrote."""
    return request.query_params.get("force") == "true"


async def discard(request: Request) -> Response:
    """DELETE /v1/deployments/<id>: the one that waits, or is being made. Clients of the dialect delete the previous one
    right after they promoted another: it is kept all the same, unless they say `previous=true`."""
    security, snapshot = authenticate(request)
    grants.deploy(security)
    server, number = server_of(request), _number(request)
    previous = server.catalog.beside(snapshot.workspace.id).previous
    kept = previous is not None and previous.row.id == number and request.query_params.get("previous") != "true"
    if not kept:
        await server.deployer.discard(snapshot.workspace.id, number)
    return JSONResponse({"deployment": await _found(server, snapshot, number)})


async def _switched(
    server: Server,
    before: Snapshot,
    outcomes: Sequence[EnvironmentOutcome],
    warnings: Sequence[ProjectWarning] = (),
) -> Response:
    live = server.catalog.snapshot(before.workspace.id)
    found = await _found(server, live, live.deployment)
    more = {
        "environments": [outcome_object(one) for one in outcomes],
        "feedback": [_feedback(one) for one in warnings],
    }
    return JSONResponse({"deployment": found | more})


def _number(request: Request) -> int:
    """Raises NotFound."""
    text = request.path_params["id"]
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise NotFound(f"The deployment '{text[:40]}' does not exist", reason=Reason.DEPLOYMENT_NOT_FOUND)
    return int(text)


async def _kept(server: Server, live: Snapshot) -> list[dict[str, Any]]:
    """Oldest first: the previous one, the live one, the one that waits, the one that is being made."""
    beside = server.catalog.beside(live.workspace.id)
    found = [_row_object(beside.previous.row, Status.PREVIOUS)] if beside.previous else []
    found += [_live_object(live)] if live.deployment else []
    found += [_row_object(beside.staging.row, Status.DATA_READY)] if beside.staging else []
    for one in found:
        if not one["live"]:
            missing = server.deployer.missing(live.workspace.id, int(one["id"]))
            one["errors"] += [{"error": lacks(job, int(one["id"]))} for job in missing]
    making = server.deployer.making(live.workspace.id)
    if making is not None:
        rows = await server.catalog.state.deployments(live.workspace.database_id, ids=[making.number])
        found += [_row_object(row, Status.CREATING) | {"progress": _progress(making)} for row in rows]
    return found


def _progress(making: Making) -> dict[str, Any]:
    """How far the filling of its tables is. `seconds_left`: null where nothing can be said yet."""
    progress = making.progress
    left = progress.seconds_left
    return {
        "rows": progress.done,
        "of": progress.of,
        "seconds_left": round(left, 1) if left is not None else None,
        "tables": [
            {"datasource": name, "rows": table.done, "of": table.of} for name, table in progress.tables.items()
        ],
    }


async def _found(server: Server, live: Snapshot, number: int) -> dict[str, Any]:
    """Raises NotFound."""
    live = server.catalog.snapshot(live.workspace.id)
    for one in await _kept(server, live):
        if one["id"] == str(number):
            return one
    rows = await server.catalog.state.deployments(live.workspace.database_id, ids=[number])
    if not rows:
        raise NotFound(f"The deployment '{number}' does not exist", reason=Reason.DEPLOYMENT_NOT_FOUND)
    return _row_object(rows[0], "")


_STATUS = {Status.CREATING: "creating_schema", Status.DATA_READY: "data_ready", Status.FAILED: "failed"}


def _row_object(row: DeploymentRow, state: str) -> dict[str, Any]:
    """`status` is the dialect's, where the previous one counts as deleted; `state` is Pipit's."""
    state = state or (row.details.status if not row.live and row.details.status else Status.DISCARDED)
    errors = [{"error": row.details.error}] if row.details.error else []
    return _object(str(row.id), row.created_at) | {
        "status": _STATUS.get(Status(state), "deleted"),
        "state": state,
        "live": False,
        "errors": errors,
    }


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
    shown = _live_object(outcome.snapshot)
    if outcome.staged is not None:
        waits = _object(str(outcome.staged.deployment), outcome.staged.created_at)
        shown = waits | {"status": "data_ready", "state": Status.DATA_READY, "live": False}
    return shown | {
        **_names("datasource", plan.datasources),
        **_names("pipe", replace(plan.pipes, changed=_changed_pipes(plan))),
        **_names("data_connector", plan.connections),
        "changes": changes(plan),
        "operations": operation_objects(plan),
        "data_movements": [movement for rebuild in plan.rebuilds for movement in _movements(rebuild)],
        "feedback": [_feedback(w) for w in outcome.warnings],
        "environments": [outcome_object(one) for one in outcome.environments],
        "seconds": round(outcome.seconds, 3),
    }


def _movements(rebuild: Rebuild) -> list[dict[str, str]]:
    """As the dialect tells where rows come from."""
    name = rebuild.table.name
    if rebuild.how is How.VIEWS:
        kind = "backfill_with_mv_queries"
        return [{"datasource_name": name, "kind": kind, "source_mv_name": view} for view in rebuild.views]
    return [{"datasource_name": name, "kind": "backfill_with_forward_query", "source_mv_name": ""}]


def _live_object(snapshot: Snapshot) -> dict[str, Any]:
    live = {"status": "data_ready", "state": Status.LIVE, "live": True}
    return _object(str(snapshot.deployment), snapshot.created_at) | live


def _object(id: str, created_at: str) -> dict[str, Any]:
    return {
        "id": id,
        "status": "",
        "state": "",
        "live": False,
        "created_at": created_at,
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
    Route("/v1/deployments/rollback", rollback, methods=["POST"]),
    Route("/v1/deployments/{id}/set-live", set_live, methods=["POST"]),
    Route("/v1/deployments/{id}", deployment, methods=["GET"]),
    Route("/v1/deployments/{id}", discard, methods=["DELETE"]),
]

"""Files into data sources (Tinybird's HTTP API): `POST /v0/datasources?mode=append|replace`, and the form with jobs,
`POST /v1/datasources/<name>/append|replace`.

The answer of the first comes when the rows are in the table, with exact counts; whoever hangs up earlier leaves a job
behind that ends all the same.
"""

from __future__ import annotations

import asyncio
import hmac
import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import PurePosixPath
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipit.access import grants
from pipit.access.context import FixedValue, SecurityContext
from pipit.api.answers import JSONResponse
from pipit.api.events import owner_of, sender_of
from pipit.api.jobs import FAILED, for_reader
from pipit.api.objects import datasource_object, datasource_of
from pipit.api.requests import authenticate, bounded, count_write, query_pairs, server_of, token_of
from pipit.api.uploads import Upload, paced, upload_of
from pipit.catalog.snapshot import Snapshot, Table
from pipit.errors import BadRequest, Forbidden, Reason
from pipit.ingest.files.analyze import analyzed, format_of
from pipit.ingest.files.arrive import CSV, FORMATS, NDJSON, PARQUET, arrive, keep_head
from pipit.ingest.files.dialect import NAMES, detected
from pipit.ingest.files.dialect import asked as dialect_asked
from pipit.ingest.files.remote import checked, fetched
from pipit.ingest.files.store import Load
from pipit.jobs.job import IMPORT, Job
from pipit.jobs.loads import APPEND, REPLACE, SKIP
from pipit.server import Server

ONLY_DEPLOYMENTS = "Adding or modifying data sources to this workspace can only be done via deployments"
_AT_ONCE = 16  # files that arrive; each holds some MB of memory
_AT_ONCE_OF_ONE = {True: 4, False: 12}  # of a tenant, of a token of the workspace
_MODES = (APPEND, REPLACE)
_ENDINGS = {"csv": CSV, "tsv": CSV, "ndjson": NDJSON, "jsonl": NDJSON, "json": NDJSON, "parquet": PARQUET}
_KEPT = (SKIP, "replace_condition")


async def load(request: Request) -> Response:
    """POST /v0/datasources: the rows are in the table when it answers."""
    security, snapshot = authenticate(request)
    asked = _once(request)
    upload = await upload_of(bounded(request, server_of(request).config.max_file_bytes, "file"))
    asked = {**upload.fields, **asked}
    mode = asked.get("mode", APPEND if asked.get("name") in snapshot.tables else "create").lower()
    name = datasource_of(snapshot, asked.get("name", ""))
    if mode not in _MODES or name not in snapshot.tables:
        grants.may_load(security, name)
        raise Forbidden(
            ONLY_DEPLOYMENTS, hint="Add a .datasource file and run `pipit deploy`.", reason=Reason.FOLLOWS_FILES
        )
    job = await _start(request, security, snapshot, snapshot.tables[name], mode, upload, asked)
    if asked.get("url"):
        waiting = server_of(request).jobs.waiting_for(job)
        shown = for_reader(job.shown(str(request.base_url), waiting_for=waiting), security)
        return JSONResponse(shown, headers=dict(request.state.rate_headers))
    try:
        ended = await server_of(request).jobs.outcome(snapshot, job.id)
    except BadRequest as error:
        if error.reason is Reason.JOB_ENDED and security.is_tenant:  # the job's own message
            raise BadRequest(FAILED, reason=Reason.JOB_ENDED) from None
        raise
    return JSONResponse(_answer(snapshot, snapshot.tables[name], ended), headers=dict(request.state.rate_headers))


async def analyze(request: Request) -> Response:
    """POST /v0/analyze: the columns of a file (the body, or `url=`), and a schema for it."""
    security, _ = authenticate(request)
    grants.may_load(security, "")
    server = server_of(request)
    upload = await upload_of(bounded(request, server.config.max_file_bytes, "file"))
    asked = {**upload.fields, **_once(request)}
    stream = upload.content
    if asked.get("url"):
        checked(asked["url"], server.config.urls)
        stream = fetched(asked["url"], server.config.urls)
    if stream is None:
        raise BadRequest("The request holds no file", hint="Send it as the body.", reason=Reason.BODY_EMPTY)
    id = str(uuid.uuid4())
    with _place(request, security):
        folder = await asyncio.to_thread(server.files.make, id)
        try:
            path = folder / "head"
            head = await keep_head(paced(stream), path, request.headers.getlist("content-encoding"))
            format = asked.get("format", "") or format_of(head)
            delimiter = detected(head, (), dialect_asked(asked)).delimiter
            return JSONResponse(await analyzed(server.engine, path, _format({"format": format}, ""), delimiter))
        finally:
            await asyncio.to_thread(server.files.remove, id)


async def append(request: Request) -> Response:
    return await _as_job(request, APPEND)


async def replace(request: Request) -> Response:
    return await _as_job(request, REPLACE)


async def _as_job(request: Request, mode: str) -> Response:
    """POST /v1/datasources/<name>/append|replace: the job, once the whole file is here."""
    security, snapshot = authenticate(request)
    name = datasource_of(snapshot, request.path_params["name"])
    if name not in snapshot.tables:
        grants.may_load(security, name)
        raise Forbidden(
            ONLY_DEPLOYMENTS, hint="Add a .datasource file and run `pipit deploy`.", reason=Reason.FOLLOWS_FILES
        )
    upload = await upload_of(bounded(request, server_of(request).config.max_file_bytes, "file"))
    asked = {**upload.fields, **_once(request)}
    job = await _start(request, security, snapshot, snapshot.tables[name], mode, upload, asked)
    waiting = server_of(request).jobs.waiting_for(job)
    shown = for_reader(job.shown(str(request.base_url), waiting_for=waiting), security)
    return JSONResponse(shown, headers=dict(request.state.rate_headers))


async def _start(
    request: Request,
    security: SecurityContext,
    snapshot: Snapshot,
    table: Table,
    mode: str,
    upload: Upload,
    asked: Mapping[str, str],
) -> Job:
    server = server_of(request)
    fixed = await _allowed(server, security, snapshot, table, mode)
    count_write(request, security, table.name)
    format = _format(asked, upload.file or asked.get("url", "").partition("?")[0])
    sender = sender_of(security, token_of(request))
    key = request.headers.get("idempotency-key")
    id = str(uuid.uuid4())
    if key is not None:
        named = [sender, repr(sorted(fixed.items())), snapshot.workspace.database_id, table.name, mode, key]
        id = _id_under_key(snapshot.workspace.admin_token, named)
        known = server.jobs.known(snapshot, id)
        if known is not None:
            return known
    if asked.get("url"):
        file = await _remember(security, server, id, format, mode, asked)
    elif upload.content is None:
        raise BadRequest(
            "The request holds no file",
            hint="Send it as the body, or as the part `csv` of a form, or name its `url`.",
            reason=Reason.BODY_EMPTY,
        )
    else:
        file = _shown_name(upload.file) or f"body.{format}"
        await _receive(request, security, server, upload, id, table, format, file, mode, asked, fixed)
    try:
        return await server.jobs.work_on(
            snapshot,
            IMPORT,
            table.name,
            id=id,
            mode=mode,
            parameters={"format": format, "file": file} | {k: asked[k] for k in _KEPT if k in asked},
            asked_by=security.name,
            owner=owner_of(security, token_of(request)),
            result={"import_id": id, "successful_rows": 0, "quarantine_rows": 0, "invalid_lines": 0},
        )
    except BaseException:
        await asyncio.to_thread(server.files.remove, id)
        raise


async def _allowed(
    server: Server, security: SecurityContext, snapshot: Snapshot, table: Table, mode: str
) -> Mapping[str, FixedValue]:
    """What the token sets in every row. Raises Forbidden."""
    if mode == REPLACE:
        grants.rewrite(security, table.name)
        return {}
    fixed = grants.load(security, table.name)
    await server.deployer.appends.check(snapshot, table, security, fixed)
    return fixed


async def _remember(
    security: SecurityContext, server: Server, id: str, format: str, mode: str, asked: Mapping[str, str]
) -> str:
    """Where the file is: its job fetches it. Returns what may be shown of that."""
    if security.is_tenant:
        raise Forbidden(
            "A JWT cannot let the server fetch a file",
            hint="Send the file itself, or use a token of the workspace.",
            reason=Reason.WORKSPACE_TOKEN_REQUIRED,
        )
    shown = checked(asked["url"], server.config.urls)
    condition = asked.get("replace_condition", "") if mode == REPLACE else ""
    written = {name: asked[name] for name in NAMES if name in asked}
    found = Load(id, shown, format, condition=condition, url=asked["url"], parameters=written)
    await asyncio.to_thread(server.files.make, id)
    await asyncio.to_thread(server.files.put, found)
    return shown


async def _receive(
    request: Request,
    security: SecurityContext,
    server: Server,
    upload: Upload,
    id: str,
    table: Table,
    format: str,
    file: str,
    mode: str,
    asked: Mapping[str, str],
    fixed: Mapping[str, FixedValue],
) -> None:
    """The file to the disk. Leaves nothing behind where it fails."""
    assert upload.content is not None
    with _place(request, security):
        folder = await asyncio.to_thread(server.files.make, id)
        try:
            arrived = await arrive(
                paced(upload.content),
                folder,
                format,
                columns=[column.name for column in table.datasource.columns if column.type],
                parameters=asked,
                encodings=request.headers.getlist("content-encoding"),
                limit=server.config.max_file_bytes,
            )
            found = Load(
                id,
                file,
                format,
                arrived.pieces,
                arrived.set_aside,
                arrived.delimiter,
                arrived.names,
                arrived.width,
                arrived.bytes,
                fixed=dict(fixed),
                condition=asked.get("replace_condition", "") if mode == REPLACE else "",
            )
            await asyncio.to_thread(server.files.put, found)
        except BaseException:
            await asyncio.to_thread(server.files.remove, id)
            raise


def _place(request: Request, security: SecurityContext) -> AbstractContextManager[None]:
    """For a file that arrives: one sender never takes all of them."""
    most = _AT_ONCE_OF_ONE[security.is_tenant]
    return server_of(request).files.arriving(_AT_ONCE, owner_of(security, token_of(request)), most)


def _id_under_key(secret: str, named: list[str]) -> str:
    """The same for the same request. Who knows all its parts cannot know the id: it is made with a secret."""
    text = msgspec.json.encode(["load", *named])
    return str(uuid.UUID(bytes=hmac.digest(secret.encode(), text, "sha256")[:16], version=4))


def _format(asked: Mapping[str, str], file: str) -> str:
    """As asked for, else as the file's name ends, else CSV."""
    text = asked.get("format", "").lower()
    if not text:
        endings = [suffix.lstrip(".").lower() for suffix in PurePosixPath(file).suffixes]
        return next((_ENDINGS[e] for e in reversed(endings) if e in _ENDINGS), CSV)
    if text not in FORMATS:
        raise BadRequest(
            f"The format '{text[:40]}' is not supported",
            hint=f"Use {', '.join(FORMATS)}.",
            reason=Reason.FORMAT_UNSUPPORTED,
            subject=text,
        )
    return text


def _once(request: Request) -> dict[str, str]:
    """The parameters of the query string. Raises BadRequest for one that is given twice."""
    found: dict[str, str] = {}
    for name, value in query_pairs(request):
        if found.setdefault(name, value) != value:
            raise BadRequest(
                f"The parameter '{name[:80]}' is given twice with different values",
                reason=Reason.PARAMETER_REPEATED,
                subject=name,
            )
    return found


def _shown_name(file: str) -> str:
    name = file.replace("\\", "/").rpartition("/")[2]
    return "".join(c if c.isprintable() else "?" for c in name[:200])


def _answer(snapshot: Snapshot, table: Table, job: Job) -> dict[str, Any]:
    result = job.result
    bad, invalid = int(result["quarantine_rows"]), int(result["invalid_lines"])
    return {
        "import_id": job.id,
        "datasource": datasource_object(snapshot, table, {}, frozenset({"id", "name", "type", "created_at"})),
        "successful_rows": job.rows,
        "quarantine_rows": bad,
        "invalid_lines": invalid,
        "error": contents(bad, invalid) or False,
    }


def contents(bad: int, invalid: int) -> str:
    """In the dialect's words; empty where nothing is wrong."""
    if not bad:
        return ""
    found = f"{bad} row{'' if bad == 1 else 's'} in quarantine"
    if invalid:
        found += f" and {invalid} invalid line{'' if invalid == 1 else 's'}"
    return f"There was an error with file contents: {found}."


routes = [
    Route("/v0/datasources", load, methods=["POST"]),
    Route("/v0/analyze", analyze, methods=["POST"]),
    Route("/v1/datasources/{name}/append", append, methods=["POST"]),
    Route("/v1/datasources/{name}/replace", replace, methods=["POST"]),
]

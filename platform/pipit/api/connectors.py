"""/v0/connectors: connections, how what they lead to is read, and a look into them (shapes: Tinybird's HTTP API).

For admin tokens. No answer has a secret in it: of a connection's settings only those that hold none are shown.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pipit.access import grants
from pipit.api.answers import JSONResponse
from pipit.api.objects import datasource_of
from pipit.api.requests import authenticate, server_of, whole_number
from pipit.catalog.snapshot import Snapshot
from pipit.connectors import Refused, Status, sample
from pipit.connectors.buckets.place import TYPES, Place
from pipit.connectors.buckets.reader import FAILED, LOADED, PARKED
from pipit.connectors.buckets.source import bucket_sources, is_bucket
from pipit.connectors.buckets.status import BucketStatus
from pipit.connectors.buckets.store import Store, StoreAway, StoreRefuses
from pipit.connectors.source import Broker
from pipit.datafiles.resources import Connection
from pipit.errors import BadRequest, NotFound, Reason
from pipit.jobs.job import SYNC

_SHOWN = {
    "KAFKA_BOOTSTRAP_SERVERS": "kafka_bootstrap_servers",
    "KAFKA_SECURITY_PROTOCOL": "kafka_security_protocol",
    "KAFKA_SASL_MECHANISM": "kafka_sasl_mechanism",
    "S3_REGION": "s3_region",
    "S3_ENDPOINT": "s3_endpoint",
}
_RECORDS = 12
_NOT_LOADED = 100  # objects that are listed


async def connectors(request: Request) -> Response:
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    listed = [await _connector(request, snapshot, one) for one in snapshot.project.connections.values()]
    return JSONResponse({"connectors": listed})


async def connector(request: Request) -> Response:
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    return JSONResponse(await _connector(request, snapshot, _named(snapshot, request.path_params["name"])))


async def datafile(request: Request) -> Response:
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    return PlainTextResponse(_named(snapshot, request.path_params["name"]).text)


async def preview(request: Request) -> Response:
    """GET /v0/connectors/<c>/preview[?kafka_topic=T&max_records=12]: topics, or records of one. No offset moves."""
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    connection = _named(snapshot, request.path_params["name"])
    if connection.type in TYPES:
        return JSONResponse({"preview": [{"bucket": name} for name in await _buckets(request, connection)]})
    broker = _broker(connection)
    asked = request.query_params
    topic = asked.get("kafka_topic", "")
    if not topic:
        return JSONResponse({"preview": [{"topic": name} for name in await sample.topics(broker)]})
    if asked.get("preview_group") == "true":  # a group that reads nothing yet is all that is asked for
        return JSONResponse({"preview": [{"topic": topic, "group": asked.get("kafka_group_id", "")}]})
    most = whole_number(asked.get("max_records", str(_RECORDS)), sample.MAX_RECORDS)
    if most is None or not most:
        raise BadRequest("max_records must be a number from 1 to 100", reason=Reason.PARAMETER_INVALID)
    found = await sample.records(broker, topic, most)
    rows = [
        {
            "partition": one.partition,
            "offset": one.offset,
            "timestamp": one.timestamp,
            "key": one.key,
            "value": one.value,
            "headers": dict(one.headers),
        }
        for one in found
    ]
    return JSONResponse({"preview": [{"topic": topic, "records": rows}]})


async def test(request: Request) -> Response:
    """POST /v0/connectors/<c>/test: 200 when it connects, 400 with what is wrong when it does not."""
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    connection = _named(snapshot, request.path_params["name"])
    if connection.type in TYPES:
        buckets = await _buckets(request, connection)
        return JSONResponse({"result": "ok", "name": connection.name, "buckets": len(buckets)})
    found = await sample.topics(_broker(connection))
    return JSONResponse({"result": "ok", "name": connection.name, "topics": len(found)})


async def stop(request: Request) -> Response:
    return await _set_stopped(request, stopped=True)


async def start(request: Request) -> Response:
    return await _set_stopped(request, stopped=False)


async def _set_stopped(request: Request, *, stopped: bool) -> Response:
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    name = datasource_of(snapshot, request.path_params["name"])
    await server_of(request).connectors.set_stopped(snapshot, name, stopped=stopped)
    return JSONResponse(await _read(request, snapshot, name))


async def sync(request: Request) -> Response:
    """POST /v0/datasources/<d>/scheduling/runs: looks at its bucket now; the job."""
    security, snapshot = authenticate(request)
    grants.require_admin(security)
    server = server_of(request)
    name = datasource_of(snapshot, request.path_params["name"])
    job = await server.jobs.work_on(snapshot, SYNC, name, asked_by=security.name)
    shown = job.shown(str(request.base_url), waiting_for=server.jobs.waiting_for(job))
    return JSONResponse({"job": shown, "id": job.id, "job_id": job.id})


def _named(snapshot: Snapshot, name: str) -> Connection:
    for connection in snapshot.project.connections.values():
        if name in (connection.name, _id(snapshot, connection)):
            return connection
    raise NotFound(f"The connection '{name[:80]}' does not exist", reason=Reason.CONNECTION_NOT_FOUND, subject=name)


async def _buckets(request: Request, connection: Connection) -> list[str]:
    """Raises BadRequest, which says what is wrong with the connection."""
    try:
        async with Store.opened(Place.of(connection), server_of(request).config.urls) as store:
            return await store.buckets()
    except (Refused, StoreAway, StoreRefuses) as error:
        raise BadRequest(
            f"Cannot read through the connection '{connection.name}': {error}", reason=Reason.CONNECTION_FAILED
        ) from None


def _broker(connection: Connection) -> Broker:
    if connection.type != "kafka":
        raise BadRequest(
            f"The connection '{connection.name}' is of type {connection.type}: nothing connects through it yet",
            reason=Reason.CONNECTION_FAILED,
        )
    try:
        return Broker.of(connection)
    except Refused as refused:
        raise BadRequest(
            f"The connection '{connection.name}' cannot be used: {refused}", reason=Reason.CONNECTION_FAILED
        ) from None


def _id(snapshot: Snapshot, connection: Connection) -> str:
    return snapshot.workspace.resource_id("connection", connection.name)


async def _connector(request: Request, snapshot: Snapshot, connection: Connection) -> dict[str, Any]:
    given = connection.settings
    read = [
        name
        for name, table in snapshot.tables.items()
        if connection.name
        in (
            table.datasource.kafka.get("KAFKA_CONNECTION_NAME"),
            is_bucket(table.datasource) and table.datasource.imports.get("IMPORT_CONNECTION_NAME"),
        )
    ]
    return {
        "id": _id(snapshot, connection),
        "name": connection.name,
        "service": connection.type,
        "settings": {shown: given[word] for word, shown in _SHOWN.items() if given.get(word)},
        "datasources": [await _read(request, snapshot, name) for name in read],
    }


async def _read(request: Request, snapshot: Snapshot, name: str) -> dict[str, Any]:
    if is_bucket(snapshot.tables[name].datasource):
        return await _loading(request, snapshot, name)
    return _reading(request, snapshot, name)


async def _loading(request: Request, snapshot: Snapshot, name: str) -> dict[str, Any]:
    """A data source's bucket, and how its loading goes. Counts of objects are from the state: since ever."""
    server = server_of(request)
    given = snapshot.tables[name].datasource.imports
    status = server.connectors.bucket_status(snapshot, name) or BucketStatus()
    source = bucket_sources(snapshot)[name]
    counts: dict[str, tuple[int, int]] = {}
    not_loaded: list[dict[str, Any]] = []
    if not isinstance(source, Refused):
        state, place = server.catalog.state, source.database_id
        counts = await state.imported_counts(place, name, source.bucket_id)
        not_loaded = [
            {
                "object": source.name_of(row.object),
                "state": row.status,
                "attempts": row.attempts,
                "error": row.error,
                "at": row.at[:19],
            }
            for row in await state.not_imported(place, name, source.bucket_id, _NOT_LOADED)
        ]
    return {
        "id": snapshot.workspace.resource_id("datasource", name),
        "name": name,
        "bucket_uri": given.get("IMPORT_BUCKET_URI", ""),
        "schedule": given.get("IMPORT_SCHEDULE", ""),
        "state": status.state,
        "message": status.note,
        "since": _moment(status.since),
        "objects": counts.get(LOADED, (0, 0))[0],
        "waiting": status.found if status.state == "loading" else 0,
        "failed": counts.get(FAILED, (0, 0))[0],
        "parked": counts.get(PARKED, (0, 0))[0],
        "rows": status.rows,
        "bytes": status.bytes,
        "quarantined": status.quarantined,
        "last_look_at": _moment(status.looked_at) if status.looked_at else None,
        "not_loaded": not_loaded,
    }


def _reading(request: Request, snapshot: Snapshot, name: str) -> dict[str, Any]:
    """A data source's topic, and how its reading goes."""
    given = snapshot.tables[name].datasource.kafka
    status = server_of(request).connectors.status(snapshot, name) or Status()
    return {
        "id": snapshot.workspace.resource_id("datasource", name),
        "name": name,
        "topic": given.get("KAFKA_TOPIC", ""),
        "group_id": given.get("KAFKA_GROUP_ID", ""),
        "state": status.state,
        "message": status.note,
        "since": _moment(status.since),
        "lag": status.lag,
        "rows": status.rows,
        "bytes": status.bytes,
        "quarantined": status.quarantined,
        "last_record_at": _moment(status.last_record_at) if status.last_record_at else None,
        "partitions": [
            {"partition": number, "position": one.position, "end": one.end, "lag": one.lag}
            for number, one in sorted(status.partitions.items())
        ],
    }


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


routes = [
    Route("/v0/connectors", connectors, methods=["GET"]),
    Route("/v0/connectors/{name}.connection", datafile, methods=["GET"]),
    Route("/v0/connectors/{name}/preview", preview, methods=["GET"]),
    Route("/v0/connectors/{name}/test", test, methods=["POST"]),
    Route("/v0/connectors/{name}", connector, methods=["GET"]),
    Route("/v0/datasources/{name}/scheduling/runs", sync, methods=["POST"]),
    Route("/v0/datasources/{name}/stop", stop, methods=["POST"]),
    Route("/v0/datasources/{name}/start", start, methods=["POST"]),
]

"""Files and tenants: whose rows a file writes, who sees a load, and bodies that are meant to hurt (G01 to G17)."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest

from pipit.api import loads, uploads
from pipit.errors import BadRequest, Reason
from pipit.ingest.files import arrive, cut
from serving import Reply, Workspace
from waiting import until

pytestmark = pytest.mark.anyio

EVENTS = (
    "SCHEMA >\n    `customer` String `json:$.customer`,\n    `n` UInt8 `json:$.n`\n\n"
    "ENGINE MergeTree\nENGINE_SORTING_KEY n\nROW_POLICY customer = {{String(context.customer)}}\n"
)
PLAIN = "SCHEMA >\n    `customer` String `json:$.customer`,\n    `n` UInt8 `json:$.n`\n\nENGINE MergeTree\nENGINE_SORTING_KEY n\n"
VIEW = "NODE v\nSQL >\n    SELECT customer, n FROM landing\nTYPE materialized\nDATASOURCE events\n"
FILES = {"datasources/events.datasource": EVENTS, "datasources/other.datasource": PLAIN, "datasources/landing.datasource": PLAIN, "pipes/v.pipe": VIEW}


@pytest.fixture
async def project(workspace: Workspace) -> Workspace:
    await workspace.deploy(FILES)
    return workspace


def tenant(workspace: Workspace, customer: str, resource: str = "events", **more: Any) -> str:
    scope = {"type": "DATASOURCES:APPEND", "resource": resource, "fixed_values": {"customer": customer}, **more}
    return workspace.jwt(scope, context={"customer": customer}, name="tenant")


async def rows(workspace: Workspace, query: str) -> list[dict[str, Any]]:
    return await workspace.rows(f"/v0/sql?q={quote(query + ' FORMAT JSON')}")


async def send(workspace: Workspace, token: str, body: bytes, name: str = "events", format: str = "csv", path: str = "") -> Reply:
    return await workspace.post(path or f"/v0/datasources?mode=append&name={name}&format={format}", data=body, token=token)


@pytest.mark.parametrize(
    ("format", "body"),
    [
        ("csv", b"customer,n\nb,1\nb,2\n"),
        ("csv", b"n,customer,customer\n1,b,b\n2,b,b\n"),
        ("csv", b"b,1\nb,2\n"),
        ("csv", b"1\n2\n"),
        ("ndjson", b'{"customer":"b","n":1}\n{"n":2,"customer":"b","customer":"b"}\n'),
    ],
)
async def test_what_the_token_fixes_stands_whatever_the_file_says(project: Workspace, format: str, body: bytes) -> None:
    """G03, G04."""
    reply = await send(project, tenant(project, "a"), body, format=format)
    assert reply.status == 200, reply.text
    found = await rows(project, "SELECT customer, count() AS n FROM events GROUP BY customer")
    assert {row["customer"] for row in found} <= {"a"}
    kept = await rows(project, "SELECT DISTINCT customer FROM events_quarantine")
    assert {row["customer"] for row in kept} <= {"a", None}


async def test_parquet_under_a_token(project: Workspace, tmp_path: Any) -> None:
    path = tmp_path / "x.parquet"
    await project.server.engine.command(f"INSERT INTO FUNCTION file('{path}', 'Parquet') SELECT 'b' AS customer, toUInt8(7) AS n")
    reply = await send(project, tenant(project, "a"), path.read_bytes(), format="parquet")
    assert reply.json["successful_rows"] == 1, reply.text
    assert await rows(project, "SELECT customer, n FROM events") == [{"customer": "a", "n": 7}]


async def test_a_token_appends_where_its_scopes_say_and_lineage_allows(project: Workspace) -> None:
    """G01, G02; and writing as another tenant through a view."""
    reading = project.jwt({"type": "DATASOURCES:READ", "resource": "other"}, context={"customer": "a"})
    unfixed = project.jwt({"type": "DATASOURCES:APPEND", "resource": "landing"}, context={"customer": "a"})
    for token, name in ((tenant(project, "a"), "other"), (reading, "other"), (unfixed, "landing"), (tenant(project, "a"), "nope")):
        for path in (f"/v0/datasources?mode=append&name={name}", f"/v1/datasources/{name}/append"):
            reply = await send(project, token, b"b,1\n", path=path)
            assert reply.status == 403, (name, reply.text)
    for name in ("events", "other", "landing"):
        assert await rows(project, f"SELECT count() AS n FROM {name}") == [{"n": 0}]
    assert list((project.server.config.data_dir / "files").iterdir()) == []


async def test_a_load_is_seen_by_its_sender_and_by_admins(project: Workspace) -> None:
    """G17: neither its counts nor its errors are another tenant's; and a key of another's finds nothing (G07)."""
    mine, theirs = tenant(project, "a"), tenant(project, "b")
    reply = await send(project, mine, b"a,1\na,x\n", path="/v1/datasources/events/append?format=csv")
    id = reply.json["id"]
    await project.server.jobs.ended(id)
    assert (await project.get(f"/v0/jobs/{id}", token=mine)).json["quarantine_rows"] == 1
    again = tenant(project, "a")
    assert (await project.get(f"/v0/jobs/{id}", token=again)).status == 200
    assert (await project.get(f"/v0/jobs/{id}", token=theirs)).status == 403
    assert (await project.get("/v0/jobs/nope", token=theirs)).status == 403
    keyed = {"Idempotency-Key": "one"}
    for token in (mine, theirs):
        sent = await project.post("/v0/datasources?mode=append&name=events", data=b"x,5\n", token=token, headers=keyed)
        assert sent.json["successful_rows"] == 1
    found = await rows(project, "SELECT customer FROM events WHERE n = 5 ORDER BY customer")
    assert [row["customer"] for row in found] == ["a", "b"]


async def test_a_load_is_not_that_of_a_token_that_fixes_something_else(project: Workspace) -> None:
    """G17: two tenants whose JWTs have one name, and no context; and an id that cannot be worked out (G07)."""

    def bare(customer: str) -> str:
        fixed = {"customer": customer}
        return project.jwt({"type": "DATASOURCES:APPEND", "resource": "events", "fixed_values": fixed}, name="app")

    keyed = {"Idempotency-Key": "one"}
    path = "/v1/datasources/events/append?format=csv"
    jobs = [(await project.post(path, data=b"x,1\n", token=bare(c), headers=keyed)).json["id"] for c in ("a", "b", "a")]
    assert jobs[0] == jobs[2] != jobs[1]
    for id in jobs:
        await project.server.jobs.ended(id)
    assert (await project.get(f"/v0/jobs/{jobs[0]}", token=bare("a"))).status == 200
    assert (await project.get(f"/v0/jobs/{jobs[0]}", token=bare("b"))).status == 403
    one = loads._id_under_key("x" * 40, ["sender", "key"])
    assert one == loads._id_under_key("x" * 40, ["sender", "key"]) != loads._id_under_key("y" * 40, ["sender", "key"])
    assert loads._id_under_key("x" * 40, ["a", "b\x1fc"]) != loads._id_under_key("x" * 40, ["a\x1fb", "c"])


async def test_slow_files_do_not_take_all_places(project: Workspace) -> None:
    """G16: one sender has a share of them, and a file that hardly comes is given up."""
    release = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"a,1\n"
        await release.wait()
        yield b"a,2\n"

    path, token = "/v0/datasources?mode=append&name=events&format=csv", tenant(project, "a")
    files = project.server.files
    sending = [asyncio.create_task(project.post(path, data=slow(), token=token)) for _ in range(4)]
    try:
        await until(lambda: files._arriving.total() == 4)
        refused = await project.post(path, data=b"a,3\n", token=token)
        assert (refused.status, refused.json["reason"]) == (503, "server_busy"), refused.text
        assert refused.headers["Retry-After"]
        other = await project.post(path, data=b"b,3\n", token=tenant(project, "b"))
        assert other.status == 200, other.text
    finally:
        release.set()
        assert [reply.status for reply in await asyncio.gather(*sending)] == [200] * 4
    assert files._arriving.total() == 0


async def test_a_file_that_hardly_comes_is_given_up() -> None:
    """G16: by the time that is spent waiting for the client, and not by what the server needs itself."""
    now = [0.0]

    async def coming(seconds: float, size: int) -> AsyncIterator[bytes]:
        for _ in range(100):
            now[0] += seconds
            yield b"x" * size

    async def taken(seconds: float, size: int, own: float = 0.0) -> int:
        number = 0
        async for chunk in uploads.paced(coming(seconds, size), clock=lambda: now[0]):
            number += len(chunk)
            now[0] += own
        return number

    assert await taken(1.0, 2000) == 200_000
    assert await taken(0.01, 1, own=60.0) == 100
    for seconds, size in ((29.0, 1), (10.0, 10_000), (0.5, 500)):
        with pytest.raises(BadRequest) as refused:
            await taken(seconds, size)
        assert refused.value.reason is Reason.BODY_TOO_SLOW


async def test_an_error_of_the_engine_is_not_told_to_a_tenant(project: Workspace) -> None:
    """G17: a view that reads another tenant's rows may quote them."""
    view = "NODE w\nSQL >\n    SELECT customer, toUInt8(n + (SELECT max(toUInt8(customer)) FROM other)) AS n FROM events\nTYPE materialized\nDATASOURCE made\n"
    made = "SCHEMA >\n    `customer` String,\n    `n` UInt8\n\nENGINE MergeTree\nENGINE_SORTING_KEY n\n"
    await project.deploy({**FILES, "datasources/made.datasource": made, "pipes/bad.pipe": view})
    await project.send("other", [{"customer": "canary-of-b", "n": 1}])
    token = tenant(project, "a")
    reply = await send(project, token, b"a,1\n")
    assert b"canary" not in reply.body
    job = await send(project, token, b"a,2\n", path="/v1/datasources/events/append?format=csv")
    await project.server.jobs.ended(job.json["id"])
    assert b"canary" not in (await project.get(f"/v0/jobs/{job.json['id']}", token=token)).body
    keyed = {"Idempotency-Key": "k"}  # whoever asks again is told of the job that there is
    for path in ("/v1/datasources/events/append?format=csv", "/v0/datasources?mode=append&name=events&format=csv"):
        for _ in range(2):
            again = await project.post(path, data=b"a,3\n", token=token, headers=keyed)
            assert b"canary" not in again.body
            if "id" in again.json:
                await project.server.jobs.ended(again.json["id"])


async def test_bombs_and_long_lines_are_bounded(project: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """G08, G09, G10."""
    object.__setattr__(project.server.config, "max_file_bytes", 1 << 20)
    monkeypatch.setattr(cut, "MAX_ROW_BYTES", 100_000)
    try:
        bomb = gzip.compress(b"0" * (50 << 20))
        for body, headers in ((bomb, {}), (bomb, {"Content-Encoding": "gzip"}), (b"a,1\n" * 300_000, {})):
            reply = await project.post("/v0/datasources?mode=append&name=other", data=body, headers=headers)
            assert reply.status == 413, reply.text
        twice = await project.post("/v0/datasources?mode=append&name=other", data=bomb, headers={"Content-Encoding": "gzip, gzip"})
        assert twice.status == 400, twice.text
        object.__setattr__(project.server.config, "max_file_bytes", 1 << 30)
        one = await project.post("/v0/datasources?mode=append&name=other", data=b"a,1\n" + b"b" * (5 << 20) + b",1\nc,2\n")
        assert (one.json["successful_rows"], one.json["invalid_lines"]) == (2, 1), one.text
        deep = b'{"customer":' + b"[" * 90_000 + b"]" * 90_000 + b',"n":1}\n{"customer":"x","n":1}\n'
        reply = await send(project, "admin", deep, "other", "ndjson")
        assert reply.json["successful_rows"] + reply.json["quarantine_rows"] == 2, reply.text
    finally:
        object.__setattr__(project.server.config, "max_file_bytes", arrive.MAX_FILE_BYTES)
    assert list((project.server.config.data_dir / "files").iterdir()) == []


async def test_a_file_leaves_room_on_the_disk(project: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """G16: it is refused before the disk is full, and leaves nothing."""
    monkeypatch.setattr(arrive, "ROOM_BYTES", 1 << 60)
    reply = await project.post("/v0/datasources?mode=append&name=other", data=b"a,1\n")
    assert (reply.status, reply.json["reason"]) == (503, "disk_full"), reply.text
    assert list((project.server.config.data_dir / "files").iterdir()) == []


async def test_odd_bytes_and_numbers_are_rows_or_refused(project: Workspace) -> None:
    """G11, G12, G14: nothing that a file holds is SQL, and nothing wraps."""
    odd = [
        b"\xff\xfe,1",
        b"a\x00b,2",
        '\u2028"x,3'.encode(),
        b"x,1e400",
        b"x,-0",
        b"x,18446744073709551616",
        b"x,NaN",
        b"x,256",
        b"'); DROP TABLE other; --,4",
        b"{source},5",
        b"x) FORMAT CSV,6",
    ]
    reply = await send(project, "admin", b"\n".join(odd) + b"\n", "other")
    assert reply.status == 200, reply.text
    assert reply.json["successful_rows"] + reply.json["quarantine_rows"] == len(odd)
    assert [row["n"] for row in await rows(project, "SELECT n FROM other WHERE n > 0 ORDER BY n")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("name", ["../other", "other;", "`other`", "x" * 2000, "system.parts", "tinybird.pipe_stats_rt", "s1_pipe_stats_rt", "other_quarantine", "d1_other", ""])
async def test_names_that_are_no_data_source(project: Workspace, name: str) -> None:
    """G15."""
    encoded = quote(name, safe="")
    for path in (f"/v0/datasources?mode=append&name={encoded}", f"/v1/datasources/{encoded}/append", f"/v0/datasources?mode=replace&name={encoded}"):
        reply = await project.post(path, data=b"a,1\n")
        assert reply.status in (403, 404, 405), (path, reply.status, reply.text)
    for path in (f"/v0/datasources/{encoded}/delete", f"/v0/datasources/{encoded}/truncate"):
        if name != "other_quarantine":
            reply = await project.post(path, data=b"delete_condition=1")
            assert reply.status in (400, 404, 405), (path, reply.status, reply.text)


@pytest.mark.parametrize("part", [b"", b'Content-Disposition: form-data; name="a%d"\r\n'], ids=["nameless", "named"])
async def test_the_parts_of_a_form_are_bounded(project: Workspace, part: bytes) -> None:
    """G09: parts without a byte of data, before the file or behind it."""
    parts = b"".join(b"--b\r\n" + (part % number if part else b"") + b"\r\n\r\n" for number in range(5_000))
    file = b'--b\r\nContent-Disposition: form-data; name="csv"; filename="x.csv"\r\n\r\na,1\n\r\n'
    for body in (parts + file, file + parts):
        reply = await project.post(
            "/v0/datasources?mode=append&name=other",
            data=body + b"--b--\r\n",
            headers={"Content-Type": "multipart/form-data; boundary=b"},
        )
        assert reply.status == 400, reply.text
    long = b"--b\r\nX-" + b"y" * 200_000 + b": 1\r\n\r\n\r\n--b--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert (await project.post("/v0/datasources?mode=append&name=other", data=long, headers=headers)).status == 400


async def test_a_forms_file_name_is_only_a_name(project: Workspace) -> None:
    """A path in it leads nowhere."""
    boundary = "b"
    body = io.BytesIO()
    body.write(b'--b\r\nContent-Disposition: form-data; name="mode"\r\n\r\nreplace\r\n')
    body.write(b'--b\r\nContent-Disposition: form-data; name="csv"; filename="../../etc/pass\\"wd\x01.csv"\r\n\r\na,x\n\r\n--b--\r\n')
    reply = await project.post(
        "/v0/datasources?mode=append&name=other",
        data=body.getvalue(),
        headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    assert reply.json["quarantine_rows"] == 1, reply.text
    (found,) = await rows(project, "SELECT c__file AS file FROM other_quarantine")
    assert "/" not in found["file"] and json.dumps(found["file"]).isprintable()

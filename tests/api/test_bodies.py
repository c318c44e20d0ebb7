"""Bodies are bounded in whatever form they come, and their contents cannot make a 500."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import quote, urlsplit

import pytest
from starlette.types import Message

from pipit.api.app import app_for
from projects import ROWS, TENANTS
from serving import Reply, Workspace
from waiting import until

pytestmark = pytest.mark.anyio

CHUNK = 64 * 1024
LIMIT = 4 * CHUNK


@pytest.fixture
async def deployed(workspace: Workspace) -> Workspace:
    await workspace.deploy(TENANTS)
    await workspace.send("events", ROWS)
    return workspace


@dataclass
class Sender:
    """An ASGI client without a Content-Length; counts what the application takes of an upload that never ends."""

    chunks: Iterator[bytes]
    taken: int = 0
    status: int = 0
    body: bytes = b""

    async def receive(self) -> Message:
        chunk = next(self.chunks)
        self.taken += len(chunk)
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.body += message.get("body", b"")


def parts(filename: str) -> Iterator[bytes]:
    """Multipart without end; each part is small enough by itself."""
    for number in range(1000):
        disposition = f'form-data; name="data_project://{number}"{filename}'
        yield f"--x\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + b"y" * CHUNK + b"\r\n"
    raise AssertionError("the whole body was taken")


@pytest.mark.parametrize("filename", ["", '; filename="a.pipe"'])
@pytest.mark.parametrize("path", ["/v0/pipes/latest.json", "/v0/sql", "/v1/deploy", "/v0/variables"])
async def test_a_multipart_body_is_bounded_as_a_whole(deployed: Workspace, path: str, filename: str) -> None:
    server = deployed.server
    config = replace(server.config, max_body_bytes=LIMIT, max_project_bytes=LIMIT)
    sender = Sender(parts(filename))
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [
            (b"authorization", f"Bearer {deployed.admin_token}".encode()),
            (b"content-type", b"multipart/form-data; boundary=x"),
        ],
    }
    await app_for(replace(server, config=config))(scope, sender.receive, sender.send)
    assert (sender.status, json.loads(sender.body)["code"]) in [(413, "too_large"), (400, "bad_request")]
    assert sender.taken <= LIMIT + 2 * CHUNK
    if not filename:
        assert sender.status == 413


async def test_forms_work(deployed: Workspace) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="limit"\r\n\r\n2\r\n--x--\r\n'
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    reply = await deployed.post("/v0/pipes/latest.json", data=body, headers=form)
    assert reply.status == 200 and reply.json["rows"] == 2


async def sent_json(workspace: Workspace, body: bytes) -> Reply:
    return await workspace.post("/v0/pipes/latest.json", data=body, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize("depth", [40, 500, 800, 100_000])
@pytest.mark.parametrize("brackets", ["[]", "{}"])
async def test_json_nested_deeply_is_a_400(deployed: Workspace, depth: int, brackets: str) -> None:
    opening = '{"a":' if brackets == "{}" else "["
    body = '{"limit":' + opening * depth + "1" + brackets[1] * depth + "}"
    reply = await sent_json(deployed, body.encode())
    assert reply.status == 400 and reply.json["code"] == "bad_request", reply.text


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "[NaN]", "1e999", '{"a": -1e999}'])
async def test_json_numbers_that_are_none(deployed: Workspace, value: str) -> None:
    reply = await sent_json(deployed, f'{{"limit": {value}}}'.encode())
    assert reply.status == 400 and reply.json["code"] == "bad_request", reply.text


@pytest.mark.parametrize("time", ["²", "١٧٦٧", "-1", "1.5", "", "9" * 5000, "1767225600"])
async def test_expiration_times_that_are_none(deployed: Workspace, time: str) -> None:
    reply = await deployed.post(f"/v0/tokens/?name=x&expiration_time={quote(time)}", json={"scopes": []})
    assert reply.status == 400 and reply.json["code"] == "bad_request", reply.text


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain"}, {"Content-Type": "application/json"}])
@pytest.mark.parametrize("body", [b"", b" \n"])
async def test_no_sql_at_all_is_a_400(workspace: Workspace, headers: dict[str, str], body: bytes) -> None:
    reply = await workspace.post("/v0/sql", data=body, headers=headers)
    assert reply.status == 400 and reply.json["code"] == "bad_request", reply.text
    assert "'q' is missing" in reply.json["error"]
    reply = await workspace.post("/v0/sql?q=SELECT%201", data=body, headers=headers)
    assert (reply.status, reply.text) == (200, "1\n")


async def test_a_refused_body_is_taken_so_that_the_refusal_can_be_read(workspace: Workspace) -> None:
    """A client that sends all before it reads: it would be reset otherwise."""
    size = 20 * 1024 * 1024
    url = urlsplit(workspace.base_url)
    head = (
        f"POST /v0/sql HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {workspace.admin_token}\r\nConnection: close\r\n"
        f"Content-Type: text/plain\r\nContent-Length: {size}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        async with asyncio.timeout(10):
            writer.write(head.encode())
            for _ in range(size // CHUNK):
                writer.write(b"x" * CHUNK)
                await writer.drain()
            answer = await reader.read()
    finally:
        writer.close()
    assert answer.startswith(b"HTTP/1.1 413 ") and b"too_large" in answer


async def test_a_client_that_leaves_during_its_upload_is_no_error(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pipit")
    url = urlsplit(workspace.base_url)
    head = (
        f"POST /v0/sql HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {workspace.admin_token}\r\n"
        "Content-Type: text/plain\r\nContent-Length: 1000\r\n\r\nSELECT"
    )
    _, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(head.encode())
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.close()
    await until(lambda: any("left before its body" in one.getMessage() for one in caplog.records))
    answering = [one for one in caplog.records if one.name.startswith(("pipit.api", "pipit.http", "uvicorn"))]
    assert [one for one in answering if one.levelno > logging.INFO] == []

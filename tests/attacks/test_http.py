"""Attacks I: what an HTTP request may look like. Raw bytes, against the listener that `pipit serve` runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from starlette.routing import Route

from pipit.api import listen
from pipit.api.app import app_for
from pipit.server import Server
from projects import CANARY, ROWS, TENANTS, column
from serving import Workspace
from waiting import until

pytestmark = pytest.mark.anyio

HEAD = b"Host: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n"
# Whoever can make the server answer this has cut a request where its sender did not.
SMUGGLED = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    status: int
    head: bytes
    body: bytes


@dataclass(frozen=True)
class Answers:
    all: tuple[Answer, ...]
    closed: bool
    raw: bytes

    @property
    def one(self) -> Answer:
        assert len(self.all) == 1, self.raw
        return self.all[0]


class Raw:
    """A port of the listener, and bytes to it."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def send(self, *pieces: bytes, answers: int = 1, head: bool = False) -> Answers:
        """Sends the pieces, each when the one before it was read; waits for `answers` and a moment for more."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        found: list[Answer] = []
        raw = b""
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.02 if len(pieces) > 1 else 0)
            async with asyncio.timeout(10) as waiting:
                while True:
                    if len(found) >= answers:
                        waiting.reschedule(asyncio.get_running_loop().time() + 0.15)
                    part = await reader.readuntil(b"\r\n\r\n")
                    lengths = [line for line in part.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                    size = 0 if head or not lengths else int(lengths[0].partition(b":")[2])
                    body = await reader.readexactly(size)
                    raw += part + body
                    found.append(Answer(int(part.split(b" ")[1]), part, body))
        except TimeoutError:
            return Answers(tuple(found), False, raw)
        except (asyncio.IncompleteReadError, ConnectionError) as end:
            return Answers(tuple(found), True, raw + getattr(end, "partial", b""))
        finally:
            writer.close()


@asynccontextmanager
async def listening(server: Server) -> AsyncIterator[Raw]:
    socket = listen.bind("127.0.0.1", 0)
    listener = listen.Listener(app_for(server))
    serving = asyncio.create_task(listener.serve(sockets=[socket]))
    try:
        await until(lambda: listener.started)
        yield Raw(listen.port_of(socket))
    finally:
        listener.should_exit = True
        await serving


@pytest.fixture(scope="module")
async def raw(server: Server) -> AsyncIterator[Raw]:
    async with listening(server) as found:
        yield found


def bearer(token: str) -> bytes:
    return b"Authorization: Bearer %b\r\n" % token.encode()


REFUSED = {
    # I01: where does the body end?
    "CL.TE": b"POST / HTTP/1.1\r\n" + CHUNKED + b"Content-Length: 6\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "TE.CL": b"POST / HTTP/1.1\r\nContent-Length: 4\r\n" + CHUNKED + b"\r\n2a\r\n" + SMUGGLED + b"\r\n0\r\n\r\n",
    "xchunked": b"POST / HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked, identity": b"POST / HTTP/1.1\r\n"
    + HEAD
    + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "TE.TE": b"POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED,
    "TE.TE, turned": b"POST / HTTP/1.1\r\n" + CHUNKED + b"Transfer-Encoding: x\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "TE with a tab": b"POST / HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a chunk that ends otherwise": b"POST / HTTP/1.1\r\n" + CHUNKED + b"\r\n2\r\nabXX0\r\n\r\n" + SMUGGLED,
    "a chunk with bare LF": b"POST / HTTP/1.1\r\n" + CHUNKED + b"\r\n2\nab\n0\n\n" + SMUGGLED,
    "a negative chunk": b"POST / HTTP/1.1\r\n" + CHUNKED + b"\r\n-1\r\nab\r\n0\r\n\r\n" + SMUGGLED,
    "a chunk in 0x": b"POST / HTTP/1.1\r\n" + CHUNKED + b"\r\n0x2\r\nab\r\n0\r\n\r\n" + SMUGGLED,
    "a chunk of 2^68": b"POST / HTTP/1.1\r\n" + CHUNKED + b"\r\nfffffffffffffffff\r\nab\r\n0\r\n\r\n" + SMUGGLED,
    "an extension with LF": b"POST / HTTP/1.1\r\n" + CHUNKED + b"\r\n2;\nxx\r\nab\r\n0\r\n\r\n" + SMUGGLED,
    # I02: where does a header end?
    "obs-fold": b"GET / HTTP/1.1\r\n" + HEAD + b"X-A: a\r\n b\r\n\r\n",
    "a folded length": b"POST / HTTP/1.1\r\n" + HEAD + b"Content-Length:\r\n 5\r\n\r\nabcde" + SMUGGLED,
    "bare LF": b"GET / HTTP/1.1\nHost: x\n\n",
    "bare LF in a header": b"GET / HTTP/1.1\r\n" + HEAD + b"X-A: a\nX-B: b\r\n\r\n",
    "bare CR in a header": b"GET / HTTP/1.1\r\n" + HEAD + b"X-A: a\rX-B: b\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\n" + HEAD + b"X-A: a\0b\r\n\r\n",
    "NUL in a name": b"GET / HTTP/1.1\r\n" + HEAD + b"X\0A: a\r\n\r\n",
    "NUL in the URL": b"GET /\0 HTTP/1.1\r\n" + HEAD + b"\r\n",
    "space before the colon": b"POST / HTTP/1.1\r\n" + HEAD + b"Content-Length : 5\r\n\r\nabcde" + SMUGGLED,
    "space before the name": b"GET / HTTP/1.1\r\n" + HEAD + b" X-A: 5\r\n\r\n",
    "a space in the URL": b"GET /a b HTTP/1.1\r\n" + HEAD + b"\r\n",
    # I03: how long is it?
    "two lengths": b"POST / HTTP/1.1\r\n" + HEAD + b"Content-Length: 5\r\nContent-Length: 0\r\n\r\nabcde" + SMUGGLED,
    "the same length twice": b"POST / HTTP/1.1\r\n"
    + HEAD
    + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde"
    + SMUGGLED,
    "a list of lengths": b"POST / HTTP/1.1\r\n" + HEAD + b"Content-Length: 5, 5\r\n\r\nabcde" + SMUGGLED,
    "+5": b"POST / HTTP/1.1\r\n" + HEAD + b"Content-Length: +5\r\n\r\nabcde" + SMUGGLED,
    "-5": b"POST / HTTP/1.1\r\n" + HEAD + b"Content-Length: -5\r\n\r\nabcde" + SMUGGLED,
    "1_0": b"POST / HTTP/1.1\r\n" + HEAD + b"Content-Length: 1_0\r\n\r\nabcde" + SMUGGLED,
    "2^70": b"POST / HTTP/1.1\r\n" + HEAD + b"Content-Length: 1180591620717411303424\r\n\r\nabcde" + SMUGGLED,
    # I05: how much of it?
    "10,000 headers": b"GET / HTTP/1.1\r\n" + HEAD + b"".join(b"X-%d: a\r\n" % n for n in range(10_000)) + b"\r\n",
    "a header of 1 MB": b"GET / HTTP/1.1\r\n" + HEAD + b"X-A: " + b"a" * 1_000_000 + b"\r\n\r\n",
    # I06, I07: which protocol, which server?
    "HTTP/2 at once": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /version\r\n\r\n",
    "HTTP/9.9": b"GET / HTTP/9.9\r\n" + HEAD + b"\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\n" + HEAD + b"Host: y\r\n\r\n",
    "a proxy's CONNECT": b"CONNECT evil.example:80 HTTP/1.1\r\n" + HEAD + b"\r\n" + SMUGGLED,
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_request_that_two_programs_could_read_differently_is_refused(raw: Raw, name: str) -> None:
    """I01, I02, I03, I05, I06, I07: one 4xx, the connection closed, nothing after it answered."""
    answers = await raw.send(REFUSED[name])
    assert answers.one.status in (400, 431), answers.raw
    assert answers.closed
    assert b'"version"' not in answers.raw


async def test_an_upgrade_does_not_end_the_request_before_its_body(raw: Raw, workspace: Workspace) -> None:
    """I01, I13: the parser would take what follows for another protocol, and so read the body as the next request."""
    hop = HEAD + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    sized = b"POST /v0/sql HTTP/1.1\r\n" + hop + bearer(workspace.admin_token) + b"Content-Length: %d\r\n\r\n"
    for pieces in (
        [sized % len(SMUGGLED) + SMUGGLED],
        [sized % len(SMUGGLED), SMUGGLED],
        [sized % len(SMUGGLED), SMUGGLED[:10], SMUGGLED[10:]],
    ):
        answers = await raw.send(*pieces)
        assert answers.one.status == 400 and b'"version"' not in answers.raw  # it is no SQL
    statement = b"SELECT 41 + 1 AS n"
    assert (await raw.send(sized % len(statement), statement)).one.body == b"42\n"
    chunked = b"POST /v0/sql HTTP/1.1\r\n" + hop + bearer(workspace.admin_token)
    chunked += b"Transfer-Encoding: chunked\r\n\r\n12\r\n" + statement + b"\r\n0\r\n\r\n"
    answers = await raw.send(chunked + SMUGGLED, answers=2)
    assert answers.all[0].body == b"42\n" and b'"version"' in answers.all[1].body  # a request of its own


async def test_an_upgrade_to_another_protocol_needs_a_token_too(raw: Raw, workspace: Workspace) -> None:
    """I13: there is nothing to upgrade to; WebSocket, event stream and h2c requests are requests like any other."""
    await workspace.deploy(TENANTS)
    for extra in (
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAA=\r\n",
        b"Accept: text/event-stream\r\n",
        b"Connection: keep-alive, upgrade\r\nUpgrade: h2c\r\n",
    ):
        answers = await raw.send(b"GET /v0/pipes/latest.json HTTP/1.1\r\n" + HEAD + extra + b"\r\n")
        assert answers.one.status == 403, answers.raw


async def test_a_trailer_is_no_header(raw: Raw, workspace: Workspace) -> None:
    """I01: what follows a chunked body was seen by no proxy that looks at headers."""
    trailer = b"0\r\n" + bearer(workspace.admin_token) + b"\r\n"
    answers = await raw.send(b"POST /v0/sql HTTP/1.1\r\n" + CHUNKED + b"\r\n8\r\nSELECT 1\r\n" + trailer)
    assert answers.one.status == 403, answers.raw


async def test_the_address_of_a_request_changes_nothing(raw: Raw, workspace: Workspace) -> None:
    """I07: an absolute URL, another Host, what a proxy would say: same routes, same token, no trust."""
    await workspace.deploy(TENANTS)
    await workspace.send("events", ROWS)
    token = bearer(workspace.tenant("latest", customer_id="a"))
    line = b"GET http://evil.example/v0/pipes/latest.json HTTP/1.1\r\n"
    assert (await raw.send(line + HEAD + b"\r\n")).one.status == 403
    answer = (await raw.send(line + HEAD + token + b"\r\n")).one
    assert answer.status == 200 and column(json.loads(answer.body)["data"], "customer_id") == ["a"] * 3
    forwarded = b"X-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Prefix: /evil\r\n"
    forwarded += b"Forwarded: host=evil.example\r\nX-Original-URL: /v0/tokens\r\nX-Rewrite-URL: /v0/tokens\r\n"
    listed = (await raw.send(b"GET /v0/pipes HTTP/1.1\r\nHost: own.example\r\n" + token + forwarded + b"\r\n")).one
    assert [p["url"] for p in json.loads(listed.body)["pipes"]] == ["http://own.example/v0/pipes/latest.json"]


PUBLIC = ("/", "/docs", "/cli/advanced-templates.html", "/v0/health", "/v0/ready", "/version")


def public(path: str) -> bool:
    return path in (*PUBLIC, "/docs/errors.html")


async def test_no_method_of_no_route_answers_without_a_token(raw: Raw, server: Server, workspace: Workspace) -> None:
    """I09: every route of the application with every method; HEAD, OPTIONS and TRACE are no way around a token."""
    await workspace.deploy(TENANTS)
    await workspace.send("events", ROWS)
    paths = {route.path for route in app_for(server).routes if isinstance(route, Route)}
    assert {"/v0/pipes/{file}", "/v0/sql", "/v0/events", "/v1/deploy"} <= paths
    for path in sorted(path for path in paths if not public(path)):
        url = path.replace("{file}", "latest.json").replace("{name}", "events").replace("{id}", "1").replace("{node}", "endpoint")
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
            line = f"{method} {url}?name=events&q=SELECT+1 HTTP/1.1\r\n".encode()
            last = HEAD + b"Connection: close\r\nContent-Length: 0\r\n\r\n"
            answer = (await raw.send(line + last, head=method == "HEAD")).one
            assert answer.status in (403, 404, 405), (method, url, answer)
            assert b"canary" not in answer.body and b"SELECT" not in answer.body


async def test_what_is_public_says_nothing_of_anybody(raw: Raw, server: Server, workspace: Workspace) -> None:
    """I09: the routes that need no token, by construction: whatever is public must be listed here."""
    await workspace.deploy(TENANTS)
    await workspace.send("events", ROWS)
    paths = {route.path for route in app_for(server).routes if isinstance(route, Route)}
    assert sorted(filter(public, paths)) == sorted((*PUBLIC, "/docs/errors.html"))
    for path in filter(public, paths):
        answer = (await raw.send(b"GET %b HTTP/1.1\r\n" % path.encode() + HEAD + b"\r\n")).one
        assert answer.status == 200
        for secret in (workspace.name, workspace.id, workspace.admin_token, "latest", str(CANARY)):
            assert secret.encode() not in answer.body


async def test_head_and_trace(raw: Raw, workspace: Workspace) -> None:
    """I09: HEAD has the status of GET and no byte of its body; TRACE sends no header back."""
    await workspace.deploy(TENANTS)
    await workspace.send("events", ROWS)
    token = workspace.tenant("latest", customer_id="a")
    head = await raw.send(b"HEAD /v0/pipes/latest.json HTTP/1.1\r\n" + HEAD + bearer(token) + b"\r\n", head=True)
    assert head.one.status == 200 and head.raw.endswith(b"\r\n\r\n")
    trace = await raw.send(b"TRACE /v0/pipes/latest.json HTTP/1.1\r\n" + HEAD + bearer(token) + b"\r\n")
    assert trace.one.status == 405 and token.encode() not in trace.raw


@pytest.mark.parametrize("origin", ["null", "https://evil-example.com", "https://example.com.evil.net", "file://"])
async def test_no_origin_is_trusted_with_credentials(workspace: Workspace, origin: str) -> None:
    """I10: any page may send a token that it has; no page can use what a browser adds by itself."""
    await workspace.deploy(TENANTS)
    for token in (None, workspace.tenant("latest", customer_id="a")):
        for headers in ({"Origin": origin}, {"Origin": origin, "Cookie": "session=1"}):
            reply = await workspace.get("/v0/pipes/latest.json", token=token, headers=headers)
            assert reply.status == (403 if token is None else 200)
            assert "Access-Control-Allow-Credentials" not in reply.headers
            assert "Set-Cookie" not in reply.headers
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    preflight = await workspace.request("OPTIONS", "/v0/pipes/latest.json", token=None, headers=asked)
    assert "Access-Control-Allow-Credentials" not in preflight.headers


@pytest.mark.parametrize(
    "asked", ["bytes=0-0", "bytes=0-0," * 500 + "1-1", "bytes=-1", "bytes=9-1", "bytes=0-18446744073709551616"]
)
async def test_a_range_is_ignored(workspace: Workspace, asked: str) -> None:
    """I11: results and pages come whole; no range is parsed, so none is slow and none shows another length."""
    await workspace.deploy(TENANTS)
    await workspace.send("events", ROWS)
    token = workspace.tenant("latest", customer_id="a")
    for path in ("/v0/pipes/latest.ndjson", "/docs/errors.html"):
        whole = await workspace.get(path, token=token)
        part = await workspace.get(path, token=token, headers={"Range": asked, "If-Range": '"x"'})
        assert (part.status, part.body) == (200, whole.body)
        assert "Content-Range" not in part.headers


INJECTED = "a%0d%0aX-Injected:%20yes%0d%0a%0d%0a<script>"


@pytest.mark.parametrize(
    "path",
    [
        f"/v0/pipes/latest.json?action={INJECTED}",
        f"/v0/pipes/latest.json?{INJECTED}=1",
        f"/v0/pipes/{INJECTED}.json",
        f"/v0/pipes/latest.{INJECTED}",
        f"/v0/pipes/{INJECTED}",
        f"/{INJECTED}",
        f"/v0/pipes/latest.json?filename={INJECTED}&request_id={INJECTED}&callback={INJECTED}",
    ],
)
async def test_no_parameter_becomes_a_header(raw: Raw, workspace: Workspace, path: str) -> None:
    """I12, H07: nothing that a request says stands in a header of the answer; a `callback` wraps nothing."""
    await workspace.deploy(TENANTS)
    token = bearer(workspace.tenant("latest", customer_id="a"))
    answers = await raw.send(f"GET {path} HTTP/1.1\r\n".encode() + HEAD + token + b"X-Request-Id: mine\r\n\r\n")
    head = answers.one.head.lower()
    assert b"injected" not in head and b"mine" not in head and b"content-disposition" not in head
    assert b"x-content-type-options: nosniff" in head
    if b"application/json" in head:
        json.loads(answers.one.body)


_BODIES = (
    "POST /v0/events?name=landing",
    "POST /v0/pipes/top.json",
    "POST /v0/sql",
    "POST /v0/variables",
    "POST /v1/workspaces",
    "POST /v1/deploy",
    "POST /v0/tokens",
)


@pytest.mark.parametrize("target", _BODIES)
async def test_nobody_is_told_to_send_a_body_that_will_be_refused(raw: Raw, workspace: Workspace, target: str) -> None:
    """K42: with `Expect: 100-continue` a client asks first. A length that no route takes is refused then."""
    await workspace.deploy({"datasources/landing.datasource": "SCHEMA >\n    a UInt8\n"})
    kind = b"multipart/form-data; boundary=x" if target.endswith("deploy") else b"application/json"
    head = target.encode() + b" HTTP/1.1\r\n" + HEAD + b"Expect: 100-continue\r\nContent-Type: " + kind + b"\r\n"
    head += bearer(workspace.admin_token)
    found = await raw.send(head + b"Content-Length: 999999999999\r\n\r\n")
    assert found.raw.startswith(b"HTTP/1.1 4"), found.raw
    assert b"100 Continue" not in found.raw


async def test_a_short_body_is_asked_for(raw: Raw, workspace: Workspace) -> None:
    """K42: the other side of it."""
    await workspace.deploy({"datasources/landing.datasource": "SCHEMA >\n    a UInt8\n"})
    head = b"POST /v0/events?name=landing HTTP/1.1\r\n" + HEAD + b"Expect: 100-continue\r\nContent-Length: 8\r\n"
    found = await raw.send(head + bearer(workspace.admin_token) + b"\r\n", b'{"a":1}\n', answers=2)
    assert [one.status for one in found.all] == [100, 202]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_read_does_not_ask_for_a_body(raw: Raw, workspace: Workspace, method: str) -> None:
    """K42: what waits for a client to leave does not ask it to send."""
    pipes = {"pipes/one.pipe": "NODE n\nSQL >\n    SELECT 1 AS one\nTYPE endpoint\n"}
    await workspace.deploy(pipes)
    head = f"{method} /v0/pipes/one.json HTTP/1.1\r\n".encode() + HEAD + b"Expect: 100-continue\r\n"
    length = b"Content-Length: 999999999999\r\n\r\n"
    found = await raw.send(head + bearer(workspace.admin_token) + length, head=method == "HEAD")
    assert found.raw.startswith(b"HTTP/1.1 200 "), found.raw

"""How much memory a client can make the API process hold: a real `pipit serve`, raw sockets that read nothing.

K40: requests are pipelined and no answer is read. The process grows by little, and it goes on answering others.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import selectors
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

from processes import Served, served

MOST_MB = 150  # some 80 of them are there at the start


def memory_mb(pid: int, what: str = "VmHWM") -> float:
    """`VmHWM`: the most that the process ever held; `VmRSS`: what it holds now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{what}:"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("memory")) as running:
        yield running


def push(port: int, connections: int, text: bytes, seconds: float) -> int:
    """Sends `text` on each connection as long as it is taken, and reads nothing. The bytes that were taken."""
    chooser = selectors.DefaultSelector()
    opened = []
    left = {}
    try:
        for _ in range(connections):
            one = socket.create_connection(("127.0.0.1", port))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.setblocking(False)
            opened.append(one)
            left[one] = memoryview(text)
            chooser.register(one, selectors.EVENT_WRITE)
        until = time.monotonic() + seconds
        quiet = 0
        while left and quiet < 8 and time.monotonic() < until:
            ready = chooser.select(timeout=0.25)
            quiet = 0 if ready else quiet + 1  # nothing more is taken: the server reads these connections no more
            for key, _ in ready:
                one = key.fileobj
                assert isinstance(one, socket.socket)
                with contextlib.suppress(BlockingIOError):
                    try:
                        left[one] = left[one][one.send(left[one][:262_144]) :]
                    except OSError:
                        left[one] = memoryview(b"")
                if not left[one]:
                    chooser.unregister(one)
                    del left[one]
        return connections * len(text) - sum(len(rest) for rest in left.values())
    finally:
        for one in opened:
            one.close()
        chooser.close()


HEAD = b"Host: x\r\n\r\n"
PIPELINED = {
    "health": b"GET /v0/health HTTP/1.1\r\n" + HEAD,
    "line feeds only": b"GET / HTTP/1.1\nHost: x\n\n",
    "not found": b"GET /nowhere HTTP/1.1\r\n" + HEAD,
    "preflight": b"OPTIONS /v0/sql HTTP/1.1\r\n" + HEAD,
    "refused upload": b"POST /v0/events?name=a HTTP/1.1\r\nContent-Length: 200\r\n" + HEAD + b"x" * 200,
    "chunked upload": b"POST /v0/events?name=a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HEAD + b"1\r\nx\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("kind", PIPELINED)
def test_pipelined_requests_whose_answers_are_not_read(server: Served, kind: str) -> None:
    """K40"""
    assert server.process
    taken = push(server.port, 1, PIPELINED[kind] * 200_000, 12)
    taken += push(server.port, 200, PIPELINED[kind] * 1_000, 4)
    found = memory_mb(server.process.pid)
    print(f"{kind}: {taken / 1e6:.0f} MB of requests, {found:.0f} MB at most")
    assert taken > 100_000
    assert found < MOST_MB
    assert server.get("/v0/health")[0] == 200


def test_bodies_that_do_not_end(server: Served) -> None:
    """K40: half a body on many connections, without a token and with one that is worth nothing."""
    assert server.process
    half = b"POST /v0/events?name=events HTTP/1.1\r\nContent-Length: 9000000\r\nAuthorization: Bearer no\r\n" + HEAD
    push(server.port, 100, half + b"x" * 4_000_000, 6)
    assert memory_mb(server.process.pid) < MOST_MB
    assert server.get("/v0/health")[0] == 200


TENANTS_FILES = {
    "datasources/texts.datasource": (
        "SCHEMA >\n    customer_id String `json:$.customer_id`,\n    text String `json:$.text`\n\n"
        "ENGINE MergeTree\nENGINE_SORTING_KEY customer_id\n"
        "ROW_POLICY >\n    customer_id = {{String(context.customer_id)}}\n"
    ),
    "pipes/large.pipe": (
        "NODE n\nSQL >\n    %\n    SELECT repeat(text, 1000) AS text, m.number AS number, {{UInt32(n)}} AS n\n"
        "    FROM texts CROSS JOIN numbers({{UInt64(rows)}}) AS m\nTYPE endpoint\n"
    ),
    "pipes/kept.pipe": (
        "NODE n\nSQL >\n    %\n    {{cache_ttl('1h')}}\n    SELECT repeat(text, 1000) AS text, m.number AS number, {{UInt32(n)}} AS n\n"
        "    FROM texts CROSS JOIN numbers({{UInt64(rows)}}) AS m\nTYPE endpoint\n"
    ),
}


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("unread")
    for name, text in TENANTS_FILES.items():
        path = folder / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with served(folder) as running:
        assert running.request("/v0/events?name=texts&wait=true", b'{"customer_id":"a","text":"x"}\n')[0] == 200
        yield running


def tenant_token(server: Served, name: str) -> str:
    status, _ = server.get("/v0/workspace")
    assert status == 200
    admin = (server.data / "admin_token").read_text().strip()
    claims = {
        "workspace_id": server.get("/v0/workspace")[1]["id"],
        "name": name,
        "exp": int(time.time()) + 600,
        "scopes": [{"type": "PIPES:READ", "resource": pipe} for pipe in ("large", "kept")],
        "context": {"customer_id": "a"},
    }
    return jwt.encode(claims, admin, algorithm="HS256")


def read_little(line: bytes, port: int) -> socket.socket:
    """Asks, and reads no more than fits into the smallest of windows."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.connect(("127.0.0.1", port))
    one.sendall(line)
    return one


@pytest.mark.parametrize(("pipe", "rows", "clients"), [("large", 16_000, 40), ("kept", 900, 120)])
def test_answers_under_a_policy_that_nobody_reads(tenants: Served, pipe: str, rows: int, clients: int) -> None:
    """K41: each is whole before its first byte is sent. They wait in a bounded part of memory, then on the disk; and a
    token whose answers all wait is the only one that has to wait for more."""
    assert tenants.process
    waiting = []
    try:
        for number in range(clients):
            token = tenant_token(tenants, f"reads nothing {number % 4}")
            path = f"/v0/pipes/{pipe}.json?rows={rows}&n={number}&token={token}"
            waiting.append(read_little(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), tenants.port))
        for one in waiting[:: len(waiting) // 8]:
            one.settimeout(120)
            assert one.recv(12) == b"HTTP/1.1 200"
        found = memory_mb(tenants.process.pid)
        print(f"{clients} unread answers of {rows / 1000:.0f} MB: {found:.0f} MB at most")
        assert found < 300
        other = f"http://127.0.0.1:{tenants.port}/v0/pipes/large.json?rows=1&n=0&token={tenant_token(tenants, 'other')}"
        with urllib.request.urlopen(other, timeout=180) as answer:
            assert answer.status == 200
        # The rest of an answer that waited is all there.
        waiting[1].settimeout(120)
        late = http.client.HTTPResponse(waiting[1])
        late.begin()
        assert len(json.loads(late.read())["data"]) == rows
    finally:
        for one in waiting:
            one.close()


@pytest.mark.long
def test_more_large_answers_at_once_than_the_engine_has_time_for(tenants: Served) -> None:
    """K41: 60 answers of 64 MB, none of them read. Some are refused or run out of time; the engine process goes on."""
    assert tenants.process
    (engine,) = tenants.children()
    waiting = []
    try:
        for number in range(60):
            token = tenant_token(tenants, f"reads nothing {number % 4}")
            path = f"/v0/pipes/large.json?rows=64000&n={number}&token={token}"
            waiting.append(read_little(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), tenants.port))
        answers = set()
        for one in waiting:
            one.settimeout(180)
            answers.add(one.recv(12))
        found = memory_mb(tenants.process.pid)
        print(f"60 unread answers of 64 MB: {found:.0f} MB at most, {answers}")
        assert b"HTTP/1.1 200" in answers
        assert answers <= {b"HTTP/1.1 200", b"HTTP/1.1 408", b"HTTP/1.1 429", b"HTTP/1.1 503"}
        assert found < 300
        assert tenants.children() == [engine]
    finally:
        for one in waiting:
            one.close()

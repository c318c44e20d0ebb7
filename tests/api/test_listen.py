"""Attack I04: the listener between clients that send nothing and clients that wait: a real socket, raw bytes."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from pipit.api import listen
from waiting import until

pytestmark = pytest.mark.anyio


class App:
    """Takes the whole body, then answers its length."""

    def __init__(self) -> None:
        self.left = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left += 1
                return
            size += len(message["body"])
            if not message["more_body"]:
                break
        if scope["path"] == "/slow":
            await asyncio.sleep(1)
        body = str(size).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[int]:
    socket = listen.bind("127.0.0.1", 0)
    listener = listen.Listener(app)
    serving = asyncio.create_task(listener.serve(sockets=[socket]))
    try:
        await until(lambda: listener.started)
        yield listen.port_of(socket)
    finally:
        listener.should_exit = True
        await serving


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def all(self) -> bytes:
        async with asyncio.timeout(8):
            return await self.reader.read()

    async def answer(self) -> bytes:
        async with asyncio.timeout(8):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            return head + await self.reader.readexactly(length)


@asynccontextmanager
async def connected(port: int, text: bytes = b"") -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(text)
        yield Connection(reader, writer)
    finally:
        writer.close()


async def test_a_client_that_owes_its_request_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "_HEAD_SECONDS", 0.3)
    monkeypatch.setattr(listen, "_BODY_SECONDS", 0.3)
    app = App()
    async with listening(app) as port:
        async with connected(port) as silent:
            assert await silent.all() == b""
        async with connected(port, b"GET / HTTP/1.1\r\nHost: x\r\n") as half:
            assert (await half.all()).startswith(b"HTTP/1.1 408 ")
        async with connected(port, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab") as short:
            assert (await short.all()).startswith(b"HTTP/1.1 408 ")
        assert app.left == 1
        async with connected(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") as second:
            assert (await second.answer()).endswith(b"\r\n\r\n0")
            second.writer.write(b"GET / HTTP/1.1\r\n")
            assert (await second.all()).startswith(b"HTTP/1.1 408 ")
        async with connected(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") as blank:
            assert (await blank.answer()).endswith(b"\r\n\r\n0")
            blank.writer.write(b"\r\n")
            assert await blank.all() == b""


async def test_a_slow_answer_and_a_slow_body_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "_HEAD_SECONDS", 0.3)
    monkeypatch.setattr(listen, "_BODY_SECONDS", 0.5)
    async with listening(App()) as port:
        async with connected(port, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n") as slow:
            assert (await slow.answer()).endswith(b"\r\n\r\n0")
        async with connected(port, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n") as trickle:
            for _ in range(6):
                await asyncio.sleep(0.15)
                trickle.writer.write(b"x")
            assert (await trickle.answer()).endswith(b"\r\n\r\n6")


async def test_half_sent_requests_do_not_keep_others_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(App()) as port:
        monkeypatch.setattr(listen._BoundedProtocol, "most", 5)
        half = [await asyncio.open_connection("127.0.0.1", port) for _ in range(12)]
        for _, writer in half:
            writer.write(b"GET / HTTP/1.1\r\n")
        async with connected(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") as other:
            assert (await other.answer()).endswith(b"\r\n\r\n0")
        for _, writer in half:
            writer.close()


async def test_where_all_connections_are_at_work_another_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(App()) as port:
        monkeypatch.setattr(listen._BoundedProtocol, "most", 1)
        async with connected(port, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n") as slow:
            await asyncio.sleep(0.3)
            async with connected(port) as other:
                assert (await other.all()).startswith(b"HTTP/1.1 503 ")
            assert (await slow.answer()).endswith(b"\r\n\r\n0")


class Numbered:
    """Answers the path and the length of the body, and waits a little where the path says so."""

    most = 0  # requests at work at once

    def __init__(self) -> None:
        self._now = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._now += 1
        self.most = max(self.most, self._now)
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        await asyncio.sleep(0.001 if scope["path"].endswith("7") else 0)
        body = f"[{scope['path']}:{size}]".encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self._now -= 1


def _pipelined(number: int) -> tuple[bytes, bytes]:
    """Requests of every form in turn, and what they are answered."""
    path = b"/%d" % number
    if number % 5 == 0:
        return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n\n\r\n\n" % path, b"[%b:4]" % path
    if number % 5 == 1:
        chunks = b"3\r\na\n\n\r\n2\r\n\r\n\r\n0\r\nTrailer: x\r\n\r\n"
        return b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%b" % (path, chunks), b"[%b:5]" % path
    if number % 5 == 2:
        return b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" % path, b"[%b:0]" % path
    if number % 5 == 3:
        return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" % path, b"[%b:0]" % path
    return b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path, b"[%b:0]" % path


@pytest.mark.parametrize("size", [1, 2, 3, 7, 61, 1000, 100_000])
async def test_pipelined_requests_are_answered_one_after_the_other(size: int) -> None:
    """However the bytes are cut into packets: each request once, in order, and one at a time."""
    requests = [_pipelined(number) for number in range(60)]
    app = Numbered()
    async with listening(app) as port, connected(port) as one:
        text = b"".join(request for request, _ in requests)
        for at in range(0, len(text), size):
            one.writer.write(text[at : at + size])
            await one.writer.drain()
            await asyncio.sleep(0)
        found = []
        for _ in requests:
            found.append((await one.answer()).partition(b"\r\n\r\n")[2])
    assert found == [answer for _, answer in requests]
    assert app.most == 1
    assert listen._BoundedProtocol.held_bytes == 0


async def test_what_is_pipelined_is_bounded_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "_MAX_HELD_BYTES", 1000)
    async with listening(App()) as port, connected(port) as many:
        many.writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        assert (await many.all()).count(b"HTTP/1.1 200 ") == 1  # and then closed: the others may be sent again
    assert listen._BoundedProtocol.held_bytes == 0


async def test_who_takes_nothing_of_an_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "_WRITE_SECONDS", 0.5)
    monkeypatch.setattr(listen, "_SWEEP_TICKS", 1)
    ended = asyncio.Event()

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        leaving = asyncio.ensure_future(_left(receive))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not leaving.done():
            await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
            await asyncio.sleep(0)
        ended.set()

    async def _left(receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async with listening(watched) as port, connected(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
        async with asyncio.timeout(20):
            await ended.wait()


def test_the_limit_of_open_files_is_raised() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, before[1]), before[1]))
        found = listen.raise_file_limit()
        assert found == resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(65_536, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert listen.most_connections(1024) == 512
    assert listen.most_connections(65_536) == 8192
    assert listen.most_connections(256) == 128

"""ATTACKS I04: the listener between clients that send nothing and clients that wait: a real socket, raw bytes."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.types import Receive, Scope, Send

from pipit.api import listen

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
async def listening(app: App) -> AsyncIterator[int]:
    socket = listen.bind("127.0.0.1", 0)
    listener = listen.Listener(app)
    serving = asyncio.create_task(listener.serve(sockets=[socket]))
    try:
        while not listener.started:
            await asyncio.sleep(0.01)
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

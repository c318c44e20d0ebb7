"""Chunks go out as they come; what fails early is an error and not half an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from starlette.types import Message

from pipit.api.responses import ReadResponse
from pipit.errors import SqlError
from pipit.query.formats import NDJSON
from pipit.query.read import Answer, Reader

pytestmark = pytest.mark.anyio

Chunks = Callable[[], AsyncIterator[bytes]]


class Client:
    """What was sent so far; `leave` ends the connection."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.got = asyncio.Event()
        self.leave = asyncio.Event()

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if message.get("body"):
            self.got.set()

    async def receive(self) -> Message:
        await self.leave.wait()
        return {"type": "http.disconnect"}

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.sent)

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])


class Given:
    """A reader whose answer the test writes, chunk by chunk."""

    def __init__(self, chunks: Chunks) -> None:
        self.chunks = chunks
        self.closed = False

    @asynccontextmanager
    async def open(self, *_: Any, **__: Any) -> AsyncIterator[Answer]:
        try:
            yield Answer(NDJSON, self.chunks())
        finally:
            self.closed = True


async def answer(client: Client, chunks: Chunks, method: str = "GET") -> Given:
    reader = Given(chunks)
    anything = cast(Any, None)
    response = ReadResponse(cast(Reader, reader), anything, anything, anything, request_id="1", headers={"X-A": "b"})
    async with asyncio.timeout(10):
        scope = {"type": "http", "method": method, "path": "/", "query_string": b"", "headers": []}
        await response(scope, client.receive, client.send)
    return reader


async def test_the_first_chunk_does_not_wait_for_the_second() -> None:
    client = Client()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"1\n"
        await client.got.wait()
        yield b"2\n"
        yield b"3\n"

    reader = await answer(client, chunks)
    assert [m.get("body") for m in client.sent[1:]] == [b"1\n", b"2\n", b"3\n", b""]
    assert [m.get("more_body", False) for m in client.sent[1:]] == [True, True, True, False]
    assert b"content-length" not in client.headers and reader.closed


@pytest.mark.parametrize(("given", "length"), [([], b"0"), ([b"1\n"], b"2")])
async def test_a_short_answer_says_its_length(given: list[bytes], length: bytes) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in given:
            yield chunk

    for method, body in (("GET", b"".join(given)), ("HEAD", b"")):
        client = Client()
        await answer(client, chunks, method)
        assert client.headers[b"content-length"] == length and client.headers[b"x-a"] == b"b"
        assert client.body == body and not client.sent[-1].get("more_body")


async def test_a_query_that_fails_after_its_first_bytes_sends_nothing() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"1\n"
        raise SqlError("no")

    client = Client()
    with pytest.raises(SqlError):
        await answer(client, chunks)
    assert client.sent == []


async def test_a_query_that_fails_late_breaks_the_answer() -> None:
    client = Client()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"1\n"
        await client.got.wait()
        raise SqlError("no")

    with pytest.raises(SqlError):
        await answer(client, chunks)
    assert client.body == b"1\n" and client.sent[-1]["more_body"]


async def test_a_client_that_leaves_between_two_chunks_ends_the_query() -> None:
    client = Client()
    ended: list[str] = []

    async def chunks() -> AsyncIterator[bytes]:
        try:
            yield b"1\n"
            await client.got.wait()
            client.leave.set()
            await asyncio.Event().wait()
        finally:
            ended.append("chunks")

    reader = await answer(client, chunks)
    assert ended == ["chunks"] and reader.closed
    assert client.sent[-1]["more_body"]

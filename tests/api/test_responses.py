"""Chunks go out as they come; what fails early is an error and not half an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from starlette.types import Message

from pipit.api import responses
from pipit.api.broken import BrokenOff
from pipit.api.responses import HELD_BYTES, ReadResponse
from pipit.errors import SqlError, TooLarge
from pipit.query.formats import CSV, JSON, NDJSON, PARQUET, Format
from pipit.query.read import Answer, Reader

pytestmark = pytest.mark.anyio

Chunks = Callable[[], AsyncIterator[bytes]]


class Client:
    """What was sent so far; `leave` ends the connection."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.got = asyncio.Event()
        self.leave = asyncio.Event()
        self.slow = False

    async def send(self, message: Message) -> None:
        if self.slow and len(self.sent) > 3:
            await asyncio.Event().wait()
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

    def __init__(self, chunks: Chunks, format: Format) -> None:
        self.chunks = chunks
        self.format = format
        self.closed = False

    @asynccontextmanager
    async def open(self, *_: Any, **__: Any) -> AsyncIterator[Answer]:
        try:
            yield Answer(self.format, self.chunks())
        finally:
            self.closed = True


async def answer(client: Client, chunks: Chunks, method: str = "GET", format: Format = NDJSON) -> Given:
    reader = Given(chunks, format)
    anything = cast(Any, None)
    response = ReadResponse(cast(Reader, reader), anything, headers={"X-A": "b"})
    async with asyncio.timeout(10):
        scope = {"type": "http", "method": method, "path": "/", "query_string": b"", "headers": []}
        await response(scope, client.receive, client.send)
    return reader


LARGE = b"x" * (HELD_BYTES + 1)


async def test_a_large_answer_goes_out_as_it_comes() -> None:
    client = Client()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"1\n"
        yield LARGE
        await client.got.wait()
        yield b"2\n"
        yield b"3\n"

    reader = await answer(client, chunks)
    bodies = [m.get("body", b"") for m in client.sent[1:]]
    assert b"".join(bodies) == b"1\n" + LARGE + b"2\n3\n" and bodies[-3:] == [b"2\n", b"3\n", b""]
    assert max(len(body) for body in bodies) <= 128 * 1024
    assert [m.get("more_body", False) for m in client.sent[1:]] == [True] * (len(bodies) - 1) + [False]
    assert b"content-length" not in client.headers and reader.closed


@pytest.mark.parametrize(("given", "length"), [([], b"0"), ([b"1\n"], b"2"), ([b"1\n", b"2" * 200_000, b"\n"], b"200003")])
async def test_a_short_answer_says_its_length(given: list[bytes], length: bytes) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in given:
            yield chunk

    for method, body in (("GET", b"".join(given)), ("HEAD", b"")):
        client = Client()
        await answer(client, chunks, method)
        assert client.headers[b"content-length"] == length and client.headers[b"x-a"] == b"b"
        assert client.body == body and not client.sent[-1].get("more_body")


@pytest.mark.parametrize("size", [1, HELD_BYTES])
async def test_a_query_that_fails_after_its_first_bytes_sends_nothing(size: int) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"1" * size
        await asyncio.sleep(0.2)  # how long it takes decides nothing: only how much there is
        raise SqlError("no")

    client = Client()
    with pytest.raises(SqlError):
        await answer(client, chunks)
    assert client.sent == []


@pytest.mark.parametrize("format", [NDJSON, CSV, JSON, PARQUET])
async def test_a_query_that_fails_late_breaks_the_answer(format: Format) -> None:
    """Of a text the last line says why; a binary format gets nothing."""
    client = Client()

    async def chunks() -> AsyncIterator[bytes]:
        yield LARGE
        await client.got.wait()
        raise TooLarge("more\nthan it may")

    with pytest.raises(BrokenOff, match="more"):
        await answer(client, chunks, format=format)
    assert client.body.removeprefix(LARGE) == (b"" if format.binary else b"\n__exception__ too_large: more than it may\n")
    assert client.sent[-1]["more_body"]


async def test_a_client_that_is_too_slow_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "_TAKING_SECONDS", 0.3)
    client = Client()
    client.slow = True

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield LARGE

    with pytest.raises(BrokenOff) as caught:
        await answer(client, chunks)
    assert caught.value.at_once and client.sent[-1]["more_body"]


async def test_a_client_that_leaves_between_two_chunks_ends_the_query() -> None:
    client = Client()
    ended: list[str] = []

    async def chunks() -> AsyncIterator[bytes]:
        try:
            yield LARGE
            await client.got.wait()
            client.leave.set()
            await asyncio.Event().wait()
        finally:
            ended.append("chunks")

    reader = await answer(client, chunks)
    assert ended == ["chunks"] and reader.closed
    assert client.sent[-1]["more_body"]

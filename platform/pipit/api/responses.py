"""The engine's bytes as an HTTP response: nothing is parsed, nothing is held beyond the first bytes (rule 5).

The first bytes are held back, as many as an answer usually has: until then a query that fails is the JSON error with
its status, and an answer that ends is sent with its length. What fails after that breaks the connection, so that a
client sees a failure and never a truncated 200; a text says why in a last line. A client that leaves ends the query,
and one that takes its answer too slowly is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from pipit.api.broken import BrokenOff
from pipit.errors import PipitError
from pipit.query.formats import Format
from pipit.query.log import ClientGone
from pipit.query.queries import Read
from pipit.query.read import Reader

HELD_BYTES = 256 * 1024
_PIECE = 128 * 1024  # what one connection has to send at once
_TAKING_SECONDS = 60.0  # that an answer may wait for its client, beyond what this speed takes
_TAKING_BYTES = 64 * 1024  # a second
_QUICK_SECONDS = 0.05  # before a read has taken as long, nobody looks whether its client is still there

EXCEPTION_MARK = "__exception__"


class ReadResponse(Response):
    """Runs a query when it is sent. Must be returned from a route, so that error handlers see what it raises."""

    def __init__(
        self,
        reader: Reader,
        read: Read,
        *,
        headers: Mapping[str, str],
    ) -> None:
        self.status_code, self.raw_headers, self.background = 200, [], None  # all that is known before it runs
        self._reader = reader
        self._read = read
        self._extra = headers
        self._begun: Format | None = None
        self._answered = False  # nothing is left to send: a client that goes now has all of it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        running = asyncio.current_task()
        assert running is not None
        loop = asyncio.get_running_loop()
        left = False
        leaving: asyncio.Task[None] | None = None

        async def leave_with_the_client() -> None:
            nonlocal left
            while (await receive())["type"] != "http.disconnect":
                pass
            if not self._answered:
                left = True
                running.cancel()

        def look() -> None:
            nonlocal leaving
            leaving = loop.create_task(leave_with_the_client())

        looking = loop.call_later(_QUICK_SECONDS, look)
        patient = _Patient(send)
        try:
            await self._run(patient, head=scope["method"] == "HEAD")
        except PipitError as error:
            if self._begun is None:
                raise
            ending = _ending(self._begun, error)
            if ending:
                await patient.send({"type": "http.response.body", "body": ending, "more_body": True})
            raise BrokenOff(error.message) from error
        except ClientGone as gone:
            raise BrokenOff(str(gone), at_once=True) from gone
        except asyncio.CancelledError:
            if not left:
                raise
            running.uncancel()
        finally:
            looking.cancel()
            if leaving is not None:
                leaving.cancel()

    async def _run(self, patient: _Patient, *, head: bool) -> None:
        async with self._reader.open(self._read) as answer:
            first: list[bytes] = []
            size, whole = 0, True
            async for chunk in answer.chunks:
                first.append(chunk)
                size += len(chunk)
                if size > HELD_BYTES:
                    whole = False
                    break
            headers = [(b"content-type", answer.format.content_type.encode())]
            if whole:
                headers.append((b"content-length", str(size).encode()))
            headers += [(k.lower().encode(), v.encode()) for k, v in self._extra.items()]
            start = {"type": "http.response.start", "status": 200, "headers": headers}
            if head or (whole and size <= _PIECE):
                self._begun = answer.format
                self._answered = True
                await patient.send(start, {"type": "http.response.body", "body": b"" if head else b"".join(first)})
                return
            await patient.send(start)
            self._begun = answer.format
            while first:
                await patient.body(first.pop(0))
            async for chunk in answer.chunks:
                await patient.body(chunk)
            self._answered = True
            await patient.send({"type": "http.response.body", "body": b""})


class _Patient:
    """Sends, and waits for the client: for some time in all, and longer the more it takes."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._left = _TAKING_SECONDS

    async def body(self, chunk: bytes) -> None:
        for at in range(0, len(chunk), _PIECE):
            piece = chunk[at : at + _PIECE] if len(chunk) > _PIECE else chunk
            await self.send({"type": "http.response.body", "body": piece, "more_body": True})
            self._left = min(self._left + len(piece) / _TAKING_BYTES, _TAKING_SECONDS)

    async def send(self, *messages: Message) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(max(self._left, 0)):
                for message in messages:
                    await self._send(message)
        except TimeoutError:
            raise ClientGone("the client takes the answer too slowly") from None
        self._left -= clock() - began


def _ending(format: Format, error: PipitError) -> bytes:
    """Why the answer ends here, on a line of its own, which none of the text formats can hold as a row of the query.

    Behind JSON it is one more reason why no parser takes the half of a document; CSV, TSV and NDJSON would otherwise
    look whole where they are cut at a line's end. Binary formats get nothing: Parquet ends with its index, the others
    in the middle of a block.
    """
    if format.binary:
        return b""
    return f"\n{EXCEPTION_MARK} {error.code}: {' '.join(error.message.split())}\n".encode()

"""The engine's bytes as an HTTP response: nothing is parsed, nothing is held beyond a chunk (rule 5).

The first chunk waits for a moment: an answer that ends in it is sent with its length, and a query that fails right
after it becomes the JSON error with its status. An error after that breaks the connection, so that a client sees a
failure and never a truncated 200. A client that leaves ends the query.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pipit.access.context import SecurityContext
from pipit.api.origin import origin_of
from pipit.catalog.snapshot import Snapshot
from pipit.query.log import Origin
from pipit.query.read import Query, Reader

_PATIENCE = 0.05  # seconds


class ReadResponse(Response):
    """Runs a query when it is sent. Must be returned from a route, so that error handlers see what it raises."""

    def __init__(
        self,
        reader: Reader,
        snapshot: Snapshot,
        security: SecurityContext,
        query: Query,
        *,
        request_id: str,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(headers=dict(headers))
        self._reader = reader
        self._snapshot = snapshot
        self._security = security
        self._query = query
        self._request_id = request_id
        self._extra = headers
        self._answered = False  # nothing is left to send: a client that goes now has all of it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        running = asyncio.current_task()
        assert running is not None
        left = False

        async def leave_with_the_client() -> None:
            nonlocal left
            while (await receive())["type"] != "http.disconnect":
                pass
            if not self._answered:
                left = True
                running.cancel()

        leaving = asyncio.ensure_future(leave_with_the_client())
        try:
            await self._run(send, origin_of(Request(scope)), head=scope["method"] == "HEAD")
        except asyncio.CancelledError:
            if not left:
                raise
            running.uncancel()
        finally:
            leaving.cancel()

    async def _run(self, send: Send, origin: Origin, *, head: bool) -> None:
        async with self._reader.open(
            self._snapshot, self._security, self._query, request_id=self._request_id, origin=origin
        ) as answer:
            first = await anext(answer.chunks, b"")
            coming = asyncio.ensure_future(_following(answer.chunks))
            try:
                await asyncio.wait((coming,), timeout=_PATIENCE)
                whole = coming.done() and coming.result() is None
                headers = [(b"content-type", answer.format.content_type.encode())]
                if whole:
                    headers.append((b"content-length", str(len(first)).encode()))
                headers += [(k.lower().encode(), v.encode()) for k, v in self._extra.items()]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                if head or whole:
                    self._answered = True
                    await send({"type": "http.response.body", "body": b"" if head else first})
                    return
                await send({"type": "http.response.body", "body": first, "more_body": True})
                second = await coming
            finally:
                coming.cancel()
                await asyncio.wait((coming,))
                if not coming.cancelled():
                    coming.exception()  # seen, though somebody else's error may be the one that counts
            if second is not None:
                await send({"type": "http.response.body", "body": second, "more_body": True})
            async for chunk in answer.chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            self._answered = True
            await send({"type": "http.response.body", "body": b""})


async def _following(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)

"""Answers are compressed for clients that ask for it (`Accept-Encoding`): zstd or gzip, piece by piece.

Only what a reader asks of data and pages, never an answer that holds tokens, and no error: a text of the request beside
a secret must not change how long a compressed answer is. An endpoint's answer holds what its token may read and what
the request said; the token is in a header that no other web page can send, so nobody else can make these requests.
What is kept (`query/cache.py`) is kept as it is. A client that does not ask gets the same bytes at the same speed.
"""

from __future__ import annotations

import asyncio
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipit.api.broken import BrokenOff
from pipit.api.headers import find, headers_of, vary

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_PATHS = ("/v0/pipes/", "/v0/sql", "/docs", "/cli/")
_TYPES = frozenset({b"application/json", b"application/x-ndjson", b"text/csv", b"text/plain", b"text/html"}) | {
    b"text/tab-separated-values",
    b"text/markdown",
}
_SMALLEST = 1024  # a shorter answer is one packet anyhow
_IN_THREAD = 32 * 1024  # from here on it takes longer than the way to a thread
_LEVEL = 1


@dataclass(frozen=True, slots=True)
class _Coder:
    """`feed` a piece, `flush` what is kept back, `finish`."""

    feed: Callable[[bytes], bytes]
    flush: Callable[[], bytes]
    finish: Callable[[], bytes]


def _gzip() -> _Coder:
    coder = zlib.compressobj(_LEVEL, wbits=31)
    return _Coder(coder.compress, lambda: coder.flush(zlib.Z_SYNC_FLUSH), coder.flush)


def _zstd() -> _Coder:
    coder = zstd.ZstdCompressor(_LEVEL)
    return _Coder(coder.compress, lambda: coder.flush(coder.FLUSH_BLOCK), coder.flush)


_CODERS: dict[str, Callable[[], _Coder]] = {"zstd": _zstd, "gzip": _gzip}  # the first that is asked for most


def chosen(accept: str) -> str:
    """The coding for a client that sends this Accept-Encoding; empty: none."""
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        name, _, parameters = part.partition(";")
        weight = parameters.strip().removeprefix("q=").strip() if parameters else "1"
        try:
            weights[name.strip()] = float(weight)
        except ValueError:
            weights[name.strip()] = 0.0
    best = max(_CODERS, key=lambda name: weights.get(name, weights.get("*", 0.0)))
    return best if weights.get(best, weights.get("*", 0.0)) > 0 else ""


class Compressed:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_PATHS):
            await self._app(scope, receive, send)
            return
        accepted = [value.decode("latin-1") for known, value in scope["headers"] if known == b"accept-encoding"]
        name = chosen(", ".join(accepted)) if accepted else ""
        answer = _Answer(send, "" if scope["method"] == "HEAD" else name)
        try:
            await self._app(scope, receive, answer.send)
        except BrokenOff:
            await answer.flush()
            raise


class _Answer:
    def __init__(self, send: Send, name: str) -> None:
        self._send = send
        self._name = name
        self._start: Message | None = None  # until it is known whether the answer is short
        self._coder: _Coder | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = headers_of(message)
            kind = (find(headers, b"content-type") or b"").partition(b";")[0].strip()
            if message["status"] == 200 and kind in _TYPES and find(headers, b"content-encoding") is None:
                vary(headers, b"Accept-Encoding")
                if self._name:
                    self._start = message
                    return
            await self._send(message)
            return
        if self._start is not None:
            start, self._start = self._start, None
            outgoing = MutableHeaders(raw=start["headers"])
            length = outgoing.get("content-length")
            if (int(length) if length else _SMALLEST) >= _SMALLEST:
                self._coder = _CODERS[self._name]()
                outgoing["Content-Encoding"] = self._name
                del outgoing["content-length"]
            await self._send(start)
        if self._coder is None:
            await self._send(message)
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        out = await asyncio.to_thread(self._coder.feed, body) if len(body) >= _IN_THREAD else self._coder.feed(body)
        out += b"" if more else self._coder.finish()
        if out or not more:
            await self._send({"type": "http.response.body", "body": out, "more_body": more})

    async def flush(self) -> None:
        """What was fed goes out: the last line of an answer that is broken off says why."""
        if self._coder is not None:
            await self._send({"type": "http.response.body", "body": self._coder.flush(), "more_body": True})

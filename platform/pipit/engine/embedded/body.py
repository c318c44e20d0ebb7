"""A request's body, inflated, read as far as is needed and no further."""

from __future__ import annotations

from aiohttp import web

from pipit.engine.embedded.content_encoding import BodyDecoder
from pipit.engine.embedded.failure import Failure


class Body:
    """Bytes looked at by `peek` come again from `rest` and `chunk`, unless dropped."""

    def __init__(self, request: web.BaseRequest | None) -> None:
        """Of no request: an empty body."""
        self._content = request.content if request is not None and request.can_read_body else None
        encoding = request.headers.get("Content-Encoding", "identity").strip().lower() if request else ""
        self._decoder = BodyDecoder(encoding) if encoding not in ("", "identity") and self._content else None
        self._peeked = b""

    async def peek(self, size: int) -> bytes:
        """At least `size` bytes from the start, fewer only where the body ends."""
        parts = [self._peeked]
        have = len(self._peeked)
        while have < size and (chunk := await self._read()):
            parts.append(chunk)
            have += len(chunk)
        self._peeked = b"".join(parts)
        return self._peeked

    def drop_peeked(self) -> None:
        self._peeked = b""

    async def chunk(self) -> bytes:
        """The next bytes; empty at the end."""
        if self._peeked:
            peeked, self._peeked = self._peeked, b""
            return peeked
        return await self._read()

    async def rest(self, limit: int) -> bytes:
        """All that is left. More than `limit` is a Failure."""
        parts = []
        have = 0
        while chunk := await self.chunk():
            have += len(chunk)
            if have > limit:
                raise Failure(168, "The statement is too large")
            parts.append(chunk)
        return b"".join(parts)

    async def _read(self) -> bytes:
        """Bytes as soon as there are some."""
        content = self._content
        if content is None:
            return b""
        while data := await content.readany():
            plain = self._decoder.feed(data) if self._decoder else data
            if plain:
                return plain
        if self._decoder is not None:
            self._decoder.finish()
        self._content = None
        return b""

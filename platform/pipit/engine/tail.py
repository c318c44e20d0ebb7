"""The engine's error in a result that had begun (`X-ClickHouse-Exception-Tag`).

`__exception__ CRLF tag CRLF message ...` stands behind the data: this splits the two, so that an error is never handed
on as data. The message is short; so only the end of what came is kept back, and it is looked at when nothing follows.
"""

from __future__ import annotations

from collections.abc import Iterator

_WINDOW = 32 * 1024  # a server's message has 16 KB at most


class Tail:
    """Passes data through and keeps back what may hold the mark."""

    def __init__(self, tag: str) -> None:
        self._mark = b"__exception__\r\n" + tag.encode()
        self._kept = b""
        self._message: bytes | None = None

    def feed(self, block: bytes) -> Iterator[bytes]:
        """The data that is certainly data."""
        if len(block) >= _WINDOW:
            if self._kept:
                yield self._kept
            if len(block) > _WINDOW:
                yield block[:-_WINDOW]
            self._kept = block[-_WINDOW:]
            return
        text = self._kept + block
        keep = max(len(text) - _WINDOW, 0)
        self._kept = text[keep:]
        if keep:
            yield text[:keep]

    def end(self) -> bytes:
        """The last of the data, once nothing follows. `message` counts from here on."""
        at = self._kept.rfind(self._mark)
        if at < 0:
            return self._kept
        self._message = self._kept[at + len(self._mark) :]
        return self._kept[:at].removesuffix(b"\r\n")

    @property
    def message(self) -> str:
        """The engine's message; empty when there was none."""
        return (self._message or b"").decode("utf-8", "replace").strip()

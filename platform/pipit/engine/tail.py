"""An error that a ClickHouse server writes into a result that had begun (`X-ClickHouse-Exception-Tag`).

The engine process breaks the connection instead. A server writes `__exception__ CRLF tag CRLF message ...` behind the
data: this splits the two, so that an error is never handed on as data.
"""

from __future__ import annotations


class Tail:
    """Passes data through and keeps back what may be the beginning of the mark."""

    def __init__(self, tag: str) -> None:
        self._mark = b"__exception__\r\n" + tag.encode()
        self._kept = b""
        self._found = False

    def feed(self, block: bytes) -> bytes:
        """The data that is certainly data."""
        text = self._kept + block
        if self._found:
            self._kept = text
            return b""
        at = text.find(self._mark)
        if at >= 0:
            self._found = True
            self._kept = text[at + len(self._mark) :]
            return text[:at].removesuffix(b"\r\n")
        keep = min(len(text), len(self._mark) + 1)
        self._kept = text[len(text) - keep :]
        return text[: len(text) - keep]

    def end(self) -> bytes:
        """The last of the data, once the result is over."""
        return b"" if self._found else self._kept

    @property
    def message(self) -> str:
        """The engine's message; empty when there was none."""
        return self._kept.decode("utf-8", "replace").strip() if self._found else ""

"""Content encodings of ClickHouse's HTTP interface, both ways: gzip, deflate, zstd, lz4 frames."""

from __future__ import annotations

import sys
import zlib
from typing import Any

import lz4.frame

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from pipit.engine.codes import Code
from pipit.engine.embedded.failure import Failure

_PREFERRED = ("zstd", "lz4", "gzip", "deflate")


class BodyDecoder:
    """Inflates a request body chunk by chunk; several frames may follow one another."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._fresh = True
        self._inner = self._new()

    def _new(self) -> Any:
        match self._encoding:
            case "gzip" | "x-gzip":
                return zlib.decompressobj(16 + zlib.MAX_WBITS)
            case "deflate":
                return zlib.decompressobj()
            case "zstd":
                return zstd.ZstdDecompressor()
            case "lz4":
                return lz4.frame.LZ4FrameDecompressor()
        raise Failure(Code.UNKNOWN_COMPRESSION_METHOD, f"Unknown compression method {self._encoding[:40]!r}")

    def feed(self, data: bytes) -> bytes:
        parts = []
        try:
            while data:
                if self._inner.eof:
                    self._inner = self._new()
                parts.append(self._inner.decompress(data))
                self._fresh = False
                data = self._inner.unused_data or b"" if self._inner.eof else b""
        except (zlib.error, zstd.ZstdError, RuntimeError, EOFError) as error:
            raise Failure(Code.ZLIB_INFLATE_FAILED, f"Cannot decompress the body ({self._encoding})") from error
        return b"".join(parts)

    def finish(self) -> None:
        """Raises Failure when the body ended in the middle of a frame."""
        if not self._fresh and not self._inner.eof:
            raise Failure(Code.ZLIB_INFLATE_FAILED, f"The compressed body ({self._encoding}) is cut off")


class Encoder:
    """Compresses a response, whole or block by block."""

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self._inner: Any
        if encoding == "zstd":
            self._inner = zstd.ZstdCompressor()
        elif encoding == "lz4":
            self._inner = lz4.frame.LZ4FrameCompressor()
        else:
            self._inner = zlib.compressobj(wbits=16 + zlib.MAX_WBITS if encoding == "gzip" else zlib.MAX_WBITS)
        self._head = self._inner.begin() if encoding == "lz4" else b""

    def feed(self, data: bytes) -> bytes:
        head, self._head = self._head, b""
        return bytes(head + self._inner.compress(data))

    def finish(self) -> bytes:
        head, self._head = self._head, b""
        return bytes(head + self._inner.flush())


def chosen_encoding(accept: str) -> str:
    """The encoding for a response, or nothing."""
    offered = {part.partition(";")[0].strip() for part in accept.lower().split(",")}
    return next((name for name in _PREFERRED if name in offered), "")

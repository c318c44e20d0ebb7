"""A request's body: read within a bound, decompressed within the same bound, and put into lines.

Python looks for line ends here and at nothing else; rows are parsed by ClickHouse. What leaves is whole
lines, none of them blank, so that line n is row n everywhere after this.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec

from pipit.errors import BadRequest, Reason, TooLarge

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor, ZstdError
else:
    from backports.zstd import ZstdDecompressor, ZstdError

_BOM = b"\xef\xbb\xbf"
# Where these occur, a line may be blank or end in white space; nearly all bodies have none of them.
_IRREGULAR = (b"\n\n", b"\r\n", b" \n", b"\t\n")
_BLANK = b" \t\r\n"


class Decoder(Protocol):
    """One member (gzip) or frame (zstd) of a body."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


async def read_body(stream: AsyncIterator[bytes], encodings: Sequence[str], *, limit: int) -> bytes:
    """The decoded body. `encodings` are the Content-Encoding headers. Raises TooLarge and BadRequest."""
    encoding = encoding_of(encodings)
    body = bytearray()
    received = 0
    decoder = decoder_of(encoding)
    async for chunk in stream:
        received += len(chunk)
        if received > limit:
            raise _too_large(limit)
        if decoder is None:
            body += chunk
            continue
        decoder = _decode(decoder, encoding, chunk, body, limit)
    if decoder is not None and not decoder.eof:
        raise BadRequest(
            f"The {encoding} body ends too early", hint="Send the whole compressed body.", reason=Reason.BODY_INVALID
        )
    return bytes(body)


def to_lines(body: bytes, format: str) -> tuple[bytes, int]:
    """Lines and their number. `format` json: one object or an array of them. Raises BadRequest when empty."""
    body = body.removeprefix(_BOM)
    if format == "json":
        return _from_json(body)
    if not body.endswith(b"\n"):
        body += b"\n"
    if body[0] in _BLANK or any(mark in body for mark in _IRREGULAR):
        lines = [line for line in (line.strip(_BLANK) for line in body.split(b"\n")) if line]
        body = b"\n".join(lines) + b"\n" if lines else b""
    if not body:
        raise BadRequest("The body holds no events", hint="Send one JSON object a line.", reason=Reason.BODY_EMPTY)
    return body, body.count(b"\n")


def _from_json(body: bytes) -> tuple[bytes, int]:
    """Splits at the items of the array; what is in them stays as it was sent."""
    text = body.strip(_BLANK)
    if not text:
        raise BadRequest(
            "The body holds no events", hint="Send a JSON object or an array of objects.", reason=Reason.BODY_EMPTY
        )
    try:
        records = msgspec.json.decode(text, type=list[msgspec.Raw]) if text.startswith(b"[") else [text]
        if not text.startswith(b"["):
            msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        where = f": {error}" if isinstance(error, msgspec.DecodeError) else ""
        where = ": it is not valid UTF-8" if isinstance(error, UnicodeDecodeError) else where
        raise BadRequest(
            f"The body is not valid JSON{where}",
            hint="With format=json, send one object or an array of objects.",
            reason=Reason.BODY_INVALID,
        ) from error
    if not records:
        raise BadRequest("The body holds no events", hint="The array is empty.", reason=Reason.BODY_EMPTY)
    # A line end in valid JSON stands between tokens: inside a string it would have to be escaped.
    lines = [bytes(record).replace(b"\n", b" ").replace(b"\r", b" ") for record in records]
    return b"\n".join(lines) + b"\n", len(lines)


def encoding_of(headers: Sequence[str]) -> str:
    """The one encoding that Content-Encoding headers name, or none. Raises BadRequest."""
    named = [part.strip().lower() for header in headers for part in header.split(",")]
    named = [name for name in named if name and name != "identity"]
    if not named:
        return ""
    if len(named) > 1:
        raise BadRequest(
            "The body is encoded more than once",
            hint="Send it with one Content-Encoding.",
            reason=Reason.ENCODING_UNSUPPORTED,
        )
    name = {"x-gzip": "gzip"}.get(named[0], named[0])
    if name not in ("gzip", "zstd"):
        raise BadRequest(
            f"The Content-Encoding '{name[:40]}' is not supported",
            hint="Use gzip or zstd.",
            reason=Reason.ENCODING_UNSUPPORTED,
        )
    return name


def decoder_of(encoding: str) -> Decoder | None:
    if encoding == "gzip":
        return _Gzip()
    return ZstdDecompressor() if encoding == "zstd" else None


class _Gzip:
    """zlib's decompressor with the face of the other one: what does not fit into the bound is kept inside."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int = 0) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)


def _decode(decoder: Decoder, encoding: str, chunk: bytes, body: bytearray, limit: int) -> Decoder:
    """Appends to `body`, never more than the limit and one byte. A body may be several members in a row."""
    try:
        while chunk:
            if decoder.eof:
                fresh = decoder_of(encoding)
                assert fresh is not None
                decoder = fresh
            body += decoder.decompress(chunk, limit + 1 - len(body))
            if len(body) > limit:
                raise _too_large(limit)
            chunk = decoder.unused_data if decoder.eof else b""
    except (zlib.error, ZstdError, EOFError) as error:
        raise BadRequest(f"The body is not valid {encoding}", reason=Reason.BODY_INVALID) from error
    return decoder


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"The body is larger than {limit} bytes (after decompression)",
        hint="Send fewer events in one request.",
        reason=Reason.BODY_TOO_LARGE,
    )

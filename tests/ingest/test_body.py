"""Bodies: bounded, decompressed, cut into lines."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator

import pytest
from backports import zstd

from pipit.errors import BadRequest, TooLarge
from pipit.ingest.body import read_body, to_lines

pytestmark = pytest.mark.anyio

TEXT = b'{"a":1}\n' * 1000


def gzipped(data: bytes) -> bytes:
    """Without the time in it: the names of tests must be the same in all test processes."""
    return gzip.compress(data, mtime=0)


async def chunks(data: bytes, size: int = 77) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize(
    ("encodings", "data"),
    [
        ([], TEXT),
        (["identity"], TEXT),
        (["gzip"], gzipped(TEXT)),
        (["X-GZIP"], gzipped(TEXT)),
        (["gzip"], gzipped(TEXT[:400]) + gzipped(TEXT[400:])),
        (["zstd"], zstd.compress(TEXT)),
        (["zstd"], zstd.compress(TEXT[:400]) + zstd.compress(TEXT[400:])),
    ],
)
@pytest.mark.parametrize("size", [1, 77, 1 << 20])
async def test_a_body_is_decoded(encodings: list[str], data: bytes, size: int) -> None:
    assert await read_body(chunks(data, size), encodings, limit=len(TEXT)) == TEXT


@pytest.mark.parametrize(
    ("encodings", "data"),
    [
        ([], TEXT + b"x"),
        (["gzip"], gzipped(TEXT + b"x")),
        (["zstd"], zstd.compress(TEXT + b"x")),
        (["gzip"], gzipped(bytes(50 << 20))),
        (["zstd"], zstd.compress(bytes(50 << 20))),
    ],
)
async def test_a_body_beyond_the_limit_or_a_bomb_is_refused(encodings: list[str], data: bytes) -> None:
    with pytest.raises(TooLarge, match="8000 bytes"):
        await read_body(chunks(data, 4096), encodings, limit=len(TEXT))


@pytest.mark.parametrize(
    ("encodings", "data", "message"),
    [
        (["gzip"], TEXT, "not valid gzip"),
        (["gzip"], gzipped(TEXT)[:-9], "ends too early"),
        (["gzip"], gzipped(TEXT) + b"more", "not valid gzip"),
        (["zstd"], zstd.compress(TEXT)[:-5], "ends too early"),
        (["zstd"], b"text", "not valid zstd"),
        (["gzip, gzip"], gzipped(gzipped(TEXT)), "more than once"),
        (["gzip", "zstd"], TEXT, "more than once"),
        (["br"], TEXT, "'br' is not supported"),
    ],
)
async def test_a_broken_encoding_is_a_bad_request(encodings: list[str], data: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        await read_body(chunks(data), encodings, limit=1 << 20)


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (b'{"a":1}', b'{"a":1}\n'),
        (b'{"a":1}\n{"a":2}\n', b'{"a":1}\n{"a":2}\n'),
        (b'{"a":1}\r\n{"a":2}\r\n', b'{"a":1}\n{"a":2}\n'),
        (b'\n\n {"a":1} \n\t\n\r\n{"a":2}', b'{"a":1}\n{"a":2}\n'),
        (b'\xef\xbb\xbf{"a":1}\n', b'{"a":1}\n'),
        (b'{"a":1}\n{"a":', b'{"a":1}\n{"a":\n'),
        (b"\x00\n\xff", b"\x00\n\xff\n"),
        ('{"a":"\u2028\u0085"}'.encode(), '{"a":"\u2028\u0085"}\n'.encode()),
    ],
)
def test_ndjson_becomes_lines_without_blank_ones(body: bytes, lines: bytes) -> None:
    assert to_lines(body, "ndjson") == (lines, lines.count(b"\n"))


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (b'{"a":\r\n1}', b'{"a":  1}\n'),
        (b' [ {"a":1},\n{"b":\n[2, "]"]} , 5] ', b'{"a":1}\n{"b": [2, "]"]}\n5\n'),
        (b'{"a": 340282366920938463463374607431768211461}', b'{"a": 340282366920938463463374607431768211461}\n'),
    ],
)
def test_json_is_split_and_not_rewritten(body: bytes, lines: bytes) -> None:
    assert to_lines(body, "json") == (lines, lines.count(b"\n"))


@pytest.mark.parametrize(
    ("body", "format"),
    [
        (b"", "ndjson"),
        (b" \n\r\n", "ndjson"),
        (b"", "json"),
        (b"[]", "json"),
        (b'{"a":1', "json"),
        (b'{"a":1}\n{"a":2}', "json"),
        (b'[{"a":1},', "json"),
        (b'[{"a":1}] x', "json"),
        (b"[" * 100_000, "json"),
    ],
)
def test_no_events_or_no_json_is_a_bad_request(body: bytes, format: str) -> None:
    with pytest.raises(BadRequest):
        to_lines(body, format)

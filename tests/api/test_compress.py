"""Answers are compressed for those who ask, and for nobody else."""

from __future__ import annotations

import gzip
from dataclasses import replace

import aiohttp
import pytest
from backports import zstd

from pipit.api.app import app_for
from pipit.api.compress import chosen
from pipit.api.listen import listening
from pipit.query.limits import Limits
from pipit.query.read import Reader
from serving import Workspace

pytestmark = pytest.mark.anyio

FILES = {
    "pipes/wide.pipe": "NODE n\nSQL >\n    SELECT number, repeat('x', 1000) AS text FROM numbers(100000)\nTYPE endpoint\n",
    "pipes/many.pipe": "NODE n\nSQL >\n    %\n    SELECT number, 'text' AS text FROM numbers({{UInt64(n)}})\nTYPE endpoint\n",
    "pipes/kept.pipe": "NODE n\nSQL >\n    %\n    {{cache_ttl('1h')}}\n    SELECT number FROM numbers(1000)\nTYPE endpoint\n",
}


@pytest.mark.parametrize(
    ("accept", "coding"),
    [("", ""), ("gzip", "gzip"), ("gzip, deflate, br, zstd", "zstd"), ("gzip;q=1.0, zstd;q=0.5", "gzip"), ("br", ""), ("identity", ""), ("gzip;q=0", ""), ("*", "zstd"), ("*;q=0, gzip", "gzip"), ("zstd;q=0, *", "gzip"), ("gzip;q=x", "")],
)
def test_the_clients_word_counts(accept: str, coding: str) -> None:
    assert chosen(accept) == coding


async def raw(workspace: Workspace, path: str, accept: str, *, method: str = "GET", base: str = "") -> tuple[int, dict[str, str], bytes]:
    headers = {"Authorization": f"Bearer {workspace.admin_token}", "Accept-Encoding": accept}
    url = f"{base or workspace.base_url}{path}"
    session = aiohttp.ClientSession(auto_decompress=False)
    async with session, session.request(method, url, headers=headers) as response:
        return response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read()


@pytest.mark.parametrize("format", ["json", "csv", "ndjson"])
@pytest.mark.parametrize("n", [1000, 200_000])
async def test_the_same_bytes_shorter(workspace: Workspace, format: str, n: int) -> None:
    await workspace.deploy(FILES)
    path = f"/v0/pipes/many.{format}?n={n}"
    _, plain_headers, plain = await raw(workspace, path, "identity")
    assert "content-encoding" not in plain_headers and "Accept-Encoding" in plain_headers["vary"]
    for coding, decompress in (("gzip", gzip.decompress), ("zstd", zstd.decompress)):
        status, headers, body = await raw(workspace, path, coding)
        assert (status, headers["content-encoding"]) == (200, coding)
        assert "Accept-Encoding" in headers["vary"] and "Authorization" in headers["vary"]
        assert len(body) < len(plain) / 3
        found = decompress(body)
        assert (len(found), found[-100:]) == (len(plain), plain[-100:]) if format != "json" else found[:50] == plain[:50]


async def test_what_is_not_compressed(workspace: Workspace) -> None:
    """Short answers, errors, Parquet, HEAD, and whatever may hold a token."""
    await workspace.deploy(FILES)
    await workspace.post("/v0/tokens?name=x&scope=PIPES:READ:many")
    for path in ("many.json?n=1", "many.json?n=x", "many.parquet?n=100000", "nope.json"):
        assert "content-encoding" not in (await raw(workspace, f"/v0/pipes/{path}", "gzip"))[1]
    for path in ("/v0/tokens", "/v0/workspace", "/v0/variables"):
        assert "content-encoding" not in (await raw(workspace, path, "gzip"))[1]
    assert "content-encoding" not in (await raw(workspace, "/v0/pipes/many.json?n=1000", "gzip", method="HEAD"))[1]


async def test_a_kept_answer_is_for_both(workspace: Workspace) -> None:
    await workspace.deploy(FILES)
    first = await raw(workspace, "/v0/pipes/kept.csv", "gzip")
    second = await raw(workspace, "/v0/pipes/kept.csv", "identity")
    third = await raw(workspace, "/v0/pipes/kept.csv", "zstd")
    assert gzip.decompress(first[2]) == second[2] == zstd.decompress(third[2])


async def test_half_a_compressed_answer_is_seen_as_half(workspace: Workspace) -> None:
    await workspace.deploy(FILES)
    server = workspace.server
    small = Reader(server.engine, Limits(result_bytes=3_000_000))
    async with listening(app_for(replace(server, reader=small))) as base, aiohttp.ClientSession() as session:
        url = f"{base}/v0/pipes/wide.ndjson?token={workspace.admin_token}"
        for coding in ("gzip", "zstd"):
            seen = b""
            async with session.get(url, headers={"Accept-Encoding": coding}) as response:
                assert response.headers["Content-Encoding"] == coding
                with pytest.raises(aiohttp.ClientPayloadError):
                    async for part in response.content.iter_any():
                        seen += part
            assert seen.endswith(b"__exception__ too_large: The result is larger than 3,000,000 bytes\n")

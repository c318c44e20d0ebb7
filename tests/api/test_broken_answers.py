"""An answer over a limit: an error with its status where nothing was sent yet, else an end that every client sees.

Asked with real clients, of the listener that `pipit serve` runs.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest

from pipit.api.app import app_for
from pipit.api.listen import listening
from pipit.query.limits import Limits
from pipit.query.read import Reader
from pipit.server import Server
from serving import Workspace

pytestmark = pytest.mark.anyio

WIDE = "SELECT number, repeat('x', 1000) AS text FROM numbers({{UInt64(n)}})"
# Rows come as long as it may run.
SLOW = (
    "SELECT number, repeat('x', 100) AS text FROM numbers(1000000000000) WHERE number % {{UInt64(every)}} = 0"
)
PIPES = {
    "pipes/wide.pipe": f"NODE n\nSQL >\n    %\n    {WIDE}\nTYPE endpoint\n",
    "pipes/slow.pipe": f"NODE n\nSQL >\n    %\n    {SLOW}\nTYPE endpoint\n",
}
FORMATS = ("json", "csv", "ndjson", "parquet")


@pytest.fixture(scope="module")
async def limited(server: Server) -> AsyncIterator[str]:
    """The same server with a bound of 3 MB, and time enough on any machine."""
    reader = Reader(server.engine, Limits(seconds=60, result_bytes=3_000_000))
    async with listening(app_for(replace(server, reader=reader))) as url:
        yield url


@pytest.fixture(scope="module")
async def begun(server: Server) -> AsyncIterator[str]:
    """A bound of 80 MB, which the engine's first block of 65,536 rows does not reach: its answer has begun by then."""
    reader = Reader(server.engine, Limits(seconds=60, result_bytes=80_000_000))
    async with listening(app_for(replace(server, reader=reader))) as url:
        yield url


@pytest.fixture(scope="module")
async def brief(server: Server) -> AsyncIterator[str]:
    async with listening(app_for(replace(server, reader=Reader(server.engine, Limits(seconds=3, result_bytes=1 << 40))))) as url:
        yield url


@pytest.fixture
async def token(workspace: Workspace) -> str:
    await workspace.deploy(PIPES)
    return workspace.admin_token


@pytest.mark.parametrize("format", ("json", "csv"))
async def test_an_answer_whose_length_is_known_is_refused_before_its_first_byte(
    limited: str, token: str, format: str
) -> None:
    """The built-in engine does not stream these formats."""
    url = f"{limited}/v0/pipes/wide.{format}?n=100000&token={token}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert (response.status, (await response.json())["code"]) == (413, "too_large")


async def test_what_is_too_large_is_never_half_an_answer(
    begun: str, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{begun}/v0/pipes/wide.ndjson?n=100000&token={token}"
    with caplog.at_level(logging.INFO):
        with pytest.raises(http.client.IncompleteRead) as short:
            await asyncio.to_thread(lambda: urllib.request.urlopen(url).read())
        assert short.value.partial.endswith(b"\n__exception__ too_large: The result is larger than 80,000,000 bytes\n")
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert response.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
    said = [r for r in caplog.records if "broken off" in r.getMessage()]
    assert len(said) == 2 and all("The result is larger" in r.getMessage() for r in said)
    answering = [r for r in caplog.records if r.name.startswith(("pipit.api", "pipit.http", "uvicorn"))]
    assert not [r for r in answering if r.exc_info or "Exception in ASGI" in r.getMessage()]


async def test_the_first_bytes_are_held_until_an_error_can_have_its_status(brief: str, token: str) -> None:
    """What came before the time was over fits into what is held back: 408. More than that: broken off, and said."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{brief}/v0/pipes/slow.json?every=1000000000&token={token}") as response:
            assert response.status == 408, await response.text()
            assert (await response.json())["code"] == "query_timeout"
        async with session.get(f"{brief}/v0/pipes/slow.ndjson?every=1&token={token}") as response:
            assert response.status == 200
            seen = b""
            with pytest.raises(aiohttp.ClientPayloadError):
                async for part in response.content.iter_any():
                    seen += part
    assert seen.endswith(b"\n__exception__ query_timeout: The query took longer than it may\n")


async def test_under_a_policy_every_error_has_its_status(limited: str, workspace: Workspace) -> None:
    """Such an answer is whole before its first byte is sent."""
    await workspace.deploy(
        {
            "datasources/t.datasource": "SCHEMA >\n    customer_id String,\n    text String\n\nENGINE MergeTree\n"
            "ENGINE_SORTING_KEY customer_id\nROW_POLICY >\n    customer_id = {{String(context.customer_id)}}\n",
            "pipes/mine.pipe": "NODE n\nSQL >\n    SELECT repeat(text, 1000) AS text FROM t, numbers(10000) AS m\nTYPE endpoint\n",
        }
    )
    await workspace.send("t", [{"customer_id": "acme", "text": "x"}])
    tenant = workspace.tenant("mine", customer_id="acme")
    async with aiohttp.ClientSession() as session:
        for format in FORMATS:
            async with session.get(f"{limited}/v0/pipes/mine.{format}?token={tenant}") as response:
                assert response.status == 413, await response.text()

"""Time and size limits, and a client that leaves."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest

from pipit.access.params import RequestParams
from pipit.errors import PipitError, QueryTimeout, TooLarge
from pipit.query.formats import JSON, NDJSON, Format
from pipit.query.limits import Limits
from pipit.query.queries import PipeQuery, Read, SqlQuery
from pipit.query.read import Reader
from projects import ROWS, TENANTS
from serving import Workspace

pytestmark = pytest.mark.anyio

ENDLESS = "SELECT sum(sipHash64(number)) AS x FROM numbers(1000000000000)"


async def run(workspace: Workspace, sql: str, limits: Limits, format: Format = JSON) -> bytes:
    snapshot = workspace.server.catalog.snapshot(workspace.id)
    security = workspace.server.authenticator.check(workspace.admin_token, workspace.server.catalog.keyring)
    reader = Reader(workspace.server.engine, limits)
    async with reader.open(Read(snapshot, security, SqlQuery(sql, RequestParams(), format))) as answer:
        return b"".join([chunk async for chunk in answer.chunks])


async def test_too_long(workspace: Workspace) -> None:
    with pytest.raises(QueryTimeout) as caught:
        await run(workspace, ENDLESS, Limits(seconds=1))
    assert caught.value.status == 408
    assert "DB::" not in caught.value.message


@pytest.mark.parametrize("format", [JSON, NDJSON])
async def test_too_large(workspace: Workspace, format: Format) -> None:
    limits = Limits(result_bytes=1_000_000)
    assert await run(workspace, "SELECT number FROM numbers(1000)", limits, format)
    with pytest.raises((TooLarge, PipitError)) as caught:
        await run(workspace, "SELECT number, toString(number) FROM numbers(1000000)", limits, format)
    assert caught.value.status in (400, 413)


async def test_an_error_after_the_first_bytes_is_no_truncated_200(workspace: Workspace) -> None:
    """H08: the client sees a broken answer, not a short one."""
    sql = "SELECT intDiv(1, number - 3000000) AS x FROM numbers(4000000) FORMAT JSONEachRow"
    try:
        reply = await workspace.post("/v0/sql", data=sql.encode())
    except aiohttp.ClientPayloadError:
        return
    assert reply.status == 400, reply.status


async def test_a_client_that_leaves_ends_its_query(workspace: Workspace) -> None:
    """Attack H12."""
    await workspace.deploy(TENANTS)
    marker = f"leaving_{time.time_ns()}"

    async def running() -> int:
        rows = await workspace.server.engine.rows(
            "SELECT count() AS n FROM system.processes WHERE position(query, {marker:String}) > 0 "
            "AND position(query, 'system.processes') = 0",
            {"marker": marker},
        )
        return int(rows[0]["n"])

    async def until(wanted: int) -> None:
        async with asyncio.timeout(8):  # less than the query's own limit
            while await running() != wanted:
                await asyncio.sleep(0.05)

    sql = f"SELECT sum(sipHash64(number)) AS {marker} FROM numbers(1000000000000)".encode()
    request = asyncio.ensure_future(workspace.post("/v0/sql", data=sql))
    await until(1)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await until(0)


async def test_the_bytes_of_the_answer_count_and_not_those_in_the_engines_memory(workspace: Workspace) -> None:
    """A value that stands in every row is kept once."""
    limits = Limits(result_bytes=1_000_000)
    with pytest.raises(TooLarge):
        await run(workspace, "SELECT repeat('x', 1000) AS x FROM numbers(100000)", limits)


async def test_the_bytes_of_an_answer_under_a_filter_count(workspace: Workspace) -> None:
    pipe = "NODE endpoint\nSQL >\n    SELECT repeat('x', 1000) AS x FROM events, numbers(100000)\n\nTYPE endpoint\n"
    await workspace.deploy(TENANTS | {"pipes/wide.pipe": pipe})
    await workspace.send("events", ROWS)
    server = workspace.server
    snapshot = server.catalog.snapshot(workspace.id)
    security = server.authenticator.check(workspace.tenant("wide", customer_id="a"), server.catalog.keyring)
    reader = Reader(server.engine, Limits(result_bytes=1_000_000))
    with pytest.raises(TooLarge):
        async with reader.open(Read(snapshot, security, PipeQuery("wide", RequestParams(), JSON))):
            pass


async def test_a_huge_answer_over_http_is_refused_or_broken_off(workspace: Workspace) -> None:
    sql = b"SELECT repeat('x', 1000) AS x FROM numbers(1000000) FORMAT JSON"
    try:
        reply = await workspace.post("/v0/sql", data=sql)
    except aiohttp.ClientPayloadError:
        return
    assert reply.status == 413, reply.status

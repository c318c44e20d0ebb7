"""A plan is what would run, and making one changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from pipit.access.context import SecurityContext, TokenKind
from pipit.access.params import RequestParams
from pipit.catalog.services import PIPE_STATS_RT
from pipit.errors import Forbidden, SqlError
from pipit.query.formats import JSON
from pipit.query.queries import PipeQuery, Read, SqlQuery, copy_query
from projects import ROWS, TENANTS
from serving import Workspace

pytestmark = pytest.mark.anyio


async def tables(workspace: Workspace) -> int:
    sql = "SELECT count() AS n FROM system.tables WHERE database = {database:String}"
    (row,) = await workspace.server.engine.rows(sql, {"database": workspace.database})
    return int(row["n"])


def admin(workspace: Workspace, query: Any) -> Read:
    snapshot = workspace.server.catalog.snapshot(workspace.id)
    return Read(snapshot, SecurityContext(workspace.id, TokenKind.ADMIN, "admin"), query)


async def test_a_plan_makes_no_table(workspace: Workspace) -> None:
    """Not the service tables either: those are made when a read of them runs."""
    await workspace.deploy(TENANTS)
    reader = workspace.server.reader
    read = admin(workspace, SqlQuery(f"SELECT count() AS n FROM {PIPE_STATS_RT.name}", RequestParams(), JSON))
    before = await tables(workspace)
    with pytest.raises(SqlError):
        await reader.plan(read)
    assert await tables(workspace) == before
    async with reader.open(read) as answer:
        assert b'"n": 0' in b"".join([chunk async for chunk in answer.chunks])
    assert await tables(workspace) > before


async def test_the_same_read_has_the_same_plan(workspace: Workspace) -> None:
    await workspace.deploy(TENANTS)
    await workspace.send("events", ROWS)
    reader = workspace.server.reader
    read = admin(workspace, PipeQuery("latest", RequestParams(), JSON))
    assert await reader.plan(read) == await reader.plan(read)


async def test_a_tenant_reads_nothing_as_a_job(workspace: Workspace) -> None:
    """A job reads as the workspace. Whoever hands a tenant's token to its query is refused."""
    await workspace.deploy(TENANTS)
    snapshot = workspace.server.catalog.snapshot(workspace.id)
    pipe = snapshot.pipes["latest"]
    tenant = SecurityContext(workspace.id, TokenKind.JWT, "t", context={"customer_id": "a"})
    query = copy_query("latest", pipe.result.name, {}, job_timestamp="2026-01-01 00:00:00")
    with pytest.raises(Forbidden):
        await workspace.server.reader.plan(Read(snapshot, tenant, query))

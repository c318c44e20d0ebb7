"""A table's rows are replaced in one step, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

import pytest

from pipit.catalog.snapshot import Table, staging_of
from pipit.errors import Conflict
from pipit.tables.staging import replace
from projects import TENANTS, event
from serving import Workspace

pytestmark = pytest.mark.anyio


@pytest.fixture
async def target(workspace: Workspace) -> Table:
    await workspace.deploy(TENANTS)
    await workspace.send("events", [event("a", 1), event("a", 2)])
    return workspace.server.catalog.snapshot(workspace.id).tables["events"]


async def rows(workspace: Workspace, table: str) -> int:
    found = await workspace.server.engine.rows(f"SELECT count() AS n FROM {workspace.database}.{table}")
    return int(found[0]["n"])


async def names(workspace: Workspace) -> set[str]:
    sql = "SELECT name FROM system.tables WHERE database = {database:String}"
    return {row["name"] for row in await workspace.server.engine.rows(sql, {"database": workspace.database})}


async def insert(workspace: Workspace, target: Table, physical: str, n: int) -> int:
    where = f"{workspace.database}.{physical}"
    select = f"SELECT * FROM {workspace.database}.{target.physical} LIMIT 1"
    await workspace.server.engine.command(f"INSERT INTO {where} SELECT t.* FROM ({select}) AS t, numbers({n})")
    return n


async def test_new_rows_take_the_place_of_the_old_ones(workspace: Workspace, target: Table) -> None:
    seen: list[int] = []

    async def write(physical: str) -> int:
        assert physical == staging_of(target.physical)
        written = await insert(workspace, target, physical, 3)
        seen.append(await rows(workspace, target.physical))
        return written

    assert await replace(workspace.server.engine, target, write, nullcontext) == 3
    assert seen == [2], "readers have the old rows until then"
    assert await rows(workspace, target.physical) == 3
    assert staging_of(target.physical) not in await names(workspace)


async def test_what_fails_leaves_the_old_rows(workspace: Workspace, target: Table) -> None:
    async def write(physical: str) -> int:
        await insert(workspace, target, physical, 3)
        raise RuntimeError("it broke")

    with pytest.raises(RuntimeError, match="it broke"):
        await replace(workspace.server.engine, target, write, nullcontext)
    assert await rows(workspace, target.physical) == 2
    assert staging_of(target.physical) not in await names(workspace)


@pytest.mark.parametrize("changes", [1, 99])
async def test_a_column_that_comes_meanwhile_is_not_lost(workspace: Workspace, target: Table, changes: int) -> None:
    """The rows are prepared again, with it; not for ever."""
    made = 0

    @asynccontextmanager
    async def altering() -> AsyncIterator[None]:
        nonlocal made
        if made < changes:
            made += 1
            table = f"{workspace.database}.{target.physical}"
            await workspace.server.engine.command(f"ALTER TABLE {table} ADD COLUMN new_{made} UInt8")
        yield

    async def write(physical: str) -> int:
        return await insert(workspace, target, physical, 3)

    if changes > 1:
        with pytest.raises(Conflict):
            await replace(workspace.server.engine, target, write, altering)
        assert await rows(workspace, target.physical) == 2
    else:
        assert await replace(workspace.server.engine, target, write, altering) == 3
        assert (await rows(workspace, target.physical), made) == (3, 1)
    assert staging_of(target.physical) not in await names(workspace)

"""A file in the place of a data source's rows: all of them, or those of a condition, and what views make of them."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from serving import Reply, Workspace

pytestmark = pytest.mark.anyio

TABLE = "SCHEMA >\n    day Date,\n    k String,\n    n Int32\n\nENGINE MergeTree\nENGINE_PARTITION_KEY day\nENGINE_SORTING_KEY k\n"
DAILY = "SCHEMA >\n    day Date,\n    total Int64\n\nENGINE SummingMergeTree\nENGINE_SORTING_KEY day\n"
KEYS = "SCHEMA >\n    k String,\n    total Int64\n\nENGINE SummingMergeTree\nENGINE_SORTING_KEY k\n"
FILES = {"datasources/t.datasource": TABLE, "datasources/daily.datasource": DAILY, "pipes/v.pipe": ""}


def view(sql: str, target: str) -> str:
    return f"NODE made\nSQL >\n    {sql}\nTYPE materialized\nDATASOURCE {target}\n"


FILES["pipes/v.pipe"] = view("SELECT day, toInt64(sum(n)) AS total FROM t GROUP BY day", "daily")
FIRST = b"2026-01-01,a,1\n2026-01-01,b,2\n2026-01-02,c,4\n"


async def sql(workspace: Workspace, query: str) -> list[dict[str, Any]]:
    return await workspace.rows(f"/v0/sql?q={quote(query + ' FORMAT JSON')}")


async def keys(workspace: Workspace) -> str:
    return "".join(row["k"] for row in await sql(workspace, "SELECT k FROM t ORDER BY k"))


async def daily(workspace: Workspace) -> dict[str, int]:
    rows = await sql(workspace, "SELECT toString(day) AS d, sum(total) AS total FROM daily GROUP BY d ORDER BY d")
    return {row["d"]: row["total"] for row in rows}


async def put(workspace: Workspace, body: bytes, more: str = "&mode=append") -> Reply:
    return await workspace.post(f"/v0/datasources?name=t&format=csv{more}", data=body)


@pytest.fixture
async def project(workspace: Workspace) -> Workspace:
    await workspace.deploy(FILES)
    assert (await put(workspace, FIRST)).json["successful_rows"] == 3
    return workspace


async def test_all_rows_are_replaced_and_those_of_views_with_them(project: Workspace) -> None:
    reply = await put(project, b"2026-01-05,x,10\n2026-01-05,y,bad\n", "&mode=replace")
    assert reply.status == 200, reply.text
    assert (reply.json["successful_rows"], reply.json["quarantine_rows"]) == (1, 1)
    assert await keys(project) == "x"
    assert await daily(project) == {"2026-01-05": 10}
    await project.send("t", [{"day": "2026-01-06", "k": "z", "n": 1}])
    assert await daily(project) == {"2026-01-05": 10, "2026-01-06": 1}, "the view goes on"
    tables = await project.server.engine.rows("SELECT name FROM system.tables WHERE database = {d:String} AND name LIKE 'x1%'", {"d": project.database})
    assert tables == []


async def test_an_empty_file_leaves_an_empty_table(project: Workspace) -> None:
    assert (await put(project, b"", "&mode=replace")).json["successful_rows"] == 0
    assert (await keys(project), await daily(project)) == ("", {})


async def test_rows_of_a_condition_are_replaced_and_the_others_stay(project: Workspace) -> None:
    condition = quote("day = '2026-01-01'")
    reply = await put(project, b"2026-01-01,d,8\n2026-01-09,e,16\n", f"&mode=replace&replace_condition={condition}")
    assert reply.status == 200, reply.text
    assert reply.json["successful_rows"] == 1
    assert await keys(project) == "cd", "a row of the file that the condition does not name stays out"
    assert await daily(project) == {"2026-01-01": 8, "2026-01-02": 4}


async def test_a_condition_that_a_views_target_cannot_follow_is_refused(workspace: Workspace) -> None:
    await workspace.deploy({**FILES, "datasources/keys.datasource": KEYS, "pipes/w.pipe": view("SELECT k, toInt64(n) AS total FROM t", "keys")})
    await put(workspace, FIRST)
    path = f"&mode=replace&replace_condition={quote('day = toDate(20454)')}"
    reply = await put(workspace, b"2026-01-01,d,8\n", path)
    assert (reply.status, await keys(workspace)) == (400, "abc"), reply.text
    assert "'keys'" in reply.json["error"]
    reply = await put(workspace, b"2026-01-01,d,8\n", path + "&skip_incompatible_partition_key=true")
    assert (reply.status, await keys(workspace)) == (200, "cd"), reply.text


@pytest.mark.parametrize("condition", ["1) OR (1", "n IN (SELECT n FROM t)", "nothing = 1", "sleep(1)"])
async def test_a_condition_is_one_expression_over_the_tables_columns(project: Workspace, condition: str) -> None:
    reply = await put(project, FIRST, f"&mode=replace&replace_condition={quote(condition)}")
    assert (reply.status, await keys(project)) == (400, "abc"), reply.text
    assert list((project.server.config.data_dir / "files").iterdir()) == []


async def test_readers_see_the_old_rows_or_the_new_ones(project: Workspace) -> None:
    seen: set[int] = set()
    over = asyncio.Event()

    async def read() -> None:
        while not over.is_set():
            (row,) = await sql(project, "SELECT count() AS n FROM t")
            seen.add(row["n"])

    readers = [asyncio.create_task(read()) for _ in range(3)]
    try:
        for n in (1000, 2000, 1000):
            body = "".join(f"2026-01-0{i % 5 + 1},k{i},1\n" for i in range(n)).encode()
            assert (await put(project, body, "&mode=replace")).json["successful_rows"] == n
    finally:
        over.set()
        await asyncio.gather(*readers)
    assert seen <= {3, 1000, 2000} and len(seen) > 1

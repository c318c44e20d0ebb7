"""The panel's statements are in the project's own names."""

from __future__ import annotations

from typing import Any

import pytest

from pipit.api.explain import explained, pipe_query
from pipit.api.requests import viewer_of
from pipit.demo.readable import readable
from pipit.query.queries import Read
from serving import Workspace

pytestmark = pytest.mark.anyio

TABLE = "SCHEMA >\n    `tenant` String `json:$.tenant`,\n    `data` JSON `json:$.data`\n\nENGINE MergeTree\nENGINE_SORTING_KEY tenant\n\nROW_POLICY >\n    tenant = {{String(context.tenant)}}\n"
FILES = {
    "datasources/sales.datasource": TABLE,
    "datasources/sales_2.datasource": TABLE,
    "pipes/top.pipe": "NODE first\nSQL >\n    SELECT tenant FROM sales\n\nNODE top_1\nSQL >\n    SELECT count() AS n FROM first\n\nTYPE endpoint\n",
    "pipes/over.pipe": "NODE a_1\nSQL >\n    SELECT s.tenant FROM sales_2 AS s JOIN sales USING tenant\n\n"
    "NODE n\nSQL >\n    SELECT n FROM top, a_1\n\nTYPE endpoint\n",
}


async def plan_of(workspace: Workspace, pipe: str) -> dict[str, Any]:
    await workspace.deploy(FILES)
    viewer, snapshot = viewer_of(workspace.server, workspace.tenant(pipe, tenant="a"))
    plan = await workspace.server.reader.plan(Read(snapshot, viewer, pipe_query(snapshot, pipe, [])))
    return readable(explained(plan), pipe)


@pytest.mark.parametrize("pipe", ["top", "over"])
async def test_no_name_is_one_that_nobody_wrote(workspace: Workspace, pipe: str) -> None:
    plan = await plan_of(workspace, pipe)
    assert workspace.database not in plan["sql"] and "d1_" not in plan["sql"], plan["sql"]
    assert "`_" not in plan["sql"], plan["sql"]
    assert set(plan["filters"]) == ({"sales"} if pipe == "top" else {"sales", "sales_2"})


async def test_the_nodes_have_their_own_names(workspace: Workspace) -> None:
    sql = (await plan_of(workspace, "over"))["sql"]
    for name in ("top AS (", "first AS (", "a_1 AS (", "FROM first", "FROM sales_2 AS s", "FROM top, a_1"):
        assert name in sql, sql


def test_two_nodes_of_one_name_are_told_apart() -> None:
    sql = "WITH `_1_a_n` AS (SELECT 1), `_1_b_n` AS (SELECT 2), `_1_c_m` AS (SELECT 3) SELECT * FROM `_1_a_n`, `_1_b_n`, `_1_c_m`"
    shown = readable({"sql": sql, "tables": {}, "filters": {}}, "a")["sql"]
    assert shown == "WITH n AS (SELECT 1), b AS (SELECT 2), c AS (SELECT 3) SELECT * FROM n, b, c"
    shown = readable({"sql": sql.replace("_1_c_m", "_1_n_m"), "tables": {}, "filters": {}}, "a")["sql"]
    assert shown.startswith("WITH `a.n` AS (SELECT 1), b AS (SELECT 2), `n.m` AS (SELECT 3)")

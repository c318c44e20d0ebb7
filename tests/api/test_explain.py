"""POST /v1/explain: what would run, for whom, told to admins only and never run."""

from __future__ import annotations

import pytest

from serving import Workspace

pytestmark = pytest.mark.anyio

FILES = {
    "datasources/sales.datasource": (
        "SCHEMA >\n    `tenant` String `json:$.tenant`,\n    `amount` Int32 `json:$.amount`\n\n"
        "ENGINE MergeTree\nENGINE_SORTING_KEY tenant\n\nROW_POLICY >\n    tenant = {{String(context.tenant)}}\n"
    ),
    "pipes/totals.pipe": (
        "NODE endpoint\nSQL >\n    %\n    SELECT sum(amount) AS total FROM sales WHERE amount > {{Int32(least, 0)}}\n\n"
        "TYPE endpoint\n"
    ),
}


async def test_an_admin_sees_a_tenants_plan(workspace: Workspace) -> None:
    await workspace.deploy(FILES)
    asked = {"pipe": "totals", "parameters": [["least", "987654"]]}
    reply = await workspace.post("/v1/explain", json=asked | {"token": workspace.tenant("totals", tenant="it's")})
    assert reply.status == 200, reply.text
    plan = reply.json
    table = f"{workspace.database}.d1_sales"
    assert plan["tables"] == {table: "sales"}
    assert set(plan["filters"]) == {table} and "'it\\'s'" in plan["filters"][table]
    assert list(plan["parameters"].values()) == [987654] and "987654" not in plan["sql"]
    assert plan["settings"]["readonly"] == 1 and "additional_table_filters" not in plan["settings"]
    assert plan["as"] == {"kind": "jwt", "name": "tenant"}

    reply = await workspace.post("/v1/explain", json=asked)
    assert reply.json["filters"] == {} and reply.json["as"]["kind"] == "admin"


async def test_nobody_else_sees_one(workspace: Workspace) -> None:
    await workspace.deploy(FILES)
    tenant = workspace.tenant("totals", tenant="a")
    reply = await workspace.post("/v1/explain", json={"pipe": "totals"}, token=tenant)
    assert reply.status == 403 and "sales" not in reply.text
    other = await workspace.server.catalog.create_workspace(f"{workspace.name}_other")
    reply = await workspace.post("/v1/explain", json={"pipe": "totals", "token": other.admin_token})
    assert reply.status == 403


async def test_what_a_tenants_read_would_be_refused_for_is_said(workspace: Workspace) -> None:
    await workspace.deploy(FILES)
    for asked, status in (
        ({"pipe": "totals", "token": workspace.tenant("totals")}, 403),  # the policy needs context.tenant
        ({"pipe": "totals", "token": "nonsense"}, 403),
        ({"pipe": "nothing"}, 404),
        ({"pipe": "totals", "parameters": [["least", "many"]]}, 400),
        ({"pipes": "totals"}, 400),
    ):
        reply = await workspace.post("/v1/explain", json=asked)
        assert reply.status == status, (asked, reply.text)
        assert reply.json["error"] and reply.json["code"]


async def test_a_token_that_names_ids_is_explained_as_it_is_served(workspace: Workspace) -> None:
    await workspace.deploy(FILES)
    id = (await workspace.get("/v0/pipes/totals")).json["id"]
    token = workspace.tenant(id, tenant="a")
    assert (await workspace.get("/v0/pipes/totals.json", token=token)).status == 200
    reply = await workspace.post("/v1/explain", json={"pipe": id, "token": token})
    assert reply.status == 200 and reply.json["as"] == {"kind": "jwt", "name": "tenant"}, reply.text


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT amount FROM sales ORDER amount", "at `amount`, position 32"),
        ("SELECT amount FROM sales WHERE tenant = '' AND AND 1", "at `1`, position 52"),
        ("SELECT 'ä' AS a\nFROM sales\nORDER a", "at `a`, position 34"),
        ("SELECT total FROM totals GROUP total", "at `total`, position 32"),
        ("SELECT amount FROM sales WHERE", "at the end of the query"),
    ],
)
async def test_a_syntax_error_of_ones_own_sql_has_its_place_there(workspace: Workspace, sql: str, said: str) -> None:
    """Not in the statement that is sent to the engine, which nobody sees."""
    await workspace.deploy(FILES)
    reply = await workspace.post("/v0/sql", data=sql)
    assert reply.status == 400 and f"Syntax error: cannot be read {said} (SYNTAX_ERROR)" in reply.text, reply.text
    assert "d1_" not in reply.text and "failed at" not in reply.text

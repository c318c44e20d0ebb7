"""`ROW_POLICY none REASON '...'` and `require_policies`: nothing is for every tenant by leaving something out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipit.catalog.state import WorkspaceSettings
from pipit.errors import ProjectError
from projects import BY_PARAM, DAILY, EVENTS, ROWS, TENANTS, TOTALS, column
from serving import Workspace

pytestmark = pytest.mark.anyio

FOR_ALL = DAILY + "\nROW_POLICY none REASON 'counts per day, published on our page'\n"
REQUIRED = WorkspaceSettings(require_policies=True)
BARE = EVENTS.split("ROW_POLICY >")[0]


async def require(workspace: Workspace) -> None:
    reply = await workspace.request("PUT", "/v0/workspace/settings", json={"require_policies": True})
    assert reply.status == 200, reply.text


async def test_a_target_that_says_it_is_for_all_is_for_all(workspace: Workspace) -> None:
    """The very table that check (a) refuses without a statement."""
    await workspace.deploy(TENANTS | {"datasources/daily.datasource": FOR_ALL})
    await workspace.send("events", ROWS)
    token = workspace.tenant("totals", customer_id="a")
    assert column(await workspace.rows("/v0/pipes/totals.json", token=token), "customer_id") == ["a", "b"]
    # Its author spoke for this table only: what is made from it has to speak for itself.
    monthly = DAILY.replace("day Date", "month Date").replace("customer_id, day", "customer_id, month")
    view = (
        "NODE roll\nSQL >\n    SELECT toStartOfMonth(day) AS month, customer_id, countMergeState(events) AS events\n"
        "    FROM daily GROUP BY month, customer_id\nTYPE materialized\nDATASOURCE monthly\n"
    )
    await workspace.deploy(
        TENANTS
        | {"datasources/daily.datasource": FOR_ALL, "datasources/monthly.datasource": monthly}
        | {"materializations/monthly_view.pipe": view, "endpoints/totals.pipe": TOTALS.replace("daily", "monthly")}
    )
    assert (await workspace.get("/v0/pipes/totals.json", token=token)).status == 403


async def test_none_does_not_take_a_tokens_filter_away(workspace: Workspace) -> None:
    await workspace.deploy(TENANTS | {"datasources/daily.datasource": FOR_ALL})
    await workspace.send("events", ROWS)
    token = workspace.jwt(
        {"type": "PIPES:READ", "resource": "totals"},
        {"type": "DATASOURCES:READ", "resource": "daily", "filter": "customer_id = 'b'"},
    )
    assert column(await workspace.rows("/v0/pipes/totals.json", token=token), "customer_id") == ["b"]


async def test_none_does_not_open_the_quarantine(workspace: Workspace) -> None:
    read = "NODE e\nSQL >\n    SELECT * FROM daily_quarantine\nTYPE endpoint\n"
    await workspace.deploy(TENANTS | {"datasources/daily.datasource": FOR_ALL, "endpoints/bad.pipe": read})
    reply = await workspace.get("/v0/pipes/bad.json", token=workspace.tenant("bad", customer_id="a"))
    assert (reply.status, reply.json["code"]) == (403, "read_refused")


async def test_from_a_policy_to_none_is_a_removal(workspace: Workspace) -> None:
    await workspace.deploy(TENANTS)
    with pytest.raises(ProjectError, match="ROW_POLICY of 'daily' is removed"):
        await workspace.deploy(TENANTS | {"datasources/daily.datasource": FOR_ALL})
    await workspace.deploy(TENANTS | {"datasources/daily.datasource": FOR_ALL}, allow_destructive=True)


async def test_a_deploy_names_each_table_that_says_nothing(workspace: Workspace) -> None:
    """Attack J11. Through pipes (`chained` reads `latest`), templates and views' targets; a table that nobody reaches may
    be bare."""
    await require(workspace)
    files = TENANTS | {"datasources/events.datasource": BARE, "datasources/daily.datasource": DAILY}
    files |= {"datasources/unread.datasource": DAILY}
    with pytest.raises(ProjectError) as caught:
        await workspace.deploy(files)
    messages = [(error.file, error.line, error.message.split(",")[0]) for error in caught.value.errors]
    assert messages == [
        ("datasources/daily.datasource", 1, "'daily' has no ROW_POLICY"),
        ("datasources/events.datasource", 1, "'events' has no ROW_POLICY"),
    ]
    files |= {"datasources/events.datasource": EVENTS, "datasources/daily.datasource": FOR_ALL}
    await workspace.deploy(files)


async def test_a_quarantine_is_reached_too(workspace: Workspace) -> None:
    await require(workspace)
    read = "NODE e\nSQL >\n    SELECT * FROM events_quarantine\nTYPE endpoint\n"
    with pytest.raises(ProjectError, match="'events' has no ROW_POLICY"):
        await workspace.deploy({"datasources/events.datasource": BARE, "endpoints/bad.pipe": read})


async def test_with_tenant_sql_every_table_is_reached(workspace: Workspace) -> None:
    await require(workspace)
    await workspace.deploy({"datasources/events.datasource": BARE})
    reply = await workspace.request("PUT", "/v0/workspace/settings", json={"tenant_sql": True})
    assert reply.status == 400 and "events" in reply.text and "tenant SQL" in reply.text
    assert not workspace.server.catalog.snapshot(workspace.id).workspace.settings.tenant_sql


async def test_it_cannot_be_turned_on_over_what_is_deployed(workspace: Workspace) -> None:
    await workspace.deploy(TENANTS | {"datasources/daily.datasource": DAILY})
    reply = await workspace.request("PUT", "/v0/workspace/settings", json={"require_policies": True})
    assert reply.status == 400
    assert [error["filename"] for error in reply.json["errors"]] == ["datasources/daily.datasource"]
    assert not (await workspace.get("/v0/workspace/settings")).json["require_policies"]
    await workspace.deploy(TENANTS)
    await require(workspace)


async def test_a_read_is_refused_where_a_deploy_was_not(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The setting came to a project that was live before; a filter of the token's is no statement of the table's."""
    await workspace.deploy(
        {"datasources/events.datasource": BARE, "endpoints/by_param.pipe": BY_PARAM}
    )
    await workspace.send("events", ROWS)
    fixed = {"type": "PIPES:READ", "resource": "by_param", "fixed_params": {"customer_id": "a"}}
    token = workspace.jwt(fixed, {"type": "DATASOURCES:READ", "resource": "events", "filter": "customer_id = 'a'"})
    assert len(await workspace.rows("/v0/pipes/by_param.json", token=token)) == 3
    monkeypatch.setattr("pipit.catalog.catalog.unpoliced_tables", lambda _: ())
    await require(workspace)
    for jwt in (token, workspace.jwt(fixed)):
        reply = await workspace.get("/v0/pipes/by_param.json", token=jwt)
        assert (reply.status, reply.json["code"]) == (403, "read_refused")
    assert len(await workspace.rows("/v0/pipes/by_param.json?customer_id=a")) == 3


async def test_the_documented_policies_deploy(workspace: Workspace) -> None:
    """docs/policies.md: its first block is a whole data source, its second one line."""
    text = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```\n", text, re.MULTILINE | re.DOTALL)
    whole, line = (block for language, block in blocks if not language)
    read = "NODE e\nSQL >\n    SELECT customer_id, team FROM {} ORDER BY team\nTYPE endpoint\n"
    await workspace.deploy(
        {
            "datasources/events.datasource": whole,
            "datasources/free.datasource": BARE + line,
            "endpoints/confined.pipe": read.format("events"),
            "endpoints/open.pipe": read.format("free"),
        }
    )
    row = {"timestamp": "2026-11-01 10:00:00", "action": "x", "amount": 1, "region": "eu"}
    rows = [row | {"customer_id": c, "team": t} for c in ("a", "b") for t in ("t1", "t2")]
    for name in ("events", "free"):
        await workspace.send(name, rows)
    token = workspace.tenant("confined", "open", customer_id="a", regions=["eu"], team="t2")
    assert await workspace.rows("/v0/pipes/confined.json", token=token) == [{"customer_id": "a", "team": "t2"}]
    assert len(await workspace.rows("/v0/pipes/open.json", token=token)) == 4
    refused = await workspace.get("/v0/pipes/confined.json", token=workspace.tenant("confined", customer_id="a"))
    assert refused.status == 403 and "regions" in refused.json["error"]


async def test_service_tables_are_not_the_projects_to_police(workspace: Workspace) -> None:
    stats = "NODE n\nSQL >\n    SELECT count() AS n FROM tinybird.pipe_stats_rt\nTYPE endpoint\n"
    await workspace.deploy(TENANTS | {"datasources/daily.datasource": FOR_ALL, "endpoints/stats.pipe": stats})
    await require(workspace)
    await workspace.deploy(TENANTS | {"datasources/daily.datasource": FOR_ALL, "endpoints/stats.pipe": stats + "\n"})
    assert (await workspace.get("/v0/pipes/stats.json")).status == 200
    assert (await workspace.get("/v0/pipes/stats.json", token=workspace.tenant("stats", customer_id="a"))).status == 403

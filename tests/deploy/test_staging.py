"""Deployments as things: one that waits, is looked at, promoted, discarded; one that is gone back to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest

from deploy.test_generations import _EVENTS, BASE, REBUILDS, assert_holds, changed, objects, send, sent
from pipit.catalog.catalog import Catalog
from pipit.deploy import execute
from pipit.deploy.alterations import ModifyColumn, ModifyTtl
from pipit.deploy.plan import DeployRefused
from pipit.errors import Conflict, NotFound, Reason, SqlError
from serving import Workspace

pytestmark = pytest.mark.anyio

STAGING = "?__tb__deployment=staging"


def form(files: Mapping[str, str]) -> aiohttp.FormData:
    data = aiohttp.FormData()
    for name, text in files.items():
        data.add_field("data_project://", text.encode(), filename=name, content_type="text/plain")
    return data


async def listed(workspace: Workspace, query: str = "") -> list[tuple[str, str, bool]]:
    reply = await workspace.get(f"/v1/deployments{query}")
    return [(one["id"], one["state"], one["live"]) for one in reply.json["deployments"]]


async def test_the_protocol(workspace: Workspace) -> None:
    """What clients of the dialect send, from a deploy without promotion to the old deployment's end."""
    first = await workspace.post("/v1/deploy?auto_promote=true", data=form(BASE))
    assert first.json["deployment"]["live"] and first.json["deployment"]["id"] == "1"
    await send(workspace, 0, 10)
    made = await workspace.post("/v1/deploy", data=form(REBUILDS["type"][0]))
    found = made.json["deployment"]
    assert (made.json["result"], found["id"], found["status"], found["live"]) == ("success", "2", "data_ready", False)
    assert {m["datasource_name"] for m in found["data_movements"]} == {"events", "daily", "monthly"}
    assert await listed(workspace) == [("1", "live", True), ("2", "data_ready", False)]
    one = (await workspace.get("/v1/deployments/2")).json["deployment"]
    assert (one["status"], one["live"]) == ("data_ready", False)
    refused = await workspace.post("/v1/deploy?auto_promote=true", data=form(BASE))
    assert (refused.status, refused.json["reason"]) == (409, "deployment_waits") and "2" in refused.json["error"]
    live = (await workspace.post("/v1/deployments/2/set-live")).json["deployment"]
    assert (live["id"], live["live"]) == ("2", True)
    # The old one is deleted, as clients see it, and kept.
    assert (await workspace.request("DELETE", "/v1/deployments/1")).json["deployment"]["status"] == "deleted"
    assert (await workspace.get("/v1/deployments/1")).json["deployment"]["status"] == "deleted"
    assert await listed(workspace) == [("2", "live", True)]
    assert await listed(workspace, "?kept=true") == [("1", "previous", False), ("2", "live", True)]
    await send(workspace, 10, 12)
    assert (await workspace.post("/v1/deployments/rollback")).json["deployment"]["id"] == "1"
    await assert_holds(workspace, 12)
    assert (await workspace.request("DELETE", "/v1/deployments/2?previous=true")).json["deployment"]["status"] == "deleted"
    assert await listed(workspace, "?kept=true") == [("1", "live", True)]
    assert [state for _, state, _ in await listed(workspace, "?include_deleted=true")] == ["discarded", "live"]
    assert (await workspace.request("DELETE", "/v1/deployments/1")).status == 409
    assert (await workspace.get("/v1/deployments/7")).status == 404
    assert (await workspace.get("/v1/deployments/x")).status == 404


async def test_what_waits_is_read_under_the_same_filters(workspace: Workspace) -> None:
    await workspace.deploy(BASE)
    await send(workspace, 0, 10)
    files = BASE | {"endpoints/landed.pipe": BASE["endpoints/landed.pipe"].replace("AS code, ", "AS code, 'new' AS fresh, ")}
    await workspace.deploy(changed(_EVENTS, ("`code` String", "`code` UInt32")) | {"endpoints/landed.pipe": files["endpoints/landed.pipe"]}, promote=False)
    await send(workspace, 10, 14)

    async def rows(token: str = "admin") -> list[Any]:
        return await workspace.rows(f"/v0/pipes/landed.json{STAGING}", token=token)

    async def complete() -> bool:
        return len(await rows()) == 14

    for _ in range(100):
        if await complete():
            break
    assert await complete() and "fresh" in (await rows())[0]
    assert "fresh" not in (await workspace.rows("/v0/pipes/landed.json"))[0]
    claims = {"type": "PIPES:READ", "resource": "landed"}
    told = workspace.jwt(claims, context={"customer_id": "a"}, deployment="staging")
    untold = workspace.jwt(claims, context={"customer_id": "a"})
    assert {r["customer_id"] for r in await rows(told)} == {"a"} and "fresh" in (await rows(told))[0]
    assert {r["customer_id"] for r in await rows(untold)} == {"a"} and "fresh" not in (await rows(untold))[0]
    other = workspace.jwt(claims, context={"customer_id": "a"}, deployment="next")
    assert (await workspace.get(f"/v0/pipes/landed.json{STAGING}", token=other)).status == 403
    sql = "/v0/sql?q=SELECT+toTypeName(code)+AS+t+FROM+events+LIMIT+1+FORMAT+JSON"
    assert await workspace.rows(sql) == [{"t": "String"}]
    assert await workspace.rows(sql + "&" + STAGING[1:]) == [{"t": "UInt32"}]
    await workspace.server.deployer.discard(workspace.id, 2)
    assert "fresh" not in (await rows())[0]
    assert not [name for name in await objects(workspace) if "2_" in name]
    assert (await workspace.deploy(BASE)).result == "no_changes"


async def test_promoted_with_every_event(workspace: Workspace) -> None:
    await workspace.deploy(BASE)
    await send(workspace, 0, 10)
    await workspace.deploy(REBUILDS["a FORWARD_QUERY"][0], promote=False)
    await send(workspace, 10, 20)
    await workspace.server.deployer.promote(workspace.id, 2)
    await assert_holds(workspace, 20)
    with pytest.raises(NotFound):
        await workspace.server.deployer.promote(workspace.id, 9)
    with pytest.raises(Conflict):
        await workspace.server.deployer.discard(workspace.id, 2)


async def test_environments_follow(workspace: Workspace) -> None:
    await workspace.deploy(BASE)
    await workspace.server.deployer.add_environment(workspace.id, "acme")
    token = workspace.jwt(
        {"type": "PIPES:READ", "resource": "landed"}, context={"customer_id": "a"}, environment="acme"
    )
    live = workspace.server.catalog.snapshot(workspace.id, "acme")
    assert live.deployment == 1
    await workspace.deploy(REBUILDS["type"][0], promote=False)
    assert workspace.server.catalog.snapshot(workspace.id, "acme").deployment == 1
    assert workspace.server.catalog.staging(workspace.id, "acme").deployment == 2
    outcomes = await workspace.server.deployer.promote(workspace.id, 2)
    assert [(o.name, o.result, o.deployment) for o in outcomes] == [("acme", "success", 2)]
    outcomes = await workspace.server.deployer.rollback(workspace.id)
    assert [(o.name, o.result, o.deployment) for o in outcomes] == [("acme", "success", 1)]
    assert workspace.server.catalog.snapshot(workspace.id, "acme").tables["events"].physical == "d1_events"
    assert await workspace.rows("/v0/pipes/landed.json", token=token) == []
    await workspace.server.deployer.discard(workspace.id, 2)
    assert workspace.server.catalog.beside(workspace.id, "acme").previous is None


async def test_what_is_kept_is_there_after_a_restart(workspace: Workspace) -> None:
    await workspace.deploy(BASE)
    await send(workspace, 0, 4)
    await workspace.deploy(REBUILDS["type"][0])
    await workspace.deploy(REBUILDS["sorting key"][0] | {"endpoints/landed.pipe": BASE["endpoints/landed.pipe"]}, promote=False)
    restarted = Catalog(workspace.server.engine, workspace.server.config.admin_token)
    await restarted.load()
    for catalog in (workspace.server.catalog, restarted):
        beside = catalog.beside(workspace.id)
        assert beside.previous and beside.previous.snapshot.tables["events"].physical == "d1_events"
        assert beside.staging and beside.staging.row.id == 3
        assert catalog.snapshot(workspace.id).deployment == 2
    before = await objects(workspace)
    await workspace.server.deployer.clean_up()
    assert await objects(workspace) == before


async def test_a_fill_that_fails_leaves_nothing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    await workspace.deploy(BASE)
    await send(workspace, 0, 10)
    before = await objects(workspace)
    command = workspace.server.engine.command

    async def failing(sql: str, *args: Any, **options: Any) -> None:
        if sql.startswith("INSERT INTO") and "x4_d2_events" in sql:
            raise SqlError("no")
        await command(sql, *args, **options)

    monkeypatch.setattr(workspace.server.engine, "command", failing)
    reply = await workspace.post("/v1/deploy?auto_promote=true", data=form(REBUILDS["type"][0]))
    assert reply.status == 400 and reply.json["result"] == "failed", reply.text
    monkeypatch.undo()
    assert await objects(workspace) == before
    found = (await workspace.get("/v1/deployments/2")).json["deployment"]
    assert found["status"] == "failed" and found["errors"]
    await send(workspace, 10, 12)
    outcome = await workspace.deploy(REBUILDS["type"][0])
    assert outcome.snapshot.deployment == 3
    await assert_holds(workspace, 12)


AMOUNT = "`amount` Int64 `json:$.amount`"
# Each is done in place by a deploy that goes live at once.
IN_PLACE: Mapping[str, tuple[str, str]] = {
    "a narrower type": (AMOUNT, AMOUNT.replace("64", "32")),
    "LowCardinality": ("`code` String", "`code` LowCardinality(String)"),
    "a new column": (AMOUNT, f"{AMOUNT},\n    `extra` String `json:$.extra` DEFAULT 'x'"),
    "a DEFAULT": (AMOUNT, f"{AMOUNT} DEFAULT 7"),
    "a codec": (AMOUNT, f"{AMOUNT} CODEC(ZSTD(1))"),
    "an index": ("ENGINE MergeTree", "INDEXES >\n    by_amount amount TYPE minmax GRANULARITY 1\n\nENGINE MergeTree"),
    "a TTL": ("KEY customer_id\n", "KEY customer_id\nENGINE_TTL day + INTERVAL 90 YEAR\n"),
    "a setting": ("KEY customer_id\n", "KEY customer_id\nENGINE_SETTINGS ttl_only_drop_parts=1\n"),
}


async def made(workspace: Workspace) -> list[str]:
    """Of what deploys make; the service's own logs come whenever they are written."""
    return [name for name in await objects(workspace) if not name.startswith("s1_")]


async def definitions(workspace: Workspace) -> dict[str, str]:
    """Of the live tables and their quarantines, as the engine has them."""
    names = workspace.server.catalog.snapshot(workspace.id).names
    rows = await workspace.server.engine.rows(
        "SELECT name, create_table_query AS written FROM system.tables WHERE database = {d:String}", {"d": workspace.database}
    )
    kept = {*names.datasources.values(), *names.quarantines.values()}
    return {str(row["name"]): str(row["written"]) for row in rows if row["name"] in kept}


DOSE = {"a narrower type", "a new column", "an index", "a TTL"}  # a column's type, a column, another object, the table


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in DOSE else pytest.mark.long) for name in IN_PLACE])
async def test_what_waits_alters_no_live_table(workspace: Workspace, name: str) -> None:
    await workspace.deploy(BASE)
    await send(workspace, 0, 10)
    files = changed(_EVENTS, IN_PLACE[name])
    before, had = await definitions(workspace), await made(workspace)
    checked = await workspace.deploy(files, promote=False, check=True)
    await workspace.deploy(files, promote=False)
    assert await definitions(workspace) == before
    assert {one.table.name for one in checked.plan.rebuilds} == {"events", "daily", "monthly"}
    (star,) = await workspace.rows("/v0/sql?q=SELECT+*+FROM+events+LIMIT+1+FORMAT+JSON")
    assert set(star) == {"day", "customer_id", "code", "amount"}
    await send(workspace, 10, 12)
    await workspace.server.deployer.discard(workspace.id, 2)
    assert (await definitions(workspace), await made(workspace)) == (before, had)
    await assert_holds(workspace, 12)
    await workspace.deploy(files, promote=False)
    await send(workspace, 12, 14)
    await workspace.server.deployer.promote(workspace.id, 3)
    await assert_holds(workspace, 14)
    assert await definitions(workspace) != before
    await workspace.server.deployer.rollback(workspace.id)
    assert await definitions(workspace) == before
    await assert_holds(workspace, 14)


async def test_a_narrower_column_that_waits_takes_no_event_from_what_is_live(workspace: Workspace) -> None:
    await workspace.deploy(BASE)
    await workspace.deploy(changed(_EVENTS, IN_PLACE["a narrower type"]), promote=False)
    reply = await workspace.send("events", [sent(0, 1)[0] | {"amount": 2**40}])
    assert reply.json == {"successful_rows": 1, "quarantined_rows": 0}
    (row,) = await workspace.rows("/v0/pipes/landed.json")
    assert int(row["amount"]) == 2**40


async def test_a_removed_column_keeps_its_values_while_another_waits(workspace: Workspace) -> None:
    noted = (AMOUNT, f"{AMOUNT},\n    `note` String `json:$.note` DEFAULT ''")
    await workspace.deploy(changed(_EVENTS, noted))
    reply = await workspace.send("events", [row | {"note": "7"} for row in sent(0, 4)])
    assert reply.json["quarantined_rows"] == 0
    await workspace.deploy(BASE, allow_destructive=True)
    before = await definitions(workspace)
    other = (AMOUNT, f"{AMOUNT},\n    `note` Float64 `json:$.note` DEFAULT 0")
    with pytest.raises(DeployRefused) as unsaid:
        await workspace.deploy(changed(_EVENTS, other), promote=False)
    assert {one.reason for one in unsaid.value.refusals} == {Reason.DELETES_COLUMN}
    await workspace.deploy(changed(_EVENTS, other), promote=False, allow_destructive=True)
    assert await definitions(workspace) == before
    await workspace.server.deployer.discard(workspace.id, 3)
    # More than the column that comes back: a new table would not have its values.
    more = changed(_EVENTS, (AMOUNT, noted[1].replace("Int64", "Int32")))
    for check in (True, False):
        with pytest.raises(DeployRefused) as refused:
            await workspace.deploy(more, promote=False, check=check)
        (one,) = refused.value.refusals
        assert (one.reason, one.subject) == (Reason.ALTERS_LIVE_TABLE, "events")
        assert "without --no-promote" in one.error.hint
    assert await definitions(workspace) == before
    outcome = await workspace.deploy(changed(_EVENTS, noted), promote=False)
    assert not outcome.plan.rebuilds and await definitions(workspace) == before
    assert outcome.staged is not None
    await workspace.server.deployer.promote(workspace.id, outcome.staged.deployment)
    assert [row["note"] for row in await workspace.rows("/v0/sql?q=SELECT+note+FROM+events+FORMAT+JSON")] == ["7"] * 4


OTHER = "datasources/other.datasource"
OLD = "SCHEMA >\n    at Date,\n    who String\n\nENGINE MergeTree\nENGINE_SORTING_KEY at\nENGINE_TTL at + INTERVAL 90 YEAR\n"
LATE = OLD.replace("who String", "who LowCardinality(String)").replace("90 YEAR", "80 YEAR")


async def test_a_deploy_that_does_not_become_live_alters_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One table is made anew, another altered in place, and then the one row fails."""
    await workspace.deploy(BASE | {OTHER: OLD})
    await send(workspace, 0, 4)
    before, had = await definitions(workspace), await made(workspace)

    async def failing(*args: Any, **options: Any) -> None:
        raise SqlError("no")

    files = REBUILDS["type"][0] | {OTHER: OLD.replace("who String", "who String,\n    more UInt8")}
    with monkeypatch.context() as patch:
        patch.setattr(workspace.server.catalog, "commit", failing)
        with pytest.raises(SqlError):
            await workspace.deploy(files)
    assert (await definitions(workspace), await made(workspace)) == (before, had)
    await workspace.deploy(files)
    assert "more" in (await definitions(workspace))["d1_other"]
    await assert_holds(workspace, 4)


async def test_what_is_altered_late_is_so_after_a_switch(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_late(text: str) -> bool:
        return "toIntervalYear(80)" in text and "LowCardinality(String)" in text

    await workspace.deploy(BASE | {OTHER: OLD})
    await send(workspace, 0, 4)
    outcome = await workspace.deploy(REBUILDS["type"][0] | {OTHER: LATE})
    assert outcome.plan.rebuilds and is_late((await definitions(workspace))["d1_other"])
    # A crash before it: going back and forth finishes it, too.
    apply = execute.apply

    async def killed(engine: Any, operation: Any) -> None:
        if not isinstance(operation, ModifyTtl | ModifyColumn):
            await apply(engine, operation)

    third = OLD.replace("90 YEAR", "70 YEAR")
    with monkeypatch.context() as patch:
        patch.setattr(execute, "apply", killed)
        await workspace.deploy(REBUILDS["type"][0] | {OTHER: third})
    assert "toIntervalYear(80)" in (await definitions(workspace))["d1_other"]
    await workspace.server.deployer.rollback(workspace.id)
    await workspace.server.deployer.rollback(workspace.id)
    assert "toIntervalYear(70)" in (await definitions(workspace))["d1_other"]

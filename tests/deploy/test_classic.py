"""What Classic projects need, deployed for real: includes, targets without a file, shared and versioned data sources."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote as url

import aiohttp
import pytest

from pipit.catalog.catalog import Catalog
from pipit.errors import ProjectError
from projects import CANARY, EVENTS, ROWS, column, event
from serving import Workspace

pytestmark = pytest.mark.anyio

NODE = "NODE $name\nSQL >\n    SELECT customer_id, amount FROM events WHERE action = '$action'\n"
CLICKS = (
    'INCLUDE "../includes/by_action.incl" "name=chosen" "action=click"\n'
    "NODE endpoint\nSQL >\n    SELECT sum(amount) AS total FROM chosen\nTYPE endpoint\n"
)
INCLUDING: dict[str, str] = {
    "datasources/events.datasource": EVENTS.replace("TOKEN ingest APPEND\n", 'INCLUDE "tokens.incl"\n'),
    "datasources/tokens.incl": "TOKEN ingest APPEND\n",
    "endpoints/clicks.pipe": CLICKS,
    "includes/by_action.incl": NODE,
}
ROLLUP = (
    "NODE roll\nSQL >\n    SELECT toDate(timestamp) AS day, customer_id, countState() AS events, "
    "sum(amount) AS amount\n    FROM {source} GROUP BY day, customer_id\n"
    'TYPE materialized\nDATASOURCE {target}\nENGINE "AggregatingMergeTree"\nENGINE_SORTING_KEY "customer_id, day"\n'
)
TOTALS = (
    "NODE endpoint\nSQL >\n    SELECT customer_id, countMerge(events) AS events FROM daily "
    "GROUP BY customer_id ORDER BY customer_id\nTYPE endpoint\n"
)
CLASSIC: dict[str, str] = {
    "datasources/events.datasource": EVENTS,
    "pipes/rollup.pipe": ROLLUP.format(source="events", target="daily"),
    "endpoints/totals.pipe": TOTALS,
}
PLAIN = EVENTS.partition("ROW_POLICY")[0]


async def refused(workspace: Workspace, files: dict[str, str]) -> list[str]:
    with pytest.raises(ProjectError) as caught:
        await workspace.deploy(files)
    return [str(e) for e in caught.value.errors]


async def restarted(workspace: Workspace) -> None:
    """What a server that starts reads back is what is live, but for the warnings of the deploy."""
    catalog = Catalog(workspace.server.engine, workspace.server.config.admin_token)
    await catalog.load()
    live, loaded = workspace.server.catalog.snapshot(workspace.id), catalog.snapshot(workspace.id)
    assert replace(loaded, project=replace(loaded.project, warnings=live.project.warnings)) == live


def form(files: dict[str, str]) -> aiohttp.FormData:
    sent = aiohttp.FormData()
    for name, text in files.items():
        part = "data_project_vendored://" if name.startswith("vendor/") else "data_project://"
        sent.add_field(part, text.encode(), filename=name, content_type="text/plain")
    return sent


async def test_included_files_travel_with_a_deploy_and_a_change_in_one_deploys_again(workspace: Workspace) -> None:
    reply = await workspace.post("/v1/deploy?auto_promote=true", data=form(INCLUDING))
    assert (reply.status, reply.json["result"]) == (200, "success")
    await workspace.send("events", ROWS)
    assert await workspace.rows("/v0/pipes/clicks.json") == [{"total": 1 + 2 + CANARY + 1}]
    live = (await workspace.get("/v1/deployments/live/files")).json["files"]
    assert live == INCLUDING
    await restarted(workspace)
    assert (await workspace.post("/v1/deploy?auto_promote=true", data=form(INCLUDING))).json["result"] == "no_changes"

    changed = INCLUDING | {"includes/by_action.incl": NODE.replace("action = ", "action != ")}
    reply = await workspace.post("/v1/deploy?auto_promote=true", data=form(changed))
    assert (reply.json["result"], reply.json["deployment"]["changed_pipe_names"]) == ("success", ["clicks"])
    assert await workspace.rows("/v0/pipes/clicks.json") == [{"total": 3 + CANARY}]
    column_more = changed | {
        "datasources/events.datasource": changed["datasources/events.datasource"] + "INCLUDE i.incl\n"
    }
    column_more |= {"includes/i.incl": "INDEXES >\n    i amount TYPE nothing\n"}
    assert any(e.startswith("includes/i.incl:") for e in await refused(workspace, column_more))


async def test_what_the_engine_says_of_an_included_node_is_at_its_line(workspace: Workspace) -> None:
    wrong = "NODE $name\nSQL >\n\n    SELECT customer_id,\n      nothing FROM events\n"
    (error,) = await refused(
        workspace,
        INCLUDING
        | {
            "includes/by_action.incl": wrong,
            "endpoints/clicks.pipe": CLICKS.replace("total FROM chosen", "total FROM events"),
        },
    )
    assert error.startswith("includes/by_action.incl:5:7: node 'chosen': ")
    assert "nothing" in error
    policy = (
        "ROW_POLICY >\n    customer_id = {{String(context.customer_id)}}\n    AND nothing = {{String(context.x)}}\n"
    )
    files = {"e.datasource": PLAIN + "INCLUDE p.incl\n", "p.incl": "# the policy\n" + policy}
    assert any(e.startswith("p.incl:") for e in await refused(workspace, files))
    files = {"e.datasource": PLAIN + "INCLUDE p.incl\n", "p.incl": "\nENGINE_TTL sleep(1)\n"}
    assert [e for e in await refused(workspace, files) if e.startswith("p.incl:2:1: ENGINE_TTL is refused")]


async def test_a_row_policy_from_an_included_file_confines(workspace: Workspace) -> None:
    policy = EVENTS[EVENTS.index("ROW_POLICY >") :]
    files = INCLUDING | {
        "datasources/events.datasource": PLAIN + "INCLUDE policy.incl\n",
        "includes/policy.incl": policy,
    }
    await workspace.deploy(files)
    await workspace.send("events", ROWS)
    tenant = workspace.tenant("clicks", customer_id="a")
    assert await workspace.rows("/v0/pipes/clicks.json", token=tenant) == [{"total": 3}]


async def test_a_target_without_a_file_has_the_columns_of_its_node(workspace: Workspace) -> None:
    outcome = await workspace.deploy(CLASSIC)
    assert set(outcome.plan.datasources.new) == {"events", "daily"}
    assert [w.line for w in outcome.warnings if "'daily' has no file" in w.message] == [7]
    assert not [w for w in outcome.warnings if "Classic and ignored" in w.message]
    daily = outcome.snapshot.tables["daily"].datasource
    assert [(c.name, c.type) for c in daily.columns] == [
        ("day", "Date"),
        ("customer_id", "String"),
        ("events", "AggregateFunction(count)"),
        ("amount", "Int64"),
    ]
    assert (daily.engine.name, daily.engine.sorting_key) == ("AggregatingMergeTree", "customer_id, day")
    await workspace.send("events", ROWS)
    assert await workspace.rows("/v0/pipes/totals.json") == [
        {"customer_id": "a", "events": 3},
        {"customer_id": "b", "events": 2},
    ]
    assert (await workspace.deploy(CLASSIC)).result == "no_changes"
    await restarted(workspace)
    # What is stored deploys as it is: the file that was made is one like any other.
    stored = (await workspace.get("/v1/deployments/live/files")).json["files"]
    assert set(stored) == {*CLASSIC, "datasources/daily.datasource"}
    assert (await workspace.deploy(stored)).result == "no_changes"


async def test_the_query_of_a_target_without_a_file_may_end_with_a_comment(workspace: Workspace) -> None:
    node = "NODE n\nSQL >\n    SELECT customer_id, count() AS n FROM events GROUP BY customer_id -- each\n"
    more = "TYPE materialized\nDATASOURCE made\nENGINE SummingMergeTree\nENGINE_SORTING_KEY customer_id\n"
    outcome = await workspace.deploy({**CLASSIC, "pipes/fills.pipe": node + more})
    assert [c.name for c in outcome.snapshot.tables["made"].datasource.columns] == ["customer_id", "n"]


async def test_a_target_without_a_file_is_read_by_no_tenant_of_a_policed_source(workspace: Workspace) -> None:
    await workspace.deploy(CLASSIC)
    await workspace.send("events", ROWS)
    reply = await workspace.get("/v0/pipes/totals.json", token=workspace.tenant("totals", customer_id="a"))
    assert reply.status == 403
    assert "canary" not in reply.text


async def test_targets_without_files_in_a_chain_and_two_nodes_into_one(workspace: Workspace) -> None:
    weekly = (
        "NODE roll\nSQL >\n    SELECT toMonday(day) AS week, countMergeState(events) AS events FROM daily GROUP BY week\n"
        "TYPE materialized\nDATASOURCE a_week\nENGINE AggregatingMergeTree\nENGINE_SORTING_KEY week\n"
    )
    again = ROLLUP.format(source="events", target="daily").replace("NODE roll", "NODE again")
    files = CLASSIC | {"a/weekly.pipe": weekly, "pipes/z_again.pipe": again}
    outcome = await workspace.deploy(files)
    assert set(outcome.plan.datasources.new) == {"events", "daily", "a_week"}
    await workspace.send("events", ROWS)
    found = await workspace.rows(f"/v0/sql?q={url('SELECT countMerge(events) AS n FROM a_week FORMAT JSON')}")
    assert column(found, "n") == [10]


async def test_a_target_that_cannot_be_made_is_an_error_of_its_node(workspace: Workspace) -> None:
    scratch = "SELECT name FROM system.databases WHERE name LIKE 'pipitcheck%' ORDER BY name"
    before = await workspace.server.engine.rows(scratch)
    rollup = CLASSIC["pipes/rollup.pipe"]
    for text, part in (
        (rollup.replace("toDate(timestamp)", "toDate(nothing)"), "nothing"),
        (rollup.replace('"customer_id, day"', "nowhere"), "'nowhere' column is not present in schema"),
        (rollup.replace("FROM events", "FROM daily"), "Resource 'daily' not found"),
        (rollup.replace("countState()", "hostName()"), "hostName"),
        (rollup.replace("countState()", "NULL"), "Nothing"),
    ):
        (error,) = await refused(workspace, CLASSIC | {"pipes/rollup.pipe": text})
        assert error.startswith("pipes/rollup.pipe:7:1: The Data Source 'daily' cannot be made from node 'roll': ")
        assert part in error
        assert "pipitcheck" not in error
    assert await workspace.server.engine.rows(scratch) == before


async def test_a_changed_query_of_such_a_target_is_a_changed_table(workspace: Workspace) -> None:
    await workspace.deploy(CLASSIC)
    changed = CLASSIC["pipes/rollup.pipe"].replace("sum(amount) AS amount", "toString(sum(amount)) AS amount")
    outcome = await workspace.deploy(CLASSIC | {"pipes/rollup.pipe": changed})
    assert [rebuild.table.name for rebuild in outcome.plan.rebuilds] == [outcome.plan.datasources.changed[0]]


SHARED: dict[str, str] = {
    "vendor/sales/datasources/orders.datasource": PLAIN,
    "datasources/Billing.invoices.datasource": EVENTS,
    "endpoints/orders.pipe": "NODE e\nSQL >\n    SELECT orders.customer_id, amount FROM sales.orders ORDER BY amount\nTYPE endpoint\n",
    "endpoints/bills.pipe": "NODE e\nSQL >\n    %\n    SELECT amount FROM Billing.invoices ORDER BY amount\nTYPE endpoint\n",
    "endpoints/from_copy.pipe": "NODE e\nSQL >\n    SELECT amount FROM copied ORDER BY amount\nTYPE endpoint\n",
}


async def test_shared_data_sources_are_tables_under_their_own_names(workspace: Workspace) -> None:
    reply = await workspace.post("/v1/deploy?auto_promote=true", data=form(SHARED | {"datasources/copied.datasource": PLAIN}))
    assert reply.status == 200, reply.text
    assert (await workspace.send("sales.orders", ROWS[:2])).status == 200
    assert (await workspace.send("Billing.invoices", ROWS)).status == 200
    assert column(await workspace.rows("/v0/pipes/orders.json"), "amount") == [1, 2]
    assert len(await workspace.rows("/v0/pipes/bills.json")) == 5
    assert (await workspace.get("/v0/datasources/sales.orders")).json["name"] == "sales.orders"
    sql = url("SELECT count() AS n FROM `sales.orders`, sales.orders_quarantine FORMAT JSON")
    assert await workspace.rows(f"/v0/sql?q={sql}") == [{"n": 0}]
    snapshot = workspace.server.catalog.snapshot(workspace.id)
    assert {t.database for t in snapshot.tables.values()} == {workspace.database}
    assert snapshot.tables["sales.orders"].physical == "d1_sales__orders"
    assert (await workspace.deploy(SHARED | {"datasources/copied.datasource": PLAIN})).result == "no_changes"
    await restarted(workspace)


async def test_policies_of_shared_data_sources_confine_like_others(workspace: Workspace) -> None:
    copied = "NODE c\nSQL >\n    %\n    SELECT * FROM Billing.{% if 1 %}invoices{% end %}\nTYPE copy\nTARGET_DATASOURCE copied\n"
    await workspace.deploy(SHARED | {"datasources/copied.datasource": PLAIN, "copies/fill.pipe": copied})
    await workspace.send("Billing.invoices", ROWS)
    tenant = workspace.tenant("bills", "from_copy", "orders", customer_id="a")
    rows = await workspace.rows("/v0/pipes/bills.json", token=tenant)
    assert column(rows, "amount") == [1, 2, 3]
    # What is filled from it has no filter of its own, however the template writes its name.
    snapshot = workspace.server.catalog.snapshot(workspace.id)
    assert "Billing.invoices" in snapshot.tables["copied"].sources
    assert (await workspace.get("/v0/pipes/from_copy.json", token=tenant)).status == 403
    scoped = workspace.jwt(
        {"type": "DATASOURCES:READ", "resource": "Billing.invoices", "filter": "amount = 2"},
        {"type": "PIPES:READ", "resource": "bills"},
        context={"customer_id": "a"},
    )
    assert await workspace.rows("/v0/pipes/bills.json", token=scoped) == [{"amount": 2}]


async def test_a_name_with_a_dot_never_means_another_workspace(workspace: Workspace) -> None:
    other = await workspace.server.catalog.create_workspace(f"{workspace.name}_other")
    theirs = Workspace(workspace.server, workspace.base_url, workspace.session, other.id)
    await theirs.deploy({"orders.datasource": PLAIN, "events.datasource": PLAIN})
    await theirs.send("orders", ROWS)
    pipe = f"NODE e\nSQL >\n    SELECT amount FROM {theirs.name}.{{}}\nTYPE endpoint\n"
    own = {"orders.datasource": PLAIN, "events.datasource": PLAIN}  # no stranger's name is one for them
    (error,) = await refused(workspace, own | {"p.pipe": pipe.format("orders")})
    assert f"Resource '{theirs.name}.orders' not found" in error
    (error,) = await refused(workspace, own | {"p.pipe": pipe.format("orders").replace(theirs.name, theirs.database)})
    assert "not found" in error
    files = own | {f"vendor/{theirs.name}/orders.datasource": PLAIN, "p.pipe": pipe.format("orders")}
    await workspace.deploy(files)
    assert await workspace.rows("/v0/pipes/p.json") == []
    await workspace.send(f"{theirs.name}.orders", [event("mine", 7)])
    assert await workspace.rows("/v0/pipes/p.json") == [{"amount": 7}]
    sql = url("SELECT count() AS n FROM orders FORMAT JSON")
    assert await theirs.rows(f"/v0/sql?q={sql}") == [{"n": 5}]
    assert len(await refused(workspace, files | {"q.pipe": pipe.format("events")})) == 1


async def test_versioned_names_mean_the_data_source_with_that_version(workspace: Workspace) -> None:
    def reads(name: str) -> str:
        return f"NODE e\nSQL >\n    SELECT count() AS n FROM {name}\nTYPE endpoint\n"

    files = {
        "page_views.datasource": "VERSION 3\n" + PLAIN,
        "clicks__v1.datasource": PLAIN,
        "clicks__v12.datasource": PLAIN,
        "a.pipe": reads("page_views__v3"),
        "b.pipe": reads("clicks"),
        "c.pipe": reads("clicks__v1"),
    }
    await workspace.deploy(files)
    # Clients send to the versioned name; the token's scope is on the data source.
    token = workspace.jwt({"type": "DATASOURCES:APPEND", "resource": "page_views"})
    reply = await workspace.post("/v0/events?name=page_views__v3&wait=true", token=token, json=event("a", 1))
    assert reply.status == 200, reply.text
    assert (await workspace.post("/v0/events?name=page_views__v2", token=token, json=event("a", 1))).status == 403
    assert (await workspace.post("/v0/events?name=page_views__v2", json=event("a", 1))).status == 404
    await workspace.send("clicks__v12", ROWS)
    assert [(await workspace.rows(f"/v0/pipes/{p}.json"))[0]["n"] for p in "abc"] == [1, 5, 0]
    for name in ("page_views__v2", "clicks__v2", "nothing__v1"):
        (error,) = await refused(workspace, files | {"d.pipe": reads(name)})
        assert f"Resource '{name}' not found" in error


async def test_a_release_of_classic_is_told_in_plain_words(workspace: Workspace) -> None:
    pipe = "NODE e\nSQL >\n    SELECT 1 FROM v0_0_1.events\nTYPE endpoint\n"
    with pytest.raises(ProjectError) as caught:
        await workspace.deploy({"events.datasource": EVENTS, "p.pipe": pipe})
    (error,) = caught.value.errors
    assert "v0_0_1 is a release of Tinybird Classic" in error.message
    assert (error.line, error.column) == (3, 19)
    assert error.hint.startswith("Write events: what is live.")


async def test_implicit_columns_of_connectors_stand_in_keys_partitions_and_sql(workspace: Workspace) -> None:
    kafka = "SCHEMA >\n    a String `json:$.a`\nENGINE_PARTITION_KEY toYYYYMM(__timestamp)\nENGINE_SORTING_KEY __partition, __offset\n"
    kafka += "KAFKA_CONNECTION_NAME k\nKAFKA_TOPIC t\nKAFKA_GROUP_ID g\nKAFKA_STORE_HEADERS True\n"
    dynamo = (
        "SCHEMA >\n    pk String `json:$.pk`\nENGINE ReplacingMergeTree\nENGINE_PARTITION_KEY toYYYYMM(_timestamp)\n"
        "ENGINE_SORTING_KEY pk\nENGINE_VER _timestamp\nENGINE_IS_DELETED _is_deleted\n"
        "IMPORT_CONNECTION_NAME d\nIMPORT_TABLE_ARN arn:aws:dynamodb:eu-1:1:table/t\nIMPORT_EXPORT_BUCKET b\n"
    )
    files = {
        "clicks.datasource": kafka,
        "items.datasource": dynamo,
        "a.pipe": "NODE e\nSQL >\n    SELECT __key, __value, __topic, __headers['x'] AS x FROM clicks\nTYPE endpoint\n",
        "b.pipe": "NODE e\nSQL >\n    SELECT JSONExtractString(_record, 'x') AS x, _old_record, _event_name, _event_type "
        "FROM items FINAL\nTYPE endpoint\n",
    }
    await workspace.deploy(files)
    assert await workspace.rows("/v0/pipes/a.json") == []
    assert await workspace.rows("/v0/pipes/b.json") == []
    assert (await workspace.deploy(files)).result == "no_changes"

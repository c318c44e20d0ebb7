"""Deploys: what is additive happens in place, everything else is refused with its place, and nothing is half-done."""

from __future__ import annotations

import asyncio

import pytest

from pipit.catalog.catalog import Catalog
from pipit.deploy import Deployer
from pipit.errors import Conflict, ProjectError
from projects import DAILY, DAILY_VIEW, EVENTS, LATEST, ROWS, TENANTS, event
from serving import Workspace

pytestmark = pytest.mark.anyio

ONLY_EVENTS = {"datasources/events.datasource": EVENTS, "endpoints/latest.pipe": LATEST}


def with_column(line: str) -> str:
    return EVENTS.replace("    `amount` Int64", f"    {line},\n    `amount` Int64")


async def refused(workspace: Workspace, files: dict[str, str]) -> list[str]:
    with pytest.raises(ProjectError) as caught:
        await workspace.deploy(files)
    return [str(e) for e in caught.value.errors]


async def test_first_second_and_restart(workspace: Workspace) -> None:
    first = await workspace.deploy(TENANTS)
    assert first.result == "success"
    assert set(first.plan.datasources.new) == {"events", "daily"}
    assert set(first.plan.pipes.new) == {"daily_view", "latest", "by_param", "totals", "chained"}
    await workspace.send("events", ROWS)
    again = await workspace.deploy(TENANTS)
    assert again.result == "no_changes"
    assert again.snapshot.deployment == first.snapshot.deployment

    restarted = Catalog(workspace.server.engine, workspace.server.config.admin_token)
    await restarted.load()
    loaded = restarted.snapshot(workspace.id)
    assert loaded == workspace.server.catalog.snapshot(workspace.id)
    assert restarted.tokens(workspace.id) == workspace.server.catalog.tokens(workspace.id)


async def test_a_new_column_in_place(workspace: Workspace) -> None:
    await workspace.deploy(ONLY_EVENTS)
    await workspace.send("events", [event("a", 1)])
    files = ONLY_EVENTS | {"datasources/events.datasource": with_column("`note` Nullable(String) `json:$.note`")}
    outcome = await workspace.deploy(files)
    assert outcome.plan.datasources.changed == ("events",)
    reply = await workspace.send("events", [event("a", 2, note="hello"), event("a", 3)])
    assert reply.json == {"successful_rows": 2, "quarantined_rows": 0}
    sql = "SELECT amount, note FROM events ORDER BY amount FORMAT JSON"
    rows = await workspace.rows(f"/v0/sql?q={sql.replace(' ', '%20')}")
    assert [(r["amount"], r["note"]) for r in rows] == [(1, None), (2, "hello"), (3, None)]
    described = await workspace.rows("/v0/sql?q=SELECT%20*%20FROM%20events%20LIMIT%201%20FORMAT%20JSON")
    assert list(described[0]) == ["timestamp", "customer_id", "team", "action", "note", "amount"]
    bad = await workspace.send("events", [{**event("a", 4), "amount": "x", "note": "kept"}])
    assert bad.json == {"successful_rows": 0, "quarantined_rows": 1}
    kept = await workspace.rows("/v0/sql?q=SELECT%20note%20FROM%20events_quarantine%20FORMAT%20JSON")
    assert kept == [{"note": "kept"}]


async def test_a_column_without_a_value_is_refused(workspace: Workspace) -> None:
    await workspace.deploy(ONLY_EVENTS)
    await workspace.send("events", [event("a", 1)])
    before = workspace.server.catalog.snapshot(workspace.id)
    changed = with_column("`note` String `json:$.note`")
    (error,) = await refused(workspace, ONLY_EVENTS | {"datasources/events.datasource": changed})
    assert "'note' has no value for the rows that are there (1)" in error and error.startswith("datasources/events.datasource:")
    assert workspace.server.catalog.snapshot(workspace.id) is before
    assert (await workspace.send("events", [event("a", 2)])).json["successful_rows"] == 1


async def test_a_policy_changes_at_once(workspace: Workspace) -> None:
    await workspace.deploy(TENANTS)
    await workspace.send("events", ROWS)
    token = workspace.tenant("latest", customer_id="a", team="blue")
    assert len(await workspace.rows("/v0/pipes/latest.json", token=token)) == 1
    wider = EVENTS.split("ROW_POLICY >")[0] + "ROW_POLICY customer_id = {{String(context.customer_id)}}\n"
    await workspace.deploy(TENANTS | {"datasources/events.datasource": wider})
    assert len(await workspace.rows("/v0/pipes/latest.json", token=token)) == 3


async def test_a_new_view_sees_old_and_new_rows_once(workspace: Workspace) -> None:
    await workspace.deploy(ONLY_EVENTS)
    await workspace.send("events", [event("a", i) for i in range(100)])
    stop = asyncio.Event()
    sent = 100

    async def keep_sending() -> None:
        nonlocal sent
        while not stop.is_set():
            reply = await workspace.send("events", [event("a", sent + i) for i in range(10)], wait=False)
            assert reply.status == 202
            sent += 10

    sending = asyncio.ensure_future(keep_sending())
    await asyncio.sleep(0.2)
    files = ONLY_EVENTS | {"datasources/daily.datasource": DAILY, "materializations/daily_view.pipe": DAILY_VIEW}
    await workspace.deploy(files)
    await asyncio.sleep(0.2)
    stop.set()
    await sending
    assert (await workspace.send("events", [event("a", 0)])).status == 200
    total = "/v0/sql?q=SELECT%20countMerge(events)%20AS%20n%20FROM%20daily%20FORMAT%20JSON"
    landed = "/v0/sql?q=SELECT%20count()%20AS%20n%20FROM%20events%20FORMAT%20JSON"
    assert await workspace.rows(landed) == [{"n": sent + 1}]
    assert await workspace.rows(total) == [{"n": sent + 1}]


async def test_backfill_skip(workspace: Workspace) -> None:
    await workspace.deploy(ONLY_EVENTS)
    await workspace.send("events", ROWS)
    files = ONLY_EVENTS | {
        "datasources/daily.datasource": DAILY + "\nBACKFILL skip\n",
        "materializations/daily_view.pipe": DAILY_VIEW,
    }
    await workspace.deploy(files)
    await workspace.send("events", [event("a", 1)])
    total = "/v0/sql?q=SELECT%20countMerge(events)%20AS%20n%20FROM%20daily%20FORMAT%20JSON"
    assert await workspace.rows(total) == [{"n": 1}]


async def test_a_changed_view(workspace: Workspace) -> None:
    await workspace.deploy(TENANTS)
    await workspace.send("events", ROWS)
    changed = DAILY_VIEW.replace("FROM events", "FROM events WHERE action != 'view'")
    altered = changed + "DEPLOYMENT_METHOD alter\n"
    await workspace.deploy(TENANTS | {"materializations/daily_view.pipe": altered})
    await workspace.send("events", [event("a", 7, action="view"), event("a", 8)])
    total = "/v0/sql?q=SELECT%20countMerge(events)%20AS%20n%20FROM%20daily%20FORMAT%20JSON"
    assert await workspace.rows(total) == [{"n": 6}]


async def tables_of(workspace: Workspace) -> list[str]:
    rows = await workspace.server.engine.rows(
        "SELECT name FROM system.tables WHERE database = {d:String} ORDER BY name", {"d": workspace.database}
    )
    return [str(row["name"]) for row in rows]


async def test_deleting_takes_a_flag(workspace: Workspace) -> None:
    await workspace.deploy(ONLY_EVENTS | {"datasources/daily.datasource": DAILY})
    errors = await refused(workspace, ONLY_EVENTS)
    assert "daily" in errors[0]
    await workspace.deploy(ONLY_EVENTS, allow_destructive=True)
    tables = await tables_of(workspace)
    # They are kept until the deployment that has them is.
    assert tables == ["d1_daily", "d1_events", "q1_daily", "q1_events"]
    await workspace.server.deployer.discard(workspace.id, 1)
    assert await tables_of(workspace) == ["d1_events", "q1_events"]
    again = await workspace.deploy(ONLY_EVENTS | {"datasources/daily.datasource": DAILY})
    assert again.plan.datasources.new == ("daily",)


async def test_all_errors_at_once_with_their_places(workspace: Workspace) -> None:
    scratch = "SELECT name FROM system.databases WHERE startsWith(name, 'pipitcheck_') ORDER BY name"
    before = await workspace.server.engine.rows(scratch)
    errors = await refused(
        workspace,
        {
            "datasources/events.datasource": EVENTS,
            "endpoints/one.pipe": "NODE n\nSQL >\n    SELECT nothing_like_it FROM events\nTYPE endpoint\n",
            "endpoints/two.pipe": "NODE n\nSQL >\n    SELECT 1 FROM no_such_table\nTYPE endpoint\n",
            "endpoints/three.pipe": "NODE n\nSQL >\n    SELECT sleep(3) FROM events\nTYPE endpoint\n",
            "endpoints/four.pipe": "NODE n\nSQL >\n    SELECT * FROM file('/etc/passwd')\nTYPE endpoint\n",
        },
    )
    assert sorted(e.split(":")[0] for e in errors) == [f"endpoints/{n}.pipe" for n in ("four", "one", "three", "two")]
    assert all(e.split(":")[1] == "3" for e in errors), errors
    assert not any("pipitcheck" in e or "d1_events" in e for e in errors), errors
    assert await workspace.server.engine.rows(scratch) == before


async def test_extra_columns_of_a_view_are_dropped_with_a_warning(workspace: Workspace) -> None:
    view = DAILY_VIEW.replace("countState() AS events", "countState() AS events, max(amount) AS biggest")
    outcome = await workspace.deploy(TENANTS | {"materializations/daily_view.pipe": view})
    assert any("biggest" in str(w) for w in outcome.warnings)
    assert (await workspace.send("events", ROWS)).status == 200


async def test_two_at_once(workspace: Workspace) -> None:
    results = await asyncio.gather(workspace.deploy(TENANTS), workspace.deploy(ONLY_EVENTS), return_exceptions=True)
    assert sum(isinstance(r, Conflict) for r in results) == 1
    assert sum(not isinstance(r, BaseException) for r in results) == 1


async def test_what_a_crash_left_behind_is_dropped(workspace: Workspace) -> None:
    await workspace.deploy(ONLY_EVENTS)
    engine, database = workspace.server.engine, workspace.database
    await engine.command(f"CREATE TABLE `{database}`.d2_events (a Int8) ENGINE = MergeTree ORDER BY a")
    await engine.command(
        f"CREATE MATERIALIZED VIEW `{database}`.m1_x TO `{database}`.d2_events AS SELECT 1 AS a FROM `{database}`.d1_events"
    )
    await engine.command("CREATE DATABASE pipitcheck_0123456789abcdef")
    catalog = Catalog(engine, workspace.server.config.admin_token)
    await catalog.load()
    await Deployer(engine, catalog, workspace.server.ingest, workspace.server.locks).clean_up()
    tables = await engine.rows(
        "SELECT name FROM system.tables WHERE database = {d:String} ORDER BY name", {"d": database}
    )
    assert [t["name"] for t in tables] == ["d1_events", "q1_events"]
    assert await engine.rows("SELECT 1 AS x FROM system.databases WHERE name = 'pipitcheck_0123456789abcdef'") == []


async def test_check_changes_nothing(workspace: Workspace) -> None:
    outcome = await workspace.deploy(TENANTS, check=True)
    assert outcome.plan.datasources.new
    assert workspace.server.catalog.snapshot(workspace.id).deployment == 0
    tables = await workspace.server.engine.rows(
        "SELECT name FROM system.tables WHERE database = {d:String}", {"d": workspace.database}
    )
    assert tables == []


async def test_a_policy_is_tried_in_the_engine(workspace: Workspace) -> None:
    bad = EVENTS.replace(
        "customer_id = {{String(context.customer_id)}}", "custmer_id = {{String(context.customer_id)}}"
    )
    errors = await refused(workspace, ONLY_EVENTS | {"datasources/events.datasource": bad})
    assert "ROW_POLICY" in errors[0] and "custmer_id" in errors[0]
    line = next(i for i, text in enumerate(bad.splitlines(), 1) if "ROW_POLICY >" in text)
    assert int(errors[0].split(":")[1]) in (line, line + 1)


async def test_a_workspace_with_a_name_like_a_scratch_database_stays(workspace: Workspace) -> None:
    server = workspace.server
    names = [f"check_{workspace.name}", "check_0123456789abcdef"]
    made = [await server.catalog.create_workspace(name) for name in names]
    # Not even one that has a scratch database's very name, whoever made it.
    await server.engine.command("CREATE DATABASE pipitcheck_fedcba9876543210")
    odd = await server.catalog.state.add_workspace(f"odd_{workspace.name}", "pipitcheck_fedcba9876543210", "p." + "x" * 60)
    await Deployer(server.engine, server.catalog, server.ingest, server.locks).clean_up()
    there = {r["name"] for r in await server.engine.rows("SELECT name FROM system.databases")}
    assert there >= {"pipitcheck_fedcba9876543210", *(w.database for w in made)}
    for one in made:
        await server.deployer.remove_workspace(one.id)
    await server.catalog.state.delete_workspace(odd)
    await server.engine.command("DROP DATABASE pipitcheck_fedcba9876543210")


async def test_a_pipe_over_a_quarantine(workspace: Workspace) -> None:
    errors = "NODE e\nSQL >\n    SELECT c__error, amount FROM events_quarantine\nTYPE endpoint\n"
    await workspace.deploy(ONLY_EVENTS | {"endpoints/errors.pipe": errors})
    await workspace.send("events", [{**event("a", 1), "amount": "many"}])
    rows = await workspace.rows("/v0/pipes/errors.json")
    assert [r["amount"] for r in rows] == ["many"] and rows[0]["c__error"]


async def test_views_whose_names_run_together(workspace: Workspace) -> None:
    view = DAILY_VIEW.replace("NODE roll", "NODE b__c")
    other = DAILY_VIEW.replace("NODE roll", "NODE c").replace("DATASOURCE daily", "DATASOURCE daily2")
    await workspace.deploy(
        ONLY_EVENTS
        | {
            "datasources/daily.datasource": DAILY,
            "datasources/daily2.datasource": DAILY,
            "materializations/a.pipe": view,
            "materializations/a__b.pipe": other,
        }
    )
    await workspace.send("events", ROWS)
    for name in ("daily", "daily2"):
        total = f"/v0/sql?q=SELECT%20countMerge(events)%20AS%20n%20FROM%20{name}%20FORMAT%20JSON"
        assert await workspace.rows(total) == [{"n": len(ROWS)}]


JOINED = (
    "SCHEMA >\n    customer_id String,\n    found Nullable(Int64)\n\nENGINE MergeTree\nENGINE_SORTING_KEY customer_id\n"
)
JOINED_VIEW = """
NODE j
SQL >
    SELECT customer_id, found FROM events
    LEFT JOIN (SELECT 'a' AS customer_id, toInt64(7) AS found) AS known USING (customer_id)
    SETTINGS join_use_nulls = 1
TYPE materialized
DATASOURCE joined
"""


async def test_a_views_settings_hold(workspace: Workspace) -> None:
    """When it is filled, and for each later insert."""
    await workspace.deploy(ONLY_EVENTS)
    await workspace.send("events", [event("a", 1), event("b", 1)])
    files = ONLY_EVENTS | {
        "datasources/joined.datasource": JOINED,
        "materializations/joined_view.pipe": JOINED_VIEW,
    }
    await workspace.deploy(files)
    await workspace.send("events", [event("c", 1)])
    query = "/v0/sql?q=SELECT%20*%20FROM%20joined%20ORDER%20BY%20customer_id%20FORMAT%20JSON"
    assert [(r["customer_id"], r["found"]) for r in await workspace.rows(query)] == [("a", 7), ("b", None), ("c", None)]
    without = JOINED_VIEW.replace("    SETTINGS join_use_nulls = 1\n", "")
    outcome = await workspace.deploy(files | {"materializations/joined_view.pipe": without})
    assert [made.cause for made in outcome.plan.views_made] == ["rebuilt"]


async def test_connections_come_change_and_go(workspace: Workspace) -> None:
    kafka = "TYPE kafka\nKAFKA_BOOTSTRAP_SERVERS localhost:9092\nKAFKA_KEY k\nKAFKA_SECRET s\n"
    path = "connections/stream.connection"
    assert (await workspace.deploy(ONLY_EVENTS | {path: kafka})).plan.connections.new == ("stream",)
    changed = await workspace.deploy(ONLY_EVENTS | {path: kafka.replace("9092", "9093")})
    assert (changed.result, changed.plan.connections.changed) == ("success", ("stream",))
    gone = await workspace.deploy(ONLY_EVENTS)
    assert (gone.result, gone.plan.connections.deleted) == ("success", ("stream",))
    assert not gone.snapshot.project.connections
    assert (await workspace.deploy(ONLY_EVENTS)).result == "no_changes"


@pytest.mark.parametrize("kind", ["SummingMergeTree", "ReplacingMergeTree", "AggregatingMergeTree"])
async def test_rows_of_two_tenants_are_never_merged(workspace: Workspace, kind: str) -> None:
    """C5: the policy's column must be part of what makes rows one."""
    merged = (
        "SCHEMA >\n    k String `json:$.k`,\n    customer_id String `json:$.customer_id`,\n    v UInt64 `json:$.v`\n\n"
        f"ENGINE {kind}\nENGINE_SORTING_KEY k\nROW_POLICY customer_id = {{{{String(context.customer_id)}}}}\n"
    )
    errors = await refused(workspace, {"datasources/merged.datasource": merged})
    assert "customer_id" in errors[0] and "sorting key" in errors[0]
    await workspace.deploy({"datasources/merged.datasource": merged.replace("KEY k", "KEY k, customer_id")})


async def test_a_request_chooses_no_table_where_there_are_policies(workspace: Workspace) -> None:
    """C07."""
    pipe = "NODE n\nSQL >\n    %\n    SELECT count() FROM {{table(t, 'events')}}\nTYPE endpoint\n"
    errors = await refused(workspace, TENANTS | {"endpoints/chosen.pipe": pipe})
    assert errors[0].startswith("endpoints/chosen.pipe:4:") and "'t'" in errors[0]
    bare = EVENTS.split("ROW_POLICY >")[0]
    await workspace.deploy({"datasources/events.datasource": bare, "endpoints/chosen.pipe": pipe})


async def test_removing_a_policy_takes_a_flag(workspace: Workspace) -> None:
    """J04."""
    await workspace.deploy(ONLY_EVENTS)
    bare = {"datasources/events.datasource": EVENTS.split("ROW_POLICY >")[0]}
    errors = await refused(workspace, ONLY_EVENTS | bare)
    assert "ROW_POLICY of 'events' is removed" in errors[0]
    await workspace.deploy(ONLY_EVENTS | bare, allow_destructive=True)

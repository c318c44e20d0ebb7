"""Rows remember where they came from: neither a later deploy nor a computed name makes a tenant see another's rows.

A target without a policy that was ever fed from a policed table stays closed to tenants while its rows live.
"""

from __future__ import annotations

import pytest

from pipit.catalog.catalog import Catalog
from pipit.errors import ProjectError
from projects import DAILY, DAILY_VIEW, EVENTS, ROWS, TOTALS, column
from serving import Workspace

pytestmark = pytest.mark.anyio

OPEN_TARGET: dict[str, str] = {
    "datasources/events.datasource": EVENTS,
    "datasources/daily.datasource": DAILY,
    "materializations/daily_view.pipe": DAILY_VIEW,
    "endpoints/totals.pipe": TOTALS,
}
# `events` must not stand in the text: that is the attack.
HIDDEN_NAME = "{{ TABLE('ev' + 'ents') }}"


def without(files: dict[str, str], *names: str) -> dict[str, str]:
    return {path: text for path, text in files.items() if not path.endswith(names)}


async def assert_closed(workspace: Workspace, pipe: str = "totals") -> None:
    """A tenant gets nothing of it; the workspace's own token reads it, so the refusal is not for want of rows."""
    reply = await workspace.get(f"/v0/pipes/{pipe}.json", token=workspace.tenant(pipe, customer_id="a"))
    assert (reply.status, reply.json["code"]) == (403, "read_refused"), reply.text
    assert "b" in column(await workspace.rows(f"/v0/pipes/{pipe}.json"), "customer_id")


async def test_a_view_that_is_gone_has_left_its_rows(workspace: Workspace) -> None:
    await workspace.deploy(OPEN_TARGET)
    await workspace.send("events", ROWS)
    await assert_closed(workspace)
    files = without(OPEN_TARGET, "daily_view.pipe")
    await workspace.deploy(files, allow_destructive=True)
    await assert_closed(workspace)
    # Neither another deploy nor a restart forgets.
    await workspace.deploy(files | {"endpoints/one.pipe": "NODE n\nSQL >\n    SELECT 1 AS one\nTYPE endpoint\n"})
    await assert_closed(workspace)
    restarted = Catalog(workspace.server.engine, workspace.server.config.admin_token)
    await restarted.load()
    assert restarted.snapshot(workspace.id).tables["daily"].sources == {"events"}


async def test_a_new_table_of_the_same_name_has_no_past(workspace: Workspace) -> None:
    await workspace.deploy(OPEN_TARGET)
    await workspace.send("events", ROWS)
    await workspace.deploy({"datasources/events.datasource": EVENTS}, allow_destructive=True)
    await workspace.deploy(without(OPEN_TARGET, "daily_view.pipe"))
    token = workspace.tenant("totals", customer_id="a")
    assert await workspace.rows("/v0/pipes/totals.json", token=token) == []


async def test_the_middle_of_a_chain_is_gone(workspace: Workspace) -> None:
    """events -> daily -> monthly: without `daily`, `monthly` still holds rows of `events`."""
    monthly = DAILY.replace("day Date", "month Date").replace("customer_id, day", "customer_id, month")
    view = (
        "NODE roll\nSQL >\n    SELECT toStartOfMonth(day) AS month, customer_id, countMergeState(events) AS events\n"
        "    FROM daily GROUP BY month, customer_id\nTYPE materialized\nDATASOURCE monthly\n"
    )
    files = OPEN_TARGET | {
        "datasources/monthly.datasource": monthly,
        "materializations/monthly_view.pipe": view,
        "endpoints/months.pipe": TOTALS.replace("FROM daily", "FROM monthly"),
    }
    await workspace.deploy(files)
    await workspace.send("events", ROWS)
    gone = ("daily.datasource", "daily_view.pipe", "monthly_view.pipe", "totals.pipe")
    await workspace.deploy(without(files, *gone), allow_destructive=True)
    await assert_closed(workspace, "months")


async def test_the_policed_source_itself_is_gone(workspace: Workspace) -> None:
    """Its policy is gone with it, and its rows are not: the target must say who may read them."""
    await workspace.deploy(OPEN_TARGET)
    await workspace.send("events", ROWS)
    files = without(OPEN_TARGET, "events.datasource", "daily_view.pipe")
    with pytest.raises(ProjectError) as caught:
        await workspace.deploy(files, allow_destructive=True)
    assert "events" in str(caught.value) and "ROW_POLICY" in str(caught.value)
    await assert_closed(workspace)
    policed = DAILY + "\nROW_POLICY customer_id = {{String(context.customer_id)}}\n"
    await workspace.deploy(files | {"datasources/daily.datasource": policed}, allow_destructive=True)
    token = workspace.tenant("totals", customer_id="a")
    assert await workspace.rows("/v0/pipes/totals.json", token=token) == [{"customer_id": "a", "events": 3}]
    # What the hint says.
    await workspace.deploy(files | {"datasources/daily.datasource": DAILY + "\nROW_POLICY 0\n"})
    assert await workspace.rows("/v0/pipes/totals.json", token=token) == []
    # Not one deploy later either, nor under the name of a new table without a policy.
    with pytest.raises(ProjectError, match="events"):
        await workspace.deploy(files)
    open_events = EVENTS.split("ROW_POLICY >")[0]
    with pytest.raises(ProjectError, match="events"):
        await workspace.deploy(files | {"datasources/events.datasource": open_events})


async def test_a_computed_name_in_a_view(workspace: Workspace) -> None:
    hidden = DAILY_VIEW.replace("SQL >\n", "SQL >\n    %\n").replace("FROM events", f"FROM {HIDDEN_NAME}")
    files = OPEN_TARGET | {
        "datasources/daily.datasource": DAILY.replace("events", "hits"),
        "materializations/daily_view.pipe": hidden.replace("AS events", "AS hits"),
        "endpoints/totals.pipe": TOTALS.replace("events", "hits"),
    }
    assert "events" not in files["materializations/daily_view.pipe"]
    await workspace.deploy(files)
    await workspace.send("events", ROWS)
    await assert_closed(workspace)


async def test_a_computed_name_behind_a_node_and_a_pipe(workspace: Workspace) -> None:
    behind = f"NODE n\nSQL >\n    %\n    SELECT * FROM {HIDDEN_NAME}\nTYPE endpoint\n"
    view = DAILY_VIEW.replace("FROM events", "FROM behind")
    await workspace.deploy(OPEN_TARGET | {"endpoints/behind.pipe": behind, "materializations/daily_view.pipe": view})
    await workspace.send("events", ROWS)
    await assert_closed(workspace)


@pytest.mark.parametrize("name", [HIDDEN_NAME, "{{symbol(x, 'ev' + 'ents')}}"])
async def test_a_computed_name_in_a_copy(workspace: Workspace, name: str) -> None:
    """A copy's text is another one each time it runs, so it may read anything."""
    copy = f"NODE c\nSQL >\n    %\n    SELECT customer_id FROM {name}\nTYPE copy\nTARGET_DATASOURCE copied\n"
    target = "SCHEMA >\n    customer_id String\n\nENGINE MergeTree\nENGINE_SORTING_KEY customer_id\n"
    read = "NODE e\nSQL >\n    SELECT customer_id FROM copied\nTYPE endpoint\n"
    await workspace.deploy(
        {
            "datasources/events.datasource": EVENTS,
            "datasources/copied.datasource": target,
            "copies/c1.pipe": copy,
            "endpoints/read_copy.pipe": read,
        }
    )
    table = workspace.server.catalog.snapshot(workspace.id).tables["copied"].physical
    await workspace.server.engine.insert(f"`{workspace.database}`.`{table}`", [{"customer_id": c} for c in "ab"])
    await assert_closed(workspace, "read_copy")

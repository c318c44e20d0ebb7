"""Attacks C07, K79: a request's value chooses no table, on whatever way it becomes a name."""

from __future__ import annotations

import pytest

from serving import Workspace

pytestmark = pytest.mark.anyio

EVENTS = (
    "SCHEMA >\n    `customer_id` String `json:$.customer_id`,\n    `n` Int64 `json:$.n`\n\n"
    "ENGINE MergeTree\nENGINE_SORTING_KEY customer_id\n\nROW_POLICY >\n    customer_id = {{String(context.customer_id)}}\n"
)
PRIVATE = "SCHEMA >\n    `secret` String `json:$.secret`\n\nENGINE MergeTree\nENGINE_SORTING_KEY secret\n"
HIDDEN = "NODE n\nSQL >\n    SELECT * FROM private\nTYPE endpoint\n"

# Ways from a request's value to a name; each reads `events` by itself.
WAYS = {
    "set": "SELECT * FROM {% set k = String(t, 'events') %}{{table(k)}}",
    "method": "SELECT * FROM {% set k = t.lower() if defined(t) else 'events' %}{{symbol(k)}}",
    "loop": "SELECT * FROM {% for k in split_to_array(t, 'events') %}{{column(k)}}{% end %}",
    "json": "SELECT * FROM events AS e, {% for k in JSON(t, '{\"events\": 1}') %}{{symbol(k)}}{% end %} AS o",
    "subquery": "SELECT (SELECT count() FROM {% for k in Array(t, 'String', 'events') %}{{symbol(k)}}{% end %}) AS n FROM events",
    "pieces": "SELECT * FROM {% set k = '{}{}'.format(String(a, 'eve'), String(b, 'nts')) %}{{table(k)}}",
    "in": "SELECT * FROM events WHERE n IN (SELECT count() FROM {% set k = String(t, 'events') %}{{table(k)}})",
    "behind": "SELECT * FROM {% set k = String(t, 'events') %}{{table(k)}}",
}
ASKED = {"json": 't={"private":1}', "pieces": "a=pri&b=vate"}


def pipe(sql: str) -> str:
    return f"NODE endpoint\nSQL >\n    %\n    {sql}\nTYPE endpoint\n"


@pytest.mark.parametrize("name", ["private", "hidden"])
async def test_no_way_leads_from_a_value_to_a_table(workspace: Workspace, name: str) -> None:
    files = {
        "datasources/events.datasource": EVENTS,
        "datasources/private.datasource": PRIVATE,
        "endpoints/hidden.pipe": HIDDEN,
        **{f"endpoints/by_{way}.pipe": pipe(sql) for way, sql in WAYS.items()},
        "endpoints/over.pipe": pipe("SELECT * FROM by_behind"),
    }
    await workspace.deploy(files)
    await workspace.send("private", [{"secret": "canary_secret"}])
    await workspace.send("events", [{"customer_id": "a", "n": 1}])
    pipes = [*(f"by_{way}" for way in WAYS), "over"]
    token = workspace.tenant(*pipes, customer_id="a")
    for asked in pipes:
        query = ASKED.get(asked.removeprefix("by_"), "t=private").replace("private", name).replace("vate", name[3:])
        query = query.replace("a=pri", f"a={name[:3]}")
        reply = await workspace.get(f"/v0/pipes/{asked}.json?{query}", token=token)
        assert reply.status in (400, 403) and "canary" not in reply.text, (asked, query, reply.text)


async def test_names_that_the_author_wrote_are_printed(workspace: Workspace) -> None:
    """A list of tables in the template, a column of a table's name, and a workspace's own token are as they were."""
    files = {
        "datasources/events.datasource": EVENTS,
        "datasources/n.datasource": PRIVATE,
        "endpoints/listed.pipe": pipe(
            "SELECT count() AS c FROM {% for k in ['events'] %}{{table(k)}}{% end %} WHERE {{String(x, 'y')}} != ''"
        ),
        "endpoints/sorted.pipe": pipe("SELECT n FROM events ORDER BY {% set k = String(by, 'n') %}{{column(k)}}"),
        "endpoints/free.pipe": pipe("SELECT count() AS c FROM {% set k = String(t, 'events') %}{{table(k)}}"),
    }
    await workspace.deploy(files)
    await workspace.send("events", [{"customer_id": "a", "n": 1}])
    token = workspace.tenant("listed", "sorted", "free", customer_id="a")
    assert await workspace.rows("/v0/pipes/listed.json", token=token) == [{"c": 1}]
    assert await workspace.rows("/v0/pipes/sorted.json?by=n", token=token) == [{"n": 1}]
    assert await workspace.rows("/v0/pipes/free.json", token=token) == [{"c": 1}]
    assert await workspace.rows("/v0/pipes/free.json?t=n") == [{"c": 0}]

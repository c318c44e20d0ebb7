"""K20 to K28: what a tenant appends ends in no other tenant's name, whatever views and copies make of it.

`landing` has no policy, or one on another column; what is filled from it has one. A token must fix each column of which
a policy's column below is made. Where nothing that it could fix decides that column, it cannot append at all.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from pipit.errors import Conflict
from serving import Reply, Workspace

pytestmark = pytest.mark.anyio

LANDING = """
SCHEMA >
    `tenant` String `json:$.tenant`,
    `other` String `json:$.other`,
    `site` String `json:$.site`,
    `teams` Array(String) `json:$.teams[:]`,
    `number` UInt32 `json:$.number`,
    `n` UInt32 `json:$.n`

ENGINE MergeTree
ENGINE_SORTING_KEY tenant
"""
SITES = """
SCHEMA >
    `site` String `json:$.site`,
    `customer_id` String `json:$.customer_id`

ENGINE MergeTree
ENGINE_SORTING_KEY site
"""
ROLLUP = """
SCHEMA >
    `customer_id` String,
    `n` UInt64

ENGINE MergeTree
ENGINE_SORTING_KEY customer_id

ROW_POLICY >
    customer_id = {{String(context.customer_id)}}
"""
OWN = "\nROW_POLICY >\n    other = {{String(context.other)}}\n"
NAMES = "tenant, other, site, teams, number, n"


def view(sql: str, target: str = "rollup", *, nodes: str = "") -> str:
    return f"{nodes}NODE mv\nSQL >\n    {sql}\nTYPE materialized\nDATASOURCE {target}\n"


def files(sql: str, *, landing: str = LANDING, rollup: str = ROLLUP, nodes: str = "") -> dict[str, str]:
    return {
        "datasources/landing.datasource": landing,
        "datasources/sites.datasource": SITES,
        "datasources/rollup.datasource": rollup,
        "materializations/flow.pipe": view(sql, nodes=nodes),
        "endpoints/totals.pipe": "NODE n\nSQL >\n    SELECT customer_id, n FROM rollup\nTYPE endpoint\n",
    }


def token(workspace: Workspace, *, name: str = "landing", context: Any = None, **fixed: Any) -> str:
    scope = {"type": "DATASOURCES:APPEND", "resource": name, "fixed_values": fixed}
    return workspace.jwt(scope, context=context or {"customer_id": "a"})


ROW = {"tenant": "b", "other": "b", "site": "b", "teams": ["b"], "number": 2, "n": 1}


async def append(workspace: Workspace, token: str, name: str = "landing", **row: Any) -> Reply:
    body = json.dumps(ROW | row).encode()
    return await workspace.post(f"/v0/events?name={name}&wait=true", token=token, data=body)


async def seen(workspace: Workspace, customer: str) -> list[Any]:
    """What that customer's endpoint shows."""
    reply = await workspace.rows("/v0/pipes/totals.json", token=workspace.tenant("totals", customer_id=customer))
    return [row["n"] for row in reply]


# SQL of the view -> the columns that a token has to fix.
FIXABLE = {
    "SELECT tenant AS customer_id, n FROM landing": ["tenant"],
    "SELECT landing.tenant customer_id, toUInt64(n) AS n FROM landing": ["tenant"],
    "SELECT tenant AS customer_id, count() AS n FROM landing GROUP BY customer_id": ["tenant"],
    "SELECT customer_id, sum(n) AS n FROM (SELECT tenant AS x, x AS customer_id, * FROM landing) GROUP BY 1": ["tenant"],
    "WITH rows AS (SELECT * FROM landing WHERE n > 0) SELECT tenant AS customer_id, n FROM rows": ["tenant"],
    "SELECT concat(tenant, '/', other) AS customer_id, n FROM landing": ["other", "tenant"],
    "SELECT if(tenant = '', other, tenant) AS customer_id, n FROM landing": ["other", "tenant"],
    "SELECT toString(number) AS customer_id, n FROM landing": ["number"],
    "SELECT arrayJoin(teams) AS customer_id, n FROM landing": ["teams"],
    "SELECT team AS customer_id, n FROM landing ARRAY JOIN teams AS team": ["teams"],
    "SELECT l.tenant AS customer_id, l.n AS n FROM landing AS l LEFT JOIN sites AS s ON s.site = l.site": ["tenant"],
    "SELECT tenant AS customer_id, n FROM landing WHERE site IN (SELECT site FROM sites)": ["tenant"],
    "WITH 'x' AS unused SELECT other AS tenant, tenant AS customer_id, n FROM landing": ["other"],
    "SELECT * EXCEPT (tenant) REPLACE (n + 1 AS n), tenant AS customer_id FROM landing": ["tenant"],
    "SELECT x.1 AS customer_id, n FROM (SELECT tuple(tenant, n) AS x, n FROM landing)": ["n", "tenant"],
}
# SQL of the view -> what the refusal says of it.
UNFIXABLE = {
    "SELECT 'b' AS customer_id, n FROM landing": "constant",
    "WITH 'b' AS tenant SELECT tenant AS customer_id, n FROM landing": "constant",
    "SELECT any(tenant) AS customer_id, sum(n) AS n FROM landing GROUP BY site": "any",
    "SELECT argMax(tenant, site) AS customer_id, sum(n) AS n FROM landing": "argMax",
    "SELECT s.customer_id AS customer_id, l.n AS n FROM landing AS l JOIN sites AS s ON s.site = l.site": "sites",
    "SELECT coalesce(s.customer_id, l.tenant) AS customer_id, l.n AS n FROM landing AS l LEFT JOIN sites AS s "
    "ON s.site = l.site": "outer join",
    "SELECT (SELECT max(customer_id) FROM sites) AS customer_id, n FROM landing": "constant",
    "SELECT b.tenant AS customer_id, a.n AS n FROM landing AS a JOIN landing AS b ON a.site = b.site": "landing",
    "SELECT tenant AS customer_id, sum(n) AS n FROM landing GROUP BY customer_id WITH ROLLUP": "rolls",
    "SELECT if(rand() % 2 = 0, tenant, 'b') AS customer_id, n FROM landing": "rand",
    "SELECT lagInFrame(tenant) OVER (ORDER BY n) AS customer_id, n FROM landing": "lagInFrame",
    "SELECT n FROM landing": "does not give it",
}


@pytest.mark.parametrize("sql", FIXABLE)
@pytest.mark.parametrize("landing", [LANDING, LANDING + OWN], ids=["open", "other policy"])
async def test_k20_the_columns_that_a_view_makes_a_policys_column_of_are_fixed(
    workspace: Workspace, sql: str, landing: str
) -> None:
    await workspace.deploy(files(sql, landing=landing))
    own = {"other": "a"} if landing != LANDING else {}
    context = {"customer_id": "a", "other": "a"}
    values: dict[str, Any] = dict.fromkeys(("tenant", "other", "site"), "a") | {"teams": ["a"], "number": 1, "n": 1}
    needed = FIXABLE[sql]
    for missing in needed:
        if missing in own:
            continue
        fixed = {name: values[name] for name in needed if name != missing} | own
        reply = await append(workspace, token(workspace, context=context, **fixed))
        assert (reply.status, reply.json["code"]) == (403, "forbidden"), reply.text
        assert f"'{missing}'" in reply.json["error"] and "rollup" in reply.json["error"]
        assert "flow.mv" in reply.json["error"]
    everything = {name: values[name] for name in needed} | own
    reply = await append(workspace, token(workspace, context=context, **everything))
    assert (reply.status, reply.json["successful_rows"]) == (200, 1), reply.text
    assert await seen(workspace, "b") == []
    # The workspace's own token goes on as it was.
    assert (await workspace.send("landing", [ROW])).json["successful_rows"] == 1


@pytest.mark.parametrize("sql", UNFIXABLE)
async def test_k21_what_no_token_can_fix_is_not_appended_to(workspace: Workspace, sql: str) -> None:
    project = files(sql)
    await workspace.deploy(project)
    fixed = {"tenant": "a", "other": "a", "site": "a", "teams": ["a"], "number": 1, "n": 1}
    reply = await append(workspace, token(workspace, **fixed))
    assert (reply.status, reply.json["code"]) == (403, "forbidden"), reply.text
    assert "cannot append to 'landing'" in reply.json["error"] and UNFIXABLE[sql] in reply.json["error"]
    assert await seen(workspace, "b") == []
    assert (await workspace.send("landing", [ROW])).json["successful_rows"] == 1


MIDDLE = """
SCHEMA >
    `who` String,
    `team` String,
    `n` UInt64

ENGINE MergeTree
ENGINE_SORTING_KEY who
"""


async def test_k22_through_views_of_views_nodes_pipes_and_templates(workspace: Workspace) -> None:
    nodes = "NODE first\nSQL >\n    SELECT *, tenant AS whose FROM landing\n\n"
    project = files("%\n    SELECT whose AS who, other AS team, n FROM first {% if 1 == 1 %} WHERE n > 0 {% end %}", nodes=nodes)
    project["materializations/flow.pipe"] = project["materializations/flow.pipe"].replace("rollup", "middle")
    project["datasources/middle.datasource"] = MIDDLE + "\nROW_POLICY none REASON 'a step on the way'\n"
    project["pipes/behind.pipe"] = "NODE r\nSQL >\n    SELECT lower(who) AS c, n FROM middle\nTYPE endpoint\n"
    project["materializations/second.pipe"] = view("SELECT c AS customer_id, sum(n) AS n FROM behind GROUP BY c")
    await workspace.deploy(project)
    reply = await append(workspace, token(workspace, other="a", site="a"))
    assert reply.status == 403 and "'tenant'" in reply.json["error"], reply.text
    assert "'flow.mv' and 'second.mv'" in reply.json["error"]
    assert (await append(workspace, token(workspace, tenant="A"))).status == 200
    assert (await seen(workspace, "a"), await seen(workspace, "b")) == ([1], [])


async def test_k22_two_views_each_need_their_own(workspace: Workspace) -> None:
    project = files("SELECT tenant AS customer_id, n FROM landing")
    project["datasources/second.datasource"] = ROLLUP
    project["materializations/more.pipe"] = view("SELECT other AS customer_id, n FROM landing", "second")
    await workspace.deploy(project)
    for fixed, missing in (({"tenant": "a"}, "'other'"), ({"other": "a"}, "'tenant'")):
        reply = await append(workspace, token(workspace, **fixed))
        assert reply.status == 403 and missing in reply.json["error"], reply.text
    assert (await append(workspace, token(workspace, tenant="a", other="a"))).status == 200


async def test_k22_a_view_of_the_quarantine(workspace: Workspace) -> None:
    """Rows that were not parsed hold what their sender wrote."""
    await workspace.deploy(files("SELECT ifNull(tenant, '') AS customer_id, 1 AS n FROM landing_quarantine"))
    reply = await append(workspace, token(workspace, tenant="a"), n="not a number")
    assert reply.status == 403 and "quarantine" in reply.json["error"], reply.text
    assert await seen(workspace, "b") == []


COPY = "NODE c\nSQL >\n    {sql}\nTYPE copy\nTARGET_DATASOURCE rollup\nCOPY_SCHEDULE @on-demand\n"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT tenant AS customer_id, n FROM landing",
        "%\n    SELECT tenant AS customer_id, n FROM landing WHERE n > {{UInt32(least, 0)}}",
        "%\n    SELECT tenant AS customer_id, n FROM landing {% if defined(day) %} WHERE site = {{String(day)}} {% end %}",
        "%\n    SELECT tenant AS customer_id, n FROM landing WHERE toDateTime({{DateTime(job_timestamp)}}) > 0",
        "SELECT tenant AS customer_id, n FROM landing UNION ALL SELECT customer_id, 1 FROM sites",
        "SELECT l.tenant AS customer_id, l.n AS n FROM sites AS s JOIN landing AS l ON l.site = s.site",
    ],
)
async def test_k23_a_copy_hands_on_what_was_appended(workspace: Workspace, sql: str) -> None:
    project = files(sql)
    del project["materializations/flow.pipe"]
    await workspace.deploy(project | {"copies/flow.pipe": COPY.format(sql=sql)})
    reply = await append(workspace, token(workspace, other="a"))
    assert reply.status == 403 and "'tenant'" in reply.json["error"], reply.text
    assert (await append(workspace, token(workspace, tenant="a"))).status == 200


async def test_k23_a_copy_whose_text_cannot_be_told(workspace: Workspace) -> None:
    sql = "%\n    SELECT {{columns(which)}} AS customer_id, n FROM landing"
    project = files(sql)
    del project["materializations/flow.pipe"]
    await workspace.deploy(project | {"copies/flow.pipe": COPY.format(sql=sql)})
    reply = await append(workspace, token(workspace, tenant="a"))
    assert reply.status == 403 and "cannot be told" in reply.json["error"], reply.text


# A copy's SQL, the column of `landing` that one of its texts takes (not the text with no parameters, nor that with all).
CHOSEN = {
    "by values": "SELECT {% if String(x, 'a') == 'q' %} site {% elif String(y, 'k') == 'z' %} other {% else %} tenant "
    "{% end %} AS customer_id, n FROM landing",
    "by two conditions": "WITH tenant AS t, {% if defined(x) %} site {% else %} t {% end %} AS a SELECT "
    "{% if not defined(y) %} a {% else %} t {% end %} AS customer_id, n FROM landing",
    "nested": "SELECT {% if defined(x) %} {% if not defined(y) %} site {% else %} tenant {% end %} {% else %} tenant {% end %} "
    "AS customer_id, n FROM landing",
    "an alias": "WITH {% if String(x, 'a') == 'q' %} site {% else %} tenant {% end %} AS w "
    "SELECT w AS customer_id, n FROM landing",
    "a comment": "SELECT tenant {% if String(x, '') == 'q' %} || site {% end %} AS customer_id, n FROM landing",
}
# The engine keeps one side of a condition on a value that it is given.
FOLDED = {
    "if": "SELECT if({{String(x, 'a')}} = 'q', site, tenant) AS customer_id, n FROM landing",
    "value": "SELECT if({{UInt8(x, 0)}}, site, tenant) AS customer_id, n FROM landing",
    "truth": "SELECT if({{Boolean(x, 0)}}, site, tenant) AS customer_id, n FROM landing",
    "number": "SELECT if({{UInt8(x, 0)}} > 0 AND {{UInt8(y, 0)}} = 0, site, tenant) AS customer_id, n FROM landing",
    "union": "SELECT tenant AS customer_id, n FROM landing WHERE n > 1 UNION ALL "
    "SELECT if({{UInt8(x, 0)}}, site, tenant), n FROM landing",
    "case": "SELECT CASE WHEN {{String(x, 'a')}} = 'q' THEN site ELSE tenant END AS customer_id, n FROM landing",
    "ternary": "SELECT {{String(x, 'a')}} = 'q' ? site : tenant AS customer_id, n FROM landing",
    "an alias": "WITH {{String(x, 'a')}} = 'q' AS c SELECT if(c, site, tenant) AS customer_id, n FROM landing",
    "multiIf": "SELECT multiIf({{UInt8(x, 0)}} = 1, site, {{UInt8(y, 0)}} = 2, site, tenant) AS customer_id, n FROM landing",
}
# What computes its text.
COMPUTED = {
    "loop": "SELECT {% for one in Array(x, 'String', 'a,b') %} {% if one == 'q' %} site || {% end %} {% end %} tenant "
    "AS customer_id, n FROM landing",
    "set": "{% set w = String(x, 'a') %} SELECT {% if w == 'q' %} site {% else %} tenant {% end %} AS customer_id, n FROM landing",
    "while": "{% set w = Int32(x, 0) %} SELECT {% while w > 7 %} site || {% set w = 0 %} {% end %} tenant AS customer_id, n "
    "FROM landing",
    "try": "SELECT {% try %} {{Int32(x, 1)}} {% except %} site {% else %} || tenant {% end %} AS customer_id, n FROM landing",
    "condition of names": "SELECT tenant AS customer_id, n FROM landing WHERE {{sql_and(site=String(x, 'a'))}}",
}


async def _copies(workspace: Workspace, sql: str, nodes: str = "") -> None:
    project = files(sql)
    del project["materializations/flow.pipe"]
    await workspace.deploy(project | {"copies/flow.pipe": nodes + COPY.format(sql=sql)})


@pytest.mark.parametrize("sql", [*CHOSEN.values(), *FOLDED.values()], ids=[*CHOSEN, *(f"engine {n}" for n in FOLDED)])
async def test_k28_every_text_that_a_copy_may_have_counts(workspace: Workspace, sql: str) -> None:
    await _copies(workspace, f"%\n    {sql}")
    reply = await append(workspace, token(workspace, tenant="a", other="a"))
    assert reply.status == 403 and "'site'" in reply.json["error"], reply.text
    reply = await append(workspace, token(workspace, tenant="a", site="a", other="a"))
    assert reply.status == 200, reply.text
    # The workspace's own token goes on as it was.
    assert (await workspace.send("landing", [ROW])).json["successful_rows"] == 1


@pytest.mark.parametrize("sql", COMPUTED.values(), ids=COMPUTED)
async def test_k28_a_copy_that_computes_its_text_lets_no_jwt_append(workspace: Workspace, sql: str) -> None:
    await _copies(workspace, f"%\n    {sql}")
    reply = await append(workspace, token(workspace, tenant="a", site="a", other="a"))
    assert reply.status == 403 and "copies/flow.pipe" in reply.json["error"], reply.text
    assert (await workspace.send("landing", [ROW])).json["successful_rows"] == 1


async def test_k28_branches_of_a_node_that_a_copy_reads(workspace: Workspace) -> None:
    first = f"NODE first\nSQL >\n    %\n    {CHOSEN['by values']}\n\n"
    await _copies(workspace, "SELECT customer_id, n FROM first", first)
    reply = await append(workspace, token(workspace, tenant="a", other="a"))
    assert reply.status == 403 and "'site'" in reply.json["error"], reply.text
    assert (await append(workspace, token(workspace, tenant="a", site="a", other="a"))).status == 200


async def test_k23_a_table_that_is_only_joined(workspace: Workspace) -> None:
    """It matters where the policy's column comes from it; its own rows are under no name of a tenant otherwise."""
    sql = "SELECT l.tenant AS customer_id, l.n AS n FROM landing AS l JOIN sites AS s ON s.site = l.site"
    await workspace.deploy(files(sql))
    row = {"site": "b", "customer_id": "b"}
    assert (await append(workspace, token(workspace, name="sites"), "sites", **row)).status == 200


async def test_k23_a_table_that_is_joined_for_the_tenants_name(workspace: Workspace) -> None:
    sql = "SELECT s.customer_id AS customer_id, l.n AS n FROM landing AS l JOIN sites AS s ON s.site = l.site"
    await workspace.deploy(files(sql))
    row = {"site": "b", "customer_id": "b"}
    reply = await append(workspace, token(workspace, name="sites"), "sites", **row)
    assert reply.status == 403 and "'customer_id'" in reply.json["error"], reply.text
    assert (await append(workspace, token(workspace, name="sites", customer_id="a"), "sites", **row)).status == 200


async def test_k24_policies_with_several_keys_optional_ones_and_arrays(workspace: Workspace) -> None:
    rollup = """
SCHEMA >
    `customer_id` String,
    `team` String,
    `teams` Array(String),
    `number` UInt32,
    `n` UInt64

ENGINE MergeTree
ENGINE_SORTING_KEY customer_id

ROW_POLICY >
    customer_id = {{String(context.customer_id)}} AND has(teams, {{String(context.of)}})
    AND number = {{UInt32(context.number)}}
    {% if defined(context.team) %} AND team = {{String(context.team)}} {% end %}
ROW_POLICY_OPTIONAL team
"""
    sql = "SELECT tenant AS customer_id, other AS team, teams, number, n FROM landing"
    await workspace.deploy(files(sql, rollup=rollup))
    context: dict[str, Any] = {"customer_id": "a", "of": "a", "number": 1}
    fixed: dict[str, Any] = {"tenant": "a", "teams": ["a"], "number": 1}
    for name in fixed:
        rest = {key: value for key, value in fixed.items() if key != name}
        reply = await append(workspace, token(workspace, context=context, **rest))
        assert reply.status == 403 and f"'{name}'" in reply.json["error"], reply.text
    assert (await append(workspace, token(workspace, context=context, **fixed))).status == 200
    # A token that is held to a team writes for no other one.
    context["team"] = "red"
    reply = await append(workspace, token(workspace, context=context, **fixed))
    assert reply.status == 403 and "'other'" in reply.json["error"], reply.text
    assert (await append(workspace, token(workspace, context=context, other="red", **fixed))).status == 200


async def test_k25_in_an_environment_and_after_the_next_deploy(workspace: Workspace) -> None:
    project = files("SELECT tenant AS customer_id, n FROM landing")
    flow = project.pop("materializations/flow.pipe")
    await workspace.deploy(project)
    await workspace.deploy(project | {"materializations/flow.pipe": flow})
    await workspace.server.deployer.add_environment(workspace.id, "staging")
    scope = {"type": "DATASOURCES:APPEND", "resource": "landing"}
    there = workspace.jwt(scope, environment="staging")
    assert (await append(workspace, there)).status == 403
    assert (await append(workspace, token(workspace))).status == 403
    await workspace.deploy(project, allow_destructive=True)
    assert (await append(workspace, there)).status == 200
    assert (await append(workspace, token(workspace))).status == 200


async def test_k25_a_setting_keeps_the_old_behaviour_for_one_version(workspace: Workspace) -> None:
    """Not that of the data source's own policy."""
    await workspace.deploy(files("SELECT tenant AS customer_id, n FROM landing", landing=LANDING + OWN))
    assert (await append(workspace, token(workspace, other="a"))).status == 403
    reply = await workspace.request("PUT", "/v0/workspace/settings", json={"unfixed_appends": True})
    assert reply.status == 200 and reply.json["unfixed_appends"] is True
    assert (await append(workspace, token(workspace, other="a"))).status == 200
    assert (await append(workspace, token(workspace))).status == 403
    assert await seen(workspace, "b") == [1]
    more = files("SELECT tenant AS customer_id, n FROM landing", landing=LANDING + OWN)
    more["endpoints/more.pipe"] = "NODE n\nSQL >\n    SELECT 1 AS one\nTYPE endpoint\n"
    said = [warning.message for warning in (await workspace.deploy(more)).warnings]
    assert any("unfixed_appends is on" in text and "rollup" in text for text in said), said
    await workspace.request("PUT", "/v0/workspace/settings", json={"unfixed_appends": False})
    assert (await append(workspace, token(workspace, other="a"))).status == 403


async def test_k26_without_policies_and_beside_them_nothing_changes(workspace: Workspace) -> None:
    open_rollup = ROLLUP.split("ROW_POLICY")[0]
    await workspace.deploy(files("SELECT tenant AS customer_id, n FROM landing", rollup=open_rollup))
    assert (await append(workspace, token(workspace))).status == 200
    stated = open_rollup + "ROW_POLICY none REASON 'figures of all'\n"
    await workspace.deploy(files("SELECT tenant AS customer_id, n FROM landing", rollup=stated))
    assert (await append(workspace, token(workspace))).status == 200
    await workspace.deploy(files("SELECT tenant AS customer_id, n FROM landing"))
    assert (await append(workspace, token(workspace, name="sites"), "sites", customer_id="b")).status == 200


async def test_k27_g07_jwts_of_one_name_do_not_share_idempotency_keys(workspace: Workspace) -> None:
    """Neither to have another's rows taken for a retry, nor to learn that it has used the key."""
    await workspace.deploy(files("SELECT tenant AS customer_id, n FROM landing", rollup=ROLLUP.split("ROW_POLICY")[0]))
    scope = {"type": "DATASOURCES:APPEND", "resource": "landing"}
    read = {"type": "PIPES:READ", "resource": "totals"}
    now = int(time.time())

    async def send(token: str, n: int) -> Reply:
        headers = {"Idempotency-Key": "same"}
        body = json.dumps(ROW | {"n": n}).encode()
        return await workspace.post("/v0/events?name=landing&wait=true", token=token, data=body, headers=headers)

    tokens = [
        workspace.jwt(scope, exp=now + 3600),
        workspace.jwt(scope, exp=now + 3601),
        workspace.jwt(scope, read | {"fixed_params": {"customer": "a"}}),
        workspace.jwt(scope, read | {"fixed_params": {"customer": "b"}}),
        workspace.jwt(scope, read, context={"role": "x"}),
        workspace.jwt(scope, read | {"fixed_params": {"customer": "a"}}, context={"role": "x"}),
        workspace.jwt(scope | {"fixed_values": {"tenant": "a"}}),
        workspace.jwt(scope | {"fixed_values": {"tenant": "b"}}),
    ]
    for number, token in enumerate(tokens):
        assert (await send(token, number)).status == 200
    # A retry is one: with the same token, or with a renewed one of the same tenant.
    for number, token in enumerate(tokens):
        assert (await send(token, number)).status == 200
        assert (await send(token, 99)).status == 409
    renewed = workspace.jwt(scope, read, context={"role": "x"}, exp=now + 7200)
    assert (await send(renewed, 4)).status == 200
    counted = await workspace.rows("/v0/sql?q=SELECT+count()+AS+n+FROM+landing+FORMAT+JSON")
    assert counted == [{"n": len(tokens)}]


async def test_k27_environments_whose_names_differ_by_case_only(workspace: Workspace) -> None:
    await workspace.server.deployer.add_environment(workspace.id, "Acme")
    for name in ("acme", "ACME", "Acme"):
        with pytest.raises(Conflict, match="'Acme'"):
            await workspace.server.deployer.add_environment(workspace.id, name)
    await workspace.server.deployer.remove_environment(workspace.id, "Acme")
    await workspace.server.deployer.add_environment(workspace.id, "acme")

"""Deployments beside the live one: who may read them, under which filters, and what a FORWARD_QUERY may read."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from deploy.test_generations import _EVENTS, BASE, EVENTS, changed, send
from pipit.audit.policy_regression import policy_regressions
from pipit.deploy.plan import DeployRefused
from pipit.errors import Reason
from serving import Workspace

pytestmark = pytest.mark.anyio

STAGING = "__tb__deployment=staging"
OPEN = EVENTS.split("ROW_POLICY")[0]  # a deployment that confines nobody
WAITS = changed(_EVENTS, ("`code` String", "`code` UInt32"))


@pytest.mark.parametrize("claim", [None, "live"])
async def test_a_jwt_reads_what_waits_only_if_it_says_so(workspace: Workspace, claim: str | None) -> None:
    """K85: the deployment that waits confines nobody, and the URL asks for it."""
    await workspace.deploy(BASE)
    await send(workspace, 0, 6)
    await workspace.deploy(BASE | {_EVENTS: OPEN}, promote=False, allow_weaker=True)
    claims = {"deployment": claim} if claim else {}
    scope = {"type": "PIPES:READ", "resource": "landed"}
    token = workspace.jwt(scope, context={"customer_id": "a"}, **claims)
    for path in (f"/v0/pipes/landed.json?{STAGING}", f"/v0/pipes/landed.json?{STAGING}&{STAGING}"):
        assert {row["customer_id"] for row in await workspace.rows(path, token=token)} == {"a"}
    # One that says so reads it as its author wrote it: nothing else is to be seen there.
    told = workspace.jwt(scope, context={"customer_id": "a"}, deployment="staging")
    assert {row["customer_id"] for row in await workspace.rows(f"/v0/pipes/landed.json?{STAGING}", token=told)} == {"a", "b"}
    for wrong in ("next", "", 1, None, ["staging"]):
        bad = workspace.jwt(scope, context={"customer_id": "a"}, deployment=wrong)
        assert (await workspace.get("/v0/pipes/landed.json", token=bad)).status == 403


async def test_what_waits_is_filtered_as_what_is_live(workspace: Workspace) -> None:
    """K85: a JWT that may read it gets its own rows, and its context has to have the keys."""
    await workspace.deploy(BASE)
    await send(workspace, 0, 6)
    await workspace.deploy(WAITS, promote=False)
    scope = {"type": "PIPES:READ", "resource": "landed"}
    for tenant in "ab":
        told = workspace.jwt(scope, context={"customer_id": tenant}, deployment="staging")
        rows = await workspace.rows(f"/v0/pipes/landed.json?{STAGING}", token=told)
        assert rows and {row["customer_id"] for row in rows} == {tenant}
    nobody = workspace.jwt(scope, deployment="staging")
    assert (await workspace.get(f"/v0/pipes/landed.json?{STAGING}", token=nobody)).status == 403
    # What is written goes by the rules of what is live.
    append = workspace.jwt({"type": "DATASOURCES:APPEND", "resource": "events"}, deployment="staging")
    reply = await workspace.post(f"/v0/events?name=events&{STAGING}", token=append, data=b"{}\n")
    assert reply.status == 403


async def test_what_is_written_goes_by_what_is_live(workspace: Workspace) -> None:
    """K85: the deployment that waits would let the token append, and the URL asks for it."""
    await workspace.deploy(BASE)
    await workspace.deploy(BASE | {_EVENTS: OPEN}, promote=False, allow_weaker=True)
    append = workspace.jwt({"type": "DATASOURCES:APPEND", "resource": "events"}, deployment="staging")
    body = b'{"day":"2026-01-01","customer_id":"b","code":"1","amount":1}\n'
    for path in (f"/v0/events?name=events&wait=true&{STAGING}", f"/v1/datasources/events/append?format=ndjson&{STAGING}"):
        reply = await workspace.post(path, token=append, data=body)
        assert (reply.status, reply.json["reason"]) == (403, Reason.FIXED_VALUES_MISSING), reply.text
    assert await workspace.rows("/v0/sql?q=SELECT+amount+FROM+events+FORMAT+JSON") == []


async def test_a_weaker_deployment_does_not_even_wait(workspace: Workspace) -> None:
    """K85: without --allow-weaker, promoted or not."""
    await workspace.deploy(BASE)
    with pytest.raises(DeployRefused):
        await workspace.deploy(BASE | {_EVENTS: OPEN}, promote=False)


async def test_generations_have_no_names_in_sql(workspace: Workspace) -> None:
    """K86: neither an endpoint nor SQL of the workspace reaches a table by the name that the engine has for it."""
    await workspace.deploy(BASE)
    await send(workspace, 0, 6)
    await workspace.deploy(WAITS, promote=False)
    names = ["d1_events", "d2_events", "q2_events", "x2_d2_events", "x3_d1_events", "x4_d2_events", "x5_0_00000000_d2_events", "m2_to_daily__roll", "m1_to_daily__roll"]
    for name in names:
        for written in (name, f"{workspace.database}.{name}", f"`{workspace.database}`.`{name}`"):
            reply = await workspace.get(f"/v0/sql?q={quote(f'SELECT * FROM {written}')}&{STAGING}")
            assert reply.status == 400, (written, reply.text)
    files = BASE | {"endpoints/x.pipe": "NODE e\nSQL >\n    SELECT * FROM d1_events\nTYPE endpoint\n"}
    await workspace.server.deployer.discard(workspace.id, 2)
    with pytest.raises(DeployRefused):
        await workspace.deploy(files)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT day, customer_id, toUInt32(code) AS code, amount FROM d1_events",
        "SELECT day, customer_id, (SELECT count() FROM system.tables) AS code, amount",
        "SELECT day, customer_id, (SELECT count() FROM pipit.deployments) AS code, amount",
        "SELECT day, customer_id, (SELECT count() FROM url('http://127.0.0.1:1/', 'CSV', 'a String')) AS code, amount",
        "SELECT day, customer_id, (SELECT count() FROM file('/etc/passwd', 'LineAsString')) AS code, amount",
        "SELECT day, customer_id, toUInt32(code) AS code, amount FROM events INTO OUTFILE '/tmp/x'",
        "SELECT day, customer_id, toUInt32(code) AS code, amount FROM events SETTINGS additional_table_filters={}",
        "SELECT day, customer_id, toUInt32(code) AS code, amount FROM events; DROP TABLE events",
    ],
)
async def test_a_forward_query_reads_what_pipes_may_read(workspace: Workspace, query: str) -> None:
    """K87: it is composed and examined as a pipe's SQL is."""
    await workspace.deploy(BASE)
    await send(workspace, 0, 6)
    forward = EVENTS.replace("`code` String", "`code` UInt32").replace("ROW_POLICY", f"FORWARD_QUERY >\n    {query}\n\nROW_POLICY")
    with pytest.raises(DeployRefused):
        await workspace.deploy(BASE | {_EVENTS: forward})
    assert workspace.server.catalog.snapshot(workspace.id).deployment == 1


@pytest.mark.parametrize("path", ["rollback", "1/set-live"])
async def test_no_rollback_past_a_row_policy(workspace: Workspace, path: str) -> None:
    """K85: the previous deployment confines nobody; going back to it needs what a deploy of it needs."""
    await workspace.deploy(BASE | {_EVENTS: OPEN})
    await workspace.deploy(BASE)
    await send(workspace, 0, 6)
    token = workspace.jwt({"type": "PIPES:READ", "resource": "landed"}, context={"customer_id": "a"})

    async def seen() -> set[str]:
        return {row["customer_id"] for row in await workspace.rows("/v0/pipes/landed.json", token=token)}

    with pytest.raises(DeployRefused) as deployed:
        files = BASE | {_EVENTS: OPEN}
        await workspace.deploy(files, regressions=policy_regressions)
    reasons = {one.reason for one in deployed.value.refusals}
    for flag in ("", "?allow_weaker=false", "?allow_weaker=1"):
        reply = await workspace.post(f"/v1/deployments/{path}{flag}")
        assert reply.status == 400 and {one["reason"] for one in reply.json["errors"]} == reasons == {Reason.CONFINES_LESS}
        assert workspace.server.catalog.snapshot(workspace.id).deployment == 2 and await seen() == {"a"}
    reply = await workspace.post(f"/v1/deployments/{path}?allow_weaker=true")
    assert reply.status == 200 and await seen() == {"a", "b"}
    assert (await workspace.post("/v1/deployments/rollback")).status == 200  # back to the one that confines more
    assert await seen() == {"a"}


async def test_a_rollback_leaves_no_words_of_other_tenants(workspace: Workspace) -> None:
    """K85: a LowCardinality column keeps its whole dictionary; a deployment that does not know of it puts up no barrier."""
    await workspace.deploy(BASE)
    await workspace.deploy(changed(_EVENTS, ("`code` String", "`code` LowCardinality(String)")))
    await send(workspace, 0, 6)

    async def type_of() -> str:
        (row,) = await workspace.server.engine.rows(
            "SELECT type FROM system.columns WHERE database = {d:String} AND table = 'd1_events' AND name = 'code'",
            {"d": workspace.database},
        )
        return str(row["type"])

    assert await type_of() == "LowCardinality(String)"
    for expected in ("String", "LowCardinality(String)"):
        await workspace.server.deployer.rollback(workspace.id)
        assert await type_of() == expected
        assert len(await workspace.rows("/v0/pipes/landed.json")) == 6


async def test_a_rollback_brings_no_token_back(workspace: Workspace) -> None:
    """K85: what the files name no longer stays without rights, whatever names it in the deployment before."""
    landed = "endpoints/landed.pipe"
    named = BASE | {landed: f"TOKEN gone READ\nTOKEN stays READ\n{BASE[landed]}"}
    await workspace.deploy(named)
    tokens = {row.name: row.token for row in workspace.server.catalog.tokens(workspace.id)}
    await workspace.deploy(BASE | {landed: f"TOKEN stays READ\nTOKEN new READ\n{BASE[landed]}"})
    tokens |= {row.name: row.token for row in workspace.server.catalog.tokens(workspace.id)}

    async def statuses() -> dict[str, int]:
        return {n: (await workspace.get("/v0/pipes/landed.json", token=t)).status for n, t in tokens.items()}

    before = await statuses()
    assert before["stays"] == before["new"] == 200 and before["gone"] in (401, 403)
    await workspace.server.deployer.rollback(workspace.id)
    after = await statuses()
    assert after["stays"] == 200 and after["gone"] == before["gone"] == after["new"]
    await workspace.server.deployer.rollback(workspace.id)
    assert await statuses() == before
    await workspace.deploy(named)
    renewed = {row.name: row.token for row in workspace.server.catalog.tokens(workspace.id)}
    assert renewed["gone"] != tokens["gone"] and await statuses() == before | {"new": before["gone"]}

"""Deployments beside the live one: who may read them, under which filters, and what a FORWARD_QUERY may read."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from deploy.test_generations import _EVENTS, BASE, EVENTS, changed, send
from pipit.deploy.plan import DeployRefused
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
    names = ["d1_events", "d2_events", "q2_events", "x2_d2_events", "x3_d1_events", "m2_to_daily__roll", "m1_to_daily__roll"]
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

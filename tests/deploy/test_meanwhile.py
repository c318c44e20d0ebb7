"""What comes while tables are made anew: events, tenants' events under another policy, copies. None is lost or doubled."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from deploy.test_generations import _EVENTS, BASE, EVENTS, REBUILDS, assert_holds, changed, read, send, sent
from serving import Workspace

pytestmark = pytest.mark.anyio

BY_TENANT = EVENTS.replace("`customer_id` String `json:$.customer_id`", "`tenant` String `json:$.tenant`").replace(
    "KEY customer_id", "KEY tenant"
)
RENAMED = BY_TENANT.replace(
    "ROW_POLICY customer_id = {{String(context.customer_id)}}",
    "FORWARD_QUERY >\n    SELECT day, customer_id AS tenant, code, amount\n\n"
    "ROW_POLICY tenant = {{String(context.customer_id)}}",
)
ALONE = {_EVENTS: EVENTS, "endpoints/every.pipe": "NODE e\nSQL >\n    SELECT * FROM events ORDER BY amount\nTYPE endpoint\n"}


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["a FORWARD_QUERY"], id="one"),
        pytest.param(["type", "a FORWARD_QUERY", "sorting key"], id="three", marks=pytest.mark.long),
    ],
)
async def test_events_of_every_kind_while_tables_are_made_anew(workspace: Workspace, names: list[str]) -> None:
    """Deploys, rollbacks and promotions one after the other, under events with and without `wait` and with keys."""
    await workspace.deploy(BASE)
    await send(workspace, 0, 50)
    stop = asyncio.Event()
    number = 50

    async def keep_sending() -> None:
        nonlocal number
        while not stop.is_set():
            first, number = number, number + 5
            body = "".join(json.dumps(row) + "\n" for row in sent(first, first + 5)).encode()
            wait = "true" if first % 3 == 0 else "false"
            for _ in range(2 if first % 4 == 0 else 1):  # the same key again counts once
                reply = await workspace.post(
                    f"/v0/events?name=events&wait={wait}", data=body, headers={"Idempotency-Key": str(first)}
                )
                assert reply.status in (200, 202), reply.text

    sending = [asyncio.ensure_future(keep_sending()) for _ in range(3)]
    for name in names:
        await workspace.deploy(BASE)
        await workspace.deploy(REBUILDS[name][0], promote=name != "a FORWARD_QUERY")
        if name == "a FORWARD_QUERY":
            staging = workspace.server.catalog.beside(workspace.id).staging
            assert staging is not None
            await workspace.server.deployer.promote(workspace.id, staging.row.id)
        await workspace.server.deployer.rollback(workspace.id)
        await workspace.server.deployer.rollback(workspace.id)
    stop.set()
    await asyncio.gather(*sending)
    snapshots = workspace.server.catalog.kept(workspace.id)
    assert len(snapshots) == 2
    for snapshot in snapshots:
        physical = snapshot.tables["events"].physical
        assert await workspace.server.ingest.drained((workspace.database, physical), 20)
    await assert_holds(workspace, number)
    await workspace.server.deployer.rollback(workspace.id)
    await assert_holds(workspace, number)


async def test_what_a_token_fixed_for_the_old_policy_says_nothing_under_the_new_one(workspace: Workspace) -> None:
    """K88: a tenant's event that waits while the policy gets another column: its body must not name the tenant there."""
    await workspace.deploy(ALONE)
    a = workspace.jwt({"type": "DATASOURCES:APPEND", "resource": "events", "fixed_values": {"customer_id": "a"}})
    row = {"day": "2026-01-01", "customer_id": "b", "tenant": "b", "code": "1", "amount": 1}

    async def append(token: str, **more: Any) -> None:
        body = (json.dumps(row | more) + "\n").encode()
        reply = await workspace.post("/v0/events?name=events", token=token, data=body)
        assert reply.status == 202, reply.text

    await workspace.deploy(ALONE | {_EVENTS: RENAMED}, promote=False)
    await append(a)
    await append("admin", tenant="c", customer_id="c", amount=2)
    table = workspace.server.catalog.staging(workspace.id).tables["events"]
    for key in (workspace.server.catalog.snapshot(workspace.id).tables["events"].key, table.key):
        assert await workspace.server.ingest.drain(*key)
        assert await workspace.server.ingest.drained(key, 20)
    await workspace.server.deployer.promote(workspace.id, 2)
    found = await workspace.rows("/v0/pipes/every.json")
    assert [(r["tenant"], r["amount"]) for r in found] == [("c", 2)]
    sql = "/v0/sql?q=SELECT+c__error,amount+FROM+events_quarantine+FORMAT+JSON"
    (refused,) = await workspace.rows(sql)
    assert refused["amount"] == "1" and "does not fix 'tenant'" in refused["c__error"][0]


async def test_what_is_fixed_stays_fixed(workspace: Workspace) -> None:
    await workspace.deploy(ALONE)
    a = workspace.jwt({"type": "DATASOURCES:APPEND", "resource": "events", "fixed_values": {"customer_id": "a"}})
    await workspace.deploy(ALONE | {_EVENTS: changed(_EVENTS, ("`code` String", "`code` UInt32"))[_EVENTS]}, promote=False)
    body = b'{"day": "2026-01-01", "customer_id": "b", "code": "7", "amount": 1}\n'
    body += b'{"day": "2026-01-01", "customer_id": "b", "code": "x", "amount": 2}\n'
    reply = await workspace.post("/v0/events?name=events&wait=true", token=a, data=body)
    assert reply.json == {"successful_rows": 2, "quarantined_rows": 0}  # those of the live one count
    await workspace.server.deployer.promote(workspace.id, 2)
    found = await workspace.rows("/v0/pipes/every.json")
    assert [(r["customer_id"], r["code"]) for r in found] == [("a", 7)]
    (refused,) = await workspace.rows("/v0/sql?q=SELECT+code,customer_id+FROM+events_quarantine+FORMAT+JSON")
    assert refused == {"code": "x", "customer_id": "a"}
    await workspace.server.deployer.rollback(workspace.id)
    assert len(await workspace.rows("/v0/pipes/every.json")) == 2


async def test_a_copy_writes_every_generation(workspace: Workspace) -> None:
    copy = (
        "NODE picture\nSQL >\n    SELECT day, customer_id, code, amount FROM daily_source\nTYPE copy\n"
        "TARGET_DATASOURCE events\nCOPY_SCHEDULE @on-demand\n"
    )
    files = BASE | {"datasources/daily_source.datasource": EVENTS, "copies/again.pipe": copy}
    await workspace.deploy(files)
    assert (await workspace.send("daily_source", sent(0, 6))).status == 200
    await workspace.deploy(files | REBUILDS["sorting key"][0])
    reply = await workspace.post("/v0/pipes/again/copy")
    assert reply.status == 200, reply.text
    await workspace.server.jobs.ended(reply.json["job"]["job_id"])
    await assert_holds(workspace, 6)
    await workspace.server.deployer.rollback(workspace.id)
    await assert_holds(workspace, 6)
    assert len((await read(workspace))[1]) == 6

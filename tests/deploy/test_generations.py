"""New generations of tables: what becomes of the rows that are there, and of the events that come meanwhile.

What a rebuilt table and its views hold must equal a table made anew and fed the same events.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pipit.deploy.plan import DeployRefused
from serving import Workspace

pytestmark = pytest.mark.anyio

EVENTS = """\
SCHEMA >
    `day` Date `json:$.day`,
    `customer_id` String `json:$.customer_id`,
    `code` String `json:$.code`,
    `amount` Int64 `json:$.amount`

ENGINE MergeTree
ENGINE_PARTITION_KEY toYYYYMM(day)
ENGINE_SORTING_KEY customer_id

ROW_POLICY customer_id = {{String(context.customer_id)}}
"""
DAILY = """\
SCHEMA >
    day Date,
    customer_id String,
    total SimpleAggregateFunction(sum, Int64)

ENGINE AggregatingMergeTree
ENGINE_SORTING_KEY customer_id, day

ROW_POLICY customer_id = {{String(context.customer_id)}}
"""
TO_DAILY = """\
NODE roll
SQL >
    SELECT day, customer_id, sum(amount) AS total FROM events GROUP BY day, customer_id

TYPE materialized
DATASOURCE daily
"""
TO_MONTHLY = """\
NODE roll
SQL >
    SELECT toStartOfMonth(day) AS day, customer_id, sum(total) AS total FROM daily GROUP BY day, customer_id

TYPE materialized
DATASOURCE monthly
"""
TOTALS = """\
NODE endpoint
SQL >
    SELECT customer_id, sum(total) AS total FROM monthly GROUP BY customer_id ORDER BY customer_id

TYPE endpoint
"""
LANDED = """\
NODE endpoint
SQL >
    SELECT customer_id, toString(code) AS code, toInt64(amount) AS amount FROM events ORDER BY customer_id, code, amount

TYPE endpoint
"""
_EVENTS, _DAILY, _MONTHLY = (f"datasources/{name}.datasource" for name in ("events", "daily", "monthly"))
_TO_DAILY, _TO_MONTHLY = "materializations/to_daily.pipe", "materializations/to_monthly.pipe"
BASE: dict[str, str] = {
    _EVENTS: EVENTS,
    _DAILY: DAILY,
    _MONTHLY: DAILY,
    _TO_DAILY: TO_DAILY,
    _TO_MONTHLY: TO_MONTHLY,
    "endpoints/totals.pipe": TOTALS,
    "endpoints/landed.pipe": LANDED,
}


def changed(path: str, *pairs: tuple[str, str]) -> dict[str, str]:
    text = BASE[path]
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return BASE | {path: text}


FORWARD = (
    "ROW_POLICY",
    "FORWARD_QUERY >\n    SELECT day, customer_id, toUInt32(code) AS code, amount\n\nROW_POLICY",
)
# What each changes, and how the rows of the table come to be.
REBUILDS: Mapping[str, tuple[dict[str, str], dict[str, str]]] = {
    "type": (
        changed(_EVENTS, ("`code` String", "`code` UInt32")),
        {"events": "cast", "daily": "copy", "monthly": "copy"},
    ),
    "a FORWARD_QUERY": (
        changed(_EVENTS, ("`code` String", "`code` UInt32"), FORWARD),
        {"events": "forward_query", "daily": "views", "monthly": "views"},
    ),
    "sorting key": (
        changed(_EVENTS, ("SORTING_KEY customer_id", "SORTING_KEY customer_id, day")),
        {"events": "cast", "daily": "copy", "monthly": "copy"},
    ),
    "partition key": (
        changed(_EVENTS, ("toYYYYMM(day)", "toYear(day)")),
        {"events": "cast", "daily": "copy", "monthly": "copy"},
    ),
    "engine": (
        changed(_EVENTS, ("ENGINE MergeTree", "ENGINE ReplacingMergeTree"), ("KEY customer_id", "KEY customer_id, code, amount")),
        {"events": "cast", "daily": "copy", "monthly": "copy"},
    ),
    "a view's SQL": (
        changed(_TO_DAILY, ("sum(amount) AS total", "sum(amount) AS total, count() AS unused")),
        {"daily": "views", "monthly": "views"},
    ),
    "a target's sorting key": (
        changed(_DAILY, ("KEY customer_id, day", "KEY day, customer_id")),
        {"daily": "cast", "monthly": "copy"},
    ),
    "the last target's sorting key": (
        changed(_MONTHLY, ("KEY customer_id, day", "KEY day, customer_id")),
        {"monthly": "cast"},
    ),
}


def sent(first: int, last: int) -> list[dict[str, Any]]:
    return [
        {"day": f"2026-0{1 + n % 3}-1{n % 7}", "customer_id": "ab"[n % 2], "code": str(n), "amount": n}
        for n in range(first, last)
    ]


async def send(workspace: Workspace, first: int, last: int) -> None:
    reply = await workspace.send("events", sent(first, last))
    assert reply.status == 200 and reply.json["quarantined_rows"] == 0, reply.text


async def read(workspace: Workspace, token: str = "admin", query: str = "") -> tuple[Any, Any]:
    return (
        await workspace.rows(f"/v0/pipes/totals.json{query}", token=token),
        await workspace.rows(f"/v0/pipes/landed.json{query}", token=token),
    )


async def assert_holds(workspace: Workspace, last: int, query: str = "") -> None:
    """The tables and views, and what each tenant sees of them, are those of a table that was fed these events."""
    rows = sent(0, last)
    totals = {c: sum(r["amount"] for r in rows if r["customer_id"] == c) for c in "ab"}
    landed = sorted((r["customer_id"], r["code"], r["amount"]) for r in rows)

    def told(customers: str) -> tuple[Any, Any]:
        return (
            [{"customer_id": c, "total": totals[c]} for c in customers if any(r["customer_id"] == c for r in rows)],
            [{"customer_id": c, "code": d, "amount": a} for c, d, a in landed if c in customers],
        )

    found = await read(workspace, query=query)
    assert [{**r, "total": int(r["total"])} for r in found[0]] == told("ab")[0]
    assert found[1] == told("ab")[1]
    for tenant in "ab":
        mine = workspace.tenant("totals", "landed", customer_id=tenant)
        found = await read(workspace, mine)
        assert [{**r, "total": int(r["total"])} for r in found[0]] == told(tenant)[0]
        assert found[1] == told(tenant)[1]


async def objects(workspace: Workspace) -> list[str]:
    rows = await workspace.server.engine.rows(
        "SELECT name FROM system.tables WHERE database = {d:String} ORDER BY name", {"d": workspace.database}
    )
    names = [str(r["name"]) for r in rows]
    return [name for name in names if not name.startswith("probe")]  # copies that events keep for a while


@pytest.mark.parametrize("name", REBUILDS)
async def test_what_is_made_anew_equals_what_was_made_so(workspace: Workspace, name: str) -> None:
    files, how = REBUILDS[name]
    await workspace.deploy(BASE)
    await send(workspace, 0, 30)
    outcome = await workspace.deploy(files)
    assert {rebuild.table.name: rebuild.how.value for rebuild in outcome.plan.rebuilds} == how
    await assert_holds(workspace, 30)
    await send(workspace, 30, 40)
    await assert_holds(workspace, 40)
    await workspace.server.deployer.rollback(workspace.id)
    await assert_holds(workspace, 40)
    await send(workspace, 40, 50)
    await assert_holds(workspace, 50)
    await workspace.server.deployer.rollback(workspace.id)
    await assert_holds(workspace, 50)
    await workspace.server.deployer.discard(workspace.id, 1)
    left = await objects(workspace)
    assert not [x for x in left if x.startswith("x")], left
    for made in how:
        assert [x for x in left if x.endswith(f"_{made}") and x[0] in "dq"] == [f"d2_{made}", f"q2_{made}"]
    await send(workspace, 50, 60)
    await assert_holds(workspace, 60)


@pytest.mark.parametrize("name", REBUILDS)
async def test_on_empty_tables(workspace: Workspace, name: str) -> None:
    await workspace.deploy(BASE)
    await workspace.deploy(REBUILDS[name][0])
    await send(workspace, 0, 10)
    await assert_holds(workspace, 10)


async def test_a_value_that_does_not_fit(workspace: Workspace) -> None:
    await workspace.deploy(BASE)
    await send(workspace, 0, 5)
    await workspace.send("events", [{"day": "2026-01-01", "customer_id": "a", "code": "x7", "amount": 1}])
    with pytest.raises(DeployRefused) as refused:
        await workspace.deploy(REBUILDS["type"][0])
    (error,) = refused.value.errors
    assert "1 row of 'events' hold a value of 'code' that does not fit into UInt32, such as: x7" in error.message
    assert "accurateCastOrDefault(code, 'UInt32') AS code" in error.hint and error.line
    assert [x for x in await objects(workspace) if "2_" in x] == []


async def test_nothing_is_rounded(workspace: Workspace) -> None:
    base = changed(_EVENTS, ("`amount` Int64", "`amount` Float64"))
    views = {_TO_DAILY: TO_DAILY.replace("sum(amount)", "sum(toInt64(amount))")}
    await workspace.deploy(base | views)
    await workspace.send("events", [{"day": "2026-01-01", "customer_id": "a", "code": "1", "amount": 1.25}])
    files = changed(_EVENTS, ("`amount` Int64", "`amount` Decimal(9, 1)")) | views
    with pytest.raises(DeployRefused, match=r"'amount' that does not fit into Decimal\(9, 1\), such as: 1.25"):
        await workspace.deploy(files)
    fits = changed(_EVENTS, ("`amount` Int64", "`amount` Decimal(9, 2)")) | views
    await workspace.deploy(fits)
    assert (await workspace.rows("/v0/sql?q=SELECT+amount+FROM+events+FORMAT+JSON")) == [{"amount": 1.25}]

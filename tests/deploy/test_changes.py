"""What a changed table holds is what one made anew would hold that was fed the same events; and back again.

Many changes are made one after the other in one workspace, over rows and a chain of two views, with a policy on each
table. `changes.py` has what each of them does.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from deploy.changes import DAILY, ENDPOINT, EVENTS, TO_DAILY, TO_MONTHLY
from pipit.deploy import DeployRefused, execute
from pipit.errors import Reason
from pipit.server import Server
from pipit.tables import Mode
from serving import Workspace, made_workspace

pytestmark = pytest.mark.anyio

EVENTS_FILE = "datasources/events.datasource"
STAR = "NODE all\nSQL >\n    SELECT * FROM events ORDER BY at, amount\n\nTYPE endpoint\n"
FILES = {
    EVENTS_FILE: EVENTS,
    "datasources/daily.datasource": DAILY,
    "datasources/monthly.datasource": DAILY,
    "materializations/to_daily.pipe": TO_DAILY,
    "materializations/to_monthly.pipe": TO_MONTHLY,
    "endpoints/latest.pipe": ENDPOINT,
    "endpoints/everything.pipe": STAR,
}
ROWS = [
    {"at": "2026-01-02 03:04:05", "customer_id": "a", "kind": "k", "amount": 5},
    {"at": "2026-01-03 03:04:05", "customer_id": "b", "amount": 7},
    {"at": "2026-02-04 03:04:05", "customer_id": "a", "kind": "m", "amount": 11},
]
MORE = [{"at": "2026-03-05 03:04:05", "customer_id": "a", "kind": "k", "amount": 13}]


def files(events: str, **others: str) -> dict[str, str]:
    return FILES | {EVENTS_FILE: events} | others


async def sql(workspace: Workspace, text: str) -> list[dict[str, Any]]:
    return await workspace.rows(f"/v0/sql?q={quote(text + ' FORMAT JSON')}")


async def holds(workspace: Workspace) -> dict[str, Any]:
    """All rows of all tables, and what a tenant sees of them."""
    found: dict[str, Any] = {}
    for table, key in (("events", "at, amount"), ("daily", "customer_id, day"), ("monthly", "customer_id, day")):
        final = "" if table == "events" else " FINAL"
        rows = await sql(workspace, f"SELECT * FROM {table}{final} ORDER BY {key}")
        found[table] = [dict(sorted(row.items())) for row in rows]
    for pipe in ("latest", "everything"):
        token = workspace.tenant(pipe, customer_id="a")
        rows = await workspace.rows(f"/v0/pipes/{pipe}.json", token=token)
        found[pipe] = sorted((dict(sorted(row.items())) for row in rows), key=json.dumps)
    return found


@asynccontextmanager
async def anew(
    server: Server, base_url: str, http: aiohttp.ClientSession, files: Mapping[str, str], *batches: list[dict[str, Any]]
) -> AsyncIterator[dict[str, Any]]:
    async with made_workspace(server, base_url, http) as fresh:
        await fresh.deploy(files)
        for rows in batches:
            assert (await fresh.send("events", rows)).status == 200
        yield await holds(fresh)


# Each with what it makes of the text before it. The types of `at` and `amount` are read by views.
STEPS = [
    ("`kind` LowCardinality(String)", "`kind` String"),
    ("`kind` String", "`kind` LowCardinality(Nullable(String))"),
    ("`kind` LowCardinality(Nullable(String))", "`kind` Nullable(String)"),
    (" DEFAULT 'none'", ""),
    (" CODEC(ZSTD(1))", " CODEC(LZ4)"),
    ("`amount` Int64", "`amount` Int32"),
    ("by_amount amount TYPE minmax GRANULARITY 1", "by_kind kind TYPE set(10) GRANULARITY 2"),
    ("90 YEAR", "80 YEAR"),
    ("index_granularity=1024", "index_granularity=1024, merge_with_ttl_timeout=1000"),
    ("INDEXES >", "    `note` Nullable(String) `json:$.note`\n\nINDEXES >"),
]


@pytest.mark.parametrize("rows", [False, True], ids=["empty", "rows"])
async def test_a_changed_table_holds_what_one_made_anew_would(
    workspace: Workspace, server: Server, base_url: str, http: aiohttp.ClientSession, rows: bool
) -> None:
    texts = [EVENTS]
    for old, new in STEPS:
        assert texts[-1].count(old) == 1, old
        text = texts[-1].replace(old, new)
        texts.append(text.replace(" CODEC(LZ4)\n\n", " CODEC(LZ4),\n"))
    await workspace.deploy(files(EVENTS))
    if rows:
        assert (await workspace.send("events", ROWS)).status == 200
    for text in texts[1:]:
        await workspace.deploy(files(text))
    assert (await workspace.send("events", MORE)).status == 200
    # A row's DEFAULT is that of the time at which it came.
    sent = [row | {"kind": row.get("kind", "none")} for row in ROWS] if rows else []
    async with anew(server, base_url, http, files(texts[-1]), *([sent] if rows else []), MORE) as expected:
        assert await holds(workspace) == expected
    for text in reversed(texts[:-1]):
        await workspace.deploy(files(text), allow_destructive=True)
    assert (await workspace.send("events", MORE)).status == 200
    async with anew(server, base_url, http, files(EVENTS), *([ROWS] if rows else []), MORE, MORE) as expected:
        assert await holds(workspace) == expected


async def test_a_removed_column_is_seen_by_nobody_and_comes_back_with_its_values(workspace: Workspace) -> None:
    noted = EVENTS.replace("    `amount`", "    `note` String `json:$.note`,\n    `amount`")
    await workspace.deploy(files(noted))
    assert (await workspace.send("events", [row | {"note": f"n{n}"} for n, row in enumerate(ROWS)])).status == 200
    with pytest.raises(DeployRefused) as refused:
        await workspace.deploy(files(EVENTS))
    (refusal,) = refused.value.refusals
    assert refusal.reason is Reason.DELETES_COLUMN
    assert "3 rows" in refusal.error.message and "'everything'" in refusal.error.message
    await workspace.deploy(files(EVENTS), allow_destructive=True)
    tenant = workspace.tenant("everything", customer_id="a")
    for seen in (
        await sql(workspace, "SELECT * FROM events"),
        await sql(workspace, "SELECT e.* FROM events AS e"),
        await sql(workspace, "SELECT COLUMNS('.*') FROM events"),
        await sql(workspace, "SELECT * FROM events_quarantine RIGHT JOIN events ON 0"),
        await workspace.rows("/v0/pipes/everything.json", token=tenant),
    ):
        assert seen and all(not any("note" in name for name in row) for row in seen)
    for text in ("SELECT note FROM events", "SELECT events.note FROM events", "SELECT 1 FROM events WHERE note = 'n1'"):
        reply = await workspace.get(f"/v0/sql?q={quote(text)}")
        assert reply.status == 400, text
    # What was sent for the old columns and waited meanwhile is not lost, nor is the removed value.
    assert (await workspace.send("events", MORE)).status == 200
    await workspace.deploy(files(noted))
    found = await sql(workspace, "SELECT note FROM events ORDER BY at")
    assert [row["note"] for row in found] == ["n0", "n1", "n2", ""]


async def test_a_removed_column_is_not_replaced_in_silence(workspace: Workspace) -> None:
    """One of its name and of another type would drop the values that are kept."""
    noted = EVENTS.replace("    `amount`", "    `note` String `json:$.note`,\n    `amount`")
    other = EVENTS.replace("    `amount`", "    `note` Nullable(Float64) `json:$.note`,\n    `amount`")
    await workspace.deploy(files(noted))
    assert (await workspace.send("events", [row | {"note": "n"} for row in ROWS])).status == 200
    await workspace.deploy(files(EVENTS), allow_destructive=True)
    with pytest.raises(DeployRefused) as refused:
        await workspace.deploy(files(other))
    (refusal,) = refused.value.refusals
    assert refusal.reason is Reason.DELETES_COLUMN and "is kept as String" in refusal.error.message
    await workspace.deploy(files(noted))
    assert {row["note"] for row in await sql(workspace, "SELECT note FROM events")} == {"n"}
    await workspace.deploy(files(EVENTS), allow_destructive=True)
    await workspace.deploy(files(other), allow_destructive=True)
    assert {row["note"] for row in await sql(workspace, "SELECT note FROM events")} == {None}


async def test_events_that_wait_over_a_change_are_read_by_the_new_columns(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent for the columns of before, loaded into the table of after: none is lost, and no value is cut."""
    wide = EVENTS.replace(
        "    `amount` Int64",
        "    `gone` Nullable(String) `json:$.gone`,\n    `v` Nullable(Int64) `json:$.v`,\n    `amount` Int64",
    )
    narrow = EVENTS.replace("    `amount` Int64", "    `v` Int8 `json:$.v`,\n    `amount` Int64")
    await workspace.deploy(files(wide))
    apply, sent = execute.apply, False

    async def while_it_is_applied(*args: Any) -> None:
        nonlocal sent
        if not sent:
            sent = True
            rows = [ROWS[n] | {"v": v, "gone": "g"} for n, v in enumerate([5, 300, None])]
            assert (await workspace.send("events", rows, wait=False)).status == 202
        await apply(*args)

    monkeypatch.setattr(execute, "apply", while_it_is_applied)
    await workspace.deploy(files(narrow), allow_destructive=True)
    assert sent
    table = workspace.server.catalog.snapshot(workspace.id).tables["events"]
    assert await workspace.server.ingest.drain(*table.key)
    assert [row["v"] for row in await sql(workspace, "SELECT v FROM events")] == [5]
    refused = await sql(workspace, "SELECT v, c__error_column FROM events_quarantine ORDER BY v")
    assert [(row["v"], row["c__error_column"]) for row in refused] == [("300", ["v"]), (None, ["v"])]
    await workspace.deploy(files(wide))
    assert [row["gone"] for row in await sql(workspace, "SELECT gone FROM events")] == ["g"]


async def test_another_default_does_not_change_rows_that_are_older_than_the_column(workspace: Workspace) -> None:
    await workspace.deploy(files(EVENTS))
    assert (await workspace.send("events", ROWS)).status == 200
    for default in ("Int8 `json:$.n` DEFAULT 1", "Int8 `json:$.n` DEFAULT 2", "Nullable(Int8) `json:$.n`"):
        text = EVENTS.replace("    `amount`", f"    `n` {default},\n    `amount`")
        await workspace.deploy(files(text))
        assert {row["n"] for row in await sql(workspace, "SELECT n FROM events")} == {1}, default


async def test_a_narrower_type_is_refused_with_the_rows_that_do_not_fit(workspace: Workspace) -> None:
    await workspace.deploy(files(EVENTS))
    assert (await workspace.send("events", [*ROWS, MORE[0] | {"amount": 300}])).status == 200
    with pytest.raises(DeployRefused) as refused:
        await workspace.deploy(files(EVENTS.replace("`amount` Int64", "`amount` Int8")))
    (refusal,) = refused.value.refusals
    assert refusal.reason is Reason.VALUES_DO_NOT_FIT
    assert "1 row hold" in refusal.error.message or "1 row" in refusal.error.message
    assert (refusal.error.file, refusal.error.line) == (EVENTS_FILE, 9)


async def test_a_column_of_a_policy_is_not_removed_from_under_it(workspace: Workspace) -> None:
    await workspace.deploy(files(EVENTS))
    without = EVENTS.replace("    `kind` LowCardinality(String) `json:$.kind` DEFAULT 'none',\n", "")
    with pytest.raises(DeployRefused) as refused:
        await workspace.deploy(files(without), allow_destructive=True)
    assert Reason.POLICY_INVALID in {one.reason for one in refused.value.refusals}


async def test_a_lost_view_and_a_shorter_ttl_are_refused_with_what_they_take(workspace: Workspace) -> None:
    await workspace.deploy(files(EVENTS))
    assert (await workspace.send("events", ROWS)).status == 200
    fewer = {path: text for path, text in FILES.items() if "to_monthly" not in path}
    with pytest.raises(DeployRefused) as refused:
        await workspace.deploy(fewer | {EVENTS_FILE: EVENTS.replace("90 YEAR", "1 DAY")})
    view, ttl = refused.value.refusals
    assert (view.reason, view.subject) == (Reason.DELETES_VIEW, "to_monthly.roll")
    assert "2 rows" in view.error.message or "3 rows" in view.error.message
    assert (ttl.reason, ttl.subject) == (Reason.DELETES_ROWS, "events")
    assert "deletes 3 rows" in ttl.error.message


async def test_an_alteration_holds_the_writers_of_the_table_and_of_what_feeds_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    await workspace.deploy(files(EVENTS))
    apply, held = execute.apply, []

    async def looked_at(*args: Any) -> None:
        tables = workspace.server.catalog.snapshot(workspace.id).tables
        held.append([workspace.server.locks.held(tables[name].key) for name in ("events", "daily", "monthly")])
        await apply(*args)

    monkeypatch.setattr(execute, "apply", looked_at)
    monthly = DAILY.replace("total SimpleAggregateFunction(sum, Int64)", "total SimpleAggregateFunction(sum, Int128)")
    await workspace.deploy(FILES | {"datasources/monthly.datasource": monthly})
    assert held and all(modes == [(Mode.ALTER,)] * 3 for modes in held)

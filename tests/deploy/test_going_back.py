"""A rollback after tables were altered in place: what is read is what was read before. And columns that no deployment
has any more which is kept: they are dropped, with all that came meanwhile in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from deploy.test_generations import _EVENTS, BASE, REBUILDS, assert_holds, changed, send, sent
from deploy.test_staging import AMOUNT, IN_PLACE, definitions
from pipit.deploy import execute
from pipit.deploy.plan import DeployRefused
from pipit.errors import Conflict, Reason, Unavailable
from pipit.ingest import Ingest
from serving import Workspace
from waiting import until

pytestmark = pytest.mark.anyio

NOTED = (AMOUNT, f"{AMOUNT},\n    `note` String `json:$.note` DEFAULT 'none'")
# What the files are altered by in place, from the first to the second of these.
CHANGES: Mapping[str, tuple[dict[str, str], dict[str, str]]] = {
    **{name: (BASE, changed(_EVENTS, pair)) for name, pair in IN_PLACE.items()},
    "a removed column": (changed(_EVENTS, NOTED), BASE),
    "a wider type": (changed(_EVENTS, (AMOUNT, AMOUNT.replace("64", "32"))), BASE),
    "Nullable": (BASE, changed(_EVENTS, ("`code` String", "`code` Nullable(String)"))),
    "Nullable off": (changed(_EVENTS, ("`code` String", "`code` Nullable(String)")), BASE),
    "a Decimal": (
        changed(_EVENTS, NOTED) | {_EVENTS: BASE[_EVENTS].replace(AMOUNT, f"{AMOUNT},\n    `d` Decimal(9, 2) `json:$.d` DEFAULT 1")},
        changed(_EVENTS, (AMOUNT, f"{AMOUNT},\n    `d` Decimal(18, 2) `json:$.d` DEFAULT 1")),
    ),
    "a date": (
        changed(_EVENTS, (AMOUNT, f"{AMOUNT},\n    `d` Date `json:$.d` DEFAULT '2026-01-01'")),
        changed(_EVENTS, (AMOUNT, f"{AMOUNT},\n    `d` Date32 `json:$.d` DEFAULT '2026-01-01'")),
    ),
    "an enum": (
        changed(_EVENTS, (AMOUNT, f"{AMOUNT},\n    `d` Enum8('a' = 1) `json:$.d` DEFAULT 'a'")),
        changed(_EVENTS, (AMOUNT, f"{AMOUNT},\n    `d` Enum8('a' = 1, 'b' = 2) `json:$.d` DEFAULT 'a'")),
    ),
    "another DEFAULT": (changed(_EVENTS, NOTED), changed(_EVENTS, (NOTED[0], NOTED[1].replace("none", "new")))),
    "a TTL that goes": (changed(_EVENTS, IN_PLACE["a TTL"]), BASE),
    "a setting that goes": (changed(_EVENTS, IN_PLACE["a setting"]), BASE),
    "an index that goes": (changed(_EVENTS, IN_PLACE["an index"]), BASE),
}


async def answers(workspace: Workspace) -> Any:
    """With the columns and their types."""
    found = []
    for sql in ("SELECT+*+FROM+events+ORDER+BY+amount", "SELECT+*+FROM+events_quarantine"):
        reply = await workspace.get(f"/v0/sql?q={sql}+FORMAT+JSON")
        assert reply.status == 200, reply.text
        found.append((reply.json["meta"], reply.json["data"]))
    return found


async def columns(workspace: Workspace, table: str = "d1_events") -> set[str]:
    rows = await workspace.server.engine.rows(
        "SELECT name FROM system.columns WHERE database = {d:String} AND table = {t:String}",
        {"d": workspace.database, "t": table},
    )
    return {str(row["name"]) for row in rows}


@pytest.mark.parametrize("name", CHANGES)
async def test_answers_are_those_from_before(workspace: Workspace, name: str) -> None:
    first, second = CHANGES[name]
    await workspace.deploy(first)
    await send(workspace, 0, 6)
    before = await answers(workspace)
    outcome = await workspace.deploy(second, allow_destructive=True)
    assert not outcome.plan.rebuilds
    then = await answers(workspace)
    await workspace.server.deployer.rollback(workspace.id)
    assert await answers(workspace) == before
    await workspace.server.deployer.rollback(workspace.id)
    assert await answers(workspace) == then
    await workspace.server.deployer.rollback(workspace.id)
    # Rows that come now are those that the earlier deployment takes.
    await send(workspace, 6, 8)
    (_, rows), _ = await answers(workspace)
    assert [row["amount"] for row in rows] == list(range(8))
    if "note" in rows[0]:
        assert {row["note"] for row in rows} == {"none"}
    await assert_holds(workspace, 8)
    # Nothing is left of what the other one added.
    was = await definitions(workspace)
    await workspace.server.deployer.discard(workspace.id, 2)
    assert await answers(workspace) == [((before[0][0]), rows), before[1]]
    declared = {column.name for column in workspace.server.catalog.snapshot(workspace.id).tables["events"].datasource.columns}
    assert await columns(workspace) == declared
    if "column" not in name:
        assert await definitions(workspace) == was


async def test_values_that_came_for_a_wider_type_stay(workspace: Workspace) -> None:
    """Not all of a change can be altered back: no value is cut."""
    await workspace.deploy(changed(_EVENTS, (AMOUNT, AMOUNT.replace("64", "32"))))
    await workspace.deploy(BASE)
    assert (await workspace.send("events", [sent(0, 1)[0] | {"amount": 2**40}])).json["quarantined_rows"] == 0
    await workspace.server.deployer.rollback(workspace.id)
    (_, rows), _ = await answers(workspace)
    assert [int(row["amount"]) for row in rows] == [2**40]


async def test_a_hidden_column_goes_with_the_last_deployment_that_has_it(workspace: Workspace) -> None:
    files = changed(_EVENTS, NOTED)
    await workspace.deploy(files)
    await workspace.send("events", [row | {"note": "kept"} for row in sent(0, 4)])
    await workspace.deploy(BASE, allow_destructive=True)
    assert "note" in await columns(workspace) and "note" in await columns(workspace, "q1_events")
    await workspace.server.deployer.discard(workspace.id, 1)
    assert "note" not in await columns(workspace) and "note" not in await columns(workspace, "q1_events")
    await assert_holds(workspace, 4)
    # It is a new column from now on, and a plan says so.
    with pytest.raises(Exception, match="no value for the rows"):
        await workspace.deploy(changed(_EVENTS, (AMOUNT, f"{AMOUNT},\n    `note` String `json:$.note`")), check=True)
    await workspace.deploy(files)
    (_, rows), _ = await answers(workspace)
    assert {row["note"] for row in rows} == {"none"}


async def test_a_hidden_column_goes_with_the_next_deploy(workspace: Workspace) -> None:
    await workspace.deploy(changed(_EVENTS, NOTED))
    await workspace.deploy(BASE, allow_destructive=True)
    third = BASE | {"endpoints/more.pipe": BASE["endpoints/landed.pipe"]}
    await workspace.deploy(third)
    assert "note" not in await columns(workspace)
    await send(workspace, 0, 4)
    await assert_holds(workspace, 4)


async def test_a_crash_before_columns_are_dropped_is_made_good(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As is one that leaves a column that a deploy has added, which was not live yet."""

    async def killed(*_: Any) -> None:
        return None

    await workspace.deploy(changed(_EVENTS, NOTED))
    await workspace.deploy(BASE, allow_destructive=True)
    with monkeypatch.context() as patch:
        patch.setattr(execute, "drop_columns", killed)
        await workspace.server.deployer.discard(workspace.id, 1)
    engine, database = workspace.server.engine, workspace.database
    await engine.command(f"ALTER TABLE `{database}`.d1_events ADD COLUMN halfway UInt8")
    assert {"note", "halfway"} <= await columns(workspace)
    for _ in range(2):
        await workspace.server.deployer.clean_up()
        assert not {"note", "halfway"} & await columns(workspace)
    await send(workspace, 0, 4)
    await assert_holds(workspace, 4)


async def test_events_come_while_a_column_is_dropped(workspace: Workspace) -> None:
    await workspace.deploy(changed(_EVENTS, NOTED))
    await workspace.deploy(BASE, allow_destructive=True)
    done = 0
    stop = asyncio.Event()

    async def sending() -> None:
        nonlocal done
        while not stop.is_set():
            reply = await workspace.send("events", sent(done, done + 2), wait=False)
            assert reply.status == 202, reply.text
            done += 2

    task = asyncio.ensure_future(sending())
    await until(lambda: done > 6)
    await workspace.server.deployer.discard(workspace.id, 1)
    reached = done
    await until(lambda: done > reached)
    stop.set()
    await task
    assert "note" not in await columns(workspace)
    table = workspace.server.catalog.snapshot(workspace.id).tables["events"]
    assert await workspace.server.ingest.drain(*table.key)
    await assert_holds(workspace, done)


async def test_a_switch_with_a_backlog_is_refused(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acknowledged events must not be seen late: what is to be live has them all."""
    await workspace.deploy(BASE)
    await send(workspace, 0, 4)
    await workspace.deploy(REBUILDS["type"][0], promote=False)

    async def behind(*_: Any) -> bool:
        return False

    with monkeypatch.context() as patch:
        patch.setattr(Ingest, "drained", behind)
        with pytest.raises(Conflict) as refused:
            await workspace.server.deployer.promote(workspace.id, 2)
        assert refused.value.reason is Reason.EVENTS_BEHIND
    assert workspace.server.catalog.snapshot(workspace.id).deployment == 1
    await send(workspace, 4, 6)
    await workspace.server.deployer.promote(workspace.id, 2)
    await assert_holds(workspace, 6)


async def test_a_deploy_of_the_earlier_files_brings_back_what_was_deleted(workspace: Workspace) -> None:
    """With its rows, and with those that came since through its views; in every environment."""
    await workspace.deploy(BASE)
    await workspace.server.deployer.add_environment(workspace.id, "acme")
    await send(workspace, 0, 6)
    fewer = {path: text for path, text in BASE.items() if "monthly" not in path and "totals" not in path}
    await workspace.deploy(fewer, allow_destructive=True)
    await send(workspace, 6, 10)
    checked = await workspace.deploy(BASE, check=True)
    assert checked.plan.datasources.new == ("monthly",)
    outcome = await workspace.deploy(BASE)
    assert (outcome.result, outcome.snapshot.deployment) == ("success", 3)
    await assert_holds(workspace, 10)
    assert [(one.name, one.result, one.deployment) for one in outcome.environments] == [("acme", "success", 3)]
    acme = workspace.server.catalog.snapshot(workspace.id, "acme")
    assert acme.tables["monthly"].physical == "d1_monthly"
    await send(workspace, 10, 12)
    await assert_holds(workspace, 12)
    await workspace.server.deployer.rollback(workspace.id)
    assert "monthly" not in workspace.server.catalog.snapshot(workspace.id).tables
    await workspace.server.deployer.rollback(workspace.id)
    await workspace.server.deployer.clean_up()
    await assert_holds(workspace, 12)


async def test_the_earlier_files_are_refused_as_any_for_what_they_remove(workspace: Workspace) -> None:
    await workspace.deploy(BASE)
    more = BASE | {"datasources/more.datasource": BASE["datasources/daily.datasource"]}
    await workspace.deploy(more)
    with pytest.raises(DeployRefused) as refused:
        await workspace.deploy(BASE)
    assert [one.reason for one in refused.value.refusals] == [Reason.DELETES_ROWS]
    await workspace.deploy(BASE, allow_destructive=True)
    await workspace.deploy(more)
    assert workspace.server.catalog.snapshot(workspace.id).tables["more"].physical == "d1_more"


async def test_a_shorter_ttl_of_a_table_that_is_made_anew_is_refused_with_its_rows(workspace: Workspace) -> None:
    await workspace.deploy(BASE)
    await send(workspace, 0, 6)
    pairs = (("KEY customer_id\n", "KEY customer_id, day\nENGINE_TTL day + INTERVAL 1 DAY\n"),)
    for promote in (True, False):
        with pytest.raises(DeployRefused) as refused:
            await workspace.deploy(changed(_EVENTS, *pairs), promote=promote)
        (one,) = refused.value.refusals
        assert one.reason is Reason.DELETES_ROWS and "deletes 6 rows" in one.error.message


async def test_a_deployment_that_is_not_live_after_all_does_not_wait(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine goes away while the one row is written. Once it is known that it is not live, nothing is left of it."""
    await workspace.deploy(BASE)
    await send(workspace, 0, 4)
    known = asyncio.Event()

    async def away(*_: Any, **__: Any) -> None:
        raise Unavailable("The engine is away")

    async def not_live(*_: Any) -> bool:
        await known.wait()
        return False

    with monkeypatch.context() as patch:
        patch.setattr(workspace.server.catalog, "commit", away)
        patch.setattr(execute, "became_live", not_live)
        patch.setattr(workspace.server.deployer._executor, "_patience", 0.1)
        with pytest.raises(Unavailable):
            await workspace.deploy(REBUILDS["type"][0])
        known.set()
        await until(lambda: not workspace.server.deployer.unsettled)
    await until(lambda: workspace.server.catalog.beside(workspace.id).staging is None)
    await until(lambda: not workspace.server.deployer.unsettled)
    await send(workspace, 4, 6)
    await workspace.deploy(REBUILDS["type"][0])
    await assert_holds(workspace, 6)


async def test_a_view_that_comes_back_says_what_fills_the_gap(workspace: Workspace) -> None:
    await workspace.deploy(BASE)
    await send(workspace, 0, 4)
    fewer = {path: text for path, text in BASE.items() if "to_monthly" not in path}
    await workspace.deploy(fewer, allow_destructive=True)
    await send(workspace, 4, 6)
    shown = (await workspace.post("/v1/deployments/rollback")).json["deployment"]
    assert "pipit populate to_monthly --truncate" in shown["feedback"][0]["hint"]
    assert (await workspace.job(await workspace.post("/v0/pipes/to_monthly/nodes/roll/population?truncate=true")))["status"] == "done"
    await assert_holds(workspace, 6)
    await workspace.deploy(fewer, allow_destructive=True)
    await send(workspace, 6, 8)
    await workspace.deploy(BASE)  # a deploy fills it
    await assert_holds(workspace, 8)

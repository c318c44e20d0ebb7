"""Loads, deletes and truncates go into the live table alone. One that comes while the table is made anew is refused, since
its rows would be gone, or there again, with the new table; one that was asked for before, and waits, too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from deploy.test_generations import _TO_DAILY, BASE, DAILY, REBUILDS, assert_holds, changed, send, sent
from pipit.deploy import fill
from pipit.jobs import Jobs
from serving import Reply, Workspace
from waiting import until

pytestmark = pytest.mark.anyio

ROWS = "".join(json.dumps(row) + "\n" for row in sent(20, 22)).encode()
LOAD = "/v0/datasources?name=events&format=ndjson&mode="
CONDITION = "delete_condition=1%3D1&wait=true"
WRITES: Mapping[str, tuple[str, bytes | None]] = {
    "append": (f"{LOAD}append", ROWS),
    "replace": (f"{LOAD}replace", ROWS),
    "replace some": (f"{LOAD}replace&replace_condition=customer_id!=%27%27", ROWS),
    "delete": (f"/v1/datasources/events/delete?{CONDITION}", None),
    "delete from the quarantine": (f"/v1/datasources/events_quarantine/delete?{CONDITION}", None),
    "truncate": ("/v0/datasources/events/truncate", None),
    "truncate the quarantine": ("/v0/datasources/events_quarantine/truncate", None),
}
JOBS = [name for name in WRITES if not name.startswith("truncate") and name != "replace some"]
NEW = REBUILDS["sorting key"][0]


class Filling:
    """A new generation's fill begins, and goes no further than that until it may."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.goes_on = asyncio.Event(), asyncio.Event()
        self.failure: Exception | None = None
        whole = fill.Filler.run

        async def held(*arguments: Any) -> None:
            self.begun.set()
            await self.goes_on.wait()
            if self.failure is not None:
                raise self.failure
            await whole(*arguments)

        monkeypatch.setattr(fill.Filler, "run", held)


@pytest.fixture
async def filling(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Filling]:
    held = Filling(monkeypatch)
    yield held
    held.goes_on.set()


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> asyncio.Semaphore:
    """The places of jobs, all of them taken."""
    taken = asyncio.Semaphore(0)
    monkeypatch.setattr(Jobs, "_places", lambda *_: taken)
    return taken


async def write(workspace: Workspace, name: str) -> Reply:
    path, body = WRITES[name]
    return await workspace.post(path, data=body)


async def refused_rows(workspace: Workspace) -> int:
    (row,) = await workspace.rows("/v0/sql?q=SELECT+count()+AS+n+FROM+events_quarantine+FORMAT+JSON")
    return int(row["n"])


async def with_rows(workspace: Workspace) -> None:
    await workspace.deploy(BASE)
    await send(workspace, 0, 20)
    reply = await workspace.send("events", [{"day": "x", "customer_id": "a", "code": "1", "amount": "y"}])
    assert reply.json["quarantined_rows"] == 1, reply.text
    assert await refused_rows(workspace) == 1


def assert_refused(reply: Reply) -> None:
    assert reply.status == 409, reply.text
    assert reply.json["reason"] == "deployment_waits"
    assert "Deployment 2" in reply.json["error"] and "new table" in reply.json["error"]


async def assert_nothing_happened(workspace: Workspace) -> None:
    await assert_holds(workspace, 20)
    assert await refused_rows(workspace) == 1


def is_waiting(workspace: Workspace) -> bool:
    table = workspace.server.catalog.snapshot(workspace.id).tables["events"]
    return bool(workspace.server.locks.waiting(table.key))


@pytest.mark.parametrize("name", WRITES)
async def test_one_that_begins_while_the_new_table_is_filled_is_refused(
    workspace: Workspace, filling: Filling, name: str
) -> None:
    await with_rows(workspace)
    deploying = asyncio.ensure_future(workspace.deploy(NEW))
    await until(lambda: filling.begun.is_set() or deploying.done())
    writing = asyncio.ensure_future(write(workspace, name))
    await until(lambda: writing.done() or is_waiting(workspace))
    filling.goes_on.set()
    _, reply = await asyncio.gather(deploying, writing)
    assert_refused(reply)
    await assert_nothing_happened(workspace)
    again = await write(workspace, name)
    assert again.status in (200, 205), again.text


@pytest.mark.parametrize("name", JOBS)
async def test_one_that_waits_for_a_lock_until_the_new_table_is_filled_is_refused(
    workspace: Workspace, filling: Filling, places: asyncio.Semaphore, name: str
) -> None:
    """It was asked for before the deploy, and gets its place while the rows are carried over."""
    await with_rows(workspace)
    writing = asyncio.ensure_future(write(workspace, name))
    await until(lambda: writing.done() or workspace.server.jobs.listed(workspace.server.catalog.snapshot(workspace.id)))
    deploying = asyncio.ensure_future(workspace.deploy(NEW))
    await until(lambda: filling.begun.is_set() or deploying.done())
    places.release()
    await until(lambda: writing.done() or is_waiting(workspace))
    filling.goes_on.set()
    _, reply = await asyncio.gather(deploying, writing)
    assert_refused(reply)
    (job,) = workspace.server.jobs.listed(workspace.server.catalog.snapshot(workspace.id))
    assert job.status == "error" and "Deployment 2" in job.error
    await assert_nothing_happened(workspace)


@pytest.mark.parametrize("name", JOBS)
async def test_one_that_waits_until_another_table_is_live_is_refused(
    workspace: Workspace, places: asyncio.Semaphore, name: str
) -> None:
    await with_rows(workspace)
    writing = asyncio.ensure_future(write(workspace, name))
    await until(lambda: writing.done() or workspace.server.jobs.listed(workspace.server.catalog.snapshot(workspace.id)))
    await workspace.deploy(NEW)
    places.release()
    reply = await writing
    assert (reply.status, reply.json["reason"]) == (409, "deployment_waits"), reply.text
    assert "another table for 'events'" in reply.json["error"]
    await assert_nothing_happened(workspace)
    await workspace.server.deployer.rollback(workspace.id)
    await assert_nothing_happened(workspace)


@pytest.mark.parametrize("name", WRITES)
async def test_one_that_comes_while_the_new_table_waits_to_be_live_is_refused(workspace: Workspace, name: str) -> None:
    await with_rows(workspace)
    await workspace.deploy(NEW, promote=False)
    assert_refused(await write(workspace, name))
    await workspace.server.deployer.promote(workspace.id, 2)
    await assert_nothing_happened(workspace)


async def test_one_that_waits_for_a_fill_that_fails_is_done(
    workspace: Workspace, filling: Filling, places: asyncio.Semaphore
) -> None:
    await with_rows(workspace)
    writing = asyncio.ensure_future(write(workspace, "append"))
    await until(lambda: writing.done() or workspace.server.jobs.listed(workspace.server.catalog.snapshot(workspace.id)))
    deploying = asyncio.ensure_future(workspace.deploy(NEW))
    await until(lambda: filling.begun.is_set() or deploying.done())
    places.release()
    await until(lambda: writing.done() or is_waiting(workspace))
    filling.failure = RuntimeError("no room")
    filling.goes_on.set()
    with pytest.raises(RuntimeError):
        await deploying
    assert (await writing).status == 200
    await assert_holds(workspace, 22)


@pytest.mark.parametrize("what", ["a view's SQL", "a view"])
async def test_rows_are_not_replaced_of_which_a_view_fills_a_new_table(workspace: Workspace, what: str) -> None:
    """The new table has what the view made of the old rows. What is appended goes through both views."""
    more = {
        "datasources/sums.datasource": DAILY,
        "materializations/to_sums.pipe": BASE[_TO_DAILY].replace("DATASOURCE daily", "DATASOURCE sums"),
    }
    files = BASE | more if what == "a view" else changed(_TO_DAILY, ("sum(amount)", "sum(amount + 0)"))
    await with_rows(workspace)
    await workspace.deploy(files, promote=False)
    waits = workspace.server.catalog.staging(workspace.id).tables
    assert waits["events"].physical == workspace.server.catalog.snapshot(workspace.id).tables["events"].physical
    assert_refused(await write(workspace, "replace"))
    assert (await write(workspace, "append")).status == 200
    await workspace.server.deployer.promote(workspace.id, 2)
    await assert_holds(workspace, 22)

"""Loads, deletes and truncates go into every generation of a table that is kept: a rollback loses no row, and brings none
back. One that comes while a new table is filled is refused; one that was asked for before waits, and is done in both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from deploy.test_generations import _EVENTS, _TO_DAILY, BASE, DAILY, REBUILDS, assert_holds, changed, send, sent
from pipit.deploy import fill
from pipit.ingest import Ingest
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
async def test_one_that_waits_until_the_new_table_is_filled_is_done_in_both(
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
    await assert_done_in_both(workspace, name, reply)


@pytest.mark.parametrize("name", JOBS)
async def test_one_that_waits_until_another_table_is_live_is_done_in_both(
    workspace: Workspace, places: asyncio.Semaphore, name: str
) -> None:
    await with_rows(workspace)
    writing = asyncio.ensure_future(write(workspace, name))
    await until(lambda: writing.done() or workspace.server.jobs.listed(workspace.server.catalog.snapshot(workspace.id)))
    await workspace.deploy(NEW)
    places.release()
    await assert_done_in_both(workspace, name, await writing)


@pytest.mark.parametrize("name", WRITES)
async def test_one_that_comes_while_another_table_is_kept_is_done_in_both(workspace: Workspace, name: str) -> None:
    """While it waits to be live, and while it was live before."""
    await with_rows(workspace)
    await workspace.deploy(NEW, promote=False)
    reply = await write(workspace, name)
    waits = workspace.server.catalog.staging(workspace.id)
    await workspace.server.deployer.promote(workspace.id, waits.deployment)
    await assert_done_in_both(workspace, name, reply)


@pytest.mark.parametrize("name", ["append", "replace some", "delete", "truncate"])
async def test_one_that_comes_after_a_promotion_is_there_after_a_rollback(workspace: Workspace, name: str) -> None:
    await with_rows(workspace)
    await workspace.deploy(NEW)
    await assert_done_in_both(workspace, name, await write(workspace, name))


async def assert_done_in_both(workspace: Workspace, name: str, reply: Reply) -> None:
    assert reply.status in (200, 205), reply.text
    for _ in range(2):
        if "quarantine" in name:
            await assert_holds(workspace, 20)
            assert await refused_rows(workspace) == 0
        elif name == "append":
            await assert_holds(workspace, 22)
        else:
            rows = [int(row["amount"]) for row in await workspace.rows("/v0/pipes/landed.json")]
            assert rows == ([20, 21] if name.startswith("replace") else [])
            if name.startswith("replace"):  # the targets of views go along
                assert [int(row["total"]) for row in await workspace.rows("/v0/pipes/totals.json")] == [20, 21]
        if "quarantine" not in name:
            assert await refused_rows(workspace) == 1
        await workspace.server.deployer.rollback(workspace.id)


async def test_what_another_table_refuses_goes_to_its_own_quarantine(workspace: Workspace) -> None:
    await workspace.deploy(BASE)
    await send(workspace, 0, 4)
    await workspace.deploy(REBUILDS["type"][0])  # `code` is a number now
    await workspace.server.deployer.rollback(workspace.id)
    rows = [*sent(4, 5), sent(5, 6)[0] | {"code": "x5"}]
    reply = await workspace.post(f"{LOAD}append", data="".join(json.dumps(row) + "\n" for row in rows).encode())
    assert (reply.json["successful_rows"], reply.json["quarantine_rows"]) == (2, 0), reply.text
    await workspace.server.deployer.rollback(workspace.id)
    assert [row["code"] for row in await workspace.rows("/v0/pipes/landed.json")] == ["0", "2", "4", "1", "3"]
    found = await workspace.rows("/v0/sql?q=SELECT+code,c__error_column+AS+c+FROM+events_quarantine+FORMAT+JSON")
    assert found == [{"code": "x5", "c": ["code"]}]


async def test_cells_without_names_are_those_of_the_live_table(workspace: Workspace) -> None:
    """Another table may have other columns, in another order."""
    await workspace.deploy(BASE)
    other = changed(_EVENTS, ("    `code` String `json:$.code`,\n", ""), ("SORTING_KEY customer_id", "SORTING_KEY customer_id, day"))
    files = other | {"endpoints/landed.pipe": BASE["endpoints/landed.pipe"].replace("toString(code)", "toString(amount)")}
    await workspace.deploy(files, allow_destructive=True)
    body = b"2026-01-10,a,0\n2026-02-11,b,1\n"
    reply = await workspace.post("/v0/datasources?name=events&format=csv&mode=append", data=body)
    assert reply.json["successful_rows"] == 2, reply.text
    await workspace.server.deployer.rollback(workspace.id)
    amounts = await workspace.rows("/v0/sql?q=SELECT+amount,code+FROM+events+UNION+ALL+SELECT+toInt64(amount),ifNull(code,'')+FROM+events_quarantine+ORDER+BY+1+FORMAT+JSON")
    assert [int(row["amount"]) for row in amounts] == [0, 1]


async def test_a_delete_that_another_table_cannot_tell_is_refused_until_that_is_discarded(workspace: Workspace) -> None:
    """Else a rollback would bring back what somebody asked to be deleted."""
    more = changed(
        _EVENTS,
        ("`code` String `json:$.code`,", "`code` String `json:$.code`,\n    `person` String `json:$.person` DEFAULT 'p',"),
        ("SORTING_KEY customer_id", "SORTING_KEY customer_id, day"),
    )
    await with_rows(workspace)
    await workspace.deploy(more)
    path = "/v1/datasources/events/delete?delete_condition=person%3D%27p%27&wait=true"
    reply = await workspace.post(path)
    assert (reply.status, reply.json["reason"]) == (400, "kept_deployment_refuses"), reply.text
    assert "Deployment 1" in reply.json["error"] and "discard 1" in reply.text
    assert len(await workspace.rows("/v0/pipes/landed.json")) == 20
    await workspace.server.deployer.discard(workspace.id, 1)
    assert (await workspace.post(path)).json["rows_affected"] == 20


async def test_an_event_that_is_late_in_another_table_is_deleted_there_too(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other table gets it after the live one has it: a delete waits for that, or is refused."""
    await with_rows(workspace)
    await workspace.deploy(NEW)

    async def behind(*_: Any) -> bool:
        return False

    with monkeypatch.context() as patch:
        patch.setattr(Ingest, "drained", behind)
        reply = await write(workspace, "delete")
        assert (reply.status, reply.json["reason"]) == (409, "events_behind"), reply.text
    await assert_nothing_happened(workspace)
    await assert_done_in_both(workspace, "delete", await write(workspace, "delete"))


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
async def test_rows_are_replaced_of_which_a_view_fills_a_new_table(workspace: Workspace, what: str) -> None:
    """The table is shared; what views of both deployments fill from it goes along."""
    more = {
        "datasources/sums.datasource": DAILY,
        "materializations/to_sums.pipe": BASE[_TO_DAILY].replace("DATASOURCE daily", "DATASOURCE sums"),
    }
    files = BASE | more if what == "a view" else changed(_TO_DAILY, ("sum(amount)", "sum(amount + 0)"))
    await with_rows(workspace)
    await workspace.deploy(files, promote=False)
    waits = workspace.server.catalog.staging(workspace.id).tables
    assert waits["events"].physical == workspace.server.catalog.snapshot(workspace.id).tables["events"].physical
    assert (await write(workspace, "replace")).status == 200
    await workspace.server.deployer.promote(workspace.id, 2)
    if what == "a view":
        sums = "/v0/sql?q=SELECT+sum(total)+AS+s+FROM+sums+FORMAT+JSON"
        assert [int(row["s"]) for row in await workspace.rows(sums)] == [41]
    await assert_done_in_both(workspace, "replace", Reply(200, {}, b""))


COPY = """\
NODE n
SQL >
    SELECT today() AS day, customer_id, sum(amount) AS total FROM events GROUP BY customer_id

TYPE copy
TARGET_DATASOURCE copied
COPY_MODE replace
"""


async def test_a_copy_that_fails_in_what_waits_keeps_it_from_being_live(workspace: Workspace) -> None:
    base = BASE | {"datasources/copied.datasource": DAILY, "copies/copy.pipe": COPY}
    new = base | {
        "datasources/copied.datasource": DAILY.replace("KEY customer_id, day", "KEY day, customer_id"),
        "copies/copy.pipe": COPY.replace("sum(amount)", "sum(amount) + throwIf(max(amount) = 3)"),
    }
    await workspace.deploy(base)
    await send(workspace, 0, 4)
    await workspace.deploy(new, promote=False)
    job = await workspace.job(await workspace.post("/v0/pipes/copy/copy"))
    assert job["status"] == "done" and list(job["missing_in_deployments"]) == ["2"]
    shown = (await workspace.get("/v1/deployments/2")).json["deployment"]
    assert job["id"] in shown["errors"][0]["error"]
    refused = await workspace.post("/v1/deployments/2/set-live")
    assert (refused.status, refused.json["reason"]) == (409, "deployment_incomplete") and job["id"] in refused.text
    # Run again without failing, it has written all that there is.
    await send(workspace, 5, 6)
    again = await workspace.job(await workspace.post("/v0/pipes/copy/copy"))
    assert "missing_in_deployments" not in again
    assert (await workspace.post("/v1/deployments/2/set-live")).status == 200
    await workspace.deploy(base)
    await workspace.deploy(new, promote=False)
    await workspace.post("/v0/datasources/events/truncate")
    await send(workspace, 3, 4)
    assert "missing_in_deployments" in await workspace.job(await workspace.post("/v0/pipes/copy/copy"))
    assert (await workspace.post("/v1/deployments/4/set-live?force=true")).status == 200

"""What runs beside a copy or a populate: another one, a deploy, events, somebody who cancels, an end of its workspace."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest

from pipit.catalog.snapshot import STAGING
from pipit.jobs import Jobs
from pipit.server import job_kinds
from projects import COUNTS, KEYED, KEYED_COLUMNS, copy_pipe, view_pipe
from serving import Reply, Workspace
from waiting import until

pytestmark = pytest.mark.anyio

WIDER = f"{KEYED_COLUMNS},\n    extra String DEFAULT 'e'\n\nENGINE MergeTree\nENGINE_SORTING_KEY k\n"
VIEW = view_pipe("SELECT k, count() AS c FROM t GROUP BY k -- all", "counts")
BY_KEY = "NODE n\nSQL >\n    SELECT k, count() AS c FROM t GROUP BY k\nTYPE endpoint\n"
MANY = "SELECT 'a' AS k, toInt64(number) AS n FROM numbers(12000000)"
copy = partial(copy_pipe, target="t")


def slowly(key: str, size: int = 20_000_000) -> str:
    """A few rows, found one after the other."""
    return f"SELECT '{key}' AS k, toInt64(number) AS n FROM numbers({size}) WHERE sipHash64(number) % 200000 = 0"


async def one(workspace: Workspace, sql: str) -> Any:
    (row,) = await workspace.rows(f"/v0/sql?q={quote(sql + ' FORMAT JSON')}")
    (value,) = row.values()
    return value


async def done(workspace: Workspace, reply: Reply) -> None:
    job = await workspace.job(reply)
    assert job["status"] == "done", job.get("error")


async def test_two_pipes_replace_one_target_at_once(workspace: Workspace) -> None:
    copies = {f"copies/{key}.pipe": copy(slowly(key), mode="replace") for key in ("a", "b")}
    await workspace.deploy({"datasources/t.datasource": KEYED, "endpoints/r.pipe": BY_KEY, **copies})
    await done(workspace, await workspace.post("/v0/pipes/a/copy"))
    whole = await one(workspace, "SELECT count() AS c FROM t")
    seen: set[tuple[int, ...]] = set()
    stop = asyncio.Event()

    async def read() -> None:
        while not stop.is_set():
            seen.add(tuple(row["c"] for row in await workspace.rows("/v0/pipes/r.json")))

    reading = asyncio.ensure_future(read())
    for _ in range(3):
        replies = await asyncio.gather(*(workspace.post(f"/v0/pipes/{key}/copy") for key in ("a", "b")))
        await asyncio.gather(*(done(workspace, reply) for reply in replies))
    stop.set()
    await reading
    assert seen == {(whole,)}


async def test_a_replacement_made_of_its_own_target_waits_for_another_one(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both prepare their rows in the one table beside the target: one that took it from the other would make it begin
    again."""
    begun: list[str] = []
    stream = workspace.server.engine.stream

    def watched(sql: str, *arguments: Any, **options: Any) -> Any:
        text = sql if isinstance(sql, str) else sql.sql
        begun.extend([text] if text.startswith("INSERT") and "60000000" in text else [])
        return stream(sql, *arguments, **options)

    monkeypatch.setattr(workspace.server.engine, "stream", watched)
    compact = copy("SELECT k, n FROM t GROUP BY k, n", mode="replace")
    files = {"copies/slow.pipe": copy(slowly("a", 60_000_000), mode="replace"), "copies/own.pipe": compact}
    await workspace.deploy({"datasources/t.datasource": KEYED, **files})
    await workspace.send("t", [{"k": "before", "n": 1}])
    slow = await workspace.post("/v0/pipes/slow/copy")
    staging = "SELECT count() AS n FROM system.tables WHERE database = {database:String} AND startsWith(name, {prefix:String})"
    async with asyncio.timeout(60):
        while not int((await workspace.server.engine.rows(staging, {"database": workspace.database, "prefix": STAGING}))[0]["n"]):
            await asyncio.sleep(0.01)
    for _ in range(3):
        await done(workspace, await workspace.post("/v0/pipes/own/copy"))
    await done(workspace, slow)
    assert len(begun) == 1
    assert await one(workspace, "SELECT groupUniqArray(k) AS k FROM t") == ["a"]


async def test_a_column_that_a_deploy_adds_stays_when_a_replacement_takes_place(workspace: Workspace) -> None:
    files = {"datasources/t.datasource": KEYED, "copies/a.pipe": copy(slowly("a"), mode="replace")}
    await workspace.deploy(files)
    reply = await workspace.post("/v0/pipes/a/copy")
    await workspace.deploy({**files, "datasources/t.datasource": WIDER})
    await done(workspace, reply)
    assert await one(workspace, "SELECT extra FROM t GROUP BY extra") == "e"


async def test_a_job_that_is_cancelled_before_its_first_step_ends(workspace: Workspace) -> None:
    await workspace.deploy({"datasources/t.datasource": KEYED, "copies/a.pipe": copy(slowly("a"))})
    jobs, snapshot = workspace.server.jobs, workspace.server.catalog.snapshot(workspace.id)
    job = await jobs.copy(snapshot, "a", {})
    assert (await jobs.cancel(snapshot, job.id)).status == "cancelling"
    await jobs.ended(job.id)
    assert jobs.job(snapshot, job.id).status == "cancelled"
    await done(workspace, await workspace.post("/v0/pipes/a/copy"))


async def test_a_query_may_end_with_a_comment(workspace: Workspace) -> None:
    files = {"datasources/t.datasource": KEYED, "copies/a.pipe": copy("SELECT 'a' AS k, 1 AS n -- one")}
    view = {"datasources/counts.datasource": COUNTS, "pipes/m.pipe": VIEW}
    await workspace.deploy(files | view)
    await done(workspace, await workspace.post("/v0/pipes/a/copy"))
    await done(workspace, await workspace.post("/v0/pipes/a/copy?_mode=replace"))
    await done(workspace, await workspace.post("/v0/pipes/m/nodes/seen/population?truncate=true"))
    assert await one(workspace, "SELECT sum(c) AS c FROM counts") == 1


async def test_a_replacement_made_of_its_own_target_loses_no_event(workspace: Workspace) -> None:
    compact = copy("SELECT k, n FROM t GROUP BY k, n", mode="replace")
    await workspace.deploy({"datasources/t.datasource": KEYED, "copies/a.pipe": compact})
    sent = 0
    stop = asyncio.Event()

    async def send() -> None:
        nonlocal sent
        while not stop.is_set():
            assert (await workspace.send("t", [{"k": "x", "n": sent}])).status == 200
            sent += 1

    sending = asyncio.ensure_future(send())
    for _ in range(10):
        await done(workspace, await workspace.post("/v0/pipes/a/copy"))
    stop.set()
    await sending
    assert await one(workspace, "SELECT uniqExact(n) AS c FROM t") == sent


@pytest.mark.parametrize("populated", [False, True])
async def test_a_view_counts_each_row_of_a_copy_once(workspace: Workspace, populated: bool) -> None:
    """A deploy that brings the view, or a populate, while the copy appends to the view's source."""
    files = {"datasources/t.datasource": KEYED, "copies/a.pipe": copy(MANY)}
    view = {"datasources/counts.datasource": COUNTS, "pipes/m.pipe": VIEW}
    await workspace.deploy(files | (view if populated else {}))
    reply = await workspace.post("/v0/pipes/a/copy")
    await until(lambda: one(workspace, "SELECT count() AS c FROM t"))
    if populated:
        await done(workspace, await workspace.post("/v0/pipes/m/nodes/seen/population?truncate=true"))
    else:
        await workspace.deploy(files | view)
    await done(workspace, reply)
    assert await one(workspace, "SELECT sum(c) AS c FROM counts") == 12_000_000


async def test_an_environment_goes_at_once_though_a_copy_runs_there(workspace: Workspace) -> None:
    endless = copy(slowly("a", 10**12))
    await workspace.deploy({"datasources/t.datasource": KEYED, "copies/a.pipe": endless})
    await workspace.server.deployer.add_environment(workspace.id, "staging")
    there = workspace.server.catalog.snapshot(workspace.id, "staging")
    job = await workspace.server.jobs.copy(there, "a", {})
    gone = await asyncio.wait_for(workspace.request("DELETE", "/v0/workspace/environments/staging?confirm=true"), 60)
    assert gone.status == 200, gone.text
    assert workspace.server.jobs.job(there, job.id).status == "cancelled"


async def test_a_target_goes_at_once_though_a_copy_fills_it(workspace: Workspace) -> None:
    other = {"datasources/other.datasource": KEYED}
    endless = copy("SELECT 'x' AS k, toInt64(sum(sipHash64(number) % 10)) AS n FROM numbers(1000000000000)")
    await workspace.deploy({**other, "datasources/t.datasource": KEYED, "copies/a.pipe": endless})
    reply = await workspace.post("/v0/pipes/a/copy")
    async with asyncio.timeout(20):
        await workspace.deploy(other, allow_destructive=True)
        # The previous deployment keeps the table, and with it what fills it, until it is discarded.
        await workspace.server.deployer.discard(workspace.id, 1)
        job = await workspace.job(reply)
    assert job["status"] == "cancelled"
    await workspace.deploy({**other, "endpoints/r.pipe": BY_KEY.replace("FROM t", "FROM other")})


async def test_a_schedule_begins_with_its_deployment_and_again_when_it_is_resumed(workspace: Workspace) -> None:
    server = workspace.server
    moment = [datetime.now(UTC) - timedelta(hours=5)]
    jobs = Jobs(server.catalog, job_kinds(server.engine, server.catalog, server.locks, server.ingest, server.reader, server.files, server.config, server.connectors), clock=lambda: moment[0])
    await workspace.deploy(
        {"datasources/t.datasource": KEYED, "copies/a.pipe": copy("SELECT 'a' AS k", schedule="0 * * * *")}
    )
    snapshot = server.catalog.snapshot(workspace.id)

    async def due() -> list[str]:
        found = [job for job in await jobs.run_due() if job.pipe_id == snapshot.workspace.resource_id("pipe", "a")]
        for job in found:
            await jobs.ended(job.id)
        return [job.scheduled_for for job in found]

    try:
        moment[0] = datetime.fromisoformat(snapshot.created_at).replace(tzinfo=UTC)
        assert await due() == []  # what was due before is not for it
        hour = moment[0].replace(minute=0, second=0, microsecond=0)
        await jobs.pause(snapshot, "a", paused=True)
        moment[0] = hour + timedelta(hours=3, minutes=30)
        assert await due() == []
        await jobs.pause(snapshot, "a", paused=False)
        assert await due() == []
        moment[0] = hour + timedelta(hours=4)
        assert await due() == [f"{moment[0]:%Y-%m-%d %H:%M:%S}"]
    finally:
        await jobs.close()

"""Copy pipes: what they write, how they replace, when they run, what stops them, and who may start them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from pipit.errors import Conflict
from pipit.jobs import Job, Jobs
from pipit.jobs.schedule import last_due
from pipit.server import job_kinds
from projects import EVENTS, ROWS
from serving import Workspace
from waiting import until

pytestmark = pytest.mark.anyio

TOTALS = """
SCHEMA >
    customer_id String,
    total Int64,
    at DateTime

ENGINE MergeTree
ENGINE_SORTING_KEY customer_id

ROW_POLICY customer_id = {{String(context.customer_id)}}
"""
COPY = """
NODE sums
SQL >
    %
    SELECT customer_id, sum(amount) AS total, toDateTime({{String(job_timestamp)}}, 'UTC') AS at, 1 AS not_there
    FROM events
    WHERE amount >= {{Int64(least, -1000)}}
    GROUP BY customer_id

TYPE copy
TARGET_DATASOURCE totals
COPY_MODE append
COPY_SCHEDULE 0 * * * *
"""
SLOW = """
NODE slowly
SQL >
    SELECT 'x' AS customer_id, toInt64(sum(sipHash64(number) % 10)) AS total, now() AS at FROM numbers(1000000000000)

TYPE copy
TARGET_DATASOURCE totals
COPY_MODE replace
"""
READ = "NODE n\nSQL >\n    SELECT customer_id, total FROM totals ORDER BY customer_id\nTYPE endpoint\n"
PROJECT = {
    "datasources/events.datasource": EVENTS,
    "datasources/totals.datasource": TOTALS,
    "copies/summing.pipe": COPY,
    "copies/slow.pipe": SLOW,
    "endpoints/totals_now.pipe": READ,
}


@pytest.fixture
async def project(workspace: Workspace) -> Workspace:
    await workspace.deploy(PROJECT)
    await workspace.send("events", ROWS)
    return workspace


async def totals(workspace: Workspace, token: str | None = "admin") -> list[tuple[str, int]]:
    rows = await workspace.rows("/v0/pipes/totals_now.json", token=token)
    return [(row["customer_id"], int(row["total"])) for row in rows]


def expected() -> list[tuple[str, int]]:
    customers = sorted({row["customer_id"] for row in ROWS})
    return [(c, sum(row["amount"] for row in ROWS if row["customer_id"] == c)) for c in customers]


async def test_a_copy_appends_and_its_job_tells(project: Workspace) -> None:
    job = await project.job(await project.post("/v0/pipes/summing/copy"))
    assert (job["status"], job["kind"], job["datasource"]["name"]) == ("done", "copy", "totals")
    assert job["statistics"]["row_count"] == len(expected())
    assert job["job_url"] == f"{project.base_url}/v0/jobs/{job['id']}"
    assert not job["is_cancellable"] and job["started_at"] >= job["created_at"] and "error" not in job
    assert await totals(project) == expected()
    await project.job(await project.post("/v0/pipes/summing/copy"))
    assert await totals(project) == sorted(expected() * 2)
    at = await project.rows("/v0/sql?q=SELECT+max(at)>now()-60+AS+x,+max(at)<now()%2B60+AS+y+FROM+totals+FORMAT+JSON")
    assert at == [{"x": 1, "y": 1}]


async def test_parameters_and_the_mode_come_with_the_request(project: Workspace) -> None:
    least = max(row["amount"] for row in ROWS if row["amount"] < 900000)
    job = await project.job(await project.post(f"/v0/pipes/summing/copy?least={least}"))
    assert job["parameters"] == {"least": str(least)}
    few = await totals(project)
    assert few and few != expected()
    await project.job(await project.post("/v0/pipes/summing/copy?_mode=replace"))
    assert await totals(project) == expected()


async def test_a_replacement_is_there_at_one_moment_and_events_are_not_lost(project: Workspace) -> None:
    """Readers see the rows of before or those of after; rows that come meanwhile are in what is there then or later."""
    await project.job(await project.post("/v0/pipes/summing/copy"))
    seen: set[tuple[tuple[str, int], ...]] = set()
    stop = asyncio.Event()

    async def read() -> None:
        while not stop.is_set():
            seen.add(tuple(await totals(project)))

    reading = asyncio.ensure_future(read())
    for _ in range(8):
        await project.job(await project.post("/v0/pipes/summing/copy?_mode=replace"))
    stop.set()
    await reading
    assert seen == {tuple(expected())}
    left = await project.server.engine.rows(
        "SELECT name FROM system.tables WHERE database = {d:String} AND name LIKE 'x1%'", {"d": project.database}
    )
    assert left == []


async def test_a_view_from_the_target_still_fires_after_a_replacement(workspace: Workspace) -> None:
    view = {
        "datasources/counted.datasource": "SCHEMA >\n    customer_id String,\n    n UInt64\n\nENGINE SummingMergeTree\n"
        "ENGINE_SORTING_KEY customer_id\n\nROW_POLICY customer_id = {{String(context.customer_id)}}\n",
        "materializations/counting.pipe": "NODE c\nSQL >\n    SELECT customer_id, count() AS n FROM totals GROUP BY "
        "customer_id\nTYPE materialized\nDATASOURCE counted\n",
    }
    await workspace.deploy(PROJECT | view)
    await workspace.send("events", ROWS)
    for mode in ("append", "replace", "append"):
        await workspace.job(await workspace.post(f"/v0/pipes/summing/copy?_mode={mode}"))
    rows = await workspace.rows("/v0/sql?q=SELECT+customer_id,+sum(n)+AS+n+FROM+counted+GROUP+BY+1+FORMAT+JSON")
    assert {int(row["n"]) for row in rows} == {2}  # appends; a replacement writes into a table beside it


async def test_a_tenant_sees_its_rows_of_the_target_and_can_start_nothing(project: Workspace) -> None:
    job = await project.job(await project.post("/v0/pipes/summing/copy"))
    tenant = project.tenant("totals_now", "summing", customer_id="a")
    assert [c for c, _ in await totals(project, tenant)] == ["a"]
    for method, path in (
        ("POST", "/v0/pipes/summing/copy"),
        ("POST", "/v0/pipes/summing/copy/pause"),
        ("POST", "/v0/pipes/summing/copy/resume"),
        ("POST", "/v0/pipes/summing/copy/cancel"),
        ("GET", "/v0/copies"),
        ("GET", "/v0/jobs"),
        ("GET", f"/v0/jobs/{job['id']}"),
        ("POST", f"/v0/jobs/{job['id']}/cancel"),
    ):
        for token in (tenant, None):
            assert (await project.request(method, path, token=token)).status == 403, path


async def test_another_workspace_s_jobs_do_not_exist(project: Workspace) -> None:
    job = await project.job(await project.post("/v0/pipes/summing/copy"))
    made = await project.server.catalog.create_workspace(f"{project.name}_other")
    other = Workspace(project.server, project.base_url, project.session, made.id)
    assert (await other.get("/v0/jobs")).json == {"jobs": []}
    assert (await other.get(f"/v0/jobs/{job['id']}")).status == 404
    assert (await other.post(f"/v0/jobs/{job['id']}/cancel")).status == 404


async def test_one_at_a_time_and_cancelled(project: Workspace) -> None:
    first = await project.post("/v0/pipes/slow/copy")
    assert first.status == 200, first.text
    again = await project.post("/v0/pipes/slow/copy")
    assert again.status == 409 and "under way" in again.json["error"]
    assert (await project.post("/v0/pipes/summing/copy")).status == 200  # another pipe's
    listed = (await project.get("/v0/jobs?kind=copy")).json["jobs"]
    assert {job["pipe"]["name"] for job in listed} == {"slow", "summing"}
    cancelled = await project.post("/v0/pipes/slow/copy/cancel")
    assert [job["status"] for job in cancelled.json["jobs"]] == ["cancelling"]
    job = await project.job(first)
    assert job["status"] == "cancelled" and not job["is_cancellable"]
    assert (await project.post(f"/v0/jobs/{job['id']}/cancel")).status == 400
    running = "SELECT 1 FROM system.processes WHERE query LIKE '%sipHash64%' AND query NOT LIKE '%processes%'"

    async def ended() -> bool:
        return not await project.server.engine.rows(running)

    await until(ended)
    assert (await totals(project)) == expected()  # of summing alone


async def test_what_cannot_be_copied_is_said_at_once(project: Workspace) -> None:
    for path, status, words in (
        ("/v0/pipes/nothing/copy", 404, "not found"),
        ("/v0/pipes/totals_now/copy", 400, "not a copy pipe"),
        ("/v0/pipes/summing/copy?_mode=upsert", 400, "mode"),
        ("/v0/pipes/summing/copy?least=x", 400, "Int64"),
        ("/v0/jobs/nothing", 404, "not found"),
        ("/v0/jobs?status=odd", 400, "status"),
        ("/v0/pipes/slow/copy/pause", 400, "no schedule"),
    ):
        method = "GET" if path.startswith("/v0/jobs") else "POST"
        reply = await project.request(method, path)
        assert reply.status == status and words in reply.json["error"], reply.text
    assert (await project.get("/v0/jobs")).json == {"jobs": []}


async def test_a_copy_that_fails_says_why_and_changes_nothing(workspace: Workspace) -> None:
    bad = COPY.replace("sum(amount) AS total", "throwIf(sum(amount) > 0, 'too much') AS total")
    await workspace.deploy(PROJECT | {"copies/summing.pipe": bad})
    await workspace.send("events", ROWS)
    job = await workspace.job(await workspace.post("/v0/pipes/summing/copy?_mode=replace"))
    assert job["status"] == "error" and "too much" in job["error"]
    assert await totals(workspace) == []
    asked = "/v0/sql?q=SELECT+job_id,status,error,job_type+FROM+tinybird.jobs_log+FORMAT+JSON"
    rows = await until(lambda: workspace.rows(asked))  # through the ingest
    assert [(r["job_id"], r["status"], r["job_type"]) for r in rows] == [(job["id"], "error", "copy")]
    assert "too much" in rows[0]["error"]


# --- schedules


@pytest.fixture
async def clock(project: Workspace) -> AsyncIterator[tuple[Jobs, list[datetime]]]:
    """Jobs of the test's own, with a clock that stands where the test sets it. The server's own ticks by the real one."""
    server = project.server
    now = [datetime(2030, 1, 1, 10, 30, tzinfo=UTC)]
    jobs = Jobs(server.catalog, job_kinds(server.engine, server.catalog, server.locks, server.ingest, server.reader, server.files, server.config, server.connectors), clock=lambda: now[0])
    yield jobs, now
    await jobs.close()


def mine(jobs: list[Job], workspace: Workspace) -> list[Job]:
    ids = {workspace.server.catalog.snapshot(workspace.id).workspace.resource_id("pipe", "summing")}
    return [job for job in jobs if job.pipe_id in ids]


async def test_a_schedule_runs_each_minute_once(project: Workspace, clock: tuple[Jobs, list[datetime]]) -> None:
    jobs, now = clock
    (made_up,) = mine(await jobs.run_due(), project)  # nobody was there at ten
    assert made_up.scheduled_for == "2030-01-01 10:00:00"
    await jobs.ended(made_up.id)
    now[0] += timedelta(minutes=29, seconds=59)
    assert mine(await jobs.run_due(), project) == []
    now[0] += timedelta(seconds=1)
    (job,) = mine(await jobs.run_due(), project)
    assert job.scheduled_for == "2030-01-01 11:00:00" and job.asked_by == "schedule"
    await jobs.ended(job.id)
    assert await totals(project) == sorted(expected() * 2)
    now[0] += timedelta(seconds=30)
    assert mine(await jobs.run_due(), project) == []
    now[0] += timedelta(hours=3)  # the last that was missed, not all of them
    (late,) = mine(await jobs.run_due(), project)
    assert late.scheduled_for == "2030-01-01 14:00:00"
    await jobs.ended(late.id)


async def test_after_a_restart_no_minute_runs_twice_and_a_replacement_waits_again(
    project: Workspace, clock: tuple[Jobs, list[datetime]]
) -> None:
    jobs, now = clock
    now[0] += timedelta(minutes=30)
    (job,) = mine(await jobs.run_due(), project)
    await jobs.ended(job.id)
    snapshot = project.server.catalog.snapshot(project.id)
    slow = await jobs.copy(snapshot, "slow", {})
    again = Jobs(project.server.catalog, job_kinds(project.server.engine, project.server.catalog, project.server.locks, project.server.ingest, project.server.reader, project.server.files, project.server.config, project.server.connectors), clock=lambda: now[0])
    for place, fields in await project.server.catalog.state.jobs(since=datetime(2020, 1, 1, tzinfo=UTC)):
        assert place and fields["id"]
    try:
        # What `start` reads, without its ticking: the clock stands.
        await again.read_back()
        assert mine(await again.run_due(), project) == []
        assert again.job(snapshot, slow.id).status == "waiting"
        now[0] += timedelta(hours=1)
        (next_one,) = mine(await again.run_due(), project)
        await again.ended(next_one.id)
    finally:
        await jobs.cancel(snapshot, slow.id)
        await jobs.ended(slow.id)
        await again.close()


async def test_a_paused_copy_runs_on_demand_only(project: Workspace, clock: tuple[Jobs, list[datetime]]) -> None:
    jobs, now = clock
    paused = await project.post("/v0/pipes/summing/copy/pause")
    assert paused.status == 200 and paused.json["schedule"]["status"] == "shutdown", paused.text
    await jobs.read_back()
    now[0] += timedelta(minutes=30)
    assert mine(await jobs.run_due(), project) == []
    await project.job(await project.post("/v0/pipes/summing/copy"))
    resumed = await project.post("/v0/pipes/summing/copy/resume")
    assert resumed.json["schedule"] == {"cron": "0 * * * *", "timezone": "Etc/UTC", "status": "running"}
    copies = (await project.get("/v0/copies")).json["copies"]
    assert [(c["name"], c["mode"], c["schedule"]["status"]) for c in copies] == [
        ("slow", "replace", "on-demand"),
        ("summing", "append", "running"),
    ]


async def test_a_scheduled_run_over_one_that_still_runs_is_skipped_and_told(
    project: Workspace, clock: tuple[Jobs, list[datetime]]
) -> None:
    jobs, now = clock
    await project.deploy(PROJECT | {"copies/slow.pipe": SLOW + "COPY_SCHEDULE */5 * * * *\n"})
    snapshot = project.server.catalog.snapshot(project.id)
    running = await jobs.copy(snapshot, "slow", {})
    with pytest.raises(Conflict):
        await jobs.copy(snapshot, "slow", {})
    now[0] += timedelta(minutes=5)
    await jobs.run_due()
    (skipped,) = [j for j in jobs.listed(snapshot, status="error") if j.pipe == "slow"]
    assert "still running" in skipped.error and skipped.scheduled_for
    await jobs.run_due()
    assert len([j for j in jobs.listed(snapshot, status="error") if j.pipe == "slow"]) == 1
    await jobs.cancel(snapshot, running.id)
    await jobs.ended(running.id)


@pytest.mark.parametrize(
    ("cron", "after", "until", "due"),
    [
        ("*/5 * * * *", "10:00", "10:04", None),
        ("*/5 * * * *", "10:00", "10:05", "10:05"),
        ("*/5 * * * *", "10:00", "10:17", "10:15"),
        ("0 10 * * *", "09:59", "10:00", "10:00"),
        ("0 10 * * *", "10:00", "23:00", None),
        ("30 9 * JAN TUE", "09:00", "09:40", "09:30"),
        ("@on-demand", "09:00", "10:00", None),
    ],
)
def test_when_a_schedule_is_due(cron: str, after: str, until: str, due: str | None) -> None:
    def at(text: str) -> datetime:
        return datetime.fromisoformat(f"2030-01-01 {text}").replace(tzinfo=UTC)

    assert last_due(cron, at(after), at(until)) == (at(due) if due else None)

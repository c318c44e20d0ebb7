"""A server that stops with jobs that wait and jobs that work: what is lost, what runs again, what comes twice (nothing)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipit.jobs import Job, Jobs
from pipit.server import job_kinds
from processes import Served
from serving import Workspace
from waiting import until, wait_for

WORK = "SELECT {n} AS who, toUInt64(sum(sipHash64(number)) != 1) AS n FROM numbers({numbers})"
TARGET = "SCHEMA >\n    `who` UInt16,\n    `n` UInt64\n\nENGINE MergeTree\nENGINE_SORTING_KEY who\n"
SLOW, QUICK = 60_000_000, 10
COPIES = 20


def copy(n: int, target: str, mode: str, numbers: int) -> str:
    return f"NODE c\nSQL >\n    {WORK.format(n=n, numbers=numbers)}\n\nTYPE copy\nTARGET_DATASOURCE {target}\nCOPY_MODE {mode}\n"


def write(folder: Path) -> None:
    """Copies 0 to 2 replace, slowly, 3 appends slowly; the others are quick, and even ones replace."""
    files = {"pipes/read.pipe": "NODE n\nSQL >\n    SELECT who, n FROM appended ORDER BY who\nTYPE endpoint\n"}
    files["datasources/appended.datasource"] = TARGET
    for n in range(COPIES):
        replaces = n < 3 or (n > 3 and n % 2 == 0)
        target = f"replaced_{n}" if replaces else "appended"
        if replaces:
            files[f"datasources/{target}.datasource"] = TARGET
        files[f"copies/copy_{n}.pipe"] = copy(n, target, "replace" if replaces else "append", SLOW if n < 4 else QUICK)
    for name, text in files.items():
        path = folder / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def jobs(server: Served) -> dict[str, dict[str, Any]]:
    status, reply = server.get("/v0/jobs")
    return {job["pipe"]["name"]: job for job in reply["jobs"]} if status == 200 else {}


def statuses(server: Served) -> list[str]:
    return [job["status"] for job in jobs(server).values()]


@pytest.mark.parametrize("way", ["kill -9", "SIGTERM"])
def test_what_waited_and_what_is_all_or_nothing_runs_after_the_start(tmp_path: Path, way: str) -> None:
    write(tmp_path)
    server = Served(tmp_path)
    try:
        server.start()
        for n in range(COPIES):
            assert server.request(f"/v0/pipes/copy_{n}/copy", b"")[0] == 200
        wait_for(lambda: statuses(server).count("working") == 4, what="four work")
        before = jobs(server)
        waiting = {name for name, job in before.items() if job["status"] == "waiting"}
        assert len(waiting) == COPIES - 4
        said = {before[name]["waiting_for"] for name in waiting}
        assert any("4 jobs" in text and "3 wait before" in text for text in said), said
        if way == "kill -9":
            server.kill_everything()
            assert server.process and server.process.stdout
            server.process.stdout.close()
        else:
            server.stop()
        server.start()
        wait_for(lambda: not {"waiting", "working"} & set(statuses(server)), 120, "all have ended")
        after = jobs(server)
        assert {job["id"] for job in after.values()} == {job["id"] for job in before.values()}
        failed = {name for name, job in after.items() if job["status"] != "done"}
        assert failed <= {"copy_3"}, [after[name] for name in failed]
        assert all("some of its rows may be there" in after[name]["error"] for name in failed)
        appended = [row["who"] for row in server.get("/v0/pipes/read.json")[1]["data"] if row["who"] != 3]
        assert appended == [n for n in range(4, COPIES) if n % 2]
        for n in (0, 1, 2, 4):
            path = f"/v0/sql?q=SELECT%20who,n%20FROM%20replaced_{n}%20FORMAT%20JSON"
            assert [(row["who"], int(row["n"])) for row in server.get(path)[1]["data"]] == [(n, 1)]
    finally:
        server.stop()


@pytest.fixture
async def project(workspace: Workspace) -> Workspace:
    await workspace.deploy(
        {
            "datasources/t.datasource": TARGET,
            "copies/forever.pipe": copy(1, "t", "replace", 1_000_000_000_000),
            "copies/itself.pipe": "NODE c\nSQL >\n    SELECT who, n + toUInt64(sum(sipHash64(number)) OVER () != 1) AS n "
            "FROM t, numbers(1000000000000) AS m\n\nTYPE copy\nTARGET_DATASOURCE t\nCOPY_MODE replace\n",
            "copies/named.pipe": "NODE c\nSQL >\n    %\n    SELECT {{UInt16(who)}} AS who, "
            "toUnixTimestamp(toDateTime({{String(job_timestamp)}}, 'UTC')) AS n\n\nTYPE copy\nTARGET_DATASOURCE t\n",
        }
    )
    return workspace


def another(workspace: Workspace, clock: datetime) -> Jobs:
    server = workspace.server
    return Jobs(server.catalog, job_kinds(server.engine, server.catalog, server.locks, server.ingest, server.reader, server.files, server.config, server.connectors), clock=lambda: clock)


@pytest.mark.anyio
async def test_it_runs_with_what_it_was_asked_with(project: Workspace) -> None:
    """Parameters, mode and time; the old server never came to it."""
    first, second = datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 2, tzinfo=UTC)
    snapshot = project.server.catalog.snapshot(project.id)
    old, new = another(project, first), another(project, second)
    job = await old.copy(snapshot, "named", {"who": "7"}, asked_by="me", scheduled_for="2030-01-01 00:00:00")
    await old.close()  # before it took its first step
    await new.read_back()
    try:
        await new.go_on()
        await new.ended(job.id)
        found = new.job(snapshot, job.id)
        assert (found.status, found.rows, found.asked_by) == ("done", 1, "me"), found
        (row,) = await project.rows("/v0/sql?q=SELECT%20who,n%20FROM%20t%20FORMAT%20JSON")
        assert (row["who"], int(row["n"])) == (7, int(first.timestamp()))
    finally:
        await new.close()


@pytest.mark.anyio
async def test_a_replacement_of_what_it_reads_is_not_run_twice(project: Workspace) -> None:
    snapshot = project.server.catalog.snapshot(project.id)
    await project.server.engine.command(f"INSERT INTO {project.database}.d1_t VALUES (1, 1)")
    old, new = another(project, datetime.now(UTC)), another(project, datetime.now(UTC))
    forever = await old.copy(snapshot, "forever", {})
    itself = await old.copy(snapshot, "itself", {})
    await working(old, project, forever, itself)
    await old.close()
    await new.read_back()
    try:
        assert new.job(snapshot, forever.id).status == "waiting"
        assert new.job(snapshot, itself.id).status == "error"
    finally:
        await new.go_on()
        await new.cancel(snapshot, forever.id)
        await new.ended(forever.id)
        await new.close()


async def working(jobs: Jobs, workspace: Workspace, *asked: Job) -> None:
    snapshot = workspace.server.catalog.snapshot(workspace.id)
    await until(lambda: all(jobs.job(snapshot, job.id).status == "working" for job in asked))

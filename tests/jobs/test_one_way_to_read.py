"""What a job reads, it reads as everything else does: filtered, admitted, limited and logged in one place."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from pipit.catalog.services import PIPE_STATS_RT, SERVICES, physical_name
from pipit.jobs import Job
from pipit.jobs.copies import CopyJobs
from projects import EVENTS, ROWS
from serving import Workspace
from waiting import until

pytestmark = pytest.mark.anyio

TOTALS = "SCHEMA >\n    customer_id String,\n    total Int64\n\nENGINE MergeTree\nENGINE_SORTING_KEY customer_id\n"
SUMS = TOTALS + "\nBACKFILL skip\n"
COPY = """
NODE by_customer
SQL >
    %
    SELECT customer_id, sum(amount) AS total FROM events WHERE amount > {{Int64(least, -1000)}} GROUP BY customer_id

TYPE copy
TARGET_DATASOURCE totals
"""
BROKEN = """
NODE n
SQL >
    SELECT customer_id, toInt64(throwIf(amount > -1000, 'a row said no')) AS total FROM events

TYPE copy
TARGET_DATASOURCE totals
"""
SLOW = """
NODE slowly
SQL >
    SELECT 'x' AS customer_id, toInt64(sum(sipHash64(number) % 10)) AS total FROM numbers(1000000000000)

TYPE copy
TARGET_DATASOURCE totals
"""
TIMED = """
NODE n
SQL >
    %
    SELECT 'x' AS customer_id, toInt64(toUnixTimestamp(toDateTime({{String(job_timestamp)}}, 'UTC'))) AS total

TYPE copy
TARGET_DATASOURCE totals
"""
VIEW = """
NODE by_view
SQL >
    SELECT customer_id, sum(amount) AS total FROM events GROUP BY customer_id

TYPE materialized
DATASOURCE sums
"""
PROJECT = {
    "datasources/events.datasource": EVENTS,
    "datasources/totals.datasource": TOTALS,
    "datasources/sums.datasource": SUMS,
    "copies/summing.pipe": COPY,
    "copies/broken.pipe": BROKEN,
    "copies/slow.pipe": SLOW,
    "copies/timed.pipe": TIMED,
    "materializations/summed.pipe": VIEW,
}
POPULATION = "/v0/pipes/summed/nodes/by_view/population"


@pytest.fixture
async def project(workspace: Workspace) -> Workspace:
    await workspace.deploy(PROJECT)
    await workspace.send("events", ROWS)
    return workspace


async def logged(workspace: Workspace, pipe: str) -> list[dict[str, Any]]:
    """The rows of the audit log about this pipe."""
    await workspace.server.read_log.flush()
    for service in SERVICES.values():
        await workspace.server.ingest.drain(workspace.database, physical_name(service))
    sql = f"SELECT * FROM {PIPE_STATS_RT.name} WHERE pipe_name = '{pipe}' ORDER BY start_datetime FORMAT JSON"
    return await workspace.rows(f"/v0/sql?q={quote(sql)}")


async def totals(workspace: Workspace, table: str = "totals") -> list[dict[str, Any]]:
    sql = f"SELECT customer_id, toInt64(sum(total)) AS total FROM {table} GROUP BY customer_id ORDER BY 1 FORMAT JSON"
    return await workspace.rows(f"/v0/sql?q={quote(sql)}")


async def test_a_copy_is_in_the_audit_log(project: Workspace) -> None:
    job = await project.job(await project.post("/v0/pipes/summing/copy?least=0"))
    assert job["status"] == "done", job
    (row,) = await logged(project, "summing")
    assert (row["request_id"], row["method"], row["status_code"], row["error"]) == (job["job_id"], "copy", 200, 0)
    assert row["parameters"] == {"least": "0"}
    assert row["token_name"] == "workspace admin token" and int(row["read_rows"]) == len(ROWS)


async def test_a_copy_that_fails_is_in_the_audit_log(project: Workspace) -> None:
    job = await project.job(await project.post("/v0/pipes/broken/copy"))
    assert job["status"] == "error", job
    (row,) = await logged(project, "broken")
    assert (row["request_id"], row["status_code"], row["error"]) == (job["job_id"], 400, 1)
    assert "a row said no" not in row["error_message"]


async def test_a_populate_is_in_the_audit_log(project: Workspace) -> None:
    job = await project.job(await project.post(f"{POPULATION}?populate_condition=amount%20%3E%200"))
    assert job["status"] == "done", job
    (row,) = await logged(project, "summed")
    assert (row["request_id"], row["method"], row["status_code"]) == (job["job_id"], "populateview", 200)


async def test_a_copy_holds_a_slot_while_it_runs(project: Workspace) -> None:
    """Of the token that asked for it; it is free again when the copy has ended, however it did."""
    admission = project.server.reader._admission
    assert admission._total == 0
    reply = await project.post("/v0/pipes/slow/copy")
    await until(lambda: admission._total == 1)
    assert {name for _, _, name in admission._running} == {"workspace admin token (jobs)"}
    assert (await project.post(f"/v0/jobs/{reply.json['job']['job_id']}/cancel")).status == 200
    assert (await project.job(reply))["status"] == "cancelled"
    await until(lambda: admission._total == 0)
    (row,) = await logged(project, "slow")
    assert row["status_code"] == 499


async def test_a_job_reads_through_the_place_where_filters_are_applied(
    project: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter that stands on the table there stands in the copy and the populate as well."""
    customer = ROWS[0]["customer_id"]

    def planted(_snapshot: object, _security: object, tables: Any) -> dict[str, str]:
        return {table: f"customer_id = '{customer}'" for table in tables if table.endswith("_events")}

    monkeypatch.setattr("pipit.query.planner.filters_for", planted)
    assert (await project.job(await project.post("/v0/pipes/summing/copy")))["status"] == "done"
    assert (await project.job(await project.post(f"{POPULATION}?truncate=true")))["status"] == "done"
    again = f"{POPULATION}?truncate=true&populate_condition=amount%20%3E%20-1000"
    assert (await project.job(await project.post(again)))["status"] == "done"
    monkeypatch.undo()
    for table in ("totals", "sums"):
        assert [row["customer_id"] for row in await totals(project, table)] == [customer]


async def test_a_job_runs_under_the_limits_of_its_purpose(project: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Mapping[str, Any]] = []
    stream = project.server.engine.stream

    @asynccontextmanager
    async def watched(sql: str, params: Any = None, *, settings: Any = None, **options: Any) -> Any:
        if sql.startswith("INSERT"):
            seen.append(settings)
        async with stream(sql, params, settings=settings, **options) as chunks:
            yield chunks

    monkeypatch.setattr(project.server.engine, "stream", watched)
    await project.job(await project.post("/v0/pipes/summing/copy"))
    await project.job(await project.post(f"{POPULATION}?populate_condition=amount%20%3E%200"))
    copy, populate = seen
    for settings in seen:
        assert settings["max_execution_time"] == 3600 and settings["insert_deduplicate"] == 0
        assert settings["use_query_cache"] == 0 and settings["use_query_condition_cache"] == 0
        assert "readonly" not in settings
    assert "additional_table_filters" not in copy
    assert "(amount > 0)" in str(populate["additional_table_filters"])


async def test_a_copy_that_an_older_version_left_waiting_has_the_time_when_it_was_asked_for(project: Workspace) -> None:
    server, snapshot = project.server, project.server.catalog.snapshot(project.id)
    job = Job(id="old", kind="copy", status="waiting", created_at="2026-03-01 10:00:00.123456", pipe="timed", mode="append")
    work = await CopyJobs(server.engine, server.locks, server.reader).prepare(snapshot, job)
    assert (await work.run()).rows == 1
    assert [int(row["total"]) for row in await totals(project)] == [int(datetime(2026, 3, 1, 10, tzinfo=UTC).timestamp())]

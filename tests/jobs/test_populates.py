"""Populates: what they fill, from which rows, once each, and what readers see meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from pipit.tables import Mode
from projects import EVENTS, ROWS
from serving import Workspace

pytestmark = pytest.mark.anyio

SUMS = """
SCHEMA >
    customer_id String,
    total Int64

ENGINE SummingMergeTree
ENGINE_SORTING_KEY customer_id

BACKFILL skip

ROW_POLICY customer_id = {{String(context.customer_id)}}
"""
VIEW = """
NODE summing
SQL >
    SELECT customer_id, sum(amount) AS total FROM events GROUP BY customer_id

TYPE materialized
DATASOURCE sums
"""
READ = "NODE n\nSQL >\n    SELECT customer_id, sum(total) AS total FROM sums GROUP BY 1 ORDER BY 1\nTYPE endpoint\n"
BEFORE = {"datasources/events.datasource": EVENTS, "datasources/sums.datasource": SUMS, "endpoints/all_sums.pipe": READ}
AFTER = BEFORE | {"materializations/summed.pipe": VIEW}
PATH = "/v0/pipes/summed/nodes/summing/population"


@pytest.fixture
async def project(workspace: Workspace) -> Workspace:
    """The view came after the rows, and was told to leave them."""
    await workspace.deploy(BEFORE)
    await workspace.send("events", ROWS)
    await workspace.deploy(AFTER)
    assert await sums(workspace) == []
    return workspace


async def sums(workspace: Workspace, token: str | None = "admin") -> list[tuple[str, int]]:
    rows = await workspace.rows("/v0/pipes/all_sums.json", token=token)
    return [(row["customer_id"], int(row["total"])) for row in rows]


def expected(times: int = 1, *, only: str = "") -> list[tuple[str, int]]:
    customers = sorted({row["customer_id"] for row in ROWS if only in ("", row["customer_id"])})
    return [(c, times * sum(row["amount"] for row in ROWS if row["customer_id"] == c)) for c in customers]


async def test_the_target_is_filled_and_the_view_goes_on(project: Workspace) -> None:
    job = await project.job(await project.post(PATH))
    assert (job["kind"], job["status"], job["datasource"]["name"]) == ("populateview", "done", "sums"), job
    assert job["statistics"]["row_count"] == len(expected())
    assert await sums(project) == expected()
    await project.send("events", ROWS)
    assert await sums(project) == expected(2)


async def test_to_start_anew(project: Workspace) -> None:
    await project.send("events", ROWS)
    assert await sums(project) == expected()  # the second half only
    await project.job(await project.post(f"{PATH}?truncate=true"))
    assert await sums(project) == expected(2)
    tenant = project.tenant("all_sums", customer_id="a")
    assert await sums(project, tenant) == [row for row in expected(2) if row[0] == "a"]


async def test_some_of_the_rows(project: Workspace) -> None:
    job = await project.job(await project.post(PATH, data={"populate_condition": "customer_id = 'a'"}))
    assert job["parameters"] == {"populate_condition": "customer_id = 'a'"}
    assert await sums(project) == expected(only="a")
    await project.job(await project.post(f"{PATH}?truncate=true&populate_subset=0.000001"))
    assert await sums(project) == []


async def test_rows_that_come_meanwhile_are_counted_once(project: Workspace) -> None:
    table = project.server.catalog.snapshot(project.id).tables["events"]
    async with project.server.locks.acquire([table.key], Mode.ALTER):  # the populate waits for its lock
        started = await project.post(f"{PATH}?truncate=true")
        sending = asyncio.create_task(project.send("events", ROWS))
    await project.job(started)
    await sending
    assert await sums(project) == expected(2)


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/v0/pipes/nothing/nodes/x/population", 404, "not found"),
        ("/v0/pipes/summed/nodes/x/population", 404, "no node 'x'"),
        ("/v0/pipes/all_sums/nodes/n/population", 400, "not materialized"),
        (f"{PATH}?populate_subset=2", 400, "populate_subset"),
        (f"{PATH}?truncate=perhaps", 400, "truncate"),
        (f"{PATH}?populate_condition=amount+IN+(SELECT+1)", 400, "populate_condition"),
        (f"{PATH}?populate_condition=1)+OR+(1", 400, "populate_condition"),
        (f"{PATH}?populate_condition=nothing_like_it+%3D+1", 400, "nothing_like_it"),
    ],
)
async def test_what_cannot_be_filled_is_said_at_once(project: Workspace, path: str, status: int, words: str) -> None:
    reply = await project.post(path)
    assert reply.status == status and words in reply.json["error"], reply.text
    assert await sums(project) == []


async def test_for_admins_only(project: Workspace) -> None:
    for token in (project.tenant("all_sums", customer_id="a"), None):
        assert (await project.post(PATH, token=token)).status == 403

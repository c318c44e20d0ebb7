"""While a table's rows are replaced, a tenant's read keeps its filter: the engine looks for it by the table's name."""

from __future__ import annotations

import asyncio

import pytest

from projects import EVENTS, ROWS, column
from serving import Workspace

pytestmark = pytest.mark.anyio

COPIED = """
SCHEMA >
    customer_id String,
    amount Int64

ENGINE MergeTree
ENGINE_SORTING_KEY customer_id

ROW_POLICY customer_id = {{String(context.customer_id)}}
"""
COPY = """
NODE all_rows
SQL >
    SELECT customer_id, amount FROM events
TYPE copy
TARGET_DATASOURCE copied
COPY_MODE replace
"""
# The engine knows the table before it computes the subquery, and looks for the filter only after it.
SLOWLY = """
NODE n
SQL >
    %
    SELECT customer_id, amount FROM copied
    WHERE amount > (
        SELECT -1 - toInt64(max(sipHash64(number)) % 2) FROM (
            SELECT number FROM numbers(1000000000) LIMIT {{UInt64(many, 1)}}
        )
    )
    ORDER BY amount
TYPE endpoint
"""


async def test_a_read_keeps_its_filter_while_all_rows_are_replaced(workspace: Workspace) -> None:
    await workspace.deploy(
        {
            "datasources/events.datasource": EVENTS,
            "datasources/copied.datasource": COPIED,
            "copies/copying.pipe": COPY,
            "endpoints/slowly.pipe": SLOWLY,
        }
    )
    await workspace.send("events", ROWS)
    await _replace(workspace)
    token = workspace.tenant("slowly", customer_id="a")
    assert column(await workspace.rows("/v0/pipes/slowly.json", token=token), "amount") == [1, 2, 3]

    reading = asyncio.ensure_future(workspace.rows("/v0/pipes/slowly.json?many=50000000", token=token))
    while not reading.done():
        await _replace(workspace)  # ends with the read: the table that it knows cannot be dropped before
    assert set(column(await reading, "customer_id")) == {"a"}


async def _replace(workspace: Workspace) -> None:
    reply = await workspace.post("/v0/pipes/copying/copy")
    assert reply.status == 200, reply.text
    id = reply.json["job"]["job_id"]
    await workspace.server.jobs.ended(id)
    assert (await workspace.get(f"/v0/jobs/{id}")).json["status"] == "done"

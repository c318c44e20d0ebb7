"""A view that takes nothing is corrected: events that waited for it are in every view once."""

from __future__ import annotations

import json

import pytest

from pipit.errors import Conflict, Reason
from serving import Reply, Workspace
from waiting import until

pytestmark = pytest.mark.anyio

FILES = {
    "datasources/orders.datasource": "SCHEMA >\n    id UInt64 `json:$.id`\n\nENGINE MergeTree\nENGINE_SORTING_KEY id\n",
    "datasources/seen.datasource": "SCHEMA >\n    id UInt64\n\nENGINE MergeTree\nENGINE_SORTING_KEY id\n",
}


def view(to: str, value: str = "id") -> str:
    return f"NODE n\nSQL >\n    SELECT {value} AS id FROM orders\nTYPE materialized\nDATASOURCE {to}\n"


BROKEN = FILES | {"pipes/see.pipe": view("seen", "id + throwIf(id < 1000, 'not now')")}
CORRECTED = FILES | {"pipes/see.pipe": view("seen")}
ANOTHER = BROKEN | {
    "datasources/others.datasource": FILES["datasources/seen.datasource"],
    "pipes/other.pipe": view("others"),
}


async def send(workspace: Workspace, first: int, end: int) -> Reply:
    lines = "\n".join(json.dumps({"id": n}) for n in range(first, end))
    return await workspace.post("/v0/events?name=orders&wait=true", data=lines)


async def counted(workspace: Workspace, table: str) -> tuple[int, int]:
    query = f"SELECT count() AS n, uniqExact(id) AS ids FROM {table} FORMAT JSON"
    (row,) = (await workspace.post("/v0/sql", data={"q": query})).json["data"]
    return row["n"], row["ids"]


@pytest.mark.parametrize("files", [CORRECTED, ANOTHER], ids=["corrected", "another"])
async def test_no_view_is_filled_from_a_table_whose_events_wait_for_a_view(
    workspace: Workspace, files: dict[str, str]
) -> None:
    await workspace.deploy(BROKEN)
    assert (await send(workspace, 0, 100)).status == 422
    with pytest.raises(Conflict) as refused:
        await workspace.deploy(files)
    assert refused.value.reason is Reason.VIEW_FAILS and "'orders'" in refused.value.message
    assert await counted(workspace, "orders") == (100, 100)


async def test_deleted_and_added_again_it_has_each_event_once(workspace: Workspace) -> None:
    await workspace.deploy(BROKEN)
    assert (await send(workspace, 0, 100)).status == 422
    await workspace.deploy(FILES, allow_destructive=True)
    table = workspace.server.catalog.snapshot(workspace.id).tables["orders"]
    await until(lambda: not workspace.server.ingest.fails(table.key))
    await workspace.deploy(CORRECTED | {"datasources/seen.datasource": FILES["datasources/seen.datasource"]})
    assert (await send(workspace, 100, 160)).status == 200
    assert await counted(workspace, "orders") == (160, 160)
    assert await counted(workspace, "seen") == (160, 160)

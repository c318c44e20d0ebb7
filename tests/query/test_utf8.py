"""What claims to be UTF-8 is: half a character in a text is U+FFFD in every text format, with and without a filter."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipit.query.formats import CSV, JSON, PARQUET, SQL_FORMATS
from pipit.query.utf8 import repaired
from projects import ROWS, TENANTS
from serving import Workspace

pytestmark = pytest.mark.anyio

HALF = "NODE n\nSQL >\n    SELECT substring('привет', 1, 3) AS x, 'né' AS y, 'plain' AS z{more}\nTYPE endpoint\n"


async def test_every_text_format(workspace: Workspace) -> None:
    await workspace.deploy(
        TENANTS
        | {
            "endpoints/half.pipe": HALF.format(more=""),
            "endpoints/half_of.pipe": HALF.format(more=", customer_id FROM events"),
        }
    )
    await workspace.send("events", ROWS)
    tenant = workspace.tenant("half_of", customer_id="a")
    for extension in ("json", "ndjson", "csv"):
        for reply in (
            await workspace.get(f"/v0/pipes/half.{extension}"),
            await workspace.get(f"/v0/pipes/half_of.{extension}", token=tenant),
        ):
            assert reply.status == 200, reply.text
            assert "п\ufffd" in reply.body.decode("utf-8") and "né" in reply.body.decode("utf-8"), extension
    for format in SQL_FORMATS.values():
        sql = f"SELECT substring('привет', 1, 3) AS x, 'né' AS y FORMAT {format.name}"
        reply = await workspace.post("/v0/sql", data=sql.encode(), headers={"Content-Type": "text/plain"})
        assert reply.status == 200, reply.text
        if "charset=utf-8" in format.content_type:
            assert "п\ufffd" in reply.body.decode("utf-8") and "né" in reply.body.decode("utf-8"), format.name


@given(st.lists(st.one_of(st.binary(max_size=6), st.text(max_size=4).map(lambda text: text.encode())), max_size=8))
async def test_chunks_may_end_anywhere(chunks: list[bytes]) -> None:
    async def sent() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    whole = b"".join(chunks)
    found = b"".join([chunk async for chunk in repaired(CSV, sent())])
    assert found == whole.decode("utf-8", "replace").encode()
    for untouched in (JSON, PARQUET):
        assert b"".join([chunk async for chunk in repaired(untouched, sent())]) == whole

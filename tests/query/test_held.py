"""Answers that wait for their clients: how much of memory and disk they take, and that it is given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from pipit.access.params import RequestParams
from pipit.errors import RateLimited, SqlError, Unavailable
from pipit.query.admission import Admission, Name
from pipit.query.formats import JSON
from pipit.query.held import Store
from pipit.query.queries import PipeQuery, Read
from pipit.query.read import Reader
from serving import Workspace

pytestmark = pytest.mark.anyio

A: Name = ("w", "", "a")
B: Name = ("w", "", "b")


async def chunks(*sizes: int, then: Exception | None = None) -> AsyncIterator[bytes]:
    for number, size in enumerate(sizes):
        yield bytes([number]) * size
    if then is not None:
        raise then


async def test_an_answer_comes_back_as_it_was_wherever_it_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "answers", memory=1000)
    sizes = (400, 400, 400_000, 1, 300_000)
    held = await store.take(chunks(*sizes), A)
    assert store.in_memory == 800 and store.in_files == {A: 700_001}
    found = b"".join([piece async for piece in held.pieces()])
    assert found == b"".join([part async for part in chunks(*sizes)])
    assert store.in_memory == 0
    held.close()
    assert store.in_files == {} and list((tmp_path / "answers").iterdir()) == []


async def test_what_is_not_read_is_given_back_too(tmp_path: Path) -> None:
    store = Store(tmp_path, memory=1000)
    held = await store.take(chunks(600, 400_000), A)
    async for _ in held.pieces():
        break
    held.close()
    with pytest.raises(SqlError):
        await store.take(chunks(600, 400_000, then=SqlError("no")), A)
    async with store.hand(A, b"x" * 900) as pieces:
        assert store.in_memory == 900
        assert [piece async for piece in pieces] == [b"x" * 900]
    assert store.in_memory == 0 and store.in_files == {}


async def test_files_are_bounded_for_one_token_and_in_all(tmp_path: Path) -> None:
    store = Store(tmp_path, memory=0, files=3_000_000, files_of_one=2_000_000)
    first = await store.take(chunks(1_500_000), A)
    with pytest.raises(RateLimited, match="'a' has 2,000,000 bytes") as caught:
        await store.take(chunks(1_500_000), A)
    assert caught.value.headers["Retry-After"]
    second = await store.take(chunks(1_400_000), B)
    with pytest.raises(Unavailable):
        await store.take(chunks(500_000), B)
    first.close()
    (await store.take(chunks(500_000), B)).close()
    second.close()
    assert store.in_files == {}


async def test_a_folder_that_cannot_be_written_is_an_error_with_a_status(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "answers", memory=0)
    with pytest.raises(Unavailable):
        await store.take(chunks(1), A)


async def test_a_read_is_counted_until_its_last_byte(workspace: Workspace) -> None:
    """The engine's slot is free as soon as the answer is whole; the token's place only when it is read."""
    await workspace.deploy(
        {
            "datasources/t.datasource": "SCHEMA >\n    customer_id String\n\nENGINE MergeTree\n"
            "ENGINE_SORTING_KEY customer_id\nROW_POLICY >\n    customer_id = {{String(context.customer_id)}}\n",
            "pipes/mine.pipe": "NODE n\nSQL >\n    SELECT count() AS n FROM t\nTYPE endpoint\n",
        }
    )
    server = workspace.server
    security = server.authenticator.check(workspace.tenant("mine", customer_id="a"), server.catalog.keyring)
    snapshot = server.catalog.snapshot(workspace.id)
    reader = Reader(server.engine, admission=Admission(of_one=1, in_all=1, patience=10))
    reader._unread = Admission(of_one=2, in_all=2, patience=0.1)
    query = PipeQuery("mine", RequestParams(()), JSON)
    async with AsyncExitStack() as open_reads:
        for _ in range(2):
            async with asyncio.timeout(20):
                await open_reads.enter_async_context(reader.open(Read(snapshot, security, query)))
        with pytest.raises(RateLimited):
            await open_reads.enter_async_context(reader.open(Read(snapshot, security, query)))
    async with reader.open(Read(snapshot, security, query)) as answer:
        assert b'"n": 0' in b"".join([chunk async for chunk in answer.chunks])

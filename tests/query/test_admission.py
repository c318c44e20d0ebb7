"""One token's slow queries take its own slots, and nobody else's."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from pipit.access.context import SecurityContext, TokenKind
from pipit.errors import RateLimited, Unavailable
from pipit.query.admission import Admission, unread_answers
from projects import TENANTS
from serving import Workspace

pytestmark = pytest.mark.anyio


def token(name: str, workspace: str = "w") -> SecurityContext:
    return SecurityContext(workspace, TokenKind.STATIC, name)


async def test_a_token_has_its_own_bound() -> None:
    admission = Admission(of_one=2, in_all=10, patience=0.05)
    async with admission.held(token("a")), admission.held(token("a")):
        with pytest.raises(RateLimited, match="'a' has 2 queries running") as caught:
            async with admission.held(token("a")):
                pass
        assert caught.value.headers["Retry-After"] == "1"
        async with admission.held(token("b")), admission.held(token("a", "another workspace")):
            pass
    async with admission.held(token("a")), admission.held(token("a")):
        pass


async def test_a_token_whose_answers_nobody_reads_is_told_to_read_them(monkeypatch: pytest.MonkeyPatch) -> None:
    unread = unread_answers()
    monkeypatch.setattr(unread, "_patience", 0.01)
    async with AsyncExitStack() as waiting:
        for name in "abcd":
            for _ in range(48):
                await waiting.enter_async_context(unread.held(token(name)))
        with pytest.raises(RateLimited, match="'a' has 48 answers that it has not read yet") as caught:
            await waiting.enter_async_context(unread.held(token("a")))
        assert "Read them" in caught.value.hint and "faster" not in caught.value.hint
        with pytest.raises(Unavailable, match="have not read their answers"):
            await waiting.enter_async_context(unread.held(token("e")))


async def test_the_server_has_a_bound() -> None:
    admission = Admission(of_one=2, in_all=3, patience=0.05)
    async with admission.held(token("a")), admission.held(token("a")), admission.held(token("b")):
        with pytest.raises(Unavailable) as caught:
            async with admission.held(token("c")):
                pass
        assert caught.value.headers["Retry-After"] == "1"
        with pytest.raises(RateLimited):
            async with admission.held(token("a")):
                pass
    async with admission.held(token("c")):
        pass


async def test_lines_take_turns_and_those_who_leave_do_not_count() -> None:
    admission = Admission(of_one=3, in_all=1, patience=10)
    order: list[str] = []

    async def read(name: str) -> None:
        async with admission.held(token(name)):
            order.append(name)

    async with admission.held(token("a")):
        tasks = []
        for name in ("a", "a", "a", "gone", "b", "b", "c"):
            tasks.append(asyncio.create_task(read(name), name=name))
            await asyncio.sleep(0)
        tasks[3].cancel()
        await asyncio.wait([tasks[3]])
        assert order == []
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["a", "b", "c", "a", "b", "a"]
    async with admission.held(token("d")):  # all of it was given back
        pass


async def test_a_slot_that_comes_as_its_reader_leaves_is_passed_on() -> None:
    admission = Admission(of_one=1, in_all=1, patience=10)

    async def read() -> None:
        async with admission.held(token("a")):
            await asyncio.Event().wait()

    async with AsyncExitStack() as first:
        await first.enter_async_context(admission.held(token("a")))
        waiting = asyncio.create_task(read())
        await asyncio.sleep(0)
        await first.aclose()
        waiting.cancel()
        await asyncio.wait([waiting])
    async with asyncio.timeout(1), admission.held(token("b")):
        pass


async def test_slow_queries_of_one_token_leave_another_tokens_reads_quick(workspace: Workspace) -> None:
    """Attack H09."""
    await workspace.deploy(TENANTS)
    other = workspace.tenant("latest", customer_id="a")

    async def slow() -> int:
        sql = b"SELECT sum(sipHash64(number)) AS x FROM numbers(1000000000000)"
        return (await workspace.post("/v0/sql", data=sql)).status

    flood = [asyncio.create_task(slow()) for _ in range(80)]
    try:
        # In this order, however quick the machine is: the flood has all that one token may have, the other token's read
        # is answered, and none of the flood's reads is done; those that waited in vain for a place are told so.
        first, _ = await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
        assert {task.result() for task in first} == {429}
        running = [task for task in flood if not task.done()]
        assert running
        reply = await workspace.get("/v0/pipes/latest.json", token=other)
        assert reply.status == 200, reply.text
        assert {task.result() for task in flood if task.done()} == {429}
        assert not all(task.done() for task in running)
    finally:
        for task in flood:
            task.cancel()
        await asyncio.gather(*flood, return_exceptions=True)


async def test_a_job_stands_in_no_line_of_its_tokens_clients() -> None:
    """It holds the lock of its table while it waits: clients of the same token must not keep events out of that."""
    admission = Admission(of_one=1, in_all=2, patience=10)
    async with admission.held(token("a")):
        client = asyncio.create_task(admission.held(token("a")).__aenter__())
        await asyncio.sleep(0)
        async with asyncio.timeout(10), admission.held(token("a"), patient=True):
            assert not client.done()
        client.cancel()


async def test_a_job_waits_as_long_as_it_takes() -> None:
    """Where a client is refused, after its patience."""
    admission = Admission(of_one=1, in_all=1, patience=0.01)
    async with AsyncExitStack() as first:
        await first.enter_async_context(admission.held(token("a")))
        came = asyncio.Event()

        async def job() -> None:
            async with admission.held(token("a"), patient=True):
                came.set()

        waiting = asyncio.create_task(job())
        with pytest.raises(RateLimited):
            async with admission.held(token("a")):
                pass
        assert not came.is_set() and not waiting.done()
    async with asyncio.timeout(10):
        await waiting
    async with admission.held(token("b")):  # all of it was given back
        pass

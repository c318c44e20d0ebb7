"""Answers that are kept: for whom, how long, how many, and what one run in flight means for those who wait for it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipit.access.context import Scope, SecurityContext, TokenKind
from pipit.access.params import RequestParams
from pipit.errors import PipitError, RateLimited, SqlError
from pipit.query.cache import Cache, key_of
from pipit.query.formats import CSV, JSON
from pipit.query.plan import Plan
from pipit.query.queries import PipeQuery, Read
from pipit.query.read import Reader
from projects import ROWS, TENANTS, column, event
from serving import Workspace
from waiting import until

pytestmark = pytest.mark.anyio

KEPT = "NODE e\nSQL >\n    %\n    {{cache_ttl('1h')}}\n    SELECT customer_id, amount FROM events ORDER BY amount\nTYPE endpoint\n"


class Runs:
    """Counts the runs of a statement; each waits for `open` and ends as `outcome` says."""

    def __init__(self, *chunks: bytes, error: Exception | None = None) -> None:
        self.chunks, self.error = chunks, error
        self.begun = 0
        self.open = asyncio.Event()
        self.open.set()

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[AsyncIterator[bytes]]:
        self.begun += 1
        await self.open.wait()
        if self.error is not None:
            raise self.error

        async def come() -> AsyncIterator[bytes]:
            for chunk in self.chunks:
                yield chunk

        yield come()


async def ask(cache: Cache, runs: Runs, key: bytes = b"k", seconds: int = 60) -> bytes:
    async with cache.open(key, seconds, runs) as chunks:
        return b"".join([chunk async for chunk in chunks])


# --- how long and how much


async def test_an_answer_is_kept_for_its_time_and_no_longer() -> None:
    now = 0.0
    cache, runs = Cache(clock=lambda: now), Runs(b"a", b"b")
    assert await ask(cache, runs, seconds=5) == b"ab"
    now = 4.9
    assert await ask(cache, runs, seconds=5) == b"ab" and runs.begun == 1
    now = 5.0
    assert await ask(cache, runs, seconds=5) == b"ab" and runs.begun == 2


async def test_memory_is_bounded_and_the_least_used_goes() -> None:
    cache = Cache(max_bytes=4_000, max_answer_bytes=1_000)
    runs = Runs(b"x" * 700)
    for key in (b"1", b"2", b"3"):
        await ask(cache, runs, key)
    await ask(cache, runs, b"1")  # used again: 2 is the one to go
    await ask(cache, runs, b"4")
    assert cache.size <= 4_000 and runs.begun == 4
    await ask(cache, runs, b"1")
    assert runs.begun == 4
    await ask(cache, runs, b"2")
    assert runs.begun == 5


async def test_a_larger_answer_passes_through_whole_and_is_not_kept() -> None:
    cache = Cache(max_answer_bytes=3)
    runs = Runs(b"ab", b"cd", b"ef")
    assert await ask(cache, runs) == b"abcdef"
    assert await ask(cache, runs) == b"abcdef"
    assert (runs.begun, cache.size) == (2, 0)


# --- one run for those who ask the same


async def test_the_same_in_flight_runs_once() -> None:
    cache, runs = Cache(), Runs(b"a")
    runs.open.clear()
    asking = [asyncio.ensure_future(ask(cache, runs)) for _ in range(5)]
    other = asyncio.ensure_future(ask(cache, runs, b"another key"))
    await until(lambda: runs.begun == 2)
    runs.open.set()
    assert await asyncio.gather(*asking, other) == [b"a"] * 6
    assert runs.begun == 2


async def test_who_leads_and_leaves_takes_nobody_along() -> None:
    cache, runs = Cache(), Runs(b"a")
    runs.open.clear()
    leader = asyncio.ensure_future(ask(cache, runs))
    await until(lambda: runs.begun == 1)
    followers = [asyncio.ensure_future(ask(cache, runs)) for _ in range(3)]
    await asyncio.sleep(0)
    leader.cancel()
    await until(lambda: runs.begun == 2)  # one of them leads now
    runs.open.set()
    assert await asyncio.gather(*followers) == [b"a"] * 3
    assert runs.begun == 2 and leader.cancelled()


async def test_a_follower_that_leaves_does_not_end_the_run() -> None:
    cache, runs = Cache(), Runs(b"a")
    runs.open.clear()
    leader = asyncio.ensure_future(ask(cache, runs))
    await until(lambda: runs.begun == 1)
    follower = asyncio.ensure_future(ask(cache, runs))
    await asyncio.sleep(0)
    follower.cancel()
    await asyncio.wait((follower,))
    runs.open.set()
    assert await leader == b"a"


async def test_the_loop_has_its_turn_between_many_followers() -> None:
    cache, runs = Cache(), Runs(b"a")
    runs.open.clear()
    order: list[str] = []

    async def follow(number: int) -> bytes:
        answer = await ask(cache, runs)
        if not order:
            asyncio.get_running_loop().call_soon(order.append, "what came meanwhile")
        order.append(f"follower {number}")
        return answer

    lead = asyncio.create_task(ask(cache, runs))
    await until(lambda: runs.begun == 1)
    followers = [asyncio.create_task(follow(number)) for number in range(20)]
    await asyncio.sleep(0)
    followers[3].cancel()
    runs.open.set()
    answers = await asyncio.gather(lead, *followers, return_exceptions=True)
    assert [one for one in answers if one == b"a"] == [b"a"] * 20 and runs.begun == 1
    assert isinstance(answers[4], asyncio.CancelledError)
    assert 0 < order.index("what came meanwhile") < 10


async def test_an_error_of_the_statement_is_everybodys_and_never_kept() -> None:
    cache, runs = Cache(), Runs(error=SqlError("no", engine_code=153))
    runs.open.clear()
    asking = [asyncio.ensure_future(ask(cache, runs)) for _ in range(3)]
    await until(lambda: runs.begun == 1)
    runs.open.set()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(o) for o in outcomes] == [SqlError] * 3 and runs.begun == 1
    assert len({id(o) for o in outcomes}) == 3 and all(o.engine_code == 153 for o in outcomes)  # type: ignore[union-attr]
    runs.error = None
    assert await ask(cache, runs) == b""


async def test_an_error_about_the_leader_is_the_leaders_alone() -> None:
    """Its token has too many queries running: another token's request must not hear of that."""
    cache, runs = Cache(), Runs(b"a", error=RateLimited("too many"))
    runs.open.clear()
    leader = asyncio.ensure_future(ask(cache, runs))
    await until(lambda: runs.begun == 1)
    well = Runs(b"a")
    follower = asyncio.ensure_future(ask(cache, well))
    await asyncio.sleep(0)
    runs.open.set()
    with pytest.raises(RateLimited):
        await leader
    assert await follower == b"a"


async def test_followers_of_an_answer_too_large_to_keep_run_at_once() -> None:
    cache, runs = Cache(max_answer_bytes=1), Runs(b"ab")
    runs.open.clear()
    asking = [asyncio.ensure_future(ask(cache, runs)) for _ in range(3)]
    await until(lambda: runs.begun == 1)
    runs.open.set()
    assert await asyncio.gather(*asking) == [b"ab"] * 3
    assert runs.begun == 3


# --- the key


async def a_plan(workspace: Workspace) -> tuple[Any, SecurityContext, Plan]:
    await workspace.deploy(TENANTS | {"endpoints/kept.pipe": KEPT})
    snapshot = workspace.server.catalog.snapshot(workspace.id)
    security = SecurityContext(workspace.id, TokenKind.JWT, "t", (Scope("PIPES:READ", "kept"),), {"customer_id": "a"})
    reader = Reader(workspace.server.engine)
    return snapshot, security, await reader.plan(Read(snapshot, security, PipeQuery("kept", RequestParams(()), JSON)))


def key(snapshot: Any, security: SecurityContext, plan: Plan, pipe: str) -> bytes:
    """Of this plan, had it been made of this snapshot, for this token and pipe."""
    query = PipeQuery(pipe, RequestParams(()), JSON)
    return key_of(replace(plan, read=replace(plan.read, snapshot=snapshot, security=security, query=query)))


async def test_whatever_reaches_the_engine_is_in_the_key(workspace: Workspace) -> None:
    snapshot, security, plan = await a_plan(workspace)
    place = snapshot.workspace
    same = key(snapshot, security, plan, "kept")
    assert key(snapshot, security, replace(plan), "kept") == same
    composed = plan.composed
    others = [
        key(replace(snapshot, deployment=snapshot.deployment + 1), security, plan, "kept"),
        key(replace(snapshot, workspace=replace(place, id="other")), security, plan, "kept"),
        key(replace(snapshot, workspace=replace(place, database="other")), security, plan, "kept"),
        key(replace(snapshot, workspace=replace(place, environment_id="other")), security, plan, "kept"),
        key(snapshot, security, plan, "other"),
        key(snapshot, security, replace(plan, composed=replace(composed, sql=composed.sql + " ")), "kept"),
        key(snapshot, security, replace(plan, params={"p1": "x"}), "kept"),
        key(snapshot, security, replace(plan, params={"p1": "y"}), "kept"),
        key(snapshot, security, replace(plan, params={"p1": ["x"]}), "kept"),
        key(snapshot, security, replace(plan, params={"s1": "x"}), "kept"),
        key(snapshot, security, replace(plan, params={"p1": 2**200}), "kept"),
        key(snapshot, security, replace(plan, filters={}), "kept"),
        key(snapshot, security, replace(plan, filters={"t": "a = 'b'"}), "kept"),
        key(snapshot, security, replace(plan, settings={**plan.settings, "max_threads": 1}), "kept"),
        key(snapshot, security, replace(plan, format=CSV), "kept"),
        key(snapshot, replace(security, kind=TokenKind.ADMIN), plan, "kept"),
        key(snapshot, replace(security, context={"customer_id": "b"}), plan, "kept"),
        key(snapshot, replace(security, context={"customer_id": 1}), plan, "kept"),
        key(snapshot, replace(security, context={"customer_id": "1"}), plan, "kept"),
        key(snapshot, replace(security, context={"customer_id": True}), plan, "kept"),
        key(snapshot, replace(security, context={"customer_id": 1.0}), plan, "kept"),
        key(snapshot, replace(security, context={}), plan, "kept"),
        key(snapshot, replace(security, context={}, name="u"), plan, "kept"),
        key(snapshot, replace(security, scopes=(Scope("PIPES:READ", "kept", fixed_params={"a": 1}),)), plan, "kept"),
        key(
            snapshot,
            replace(security, scopes=(*security.scopes, Scope("DATASOURCES:READ", "events", filter="1"))),
            plan,
            "kept",
        ),
    ]
    assert len({same, *others}) == len(others) + 1
    # Two people of one tenant share what they get.
    assert key(snapshot, replace(security, name="somebody else"), plan, "kept") == same


async def test_parts_of_the_key_cannot_flow_into_each_other(workspace: Workspace) -> None:
    snapshot, security, plan = await a_plan(workspace)
    pairs = [
        ({"a": "b", "c": "d"}, {"a": "b\x00c", "": "d"}),
        ({"a": "1", "b": "2"}, {"a": "1', 'b': '2"}),
        ({"ab": "c"}, {"a": "bc"}),
    ]
    for one, other in pairs:
        keys = {key(snapshot, security, replace(plan, filters=filters), "kept") for filters in (one, other)}
        assert len(keys) == 2


# --- over HTTP


async def deployed(workspace: Workspace, pipe: str = KEPT, name: str = "kept") -> Workspace:
    await workspace.deploy(TENANTS | {f"endpoints/{name}.pipe": pipe})
    await workspace.send("events", ROWS)
    return workspace


async def test_an_endpoint_with_a_ttl_answers_as_it_did(workspace: Workspace) -> None:
    await deployed(workspace)
    token = workspace.tenant("kept", "latest", customer_id="a")
    first = await workspace.get("/v0/pipes/kept.json", token=token)
    await workspace.send("events", [event("a", 50)])
    assert (await workspace.get("/v0/pipes/kept.json", token=token)).body == first.body
    assert 50 in column(await workspace.rows("/v0/pipes/latest.json", token=token), "amount")  # no ttl, not kept
    csv = await workspace.get("/v0/pipes/kept.csv", token=token)
    assert "50" in csv.text  # another format is another answer
    assert column(await workspace.rows("/v0/pipes/kept.json"), "amount")[3] == 50  # the workspace's own token too


async def test_a_new_deployment_keeps_no_old_answer(workspace: Workspace) -> None:
    await deployed(workspace)
    token = workspace.tenant("kept", customer_id="a")
    await workspace.rows("/v0/pipes/kept.json", token=token)
    await workspace.send("events", [event("a", 50)])
    await workspace.deploy(TENANTS | {"endpoints/kept.pipe": KEPT, "endpoints/new.pipe": KEPT})
    assert 50 in column(await workspace.rows("/v0/pipes/kept.json", token=token), "amount")


async def test_a_new_secret_keeps_no_old_answer(workspace: Workspace) -> None:
    pipe = "NODE e\nSQL >\n    %\n    {{cache_ttl('1h')}}SELECT {{tb_secret('who', 'nobody')}} AS who\nTYPE endpoint\n"
    await deployed(workspace, pipe)
    assert await workspace.rows("/v0/pipes/kept.json") == [{"who": "nobody"}]
    for value in ("one", "two"):
        await workspace.server.catalog.put_secret(workspace.id, "who", value)
        assert await workspace.rows("/v0/pipes/kept.json") == [{"who": value}]


async def test_the_pipes_own_cache_directive(workspace: Workspace) -> None:
    pipe = "CACHE 60\n" + KEPT.replace("    {{cache_ttl('1h')}}\n", "")
    await deployed(workspace, pipe)
    assert len(await workspace.rows("/v0/pipes/kept.json")) == 5
    await workspace.send("events", [event("a", 50)])
    assert len(await workspace.rows("/v0/pipes/kept.json")) == 5
    assert len(await workspace.rows("/v0/pipes/kept.json?q=SELECT+*+FROM+_")) == 6  # SQL over it is not its answer


async def test_only_the_pipe_that_is_asked_decides(workspace: Workspace) -> None:
    over = "NODE e\nSQL >\n    SELECT count() AS n FROM kept\nTYPE endpoint\n"
    await workspace.deploy(TENANTS | {"endpoints/kept.pipe": KEPT, "endpoints/over.pipe": over})
    await workspace.send("events", ROWS)
    assert await workspace.rows("/v0/pipes/over.json") == [{"n": 5}]
    await workspace.send("events", [event("a", 50)])
    assert await workspace.rows("/v0/pipes/over.json") == [{"n": 6}]


async def test_the_shortest_ttl_of_its_nodes_counts(workspace: Workspace) -> None:
    pipe = "NODE a\nSQL >\n    %\n    {{cache_ttl('1m')}}SELECT 1 AS x\n\n" + KEPT.replace(
        "FROM events", "FROM events, a"
    )
    await deployed(workspace, pipe)
    snapshot = workspace.server.catalog.snapshot(workspace.id)
    security = SecurityContext(workspace.id, TokenKind.ADMIN, "admin")
    plan = await workspace.server.reader.plan(Read(snapshot, security, PipeQuery("kept", RequestParams(()), JSON)))
    assert plan.cache_seconds == 60


async def test_a_bad_ttl_has_the_dialects_text(workspace: Workspace) -> None:
    pipe = "NODE e\nSQL >\n    %\n    {{cache_ttl('2m')}} SELECT 1 AS x\nTYPE endpoint\n"
    try:
        await workspace.deploy({"endpoints/bad.pipe": pipe})
        message = (await workspace.get("/v0/pipes/bad.json")).text
    except PipitError as error:
        message = str(error)
    assert "Invalid TTL cache expression, valid expressions are ('5s', '1m', '5m', '30m', '1h')" in message


async def test_the_example_of_the_docs(workspace: Workspace) -> None:
    text = (Path(__file__).parents[2] / "docs" / "cache.md").read_text()
    (pipe,) = re.findall(r"^```\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    source = "SCHEMA >\n    feature String `json:$.feature`\n\nENGINE MergeTree\nENGINE_SORTING_KEY feature\n"
    await workspace.deploy({"datasources/events.datasource": source, "endpoints/top.pipe": pipe})
    for _ in range(2):
        await workspace.send("events", [{"feature": "export"}])
        assert await workspace.rows("/v0/pipes/top.json") == [{"feature": "export", "uses": 1}]


async def test_a_hit_counts_against_the_tokens_rate(workspace: Workspace) -> None:
    await deployed(workspace)
    scopes = {"type": "PIPES:READ", "resource": "kept"}
    token = workspace.jwt(scopes, context={"customer_id": "a"}, limits={"rps": 2})
    replies = [await workspace.get("/v0/pipes/kept.json", token=token) for _ in range(6)]
    assert {r.status for r in replies} == {200, 429}

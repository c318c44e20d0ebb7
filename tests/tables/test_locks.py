"""The one lock of each table: what excludes what, in which order, and what a cancelled task leaves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from contextlib import AsyncExitStack

import pytest

from pipit.tables import Locks, Mode, TableKey

pytestmark = pytest.mark.anyio

A, B, C = ("db", "a"), ("db", "b"), ("db", "c")
TOGETHER = {
    frozenset({Mode.EVENTS, Mode.APPEND}),
    frozenset({Mode.REPLACE, Mode.EVENTS}),
    frozenset({Mode.REPLACE, Mode.APPEND}),
    frozenset({Mode.REPLACE, Mode.ALTER}),
    frozenset({Mode.REBUILD, Mode.EVENTS}),
    frozenset({Mode.REBUILD, Mode.ALTER}),
}


class Holder:
    """A task that asks for locks, and holds them until it is told to leave."""

    def __init__(
        self, locks: Locks, tables: Iterable[TableKey], mode: Mode, appending: Iterable[TableKey] = ()
    ) -> None:
        self.holds = False
        self._leaves = asyncio.Event()
        self.task = asyncio.ensure_future(self._hold(locks, list(tables), mode, appending))

    async def _hold(
        self, locks: Locks, tables: list[TableKey], mode: Mode, appending: Iterable[TableKey]
    ) -> None:
        async with locks.acquire(tables, mode, appending=appending):
            self.holds = True
            try:
                await self._leaves.wait()
            finally:
                self.holds = False

    async def leave(self) -> None:
        self._leaves.set()
        await self.task

    async def cancel(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})


async def settle() -> None:
    """Until every task has come to where it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def holder(locks: Locks, tables: Iterable[TableKey], mode: Mode, appending: Iterable[TableKey] = ()) -> Holder:
    made = Holder(locks, tables, mode, appending)
    await settle()
    return made


@pytest.mark.parametrize("second", Mode)
@pytest.mark.parametrize("first", Mode)
async def test_which_modes_a_table_is_held_in_at_once(first: Mode, second: Mode) -> None:
    locks = Locks()
    one, other = await holder(locks, [A], first), await holder(locks, [A], second)
    elsewhere = await holder(locks, [B], second)
    assert one.holds and elsewhere.holds
    assert other.holds == (frozenset({first, second}) in TOGETHER)
    assert locks.held(A) == ((first, second) if other.holds else (first,))
    assert locks.waiting(A) == (() if other.holds else (second,))
    await one.leave()
    await settle()
    assert other.holds
    await other.leave()
    await elsewhere.leave()
    assert len(locks) == 0


async def test_those_that_exclude_each_other_come_in_order() -> None:
    locks = Locks()
    first = await holder(locks, [A], Mode.APPEND)
    waiting = [await holder(locks, [A], mode) for mode in (Mode.ALTER, Mode.APPEND, Mode.ALTER, Mode.APPEND)]
    for before, now in zip([first, *waiting], waiting, strict=False):
        assert before.holds and not now.holds
        await before.leave()
        await settle()
        assert now.holds
    await waiting[-1].leave()


async def test_who_waits_for_several_tables_holds_none() -> None:
    locks = Locks()
    copy = await holder(locks, [B], Mode.APPEND)
    deploy = await holder(locks, [A, B], Mode.ALTER)
    events = await holder(locks, [A], Mode.EVENTS)
    assert events.holds and not deploy.holds  # the copy may take an hour, and A has nothing to do with it
    await copy.leave()
    await settle()
    assert not deploy.holds  # one that passed it is still at it
    later = await holder(locks, [A], Mode.EVENTS)
    await events.leave()
    await settle()
    assert deploy.holds and not later.holds
    await deploy.leave()
    await later.leave()
    assert len(locks) == 0


async def test_events_that_never_end_keep_no_deploy_out() -> None:
    locks = Locks()
    stop = False
    inserts = 0

    async def write() -> None:
        nonlocal inserts
        while not stop:
            async with locks.acquire([A], Mode.EVENTS):
                inserts += 1
                await asyncio.sleep(0)

    writing = asyncio.ensure_future(write())
    copy = await holder(locks, [A], Mode.APPEND)
    deploy = Holder(locks, [A], Mode.ALTER)
    await settle()
    before = inserts
    await settle()
    assert inserts > before and not deploy.holds  # events go on while the deploy waits for the copy
    await copy.leave()
    async with asyncio.timeout(10):
        while not deploy.holds:
            await asyncio.sleep(0)
    before = inserts
    await settle()
    assert inserts == before
    await deploy.leave()
    await settle()
    assert inserts > before
    stop = True
    await writing


async def test_crossed_requests_for_two_tables_do_not_wait_for_each_other() -> None:
    locks = Locks()
    one = await holder(locks, [A], Mode.ALTER, appending=[B])
    two = await holder(locks, [B], Mode.ALTER, appending=[A])
    assert one.holds and not two.holds
    await one.leave()
    await settle()
    assert two.holds and locks.held(A) == (Mode.APPEND,) and locks.held(B) == (Mode.ALTER,)
    await two.leave()


async def test_a_table_that_is_altered_and_appended_to_is_altered() -> None:
    locks = Locks()
    async with locks.acquire([A, A], Mode.ALTER, appending=[A, B]):
        assert (locks.held(A), locks.held(B)) == ((Mode.ALTER,), (Mode.APPEND,))
    assert len(locks) == 0


async def test_a_replacement_takes_the_tables_place_though_a_deploy_waits_for_it_to() -> None:
    locks = Locks()
    async with locks.acquire([A], Mode.REPLACE):
        copy = await holder(locks, [A], Mode.APPEND)
        deploy = await holder(locks, [A, B], Mode.ALTER)
        await copy.leave()
        await settle()
        assert deploy.holds  # it does not wait until the rows are prepared
        leaving = asyncio.ensure_future(deploy.leave())
        async with locks.acquire([A, C], Mode.ALTER):
            assert locks.held(A) == (Mode.REPLACE, Mode.ALTER)
        await leaving
    assert len(locks) == 0


@pytest.mark.parametrize(("held", "asked"), [(Mode.ALTER, Mode.ALTER), (Mode.APPEND, Mode.ALTER), (Mode.REPLACE, Mode.REPLACE)])
async def test_who_would_wait_for_itself_is_told(held: Mode, asked: Mode) -> None:
    locks = Locks()
    async with locks.acquire([A], held):
        with pytest.raises(RuntimeError, match="holds a lock already"):
            async with locks.acquire([B, A], asked):
                pass
        assert locks.held(A) == (held,)
    assert len(locks) == 0


async def test_a_lock_may_be_given_back_by_another_task() -> None:
    """As the end of a deploy does, which outlives the request."""
    locks = Locks()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(locks.acquire([A], Mode.ALTER))
        rest = stack.pop_all()
    waiting = await holder(locks, [A], Mode.EVENTS)
    await asyncio.ensure_future(rest.aclose())
    await settle()
    assert waiting.holds
    await waiting.leave()
    assert len(locks) == 0


async def test_who_is_cancelled_while_it_waits_lets_the_next_ones_on() -> None:
    locks = Locks()
    copy = await holder(locks, [A], Mode.APPEND)
    deploy = await holder(locks, [A, B], Mode.ALTER)
    behind = [await holder(locks, [B], Mode.APPEND), await holder(locks, [B], Mode.REPLACE)]
    assert [one.holds for one in behind] == [False, True]
    await deploy.cancel()
    await settle()
    assert copy.holds and all(one.holds for one in behind)
    for one in (copy, *behind):
        await one.leave()
    assert len(locks) == 0


async def test_who_is_cancelled_as_it_gets_the_lock_leaves_nothing() -> None:
    locks = Locks()
    first, second = await holder(locks, [A], Mode.ALTER), await holder(locks, [A], Mode.ALTER)
    first._leaves.set()
    await asyncio.sleep(0)
    while locks.held(A) == (Mode.ALTER,) and locks.waiting(A):
        await asyncio.sleep(0)
    second.task.cancel()  # it was given the lock, and has not run since
    await asyncio.wait({first.task, second.task})
    assert len(locks) == 0


async def test_what_fails_inside_gives_the_lock_back() -> None:
    locks = Locks()
    with pytest.raises(ZeroDivisionError):
        async with locks.acquire([A, B], Mode.ALTER):
            raise ZeroDivisionError
    assert len(locks) == 0


async def test_what_has_to_be_done_before_a_table_changes_is_done_with_its_lock_held() -> None:
    locks = Locks()
    told: list[tuple[TableKey, tuple[Mode, ...]]] = []

    async def call(table: TableKey) -> None:
        told.append((table, locks.held(table)))
        if table == C:
            raise ZeroDivisionError

    locks.before_alter(call)
    for mode in (Mode.EVENTS, Mode.APPEND, Mode.REPLACE):
        async with locks.acquire([A], mode):
            pass
    assert told == []
    async with locks.acquire([A], Mode.ALTER, appending=[B]):
        assert told == [(A, (Mode.ALTER,))]
    with pytest.raises(ZeroDivisionError):
        async with locks.acquire([C], Mode.ALTER):
            raise AssertionError("never reached")
    assert len(locks) == 0


@pytest.mark.parametrize("seed", range(40))
async def test_any_mix_of_writers_and_cancellations_goes_through(seed: int) -> None:
    """None excludes another while both hold a table, all come to their end, and nothing is left."""
    chance = random.Random(seed)
    locks = Locks()
    tables = [("db", name) for name in "abcd"]
    at_work: list[tuple[TableKey, Mode]] = []
    through = 0

    async def inside(wants: dict[TableKey, Mode]) -> None:
        mine = list(wants.items())
        for table, mode in mine:
            for other in [mode for key, mode in at_work if key == table]:
                assert frozenset({mode, other}) in TOGETHER, (mode, other)
        at_work.extend(mine)
        try:
            for _ in range(chance.randrange(5)):
                await asyncio.sleep(0)
        finally:
            for one in mine:
                at_work.remove(one)

    async def work() -> None:
        nonlocal through
        for _ in range(8):
            some = chance.sample(tables, chance.randint(1, 3))
            kind = chance.choice(["events", "append", "alter", "populate", "replace"])
            if kind == "events":
                async with locks.acquire(some[:1], Mode.EVENTS):
                    await inside({some[0]: Mode.EVENTS})
            elif kind == "append":
                async with locks.acquire(some[:1], Mode.APPEND):
                    await inside({some[0]: Mode.APPEND})
            elif kind == "alter":
                async with locks.acquire(some, Mode.ALTER):
                    await inside(dict.fromkeys(some, Mode.ALTER))
            elif kind == "populate":
                async with locks.acquire(some[1:], Mode.ALTER, appending=some[:1]):
                    await inside({some[0]: Mode.APPEND} | dict.fromkeys(some[1:], Mode.ALTER))
            else:
                async with locks.acquire(some[:1], Mode.REPLACE):
                    await inside({some[0]: Mode.REPLACE})
                    async with locks.acquire(some, Mode.ALTER):
                        await inside(dict.fromkeys(some, Mode.ALTER))
            through += 1

    tasks = [asyncio.ensure_future(work()) for _ in range(12)]
    for _ in range(15):
        for _ in range(chance.randrange(8)):
            await asyncio.sleep(0)
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
    async with asyncio.timeout(20):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [one for one in results if one is not None and not isinstance(one, asyncio.CancelledError)] == []
    assert through and not at_work and len(locks) == 0

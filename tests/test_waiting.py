"""What the other tests wait with."""

from __future__ import annotations

import asyncio

import pytest

from waiting import limited, until, wait_for

pytestmark = pytest.mark.anyio


async def test_what_does_not_come_is_named() -> None:
    with pytest.raises(AssertionError, match=r"not within 0.05 s: .*lambda: never"):
        never = False
        await until(lambda: never, 0.05)
    with pytest.raises(AssertionError, match=r"not within 0.05 s: the server is up"):
        wait_for(lambda: False, 0.05, "the server is up")


async def test_the_value_that_came_is_given() -> None:
    seen: list[int] = []

    async def three() -> int:
        seen.append(1)
        return len(seen) if len(seen) == 3 else 0

    assert await until(three) == 3


async def test_a_test_that_hangs_is_ended_and_its_loop_goes_on() -> None:
    async def hangs(seconds: float) -> None:
        await asyncio.sleep(seconds)

    with pytest.raises(TimeoutError):
        await limited(hangs, 0.05)(seconds=1000)
    await limited(hangs, 10)(seconds=0)

"""Waits on conditions, each with a limit: what did not come in time is named, and nothing waits for ever."""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

LIMIT = 60.0  # seconds; far more than it takes on a busy machine
TEST_LIMIT = 240.0  # of a whole test; below pytest's own, which would end the event loop with it
_EVERY = 0.02


async def until(condition: Callable[[], Any], seconds: float = LIMIT) -> Any:
    """Until `condition()`, or what it awaits, is true; that value."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {_source(condition)}"
        await asyncio.sleep(_EVERY)


def wait_for(condition: Callable[[], Any], seconds: float = LIMIT, what: str = "") -> float:
    """The same outside of an event loop; how many seconds it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"not within {seconds:g} s: {what or _source(condition)}"
        time.sleep(_EVERY)
    return time.monotonic() - started


def limited(test: Callable[..., Awaitable[None]], seconds: float = TEST_LIMIT) -> Callable[..., Awaitable[None]]:
    """The test, ended by its own event loop when it hangs: the loop is every other test's, too, and goes on."""

    @functools.wraps(test)
    async def run(**fixtures: Any) -> None:
        async with asyncio.timeout(seconds):
            await test(**fixtures)

    return run


def _source(condition: Callable[[], Any]) -> str:
    try:
        return inspect.getsource(condition).strip()
    except (OSError, TypeError):
        return repr(condition)

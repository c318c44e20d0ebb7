"""Several things at once, not all of them: a bounded number of coroutines at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

Result = TypeVar("Result")


async def run_bounded(work: Sequence[Coroutine[Any, Any, Result]], most: int) -> list[Result]:
    """The results in the order of the work. The first that fails ends the others, and is raised."""
    admitted = asyncio.Semaphore(most)

    async def one(coroutine: Coroutine[Any, Any, Result]) -> Result:
        try:
            async with admitted:
                return await coroutine
        finally:
            coroutine.close()  # one that did not begin; of one that ended this is nothing

    tasks = [asyncio.create_task(one(coroutine)) for coroutine in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

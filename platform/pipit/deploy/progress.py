"""How far the filling of a deployment's tables is, for people who wait for it or want it no more; and its pace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

_PAUSE = 1.5  # of the time that a chunk took


@dataclass(slots=True)
class Filled:
    """Rows that were read for a table, of those that are there to read."""

    done: int = 0
    of: int = 0


@dataclass(slots=True)
class Progress:
    """Of one deployment. `before`: rows that an earlier start of the server had done."""

    tables: dict[str, Filled] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    before: int = 0

    @property
    def done(self) -> int:
        return sum(table.done for table in self.tables.values())

    @property
    def of(self) -> int:
        return sum(table.of for table in self.tables.values())

    @property
    def seconds_left(self) -> float | None:
        """At the speed so far; None: nothing can be said yet."""
        made = self.done - self.before
        if made <= 0:
            return None
        return (time.monotonic() - self.started) / made * max(0, self.of - self.done)


@dataclass(slots=True)
class Making:
    """A deployment that `task` makes just now."""

    number: int
    task: asyncio.Task[object]
    progress: Progress = field(default_factory=Progress)
    is_discarded: bool = False

    def discard(self) -> None:
        """It ends as soon as it can, and takes back what it has made."""
        if not self.is_discarded:
            self.is_discarded = True
            self.task.cancel()

    def throttle(self, reads: Callable[[], int]) -> Callable[[float], Awaitable[None]]:
        """What a fill waits for after a chunk of so many seconds: where queries were begun meanwhile (`reads` counts
        them), one and a half times as long, so that most of them have the engine for themselves."""
        before = reads()

        async def pause(seconds: float) -> None:
            nonlocal before
            if reads() != before:
                await asyncio.sleep(_PAUSE * seconds)
            before = reads()

        return pause

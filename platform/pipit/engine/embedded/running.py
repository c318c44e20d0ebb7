"""The threads on which executions run, and the end of one whose client went away.

Promises: a step runs on a worker thread, never on the event loop; a cancelled request's query is killed and
its connection closed, whatever it was doing; kills and heartbeats get through when all workers are busy.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pipit.engine.embedded.connections import Connections
from pipit.engine.embedded.execution import Execution
from pipit.sql.literals import quote_string

log = logging.getLogger(__name__)
T = TypeVar("T")

_WORKERS = 64
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0


class Threads:
    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="query")
        self._kills = ThreadPoolExecutor(2, thread_name_prefix="kill")
        self._heart = ThreadPoolExecutor(1, thread_name_prefix="heartbeat")
        self._endings: set[asyncio.Task[None]] = set()

    def submit(self, step: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._workers, step, *args)

    async def beat(self) -> None:
        """A whole round through the engine."""
        await asyncio.get_running_loop().run_in_executor(self._heart, self._connections.run, "SELECT 1")

    def end(self, execution: Execution, pending: asyncio.Future[Any] | None) -> None:
        """Kills what still runs, then closes the connection. In the background."""
        task = asyncio.get_running_loop().create_task(self._end(execution, pending))
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    async def _end(self, execution: Execution, pending: asyncio.Future[Any] | None) -> None:
        loop = asyncio.get_running_loop()
        execution.abandon()
        kill = f"KILL QUERY WHERE Settings['log_comment'] = {quote_string(execution.task.tag)} ASYNC"
        pause = _FIRST_PAUSE
        while pending is not None and not pending.done():
            # A query that the engine has not registered yet cannot be killed: try again.
            await loop.run_in_executor(self._kills, self._connections.run, kill)
            await asyncio.wait([pending], timeout=pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        if pending is not None and not pending.cancelled():
            pending.exception()  # so that nobody reports it as never retrieved
        await loop.run_in_executor(self._workers, execution.close)

    def stop(self) -> None:
        for pool in (self._workers, self._kills, self._heart):
            pool.shutdown(wait=False, cancel_futures=True)


class Running:
    """`async with`: runs an execution's steps; leaving in the middle of one, or before the last, ends the
    query.
    """

    def __init__(self, threads: Threads, execution: Execution) -> None:
        self._threads = threads
        self._execution = execution
        self._pending: asyncio.Future[Any] | None = None

    async def __aenter__(self) -> Running:
        return self

    async def step(self, function: Callable[..., T], *args: Any) -> T:
        self._pending = future = self._threads.submit(function, *args)
        result = await asyncio.shield(future)
        self._pending = None
        return result

    async def __aexit__(self, *exc: object) -> None:
        pending = self._pending
        if pending is not None and pending.done():
            pending = None
        if pending is not None or self._execution.is_open:
            self._threads.end(self._execution, pending)

"""The threads on which statements run, and how a statement ends whose client went away.

- Statements run on worker threads, never on the event loop.
- If a request is cancelled, its query is killed and its connection is closed.
- Kills and heartbeats have threads of their own, so they work while all workers are busy.

The engine checks its time limit between blocks. A statement may hang inside one block: a constant that takes minutes to
compute, a bad regular expression. It then ignores its limit and every KILL, and keeps a core busy. Its client gets an
error soon after the limit. If the statement has not ended some seconds later, this process exits, and the supervisor
starts a new one. A statement without a time limit is never ended this way.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pipit.engine.codes import Code
from pipit.engine.embedded.connections import Connections
from pipit.engine.embedded.execution import Execution
from pipit.engine.embedded.failure import Failure
from pipit.engine.failures import HUNG
from pipit.sql.literals import quote_string

log = logging.getLogger(__name__)
T = TypeVar("T")

_WORKERS = 64
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_LATE = 2.0  # seconds after the limit until a statement counts as hanging; the engine's own error comes earlier
_EXIT_HUNG = 4


class Threads:
    def __init__(self, connections: Connections, grace: float) -> None:
        self._connections = connections
        self._grace = grace
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="query")
        self._kills = ThreadPoolExecutor(2, thread_name_prefix="kill")
        self._heart = ThreadPoolExecutor(1, thread_name_prefix="heartbeat")
        self._endings: set[asyncio.Task[None]] = set()

    def submit(self, step: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._workers, step, *args)

    async def beat(self) -> None:
        """Runs a query, to see that the engine works."""
        await asyncio.get_running_loop().run_in_executor(self._heart, self._connections.run, "SELECT 1")

    def end(self, execution: Execution, pending: asyncio.Future[Any] | None, began: float) -> None:
        """Kills the query and closes the connection, in the background. `began`: when the running step began."""
        task = asyncio.get_running_loop().create_task(self._end(execution, pending, began))
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    async def _end(self, execution: Execution, pending: asyncio.Future[Any] | None, began: float) -> None:
        loop = asyncio.get_running_loop()
        execution.abandon()
        kill = f"KILL QUERY WHERE Settings['log_comment'] = {quote_string(execution.task.tag)} ASYNC"
        pause = _FIRST_PAUSE
        limit = execution.task.seconds
        if limit and pending is not None:  # not in the loop below: a KILL may hang as well
            loop.call_at(began + limit + self._grace, _exit_if_hung, pending, execution.task.tag)
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


def _exit_if_hung(pending: asyncio.Future[Any], tag: str) -> None:
    if not pending.done():
        log.error("query %s cannot be interrupted; this process ends", tag)
        logging.shutdown()
        os._exit(_EXIT_HUNG)


class Running:
    """Runs an execution's steps. Leaving the `async with` before the last step ended kills the query."""

    def __init__(self, threads: Threads, execution: Execution) -> None:
        self._threads = threads
        self._execution = execution
        self._pending: asyncio.Future[Any] | None = None
        self._began = 0.0

    async def __aenter__(self) -> Running:
        return self

    async def step(self, function: Callable[..., T], *args: Any) -> T:
        self._began = asyncio.get_running_loop().time()
        self._pending = future = self._threads.submit(function, *args)
        limit = self._execution.task.seconds
        try:
            async with asyncio.timeout(limit + _LATE if limit else None):
                result = await asyncio.shield(future)
        except TimeoutError:
            if future.done():
                raise
            raise Failure(Code.TIMEOUT_EXCEEDED, HUNG) from None
        self._pending = None
        return result

    async def __aexit__(self, *exc: object) -> None:
        pending = self._pending
        if pending is not None and pending.done():
            pending = None
        if pending is not None or self._execution.is_open:
            self._threads.end(self._execution, pending, self._began)

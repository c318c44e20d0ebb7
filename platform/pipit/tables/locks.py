"""The one lock of each table: who may write, replace or alter it now is decided here and nowhere else.

A request names all its tables. It gets all of them at once; until then it waits and holds none. Requests that exclude
each other are granted in the order in which they came. So there is no deadlock, and no request waits for ever.

Events are the one exception to the order: they may pass a request that waits for something else than events. A deploy
that waits for a copy of an hour does not keep events out for that hour.

A task that holds REPLACE or REBUILD of a table may also acquire ALTER. No other lock may be acquired while
one is held.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum

TableKey = tuple[str, str]  # database, physical name


class Mode(Enum):
    EVENTS = "events"  # one insert of the table's event writer, or its search for rows that a view refuses
    APPEND = "append"  # a statement that inserts on its own: one at a time (it may read the table), beside events
    REPLACE = "replace"  # prepares new rows beside the table: one at a time; others write and alter meanwhile
    REBUILD = "rebuild"  # its rows go into a new generation: events and deploys go on, statements that insert wait
    ALTER = "alter"  # the table, or what its inserts go through, changes: nothing is inserted


_EXCLUDED = {
    Mode.EVENTS: {Mode.EVENTS, Mode.ALTER},
    Mode.APPEND: {Mode.APPEND, Mode.ALTER, Mode.REBUILD},
    Mode.REPLACE: {Mode.REPLACE, Mode.REBUILD},
    Mode.REBUILD: {Mode.APPEND, Mode.REPLACE, Mode.REBUILD},
    Mode.ALTER: {Mode.EVENTS, Mode.APPEND, Mode.ALTER},
}


@dataclass(eq=False, slots=True)
class _Request:
    wants: Mapping[TableKey, Mode]
    task: asyncio.Task[object] | None
    granted: asyncio.Event = field(default_factory=asyncio.Event)


class Locks:
    """One instance for all writers of an engine. It knows only the tables that a task holds or waits for."""

    def __init__(self) -> None:
        self._queues: dict[TableKey, list[_Request]] = {}  # held and waiting, in the order in which they came
        self._before_alter: list[Callable[[TableKey], Awaitable[None]]] = []

    def before_alter(self, call: Callable[[TableKey], Awaitable[None]]) -> None:
        """Awaits `call` for each table that is about to be altered. Nothing is inserted into the table meanwhile."""
        self._before_alter.append(call)

    @asynccontextmanager
    async def acquire(
        self, tables: Iterable[TableKey], mode: Mode, *, appending: Iterable[TableKey] = ()
    ) -> AsyncIterator[None]:
        """Holds `tables` in `mode`, and in mode APPEND those of `appending` that are not among them.

        Raises RuntimeError if the task already holds a lock that excludes this one: it would wait for itself.
        """
        wants = dict.fromkeys(appending, Mode.APPEND) | dict.fromkeys(tables, mode)
        request = _Request(wants, asyncio.current_task())
        if any(one.task is request.task and one.granted.is_set() for one in self._excluding(request)):
            raise RuntimeError(f"This task holds a lock already that excludes {mode.value} of {sorted(wants)}")
        for table in wants:
            self._queues.setdefault(table, []).append(request)
        try:
            self._grant(request)
            await request.granted.wait()
            if mode is Mode.ALTER:
                for table in wants:
                    for call in self._before_alter if wants[table] is Mode.ALTER else ():
                        await call(table)
            yield
        finally:
            self._leave(request)

    def held(self, table: TableKey) -> tuple[Mode, ...]:
        """The modes in which the table is held."""
        return tuple(one.wants[table] for one in self._queues.get(table, ()) if one.granted.is_set())

    def waiting(self, table: TableKey) -> tuple[Mode, ...]:
        """The modes that are waited for, in the order of the requests."""
        return tuple(one.wants[table] for one in self._queues.get(table, ()) if not one.granted.is_set())

    def __len__(self) -> int:
        """The number of tables that are held or waited for."""
        return len(self._queues)

    def _leave(self, request: _Request) -> None:
        after: dict[_Request, None] = {}
        for table in request.wants:
            queue = self._queues[table]
            queue.remove(request)
            if queue:
                after |= dict.fromkeys(queue)
            else:
                del self._queues[table]
        for one in after:
            self._grant(one)

    def _grant(self, request: _Request) -> None:
        """Grants the request, unless another one excludes it."""
        if not request.granted.is_set() and all(self._passes(request, one) for one in self._excluding(request)):
            request.granted.set()

    def _passes(self, request: _Request, before: _Request) -> bool:
        """Whether a request for events may pass an earlier one, which waits for something else than events."""
        return (
            not before.granted.is_set()
            and set(request.wants.values()) == {Mode.EVENTS}
            and any(Mode.EVENTS not in one.wants.values() for one in self._excluding(before))
        )

    def _excluding(self, request: _Request) -> Iterator[_Request]:
        """The requests that exclude this one: they hold one of its tables, or came earlier."""
        for table, mode in request.wants.items():
            before = True
            for one in self._queues.get(table, ()):
                if one is request:
                    before = False
                elif (before or one.granted.is_set()) and one.wants[table] in _EXCLUDED[mode]:
                    yield one

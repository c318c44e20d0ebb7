"""The one writer of a table: takes its sealed segments in order, loads each, tells who waits, and removes it.

Engine away: the segment is tried again until it is back. A view that fails, or any other refusal: the
segment is set beside, told to those who wait, and tried again under the same tokens with growing pauses,
while later segments go on. When so many blocks have followed it, in any table that it goes to, that its tokens
could have left the deduplication window, it is never replayed again (`.aside`): the engine's own block numbers
say so, and the numbers at its failure stand beside the segment, so that a restart forgets nothing. One that
always runs out of time is set beside too, and in the end left to a person (`.stuck`), as one whose
table is gone is (`.orphan`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from pipit.engine.client import Engine
from pipit.errors import NotFound, PipitError, QueryTimeout, SqlError, Unavailable, UnprocessableWrite
from pipit.ingest import limits, probe
from pipit.ingest.altered import Altered, altered_columns
from pipit.ingest.defaults import CheckedDefault, checked_defaults, words_of
from pipit.ingest.keys import Keys
from pipit.ingest.load import VIEW_FAILED, ViewFailed, blocks, load
from pipit.ingest.log import Generation, Log
from pipit.ingest.segment import Segment
from pipit.ingest.watch import Watch
from pipit.tables import Locks, Mode, TableKey

_log = logging.getLogger("pipit.ingest")
_AWAY_FIRST, _AWAY_MOST = 0.05, 2.0
_FAILED_FIRST, _FAILED_MOST = 1.0, 60.0


@dataclass(slots=True)
class _Failed:
    segment: Segment
    due: float
    pause: float


class Writer:
    def __init__(self, engine: Engine, log: Log, keys: Keys, locks: Locks, table: TableKey) -> None:
        self._engine, self._log, self._keys, self._locks, self._table = engine, log, keys, locks, table
        self._failed: list[_Failed] = []
        self._timeouts: dict[str, int] = {}  # attempts that ran out of time, by segment
        self._checked: dict[str, Sequence[CheckedDefault]] = {}
        self._altered: dict[str, Altered] = {}
        self._clean = False  # nothing is left of a search that was killed
        self._watch = Watch()
        self._later: deque[Segment] = deque()  # what is left of them takes long: the search of single rows
        self._idle = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"pipit writer {'.'.join(table)}")

    async def forget(self) -> None:
        """Drops what it keeps of a table that is about to change. Its lock is held by who changes it."""
        self._altered.clear()
        self._checked.clear()
        await self._watch.kept.clear(self._engine, self._table[0])

    @property
    def behind(self) -> int:
        """How many events wait, but for what failed once."""
        return max(0, self._log.pending(self._table).rows - sum(failed.segment.rows for failed in self._failed))

    async def drained(self, *, but_failed: bool = False) -> None:
        """Until everything that was acknowledged before is in the table, or has failed at least once."""
        while True:
            failed = sum(f.segment.rows for f in self._failed) if but_failed else 0
            if self._log.pending(self._table).rows <= failed:
                return
            self._log.hurry(self._table)
            self._idle.clear()
            await self._idle.wait()

    async def insert(
        self, segment: Segment, begin: Callable[[], bool] = lambda: True
    ) -> tuple[list[int], tuple[Generation, ...]] | None:
        """A segment that somebody else keeps, once: the bad rows of each of its requests, and the other generations of
        the table at that moment: they do not have its rows yet. `begin` is asked with the table's lock held, before
        anything of it is stored. None: it said no.

        Raises what `load` raises; it is kept and tried again by who calls this.
        """

        async def between() -> None:
            pass

        async with self._inserting():
            if not begin():
                return None
            await self._clear()
            defaults, altered = await self._defaults(segment), await self._altered_columns(segment)
            bad = await load(self._engine, segment, self._watch, defaults, None, altered)
            if bad is None:  # the rows that are refused are looked for at once
                bad = await load(self._engine, segment, self._watch, defaults, between, altered)
            self._log.counts.stored(self._table, segment.rows, sum(bad or []))
            return bad or [], self._log.others(self._table)

    async def stop(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._watch.end(self._engine, self._table[0])

    async def _run(self) -> None:
        while True:
            now = time.monotonic()
            segment = next((f.segment for f in self._failed if f.due <= now), None)
            if segment is None:
                segment = self._log.take(self._table)
            if segment is not None:
                await self._load(segment)
                self._idle.set()
            if self._later:  # in turn with the others: neither keeps the other waiting
                await self._load(self._later.popleft(), between=True)
                self._idle.set()
            elif segment is None:
                await self._wait(now)

    def _inserting(self) -> contextlib.AbstractAsyncContextManager[None]:
        """The table's lock, for one attempt: segments queue up while others hold it."""
        return self._locks.acquire([self._table], Mode.EVENTS)

    async def _wait(self, now: float) -> None:
        """For a segment, or until there is something else to do."""
        dues = [max(0.0, f.due - now) for f in self._failed]
        watched = self._watch.left
        if watched == 0.0:
            async with self._inserting():
                await self._watch.end(self._engine, self._table[0])
        elif watched is not None:
            dues.append(watched)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(dues, default=None)):
                await self._log.wait(self._table)

    async def _between(self, searched: Segment) -> None:
        """One segment that came meanwhile. Not so many that a token of the one that is searched could be forgotten, and
        none before somebody who waits for the table.
        """
        if self._locks.waiting(self._table):
            return
        at_work = len(self._later) + len(self._failed) + 1
        if self._log.pending(self._table).segments <= at_work:
            return
        if await self._too_late(searched, share=2):
            return
        segment = self._log.take(self._table)
        if segment is not None:
            await self._load(segment, nested=True)
            self._idle.set()

    async def _load(self, segment: Segment, *, between: bool = False, nested: bool = False) -> None:
        """Until it is loaded, set beside or left, or the rest of it comes later. `between`: it is that rest; others are
        loaded meanwhile, `nested`.
        """
        pause = _AWAY_FIRST
        while True:
            try:
                async with contextlib.nullcontext() if nested else self._inserting():
                    if not nested:
                        await self._clear()
                    through = await self._attempt(segment, (lambda: self._between(segment)) if between else None)
                if segment.storing and not between:
                    self._log.pace(self._table, segment.storing)
                if not through:
                    self._later.append(segment)
                    for known in self._failed:
                        known.due = math.inf if known.segment is segment else known.due
                return
            except Unavailable:
                pass
            except QueryTimeout as error:
                tried = self._timeouts[segment.name] = self._timeouts.get(segment.name, 0) + 1
                if tried >= limits.TIMEOUTS_TO_ASIDE:
                    self._leave(segment, error, ".stuck")
                    return
                if tried >= limits.TIMEOUTS_TO_BESIDE and await self._fail(segment, error):
                    return
            except NotFound as error:
                self._leave(segment, error, ".orphan")
                return
            except Exception as error:  # kept and tried again, whatever it is
                if await self._fail(segment, error):
                    return
            await asyncio.sleep(pause)
            pause = min(pause * 2, _AWAY_MOST)

    async def _defaults(self, segment: Segment) -> Sequence[CheckedDefault]:
        """Asked of the engine once for each list of columns that the table had."""
        columns = segment.header.meta["columns"]
        if not any(default and words_of(default) for _, _, _, default in columns):
            return ()
        key = json.dumps(columns)
        if key not in self._checked:
            self._checked[key] = await checked_defaults(self._engine, *self._table)
        return self._checked[key]

    async def _altered_columns(self, segment: Segment) -> Altered:
        """Asked of the engine once for each list of columns, until the table changes."""
        columns = segment.header.meta["columns"]
        key = json.dumps(columns)
        if key not in self._altered:
            self._altered[key] = await altered_columns(self._engine, *self._table, columns)
        return self._altered[key]

    async def _clear(self) -> None:
        """Drops the copies that a search left which was killed, or lost the engine."""
        kept = self._watch.kept
        if not self._clean or kept.lost:
            await kept.clear(self._engine, self._table[0])
            await probe.drop(self._engine, [self._table])
            self._clean, kept.lost = True, False

    async def _attempt(self, segment: Segment, between: Callable[[], Awaitable[None]] | None = None) -> bool:
        """Whether it is through."""
        if not self._log.holds(self._table, segment):  # another generation of the table has it now
            self._drop(segment)
            return True
        self._log.trim(segment)
        if await self._too_late(segment):
            await self._give_up(segment)
            return True
        defaults, altered = await self._defaults(segment), await self._altered_columns(segment)
        bad = await load(self._engine, segment, self._watch, defaults, between, altered)
        if bad is None:
            return False
        await self._loaded(segment, bad)
        return True

    async def _too_late(self, segment: Segment, share: int = 1) -> bool:
        """Whether a replay could find its tokens forgotten, and double its rows."""
        then = segment.notes.blocks
        if not then:
            return False
        now = await blocks(self._engine, segment)
        most = limits.MAX_BLOCKS_BEHIND_FAILED // share
        return any(now.get(t, 0) - n >= most for t, n in then.items())

    async def _give_up(self, segment: Segment) -> None:
        """It failed too long ago. Where its rows are stored, its keys are answered as such from now on."""
        notes = segment.notes
        error: PipitError = SqlError("The events could not be stored", detail=notes.error)
        if notes.bad:
            hint = "Do not send them again: what the view lacks of them is filled by the workspace's owner."
            error = UnprocessableWrite(VIEW_FAILED, hint=hint, detail=notes.error)
            await self._settle(segment, notes.bad)
        self._leave(segment, error, ".aside")

    def _leave(self, segment: Segment, error: PipitError, suffix: str) -> None:
        """To a person: the rows are kept in the file, and not tried again by themselves."""
        path = self._log.set_aside(segment, suffix)
        have = "see what the table has of them before they are loaded again"
        if isinstance(error, UnprocessableWrite):
            have = "the table has them, and what the view lacks of them must be filled by hand"
        table = ".".join(self._table)
        _log.critical("%d events of %s are left in %s; %s: %s", segment.rows, table, path, have, _full(error))
        self._tell(segment, error)
        self._drop(segment)

    def _drop(self, segment: Segment) -> None:
        self._failed = [f for f in self._failed if f.segment is not segment]
        self._timeouts.pop(segment.name, None)

    async def _loaded(self, segment: Segment, bad: list[int]) -> None:
        segment.answer(dict(enumerate(bad)))
        self._log.counts.stored(self._table, segment.rows, sum(bad))
        await self._settle(segment, bad)
        self._log.remove(segment)
        self._drop(segment)

    async def _settle(self, segment: Segment, bad: list[int]) -> None:
        named = [frame.key for frame in segment.frames if frame.key]
        for frame, number in zip(segment.frames, bad, strict=True):
            if frame.key:
                self._keys.settle(frame.key, number)
        if named:
            await asyncio.to_thread(self._keys.remember, named)

    async def _fail(self, segment: Segment, error: Exception) -> bool:
        """Sets it beside. False when that cannot be written down now: then nothing may go on before it."""
        self._log.counts.failed(self._table)
        known = next((f for f in self._failed if f.segment is segment), None)
        if known is None:
            text = _full(error)
            try:
                await self._note(segment, error, text)
            except (PipitError, OSError):
                return False
            _log.error("segment %s of %s is kept and tried again: %s", segment.name, ".".join(self._table), text)
            known = _Failed(segment, 0.0, _FAILED_FIRST)
            self._failed.append(known)
        else:
            known.pause = min(known.pause * 2, _FAILED_MOST)
        known.due = time.monotonic() + known.pause
        if isinstance(error, UnprocessableWrite):
            self._tell(segment, error)
        return True

    async def _note(self, segment: Segment, error: Exception, text: str) -> None:
        notes = segment.notes
        if not notes.blocks:  # else it failed before a restart, and counts from there
            notes.blocks = await blocks(self._engine, segment)
        notes.error = text
        if isinstance(error, ViewFailed) and not notes.parts:  # of parts, the last ones are not stored
            notes.bad = error.bad
        await asyncio.to_thread(segment.save_notes)

    def _tell(self, segment: Segment, error: Exception) -> None:
        for waiter in segment.waiters.values():
            if not waiter.done():
                waiter.set_exception(error)
                waiter.exception()  # seen: nobody may be waiting for it
        segment.waiters.clear()


def _full(error: Exception) -> str:
    """For the log and the segment's notes."""
    if not isinstance(error, PipitError):
        return repr(error)
    return f"{error.message}: {error.detail}" if error.detail else error.message

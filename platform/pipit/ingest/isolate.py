"""Which rows of a segment the table or one of its views cannot take, though they read well: a DEFAULT, a constraint, a
partition key or a view's SELECT throws on them. One client's row stops nobody else's.

Nothing is stored while they are looked for (`probe`). First requests are told apart, then the rows of those that fail.
A request that has too many such rows is refused as a whole: it delays nobody for ever. A view is asked about single
rows only if it takes any, of the segment or of those that the table has: one that refuses everything is broken, and no
row is to blame for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from pipit.ingest import limits
from pipit.ingest.parse import NUMBER
from pipit.ingest.probe import Probe, Taker
from pipit.ingest.segment import Segment

Refused = tuple[int, int, str]  # first row, end, reason

_REASON = 500  # characters


async def find(probe: Probe, known: Sequence[Refused] = (), *, works: bool = False) -> list[Refused]:
    """In order, none of them twice, and none that is known. Not those of a table that refuses even an empty insert, nor
    of a broken view (`works`: it is known that none is). The table is asked where the views have no answer, or before
    them where a row cannot even be read; what the others refuse too, the next search finds.
    """
    refused: list[Refused] = []
    await probe.stage()
    if probe.as_lines:
        refused = await _Search(probe, await probe.itself(), probe.segment, without(known)).run()
        if refused:
            return sorted(refused)
    async for view in probe.views():
        refused += await _Search(probe, view, probe.segment, without([*known, *refused]), works).run()
    if not refused and not probe.as_lines:
        refused = await _Search(probe, await probe.itself(), probe.segment, without(known)).run()
    return sorted(refused)


async def requests(probe: Probe) -> tuple[Taker, list[tuple[int, int]]] | None:
    """The table's only view, and the requests that it refuses rows of: it takes those of all others together.

    None where it takes none, or cannot be fed directly.
    """
    await probe.stage()
    if probe.as_lines:
        return None
    async for view in probe.views():
        found = await _Search(probe, view, probe.segment, "").requests()
        takes_rest = found and await probe.refuses(view, 0, probe.segment.rows, without(found)) is None
        if not takes_rest or not await probe.count(0, probe.segment.rows, without(found)):
            return None
        held = sorted((a, b) for a, b, _ in found)
        if not await probe.prepare(view.name, without(found)):
            return None
        return view, held
    return None


def others(rows: int, held: Sequence[tuple[int, int]]) -> list[Refused]:
    """The rows of all requests but these, as what a question leaves out."""
    if not held:
        return []
    gaps = zip([0, *(b for _, b in held)], [*(a for a, _ in held), rows], strict=True)
    return [(a, b, "") for a, b in gaps if a < b]


def without(refused: Sequence[Refused]) -> str:
    """The condition that leaves out rows that one before refuses."""
    single = [str(a) for a, b, _ in refused if b - a == 1]
    listed = f" AND {NUMBER} NOT IN ({', '.join(single)})" if single else ""
    return listed + "".join(f" AND NOT ({NUMBER} >= {a} AND {NUMBER} < {b})" for a, b, _ in refused if b - a > 1)


@dataclass(slots=True)
class _Search:
    """The rows that one taker refuses."""

    probe: Probe
    taker: Taker
    segment: Segment
    without: str
    taken: bool = False  # it takes some rows, of the segment or of the table
    asked: bool = False  # whether it takes any of the table's

    async def run(self) -> list[Refused]:
        found = await self._of_rows(deque(await self.requests()))
        return found if found and await self._takes_some() else []

    async def requests(self) -> list[Refused]:
        """Those that hold such rows."""
        starts = [*self.segment.starts, self.segment.rows]
        whole = await self._refuses(0, self.segment.rows)
        if whole is None or (not self.taker.view and await self.probe.is_broken(self.taker)):
            return []  # a broken view shows later, in that it takes no row
        return await self._of_requests(starts, whole)

    async def _takes_some(self) -> bool:
        """Else it is a broken view, and no row is to blame."""
        if not (self.taken or self.asked) and self.taker.view:
            self.asked = True
            self.taken = await self.probe.works(self.taker)
        return self.taken or not self.taker.view

    async def _of_requests(self, starts: Sequence[int], whole: str) -> list[Refused]:
        requests = deque([(0, len(starts) - 1, whole)])
        parts: deque[Refused] = deque()
        tries = 0
        while requests:
            first, end, reason = requests.popleft()
            if end - first == 1:
                parts.append((starts[first], starts[end], reason))
                continue
            middle = (first + end) // 2
            left = await self._refuses(starts[first], starts[middle])
            # Where the left half is taken, it is the right one that is refused.
            right = await self._refuses(starts[middle], starts[end]) if left is not None else reason
            requests += [(first, middle, left)] if left is not None else []
            requests += [(middle, end, right)] if right is not None else []
            tries += 1
            if tries == limits.TRIES_TO_SEE_A_VIEW_WORK and not await self._takes_some():
                return []
        return list(parts)

    async def _of_rows(self, requests: deque[Refused]) -> list[Refused]:
        found: list[Refused] = []
        tries = 0
        parts = deque((*part, False) for part in requests)
        while parts:  # in turns, so that no request uses up the tries of the others
            start, stop, reason, asked = parts.popleft()
            if stop - start == 1:
                # A row is refused for what it is, not beside others.
                alone = reason if asked else await self._refuses(start, stop)
                found += [(start, stop, alone)] if alone is not None else []
                continue
            if tries >= limits.TRIES_TO_FIND_ROWS:
                found.append((start, stop, f"one of {stop - start} rows that were not told apart: {reason}"[:_REASON]))
                continue
            half = (start + stop) // 2
            left = await self._refuses(start, half)
            right = await self._refuses(half, stop) if left is not None else reason
            parts += [(start, half, left, True)] if left is not None else []
            parts += [(half, stop, right, left is not None)] if right is not None else []
            tries += 2
            if tries == 2 * limits.TRIES_TO_SEE_A_VIEW_WORK and not await self._takes_some():
                return []
        return found

    async def _refuses(self, start: int, stop: int) -> str | None:
        error = await self.probe.refuses(self.taker, start, stop, self.without)
        if error is None:
            self.taken = self.taken or await self.probe.count(start, stop, self.without) > 0
            return None
        who = f"the materialized view '{self.taker.view}'" if self.taker.view else "the table"
        return f"{who} does not take the row: {error.message}"[:_REASON]

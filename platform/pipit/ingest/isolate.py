"""Which rows of a segment the table or one of its views cannot take, though they read well: a DEFAULT, a constraint, a
partition key or a view's SELECT throws on them. One client's row stops nobody else's.

Nothing is stored while they are looked for (`probe`). First requests are told apart, then the rows of those that fail.
A request that has too many such rows is refused as a whole: it delays nobody for ever. A view is asked about single
rows only if it takes any, of the segment or of those that the table has: one that refuses everything is broken, and no
row is to blame for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from pipit.ingest import limits
from pipit.ingest.parse import NUMBER
from pipit.ingest.probe import Probe
from pipit.ingest.watch import Taker

Refused = tuple[int, int, str]  # first row, end, reason
Request = tuple[int, int]  # first row, end

_REASON = 500  # characters
NOT_TOLD_APART = "rows that were not told apart: "
VIEW = "the materialized view "  # what a view's refusal begins with


async def find(
    probe: Probe, known: Sequence[Refused] = (), among: Sequence[Request] | None = None, *, works: bool = False
) -> list[Refused]:
    """In order, none of them twice, and none that is known: of the segment's requests, or `among` some of them. Not
    those of a table that refuses even an empty insert, nor of a broken view (`works`: it is known that none is). The
    table is asked where the views have no answer, or before them where a row cannot even be read; what the others
    refuse too, the next search finds.
    """
    refused: list[Refused] = []
    requests = probe.segment.requests if among is None else among
    await probe.stage()
    if probe.as_lines:
        refused = await _Search(probe, await probe.itself(), requests, without(known)).run()
        if refused:
            return sorted(refused)
    async for view in probe.views():
        refused += await _Search(probe, view, requests, without([*known, *refused]), works).run()
    if not refused and not probe.as_lines:
        refused = await _Search(probe, await probe.itself(), requests, without(known)).run()
    return sorted(refused)


async def together(
    probe: Probe,
    requests: Sequence[Request],
    condition: str,
    suspects: Sequence[Request] = (),
    note: Callable[[Sequence[Request]], Awaitable[None]] | None = None,
    groups: Sequence[list[Request]] = (),
) -> list[Request] | None:
    """Which of the requests must wait so that the views take the rest of them together: those that a view refuses, and
    where each is taken alone and not beside the others, some of these. Whoever waits is looked at again later, so few
    questions are better than exact answers. `note` is told who waits, perhaps several times, and last as it stays.
    `groups`: those that are asked about first. None where the views may be broken: they take nothing.
    """
    taker = await probe.all_views()
    if taker is None:
        return []

    async def refuses(of: Sequence[Request]) -> bool:
        return bool(of) and await probe.refuses(taker, of[0][0], of[-1][1], condition + only(of)) is not None

    suspected = set(suspects)
    innocent = [request for request in requests if request not in suspected]
    if suspects and innocent:
        others_too, theirs = await asyncio.gather(refuses(innocent), refuses(suspects))
        if not others_too:
            found = list(suspects) if theirs or await refuses(requests) else []
            if found and note:
                await note(found)
            return found
    held: set[Request] = set()
    taken: set[tuple[Request, ...]] = set()
    left = limits.QUESTIONS_ABOUT_REQUESTS
    first = True
    while True:
        rest = [request for request in requests if request not in held]
        noted = [note(sorted(held))] if held and note else []
        question = [] if tuple(rest) in taken else [refuses(rest)]
        if True not in await asyncio.gather(*question, *noted):
            return sorted(held)
        todo = deque([rest])
        while todo:
            group = todo.popleft()
            if len(group) == 1 or left <= 0:
                held.update(group)
                continue
            size = -(-len(group) // limits.QUESTIONS_AT_ONCE)
            pieces = [group[n : n + size] for n in range(0, len(group), size)]
            if first and 1 < len(groups) <= limits.QUESTIONS_AT_ONCE:
                pieces = list(groups)
            answers = await asyncio.gather(*map(refuses, pieces))
            left -= len(pieces)
            guilty = [piece for piece, refused in zip(pieces, answers, strict=True) if refused]
            taken |= {tuple(piece) for piece, refused in zip(pieces, answers, strict=True) if not refused}
            if first and len(guilty) == len(pieces) and not await probe.works(taker):
                return None
            first = False
            todo += guilty
            if not guilty:
                held.update(request for piece in pieces[1:] for request in piece)


def only(requests: Sequence[Request]) -> str:
    """The condition that leaves out the rows between these."""
    stretches = joined(requests)
    if len(stretches) < 2:
        return ""
    return " AND (" + " OR ".join(f"({NUMBER} >= {a} AND {NUMBER} < {b})" for a, b in stretches) + ")"


def joined(requests: Sequence[Request]) -> list[Request]:
    """Those next to each other as one stretch of rows."""
    found: list[Request] = []
    for a, b in sorted(requests):
        if found and found[-1][1] == a:
            found[-1] = (found[-1][0], b)
        else:
            found.append((a, b))
    return found


async def requests(probe: Probe) -> tuple[Taker, list[tuple[int, int]]] | None:
    """The table's only view, and the requests that it refuses rows of: it takes those of all others together.

    None where it takes none, or cannot be fed directly.
    """
    await probe.stage()
    if probe.as_lines:
        return None
    async for view in probe.views():
        found = await _Search(probe, view, probe.segment.requests, "").requests()
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
    among: Sequence[Request]
    without: str
    taken: bool = False  # it takes some rows, of the segment or of the table
    asked: bool = False  # whether it takes any of the table's

    async def run(self) -> list[Refused]:
        found = await self._of_rows(deque(await self.requests()))
        return found if found and await self._takes_some() else []

    async def requests(self) -> list[Refused]:
        """Those that hold such rows."""
        whole = await self._refuses(self.among[0][0], self.among[-1][1]) if self.among else None
        if whole is None or (not self.taker.view and await self.probe.is_broken(self.taker)):
            return []  # a broken view shows later, in that it takes no row
        return await self._of_requests(whole)

    async def _takes_some(self) -> bool:
        """Else it is a broken view, and no row is to blame."""
        if not (self.taken or self.asked) and self.taker.view:
            self.asked = True
            self.taken = await self.probe.works(self.taker)
        return self.taken or not self.taker.view

    async def _of_requests(self, whole: str) -> list[Refused]:
        requests = deque([(0, len(self.among), whole)])
        parts: deque[Refused] = deque()
        tries = 0
        while requests:
            first, end, reason = requests.popleft()
            if end - first == 1:
                parts.append((*self.among[first], reason))
                continue
            middle = (first + end) // 2
            left = await self._refuses(self.among[first][0], self.among[middle - 1][1])
            # Where the left half is taken, it is the right one that is refused.
            right = await self._refuses(self.among[middle][0], self.among[end - 1][1]) if left is not None else reason
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
                found.append((start, stop, f"one of {stop - start} {NOT_TOLD_APART}{reason}"[:_REASON]))
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
        who = f"{VIEW}'{self.taker.view}'" if self.taker.view else "the table"
        return f"{who} does not take the row: {error.message}"[:_REASON]

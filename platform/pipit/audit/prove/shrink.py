"""A leak becomes small enough for a person: few rows, few parameters, plain values.

Each step is tried on the real thing: rows loaded, the endpoint asked, the two answers compared. What remains still
leaks.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipit.audit.prove.cases import ProofCase
from pipit.audit.prove.judge import LEAK, Judge, Judgement
from pipit.audit.prove.knowledge import Reach
from pipit.audit.prove.model import CounterExample
from pipit.audit.prove.rows import Row
from pipit.audit.prove.tenants import Tenants, TenantView
from pipit.audit.prove.values import simple


@dataclass(slots=True)
class Shrinker:
    judge: Judge
    tenants: Tenants
    pipe: str
    view: TenantView
    others: Sequence[TenantView]
    reach: Reach
    kind: str
    plain: bool = True  # also values
    probes: int = 70
    seconds: float = 25.0
    _until: float = 0.0

    async def shrink(self, case: ProofCase, own: Sequence[Row], foreign: Sequence[Row]) -> CounterExample | None:
        """None if the leak cannot be shown again."""
        self._until = time.monotonic() + self.seconds
        near = [r for r in own if r.table in self.reach.above], [r for r in foreign if r.table in self.reach.above]
        if await self._leaks(case, *near):
            own, foreign = near
        elif not await self._leaks(case, own, foreign):
            return None

        async def with_foreign(rows: Sequence[Row]) -> bool:
            return await self._leaks(case, own, rows)

        foreign = await _fewer(foreign, with_foreign)

        async def with_own(rows: Sequence[Row]) -> bool:
            return await self._leaks(case, rows, foreign)

        own = await _fewer(own, with_own)
        for name, _ in case.params:
            shorter = ProofCase(tuple(pair for pair in case.params if pair[0] != name))
            if await self._leaks(shorter, own, foreign):
                case = shorter
        if self.plain:
            own, foreign = await self._plainer(case, own, foreign)
        asked = self.others
        self.others = ()
        quiet = await self._leaks(case, own, foreign, free=True)
        if not quiet:
            self.others = asked
        final = await self._compare(case, own, foreign)
        if final.verdict != LEAK or final.full is None or final.alone is None:
            return None
        return CounterExample(
            self.pipe,
            final.kind,
            self.view,
            case,
            tuple(r for r in own if r.tenant),
            tuple(foreign),
            tuple(r for r in own if not r.tenant),
            final.full,
            final.alone,
            other=asked[0] if asked and not quiet else None,
        )

    async def _leaks(self, case: ProofCase, own: Sequence[Row], foreign: Sequence[Row], *, free: bool = False) -> bool:
        if not free:
            if self.probes <= 0 or time.monotonic() > self._until:
                return False
            self.probes -= 1
        found = await self._compare(case, own, foreign)
        return found.verdict == LEAK and found.kind == self.kind

    async def _compare(self, case: ProofCase, own: Sequence[Row], foreign: Sequence[Row]) -> Judgement:
        await self.judge.alone.load(own)
        await self.judge.full.load(sorted([*own, *foreign], key=lambda row: row.id))
        return await self.judge.compare(self.pipe, self.view, self.others, case, self.reach, times=1)

    async def _plainer(
        self, case: ProofCase, own: Sequence[Row], foreign: Sequence[Row]
    ) -> tuple[Sequence[Row], Sequence[Row]]:
        """Values that play no part become plain ones, row by row; all columns at once, else one half of them."""
        for index in range(len(own) + len(foreign)):
            rows = [*own, *foreign]
            waiting = [self._plain_values(rows[index])]
            while waiting:
                values = waiting.pop()
                if not values:
                    continue
                tried = list(rows)
                tried[index] = replace(rows[index], values={**rows[index].values, **values})
                if await self._leaks(case, tried[: len(own)], tried[len(own) :]):
                    rows = tried
                elif len(values) > 1:
                    items = list(values.items())
                    middle = len(items) // 2
                    waiting += [dict(items[:middle]), dict(items[middle:])]
            own, foreign = rows[: len(own)], rows[len(own) :]
        return own, foreign

    def _plain_values(self, row: Row) -> dict[str, Any]:
        kept = self.tenants.tenancy.names(row.table)
        found: dict[str, Any] = {}
        for name, value in row.values.items():
            plain = simple(self.tenants.type_of(row.table, (name,)))
            if name not in kept and plain is not None and value != plain:
                found[name] = plain
        return found


async def _fewer(rows: Sequence[Row], leaks: Callable[[Sequence[Row]], Awaitable[bool]]) -> list[Row]:
    """A part of the rows that still leaks, from which no single row can be taken."""
    left = list(rows)
    if not left or await leaks([]):
        return []
    parts = 2
    while len(left) >= 2:
        size = max(1, len(left) // parts)
        chunks = [left[at : at + size] for at in range(0, len(left), size)]
        for chunk in chunks:
            if parts == 2 and await leaks(chunk):
                left, parts = chunk, 2
                break
            rest = [row for row in left if row not in chunk]
            if len(chunks) > 2 and await leaks(rest):
                left, parts = rest, max(parts - 1, 2)
                break
        else:
            if size == 1:
                break
            parts = min(parts * 2, len(left))
    return left

"""A difference between two answers is judged: the clock, chance, a tie, or a leak.

Both places hold the same rows of the tenant meanwhile. The clock is ruled out by asking alone, full, alone; chance by
asking again; a tie by inserting the tenant's own rows in other orders.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pipit.audit.prove.answers import TenantAnswer, difference, inversions
from pipit.audit.prove.cases import ProofCase
from pipit.audit.prove.harness import World
from pipit.audit.prove.knowledge import Reach
from pipit.audit.prove.rows import Row
from pipit.audit.prove.tenants import TenantView

_SANDWICHES = 5
_SHUFFLES = 4
PASSED, LEAK, UNDETERMINED = "passed", "leak", "undetermined"


@dataclass(frozen=True, slots=True)
class Judgement:
    verdict: str
    kind: str = ""
    full: TenantAnswer | None = None
    alone: TenantAnswer | None = None


@dataclass(slots=True)
class Judge:
    """`others`: the same look at the data as other tenants have it, who ask first."""

    full: World
    alone: World
    canaries: Mapping[str, set[str]]
    random: random.Random

    async def ask_full(
        self, pipe: str, view: TenantView, others: Sequence[TenantView], case: ProofCase, reach: Reach
    ) -> TenantAnswer:
        """The tenant's answer, after others asked the same: a cached response of one must not serve another."""
        for other in others:
            await self.full.ask(pipe, other, case, reach)
        return await self.full.ask(pipe, view, case, reach)

    async def compare(
        self,
        pipe: str,
        view: TenantView,
        others: Sequence[TenantView],
        case: ProofCase,
        reach: Reach,
        *,
        times: int = 2,
    ) -> Judgement:
        """Whether the two places differ for this request, the clock and chance left out."""
        differed = shaky = 0
        last: Judgement | None = None
        for _ in range(_SANDWICHES):
            self.full.harness.forget()
            before = await self.alone.ask(pipe, view, case, reach)
            full = await self.ask_full(pipe, view, others, case, reach)
            self.full.harness.forget()
            after = await self.alone.ask(pipe, view, case, reach)
            if difference(before, after) not in ("", "order"):
                shaky += 1
                last = last or Judgement(UNDETERMINED, "", full, after)
                continue
            kind = difference(full, before)
            if not kind:
                return Judgement(PASSED)
            differed += 1
            last = Judgement(LEAK, kind, full, before)
            if differed == times:
                return last
        if last is not None and last.full is not None and last.alone is not None and shaky:
            if self.tells(last.full, last.alone, view, case):
                return replace(last, verdict=LEAK, kind=last.kind or "rows")
            return replace(last, verdict=UNDETERMINED)
        return last or Judgement(PASSED)

    async def judge(
        self, pipe: str, view: TenantView, others: Sequence[TenantView], case: ProofCase, reach: Reach
    ) -> Judgement:
        found = await self.compare(pipe, view, others, case, reach)
        if found.verdict != LEAK or found.full is None or found.alone is None or found.kind == "status":
            return found
        if self.tells(found.full, found.alone, view, case):
            return found
        shuffled = await self._shuffled(pipe, view, case, reach)
        if found.kind == "order":
            seen: set[tuple[str, str]] = set()
            for answer in shuffled:
                if difference(answer, found.alone) in ("", "order"):
                    seen |= inversions(answer, found.alone)
            return Judgement(PASSED) if inversions(found.full, found.alone) <= seen else found
        kinds = [difference(answer, found.alone) for answer in shuffled]
        if all(kind in ("", "order") for kind in kinds):
            return found
        if any(difference(answer, found.full) in ("", "order") for answer in shuffled):
            return Judgement(PASSED)
        return replace(found, verdict=UNDETERMINED)

    def tells(self, full: TenantAnswer, alone: TenantAnswer, view: TenantView, case: ProofCase) -> bool:
        """Whether a text that only another tenant's rows hold stands in the answer."""
        asked = " ".join(value for _, value in case.params)
        body, own = full.body.decode("utf-8", "replace"), alone.body.decode("utf-8", "replace")
        return any(
            mark in body and mark not in own and mark not in asked
            for tenant, marks in self.canaries.items()
            if tenant != view.tenant
            for mark in marks
        )

    async def _shuffled(self, pipe: str, view: TenantView, case: ProofCase, reach: Reach) -> list[TenantAnswer]:
        """What the tenant's own rows give when they come in other orders."""
        loaded = self.alone.loaded
        found: list[TenantAnswer] = []
        try:
            for order in self._orders([row for row in loaded if row.table in reach.above]):
                await self.alone.load(order)
                found.append(await self.alone.ask(pipe, view, case, reach))
        finally:
            await self.alone.load(loaded)
        return found

    def _orders(self, rows: Sequence[Row]) -> Iterable[Sequence[Row]]:
        yield _numbered(list(reversed(rows)))
        for _ in range(_SHUFFLES):
            order = list(rows)
            self.random.shuffle(order)
            yield _numbered(order)


def _numbered(rows: Sequence[Row]) -> list[Row]:
    return [replace(row, id=number) for number, row in enumerate(rows)]

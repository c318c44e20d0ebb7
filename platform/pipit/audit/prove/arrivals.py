"""Rows that come in as events do, with tokens: what a tenant's append is told, and what it leaves for others to read.

The same events of one tenant are appended twice: alone, and at the same moment as others' are: rows in the tenant's own
name, rows that a view or the table cannot take, and both from a collector that sends everybody's rows with a token of
the workspace. Neither the tenant's answers nor what its endpoints read may differ. Only endpoints are compared that
read nothing but tables with a policy: what is nobody's may change with everybody's rows.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from pipit.access.context import FixedValue
from pipit.audit.comparisons import Chain
from pipit.audit.prove.answers import TenantAnswer, difference
from pipit.audit.prove.appends import Append
from pipit.audit.prove.cases import ProofCase
from pipit.audit.prove.harness import World
from pipit.audit.prove.knowledge import Knowledge, Reach
from pipit.audit.prove.model import CounterExample
from pipit.audit.prove.rows import Maker, Row
from pipit.audit.prove.tenants import NAMES, SUBJECT, Tenants, TenantView
from pipit.audit.prove.values import Values, put
from pipit.catalog.snapshot import Table
from pipit.deploy.views import trigger, views_of
from pipit.ingest import problems
from pipit.ingest.types import parse

OTHER = NAMES[1]
_TABLES = 12  # data sources that are tried, those with views first
_OWN = 4  # rows of the tenant in each request
_TRIED = 16  # rows of the other among which bad ones are looked for
_ODD: tuple[object, ...] = (0, -1, 255, 10**9)
_CASES = 4


@dataclass(frozen=True, slots=True)
class Leak:
    """`endpoint` is empty where the answer to the append itself differs."""

    endpoint: str
    example: CounterExample


@dataclass(slots=True)
class _Batch:
    """What comes in for one data source. `attacks`: what others send, by kind, each kind tried alone for an example."""

    own: list[Append] = field(default_factory=list)
    attacks: dict[str, list[Append]] = field(default_factory=dict)


@dataclass(slots=True)
class Arrivals:
    full: World
    alone: World
    known: Knowledge
    tenants: Tenants
    values: Values
    maker: Maker
    own: Sequence[Row]  # what is there before: all that the tenant may see,
    others: Sequence[Row]  # and, in the one world, what it may not
    only: frozenset[str] | None = None  # these data sources; None: all
    seconds: float = 60.0  # for finding out which of them it takes
    held: set[str] = field(default_factory=set)  # endpoints that showed what the tenant had appended
    _until: float = 0.0
    _mark: Iterator[int] = field(default_factory=lambda: count(1))

    async def leaks(self, endpoints: Mapping[str, tuple[Reach, Sequence[ProofCase]]]) -> list[Leak]:
        """`endpoints`: those to compare, with the requests that are known to work."""
        batches = await self._batches()
        if not batches:
            return []
        self._until = time.monotonic() + self.seconds
        view = self.tenants.views(SUBJECT)[0]
        policed = {name for name, table in self.full.snapshot.tables.items() if table.policy is not None}
        judged = {name: (reach, cases[:_CASES]) for name, (reach, cases) in endpoints.items()}
        judged = {name: one for name, one in judged.items() if one[0].tables <= policed}
        before = await self._try(self.alone, batches, (), view, judged)
        nothing = await self._try(self.alone, {}, (), view, judged)
        self.held |= {a.pipe for a in _differing(nothing, before) if before[a].ok}
        after = await self._try(self.full, batches, tuple(self._kinds(batches)), view, judged)
        suspects = _differing(before, after)
        if not suspects:
            return []
        # The clock and the order of rows: the same rows of the tenant alone, once more and the other way round.
        again = await self._try(self.alone, batches, (), view, judged, turned=True)
        suspects = [one for one in suspects if not difference(before[one], again.get(one, before[one]))]
        found: list[Leak] = []
        everything = (self.own, self.others)
        for kind in (*self._kinds(batches), ""):  # the last: nothing comes in beside it, others' rows are there
            for name, batch in batches.items():
                if not suspects or (kind and kind not in batch.attacks) or time.monotonic() > self._until:
                    continue
                if kind:  # the rows that were there play no part, as a rule
                    self.own, self.others = [r for r in self.own if not r.tenant and r.table not in batches], ()
                one = {name: batch}
                left = await self._try(self.alone, one, (), view, judged)
                right = await self._try(self.full, one, (kind,) if kind else (), view, judged)
                for suspect in [s for s in suspects if s in _differing(left, right)]:
                    found.append(self._leak(suspect, view, [batch], kind, left[suspect], right[suspect]))
                    suspects.remove(suspect)
                self.own, self.others = everything
        for suspect in suspects:  # it takes more than one of them
            found.append(self._leak(suspect, view, [*batches.values()], None, before[suspect], after[suspect]))
        return found

    def _leak(
        self,
        suspect: _Asked,
        view: TenantView,
        batches: Sequence[_Batch],
        kind: str | None,
        alone: TenantAnswer,
        together: TenantAnswer,
    ) -> Leak:
        """`kind`: of the attack that it takes; None: all of them."""
        attacks = [(name, one) for batch in batches for name, sent in batch.attacks.items() for one in sent]
        sent = [one for name, one in attacks if kind in (None, name)]
        own = [one for batch in batches for one in batch.own]
        what = difference(together, alone)
        pipe = suspect.pipe or f"POST /v0/events?name={suspect.table}"
        example = CounterExample(
            pipe,
            what if suspect.pipe else "append",
            view,
            suspect.case,
            tuple(row for one in own for row in one.rows),
            tuple(row for one in sent for row in one.rows) or tuple(self.others),
            tuple(row for row in self.own if not row.tenant),
            together,
            alone,
            sent=(*own, *sent),
        )
        return Leak(suspect.pipe, example)

    def _kinds(self, batches: Mapping[str, _Batch]) -> list[str]:
        return list(dict.fromkeys(kind for batch in batches.values() for kind in batch.attacks))

    async def _try(
        self,
        world: World,
        batches: Mapping[str, _Batch],
        kinds: Sequence[str],
        view: TenantView,
        judged: Mapping[str, tuple[Reach, Sequence[ProofCase]]],
        *,
        turned: bool = False,
    ) -> dict[_Asked, TenantAnswer]:
        """Everything comes in at once; then what the tenant was told, and what its endpoints say."""
        there = self.own if world is self.alone else [*self.own, *self.others]
        await world.load(sorted(there, key=lambda row: row.id))
        found: dict[_Asked, TenantAnswer] = {}
        for name, batch in batches.items():
            own = [replace(one, rows=tuple(reversed(one.rows))) for one in reversed(batch.own)] if turned else batch.own
            others = [one for kind in kinds for one in batch.attacks.get(kind, ())]
            # Others first: a segment is taken apart by request.
            answers = await asyncio.gather(*(world.append(one) for one in (*others, *own)))
            for one, answer in zip(own, answers[len(others) :], strict=True):
                if one.tenant:
                    found[_Asked("", ProofCase(()), name, batch.own.index(one) if not turned else 0)] = answer
            if world.waits(name):
                await world.drained(name)
        for pipe, (reach, cases) in judged.items():
            for case in cases:
                world.harness.forget()
                found[_Asked(pipe, case)] = await world.ask(pipe, view, case, reach)
        return found

    async def _batches(self) -> dict[str, _Batch]:
        """For each data source that takes events: rows of the tenant that all takes, and what others send with them."""
        snapshot = self.full.snapshot
        triggers = [trigger(snapshot, one) for one in views_of(snapshot, self.full.harness.composer).values()]
        tables = [
            snapshot.tables[name]
            for name in sorted(self.maker.landing(), key=lambda name: (-triggers.count(name), name))
            if not problems(snapshot.tables[name].datasource.columns)
            and (snapshot.tables[name].policy is not None or name in triggers)
            and (self.only is None or name in self.only)
        ]
        found: dict[str, _Batch] = {}
        for table in tables[:_TABLES]:
            good, _ = await self._parted(self.maker.of(table.name, SUBJECT, _OWN * 2))
            if len(good) < 2:
                continue
            asked, theirs = await self._fixed(table, SUBJECT), await self._fixed(table, OTHER)
            good = [_owned(row, asked) for row in good]
            own = good[:_OWN]
            batch = _Batch([Append(table.name, SUBJECT, tuple(own), asked)])
            if asked:  # else a collector's rows would be anybody's
                batch.own.append(Append(table.name, "", tuple(good[_OWN:] or own)))
            others, bad = await self._parted(
                [*self.maker.of(table.name, OTHER, _TRIED), *self._odd(table, self.maker.of(table.name, OTHER, 1))]
            )
            disguised, _ = await self._parted(list(self._disguised(table, others or good)))
            if disguised:
                batch.attacks["in the tenant's name"] = [Append(table.name, OTHER, tuple(disguised))]
                batch.attacks["in the tenant's name, its own fixed"] = [
                    Append(table.name, OTHER, tuple(disguised), theirs)
                ]
            if bad:
                bad = [_owned(row, theirs) for row in bad[:2]]
                batch.attacks["bad rows"] = [Append(table.name, OTHER, tuple(bad), theirs)]
                if asked:
                    batch.attacks["bad rows of a collector"] = [Append(table.name, "", tuple(bad))]
            found[table.name] = batch
        return found

    async def _parted(self, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
        """Those that the table and its views take beside what is nobody's, and those that not."""
        shared = [row for row in self.own if not row.tenant]
        taken = {row.id for row in await self.full.insertable([*shared, *rows])}
        return [row for row in rows if row.id in taken], [row for row in rows if row.id not in taken]

    async def _fixed(self, table: Table, tenant: str) -> dict[str, FixedValue]:
        """What the team's backend fixes for this tenant: what the server says that a token needs."""
        found: dict[str, FixedValue] = {}
        wanted = [(table.name, column, {column}) for column in sorted(table.policy.columns if table.policy else ())]
        needs = await self.full.harness.appends.needs(self.full.snapshot)
        wanted += [(need.target, need.column, set(need.columns)) for need in needs.get(table.name, ()) if not need.why]
        for of, column, fixed in wanted:
            for key, chains in self.tenants.tenancy.columns.get(of, {}).items():
                for chain in sorted(chains):
                    if chain[0] == column:
                        for name in sorted(fixed):
                            found.setdefault(name, self._at(chain, self._value(table, (name, *chain[1:]), key, tenant)))
        return found

    def _at(self, chain: Chain, value: FixedValue) -> FixedValue:
        """A token fixes a JSON column as a whole."""
        if len(chain) == 1:
            return value
        tree: dict[str, object] = {}
        put(tree, chain[1:], value)
        return json.dumps(tree)

    def _value(self, table: Table, chain: Chain, key: str, tenant: str) -> FixedValue:
        required = key in self.tenants.tenancy.required
        text, number = self.tenants.text(key, tenant) if required else self.tenants.optional(key)[0]
        value = self.values.key(self.tenants.type_of(table.name, chain, key), text, number)
        return tuple(value) if isinstance(value, list) else value

    def _disguised(self, table: Table, rows: Sequence[Row]) -> Iterator[Row]:
        """Rows that say wherever they can that they are the tenant's."""
        for key in self.tenants.tenancy.keys:
            for row in rows[:2]:
                values = dict(row.values)
                for name in values:
                    if parse(_type_of(table, name)).name not in ("JSON", "Object", "Map", "Tuple", "Nested", "Dynamic"):
                        held = self._value(table, (name,), key, SUBJECT)
                        values[name] = list(held) if isinstance(held, tuple) else held
                yield Row(row.id + 1_000_000 * (1 + self.tenants.tenancy.keys.index(key)), table.name, OTHER, values)

    def _odd(self, table: Table, rows: Sequence[Row]) -> Iterator[Row]:
        """Rows with one value each that something below may not take."""
        for row in rows[:1]:
            for name in row.values:
                kind = parse(_type_of(table, name)).name
                odd = _ODD if kind.startswith(("Int", "UInt", "Float")) else ()
                odd = (f"{OTHER}~odd~{next(self._mark)}", "") if kind == "String" else odd
                for value in odd:
                    id = 500_000 + next(self._mark)
                    yield Row(id, table.name, OTHER, dict(row.values) | {name: value})


@dataclass(frozen=True, slots=True)
class _Asked:
    """An endpoint's request, or the append of a data source."""

    pipe: str
    case: ProofCase
    table: str = ""
    number: int = 0


def _differing(one: Mapping[_Asked, TenantAnswer], other: Mapping[_Asked, TenantAnswer]) -> list[_Asked]:
    return [a for a, answer in one.items() if a in other and difference(other[a], answer) not in ("", "order")]


def _owned(row: Row, fixed: Mapping[str, FixedValue]) -> Row:
    """The row as its own tenant's, whoever sends it."""
    values: dict[str, object] = {}
    for name, value in fixed.items():
        values[name] = list(value) if isinstance(value, tuple) else value
        if isinstance(row.values.get(name), dict) and isinstance(value, str):
            values[name] = json.loads(value)
    return replace(row, values=dict(row.values) | values)


def _type_of(table: Table, name: str) -> str:
    return next(column.type for column in table.datasource.columns if column.name == name) or "String"

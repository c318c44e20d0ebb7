"""The run of a proof: rounds of generated data, looks at it, requests; what differs is judged, what leaks is shrunk."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from pipit.audit import tenancy
from pipit.audit.comparisons import Literal
from pipit.audit.prove.answers import TenantAnswer, difference
from pipit.audit.prove.arrivals import Arrivals
from pipit.audit.prove.cases import Cases, ProofCase, seeded
from pipit.audit.prove.fixtures import read_fixtures
from pipit.audit.prove.harness import ProofHarness, World, open_proof_harness
from pipit.audit.prove.judge import LEAK, PASSED, UNDETERMINED, Judge
from pipit.audit.prove.knowledge import Knowledge, Reach, constants_of_keys, focus, learn, reach, threshold
from pipit.audit.prove.model import CounterExample, EndpointResult, Proof, ProofOptions, ProofVerdict
from pipit.audit.prove.rows import Maker, Row
from pipit.audit.prove.shrink import Shrinker
from pipit.audit.prove.tenants import NAMES, SUBJECT, Tenants, TenantView
from pipit.audit.prove.values import Values
from pipit.datafiles import parse_project
from pipit.datafiles.resources import Project
from pipit.errors import BadRequest, ProjectError

Say = Callable[[str], None]
_AT_ONCE = 4
_CASES_OF_SHARED = 4
_FOCUS_MOST = 20
_SLOW = 1.5  # seconds: such a request is tried once, not often
_FINDING_OUT = 60.0  # seconds: what of the events that came in makes the difference
_SHRUNK_WELL = 6  # leaks that get all the time that shrinking may take; later ones get less


@dataclass(slots=True)
class Endpoint:
    """What is known of one endpoint so far."""

    name: str
    reach: Reach
    touches: bool  # whether it reads a tenant's table
    requests: int = 0
    held: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    cases: list[ProofCase] = field(default_factory=list)
    unsure: str = ""
    leak: CounterExample | None = None
    gone: str = ""  # a leak that could not be shown again

    @property
    def done(self) -> bool:
        return self.leak is not None


@dataclass(frozen=True, slots=True)
class Suspect:
    endpoint: Endpoint
    case: ProofCase
    kind: str


async def prove(files: Mapping[str, str], options: ProofOptions, *, say: Say = lambda _: None) -> Proof:
    """Tries every endpoint of a project. Raises ProjectError when nothing of it deploys, BadRequest on the options."""
    async with open_proof_harness() as harness:
        return await prove_in(harness, files, options, say=say)


async def prove_in(
    harness: ProofHarness, files: Mapping[str, str], options: ProofOptions, *, say: Say = lambda _: None
) -> Proof:
    """The same in an engine that runs already."""
    started = time.monotonic()
    say("deploying")
    number = len(harness.catalog.snapshots)
    full, left, refused = await harness.deploy(f"everyone_{number}", files)
    absent = _not_deployed(files, refused, options)
    alone = empty = full
    if not options.endpoints or set(options.endpoints) - {result.endpoint for result in absent}:
        alone, _, _ = await harness.deploy(f"one_tenant_{number}", left)
        empty, _, _ = await harness.deploy(f"nobody_{number}", left)
    prover = Prover(harness, full, alone, empty, options, say, frozenset(result.endpoint for result in absent))
    await prover.prove()
    results = prover.results() + absent
    found = prover.tenants.tenancy
    return Proof(
        found.policies,
        found.keys,
        tuple(view.label for view in prover.tenants.views(SUBJECT)),
        tuple(sorted(found.shared)),
        tuple(sorted(results, key=lambda result: result.endpoint)),
        refused,
        {name: table.datasource for name, table in full.snapshot.tables.items()},
        options.seed,
        options.rounds,
        time.monotonic() - started,
    )


class Prover:
    def __init__(
        self,
        harness: ProofHarness,
        full: World,
        alone: World,
        empty: World,
        options: ProofOptions,
        say: Say,
        absent: frozenset[str] = frozenset(),
    ) -> None:
        """`absent`: endpoints of the project that do not deploy."""
        self.absent = absent
        self.harness, self.full, self.alone, self.empty = harness, full, alone, empty
        self.options = options
        self.say = say
        self.now = datetime.now(UTC).replace(microsecond=0)
        snapshot = full.snapshot
        if options.fixed:
            found = tenancy.of_params(snapshot, options.fixed)
        elif tenancy.has_policies(snapshot):
            found = tenancy.of_policies(snapshot)
        else:
            raise BadRequest(
                "The project has no ROW_POLICY, so nothing in it says whose a row is",
                hint="Name the parameter that your tokens fix: --fixed customer_id",
            )
        if not found.columns:
            raise BadRequest(
                f"No data source has a column that is compared with {' or '.join(options.fixed)}",
                hint="Name a parameter that your tokens fix, as it stands in the pipes.",
            )
        self.known: Knowledge = learn(snapshot, found)
        self.tenants = Tenants(found, snapshot, constants_of_keys(self.known))
        self.endpoints = self._endpoints()
        self.values = Values(self.known, seeded(options.seed), self.now, strange=found.policies)
        self.judge = Judge(full, alone, self.values.canaries, seeded(options.seed, "judge"))
        self.shrunk = 0
        self.last: tuple[Maker, list[Row], list[Row]] | None = None  # with the rows of the last look with required keys
        self.appends: dict[str, CounterExample] = {}  # data source's path -> a leak of the answer to an append
        self.by_hand: frozenset[str] = frozenset()
        self.silent: frozenset[str] = frozenset()  # targets whose views did not do what they say

    def _endpoints(self) -> list[Endpoint]:
        snapshot, wanted = self.full.snapshot, self.options.endpoints
        there = self.absent | {name for name, pipe in snapshot.pipes.items() if pipe.endpoint is not None}
        unknown = [name for name in wanted if name not in there]
        if unknown:
            raise BadRequest(f"There is no endpoint '{unknown[0]}' in the project")
        found: list[Endpoint] = []
        for name, pipe in snapshot.pipes.items():
            node = pipe.endpoint
            if node is None or (wanted and name not in wanted):
                continue
            reached = reach(snapshot, pipe, node)
            touches = bool(reached.above & self.tenants.tenancy.columns.keys())
            found.append(Endpoint(name, reached, touches))
        return found

    async def prove(self) -> None:
        also: frozenset[str] = frozenset()
        for number in range(self.options.rounds if self.endpoints else 0):
            also = await self._round(number, also)
        await self._arrivals()

    async def _arrivals(self) -> None:
        """Rows that come in as events, with tokens, after all looks: what failed may wait in a segment."""
        if not self.options.appends or not self.tenants.tenancy.policies or self.last is None:
            return
        maker, own, others = self.last
        only = None
        if self.options.endpoints:
            only = frozenset().union(*(endpoint.reach.above for endpoint in self.endpoints))
        self.say("events of several tenants at one moment")
        arrivals = Arrivals(
            self.full,
            self.alone,
            self.known,
            self.tenants,
            self.values,
            maker,
            own,
            others,
            only,
            _FINDING_OUT * self.options.patience,
        )
        sound = [e for e in self.endpoints if e.touches and not (e.done or e.unsure)]
        asked = {endpoint.name: (endpoint.reach, endpoint.cases) for endpoint in sound}
        by_name = {endpoint.name: endpoint for endpoint in self.endpoints}
        for leak in await arrivals.leaks(asked):
            if leak.endpoint:
                by_name[leak.endpoint].leak = by_name[leak.endpoint].leak or leak.example
            else:
                self.appends.setdefault(leak.example.pipe, leak.example)
        for name in arrivals.held:
            by_name[name].held += 1

    async def _round(self, number: int, also: frozenset[str]) -> frozenset[str]:
        """`also`: targets that get rows by hand: that shows leaks of who reads them, and proves nothing."""
        options = self.options
        self.by_hand = also
        self.values.random = seeded(options.seed, number)
        fixtures = read_fixtures(options.folder, self.full.snapshot) if options.folder else {}
        maker = Maker(self.values, self.tenants, fixtures, self._focused(), also)
        if number == options.rounds - 1:
            maker.threshold = threshold(self.full.snapshot)
        rows = await self.full.insertable(maker.rows())
        replaced = await self.full.insertable(maker.others(None if number % 2 == 0 else 2))
        views = self.tenants.views(SUBJECT)
        for position, view in enumerate(views):
            open_ones = [e for e in self.endpoints if not e.done]
            if not open_ones:
                break
            self.say(f"round {number + 1} of {options.rounds}, {view.label or 'no key'}: {len(open_ones)} endpoints")
            await self._look(number, position, view, maker, rows, replaced, open_ones)
        return also | await self._left_empty(rows)

    def _focused(self) -> dict[str, list[dict[str, list[Literal]]]]:
        """Data source -> what the endpoints ask for that read it and have not met a row yet, a few of them."""
        found: dict[str, list[dict[str, list[Literal]]]] = {}
        for endpoint in self.endpoints:
            if endpoint.done or endpoint.held or not endpoint.touches:
                continue
            asked = focus(self.known, endpoint.reach)
            for table in endpoint.reach.above if asked else ():
                listed = found.setdefault(table, [])
                if asked not in listed and len(listed) < _FOCUS_MOST:
                    listed.append(asked)
        return found

    async def _look(
        self,
        number: int,
        position: int,
        view: TenantView,
        maker: Maker,
        rows: list[Row],
        replaced: list[Row],
        endpoints: list[Endpoint],
    ) -> None:
        """One look at the data: everything that this token may see, with and without the rest."""
        seen = await self._seen(rows, view)
        own = [row for row in rows if row.id in seen]
        foreign = [row for row in rows if row.id not in seen]
        if position == 0:
            self.last = (maker, own, foreign)
        strange = await self._seen(replaced, view)
        later = [row for row in replaced if row.id not in strange]
        others = [self.tenants.views(name)[position] for name in NAMES if name != SUBJECT]
        await self.empty.load([row for row in own if not row.tenant])
        await self.alone.load(own)
        answers: dict[tuple[str, ProofCase], TenantAnswer] = {}

        async def alone(endpoint: Endpoint) -> None:
            await self._ask_alone(endpoint, number, view, answers)

        await self._each(endpoints, alone)
        for variant, there in enumerate((foreign, later)):
            await self.full.load(sorted([*own, *there], key=lambda row: row.id))
            suspects: list[Suspect] = []

            async def compare(endpoint: Endpoint, variant: int = variant, suspects: list[Suspect] = suspects) -> None:
                for case in endpoint.cases:
                    if endpoint.done or (any(s.endpoint is endpoint for s in suspects[-3:]) and variant):
                        return
                    asking = others if variant == 0 else ()
                    answer = await self.judge.ask_full(endpoint.name, view, asking, case, endpoint.reach)
                    endpoint.requests += 1
                    kind = difference(answer, answers[(endpoint.name, case)])
                    if kind:
                        suspects.append(Suspect(endpoint, case, kind))

            await self._each([e for e in endpoints if not e.done], compare)
            # Of what differs the most telling first: rows say more than counts beside them.
            for suspect in sorted(suspects, key=lambda suspect: _TELLING.index(suspect.kind)):
                if not suspect.endpoint.done and not suspect.endpoint.unsure:
                    await self._examine(suspect, view, others, own, there)

    async def _ask_alone(
        self, endpoint: Endpoint, number: int, view: TenantView, answers: dict[tuple[str, ProofCase], TenantAnswer]
    ) -> None:
        """The requests of this look, with the answers that the tenant's own rows give; more until one holds a row."""
        values = replace(self.values, random=seeded(self.options.seed, number, endpoint.name, view.label))
        cases = Cases(self.known, values, self.tenants, endpoint.reach, self.now)
        endpoint.cases = []
        held = 0

        async def ask(case: ProofCase) -> bool:
            started = time.monotonic()
            answer = await self.alone.ask(endpoint.name, view, case, endpoint.reach)
            slow = time.monotonic() - started > _SLOW * self.options.patience
            if answer.late or (slow and endpoint.cases):
                return False
            nothing = await self.empty.ask(endpoint.name, view, case, endpoint.reach) if endpoint.touches else answer
            answers[(endpoint.name, case)] = answer
            endpoint.statuses["" if answer.ok else answer.body.decode("utf-8", "replace")] += 1
            endpoint.cases.append(case)
            return answer.ok and difference(answer, nothing) != ""

        for case in cases.first(self.options.cases if endpoint.touches else _CASES_OF_SHARED):
            held += await ask(case)
        if not held and endpoint.touches:
            for case in cases.random(self.options.search):
                if (endpoint.name, case) in answers:
                    continue
                if await ask(case):
                    held += 1
                    if held == 3:
                        break
                elif endpoint.cases and endpoint.cases[-1] is case:
                    endpoint.cases.pop()  # it showed nothing
        if not endpoint.reach.above & self.by_hand:
            endpoint.held += held

    async def _seen(self, rows: list[Row], view: TenantView) -> frozenset[int]:
        if self.tenants.tenancy.policies:
            return await self.full.visible(rows, view)
        return frozenset(row.id for row in rows if row.tenant in ("", view.tenant))

    async def _each(self, endpoints: Sequence[Endpoint], work: Callable[[Endpoint], object]) -> None:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(endpoint: Endpoint) -> None:
            async with gate:
                await work(endpoint)  # type: ignore[misc]

        async with asyncio.TaskGroup() as group:
            for endpoint in endpoints:
                group.create_task(one(endpoint))

    async def _examine(
        self, suspect: Suspect, view: TenantView, others: Sequence[TenantView], own: list[Row], foreign: list[Row]
    ) -> None:
        """The worlds hold what they held when the answers differed, and do so again afterwards."""
        endpoint, case = suspect.endpoint, suspect.case
        found = await self.judge.judge(endpoint.name, view, others, case, endpoint.reach)
        if found.verdict == UNDETERMINED and not found.kind:
            endpoint.unsure = endpoint.unsure or "the same request gives another answer each time"
        if found.verdict == PASSED or not found.kind:
            return
        sure = found.verdict == LEAK
        if sure:
            self.say(f"{endpoint.name} leaks; looking for a small example")
        hurry = self.shrunk >= _SHRUNK_WELL
        shrinker = Shrinker(
            self.judge,
            self.tenants,
            endpoint.name,
            view,
            others,
            endpoint.reach,
            found.kind,
            probes=min(30, self.options.probes) if hurry else self.options.probes,
            plain=self.options.plain,
            seconds=(10.0 if hurry else 90.0) * self.options.patience,
        )
        alone, full = self.alone.loaded, self.full.loaded
        example = await shrinker.shrink(case, own, foreign)
        if example is not None and not sure:
            # With many rows their order had a say in the answer. With these few it may have none.
            again = await self.judge.judge(endpoint.name, view, shrinker.others, example.case, endpoint.reach)
            sure = again.verdict == LEAK
        if not sure:
            endpoint.unsure = endpoint.unsure or "its answer depends on the order in which rows were inserted"
            await self.alone.load(alone)
            await self.full.load(full)
            return
        endpoint.leak = example
        self.shrunk += 1
        if endpoint.leak is None and found.full is not None and found.alone is not None:
            endpoint.leak = CounterExample(
                endpoint.name,
                found.kind,
                view,
                case,
                tuple(r for r in own if r.tenant and r.table in endpoint.reach.above),
                tuple(r for r in foreign if r.table in endpoint.reach.above),
                tuple(r for r in own if not r.tenant and r.table in endpoint.reach.above),
                found.full,
                found.alone,
            )
        await self.alone.load(alone)
        await self.full.load(full)

    async def _left_empty(self, rows: list[Row]) -> frozenset[str]:
        """Targets that got nothing of these rows through their views and copies, and can be given rows."""
        await self.full.load(rows)
        self.silent |= await self.full.silent()
        found: set[str] = set()
        wanted = {table for e in self.endpoints if not e.held and not e.done for table in e.reach.tables}
        for name in wanted & self.full.snapshot.tables.keys():
            columns = self.full.snapshot.tables[name].datasource.columns
            if not any(c.type.startswith("AggregateFunction") for c in columns) and not await self.full.count(name):
                found.add(name)
        return frozenset(found)

    def results(self) -> list[EndpointResult]:
        appends = [
            EndpointResult(
                path, ProofVerdict.LEAK, _WHAT["append"], tuple({one.table for one in leak.sent}), 1, 1, leak
            )
            for path, leak in self.appends.items()
        ]
        return [self._result(endpoint) for endpoint in self.endpoints] + appends

    def _result(self, endpoint: Endpoint) -> EndpointResult:
        verdict, reason = ProofVerdict.PROVED, ""
        refusals = Counter({text: n for text, n in endpoint.statuses.items() if text})
        if endpoint.leak is not None:
            verdict, reason = ProofVerdict.LEAK, _WHAT.get(endpoint.leak.kind, "its answer changes")
        elif not endpoint.touches:
            names = ", ".join(sorted(endpoint.reach.tables)) or "no data source"
            verdict, reason = ProofVerdict.SHARED, f"reads no tenant's rows: {names}"
        elif endpoint.unsure:
            verdict, reason = ProofVerdict.UNPROVED, endpoint.unsure
        elif not endpoint.statuses[""] and refusals:
            verdict, reason = ProofVerdict.UNPROVED, f"always refused: {refusals.most_common(1)[0][0]}"
        elif mute := sorted(endpoint.reach.above & self.silent):
            verdict, reason = (
                ProofVerdict.UNPROVED,
                f"the view that fills '{mute[0]}' did not fire for the proof's rows",
            )
        elif not endpoint.held:
            verdict, reason = ProofVerdict.UNPROVED, "no answer ever held the tenant's rows"
            if unfilled := sorted(endpoint.reach.above & self.by_hand):
                reason += f": nothing came through what fills '{unfilled[0]}'; fixtures with such rows would help"
            if refusals:
                reason += f"; some requests failed: {refusals.most_common(1)[0][0]}"
            empty = [t for t in endpoint.reach.tables if t in self.full.failed_copies]
            if empty:
                reason += f"; the copy that fills {empty[0]} failed: {self.full.failed_copies[empty[0]]}"
        return EndpointResult(
            endpoint.name,
            verdict,
            reason,
            tuple(sorted(endpoint.reach.tables)),
            endpoint.requests,
            endpoint.held,
            endpoint.leak,
        )


_TELLING = ("rows", "status", "error", "columns", "order", "counts")
_WHAT = {
    "rows": "its rows change with another tenant's rows",
    "order": "the order of its rows changes with another tenant's rows",
    "counts": "what stands beside its rows changes with another tenant's rows",
    "columns": "the types of its columns change with another tenant's rows",
    "status": "whether it answers changes with another tenant's rows",
    "error": "the text of its error changes with another tenant's rows",
    "append": "what a tenant's append is answered changes with another tenant's rows",
}


def _not_deployed(files: Mapping[str, str], refused: Mapping[str, str], options: ProofOptions) -> list[EndpointResult]:
    """The endpoints of files that do not deploy."""
    try:
        project = parse_project(files)
    except ProjectError:
        project = Project()
    found: list[EndpointResult] = []
    for path, why in refused.items():
        if not path.endswith(".pipe"):
            continue
        pipe = next((p for p in project.pipes.values() if p.file == path), None)
        name = pipe.name if pipe else path.rsplit("/", 1)[-1].removesuffix(".pipe")
        if (pipe is None or pipe.endpoint) and (not options.endpoints or name in options.endpoints):
            found.append(EndpointResult(name, ProofVerdict.UNPROVED, f"does not deploy: {why.splitlines()[0][:300]}"))
    return found

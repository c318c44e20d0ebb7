"""`make differential`: every function, aggregate, clause and setting that a tenant's read may use, tried for leaks.

Each text is asked with A's token in two workspaces: over A's rows alone, and over the same rows with poisonous ones of
others in the same parts and in parts of their own. Answers, statuses and errors must be equal, byte for byte. It ends
with 1 if any differs. What was tried is kept in build/differential/state.json, so that a run that was stopped goes on;
another version of the engine, or --fresh, begins anew.

    make differential                      # all: half an hour
    make differential ARGS="--only JSON"   # functions with this in their name
    make differential ARGS=--write         # and writes platform/pipit/sql/reviewed/tried.txt
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from differential import calls
from differential.calls import COMBINED, Call, Check, Function, calls_of, combined, special_of
from differential.clauses import clause_texts, setting_texts
from differential.columns import COLUMNS
from differential.world import Difference, World, answered_alone, two_workspaces
from pipit.access.tokens import make_token
from pipit.engine import Engine
from pipit.query.examine import TELLING
from pipit.server import Config, Server, open_server
from pipit.sql.allowed import REVIEWED, function_verdict

ROOT = Path(__file__).parents[2]
STATE = ROOT / "build" / "differential" / "state.json"
TRIED = REVIEWED / "tried.txt"
_MOST_CHARACTERS = 4_000  # of the expressions in one text
_COMBINED = 6  # calls of an aggregate that are tried with each combinator
_TOGETHER = 12  # functions in one text
_SHARE = 2**32
_EVERY = 15.0  # seconds between two lines of progress


@dataclass
class Tried:
    """What became of one function, or of the clauses."""

    texts: int = 0
    answered: int = 0  # expressions that A's rows answer
    failed: int = 0  # expressions that A's own rows make fail, or that are refused
    differences: list[str] = field(default_factory=list)
    outcome: str = ""
    columns: list[str] = field(default_factory=list)  # of the expressions that were answered


@dataclass(frozen=True, slots=True)
class Expression:
    """One call of a function; `state` is what a -Merge is made over."""

    function: str
    text: str
    state: str = ""


Build = Callable[[Sequence[Expression]], str]


def _selected(expressions: Sequence[Expression]) -> str:
    return f"SELECT n, {_listed(expressions)} FROM facts ORDER BY n"


def _aggregated(expressions: Sequence[Expression]) -> str:
    return f"SELECT {_listed(expressions)} FROM facts"


def _filtered(expressions: Sequence[Expression]) -> str:
    return f"SELECT n FROM facts WHERE toString(tuple({', '.join(e.text for e in expressions)})) != 'zq' ORDER BY n"


def _merged(expressions: Sequence[Expression]) -> str:
    states = ", ".join(f"{e.state} AS s{number}" for number, e in enumerate(expressions))
    merges = ", ".join(f"{e.text.format(number)} AS x{number}" for number, e in enumerate(expressions))
    return f"SELECT {merges} FROM (SELECT e, {states} FROM facts GROUP BY e)"


def _listed(expressions: Sequence[Expression]) -> str:
    return ", ".join(f"{e.text} AS x{number}" for number, e in enumerate(expressions))


class Trial:
    """One run over the two workspaces."""

    def __init__(self, world: World, check: Check) -> None:
        self.world = world
        self.check = check
        self.differences: list[Difference] = []
        self._calls: dict[str, list[Call]] = {}  # of each function; its other names are called in the same way

    async def functions(self, group: Sequence[Function]) -> dict[str, Tried]:
        """Many expressions in each text; what fails or differs is looked for in halves of it."""
        tried = {function.name: Tried() for function in group}
        plain: list[Expression] = []
        aggregates: list[Expression] = []
        windows: list[Expression] = []
        merges: list[Expression] = []
        for function in group:
            hand, found = special_of(function, self.check), self._calls_of(function)
            tried[function.name].columns = sorted({column for call in found for column in call.columns})
            written = [Expression(function.name, text) for text in (*hand, *(call.text() for call in found))]
            plain += [] if function.aggregate else written
            aggregates += [e for e in written if function.aggregate and " OVER " not in e.text]
            windows += [e for e in written if function.aggregate and " OVER " in e.text]
            if function.aggregate and not function.alias_to:
                for combinator, call in ((one, call) for one in COMBINED for call in found[:_COMBINED]):
                    text = combined(call, combinator)
                    if combinator == "Merge":
                        state = f"{call.function}State{call.parameters}({', '.join(call.arguments)})"
                        if not self.check(state):
                            merges.append(Expression(function.name, text.replace("(s)", "(s{})"), state))
                    elif not self.check(text):
                        (windows if combinator == "over" else aggregates).append(Expression(function.name, text))
        answered = await self._many(tried, "endpoint", _selected, plain)
        await self._many(tried, "endpoint", _filtered, answered)
        of_aggregates = await self._many(tried, "endpoint", _aggregated, aggregates)
        of_windows = await self._many(tried, "endpoint", _selected, windows)
        await self._many(tried, "endpoint", _merged, merges)
        for build, some in ((_selected, [*answered, *of_windows]), (_aggregated, of_aggregates)):
            allowed = [e for e in some if not function_verdict(e.function, tenant=True)]
            await self._many(tried, "sql", build, allowed)
        for function in group:
            _judge(function, tried[function.name])
        return tried

    async def texts(self, texts: Iterable[str], *, sql: bool = True) -> Tried:
        tried = Tried(outcome="equal")
        for text in texts:
            for mode in ("endpoint", "sql") if sql else ("endpoint",):
                tried.texts += 1
                answer, difference = await self.world.compare(mode, text)
                if difference is not None:
                    self._differs(tried, difference)
                tried.answered += answer.status == 200
                tried.failed += answer.status != 200
        return tried

    def _calls_of(self, function: Function) -> list[Call]:
        name = function.alias_to or function.name
        if name not in self._calls:
            self._calls[name] = calls_of(replace(function, name=name), self.check)
        if not function.alias_to:
            return self._calls[name]
        renamed = [replace(call, function=function.name) for call in self._calls[name][:4]]
        return [call for call in renamed if not self.check(call.text())]

    async def _many(
        self, tried: dict[str, Tried], mode: str, build: Build, expressions: Sequence[Expression]
    ) -> list[Expression]:
        """Those that A is answered, the same in both."""
        pending = list(_chunks(expressions))
        answered: list[Expression] = []
        while pending:
            some = pending.pop(0)
            text = build(some)
            answer, difference = await self.world.compare(mode, text)
            for name in {one.function for one in some}:
                tried[name].texts += 1
            whole = difference is None and answer.status == 200 and text not in self.world.by_chance
            if not whole and len(some) > 1:
                half = len(some) // 2
                pending[:0] = [some[:half], some[half:]]
                continue
            if difference is not None:
                self._differs(tried[some[0].function], difference)
            elif answer.status == 200:
                answered += some
            for one in some if mode == "endpoint" and build is not _filtered else ():
                tried[one.function].answered += answer.status == 200
                tried[one.function].failed += answer.status != 200
        return answered

    def _differs(self, tried: Tried, found: Difference) -> None:
        self.differences.append(found)
        tried.differences.append(
            f"{found.mode}: {found.text}\n      alone: {found.alone.shown}\n      among others: {found.among_others.shown}"
        )


def _judge(function: Function, tried: Tried) -> None:
    if tried.differences:
        tried.outcome = "differs"
    elif function.name in TELLING:
        tried.outcome = "refused under a policy"
    elif tried.answered:
        tried.outcome = "equal"
    else:
        tried.outcome = "refused" if tried.texts else "not called"
    if function.alias_to:
        tried.outcome += f", another name of {function.alias_to}"


def _chunks(expressions: Sequence[Expression]) -> Iterator[list[Expression]]:
    some: list[Expression] = []
    size = 0
    for one in expressions:
        length = len(one.text) + len(one.state) + 8
        if some and size + length > _MOST_CHARACTERS:
            yield some
            some, size = [], 0
        some.append(one)
        size += length
    if some:
        yield some


async def functions_of(engine: Engine) -> list[Function]:
    """Every function of the engine that a project's pipes may call."""
    rows = await engine.rows(
        "SELECT name, is_aggregate, examples, alias_to, deterministic = 0 AS by_chance FROM system.functions "
        "WHERE origin = 'System' ORDER BY by_chance, name"  # those whose answers change by themselves together
    )
    every = [Function(str(r["name"]), bool(r["is_aggregate"]), str(r["examples"]), str(r["alias_to"])) for r in rows]
    return [function for function in every if not function_verdict(function.name)]


def is_chosen(name: str, seed: int, share: float) -> bool:
    """The same names for the same seed, about this share of them."""
    digest = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) < share * _SHARE


# The names that a unit says something of, and the work.
Unit = tuple[tuple[str, ...], Callable[[], Awaitable[dict[str, Tried]]]]


def units_of(
    trial: Trial, functions: Sequence[Function], *, seed: int = 1, share: float = 1.0, only: str = ""
) -> list[Unit]:
    def some(name: str, texts: Iterable[str], sql: bool) -> Unit:
        chosen = [text for text in texts if is_chosen(text, seed, share)]

        async def work() -> dict[str, Tried]:
            return {name: await trial.texts(chosen, sql=sql)}

        return (name,), work

    found = [some("clauses", clause_texts(), True), some("settings", setting_texts(), False)]
    found = [unit for unit in found if only in unit[0][0]]
    chosen = [one for one in functions if only in one.name and is_chosen(one.name, seed, share)]
    for at in range(0, len(chosen), _TOGETHER):
        group = chosen[at : at + _TOGETHER]
        found.append((tuple(one.name for one in group), partial(trial.functions, group)))
    return found


async def run(server: Server, options: argparse.Namespace) -> int:
    engine = server.engine
    version = str((await engine.rows("SELECT version() AS v"))[0]["v"])
    functions = await functions_of(engine)
    about = {"engine": version, "seed": options.seed, "share": options.share}
    state: dict[str, object] = {"about": about, "tried": {}}
    if options.state.exists() and not options.fresh:
        kept = json.loads(options.state.read_text())
        state = kept if kept.get("about") == about else state
    done: dict[str, dict[str, object]] = state["tried"]  # type: ignore[assignment]
    started = told = time.monotonic()
    async with two_workspaces(server, "differential") as world:
        trial = Trial(world, answered_alone())
        left = [one for one in functions if one.name not in done]
        units = units_of(trial, left, seed=options.seed, share=options.share, only=options.only)
        for number, (names, work) in enumerate(units):
            if names[0] in done:
                continue
            done.update({name: vars(one) for name, one in (await work()).items()})
            _keep(options.state, state)
            for line in trial.differences:
                print(f"DIFFERS  {line.mode}: {line.text}\n   alone:        {line.alone.shown}\n   among others: {line.among_others.shown}")
            trial.differences.clear()
            if time.monotonic() - told > _EVERY:
                told = time.monotonic()
                print(f"{number + 1} of {len(units)}, {world.asked} texts, {told - started:.0f} s: {names[0]}", flush=True)
        chance = len(world.by_chance)
    if options.write:
        TRIED.write_text(tried_text(functions, done), encoding="utf-8")
        print(f"wrote {TRIED}")
    return _report(version, done, time.monotonic() - started, chance)


def _keep(path: Path, state: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(state))
    part.replace(path)


def _report(version: str, done: dict[str, dict[str, object]], seconds: float, chance: int) -> int:
    texts = sum(int(str(one["texts"])) for one in done.values())
    differing = {name: one["differences"] for name, one in done.items() if one["differences"]}
    functions = {name: one for name, one in done.items() if name not in ("clauses", "settings")}
    print(f"engine {version}: {texts} texts over {len(COLUMNS)} columns, {len(functions)} functions, {seconds:.0f} s")
    print(f"{chance} texts whose answer changes by itself (now, rand) and was compared with itself")
    for outcome in ("not called", "refused"):
        names = sorted(name for name, one in functions.items() if str(one["outcome"]).partition(",")[0] == outcome)
        print(f"{outcome}: {len(names)}{': ' if names else ''}{' '.join(names)}")
    print(f"{len(differing)} differ")
    for name, found in differing.items():
        print(f"  {name}")
        for line in found if isinstance(found, list) else ():
            print(f"    {line}")
    return 1 if differing else 0


def tried_text(functions: Iterable[Function], done: Mapping[str, Mapping[str, object]]) -> str:
    """The lines of reviewed/tried.txt: name, outcome, expressions answered, texts, columns."""
    lines = []
    for function in sorted(functions, key=lambda function: function.name):
        name = function.name
        one = done.get(name) or vars(Tried(outcome="not tried yet"))
        columns = one["columns"]
        listed = " ".join(map(str, columns)) if isinstance(columns, list) else ""
        lines.append(f"{name}\t{one['outcome']}\t{one['answered']}\t{one['texts']}\t{listed}".rstrip())
    return "\n".join(lines) + "\n"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=1.0, help="of all functions and texts, chosen by the seed")
    parser.add_argument("--only", default="", help="functions with this in their name; `clauses`, `settings`")
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run tried")
    parser.add_argument("--write", action="store_true", help="write what was tried into sql/reviewed/tried.txt")
    parser.add_argument("--state", type=Path, default=STATE)
    return parser.parse_args(arguments)


async def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    with tempfile.TemporaryDirectory(prefix="pipit-differential-") as folder:
        config = Config(data_dir=Path(folder), admin_token=make_token(owner="differential"))
        async with open_server(config) as server:
            return await run(server, options)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))


__all__ = ["Trial", "calls", "functions_of", "is_chosen", "main", "run", "tried_text", "units_of"]

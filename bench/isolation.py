"""What another sender's bad rows cost: the time until A's events are readable, with B's bad ones in the same segment.

All requests are of one size and sent at once. All but one are A's. In that one, of another sender, no row is bad
(clean), or as many as one of a hundred of all rows. The table refuses them (`type`), or its view does (`view`); of
`json-`, a table with a JSON column. `first`: its sender never sent a bad row, and neither did anybody else to that
table. `again`: the same once more. Each line is of tables of its own in each round, made and warmed up with as many
rows before the clock runs: the longer the last insert took, the longer an open segment waits. Each figure is the
fastest of the rounds, since what else the machine does only adds to it; ratios are to the clean segment.

readable: from the first byte until a query that is asked again and again finds A's rows in the table and in the view,
without `wait` and with it. answered: until the last answer of A with `wait=true`.

Then A sends alone, and beside B, who sends bad events only, each waiting for its answer. `--one-sender`: all have the
same token, so A's rows are looked at first as B's are.

    .venv/bin/python bench/isolation.py [--rows 1000 10000 100000] [--requests 2 10 60] [--rounds 5]
        [--kinds type view json-type json-view]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from pipit.datafiles.resources import Column, DataSource
from pipit.engine import Engine, open_engine
from pipit.ingest import AppendResult, Ingest, Target
from pipit.tables import Locks
from pipit.tables.quarantine import create_quarantine
from pipit.tables.settings import table_settings

COLUMNS = tuple(
    Column(name, type, f"$.{name}")
    for name, type in (
        ("tenant", "LowCardinality(String)"),
        ("at", "DateTime('UTC')"),
        ("page", "String"),
        ("amount", "String"),
        ("latency", "Float32"),
        ("id", "UInt64"),
    )
)
JSON = (*COLUMNS, Column("data", "JSON", "$.data"))
KINDS = ("type", "view", "json-type", "json-view")
BAD: dict[str, dict[str, object]] = {"type": {"id": "none"}, "view": {"amount": "none"}}
PAUSE = 0.004  # between two questions whether the rows are there
numbers = itertools.count(1)


class Took(NamedTuple):
    """Seconds."""

    readable: float
    answered: float


async def make(engine: Engine, kind: str = "type") -> Target:
    """A table with a view, as a deploy makes them."""
    has = JSON if kind.startswith("json") else COLUMNS
    of = f"{next(numbers)}_events"
    settings = ", ".join(f"{k} = {v}" for k, v in table_settings().items())
    columns = ", ".join(f"{c.name} {c.type}" for c in has)
    for statement in (
        "CREATE DATABASE IF NOT EXISTS bench",
        f"CREATE TABLE bench.d{of} ({columns}) ENGINE = MergeTree ORDER BY (tenant, at) SETTINGS {settings}",
        create_quarantine(DataSource("events", "", has), "bench", f"q{of}"),
        f"CREATE TABLE bench.v{of} (tenant LowCardinality(String), day Date, events UInt64, total UInt64) "
        f"ENGINE = SummingMergeTree ORDER BY (tenant, day) SETTINGS {settings}",
        f"CREATE MATERIALIZED VIEW bench.m{of} TO bench.v{of} AS SELECT tenant, toDate(at) AS day, count() AS events, "
        f"sum(toUInt32(amount)) AS total FROM bench.d{of} GROUP BY tenant, day",
    ):
        await engine.command(statement)
    return Target("bench", f"d{of}", f"q{of}", has)


def body(tenant: str, rows: int, bad: int = 0, kind: str = "view") -> bytes:
    """The bad ones stand among the others."""
    row = {"tenant": tenant, "at": "2026-03-09 10:00:00", "page": "/a/longer/page?with=more", "amount": "5"}
    lines = []
    for n in range(rows):
        one: dict[str, object] = row | {"latency": n % 7, "id": n}
        if kind.startswith("json"):
            one |= {"data": {"plan": "free", "clicks": n % 5, "from": {"country": "pt", "mobile": n % 2 == 0}}}
        if n * bad // rows < (n + 1) * bad // rows:
            one |= BAD[kind.removeprefix("json-")]
        lines.append(json.dumps(one))
    return "".join(f"{line}\n" for line in lines).encode()


class Stand:
    """One table, and what is sent to it."""

    def __init__(self, engine: Engine, ingest: Ingest, target: Target) -> None:
        self.engine, self.ingest, self.target = engine, ingest, target

    async def readable(self, tenant: str, rows: int) -> float:
        events, daily = (f"bench.{letter}{self.target.table[1:]}" for letter in "dv")
        question = (
            f"SELECT (SELECT count() FROM {events} WHERE tenant = '{tenant}') AS a, "
            f"(SELECT sum(events) FROM {daily} WHERE tenant = '{tenant}') AS b"
        )
        while True:
            (found,) = await self.engine.rows(question)
            if found["a"] == found["b"] == rows:
                return time.perf_counter()
            await asyncio.sleep(PAUSE)

    async def send(self, rows: int, requests: int, bad: int, kind: str, me: str, them: str, *, wait: bool) -> Took:
        tenant, each = f"a{next(numbers)}", rows // requests
        mine, theirs = body(tenant, each, 0, kind), body("b", each, bad, kind)

        async def one(body: bytes, scope: str) -> tuple[float, AppendResult]:
            answer = await self.ingest.append(self.target, body, wait=wait, scope=scope)
            return time.perf_counter(), answer

        began = time.perf_counter()
        sent = [one(mine, me) for _ in range(requests - 1)]
        sent.insert(len(sent) // 2, one(theirs, them))
        *answers, there = await asyncio.gather(*sent, self.readable(tenant, each * (requests - 1)))
        while not await self.ingest.drain("bench", self.target.table):
            pass
        _, other = answers.pop((requests - 1) // 2)
        # Of rows that a view refuses, those that it takes are told apart only up to a bound.
        if wait:
            assert other.loaded
            assert other.quarantined_rows == bad or (kind.endswith("view") and other.quarantined_rows > bad > 0)
        assert all(answer.loaded is wait and not answer.quarantined_rows for _, answer in answers)
        refused = await self.engine.rows(f"SELECT count() AS n FROM bench.{self.target.quarantine_table}")
        await self.engine.command(f"TRUNCATE TABLE bench.{self.target.quarantine_table}")
        assert refused[0]["n"] >= bad, (refused, bad)
        return Took(there - began, max(at for at, _ in answers) - began)


async def mixed(engine: Engine, ingest: Ingest, kind: str, rows: int, requests: int, rounds: int, one: bool) -> str:
    bad = max(rows // 100, 1)
    taken: list[list[Took]] = []
    for wait in (False, True):
        for _ in range(rounds):
            stand = Stand(engine, ingest, await make(engine, kind))
            me, them = "a", "a" if one else "b"
            for _ in range(2):
                await stand.send(rows, requests, 0, kind, me, them, wait=True)
            taken += [[await stand.send(rows, requests, n, kind, me, them, wait=wait) for n in (0, bad, bad)]]
    shown = f"{kind:<9}  {rows:>7} rows, {requests:>3} requests"
    for mode, what in ((taken[:rounds], 0), (taken[rounds:], 0), (taken[rounds:], 1)):
        clean, first, again = (min(round[n][what] for round in mode) for n in range(3))
        shown += f"  {clean * 1000:9.1f} ms {first / clean:6.2f} {again / clean:6.2f}"
    return shown


async def flood(engine: Engine, ingest: Ingest, requests: int) -> None:
    target = await make(engine)

    async def mine(until: asyncio.Event | None) -> list[float]:
        took: list[float] = []
        while len(took) < 10 or (until and not until.is_set()):
            began = time.perf_counter()
            await ingest.append(target, body("a", 100), wait=True, scope="a")
            took.append(time.perf_counter() - began)
        return took

    def bad_one(n: int) -> bytes:
        return body(f"b{n}", 1, 1)

    alone = await mine(None)
    over = asyncio.Event()
    beside = asyncio.create_task(mine(over))
    await asyncio.gather(*(ingest.append(target, bad_one(n), wait=True, scope="b") for n in range(requests)))
    for n in range(10):  # and one by one
        await ingest.append(target, bad_one(n), wait=True, scope="b")
    over.set()
    disturbed = await beside
    print(
        f"{requests} bad requests    {statistics.median(alone) * 1000:9.1f} ms  "
        f"{statistics.median(disturbed) * 1000:9.1f} ms  {max(disturbed) * 1000:9.1f} ms at most"
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--requests", type=int, nargs="+", default=[2, 10, 60])
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bad", type=int, default=60, help="requests of the flood; 0: none")
    parser.add_argument("--one-sender", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        async with open_engine(Path(folder)) as engine:
            ingest = Ingest(engine, Path(folder), Locks(), wait_seconds=60)
            await ingest.start()
            shown = ("without wait: readable", "wait=true: readable", "wait=true: answered")
            print(" " * 38, *(f"{what:^26}" for what in shown))
            print(" " * 38, *(f"{'clean':>11}   first  again" for _ in shown))
            for kind in chosen.kinds:
                for rows in chosen.rows:
                    for requests in chosen.requests:
                        one = (kind, rows, requests, chosen.rounds, chosen.one_sender)
                        print(await mixed(engine, ingest, *one), flush=True)
            if chosen.bad:
                await flood(engine, ingest, chosen.bad)
            await ingest.close()


if __name__ == "__main__":
    asyncio.run(main())

"""What another sender's bad rows cost: the time until A's events are readable in a view, with B's bad ones beside them.

Each round sends the same requests three times, in turn: A's with good rows of another sender; A's with the bad rows of
one who sent none before (one row of a hundred, in one request), which the view refuses; and A's with those of B, who
did. The clock runs from the first byte to the last answer of A with `wait=true`. Then A sends alone, and beside B, who
sends bad events only, each waiting for its answer. `--one-sender`: all have the same token, so A's rows are looked at
first as B's are.

    .venv/bin/python bench/isolation.py [--rows 200 2000 20000] [--rounds 5] [--bad 60]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from pipit.datafiles.resources import Column, DataSource
from pipit.engine import Engine, open_engine
from pipit.ingest import Ingest, Target
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
TARGET = Target("bench", "d1_events", "q1_events", COLUMNS)


async def make(engine: Engine) -> None:
    settings = ", ".join(f"{k} = {v}" for k, v in table_settings().items())
    columns = ", ".join(f"{c.name} {c.type}" for c in COLUMNS)
    for statement in (
        "CREATE DATABASE bench",
        f"CREATE TABLE bench.d1_events ({columns}) ENGINE = MergeTree ORDER BY (tenant, at) SETTINGS {settings}",
        create_quarantine(DataSource("events", "", COLUMNS), "bench", "q1_events"),
        "CREATE TABLE bench.d1_daily (tenant LowCardinality(String), day Date, total UInt64) "
        f"ENGINE = SummingMergeTree ORDER BY (tenant, day) SETTINGS {settings}",
        "CREATE MATERIALIZED VIEW bench.m1_daily TO bench.d1_daily AS SELECT tenant, toDate(at) AS day, "
        "sum(toUInt32(amount)) AS total FROM bench.d1_events GROUP BY tenant, day",
    ):
        await engine.command(statement)


def body(tenant: str, rows: int, amount: str = "5") -> bytes:
    row = {"tenant": tenant, "at": "2026-03-09 10:00:00", "page": "/a/longer/page?with=more", "amount": amount}
    return b"".join(json.dumps(row | {"latency": n % 7, "id": n}).encode() + b"\n" for n in range(rows))


async def together(ingest: Ingest, mine: list[bytes], theirs: bytes, bad: int, me: str, them: str) -> float:
    """Seconds until the last of A's requests is answered; all are in one segment."""
    began = time.perf_counter()
    other = asyncio.create_task(ingest.append(TARGET, theirs, wait=True, scope=them))
    answers = await asyncio.gather(*(ingest.append(TARGET, one, wait=True, scope=me) for one in mine))
    took = time.perf_counter() - began
    assert all(answer.loaded and not answer.quarantined_rows for answer in answers)
    assert (await other).quarantined_rows == bad
    return took


async def mixed(ingest: Ingest, rows: int, rounds: int, one_sender: bool) -> None:
    bad = max(rows // 100, 1)
    mine = [body("a", rows // 10) for _ in range(10)]
    good_ones, bad_ones = body("b", bad), body("b", bad, "none")
    taken = []
    for number in range(rounds + 1):
        new = f"{rows} {number}"
        clean = await together(ingest, mine, good_ones, 0, f"a {new}", f"c {new}")
        first = await together(ingest, mine, bad_ones, bad, f"a {new}", f"b {new}")
        again = await together(ingest, mine, bad_ones, bad, "b" if one_sender else "a", "b")
        taken.append((clean, first, again))
    clean, first, again = (statistics.median(one) * 1000 for one in zip(*taken[1:], strict=True))
    ratio_first = statistics.median(b / a for a, b, _ in taken[1:])
    ratio = statistics.median(c / a for a, _, c in taken[1:])
    print(f"{rows:>8} rows, {bad:>3} bad  {clean:9.1f} ms  {first:9.1f} ms {ratio_first:6.2f}", end="")
    print(f"  {again:9.1f} ms {ratio:6.2f}")


async def flood(ingest: Ingest, requests: int) -> None:
    async def mine(until: asyncio.Event | None) -> list[float]:
        took: list[float] = []
        while len(took) < 10 or (until and not until.is_set()):
            began = time.perf_counter()
            await ingest.append(TARGET, body("a", 100), wait=True, scope="a")
            took.append(time.perf_counter() - began)
        return took

    alone = await mine(None)
    over = asyncio.Event()
    beside = asyncio.create_task(mine(over))
    await asyncio.gather(
        *(ingest.append(TARGET, body("b", 1, f"none {n}"), wait=True, scope="b") for n in range(requests))
    )
    for n in range(10):  # and one by one
        await ingest.append(TARGET, body("b", 1, f"none {n}"), wait=True, scope="b")
    over.set()
    disturbed = await beside
    print(
        f"{requests} bad requests    {statistics.median(alone) * 1000:9.1f} ms  "
        f"{statistics.median(disturbed) * 1000:9.1f} ms  {max(disturbed) * 1000:9.1f} ms at most"
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[200, 2_000, 20_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bad", type=int, default=60)
    parser.add_argument("--one-sender", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        async with open_engine(Path(folder)) as engine:
            await make(engine)
            ingest = Ingest(engine, Path(folder), Locks(), wait_seconds=60)
            await ingest.start()
            print(f"{'':22}  {'without':>9}     {'first bad':>9}     ratio  {'bad again':>9}     ratio")
            for rows in chosen.rows:
                await mixed(ingest, rows, chosen.rounds, chosen.one_sender)
            await flood(ingest, chosen.bad)
            await ingest.close()


if __name__ == "__main__":
    asyncio.run(main())

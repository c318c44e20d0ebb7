"""What it takes to make a table of many rows anew, against the engine's own INSERT SELECT of the same rows.

    .venv/bin/python bench/rebuild.py [--rows 10000000] [--seconds 5]

In the same run: `engine` is the engine's own `INSERT INTO ... SELECT` of all rows into a table of the new definition,
and `Pipit` a whole deploy, unthrottled, until it is live, with the targets of views. `ratio` is the first to the
second: with another sorting key, where no value changes, and with a text that becomes a number, where each is checked.
Then a deploy that gives way to queries: `p50` of an endpoint's requests, one after the other, before and during it; and
again with events that come all the time, and how long those took to be acknowledged and to be in the table.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

import aiohttp
from stand import pipit

from pipit.datafiles import parse_project
from pipit.server import Server
from pipit.sql.identifiers import quote
from pipit.tables.ddl import create_table

EVENTS = """\
SCHEMA >
    at DateTime `json:$.at`,
    tenant String `json:$.tenant`,
    code String `json:$.code`,
    amount Int64 `json:$.amount`

ENGINE MergeTree
ENGINE_SORTING_KEY tenant, at
"""
DAILY = """\
SCHEMA >
    day Date,
    tenant String,
    total SimpleAggregateFunction(sum, Int64)

ENGINE AggregatingMergeTree
ENGINE_SORTING_KEY tenant, day
"""
TO_DAILY = """\
NODE sums
SQL >
    SELECT toDate(at) AS day, tenant, sum(amount) AS total FROM events GROUP BY day, tenant

TYPE materialized
DATASOURCE daily
"""
TOP = """\
NODE endpoint
SQL >
    %
    SELECT toDate(at) AS day, count() AS n, sum(amount) AS total FROM events
    WHERE tenant = {{String(tenant, 't7')}} GROUP BY day ORDER BY day

TYPE endpoint
"""
BASE = {
    "datasources/events.datasource": EVENTS,
    "datasources/daily.datasource": DAILY,
    "materializations/to_daily.pipe": TO_DAILY,
    "endpoints/top.pipe": TOP,
}
_EVENTS = "datasources/events.datasource"
SORTED = BASE | {_EVENTS: EVENTS.replace("tenant, at", "tenant, code, at")}
NUMBER = BASE | {_EVENTS: EVENTS.replace("code String", "code UInt32")}
_PIECE = 2_000_000  # rows that are made at once


async def fill(server: Server, rows: int) -> None:
    snapshot = server.catalog.default
    table = snapshot.tables["events"]
    into = f"{quote(table.database)}.{quote(table.physical)}"
    for first in range(0, rows, _PIECE):
        await server.engine.command(
            f"INSERT INTO {into} SELECT toDateTime('2026-01-01') + number % 8000000, "
            f"concat('t', toString(number % 500)), toString(number % 100000), number "
            f"FROM numbers({first}, {min(_PIECE, rows - first)})"
        )


async def by_engine(server: Server, files: dict[str, str]) -> float:
    """Of the live rows, into a table as these files have it; a value that does not fit becomes another one."""
    table = server.catalog.default.tables["events"]
    await server.engine.command(create_table(parse_project(files).datasources["events"], table.database, "by_hand"))
    into, source = (f"{quote(table.database)}.{quote(name)}" for name in ("by_hand", table.physical))
    columns = ", ".join(quote(column.name) for column in table.datasource.columns)
    started = time.perf_counter()
    await server.engine.command(f"INSERT INTO {into} ({columns}) SELECT {columns} FROM {source}")
    seconds = time.perf_counter() - started
    await server.engine.command(f"DROP TABLE {into} SYNC")
    return seconds


async def timed_deploy(server: Server, files: dict[str, str], *, unthrottled: bool) -> float:
    started = time.perf_counter()
    await server.deployer.deploy(server.catalog.default.workspace.id, files, unthrottled=unthrottled)
    return time.perf_counter() - started


async def asking(session: aiohttp.ClientSession, url: str, until: asyncio.Event) -> list[float]:
    found: list[float] = []
    while not until.is_set():
        started = time.perf_counter()
        async with session.get(f"{url}/v0/pipes/top.json?tenant=t{len(found) % 500}") as response:
            await response.read()
            assert response.status == 200
        found.append(time.perf_counter() - started)
    return found


async def sending(session: aiohttp.ClientSession, url: str, until: asyncio.Event, wait: str) -> list[float]:
    found: list[float] = []
    while not until.is_set():
        row = '{"at": "2026-02-01 00:00:00", "tenant": "t7", "code": "7", "amount": 1}\n'
        started = time.perf_counter()
        async with session.post(f"{url}/v0/events?name=events&wait={wait}", data=row) as response:
            assert response.status in (200, 202), await response.text()
        found.append(time.perf_counter() - started)
        await asyncio.sleep(0.02)
    return found


async def throttled(server: Server, session: aiohttp.ClientSession, url: str, seconds: float, *, events: bool) -> None:
    """Requests before a deploy and during it, `events` in both."""
    found: list[list[list[float]]] = []
    took = 0.0
    for deploys in (False, True):
        until = asyncio.Event()
        load = [asking(session, url, until)]
        load += [sending(session, url, until, wait) for wait in ("false", "true")] if events else []
        tasks = [asyncio.ensure_future(one) for one in load]
        if deploys:
            took = await timed_deploy(server, SORTED, unthrottled=False)
        else:
            await asyncio.sleep(seconds)
        until.set()
        found.append(await asyncio.gather(*tasks))
    await server.deployer.rollback(server.catalog.default.workspace.id)
    (before, *sent_before), (during, *sent) = found
    idle, busy = p(before, 0.5), p(during, 0.5)
    name = "with events" if events else "throttled"
    print(f"{name:14} {took:.2f} s   p50 {idle:.1f} ms before, {busy:.1f} during: {busy / idle:.2f} times")
    for what, quiet, times in zip(("acknowledged", "in the table"), sent_before, sent, strict=False):
        print(f"  {what:12} p50 {p(quiet, 0.5):.0f} ms before, {p(times, 0.5):.0f} during; p99 {p(times, 0.99):.0f} ms")


def p(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1000


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=float, default=5)
    asked = parser.parse_args()
    async with pipit() as (server, port), aiohttp.ClientSession() as session:
        session.headers["Authorization"] = f"Bearer {server.config.admin_token}"
        url = f"http://127.0.0.1:{port}"
        await timed_deploy(server, BASE, unthrottled=True)
        await fill(server, asked.rows)
        print(f"{asked.rows:,} rows")
        for name, files in (("no casts", SORTED), ("checked casts", NUMBER)):
            engine = [await by_engine(server, files)]
            made = await timed_deploy(server, files, unthrottled=True)
            await server.deployer.rollback(server.catalog.default.workspace.id)
            engine.append(await by_engine(server, files))
            raw = statistics.mean(engine)
            print(f"{name:14} engine {raw:7.2f} s   Pipit {made:7.2f} s   ratio {raw / made:5.2f}")
        await throttled(server, session, url, asked.seconds, events=False)
        await throttled(server, session, url, asked.seconds, events=True)


if __name__ == "__main__":
    asyncio.run(main())

"""What a deploy takes: a project of many pipes for the first time, once more unchanged, and with one pipe changed.

    .venv/bin/python bench/deploy.py [--pipes 200] [--datasources 50] [--views 20] [--rounds 3]

`engine` is the raw engine's part of the same work in the same run: the project's tables and views made in a database of
their own, and each pipe's statement explained once, with nothing around it. `engine, one pipe` is that for the changed
pipe and the tables that it reads. Medians of the rounds, and their ratios to that. Goals: 0.2 s where nothing changed,
and 1.5 of the engine's own time for one changed pipe.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable

from stand import pipit

from pipit.catalog.lineage import tables_read
from pipit.catalog.snapshot import CompiledPipe, Snapshot
from pipit.deploy.views import match_of, views_of
from pipit.query.compose import Composer
from pipit.server import Server
from pipit.sql.identifiers import quote
from pipit.tables.ddl import create_table
from pipit.templates import Binder

EVENTS = """\
SCHEMA >
    at DateTime `json:$.at`,
    tenant String `json:$.tenant`,
    kind String `json:$.kind`,
    amount Int64 `json:$.amount`

ENGINE MergeTree
ENGINE_SORTING_KEY tenant, at

ROW_POLICY tenant = {{String(context.tenant)}}
"""
DAILY = """\
SCHEMA >
    day Date,
    tenant String,
    total SimpleAggregateFunction(sum, Int64)

ENGINE AggregatingMergeTree
ENGINE_SORTING_KEY tenant, day

ROW_POLICY tenant = {{String(context.tenant)}}
"""
TO_DAILY = """\
NODE sums
SQL >
    SELECT toDate(at) AS day, tenant, sum(amount) AS total FROM events_@source GROUP BY day, tenant

TYPE materialized
DATASOURCE daily_@number
"""
TOP = """\
NODE rows
SQL >
    %
    SELECT tenant, kind, amount FROM events_@source
    WHERE at >= {{DateTime(since, '2026-01-01 00:00:00')}}
    {% if defined(kind) %} AND kind = {{String(kind)}} {% end %}

NODE endpoint
SQL >
    %
    SELECT kind, sum(amount) AS total FROM rows GROUP BY kind ORDER BY total DESC LIMIT {{Int32(limit, 10)}}

TYPE endpoint
"""


def project(datasources: int, views: int, pipes: int) -> dict[str, str]:
    """Tables with policies, views over them, and endpoints of two nodes with parameters."""

    def text(template: str, number: int) -> str:
        return template.replace("@source", str(number % datasources)).replace("@number", str(number))

    return {
        **{f"datasources/events_{n}.datasource": EVENTS for n in range(datasources)},
        **{f"datasources/daily_{n}.datasource": DAILY for n in range(views)},
        **{f"materializations/to_daily_{n}.pipe": text(TO_DAILY, n) for n in range(views)},
        **{f"endpoints/top_{n}.pipe": text(TOP, n) for n in range(pipes - views)},
    }


async def timed(work: Awaitable[object]) -> float:
    started = time.perf_counter()
    await work
    return time.perf_counter() - started


async def by_hand(server: Server, snapshot: Snapshot) -> None:
    """The engine's part alone, in a database that is dropped again."""
    engine, database = server.engine, "bench_by_hand"
    await engine.command(f"CREATE DATABASE {quote(database)}")
    for table in snapshot.tables.values():
        await engine.command(create_table(table.datasource, database, table.physical))
    await views_by_hand(server, snapshot, database)
    for pipe in snapshot.pipes.values():
        await explain(server, snapshot, pipe)
    await engine.command(f"DROP DATABASE {quote(database)} SYNC")


async def one_by_hand(server: Server, snapshot: Snapshot, pipe: CompiledPipe) -> None:
    """The same for one pipe."""
    engine, database = server.engine, "bench_by_hand"
    await engine.command(f"CREATE DATABASE {quote(database)}")
    for name in {name for node in pipe.nodes.values() for name in tables_read(snapshot, pipe, node)}:
        table = snapshot.tables[name]
        await engine.command(create_table(table.datasource, database, table.physical))
    await explain(server, snapshot, pipe)
    await engine.command(f"DROP DATABASE {quote(database)} SYNC")


async def views_by_hand(server: Server, snapshot: Snapshot, database: str) -> None:
    engine = server.engine
    for number, view in enumerate(views_of(snapshot, Composer()).values()):
        columns = ", ".join(map(quote, (await match_of(engine, view)).columns))
        into = f"{quote(database)}.{quote(view.target.physical)}"
        name = f"{quote(database)}.{quote(f'm{number}')}"
        await engine.command(f"CREATE MATERIALIZED VIEW {name} TO {into} AS SELECT {columns} FROM ({view.sql})")


async def explain(server: Server, snapshot: Snapshot, pipe: CompiledPipe) -> None:
    for node in pipe.nodes.values():
        binder = Binder(placeholder=True)
        composed = Composer().pipe(snapshot, pipe, node, {}, binder)
        await server.engine.rows(f"EXPLAIN QUERY TREE {composed.sql}", binder.params)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pipes", type=int, default=200)
    parser.add_argument("--datasources", type=int, default=50)
    parser.add_argument("--views", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    files = project(asked.datasources, asked.views, asked.pipes)
    changed = files | {"endpoints/top_0.pipe": files["endpoints/top_0.pipe"].replace("10)", "20)")}
    found: dict[str, list[float]] = {
        name: [] for name in ("first", "unchanged", "again", "one pipe", "engine", "engine, one pipe")
    }
    for _ in range(asked.rounds):
        async with pipit() as (server, _port):
            id = server.catalog.default.workspace.id
            found["first"].append(await timed(server.deployer.deploy(id, files)))
            found["unchanged"].append(await timed(server.deployer.deploy(id, files)))
            found["again"].append(await timed(server.deployer.deploy(id, files)))
            found["one pipe"].append(await timed(server.deployer.deploy(id, changed)))
            snapshot = server.catalog.snapshot(id)
            found["engine"].append(await timed(by_hand(server, snapshot)))
            one = snapshot.pipes["top_0"]
            found["engine, one pipe"].append(await timed(one_by_hand(server, snapshot, one)))
    print(f"{asked.pipes} pipes, {asked.datasources + asked.views} data sources")
    for name, seconds in found.items():
        print(f"{name:18} {statistics.median(seconds):8.3f} s")
    for name, base in (("first", "engine"), ("one pipe", "engine, one pipe")):
        ratio = statistics.median(a / b for a, b in zip(found[name], found[base], strict=True))
        print(f"ratio, {name:11} {ratio:8.2f}")


if __name__ == "__main__":
    asyncio.run(main())

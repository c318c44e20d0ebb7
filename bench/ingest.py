"""How fast events are written: Pipit's HTTP against the engine's own INSERT ... SELECT FROM file() of the same rows.

Each figure is a ratio of one run: the time of the engine's insert of all rows from one NDJSON file into a table of the
same columns, partitions and views (as the engine makes tables: nothing is synced), over the time of the same rows
through `POST /v0/events` on 4 connections. `wait`: until the last answer of `wait=true`. `readable`: without `wait`,
until a query finds all rows, in the views too. The two take turns, and the medians of the rounds are shown.

Single events: on 64 connections, as a ratio to an empty 202 of the same server; and under that load, how long after it
is sent an event is found by a query. And many tenants, each with values that its own token fixes, as a ratio to one.
The load comes from a process of its own.

    .venv/bin/python bench/ingest.py [--rows 100000] [--rounds 3] [--tables one hundred views] [--seconds 5]
        [--tenants 10000] [--profile]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import uvloop
from load import cores
from stand import pipit
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from pipit.datafiles import read_project

COLUMNS = {
    "id": "UInt64", "tenant": "LowCardinality(String)", "at": "DateTime", "page": "String", "referrer": "String",
    "agent": "String", "amount": "Int64", "latency": "Float64", "country": "LowCardinality(String)",
}  # fmt: skip
TABLES = {"one": "", "hundred": "toDate(at)", "views": ""}
CONNECTIONS, SINGLES = 4, 64
BODIES = {"1 MB": 4_000, "20,000 rows": 20_000}


def project(folder: Path) -> Path:
    for name, partition in TABLES.items():
        schema = ",\n".join(f"    `{column}` {type} `json:$.{column}`" for column, type in COLUMNS.items())
        key = f'ENGINE_PARTITION_KEY "{partition}"\n' if partition else ""
        text = f'SCHEMA >\n{schema}\n\nENGINE "MergeTree"\n{key}ENGINE_SORTING_KEY "tenant, at"\n'
        (folder / f"{name}.datasource").write_text(text)
    for name, select in (
        ("daily", "SELECT tenant, toDate(at) AS day, count() AS events FROM views GROUP BY tenant, day"),
        ("pages", "SELECT page AS tenant, toDate(at) AS day, count() AS events FROM views GROUP BY tenant, day"),
    ):
        (folder / f"{name}.datasource").write_text(
            "SCHEMA >\n    `tenant` LowCardinality(String),\n    `day` Date,\n    `events` UInt64\n\n"
            'ENGINE "SummingMergeTree"\nENGINE_SORTING_KEY "tenant, day"\n'
        )
        (folder / f"to_{name}.pipe").write_text(
            f"NODE counting\nSQL >\n    {select}\nTYPE materialized\nDATASOURCE {name}\n"
        )
    return folder


def lines(rows: int, first: int = 0) -> list[bytes]:
    """Some 250 bytes each, of 100 days in turn."""
    return [
        json.dumps(
            {
                "id": n,
                "tenant": f"tenant_{n % 40}",
                "at": f"2026-{1 + n % 100 // 25:02}-{1 + n % 25:02} {n // 3600 % 24:02}:{n // 60 % 60:02}:{n % 60:02}",
                "page": f"/products/{n % 977}/a-page-with-a-name",
                "referrer": f"https://www.example.com/search?q={n % 7919}",
                "agent": "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101",
                "amount": n * 37 % 100_000,
                "latency": n % 1000 / 7,
                "country": ("DE", "FR", "US", "JP")[n % 4],
            }
        ).encode()
        + b"\n"
        for n in range(first, first + rows)
    ]


class Stand:
    """In the serving process: what the other one asks for, besides HTTP."""

    def __init__(self, server: Any, folder: Path) -> None:
        self.server, self.engine = server, server.engine
        snapshot = server.catalog.snapshot(server.catalog.default.workspace.id)
        self.database = snapshot.workspace.database
        self.tables = {name: table.physical for name, table in snapshot.tables.items()}
        self.file = folder / "segments" / "bench.ndjson"
        self.loads = 0

    async def write(self, rows: int) -> None:
        self.file.write_bytes(b"".join(lines(rows)))

    async def insert(self, table: str) -> float:
        """The engine's own, into new tables. How long it took."""
        columns = ", ".join(f"{name} {type}" for name, type in COLUMNS.items())
        key = f"PARTITION BY {TABLES[table]} " if TABLES[table] else ""
        self.loads += 1
        into = f"own.t{self.loads}"
        statements = [
            "CREATE DATABASE IF NOT EXISTS own",
            f"CREATE TABLE {into} ({columns}) ENGINE = MergeTree {key}ORDER BY (tenant, at)",
        ]
        for name in ("tenant", "page") if table == "views" else ():
            statements += [
                f"CREATE TABLE {into}_{name} (tenant LowCardinality(String), day Date, events UInt64) "
                "ENGINE = SummingMergeTree ORDER BY (tenant, day)",
                f"CREATE MATERIALIZED VIEW {into}_{name}_view TO {into}_{name} AS SELECT {name} AS tenant, "
                f"toDate(at) AS day, count() AS events FROM {into} GROUP BY tenant, day",
            ]
        for statement in statements:
            await self.engine.command(statement)
        began = time.perf_counter()
        structure = columns.replace("LowCardinality(String)", "String")
        await self.engine.command(f"INSERT INTO {into} SELECT * FROM file('{self.file}', 'JSONEachRow', '{structure}')")
        took = time.perf_counter() - began
        for name in ("_tenant_view", "_page_view", "_tenant", "_page", ""):
            await self.engine.command(f"DROP TABLE IF EXISTS {into}{name} SYNC")
        return took

    async def empty(self, table: str) -> None:
        assert await self.server.ingest.drain(self.database, self.tables[table])
        for name in (table, "daily", "pages"):
            await self.engine.command(f"TRUNCATE TABLE `{self.database}`.`{self.tables[name]}`")

    async def readable(self, table: str, rows: int) -> float:
        names = [table, *(("daily", "pages") if table == "views" else ())]
        sums = [
            f"(SELECT {'count()' if n == table else 'sum(events)'} FROM `{self.database}`.`{self.tables[n]}`) AS {n}"
            for n in names
        ]
        while True:
            (found,) = await self.engine.rows(f"SELECT {', '.join(sums)}")
            if all(found[name] == rows for name in names):
                return time.perf_counter()
            assert all(found[name] <= rows for name in names), found
            await asyncio.sleep(0.005)

    async def found(self, table: str, id: int) -> float:
        while True:
            into = f"`{self.database}`.`{self.tables[table]}`"
            (row,) = await self.engine.rows(f"SELECT count() AS n FROM {into} WHERE tenant = 'prober' AND id = {id}")
            if row["n"]:
                return time.perf_counter()
            await asyncio.sleep(0.005)


async def empty_answer(_: Any) -> Response:
    return Response(status_code=202)


async def serve(profile: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        empty = Starlette(routes=[Route("/empty", empty_answer, methods=["POST"])])
        async with pipit(profile, beside=empty) as (server, port):
            workspace = server.catalog.default.workspace
            await server.deployer.deploy(workspace.id, read_project(project(Path(folder))))
            stand = Stand(server, server.config.data_dir)
            print(json.dumps({"port": port, "token": workspace.admin_token, "workspace": workspace.id}), flush=True)
            loop = asyncio.get_running_loop()
            while line := await loop.run_in_executor(None, sys.stdin.readline):
                name, *arguments = json.loads(line)
                print(json.dumps(await getattr(stand, name)(*arguments)), flush=True)


class Served:
    """The serving process, from outside. Its clock is this one's: both are the machine's monotonic one."""

    def __init__(self, process: asyncio.subprocess.Process, said: dict[str, Any]) -> None:
        self.process, self.port, self.token = process, said["port"], said["token"]
        self.workspace = said["workspace"]

    async def ask(self, *command: Any) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        return json.loads(await self.process.stdout.readline())

    def request(self, path: str, body: bytes, token: str = "") -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token or self.token}\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def served(profile: str) -> AsyncIterator[Served]:
    command = [sys.executable, __file__, "--serve", *(["--into", profile] if profile else [])]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=1 << 24
    )
    assert process.stdin and process.stdout
    try:
        yield Served(process, json.loads(await process.stdout.readline()))
    finally:
        process.stdin.close()
        await process.wait()


async def send(port: int, requests: Sequence[bytes], connections: int, until: float = 0.0) -> list[float]:
    """Each once, or in turn until that time; how long each took."""
    taken: list[float] = []
    turn = iter(range(len(requests))) if not until else iter(int, 1)
    number = 0

    async def keep_sending() -> None:
        nonlocal number
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for n in turn:
            number += 1
            began = time.perf_counter()
            if until and began > until:
                break
            writer.write(requests[n if not until else number % len(requests)])
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            assert head[9:12] in (b"200", b"202"), head + await reader.read(500)
            await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
            taken.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*(keep_sending() for _ in range(connections)))
    return taken


async def bodies(on: Served, table: str, rows: int, rounds: int) -> None:
    all_lines = lines(rows)
    await on.ask("write", rows)
    for what, size in BODIES.items():
        parts = [b"".join(all_lines[n : n + size]) for n in range(0, rows, size)]
        ratios: dict[bool, list[float]] = {True: [], False: []}
        times: dict[bool, list[float]] = {True: [], False: []}
        own: list[float] = []
        for number in range(rounds + 1):
            for wait in (True, False):
                own.append(await on.ask("insert", table))
                requests = [
                    on.request(f"/v0/events?name={table}{'&wait=true' if wait else ''}", part) for part in parts
                ]
                began = time.perf_counter()
                await send(on.port, requests, CONNECTIONS)
                ended = time.perf_counter()
                there = await on.ask("readable", table, rows)
                took = (ended if wait else there) - began
                await on.ask("empty", table)
                if number:
                    ratios[wait].append(own[-1] / took)
                    times[wait].append(took)
        shown = "".join(
            f"  {statistics.median(times[w]) * 1000:8.0f} ms {statistics.median(ratios[w]):5.2f}" for w in (True, False)
        )
        print(f"{table:8} {what:>12}  {statistics.median(own) * 1000:8.0f} ms{shown}", flush=True)


async def singles(on: Served, seconds: float) -> None:
    requests = [on.request("/v0/events?name=one", line) for line in lines(5_000)]
    empty = [on.request("/empty", line) for line in lines(5_000)]
    rates: list[float] = []
    for wanted in (empty, requests, empty, requests):
        began = time.perf_counter()
        taken = await send(on.port, wanted, SINGLES, until=began + seconds)
        rates.append(len(taken) / (time.perf_counter() - began))
    taken.sort()
    ratio = statistics.median([rates[1] / rates[0], rates[3] / rates[2]])
    print(
        f"single events on {SINGLES} connections: {rates[3]:.0f}/s, {ratio:.2f} of an empty 202; answered after "
        f"{taken[len(taken) // 2] * 1000:.1f} ms (p50), {taken[len(taken) * 99 // 100] * 1000:.1f} ms (p99)"
    )
    await on.ask("empty", "one")

    async def probe(until: float) -> list[float]:
        found: list[float] = []
        while time.perf_counter() < until:
            row = json.loads(lines(1)[0]) | {"tenant": "prober", "id": 10**9 + len(found)}
            began = time.perf_counter()
            await send(on.port, [on.request("/v0/events?name=one", json.dumps(row).encode())], 1)
            found.append(await on.ask("found", "one", row["id"]) - began)
        return sorted(found)

    alone = await probe(time.perf_counter() + seconds)
    until = time.perf_counter() + 2 * seconds
    found, _ = await asyncio.gather(probe(until), send(on.port, requests, SINGLES, until=until))
    for what, some in (("alone", alone), ("under that load", found)):
        print(
            f"an event is found {what} after {some[len(some) // 2] * 1000:.0f} ms (p50), "
            f"{some[len(some) * 99 // 100] * 1000:.0f} ms (p99), of {len(some)}"
        )


async def tenants(on: Served, number: int) -> None:
    """Two events of each tenant in one request, as its own token fixes them, until all are readable."""
    two = [b"".join(lines(2, 2 * n)) for n in range(number)]
    path = "/v0/events?name=one"

    def token(tenant: str) -> str:
        scope = {"type": "DATASOURCES:APPEND", "resource": "one", "fixed_values": {"tenant": tenant}}
        claims = {"workspace_id": on.workspace, "name": tenant, "exp": int(time.time()) + 3600, "scopes": [scope]}
        return jwt.encode(claims, on.token, algorithm="HS256")

    ratios: list[float] = []
    for turn in range(3):
        took: dict[str, float] = {}
        for what in ("one", "many"):
            tokens = [token(f"tenant {turn} {n if what == 'many' else 0}") for n in range(number)]
            requests = [on.request(path, body, one) for body, one in zip(two, tokens, strict=True)]
            began = time.perf_counter()
            await send(on.port, requests, SINGLES)
            took[what] = await on.ask("readable", "one", 2 * number) - began
            await on.ask("empty", "one")
        ratios.append(took["one"] / took["many"])
    print(
        f"{number} tenants, two events each, until all are readable: {took['many']:.2f} s, "
        f"{statistics.median(ratios):.2f} of the rate of one tenant"
    )


async def main(chosen: argparse.Namespace, profile: str) -> None:
    print(f"{chosen.rows} rows of {len(b''.join(lines(1000))) // 1000} bytes, {CONNECTIONS} connections; {cores()}")
    async with served(profile) as on:
        print(f"{'':22} {'engine':>10}  {'wait':>11} ratio  {'readable':>11} ratio")
        for table in chosen.tables:
            await bodies(on, table, chosen.rows, chosen.rounds)
        if chosen.tenants:
            await tenants(on, chosen.tenants)
        if chosen.seconds:
            await singles(on, chosen.seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tables", nargs="*", default=list(TABLES), choices=TABLES)
    parser.add_argument("--seconds", type=float, default=5.0, help="of single events; 0: none")
    parser.add_argument("--tenants", type=int, default=10_000, help="that fix their own values; 0: none")
    parser.add_argument("--profile", action="store_true", help="show where the serving process spends its time")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--into", default="", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        uvloop.run(serve(chosen.into))
    else:
        with tempfile.NamedTemporaryFile() as file:
            asyncio.run(main(chosen, file.name if chosen.profile else ""))
            if chosen.profile:
                pstats.Stats(file.name).sort_stats("tottime").print_stats(35)

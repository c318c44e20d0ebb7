"""How many attacks each of three services stops, and how fast each answers: two peers written by hand, and Pipit.

    .venv/bin/python bench/peers.py [--only TEXT] [--seconds 1] [--rounds 8] [--runs 3]

One run, one engine, the same rows. `peer_services.py` says what the peers are, `peer_attacks.py` what the attacks are
and when one counts as stopped, `peer_world.py` holds tables and rows. Exit code 1 if Pipit let one through.

The load is one read, asked of each service in turn: of the peers on uvicorn as it comes, of Pipit as `pipit serve`
listens, of an endpoint with `CACHE` (`cached`), of the same with a value that all connections ask for at the same time
and nobody asked for before (`shared`), and of the engine itself, with Pipit's statement, filters and settings. Goals:
Pipit's p50 at most 1.05 of by hand, cached and shared reads at 5 times the engine's rate.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import re
import statistics
import sys
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import uvloop
from load import Figures, Target, cores, get, in_slices, measure, offer, serving, until_closed
from peer_attacks import ATTACKS, ENDPOINT, Attack, NotApplicable, Refused, latest
from peer_services import CANARY, B, ByHand, Filters, Peer, Pipit, Reply, Service
from peer_world import CACHED, LATEST, TABLES, ddl, project, rows
from stand import engine_of, pipit, straight

from pipit.access.params import RequestParams, SentParameter
from pipit.query.formats import JSON
from pipit.query.queries import PipeQuery, Read
from pipit.server import Server

FILTERS, BY_HAND = "additional_table_filters", "WHERE by hand"
SERVICES = (FILTERS, BY_HAND, Pipit.name)
CACHED_READS, SHARED_READS, ENGINE = "Pipit, cached", "Pipit, shared", "engine"
# What is measured side by side. Cached and shared reads write much into Pipit's log: they have rounds of their own.
LOADS = (
    (1, (*SERVICES, ENGINE)),
    (8, (*SERVICES, ENGINE)),
    (8, (CACHED_READS, SHARED_READS, ENGINE)),
    (32, (CACHED_READS, SHARED_READS, ENGINE)),
)
_VALUES = 2000  # of the shared reads: more than are asked for while a response is cached
_QUIET = {"date", "content-length", "x-request-id", "server"}
_ANY_TWO = r'"elapsed": ?[0-9.e-]+|[0-9a-f]{32}|_(both|alone)\b'
_STATISTICS = r'|"statistics":\s*\{[^}]*\}'
_SECRETS = (str(CANARY), "canary_b")


async def serve(only: str) -> None:
    """The serving process: stands everything up, attacks, and stays for the load."""
    async with AsyncExitStack() as stack:
        server, port = await stack.enter_async_context(pipit())
        session = await stack.enter_async_context(aiohttp.ClientSession())
        worlds = [await world(stack, server, port, session, with_b=with_b) for with_b in (True, False)]
        attacks = [one for one in ATTACKS if only.lower() in f"{one.name} {one.cases} {one.kind}".lower()]
        why: list[str] = []
        table = [
            {"kind": one.kind, "name": one.name, "cases": one.cases}
            | {name: await verdict(one, worlds[0][name], worlds[1][name], why) for name in SERVICES}
            for one in attacks
        ]
        offer(await loaded(server, worlds[0]), table=table, why=why, pids=[os.getpid(), engine_of(server).pid])
        await until_closed()


async def loaded(server: Server, world: dict[str, Any]) -> list[Target]:
    """What the load is sent to."""
    for one in world.values():
        assert not await one.publish(LATEST)
    targets = [
        Target(name, one.port, [get(f"{one.path('latest')}?without=none", one.token())], "same")
        for name, one in world.items()
    ]
    ours: Pipit = world[Pipit.name]
    assert not await ours.publish(*CACHED)
    token = ours.token(endpoints=[one.name for one in CACHED])
    _, cached, shared = (ours.path(one.name) for one in CACHED)
    values = [get(f"{shared}?without=v{number}", token) for number in range(_VALUES)]
    targets += [
        Target(CACHED_READS, ours.port, [get(f"{cached}?without=none", token)], "same"),
        Target(SHARED_READS, ours.port, values, "same", shared=True),
    ]
    snapshot = server.catalog.snapshot(ours.workspace)
    security = server.authenticator.check(token, server.catalog.keyring)
    asked = RequestParams((SentParameter("query", "without", "none"),))
    plan = await server.reader.plan(Read(snapshot, security, PipeQuery(LATEST.name, asked, JSON)))
    engine = engine_of(server)
    return [*targets, Target(ENGINE, engine.port, [straight(engine, snapshot, plan)], "same")]


async def world(
    stack: AsyncExitStack, server: Server, port: int, session: aiohttp.ClientSession, *, with_b: bool
) -> dict[str, Any]:
    """The three services with their rows, each known to work."""
    name = "both" if with_b else "alone"
    engine = engine_of(server)
    found: dict[str, Any] = {}
    for title, made, database in ((FILTERS, Filters, f"filters_{name}"), (BY_HAND, ByHand, f"by_hand_{name}")):
        peer: Peer = made(title, engine, database, session)
        names = {table: f"`{database}`.{table}" for table in (*TABLES, "profiles")}
        for statement in [*ddl(database), *rows(names, with_b=with_b)]:
            await server.engine.command(statement)
        await stack.enter_async_context(peer.open())
        found[title] = peer
    workspace = await server.catalog.create_workspace(name)
    service = Pipit(server, workspace, port, session, project())
    if why := await service.publish(LATEST):
        raise SystemExit(f"Pipit does not take the project: {why}")
    tables = server.catalog.snapshot(workspace.id).tables
    physical = {table: f"`{workspace.database}`.`{tables[table].physical}`" for table in TABLES}
    for statement in rows(physical, with_b=with_b):
        await server.engine.command(statement)
    found[Pipit.name] = service
    for one in found.values():
        await one.publish(LATEST)
        mine = json.loads((await latest(one)).body)["data"]
        assert [row["id"] for row in mine] == [1, 2, 3], (one.name, mine)
        theirs = (await latest(one, token=one.token(B))).body
        assert (str(CANARY) in theirs) == with_b, (one.name, theirs)
    return found


async def verdict(attack: Attack, full: Service, alone: Service, why: list[str]) -> str:
    """stopped; leaks: a byte of b; tells: an answer depends on b; takes it: a bad token; -: nothing to attack."""
    answers: list[list[Reply]] = []
    for service in (full, alone):
        if attack.kind != ENDPOINT:
            await service.publish(LATEST)
        try:
            answers.append(await attack.run(service))
        except NotApplicable:
            return "-"
        except Refused as refusal:
            assert isinstance(service, Pipit)
            why.append(f"{attack.name}: {full.name} does not publish it: {refusal}")
            answers.append([])
    with_b, without = answers
    why += [f"{attack.name}: {full.name}: {reply.status} {reply.body[:300]}" for reply in with_b]
    if attack.kind == ENDPOINT and full.name != Pipit.name:
        # An endpoint that cannot run shows nothing: the author would have mended it.
        assert all(reply.status == 200 for reply in without), (attack.name, full.name, without)
    if any(secret in text_of(reply) for reply in with_b for secret in _SECRETS):
        return "leaks"
    if attack.must_refuse and any(reply.status < 400 for reply in with_b):
        return "takes it"
    seen = [[comparable(reply, attack.statistics) for reply in replies] for replies in answers]
    return "stopped" if seen[0] == seen[1] else "tells"


def text_of(reply: Reply) -> str:
    return reply.body + str(reply.headers)


def comparable(reply: Reply, statistics: bool) -> tuple[object, ...]:
    """Without what differs between any two requests, and between two databases' names."""
    left_out = _ANY_TWO if statistics else _ANY_TWO + _STATISTICS
    headers = tuple((k, v) for k, v in reply.headers if k.lower() not in _QUIET)
    body = re.sub(left_out, "", reply.body)
    return reply.status, headers, body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="attacks whose name, kind or case has this text")
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=8, help="of the load; 0: only the attacks")
    parser.add_argument("--runs", type=int, default=3, help="of all rounds")
    parser.add_argument("--why", action="store_true", help="print the answers, too")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve(options.only))
        return
    with serving(__file__, f"--only={options.only}") as (targets, facts):
        table: list[dict[str, str]] = facts["table"]
        if options.why:
            print("\n".join(facts["why"]), end="\n\n")
        show(table)
        if options.rounds:
            print(f"\nThe same read ('latest'), {cores()}")
        runs = [load(targets, facts["pids"], options) for _ in range(options.runs if options.rounds else 0)]
        if len(runs) > 1:
            print("\nMedians of the runs")
            show_runs(runs)
        for _ in range(options.runs if options.rounds else 0):
            show_slices(targets, options.seconds * options.rounds)
    sys.exit(any(row[Pipit.name] not in ("stopped", "-") for row in table))


Run = dict[tuple[int, int, str], tuple[float, ...]]  # (of LOADS, connections, target) -> its columns


def load(targets: list[Target], pids: list[int], options: argparse.Namespace) -> Run:
    run: Run = {}
    for number, (connections, names) in enumerate(LOADS):
        loaded = [target for target in targets if target.name in names]
        found = asyncio.run(measure(loaded, pids, connections, options.rounds, options.seconds))
        run |= {(number, connections, name): columns_of(found, name) for name in names}
    show_runs([run])
    return run


def show_slices(targets: list[Target], seconds: float) -> None:
    loaded = [target for target in targets if target.name in (*SERVICES, ENGINE)]
    for connections, slice in ((1, 0.02), (8, 0.15)):
        long_enough = max(seconds * 2, slice * len(loaded) * 3)
        found = asyncio.run(in_slices(loaded, connections, long_enough, slice))
        p50 = "  ".join(f"{name} {found[name]:.2f} ms ({found[name] / found[BY_HAND]:.2f})" for name in found)
        print(f"in slices, {connections} connections: {p50}", flush=True)


def columns_of(found: Figures, name: str) -> tuple[float, ...]:
    by_hand = math.nan, math.nan
    if BY_HAND in found.rounds:
        by_hand = found.p50_ratio(name, BY_HAND), found.cpu_ratio(name, BY_HAND)
    return (found.rate(name), found.p50(name), found.cpu(name), *by_hand, found.rate_ratio(name, ENGINE))


def show_runs(runs: list[Run]) -> None:
    columns = f"{'connections':>11}{'reads/s':>9}{'p50 ms':>9}{'cpu ms':>9}{'to by hand: p50':>17}{'cpu':>6}"
    print(f"{'':<26}{columns}{'to the engine: rate':>21}")
    for number, connections, name in runs[0]:
        each = zip(*(run[number, connections, name] for run in runs), strict=True)
        rate, p50, cpu, to_p50, to_cpu, to_rate = map(statistics.median, each)
        by_hand = f"{'':>23}" if math.isnan(to_p50) else f"{to_p50:>17.2f}{to_cpu:>6.2f}"
        figures = f"{rate:>9.0f}{p50:>9.2f}{cpu:>9.2f}{by_hand}{to_rate:>21.2f}"
        print(f"{name:<26}{connections:>11}{figures}", flush=True)


def show(table: list[dict[str, str]]) -> None:
    print(f"{'':<12}{'attack':<58}{'case':<10}" + "".join(f"{name:>26}" for name in SERVICES))
    before = ""
    for row in table:
        kind = "" if row["kind"] == before else row["kind"]
        before = row["kind"]
        print(f"{kind:<12}{row['name']:<58}{row['cases'][:9]:<10}" + "".join(f"{row[n]:>26}" for n in SERVICES))
    print(f"{'stopped':<80}" + "".join(f"{said(table, name):>26}" for name in SERVICES))


def said(table: list[dict[str, str]], name: str) -> str:
    return f"{sum(row[name] == 'stopped' for row in table)} of {sum(row[name] != '-' for row in table)}"


if __name__ == "__main__":
    main()

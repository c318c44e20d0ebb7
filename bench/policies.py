"""What row policies cost: the same endpoint, statement, values and rows with policies, without them, and engine only.

    .venv/bin/python bench/policies.py [--pipe recent_activity] [--rows 1000000] [--seconds 2] [--rounds 5] [--profile]

Three comparisons in one run, on the demo project and one engine; in each the targets take turns (A B C D A B C D ...):

one tenant       the same JWT again and again. `policy`: its security context becomes a filter on each table. `no
                 policy`: the same project without its ROW_POLICY lines, in a workspace of its own with the same rows;
                 the JWT's fixed parameter alone confines it. `engine`: what runs for `policy`, sent straight to the
                 engine; `engine, no filter`: what runs for `no policy`.
500 tenants      the same with 500 tenants' JWTs in rotation: as many tokens, contexts and filters.
50 environments  50 JWTs, each naming a database of its own, against 50 tenants' JWTs of one of these databases.

All fix the parameter customer_id, so that the statement is the same text and the rows are the same; a difference stops
the run. Medians of the rounds; ratios are medians of the rounds' own; `cpu` is the processor time of Pipit and engine
for one read. The load comes from a process of its own.
Before that, what Pipit itself does for a read, from the token to the plan, is timed without HTTP and engine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pstats
import re
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import uvloop
from load import Figures, Target, cores, get, measure, offer, serving, until_closed
from stand import ROOT, engine_of, pipit, straight

from pipit.access.context import Scope
from pipit.access.jwt import mint
from pipit.access.params import RequestParams
from pipit.api.requests import viewer_of
from pipit.catalog.snapshot import Snapshot, Workspace
from pipit.datafiles import read_project
from pipit.query.formats import JSON
from pipit.query.queries import PipeQuery, Read
from pipit.server import Server

ENVIRONMENT_ROWS = 20_000
_POLICY = re.compile(r"^ROW_POLICY >\n(?:[ \t]+.*\n|\n)*|^ROW_POLICY.*\n", re.MULTILINE)


def tenant(number: int) -> str:
    return f"t{number:04}"


def without_policies(files: Mapping[str, str]) -> dict[str, str]:
    return {name: _POLICY.sub("", text) for name, text in files.items()}


async def fill(server: Server, snapshot: Snapshot, rows: int, tenants: int, now: str, seed: int = 0) -> None:
    """Events of the last 30 days, spread over the tenants; the same for the same numbers."""
    events = snapshot.tables["events"]
    await server.engine.command(
        f"INSERT INTO `{events.database}`.`{events.physical}` SELECT "
        f"toDateTime64('{now}', 3) - toIntervalMillisecond(intDiv(number * {30 * 86_400_000 - 1000}, {rows})), "
        f"'t' || leftPad(toString(cityHash64(number, {seed}) % {tenants}), 4, '0'), "
        "['sales', 'support', 'research'][number % 3 + 1], "
        "'user' || toString(cityHash64(number, 1) % 5000) || '@x.com', "
        "'s' || toString(intDiv(number, 8)), 'web', 'pro', "
        "['dashboards', 'api', 'reports', 'login'][cityHash64(number, 2) % 4 + 1], "
        "['sign_in', 'open_dashboard', 'create_report', 'share_report'][cityHash64(number, 3) % 4 + 1], "
        f"200, cityHash64(number, 4) % 1000 FROM numbers({rows})",
        settings={"max_insert_threads": 1},
    )


def token(workspace: Workspace, pipe: str, number: int, *, policy: bool = True, environment: str = "") -> str:
    said = {"customer_id": tenant(number)}
    return mint(
        workspace.id,
        workspace.admin_token,
        name=f"bench-{number}",
        scopes=[Scope("PIPES:READ", pipe, fixed_params=said)],
        expires_at=int(time.time()) + 3600,
        context=said if policy else None,
        **({"environment": environment} if environment else {}),
    )


async def straight_for(server: Server, pipe: str, tokens: Sequence[str]) -> list[str]:
    found = []
    for text in tokens:
        viewer, snapshot = viewer_of(server, text)
        plan = await server.reader.plan(Read(snapshot, viewer, PipeQuery(pipe, RequestParams(()), JSON)))
        found.append(straight(engine_of(server), snapshot, plan))
    return found


async def planning(server: Server, pipe: str, tokens: Sequence[str], reads: int = 3000) -> float:
    """Microseconds from a token to what would run, in rotation: the median."""
    times = []
    for number in range(len(tokens) + reads):
        started = time.perf_counter()
        viewer, snapshot = viewer_of(server, tokens[number % len(tokens)])
        await server.reader.plan(Read(snapshot, viewer, PipeQuery(pipe, RequestParams(()), JSON)))
        if number >= len(tokens):
            times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e6


async def serve(options: argparse.Namespace) -> None:
    """The serving process."""
    async with pipit(options.profile_file) as (server, port):
        files = read_project(ROOT)
        policed = server.catalog.default.workspace
        plain = await server.catalog.create_workspace("plain")
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
        await server.deployer.deploy(policed.id, files)
        await server.deployer.deploy(plain.id, without_policies(files))
        for workspace in (policed, plain):
            await fill(server, server.catalog.snapshot(workspace.id), options.rows, options.tenants, now)
        assert any(table.policy for table in server.catalog.snapshot(policed.id).tables.values())
        assert not any(table.policy for table in server.catalog.snapshot(plain.id).tables.values())
        names = [f"customer_{number:02}" for number in range(options.environments)]
        for name in names:
            await server.deployer.add_environment(policed.id, name)
            place = server.catalog.snapshot(policed.id, name)
            await fill(server, place, ENVIRONMENT_ROWS, options.environments, now, seed=7)

        def gets(tokens: Sequence[str]) -> list[str]:
            return [get(f"/v0/pipes/{options.pipe}.json", text) for text in tokens]

        engine = engine_of(server).port
        pids = [os.getpid(), engine_of(server).pid]
        targets = []
        planned: dict[str, float] = {}
        for group, numbers in (("one", [1]), ("many", range(options.tenants))):
            with_policy = [token(policed, options.pipe, n) for n in numbers]
            without = [token(plain, options.pipe, n, policy=False) for n in numbers]
            planned |= {
                f"{group}: no policy": await planning(server, options.pipe, without),
                f"{group}: policy": await planning(server, options.pipe, with_policy),
            }
            targets += [
                Target(f"{group}: policy", port, gets(with_policy), group),
                Target(f"{group}: no policy", port, gets(without), group),
                Target(f"{group}: engine", engine, await straight_for(server, options.pipe, with_policy), group),
                Target(f"{group}: engine, no filter", engine, await straight_for(server, options.pipe, without), group),
            ]
        if names:
            numbers = range(len(names))
            everywhere = [token(policed, options.pipe, n, environment=names[n]) for n in numbers]
            in_one = [token(policed, options.pipe, n, environment=names[0]) for n in numbers]
            planned["environments: 1"] = await planning(server, options.pipe, in_one)
            planned[f"environments: {len(names)}"] = await planning(server, options.pipe, everywhere)
            # The same rows lie in all of them, so that the answers are the same, too.
            targets += [
                Target(f"environments: {len(names)}", port, gets(everywhere), "environments"),
                Target("environments: 1", port, gets(in_one), "environments"),
            ]
        size = {"rows": options.rows, "tenants": options.tenants, "environments": options.environments}
        offer(targets, **size, planned=planned, pids=pids)
        await until_closed()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipe", default="recent_activity")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--tenants", type=int, default=500)
    parser.add_argument("--environments", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--profile", action="store_true", help="where the API process spends its time")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--profile-file", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve(options))
        return
    with tempfile.TemporaryDirectory() as folder:
        dump = os.path.join(folder, "profile") if options.profile else ""
        passed = [f"--{name}={getattr(options, name)}" for name in ("pipe", "rows", "tenants", "environments")]
        with serving(__file__, *passed, f"--profile-file={dump}") as (targets, facts):
            print(f"{options.pipe}: {facts['rows']:,} rows of {facts['tenants']} tenants, {cores()}")
            print("\nfrom a token to the plan of its read, without HTTP and engine")
            for name, microseconds in facts["planned"].items():
                print(f"{name:<28}{microseconds:>9.0f} µs")
            pids = facts["pids"]
            groups = [("one", "one tenant, no policy"), ("many", f"{facts['tenants']} tenants, no policy")]
            for connections in options.connections:
                print(f"\n{connections} connection{'s' if connections > 1 else ''}")
                columns = f"{'reads/s':>9}{'p50 ms':>9}{'cpu ms':>9}   {'reads/s':>7}{'p50':>6}{'cpu':>6}"
                print(f"{'':<28}{columns}   as a ratio to")
                for group, base in groups:
                    mine = [t for t in targets if t.alike == group]
                    found = asyncio.run(measure(mine, pids, connections, options.rounds, options.seconds))
                    for name in ("engine, no filter", "engine", "no policy", "policy"):
                        show(found, f"{group}: {name}", f"{group}: no policy", base)
                mine = [t for t in targets if t.alike == "environments"]
                if mine:
                    found = asyncio.run(measure(mine, pids, connections, options.rounds, options.seconds))
                    for name in ("environments: 1", f"environments: {facts['environments']}"):
                        show(found, name, "environments: 1", "one environment")
        if dump:
            pstats.Stats(dump).sort_stats("tottime").print_stats(40)


def show(found: Figures, name: str, base: str, said: str) -> None:
    rate, p50, cpu = found.rate_ratio(name, base), found.p50_ratio(name, base), found.cpu_ratio(name, base)
    ratios = f"{rate:>7.2f}{p50:>6.2f}{cpu:>6.2f}"
    figures = f"{found.rate(name):>9.0f}{found.p50(name):>9.2f}{found.cpu(name):>9.2f}"
    print(f"{name:<28}{figures}   " + (f"{ratios}   {said}" if name != base else ""))


if __name__ == "__main__":
    main()

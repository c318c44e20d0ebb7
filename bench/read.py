"""What Pipit adds to a read: an endpoint with JWT and row policy against the same SQL sent straight to the engine.

    .venv/bin/python bench/read.py [--pipe top_features] [--seconds 3] [--rounds 5] [--profile]

Both answer over HTTP on loopback, with the same statement, bound values, filters and settings, in the same run, in
turn (A B B A ...), with 1 and 8 connections. Prints medians of the rounds and their ratio. The load comes from a
process of its own. Goal: p50 at most 0.8 ms above, throughput at least 0.75 of the engine's own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pstats
import tempfile
import time
from datetime import UTC, datetime, timedelta

import uvloop
from load import Target, cores, get, measure, offer, serving, until_closed
from stand import ROOT, engine_of, pipit, straight

from pipit.access.authenticate import Authenticator
from pipit.access.context import Scope
from pipit.access.jwt import mint
from pipit.access.params import RequestParams
from pipit.datafiles import read_project
from pipit.demo.events import history
from pipit.ingest import target_of
from pipit.query.formats import JSON
from pipit.query.queries import PipeQuery, Read


async def serve(pipe: str, days: int, profile: str) -> None:
    """The serving process: demo project, history, then the targets, until standard input closes."""
    async with pipit(profile) as (server, port):
        workspace = server.catalog.default.workspace
        await server.deployer.deploy(workspace.id, read_project(ROOT))
        snapshot = server.catalog.snapshot(workspace.id)
        now = datetime.now(UTC)
        rows = 0
        for batch in history(now - timedelta(days=days), now):
            if not batch:  # a day that has just begun
                continue
            body = "".join(json.dumps(event) + "\n" for event in batch).encode()
            result = await server.ingest.append(target_of(snapshot.tables["events"]), body, format="ndjson", wait=True)
            rows += result.successful_rows
        token = mint(
            workspace.id,
            workspace.admin_token,
            name="bench",
            scopes=[Scope("PIPES:READ", pipe)],
            expires_at=int(time.time()) + 3600,
            context={"customer_id": "acme"},
        )
        security = Authenticator().check(token, server.catalog.keyring)
        plan = await server.reader.plan(Read(snapshot, security, PipeQuery(pipe, RequestParams(()), JSON)))
        engine = engine_of(server)
        targets = [
            Target("pipit", port, [get(f"/v0/pipes/{pipe}.json", token)], "same"),
            Target("engine", engine.port, [straight(engine, snapshot, plan)], "same"),
        ]
        offer(targets, rows=rows, pids=[os.getpid(), engine.pid])
        await until_closed()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipe", default="top_features")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--profile", action="store_true", help="where the API process spends its time")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--profile-file", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve(options.pipe, options.days, options.profile_file))
        return
    with tempfile.TemporaryDirectory() as folder:
        dump = os.path.join(folder, "profile") if options.profile else ""
        arguments = ["--pipe", options.pipe, "--days", str(options.days), "--profile-file", dump]
        with serving(__file__, *arguments) as (targets, facts):
            print(f"{options.pipe}: {facts['rows']} rows in events, JWT and row policy, {cores()}")
            print("connections   pipit/s   p50 ms   cpu ms  engine/s   p50 ms   cpu ms  ratio  p50 above")
            for connections in (1, 8):
                found = asyncio.run(measure(targets, facts["pids"], connections, options.rounds, options.seconds))
                figures = " ".join(
                    f"{found.rate(name):>9.0f} {found.p50(name):>8.2f} {found.cpu(name):>8.2f}"
                    for name in ("pipit", "engine")
                )
                ratio, above = found.rate_ratio("pipit", "engine"), found.p50_above("pipit", "engine")
                print(f"{connections:>11} {figures} {ratio:>6.2f} {above:>+7.2f} ms")
        if dump:
            pstats.Stats(dump).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main()

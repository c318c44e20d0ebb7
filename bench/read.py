"""What Pipit adds to a read: an endpoint with JWT and row policy against the same SQL sent straight to the engine.

    .venv/bin/python bench/read.py [--pipe top_features] [--seconds 3] [--rounds 5] [--profile]

Both answer over HTTP on loopback, with the same statement, bound values, filters and settings, in the same run, in
turn (A B A B ...), with 1 and 8 connections. Prints medians of the rounds and their ratio. The load comes from a
process of its own. Goal: p50 at most 0.8 ms above, throughput at least 0.75 of the engine's own.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import cProfile
import json
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import uvicorn
import uvloop

from pipit.access.authenticate import Authenticator
from pipit.access.context import Scope
from pipit.access.jwt import mint
from pipit.access.params import RequestParams
from pipit.access.tokens import make_token
from pipit.api.app import app_for
from pipit.api.events import target_of
from pipit.api.server import Config, open_server
from pipit.datafiles import read_project
from pipit.demo.events import history
from pipit.engine.binding import bind
from pipit.query.formats import JSON
from pipit.query.read import PipeQuery

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Targets:
    """Two raw HTTP requests that give the same bytes, and where to send them."""

    rows: int
    pipit_port: int
    pipit_request: str
    engine_port: int
    engine_request: str


async def serve(pipe: str, days: int, profile: str) -> None:
    """The server process: demo project, history, then two ports on stdout, until stdin closes."""
    with tempfile.TemporaryDirectory() as folder:
        config = Config(data_dir=Path(folder), admin_token=make_token(owner="bench"))
        async with open_server(config) as server:
            workspace = server.catalog.default.workspace
            await server.deployer.deploy(workspace.id, read_project(ROOT))
            snapshot = server.catalog.snapshot(workspace.id)
            now = datetime.now(UTC)
            rows = 0
            for batch in history(now - timedelta(days=days), now):
                body = "".join(json.dumps(event) + "\n" for event in batch).encode()
                result = await server.ingest.append(
                    target_of(snapshot.tables["events"]), body, format="ndjson", wait=True
                )
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
            plan = await server.reader.plan(snapshot, security, PipeQuery(pipe, RequestParams(()), JSON))
            endpoint = server.engine._source._supervisor.endpoint  # type: ignore[attr-defined]
            fields = {k: str(v) for k, v in plan.settings.items()} | bind(plan.params)
            fields |= {"database": workspace.database, "default_format": "JSON"}
            basic = base64.b64encode(f"{endpoint.user}:{endpoint.password}".encode()).decode()
            sql = plan.composed.sql.encode()
            running = uvicorn.Server(
                uvicorn.Config(app_for(server), port=0, log_level="error", access_log=False, lifespan="off")
            )
            task = asyncio.ensure_future(running.serve())
            while not running.started:
                await asyncio.sleep(0.01)
            port = running.servers[0].sockets[0].getsockname()[1]
            targets = Targets(
                rows,
                port,
                f"GET /v0/pipes/{pipe}.json HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n",
                endpoint.port,
                f"POST /?{urlencode(fields)} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {basic}\r\n"
                f"Content-Length: {len(sql)}\r\n\r\n{sql.decode()}",
            )
            print(json.dumps(asdict(targets)), flush=True)
            profiler = cProfile.Profile()
            if profile:
                profiler.enable()
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
            if profile:
                profiler.disable()
                pstats.Stats(profiler).dump_stats(profile)
            running.should_exit = True
            await task


async def one_connection(port: int, request: bytes, until: float, times: list[float]) -> bytes:
    """Sends the same request again and again on one connection; the last body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    body = b""
    try:
        while time.perf_counter() < until:
            started = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head + await reader.read(2000)
            lower = head.lower()
            if b"transfer-encoding: chunked" in lower:
                parts = []
                while size := int((await reader.readline()).strip(), 16):
                    parts.append((await reader.readexactly(size + 2))[:-2])
                await reader.readexactly(2)
                body = b"".join(parts)
            else:
                length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
            times.append(time.perf_counter() - started)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return body


async def load(port: int, request: bytes, connections: int, seconds: float) -> tuple[float, float, bytes]:
    """(requests a second, p50 in ms, a body)"""
    times: list[float] = []
    started = time.perf_counter()
    bodies = await asyncio.gather(
        *(one_connection(port, request, started + seconds, times) for _ in range(connections))
    )
    return len(times) / (time.perf_counter() - started), statistics.median(times) * 1000, bodies[0]


async def measure(targets: Targets, rounds: int, seconds: float) -> dict[int, tuple[float, ...]]:
    found: dict[int, tuple[float, ...]] = {}
    for connections in (1, 8):
        figures: list[tuple[float, float, float, float]] = []
        for number in range(rounds + 1):
            a, a50, ours = await load(targets.pipit_port, targets.pipit_request.encode(), connections, seconds)
            b, b50, raw = await load(targets.engine_port, targets.engine_request.encode(), connections, seconds)
            assert json.loads(ours)["data"] == json.loads(raw)["data"] != [], "not the same answer"
            if number:  # the first round warms up
                figures.append((a, a50, b, b50))
        a, a50, b, b50 = (statistics.median(column) for column in zip(*figures, strict=True))
        ratio = statistics.median(f[0] / f[2] for f in figures)
        above = statistics.median(f[1] - f[3] for f in figures)
        found[connections] = (a, a50, b, b50, ratio, above)
    return found


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
        command = [sys.executable, __file__, "--serve", "--pipe", options.pipe, "--days", str(options.days)]
        with subprocess.Popen(
            [*command, "--profile-file", dump], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdin and server.stdout
            try:
                targets = Targets(**json.loads(server.stdout.readline()))
                print(f"{options.pipe}: {targets.rows} rows in events, JWT and row policy, {os.cpu_count()} cores")
                found = asyncio.run(measure(targets, options.rounds, options.seconds))
            finally:
                server.stdin.close()
                server.wait(30)
        print("connections   pipit/s   p50 ms  engine/s   p50 ms  ratio  p50 above")
        for connections, (a, a50, b, b50, ratio, above) in found.items():
            print(f"{connections:>11} {a:>9.0f} {a50:>8.2f} {b:>9.0f} {b50:>8.2f} {ratio:>6.2f} {above:>+7.2f} ms")
        if dump:
            pstats.Stats(dump).sort_stats("tottime").print_stats(30)


if __name__ == "__main__":
    main()

"""What the serving process of a benchmark stands up: Pipit on free ports, and requests straight to its engine."""

from __future__ import annotations

import asyncio
import base64
import cProfile
import os
import pstats
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import uvicorn

from pipit.access.tokens import make_token
from pipit.api.app import app_for
from pipit.api.listen import listening as served
from pipit.catalog.snapshot import Snapshot
from pipit.engine.binding import bind
from pipit.engine.embedded.supervisor import EngineAddress
from pipit.engine.http import HttpEngine
from pipit.query.plan import Plan
from pipit.server import Config, Server, open_server

ROOT = Path(__file__).resolve().parent.parent


@asynccontextmanager
async def pipit(profile: str = "", beside: Any = None) -> AsyncIterator[tuple[Server, int]]:
    """A Pipit with its own engine in a folder of its own, behind the listener of `pipit serve`, and its port. `beside`:
    what the same server answers with elsewhere than below /v0.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = Config(data_dir=Path(folder), admin_token=make_token(owner="bench"))
        async with open_server(config) as server, served(_joined(app_for(server), beside)) as url:
            profiler = cProfile.Profile()
            if profile:
                profiler.enable()
            yield server, int(url.rpartition(":")[2])
            if profile:
                profiler.disable()
                pstats.Stats(profiler).dump_stats(profile)


def _joined(app: Any, beside: Any) -> Any:
    async def choose(scope: Any, receive: Any, send: Any) -> None:
        await (app if scope["path"].startswith("/v0/") else beside)(scope, receive, send)

    return app if beside is None else choose


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[int]:
    """An ASGI application that is not Pipit's, on uvicorn as it comes and a free loopback port."""
    config = uvicorn.Config(app, port=0, log_level="error", access_log=False, lifespan="off")
    running = uvicorn.Server(config)
    task = asyncio.ensure_future(running.serve())
    while not running.started:
        await asyncio.sleep(0.01)
    try:
        yield running.servers[0].sockets[0].getsockname()[1]
    finally:
        running.should_exit = True
        await task


def engine_of(server: Server) -> EngineAddress:
    assert isinstance(server.engine, HttpEngine)
    endpoint = server.engine.endpoint
    assert endpoint is not None, os.environ.get("PIPIT_CLICKHOUSE_URL", "the engine is away")
    return endpoint


def straight(endpoint: EngineAddress, snapshot: Snapshot, plan: Plan) -> str:
    """What Pipit would send to the engine for this plan, as a request of one's own."""
    fields = {k: str(v) for k, v in plan.settings.items()} | bind(plan.params)
    fields |= {"database": snapshot.workspace.database, "default_format": "JSON"}
    basic = base64.b64encode(f"{endpoint.user}:{endpoint.password}".encode()).decode()
    sql = plan.composed.sql
    return (
        f"POST /?{urlencode(fields)} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {basic}\r\n"
        f"Content-Length: {len(sql.encode())}\r\n\r\n{sql}"
    )

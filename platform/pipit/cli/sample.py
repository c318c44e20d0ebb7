"""`pipit serve --demo`: the page at /demo and live sample events, beside the server that they show."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.routing import BaseRoute

from pipit.access.jwt import mint
from pipit.cli.output import line, note, out
from pipit.demo import banner, demo_routes, stream_events
from pipit.demo.page import LOOPBACK, Mint
from pipit.errors import BadRequest
from pipit.server import Server

_PROGRESS_SECONDS = 2.0


def routes(server: Server, host: str) -> list[BaseRoute]:
    """Raises BadRequest when what is deployed is not the demo project."""
    missing = {"demo_ingest", "demo_read"} - set(_tokens(server))
    if missing:
        raise BadRequest(
            "The project is not the demo project: no file names the tokens demo_ingest and demo_read",
            hint="Run it in a clone of the repository: make demo",
        )
    return demo_routes(minting(server), host=host)


def minting(server: Server) -> Mint:
    def made(**wanted: Any) -> str:
        workspace = server.catalog.default.workspace  # as it is now: its admin token may have been refreshed
        return mint(workspace.id, workspace.admin_token, **wanted)

    return made


async def stream(server: Server, url: str, host: str, stop: asyncio.Event) -> None:
    """Prints the banner, then sends sample events until `stop`. Raises PipitError when they are refused."""
    line(out, "\n" + banner(url, minting(server)))
    if host not in LOOPBACK:
        note(f"With --demo, whoever can reach {host} gets tokens for the sample data.")
    tokens = _tokens(server)
    last = time.monotonic()

    def progress(sent: int) -> None:
        nonlocal last
        if time.monotonic() - last > _PROGRESS_SECONDS:
            last = time.monotonic()
            note(f"{sent:,} sample events of the past weeks are in")

    await stream_events(url, tokens["demo_ingest"], tokens["demo_read"], stop, on_progress=progress)


def _tokens(server: Server) -> dict[str, str]:
    return {t.name: t.token for t in server.catalog.credentials.tokens(server.catalog.default.workspace.id)}

"""Finds the server that a command talks to; without one, is the server for as long as the command takes.

`--host` first, then the server that holds the data directory, else one in this process on a free loopback port: the
command speaks the same HTTP to all three.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pipit.cli.client import Client, Json, open_client
from pipit.cli.instance import (
    TOKEN_FILE,
    ServerFile,
    find_server,
    given_seals,
    given_urls,
    hold,
    is_data_directory,
    keep_previous_hours,
    keep_token,
    local_token,
    server_token,
)
from pipit.cli.logs import log_to
from pipit.cli.options import GlobalOptions
from pipit.cli.output import waiting
from pipit.errors import BadRequest, EngineStartError, Reason, Unavailable

T = TypeVar("T")

# How long another command without a server, or a server that starts, may hold the data directory.
_PATIENCE_SECONDS = 30.0
_HEALTH_SECONDS = 10.0


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs a command's work to its end."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


@contextmanager
def naming(clickhouse_url: str) -> Iterator[None]:
    """Around the start of the engine: where PIPIT_CLICKHOUSE_URL is set, an error names that server, without password.

    Raises EngineStartError.
    """
    if not clickhouse_url:
        yield
        return
    try:
        parts = urlsplit(clickhouse_url)
        where = f"{parts.hostname}:{parts.port or (8443 if parts.scheme == 'https' else 8123)}"
    except ValueError:
        raise EngineStartError("PIPIT_CLICKHOUSE_URL must look like http://user:password@host:port/") from None
    try:
        yield
    except EngineStartError:
        raise
    except Unavailable as error:
        away = error.reason is Reason.ENGINE_UNAVAILABLE
        reason = "it does not answer" if away else error.message
        raise EngineStartError(
            f"The ClickHouse server at {where} cannot be used: {reason}",
            hint="Is PIPIT_CLICKHOUSE_URL right, and the server up? Without it the engine that is built in is used.",
        ) from error


@asynccontextmanager
async def connect(options: GlobalOptions) -> AsyncIterator[Client]:
    """The server to talk to. Raises Unavailable when none answers and none can be started."""
    if options.host:
        async with _remote(options) as client:
            yield client
        return
    server = find_server(options.data)
    if server is None:
        _check_place(options)
        try:
            with hold(options.data, patience=_PATIENCE_SECONDS):
                async with _own(options) as client:
                    yield client
            return
        except EngineStartError:
            server = find_server(options.data)  # one that was just starting
            if server is None:
                raise
    async with _running(options, server) as client:
        yield client


def ask(options: GlobalOptions, method: str, path: str, *, json: Any = None, data: Any = None) -> Json:
    """For a command that is one request: what the server answers. Raises as `connect` does."""

    async def asked() -> Json:
        async with connect(options) as client:
            return await client.ask(method, path, json=json, data=data)

    return run(asked())


def _check_place(options: GlobalOptions) -> None:
    """A command without a server makes a data directory where there is a project, and nowhere else.

    Raises Unavailable, and leaves nothing behind: most likely the command runs in the wrong folder.
    """
    from pipit.datafiles.layout import holds_project

    if options.project is not None or options.clickhouse_url or is_data_directory(options.data):
        return
    if holds_project(Path()):
        return
    raise Unavailable(
        f"There is no server to ask: {options.data.absolute()} is no data directory, and {Path.cwd()} is no project",
        hint="Go to the project's folder. Or name a server with --host URL, or its data directory with --data DIR. "
        "`pipit init shop` makes a new project.",
    )


@asynccontextmanager
async def _remote(options: GlobalOptions) -> AsyncIterator[Client]:
    url = options.host.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise BadRequest(f"'{url}' is not an http or https URL", hint="Such as --host https://pipit.example.com")
    token = options.token or os.environ.get("PIPIT_ADMIN_TOKEN", "")
    if not token:
        raise BadRequest(
            f"No token for {url}",
            hint="Set PIPIT_TOKEN to a token of that server (its admin token can do everything).",
            reason=Reason.TOKEN_MISSING,
        )
    hint = "PIPIT_TOKEN (or --token) is not a token of that server."
    async with open_client(url, token, hint=hint) as client:
        await client.health()
        yield client


@asynccontextmanager
async def _running(options: GlobalOptions, server: ServerFile) -> AsyncIterator[Client]:
    if server.token_from != TOKEN_FILE:
        hint = f"The server was started with another {server.token_from}: set it here to the same."
    else:
        hint = f"The server's admin token is in {options.data / TOKEN_FILE}: unset PIPIT_ADMIN_TOKEN and PIPIT_TOKEN."
    token = options.token or local_token(options.data)
    if not token:
        raise BadRequest("The server's admin token is not known here", hint=hint)
    async with open_client(server.url, token, hint=hint) as client:
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                await client.health()
        except TimeoutError:
            raise Unavailable(
                f"The server at {server.url} (process {server.pid}) does not answer", reason=Reason.SERVER_UNREACHABLE
            ) from None
        yield client


@asynccontextmanager
async def _own(options: GlobalOptions) -> AsyncIterator[Client]:
    """A server in this process. Only this command's requests reach it: nobody else knows its port and token."""
    from pipit.api.app import app_for
    from pipit.api.listen import listening
    from pipit.server import Config, open_server

    token, token_from = server_token(options.data)
    seals = given_seals()
    log_to(options.data / "logs", hide=[token], to_terminal=logging.ERROR)
    config = Config(
        data_dir=options.data,
        admin_token=token,
        clickhouse_url=options.clickhouse_url or None,
        keep_admin_token=partial(keep_token, options.data) if token_from == TOKEN_FILE else None,
        seals=seals,
        urls=given_urls(),
        keep_previous_hours=keep_previous_hours(),
    )
    async with AsyncExitStack() as stack:
        with waiting("Starting the engine..."), naming(options.clickhouse_url):
            server = await stack.enter_async_context(open_server(config))
        url = await stack.enter_async_context(listening(app_for(server)))
        async with open_client(url, options.token or token) as client:
            yield client

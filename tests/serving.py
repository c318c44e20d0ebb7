"""A served Pipit for tests: one server and one engine for the run, a workspace of its own for each test."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import uvicorn
import yarl

from pipit.access.tokens import make_token
from pipit.api.app import app_for
from pipit.deploy import Outcome
from pipit.engine import Engine
from pipit.errors import Conflict
from pipit.server import Config, Server, running
from waiting import until

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Workspace:
    """A workspace of the shared server, and HTTP to it."""

    def __init__(self, server: Server, base_url: str, session: aiohttp.ClientSession, id: str) -> None:
        self.server = server
        self.base_url = base_url
        self.session = session
        self.id = id

    @property
    def admin_token(self) -> str:
        return self.server.catalog.snapshot(self.id).workspace.admin_token

    @property
    def database(self) -> str:
        return self.server.catalog.snapshot(self.id).workspace.database

    @property
    def name(self) -> str:
        return self.server.catalog.snapshot(self.id).workspace.name

    async def deploy(self, files: Mapping[str, str], **options: Any) -> Outcome:
        return await self.server.deployer.deploy(self.id, files, **options)

    async def request(
        self,
        method: str,
        path: str,
        *,
        token: str | None = "admin",
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        json: Any = None,
    ) -> Reply:
        """`token="admin"`: the workspace's own; None: none."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {self.admin_token if token == 'admin' else token}"
        url = f"{self.base_url}{path}"
        if isinstance(data, bytes):
            data = io.BytesIO(data)
        async with self.session.request(
            method, yarl.URL(url, encoded=True), headers=sent, data=data, json=json
        ) as response:
            return Reply(response.status, response.headers.copy(), await response.read())

    async def get(self, path: str, **options: Any) -> Reply:
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Reply:
        return await self.request("POST", path, **options)

    async def send(self, name: str, rows: Sequence[Mapping[str, Any]], *, wait: bool = True) -> Reply:
        body = "".join(json.dumps(row) + "\n" for row in rows).encode()
        return await self.post(f"/v0/events?name={name}&wait={'true' if wait else 'false'}", data=body)

    async def job(self, reply: Reply) -> dict[str, Any]:
        """The job that this reply tells of, once it has ended."""
        assert reply.status == 200, reply.text
        id = reply.json["job"]["job_id"]
        await self.server.jobs.ended(id)
        found = await self.get(f"/v0/jobs/{id}")
        assert found.status == 200, found.text
        job: dict[str, Any] = found.json
        return job

    async def rows(self, path: str, **options: Any) -> list[dict[str, Any]]:
        reply = await self.get(path, **options)
        assert reply.status == 200, reply.text
        data: list[dict[str, Any]] = reply.json["data"]
        return data

    def jwt(self, *scopes: Mapping[str, Any], ttl: int = 3600, **claims: Any) -> str:
        """Signed as a team's own backend would do it: with PyJWT and the admin token, not with Pipit's code."""
        import jwt

        payload: dict[str, Any] = {
            "workspace_id": self.id,
            "name": "tenant",
            "exp": int(time.time()) + ttl,
            "scopes": list(scopes),
        }
        return jwt.encode({**payload, **claims}, self.admin_token, algorithm="HS256")

    def tenant(self, *pipes: str, **context: Any) -> str:
        """A JWT that may read these pipes, with this security context."""
        return self.jwt(*({"type": "PIPES:READ", "resource": p} for p in pipes), context=context)


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[str]:
    """The server's application on a free loopback port; the base URL."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app_for(server),
        log_level="warning",
        access_log=False,
        lifespan="off",
        h11_max_incomplete_event_size=65536,
        timeout_keep_alive=600,  # a connection that is closed while the client takes it out of its pool is an error
    )
    running = uvicorn.Server(config)
    task = asyncio.ensure_future(running.serve(sockets=[listener]))
    try:
        await until(lambda: running.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        running.should_exit = True
        await task
        listener.close()


@pytest.fixture(scope="session")
async def server(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    data_dir = tmp_path_factory.mktemp("server-data")
    config = Config(data_dir=data_dir, admin_token=make_token(owner="tests"))
    async with running(config, engine) as server:
        yield server


@pytest.fixture(scope="session")
async def base_url(server: Server) -> AsyncIterator[str]:
    async with serving(server) as url:
        yield url


@pytest.fixture(scope="session")
async def http(anyio_backend: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session:
        yield session


@asynccontextmanager
async def made_workspace(server: Server, base_url: str, http: aiohttp.ClientSession) -> AsyncIterator[Workspace]:
    """Deleted at the end, with those named after it: what thousands of tests leave behind slows down the last."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    made = await server.catalog.create_workspace(name)
    yield Workspace(server, base_url, http, made.id)
    for id, snapshot in server.catalog.snapshots.items():
        if snapshot.workspace.name == name or snapshot.workspace.name.startswith(f"{name}_"):
            with contextlib.suppress(Conflict):  # the test left a deploy under way
                await server.deployer.remove_workspace(id)


@pytest.fixture
async def workspace(server: Server, base_url: str, http: aiohttp.ClientSession) -> AsyncIterator[Workspace]:
    async with made_workspace(server, base_url, http) as made:
        yield made


@pytest.fixture(scope="module")
async def shared_workspace(server: Server, base_url: str, http: aiohttp.ClientSession) -> AsyncIterator[Workspace]:
    """One for all tests of a module: they change nothing in it."""
    async with made_workspace(server, base_url, http) as made:
        yield made

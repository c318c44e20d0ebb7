"""Where tests run: a whole Pipit of its own in a temporary folder, a fresh workspace in it, and HTTP to that.

Nothing is bent for a test: files are deployed as `pipit deploy` would, rows come in as events do, answers come over
HTTP. All of it is gone when the context ends, and nothing of the user's data directory is touched.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yarl

from pipit import jsontext
from pipit.access.tokens import make_token
from pipit.api.app import app_for
from pipit.api.listen import listening
from pipit.catalog.snapshot import Snapshot
from pipit.server import Config, Server, open_server

_SECONDS = 300.0  # of one request; the server's own limits are far below


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def json(self) -> Any:
        """What the body says; None where it is no JSON."""
        try:
            return jsontext.exact(self.body)
        except ValueError:
            return None

    @property
    def error(self) -> str:
        found = self.json
        return str(found["error"]) if isinstance(found, dict) and "error" in found else self.text


@dataclass(frozen=True, slots=True)
class FreshWorkspace:
    """One workspace of the test server, with its admin token."""

    server: Server
    id: str
    url: str
    session: aiohttp.ClientSession

    @property
    def snapshot(self) -> Snapshot:
        return self.server.catalog.snapshot(self.id)

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Reply:
        return await self._ask("GET", path, params, None)

    async def post(self, path: str, params: Mapping[str, str] | None = None, body: bytes = b"") -> Reply:
        return await self._ask("POST", path, params, body)

    async def get_url(self, url: yarl.URL, *, token: str = "") -> Reply:
        """A URL as it stands, with the parameters in it. `token`: another one than the workspace's."""
        return await self._send("GET", url, None, None, token)

    async def _ask(self, method: str, path: str, params: Mapping[str, str] | None, body: bytes | None) -> Reply:
        return await self._send(method, self.url + path, params, body)

    async def _send(
        self,
        method: str,
        url: str | yarl.URL,
        params: Mapping[str, str] | None,
        body: bytes | None,
        token: str = "",
    ) -> Reply:
        headers = {"Authorization": f"Bearer {token or self.snapshot.workspace.admin_token}"}
        async with self.session.request(
            method, url, params=params, data=body, headers=headers, allow_redirects=False
        ) as response:
            return Reply(response.status, await response.read())


@dataclass(frozen=True, slots=True)
class Harness:
    """A running server; `files` is where rows may be loaded from."""

    server: Server
    url: str
    session: aiohttp.ClientSession

    async def workspace(self, name: str, secrets: Mapping[str, str]) -> FreshWorkspace:
        made = await self.server.catalog.create_workspace(name)
        for secret, value in sorted(secrets.items()):
            await self.server.catalog.put_secret(made.id, secret, value)
        return FreshWorkspace(self.server, made.id, self.url, self.session)


@asynccontextmanager
async def open_harness(*, readable: tuple[Path, ...] = ()) -> AsyncIterator[Harness]:
    """A server in a temporary folder. `readable`: folders that the engine may load rows from. Raises Unavailable."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pipit-test-")))
        config = Config(data_dir=folder, admin_token=make_token(owner="test"), file_roots=readable)
        server = await stack.enter_async_context(open_server(config))
        url = await stack.enter_async_context(listening(app_for(server)))
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        yield Harness(server, url, session)

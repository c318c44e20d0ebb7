"""`open_engine`: the engine for a data directory, or for the server at PIPIT_CLICKHOUSE_URL."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from clickhouse_connect import get_async_client
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import Error as ClientError

from pipit.engine.defaults import DEFAULTS
from pipit.engine.embedded.supervisor import EngineAddress, Supervisor
from pipit.engine.failures import engine_away
from pipit.engine.http import HttpEngine
from pipit.errors import EngineStartError, Reason, Unavailable

log = logging.getLogger(__name__)

_REFUSED = (192, 193, 194, 516)
_CONNECTIONS = 256
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 3600.0  # a long insert is silent; a hung engine is the supervisor's to end
_RETRY_FIRST, _RETRY_MOST = 0.2, 2.0
_SEGMENTS = "segments"  # where ingestion keeps what is not inserted yet
_FILES = "files"  # and files that are loaded


class EmbeddedSource:
    """The client for the supervised child; a new one for each child."""

    embedded = True
    defaults: Mapping[str, str] = MappingProxyType({})  # its connections start with them

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._lock = asyncio.Lock()
        self._endpoint: EngineAddress | None = None
        self._client: AsyncClient | None = None

    @property
    def available(self) -> bool:
        return self._supervisor.endpoint is not None

    @property
    def endpoint(self) -> EngineAddress | None:
        return self._supervisor.endpoint

    @property
    def restarts(self) -> int:
        return max(0, self._supervisor.starts - 1)

    async def client(self) -> AsyncClient:
        endpoint = self._supervisor.endpoint
        if endpoint is None:
            raise engine_away()
        if self._client is not None and endpoint is self._endpoint:
            return self._client
        async with self._lock:
            if self._client is None or endpoint is not self._endpoint:
                client = await _connect("http", "127.0.0.1", endpoint.port, endpoint.user, endpoint.password)
                await self.close()
                self._client, self._endpoint = client, endpoint
            return self._client

    def lost(self, client: AsyncClient) -> None:
        """The supervisor sees for itself."""

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client._force_close()


class ServerSource:
    """One client for a server at a URL. While the server is away calls are refused at once, and a task looks for it.

    One broken connection is no outage: the server is away only once a look at it fails too.
    """

    embedded = False
    endpoint = None
    restarts = 0

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EngineStartError("PIPIT_CLICKHOUSE_URL must look like http://user:password@host:port/")
        self._scheme = parts.scheme
        self._host = parts.hostname
        self._port = parts.port or (8443 if parts.scheme == "https" else 8123)
        self._user = unquote(parts.username or "default")
        self._password = unquote(parts.password or "")
        self._lock = asyncio.Lock()
        self._client: AsyncClient | None = None
        self._away: Unavailable | None = None  # why
        self._watcher: asyncio.Task[None] | None = None
        self.defaults: Mapping[str, str] = DEFAULTS

    @property
    def available(self) -> bool:
        return self._away is None

    async def client(self) -> AsyncClient:
        self._refuse_when_away()
        if self._client is not None:
            return self._client
        async with self._lock:
            self._refuse_when_away()  # by the one that tried before: a hundred callers are one attempt
            try:
                return await self._connected()
            except Unavailable as error:
                self._away = error
                self._watch()
                raise

    def lost(self, client: AsyncClient) -> None:
        self._watch()

    async def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        client, self._client = self._client, None
        if client is not None:
            client._force_close()

    def _refuse_when_away(self) -> None:
        if self._away is not None:
            raise Unavailable(self._away.message, reason=self._away.reason, hint=self._away.hint)

    async def _connected(self) -> AsyncClient:
        """With the lock held."""
        if self._client is None:
            self._client = await _connect(self._scheme, self._host, self._port, self._user, self._password)
            known = self._client.server_settings
            self.defaults = {name: value for name, value in DEFAULTS.items() if name in known}
        return self._client

    def _watch(self) -> None:
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._look(), name="engine server watcher")

    async def _look(self) -> None:
        """Until the server answers."""
        pause = _RETRY_FIRST
        while True:
            try:
                async with self._lock:
                    client = await self._connected()
                found = await client.ping()
            except Unavailable as error:
                self._away = error
            except Exception:  # whatever it is: nobody else will look
                log.exception("looking for the server failed")
                self._away = engine_away()
            else:
                if found:
                    self._away = None
                    return
                self._away = engine_away()
            await asyncio.sleep(pause)
            pause = min(pause * 2, _RETRY_MOST)


async def _connect(scheme: str, host: str, port: int, user: str, password: str) -> AsyncClient:
    try:
        return await get_async_client(
            interface=scheme,
            host=host,
            port=port,
            username=user,
            password=password,
            compress=False,
            connector_limit=_CONNECTIONS,
            connector_limit_per_host=_CONNECTIONS,
            connect_timeout=_CONNECT_SECONDS,
            send_receive_timeout=_READ_SECONDS,
            query_retries=0,
            show_clickhouse_errors="scrub",
        )
    except ClientError as error:
        log.warning("no connection to the engine: code %s", error.code)
        if error.code in _REFUSED:
            raise Unavailable(
                "The ClickHouse server refuses the user or password of PIPIT_CLICKHOUSE_URL",
                reason=Reason.ENGINE_START_FAILED,
            ) from None
        raise engine_away() from error


@asynccontextmanager
async def open_engine(
    data_dir: Path, url: str | None = None, *, file_roots: Sequence[Path] = (), memory: int = 0
) -> AsyncIterator[HttpEngine]:
    """The engine until the context ends. Raises EngineStartError.

    Embedded (no `url`), `insert_file` and `select_file` read files under `data_dir/segments`, `data_dir/files` and
    `file_roots` only. `memory`: bytes for the embedded engine, 0 for a share of the machine's.
    """
    if url:
        server = ServerSource(url)
        try:
            yield HttpEngine(server)
        finally:
            await server.close()
        return
    supervisor = Supervisor(data_dir, file_roots=[data_dir / _SEGMENTS, data_dir / _FILES, *file_roots], memory=memory)
    source = EmbeddedSource(supervisor)
    try:
        await supervisor.start()
        yield HttpEngine(source)
    finally:
        await source.close()
        await supervisor.stop()

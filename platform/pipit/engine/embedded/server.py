"""ClickHouse's HTTP protocol on loopback: reads the request, runs it as an `Execution`, sends the response.

- Each request is one statement on an engine connection of its own.
- A response streams if its format allows it.
- An error before the first byte has ClickHouse's header and body. A later one ends the connection, so that no client
  takes it for data.
- If the client disconnects, its query is killed.
- Everything but `/ping` needs the password.
"""

from __future__ import annotations

import base64
import hmac
import logging
import secrets
import uuid
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import IO

from aiohttp import web

from pipit.engine.embedded.body import Body
from pipit.engine.embedded.connections import Connections
from pipit.engine.embedded.content_encoding import Encoder, chosen_encoding
from pipit.engine.embedded.execution import LARGE, Execution, Task
from pipit.engine.embedded.failure import Failure
from pipit.engine.embedded.guard import Guard
from pipit.engine.embedded.incoming import Incoming, read_request, url_fields
from pipit.engine.embedded.running import Running, Threads
from pipit.engine.embedded.spool import Spool
from pipit.engine.embedded.statement import Insert

log = logging.getLogger(__name__)

_PIECE = 256 * 1024
_MESSAGE_BYTES = 8 * 1024
_LINE_BYTES = 4 << 20  # request line and header fields: filters travel in the URL
_CONTENT_TYPES = {
    "json": "application/json; charset=UTF-8",
    "jsoncompact": "application/json; charset=UTF-8",
    "jsoneachrow": "application/x-ndjson; charset=UTF-8",
    "csv": "text/csv; charset=UTF-8; header=absent",
    "csvwithnames": "text/csv; charset=UTF-8; header=present",
    "native": "application/octet-stream",
    "rowbinary": "application/octet-stream",
    "parquet": "application/octet-stream",
    "arrow": "application/octet-stream",
    "arrowstream": "application/octet-stream",
}
_TSV = "text/tab-separated-values; charset=UTF-8"


@dataclass(frozen=True, slots=True)
class Identity:
    """The credentials that requests must have, and what the server says of itself in each response."""

    user: str
    password: str
    version: str
    timezone: str
    name: str = "pipit"


class EngineServer:
    def __init__(
        self, connections: Connections, identity: Identity, guard: Guard, spool: Spool, grace: float
    ) -> None:
        """`grace`: see `StartOptions`."""
        self._connections = connections
        self._identity = identity
        self._guard = guard
        self._spool = spool
        self._threads = Threads(connections, grace)
        self._runner: web.ServerRunner | None = None

    async def start(self) -> int:
        """Listens on a free port of 127.0.0.1 and returns it."""
        server = web.Server(
            self.handle,
            handler_cancellation=True,
            auto_decompress=False,
            access_log=None,
            max_line_size=_LINE_BYTES,
            max_field_size=_LINE_BYTES,
            keepalive_timeout=3600,
            tcp_keepalive=False,
        )
        self._runner = web.ServerRunner(server)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024, shutdown_timeout=5)
        await site.start()
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        self._threads.stop()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        if path == "/ping":
            return web.Response(body=b"Ok.\n", content_type="text/html")
        headers = self._headers("")
        try:
            url = url_fields(query)
            query_id = url.get("query_id") or str(uuid.uuid4())
            headers = self._headers(query_id)
            self._authenticate(request, url)
            if path == "/heartbeat":
                await self._threads.beat()
                return web.Response(body=b"Ok.\n", headers=headers)
            if path != "/":
                return web.Response(
                    status=404, body=b"There is no handle " + path.encode()[:200] + b"\n", headers=headers
                )
            return await self._answer(request, url, query_id, headers)
        except (Failure, ValueError, OSError) as error:
            if isinstance(error, ConnectionError):
                raise  # the client is gone
            failure = error if isinstance(error, Failure) else _unexpected(error)
            headers["X-ClickHouse-Exception-Code"] = str(failure.code)
            if failure.status == 401:
                headers["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
            body = failure.body(self._identity.version)
            headers["Content-Type"] = "text/plain; charset=UTF-8"
            return web.Response(status=failure.status, body=body, headers=headers)

    def _headers(self, query_id: str) -> dict[str, str]:
        safe_id = query_id if query_id.isprintable() and query_id.isascii() else ""
        return {
            "X-ClickHouse-Server-Display-Name": self._identity.name,
            "X-ClickHouse-Query-Id": safe_id,
            "X-ClickHouse-Timezone": self._identity.timezone,
        }

    def _authenticate(self, request: web.BaseRequest, url: Mapping[str, str]) -> None:
        user = request.headers.get("X-ClickHouse-User") or url.get("user", "")
        password = request.headers.get("X-ClickHouse-Key") or url.get("password", "")
        authorization = request.headers.get("Authorization", "")
        if authorization.startswith("Basic "):
            try:
                user, _, password = base64.b64decode(authorization[6:], validate=True).decode().partition(":")
            except ValueError:
                user = password = ""
        known = hmac.compare_digest(password.encode(errors="replace"), self._identity.password.encode())
        if not known or user != self._identity.user:
            raise Failure(516, "Authentication failed: password is incorrect, or there is no user with such name")

    async def _answer(
        self, request: web.BaseRequest, url: dict[str, str], query_id: str, headers: dict[str, str]
    ) -> web.StreamResponse:
        async with AsyncExitStack() as ending:
            incoming = await read_request(request, url, query_id, self._spool, ending)
            execution = Execution(self._connections, self._guard, incoming.task)
            if incoming.insert is not None:
                return await self._insert(execution, incoming.insert, incoming.first, incoming.body, headers)
            return await self._read(request, execution, headers, incoming)

    async def _insert(
        self, execution: Execution, insert: Insert, first: bytes, body: Body, headers: dict[str, str]
    ) -> web.StreamResponse:
        if execution.task.params:
            raise Failure(48, "Query parameters with INSERT data are not supported by the embedded engine")
        async with Running(self._threads, execution) as running:
            await running.step(execution.begin_insert, insert)
            chunk = first
            while chunk or (chunk := await body.chunk()):
                await running.step(execution.append, chunk)
                chunk = b""
            await running.step(execution.finish)
        headers["X-ClickHouse-Summary"] = execution.summary.header()
        return web.Response(body=b"", headers=headers)

    async def _read(
        self, request: web.BaseRequest, execution: Execution, headers: dict[str, str], incoming: Incoming
    ) -> web.StreamResponse:
        async with Running(self._threads, execution) as running, AsyncExitStack() as ending:
            result = await running.step(execution.run)
            rest: IO[bytes] | None = None
            if result.more and incoming.whole:
                rest = ending.enter_context(await running.step(execution.rest, self._spool.folder))
            if result.format:
                headers["X-ClickHouse-Format"] = result.format
                headers["Content-Type"] = _CONTENT_TYPES.get(result.format.lower(), _TSV)
            encoder = self._encoder(request, execution.task)
            if encoder is not None:
                headers["Content-Encoding"] = encoder.encoding
            headers["X-ClickHouse-Summary"] = execution.summary.header()
            if not result.more:
                payload = result.body
                if encoder is not None:
                    payload = encoder.feed(bytes(payload)) + encoder.finish()
                if len(payload) < LARGE:
                    return web.Response(body=payload, headers=headers)
                return await _in_pieces(request, memoryview(payload), headers)
            tag = secrets.token_hex(8) if incoming.tagged and rest is None else ""
            if tag:
                headers["X-ClickHouse-Exception-Tag"] = tag
            response = web.StreamResponse(headers=headers)
            await response.prepare(request)
            try:
                block: bytes | None = bytes(result.body)
                while block:
                    await response.write(encoder.feed(block) if encoder else block)
                    block = await running.step(execution.next) if rest is None else rest.read(_PIECE)
                if encoder is not None:
                    await response.write(encoder.finish())
                await response.write_eof()
            except (Failure, ValueError, MemoryError) as error:
                log.info("query %s failed while streaming: %s", execution.task.tag, type(error).__name__)
                await self._break_off(request, response, tag, error, encoder)
            return response

    async def _break_off(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        tag: str,
        error: Exception,
        encoder: Encoder | None,
    ) -> None:
        """The connection ends before the last chunk, and the error is never taken for data. A client that asked for a
        tag finds the error behind the data, as a server writes it, and the answer ends in order: what a client has not
        read yet of a connection that breaks is lost to it."""
        if not tag:
            if request.transport is not None:
                request.transport.abort()
            return
        failure = error if isinstance(error, Failure) else _unexpected(error)
        message = failure.body(self._identity.version)[:_MESSAGE_BYTES].strip()
        ending = b"\r\n__exception__\r\n%b\r\n%b\r\n" % (tag.encode(), message)
        with suppress(ConnectionError):
            await response.write(encoder.feed(ending) + encoder.finish() if encoder else ending)
            await response.write_eof()

    def _encoder(self, request: web.BaseRequest, task: Task) -> Encoder | None:
        if task.settings.get("enable_http_compression", "0") in ("0", "false"):
            return None
        encoding = chosen_encoding(request.headers.get("Accept-Encoding", ""))
        return Encoder(encoding) if encoding else None


async def _in_pieces(request: web.BaseRequest, payload: memoryview, headers: dict[str, str]) -> web.StreamResponse:
    """Other requests have their turn between two pieces, and no second copy of all of it waits for the client. A piece
    is a copy: the event loop may send it when what has the payload's memory is gone."""
    response = web.StreamResponse(headers=headers)
    response.content_length = len(payload)
    await response.prepare(request)
    for start in range(0, len(payload), _PIECE):
        await response.write(bytes(payload[start : start + _PIECE]))
    await response.write_eof()
    return response


def _unexpected(error: Exception) -> Failure:
    if isinstance(error, UnicodeError) or isinstance(error.__cause__, UnicodeError):
        return Failure(36, "A value of the request is not valid UTF-8")
    log.exception("a request failed", exc_info=error)
    return Failure(1002, f"The engine process cannot handle this request: {type(error).__name__}")

"""`Engine` over clickhouse-connect's async client: the child process and a server alike (rule 7).

Promises: while the engine is away every call raises Unavailable at once; nothing is ever sent twice; values
are bound parameters; settings go beside the statement, never into it; the bytes of a result are handed on as
they come.

It uses the client's transport (`AsyncClient._backend`: pool, authentication, errors) and not
`raw_query`: that one rewrites the text, reads it to decide on repeats, and repeats reads by itself.
A statement that the child process gets often goes to the transport's session as one URL that is made once.
`tests/engine` hold the signatures.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
import yarl
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import Error as ClientError

from pipit.engine.binding import fields_of
from pipit.engine.client import Counts, ParamValue, Settings, Statement
from pipit.engine.failures import code_of, engine_away, engine_error, result_too_large
from pipit.engine.tail import Tail
from pipit.errors import PipitError, SqlError
from pipit.sql.literals import quote_string

if TYPE_CHECKING:
    from pipit.engine.embedded.supervisor import EngineAddress

_MARKER = "{source}"
_EXTERNAL = "pipit_source"
_ROWS_SETTINGS = {"output_format_json_quote_64bit_integers": "0", "output_format_json_quote_denormals": "0"}
_FILE_CHUNK = 1 << 20
_SMALL_BYTES = 1 << 16
_EXCEPTION = "X-ClickHouse-Exception-Code"
_BREAK_SECONDS = 0.1  # what it takes the supervisor to notice that its child is gone

_decode_row = msgspec.json.Decoder(dict[str, Any]).decode
_decode_summary = msgspec.json.Decoder(dict[str, int], strict=False).decode  # its numbers are texts


_Started = tuple[AsyncClient, aiohttp.ClientResponse]


class ClientSource(Protocol):
    """Where the client for the engine comes from; another one after the child was started again."""

    @property
    def embedded(self) -> bool: ...

    @property
    def available(self) -> bool: ...

    @property
    def restarts(self) -> int: ...

    @property
    def defaults(self) -> Mapping[str, str]:
        """The settings to send with every request."""
        ...

    @property
    def endpoint(self) -> EngineAddress | None:
        """Where the child serves now; None while none does, and on a server."""
        ...

    async def client(self) -> AsyncClient:
        """The client to use now. Raises Unavailable."""
        ...

    def lost(self, client: AsyncClient) -> None:
        """A request on this client met a broken connection."""
        ...


class HttpEngine:
    def __init__(self, source: ClientSource) -> None:
        self._source = source

    @property
    def embedded(self) -> bool:
        return self._source.embedded

    @property
    def available(self) -> bool:
        """Whether calls have a chance now."""
        return self._source.available

    @property
    def restarts(self) -> int:
        return self._source.restarts

    @property
    def endpoint(self) -> EngineAddress | None:
        """Where the engine's child process speaks HTTP, for measurements beside Pipit. Nothing in Pipit goes there."""
        return self._source.endpoint

    async def query(
        self,
        sql: str,
        params: Mapping[str, ParamValue] | None = None,
        *,
        settings: Settings | None = None,
        database: str | None = None,
        format: str | None = None,
        query_id: str | None = None,
    ) -> bytes:
        sent = fields_of(params, settings, database, format)
        # The engine holds the answer back until it is whole: an error is then an error, never half a result.
        sent["wait_end_of_query"] = "1"
        return await self._whole(sql.encode(), sent, query_id=query_id)

    def stream(
        self,
        sql: str | Statement,
        params: Mapping[str, ParamValue] | None = None,
        *,
        settings: Settings | None = None,
        database: str | None = None,
        format: str | None = None,
        query_id: str | None = None,
        counts: Counts | None = None,
        most: int = 0,
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        if isinstance(sql, str):
            return _Stream(self, Statement(sql, fields_of(params, settings, database, format)), query_id, counts, most)
        if self.embedded and sql.url is None:
            url = urlencode({**sql.fields, "exception_tag": "1", "query": sql.sql})
            sql.url = url if len(url) < _SMALL_BYTES else ""
        return _Stream(self, sql, query_id, counts, most)

    def _start(self, statement: Statement, query_id: str | None) -> Awaitable[_Started]:
        if statement.url:
            return self._send_url(statement.url, query_id)
        fields = dict(statement.fields)
        if self.embedded:
            fields["exception_tag"] = "1"  # a server always sends one
        return self._send(statement.sql.encode(), fields, query_id)

    async def rows(
        self,
        sql: str,
        params: Mapping[str, ParamValue] | None = None,
        *,
        settings: Settings | None = None,
        database: str | None = None,
    ) -> list[dict[str, Any]]:
        merged = _ROWS_SETTINGS | dict(settings or {})
        body = await self.query(sql, params, settings=merged, database=database, format="JSONEachRow")
        return [_decode_row(line) for line in body.splitlines()]

    async def command(
        self,
        sql: str,
        params: Mapping[str, ParamValue] | None = None,
        *,
        settings: Settings | None = None,
        database: str | None = None,
    ) -> None:
        await self.query(sql, params, settings=settings, database=database)

    async def insert(
        self, table: str, rows: Sequence[Mapping[str, object]], *, settings: Settings | None = None
    ) -> None:
        if not rows:
            return
        fields = fields_of(None, settings, None, None)
        fields["query"] = f"INSERT INTO {table} FORMAT JSONEachRow"
        await self._whole(b"\n".join(map(msgspec.json.encode, rows)), fields)

    async def insert_file(
        self,
        into: str,
        select: str,
        path: Path,
        *,
        format: str,
        structure: str,
        settings: Settings | None = None,
    ) -> None:
        fields = fields_of(None, settings, None, None)
        if self.embedded:
            source = _local_file(path, format, structure)
            await self._whole(f"INSERT INTO {into} {_with_source(select, source)}".encode(), fields)
            return
        source = f"input({quote_string(structure)})"
        fields["query"] = f"INSERT INTO {into} {_with_source(select, source)} FORMAT {format}"
        await self._whole(_file_chunks(path), fields)

    async def select_file(
        self,
        select: str,
        path: Path,
        *,
        format: str,
        structure: str,
        settings: Settings | None = None,
    ) -> list[dict[str, Any]]:
        fields = fields_of(None, _ROWS_SETTINGS | dict(settings or {}), None, "JSONEachRow")
        if self.embedded:
            source = _local_file(path, format, structure)
            body = await self._whole(_with_source(select, source).encode(), fields)
        else:
            fields["query"] = _with_source(select, _EXTERNAL)
            fields[f"{_EXTERNAL}_format"] = format
            fields[f"{_EXTERNAL}_structure"] = structure
            with path.open("rb") as file:
                body = await self._whole(None, fields, files={_EXTERNAL: (path.name, file)})
        return [_decode_row(line) for line in body.splitlines()]

    async def kill(self, query_id: str) -> None:
        await self._whole(f"KILL QUERY WHERE query_id = {quote_string(query_id)} ASYNC".encode(), {})

    async def _whole(
        self, body: Any, fields: dict[str, str], files: dict[str, Any] | None = None, *, query_id: str | None = None
    ) -> bytes:
        client, response = await self._send(body, fields, query_id, files)
        try:
            return await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise await self._broken(client) from error
        finally:
            _release(response)

    async def _send(
        self, body: Any, fields: dict[str, str], query_id: str | None, files: dict[str, Any] | None = None
    ) -> _Started:
        client = await self._source.client()
        fields = {**self._source.defaults, **fields, "query_id": query_id or uuid.uuid4().hex}
        if self.embedded and isinstance(body, bytes) and len(body) < _SMALL_BYTES:
            body = aiohttp.BytesPayload(body)  # the client would make a file of it, to be sent a second time
        try:
            response = await client._backend.request(
                body, fields, files=files, server_wait=False, retries=0, retryable=False
            )
        except ClientError as error:
            if error.code is None and _is_network(error):
                self._source.lost(client)
                raise engine_away() from error
            raise engine_error(error.code, str(error), error.name or "") from None
        except aiohttp.ClientError as error:
            self._source.lost(client)
            raise engine_away() from error
        return client, response

    async def _send_url(self, url: str, query_id: str | None) -> _Started:
        """To the child process: statement and all in the URL, and no body. It is what `_send` does, without what that
        makes anew of the same fields for each request."""
        client = await self._source.client()
        backend, endpoint = client._backend, self._source.endpoint
        lease = backend.session_lease
        if lease is None or lease.session.closed or endpoint is None:
            raise engine_away()
        query = f"{url}&query_id={quote(query_id or uuid.uuid4().hex)}"
        whole = yarl.URL.build(
            scheme="http", host="127.0.0.1", port=endpoint.port, path="/", query_string=query, encoded=True
        )
        lease.acquire()
        kept = False
        try:
            response = await lease.session.post(whole, allow_redirects=False)
            if response.status == 200 and _EXCEPTION not in response.headers:
                response._lease_release = lease.release  # type: ignore[attr-defined]
                kept = True
                return client, response
            await backend.error_handler(response)
            raise engine_away()
        except ClientError as error:
            raise engine_error(error.code, str(error), error.name or "") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            self._source.lost(client)
            raise engine_away() from error
        finally:
            if not kept:
                lease.release()

    async def _broken(self, client: AsyncClient) -> PipitError:
        """The connection broke after the answer had begun: the engine is gone, or it gave the query up."""
        await asyncio.sleep(_BREAK_SECONDS)
        if not self._source.available or await self._source.client() is not client:
            self._source.lost(client)
            return engine_away()
        return SqlError("The query failed after its result had begun", hint="Run it again to see the reason")


class _Stream:
    """A result as it comes. (A class, since a loop keeps account of each async generator.)"""

    def __init__(
        self, engine: HttpEngine, statement: Statement, query_id: str | None, counts: Counts | None, most: int
    ) -> None:
        self._engine = engine
        self._request = statement, query_id
        self._counts = counts
        self._most = most
        self._ready: deque[bytes] = deque()
        self._tail: Tail | None = None
        self._finished = False

    async def __aenter__(self) -> AsyncIterator[bytes]:
        self._client, self._response = await self._engine._start(*self._request)
        response = self._response
        if self._counts is not None:
            self._counts(_summary(response.headers.get("X-ClickHouse-Summary", "")))
        if self._most and (response.content_length or 0) > self._most:
            response.close()
            _release(response)
            raise result_too_large(self._most)
        tag = response.headers.get("X-ClickHouse-Exception-Tag")
        self._tail = Tail(tag) if tag else None
        return self

    async def __aexit__(self, *error: object) -> None:
        if not self._finished:
            self._response.close()  # the connection goes too, and the engine ends the query
        _release(self._response)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._ready:
            if self._finished:
                raise StopAsyncIteration
            broken: Exception | None = None
            block = b""
            try:
                block = await self._response.content.readany()
            except (aiohttp.ClientError, TimeoutError) as error:
                broken = error
            if not block:
                await self._end(broken)
            elif self._tail is None:
                return block
            else:
                self._ready.extend(self._tail.feed(block))
        return self._ready.popleft()

    async def _end(self, broken: Exception | None) -> None:
        """Nothing follows: what was kept back is data, or says why."""
        last = self._tail.end() if self._tail is not None else b""
        if self._tail is not None and self._tail.message:
            self._finished = True
            raise engine_error(code_of(self._tail.message), self._tail.message)
        if broken is not None:
            raise await self._engine._broken(self._client) from broken
        self._finished = True
        if last:
            self._ready.append(last)


def _summary(header: str) -> dict[str, int]:
    try:
        return _decode_summary(header)
    except msgspec.DecodeError:
        return {}


def _with_source(select: str, source: str) -> str:
    if select.count(_MARKER) != 1:
        raise ValueError(f"the SELECT must hold {_MARKER} exactly once")
    return select.replace(_MARKER, source)


async def _file_chunks(path: Path) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    with path.open("rb") as file:
        while chunk := await loop.run_in_executor(None, file.read, _FILE_CHUNK):
            yield chunk


def _local_file(path: Path, format: str, structure: str) -> str:
    return f"file({quote_string(os.path.abspath(path))}, {quote_string(format)}, {quote_string(structure)})"


def _release(response: aiohttp.ClientResponse) -> None:
    response.release()
    response._lease_release()  # type: ignore[attr-defined]


def _is_network(error: BaseException) -> bool:
    return isinstance(error.__cause__, (aiohttp.ClientError, OSError, TimeoutError))

"""`open_engine` with a URL: the same code, the same answers. The engine process plays the server."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipit.engine import Engine, open_engine
from pipit.engine.embedded.supervisor import EngineAddress
from pipit.engine.http import HttpEngine
from pipit.errors import EngineStartError, SqlError, Unavailable
from ports import free_port
from waiting import until

pytestmark = pytest.mark.anyio


def url_of(endpoint: EngineAddress) -> str:
    return f"http://{endpoint.user}:{endpoint.password}@127.0.0.1:{endpoint.port}/"


@pytest.fixture
async def remote(endpoint: EngineAddress, tmp_path: Path) -> AsyncIterator[HttpEngine]:
    async with open_engine(tmp_path, url_of(endpoint)) as opened:
        yield opened


async def test_it_reads_and_writes(remote: Engine, database: str) -> None:
    assert not remote.embedded and remote.available
    await remote.command(f"CREATE TABLE {database}.t (n Int64, s String) ENGINE = MergeTree ORDER BY n")
    await remote.insert(f"{database}.t", [{"n": 1, "s": "it's"}])
    assert await remote.rows(f"SELECT n, s FROM {database}.t WHERE s = {{s:String}}", {"s": "it's"}) == [
        {"n": 1, "s": "it's"}
    ]
    async with remote.stream("SELECT number FROM numbers(3)", format="CSV") as blocks:
        assert b"".join([block async for block in blocks]) == b"0\n1\n2\n"
    with pytest.raises(SqlError):
        await remote.query("SELECT nope")


async def test_files_travel_in_the_body(remote: Engine, database: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"
    file.write_bytes(b"".join(b'{"n":%d,"s":"x"}\n' % n for n in range(200_000)))
    await remote.command(f"CREATE TABLE {database}.t (n Int64, s String) ENGINE = MergeTree ORDER BY n")
    await remote.insert_file(
        f"{database}.t (n, s)",
        "SELECT n * 10, s FROM {source} WHERE n > 0",
        file,
        format="JSONEachRow",
        structure="n Int64, s String",
    )
    assert await remote.query(f"SELECT count(), max(n) FROM {database}.t") == b"199999\t1999990\n"
    counted = await remote.select_file(
        "SELECT count() AS c FROM {source}", file, format="JSONEachRow", structure="n Int64, s String"
    )
    assert counted == [{"c": 200_000}]


class Wire:
    """A server's address for the engine process, which chooses another port at each start: a line that can be cut."""

    def __init__(self, endpoint: EngineAddress) -> None:
        self._endpoint = endpoint
        self._server: asyncio.Server | None = None
        self._lines: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.calls = 0
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"http://{self._endpoint.user}:{self._endpoint.password}@127.0.0.1:{self.port}/"

    async def up(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def down(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.cut()

    async def cut(self) -> None:
        """Every connection breaks; new ones are taken."""
        for line in self._lines:
            line.transport.abort()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        inner, outer = await asyncio.open_connection("127.0.0.1", self._endpoint.port)
        self._lines |= {writer, outer}
        try:
            await asyncio.gather(self._copy(reader, outer), self._copy(inner, writer))
        finally:
            self._lines -= {writer, outer}
            self._tasks.discard(task)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@pytest.fixture
async def wire(endpoint: EngineAddress) -> AsyncIterator[Wire]:
    wire = Wire(endpoint)
    yield wire
    await wire.down()


async def test_a_server_that_goes_and_comes_back(wire: Wire, tmp_path: Path) -> None:
    await wire.up()
    async with open_engine(tmp_path, wire.url) as engine:
        for _ in range(2):
            assert await engine.query("SELECT 1") == b"1\n"
            await wire.down()
            with pytest.raises(Unavailable):
                await engine.query("SELECT 1")
            await until(lambda: not engine.available)
            took = []
            for _ in range(20):
                began = time.monotonic()
                with pytest.raises(Unavailable):
                    await engine.query("SELECT 1")
                took.append(time.monotonic() - began)
            assert statistics.median(took) < 0.05, "none is tried: each raises at once"
            assert not engine.available
            await wire.up()
            await until(lambda: engine.available)
        assert await engine.query("SELECT 1") == b"1\n"


async def test_one_broken_connection_is_no_outage(wire: Wire, tmp_path: Path) -> None:
    await wire.up()
    async with open_engine(tmp_path, wire.url) as engine:
        await engine.query("SELECT 1")
        slow = asyncio.create_task(engine.query("SELECT sleep(2)"))
        seen = wire.calls
        await asyncio.sleep(0.1)
        await wire.cut()
        with pytest.raises(Unavailable):
            await slow
        assert engine.available
        assert await engine.query("SELECT 1") == b"1\n"
        await until(lambda: wire.calls > seen + 1)  # it was looked at: a line for the look, one for the query
        assert engine.available


async def test_a_server_that_is_away_from_the_start(wire: Wire, tmp_path: Path) -> None:
    async with open_engine(tmp_path, wire.url) as engine:
        with pytest.raises(Unavailable):
            await engine.query("SELECT 1")
        assert not engine.available
        await wire.up()
        await until(lambda: engine.available)
        assert await engine.rows("SELECT 1 AS n") == [{"n": 1}]


async def test_many_callers_are_one_attempt(tmp_path: Path) -> None:
    calls = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        await reader.read(1)
        writer.transport.abort()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with open_engine(tmp_path, f"http://u:p@127.0.0.1:{port}/") as engine:
            results = await asyncio.gather(*(engine.query("SELECT 1") for _ in range(50)), return_exceptions=True)
            assert all(isinstance(result, Unavailable) for result in results)
            assert calls < 10


async def test_nothing_looks_for_the_server_after_the_end(wire: Wire, tmp_path: Path) -> None:
    async with open_engine(tmp_path, wire.url) as engine:
        with pytest.raises(Unavailable):
            await engine.query("SELECT 1")
    assert [task.get_name() for task in asyncio.all_tasks() if "server" in task.get_name()] == []


async def test_a_wrong_password_says_so(endpoint: EngineAddress, tmp_path: Path) -> None:
    async with open_engine(tmp_path, f"http://{endpoint.user}:guess@127.0.0.1:{endpoint.port}/") as engine:
        for _ in range(2):
            with pytest.raises(Unavailable, match="user or password"):
                await engine.query("SELECT 1")


@pytest.mark.parametrize("url", ["localhost:8123", "ftp://x/", "http://", "tcp://localhost:9000"])
async def test_a_url_that_is_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(EngineStartError, match="PIPIT_CLICKHOUSE_URL"):
        async with open_engine(tmp_path, url):
            pass

"""`open_engine` with a URL: the same code, the same answers. The engine process plays the server."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipit.engine import Engine, open_engine
from pipit.engine.embedded.supervisor import Endpoint, Supervisor
from pipit.engine.http import HttpEngine
from pipit.errors import EngineStartError, SqlError, Unavailable

pytestmark = pytest.mark.anyio


def url_of(endpoint: Endpoint) -> str:
    return f"http://{endpoint.user}:{endpoint.password}@127.0.0.1:{endpoint.port}/"


@pytest.fixture
async def remote(endpoint: Endpoint, tmp_path: Path) -> AsyncIterator[HttpEngine]:
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


async def test_a_server_that_is_away(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, memory=1 << 30)
    url = url_of(await supervisor.start())
    try:
        async with open_engine(tmp_path / "other", url) as engine:
            assert await engine.query("SELECT 1") == b"1\n"
            await supervisor.stop()
            for _ in range(2):
                began = time.monotonic()
                with pytest.raises(Unavailable):
                    await engine.query("SELECT 1")
                assert time.monotonic() - began < 1
            assert not engine.available
            assert not await engine.wait_available(0.2)
    finally:
        await supervisor.stop()


async def test_a_server_that_is_away_from_the_start(tmp_path: Path) -> None:
    async with open_engine(tmp_path, "http://127.0.0.1:1/") as engine:
        with pytest.raises(Unavailable):
            await engine.query("SELECT 1")
        assert not engine.available


async def test_a_wrong_password_says_so(endpoint: Endpoint, tmp_path: Path) -> None:
    async with open_engine(tmp_path, f"http://{endpoint.user}:guess@127.0.0.1:{endpoint.port}/") as engine:
        with pytest.raises(Unavailable, match="user or password"):
            await engine.query("SELECT 1")


@pytest.mark.parametrize("url", ["localhost:8123", "ftp://x/", "http://", "tcp://localhost:9000"])
async def test_a_url_that_is_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(EngineStartError, match="PIPIT_CLICKHOUSE_URL"):
        async with open_engine(tmp_path, url):
            pass

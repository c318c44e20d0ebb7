"""The measure of the engine process: clickhouse-connect's own async client works against it, unmodified."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import clickhouse_connect
import numpy
import pyarrow
import pytest
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from clickhouse_connect.driver.summary import QuerySummary

from pipit.engine.embedded.supervisor import EngineAddress

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True, "gzip", "zstd"], ids=["plain", "lz4", "gzip", "zstd"])
async def client(request: pytest.FixtureRequest, endpoint: EngineAddress, database: str) -> AsyncIterator[AsyncClient]:
    client = await clickhouse_connect.get_async_client(
        host="127.0.0.1",
        port=endpoint.port,
        username=endpoint.user,
        password=endpoint.password,
        database=database,
        compress=request.param,
    )
    yield client
    await client.close()


@pytest.fixture
async def table(client: AsyncClient) -> str:
    await client.command("CREATE TABLE t (n Int64, s String, f Nullable(Float64)) ENGINE = MergeTree ORDER BY n")
    return "t"


async def test_ping_and_version(client: AsyncClient) -> None:
    assert await client.ping()
    assert (client.server_version or "").startswith("26.")


async def test_query_reads_every_kind_of_value(client: AsyncClient) -> None:
    result = await client.query(
        "SELECT 1::UInt8 AS a, -5::Int64 AS b, 'x' AS c, 1.5 AS d, toDate('2024-01-02') AS e, NULL AS f,"
        " [1,2]::Array(UInt8) AS g, map('k', 1)::Map(String, UInt8) AS h, toDecimal64(1.25, 2) AS i,"
        " toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0') AS j, toDateTime('2024-01-02 03:04:05', 'UTC') AS k"
    )
    assert result.column_names == tuple("abcdefghijk")
    assert result.result_rows == [
        (
            1,
            -5,
            "x",
            1.5,
            dt.date(2024, 1, 2),
            None,
            [1, 2],
            {"k": 1},
            Decimal("1.25"),
            UUID("61f0c404-5cb3-11e7-907b-a6006ad3dba0"),
            dt.datetime(2024, 1, 2, 3, 4, 5),
        )
    ]
    assert int(result.summary["result_rows"]) == 1


async def test_an_empty_result_and_a_limit_of_zero(client: AsyncClient) -> None:
    assert (await client.query("SELECT number FROM numbers(0)")).result_rows == []
    assert (await client.query("SELECT number AS n FROM numbers(5) LIMIT 0")).column_names == ("n",)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "it's",
        'a"b`c',
        "back\\slash",
        "tab\tnew\nline\rfeed",
        "nul\0byte",
        "\\N",
        "{x:String}",
        "日本 ‘’ 🐦",
        "' OR 1=1 --",
    ],
)
async def test_parameters_arrive_unchanged(client: AsyncClient, value: str) -> None:
    result = await client.query(
        "SELECT {v:String}, {l:Array(String)}, hex({v:String})", parameters={"v": value, "l": [value, "x"]}
    )
    assert result.result_rows[0][:2] == (value, [value, "x"])
    assert bytes.fromhex(result.result_rows[0][2]).decode() == value


async def test_form_encoded_parameters(endpoint: EngineAddress, database: str) -> None:
    client = await clickhouse_connect.get_async_client(
        host="127.0.0.1",
        port=endpoint.port,
        username=endpoint.user,
        password=endpoint.password,
        database=database,
        form_encode_query_params=True,
    )
    try:
        result = await client.query(
            "SELECT {v:String}, length({long:String})", parameters={"v": "it's", "long": "y" * 300_000}
        )
        assert result.result_rows == [("it's", 300_000)]
    finally:
        await client.close()


async def test_insert_and_read_back(client: AsyncClient, table: str) -> None:
    rows: list[list[Any]] = [[n, f"row '{n}'", n / 2 if n % 2 else None] for n in range(5000)]
    summary = await client.insert(table, rows, column_names=["n", "s", "f"])
    assert summary.written_rows == 5000
    result = await client.query("SELECT n, s, f FROM t ORDER BY n")
    assert [list(row) for row in result.result_rows] == rows


@pytest.mark.parametrize("compression", [None, "gzip", "lz4", "zstd"])
async def test_raw_insert(client: AsyncClient, table: str, compression: str | None) -> None:
    import gzip

    import lz4.frame
    from backports import zstd

    plain = b"".join(b'{"n":%d,"s":"x"}\n' % n for n in range(2000))
    packed = {None: plain, "gzip": gzip.compress(plain), "lz4": lz4.frame.compress(plain), "zstd": zstd.compress(plain)}
    await client.raw_insert(table, ["n", "s"], packed[compression], fmt="JSONEachRow", compression=compression)
    assert (await client.query("SELECT count(), sum(n) FROM t")).result_rows == [(2000, 1999000)]


async def test_raw_insert_from_a_file_and_from_a_generator(client: AsyncClient, table: str) -> None:
    await client.raw_insert(table, ["n", "s"], io.BytesIO(b"1\ta\n2\tb\n"), fmt="TSV")

    async def lines() -> AsyncIterator[bytes]:
        for n in range(3, 2000):
            yield b"%d\tz\n" % n

    await client.raw_insert(table, ["n", "s"], lines(), fmt="TSV")
    assert (await client.query("SELECT count(), max(n) FROM t")).result_rows == [(1999, 1999)]


async def test_a_bad_row_refuses_the_insert(client: AsyncClient, table: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        await client.raw_insert(table, ["n", "s"], b'{"n":1,"s":"a"}\n{"n":"x', fmt="JSONEachRow")
    assert caught.value.code is not None
    assert await client.command("SELECT count() FROM t") == 0


async def test_commands(client: AsyncClient, table: str) -> None:
    assert await client.command("SELECT 42") == 42
    assert await client.command("SELECT 'a', 'b'") == ["a", "b"]
    summary = await client.command("INSERT INTO t (n, s) VALUES (1, 'x'), (2, 'y')")
    assert isinstance(summary, QuerySummary)
    assert summary.written_rows == 2
    assert await client.command("SELECT count() FROM t") == 2
    await client.command("INSERT INTO t (n, s) SELECT number, 'z' FROM numbers({k:UInt32})", parameters={"k": 10})
    assert await client.command("SELECT count() FROM t") == 12
    await client.command("TRUNCATE TABLE t")
    assert await client.command("EXISTS TABLE t") == 1


async def test_streams(client: AsyncClient) -> None:
    sql = "SELECT number, toString(number) AS s FROM numbers(300000)"
    with await client.query_rows_stream(sql) as rows:
        seen = [row async for row in rows]
    assert seen[-1] == (299999, "299999")
    with await client.query_row_block_stream(sql) as blocks:
        assert sum([len(block) async for block in blocks]) == 300000
    with await client.query_column_block_stream(sql) as blocks:
        assert sum([len(block[0]) async for block in blocks]) == 300000
    with await client.query_np_stream("SELECT number FROM numbers(300000)") as blocks:
        assert sum([int(numpy.sum(block)) async for block in blocks]) == 299999 * 150000


async def test_raw_query_and_raw_stream(client: AsyncClient) -> None:
    body = await client.raw_query("SELECT number AS n FROM numbers(3)", fmt="JSONEachRow")
    assert body == b'{"n":0}\n{"n":1}\n{"n":2}\n'
    parts = []
    async with await client.raw_stream("SELECT number FROM numbers(500000)", fmt="CSV") as stream:
        async for part in stream:
            parts.append(part)
    assert b"".join(parts).count(b"\n") == 500000
    assert len(parts) > 1


async def test_arrow(client: AsyncClient, table: str) -> None:
    await client.insert_arrow(table, pyarrow.table({"n": [1, 2], "s": ["a", "b"]}))
    read = await client.query_arrow("SELECT n, s FROM t ORDER BY n", use_strings=True)
    assert read.column("s").to_pylist() == ["a", "b"]


async def test_pandas_and_numpy(client: AsyncClient) -> None:
    frame = await client.query_df("SELECT number AS n FROM numbers(10)")
    assert int(frame["n"].sum()) == 45
    assert (await client.query_np("SELECT number FROM numbers(10)")).sum() == 45


async def test_errors_carry_the_code(client: AsyncClient) -> None:
    for sql, code in (("SELECT nope", 47), ("SELECT * FROM nope", 60), ("SELEC 1", 62)):
        with pytest.raises(DatabaseError) as caught:
            await client.query(sql)
        assert caught.value.code == code


async def test_an_error_in_the_middle_is_never_data(client: AsyncClient) -> None:
    sql = "SELECT number, throwIf(number = 400000) FROM numbers(1000000) SETTINGS max_block_size = 10000"
    with pytest.raises(DatabaseError):
        await client.raw_query(sql, fmt="TSV")
    seen = b""
    with pytest.raises(Exception) as caught:
        async with await client.raw_stream(sql, fmt="TSV") as stream:
            async for part in stream:
                seen += part
    assert not isinstance(caught.value, AssertionError)
    assert b"Exception" not in seen
    with pytest.raises((DatabaseError, OperationalError)), await client.query_rows_stream(sql) as rows:
        async for _ in rows:
            pass


async def test_settings(client: AsyncClient) -> None:
    result = await client.query("SELECT getSetting('max_threads')", settings={"max_threads": 3})
    assert result.result_rows == [(3,)]
    with pytest.raises(DatabaseError) as caught:
        await client.query("SELECT 1", settings={"no_such_setting": 1})
    assert caught.value.code == 115
    filters = {"system.one": "dummy = 1 OR 'it\\'s' = ''"}
    result = await client.query("SELECT count() FROM system.one", settings={"additional_table_filters": filters})
    assert result.result_rows == [(0,)]
    assert (await client.query("SELECT count() FROM system.one")).result_rows == [(1,)]


async def test_many_side_by_side(client: AsyncClient) -> None:
    results = await asyncio.gather(
        *(client.query("SELECT sum(number) FROM numbers({n:UInt64})", parameters={"n": n}) for n in range(60))
    )
    assert [r.result_rows[0][0] for r in results] == [sum(range(n)) for n in range(60)]


async def test_a_wrong_password_is_refused(endpoint: EngineAddress) -> None:
    with pytest.raises(DatabaseError) as caught:
        await clickhouse_connect.get_async_client(
            host="127.0.0.1", port=endpoint.port, username=endpoint.user, password="guess"
        )
    assert caught.value.code == 516

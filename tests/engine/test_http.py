"""Pipit's client on the engine process: values, settings, streams, errors, files, kills."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from clickhouse_connect.driver._backend.http_async import HttpAsyncBackend, SessionLease
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import examples
from pipit.engine import Engine, Settings
from pipit.engine.binding import bind, fields_of
from pipit.engine.client import Statement
from pipit.errors import QueryTimeout, SqlError, TooLarge
from waiting import until

pytestmark = pytest.mark.anyio

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


async def until_gone(engine: Engine, mark: str) -> None:
    sql = "SELECT count() AS c FROM system.processes WHERE query LIKE {mark:String} AND query NOT LIKE '%processes%'"

    async def gone() -> bool:
        return (await engine.rows(sql, {"mark": f"%{mark}%"}))[0]["c"] == 0

    await until(gone)


async def test_query_gives_the_bytes_of_the_format(engine: Engine) -> None:
    assert await engine.query("SELECT {n:Int32} AS n", {"n": 5}, format="JSONEachRow") == b'{"n":5}\n'
    assert await engine.query("SELECT 1") == b"1\n"
    body = await engine.query("SELECT 1 AS a", format="JSON")
    assert body.startswith(b"{") and b'"rows": 1' in body


async def test_rows_have_plain_numbers(engine: Engine) -> None:
    sql = "SELECT toUInt64(18446744073709551615) AS a, toInt64(-5) AS b, NULL AS c, [1]::Array(UInt64) AS d, 1.5 AS e"
    assert await engine.rows(sql) == [{"a": 2**64 - 1, "b": -5, "c": None, "d": [1], "e": 1.5}]
    assert (await engine.rows("EXPLAIN QUERY TREE SELECT 1"))[0].keys() == {"explain"}


async def test_values_of_every_kind(engine: Engine) -> None:
    rows = await engine.rows(
        "SELECT {b:Bool} AS b, {u:UInt8} AS u, {f:Float64} AS f, {n:Nullable(Int8)} AS n, {a:Array(Int64)} AS a,"
        " {aa:Array(Array(String))} AS aa, {e:Array(String)} AS e, {m:Array(Nullable(String))} AS m",
        {
            "b": True,
            "u": False,
            "f": 0.1,
            "n": None,
            "a": (1, -(2**63)),
            "aa": [["x"], []],
            "e": [],
            "m": [None, "\\N"],
        },
    )
    assert rows == [
        {
            "b": True,
            "u": 0,
            "f": 0.1,
            "n": None,
            "a": [1, -(2**63)],
            "aa": [["x"], []],
            "e": [],
            "m": [None, "\\N"],
        }
    ]


@pytest.mark.hypothesis
async def test_any_text_arrives_unchanged(engine: Engine) -> None:
    loop = asyncio.get_running_loop()

    async def seen(value: str, many: list[str]) -> tuple[str, list[str]]:
        sql = "SELECT hex({v:String}) AS v, arrayMap(x -> hex(x), {m:Array(String)}) AS m"
        row = (await engine.rows(sql, {"v": value, "m": many}))[0]
        return bytes.fromhex(row["v"]).decode(), [bytes.fromhex(text).decode() for text in row["m"]]

    @settings(max_examples=examples(200))
    @given(TEXT, st.lists(TEXT, max_size=4))
    def check(value: str, many: list[str]) -> None:
        assert asyncio.run_coroutine_threadsafe(seen(value, many), loop).result(20) == (value, many)

    await asyncio.to_thread(check)


async def test_a_percent_sign_and_a_parameter_that_is_not_used(engine: Engine) -> None:
    assert await engine.query("SELECT 'a' LIKE '%a%', '%(x)s'", {"x": "' OR 1"}) == b"1\t%(x)s\n"


def test_bound_texts() -> None:
    assert bind({"a": "it's\t\\", "b": [True, None, "x'"], "c": None}) == {
        "param_a": "it\\'s\\\t\\\\",
        "param_b": "[1, NULL, 'x\\'']",
        "param_c": "\\N",
    }


async def test_settings_are_of_one_request(engine: Engine) -> None:
    hostile = "{'system.one':'dummy = 0 AND \\'it\\\\\\'s ; DROP\\' != \\'\\''}"
    sql = "SELECT count() FROM system.one"
    filters: dict[str, str | int] = {"additional_table_filters": hostile, "readonly": 1}
    assert await engine.query(sql, settings=filters) == b"1\n"
    nothing: Settings = {"additional_table_filters": "{'system.one':'0'}", "readonly": 1}
    assert await engine.query(sql, settings=nothing) == b"0\n"
    assert await engine.query(f"{sql} SETTINGS additional_table_filters = {{}}", settings=filters | {"readonly": 0})
    with pytest.raises(SqlError) as caught:
        await engine.query(f"{sql} SETTINGS additional_table_filters = {{}}", settings=nothing)
    assert caught.value.engine_code == 164
    assert await engine.query(sql) == b"1\n"


async def test_a_filter_of_four_hundred_thousand_bytes(engine: Engine) -> None:
    condition = "toString(dummy) IN (\\'0\\', \\'" + "y" * 400_000 + "\\')"
    filters: Settings = {"additional_table_filters": "{'system.one':'" + condition + "'}", "readonly": 1}
    assert await engine.query("SELECT count() FROM system.one", settings=filters) == b"1\n"


async def test_the_dialects_defaults(engine: Engine) -> None:
    assert await engine.query("SELECT getSetting('join_algorithm')") == b"hash\n"
    assert await engine.query("SELECT getSetting('join_algorithm')", settings={"join_algorithm": "auto"}) == b"auto\n"


async def test_a_database_for_one_request(engine: Engine, database: str) -> None:
    await engine.command("CREATE TABLE t (n Int8) ENGINE = MergeTree ORDER BY n", database=database)
    assert await engine.query("SELECT count() FROM t", database=database) == b"0\n"
    with pytest.raises(SqlError) as caught:
        await engine.query("SELECT count() FROM t", database="no `such")
    assert caught.value.engine_code == 81


async def test_a_stream_comes_in_parts(engine: Engine) -> None:
    parts = []
    async with engine.stream("SELECT number FROM numbers(1000000)", format="JSONEachRow") as blocks:
        async for block in blocks:
            parts.append(block)
    assert len(parts) > 3 and b"".join(parts).count(b"\n") == 1_000_000


@pytest.mark.parametrize("format", ["JSON", "CSVWithNames", "Parquet", "JSONCompact", "Native", "CSV", "PrettyCompact"])
async def test_stream_and_query_give_the_same_bytes(engine: Engine, format: str) -> None:
    sql = "SELECT number AS n, toString(number) AS s FROM numbers(200000) ORDER BY n"
    quiet = {"output_format_write_statistics": 0, "max_threads": 1}
    async with engine.stream(sql, format=format, settings=quiet) as blocks:
        streamed = b"".join([block async for block in blocks])
    assert streamed == await engine.query(sql, format=format, settings=quiet)
    if format == "Parquet":
        assert streamed[:4] == streamed[-4:] == b"PAR1"


def kept(sql: str, params: dict[str, str] | None = None, format: str = "TSV", **settings: str | int) -> Statement:
    return Statement(sql, fields_of(params, settings, None, format))


async def run(engine: Engine, statement: Statement, **options: Any) -> bytes:
    async with engine.stream(statement, **options) as blocks:
        return b"".join([block async for block in blocks])


AWKWARD = "it's 100% + a&b=c; \"é\" \\ 😀 # ?\ttab\nline"


@pytest.mark.parametrize("long", [False, True], ids=["in the URL", "in the body"])
async def test_a_statement_that_is_kept_is_run_as_any_other(engine: Engine, long: bool) -> None:
    comment = f"/* {'é' * 40_000} */" if long else "/* a comment & more=1 + 50% */"
    sql = f"SELECT {{v:String}}, '50% + é&x=1'\n, 1 AS `a b` {comment} -- the end"
    statement = kept(sql, {"v": AWKWARD}, "JSONCompactEachRow")
    for _ in range(2):
        assert msgspec.json.decode(await run(engine, statement)) == [AWKWARD, "50% + é&x=1", 1]
    nothing = {"additional_table_filters": "{'system.one':'0'}", "readonly": 1}
    hidden, open = (kept("SELECT count() FROM system.one", None, "TSV", **more) for more in (nothing, {}))
    assert [await run(engine, one) for one in (hidden, open, hidden, open)] == [b"0\n", b"1\n"] * 2


async def test_a_statement_that_is_kept_fails_as_any_other(engine: Engine) -> None:
    for statement, code in ((kept("SELECT nope"), 47), (kept("INSERT INTO t SELECT 1", readonly=1), 164)):
        for _ in range(2):
            with pytest.raises(SqlError) as caught:
                await run(engine, statement)
            assert caught.value.engine_code == code
    late = kept("SELECT throwIf(number = 400000) FROM numbers(1000000)", max_block_size=10000, max_threads=1)
    with pytest.raises(SqlError) as caught:
        await run(engine, late)
    assert caught.value.engine_code == 395
    with pytest.raises(TooLarge):
        await run(engine, kept("SELECT repeat('x', 1000)", format="JSON"), most=100)
    assert await run(engine, kept("SELECT 1"), query_id="an id & more") == b"1\n"


async def test_leaving_a_statement_that_is_kept_ends_the_query(engine: Engine) -> None:
    async with engine.stream(kept("SELECT number, 'leaving a kept one' FROM numbers(100000000000)")) as blocks:
        assert await anext(blocks)
    await until_gone(engine, "leaving a kept one")
    task = asyncio.create_task(run(engine, kept("SELECT count(), 'cancelled kept one' FROM numbers(1000000000000)")))
    sql = "SELECT count() AS c FROM system.processes WHERE query LIKE 'SELECT count(), \\'cancelled kept%'"

    async def there() -> bool:
        return (await engine.rows(sql))[0]["c"] == 1

    await until(there)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_gone(engine, "cancelled kept one")


async def test_an_error_before_the_first_byte_raises_on_entering(engine: Engine) -> None:
    with pytest.raises(SqlError) as caught:
        async with engine.stream("SELECT nope"):
            pass
    assert caught.value.engine_code == 47


async def test_an_error_after_the_first_byte_raises_and_is_no_data(engine: Engine) -> None:
    sql = "SELECT number, throwIf(number = 400000) FROM numbers(1000000)"
    slow = {"max_block_size": 10000, "max_threads": 1}
    seen = b""
    with pytest.raises(SqlError):
        async with engine.stream(sql, settings=slow, format="TSV") as blocks:
            async for block in blocks:
                seen += block
    assert seen.startswith(b"0\t0\n") and b"xception" not in seen
    with pytest.raises(SqlError) as caught:
        await engine.query(sql, settings=slow, format="TSV")
    assert caught.value.engine_code == 395


async def test_leaving_a_stream_ends_the_query(engine: Engine) -> None:
    sql = "SELECT number, 'leaving early' FROM numbers(100000000000)"
    async with engine.stream(sql, format="CSV") as blocks:
        async for block in blocks:
            assert block
            break
    await until_gone(engine, "leaving early")


@pytest.mark.parametrize("format", ["CSV", "JSON"])
async def test_a_cancelled_call_ends_the_query(engine: Engine, format: str) -> None:
    sql = "SELECT count(), 'cancelled call' FROM numbers(1000000000000)"
    task = asyncio.create_task(engine.query(sql, format=format))
    await asyncio.sleep(0.3)
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_gone(engine, "cancelled call")
    assert time.monotonic() - began < 30  # it would run for an hour


async def test_kill_by_id(engine: Engine) -> None:
    sql = "SELECT count() FROM numbers(1000000000000)"
    task = asyncio.create_task(engine.query(sql, query_id="it's mine"))
    await asyncio.sleep(0.3)
    await engine.kill("another")
    assert not task.done()
    await engine.kill("it's mine")
    with pytest.raises(SqlError) as caught:
        await task
    assert caught.value.engine_code == 394


async def test_limits_have_errors_of_their_own(engine: Engine) -> None:
    with pytest.raises(QueryTimeout):
        await engine.query("SELECT count() FROM numbers(1000000000000)", settings={"max_execution_time": 0.3})
    with pytest.raises(TooLarge):
        await engine.query("SELECT number FROM numbers(100)", settings={"max_result_rows": 10})
    with pytest.raises(SqlError) as caught:
        await engine.query(
            "SELECT groupArray(number) FROM numbers(100000000)", settings={"max_memory_usage": 50_000_000}
        )
    assert caught.value.engine_code == 241
    assert await engine.query("SELECT 1") == b"1\n"


async def test_insert_and_special_values(engine: Engine, database: str) -> None:
    await engine.command(
        f"CREATE TABLE {database}.t (n UInt64, s String, d DateTime64(3)) ENGINE = MergeTree ORDER BY n"
    )
    rows = [{"n": 2**64 - 1, "s": "it's\n\"\\ 🐦", "d": "2024-01-02T03:04:05.678Z"}]
    await engine.insert(f"`{database}`.`t`", rows)
    await engine.insert(f"`{database}`.`t`", [])
    read = await engine.rows(f"SELECT n, s, toString(d, 'UTC') AS d FROM {database}.t")
    assert read == [{"n": 2**64 - 1, "s": rows[0]["s"], "d": "2024-01-02 03:04:05.678"}]


async def test_files(engine: Engine, database: str, tmp_path: Path) -> None:
    file = tmp_path / "some rows.ndjson"
    file.write_text('{"n":1,"s":"a"}\n{"n":2,"s":"b"}\n')
    await engine.command(f"CREATE TABLE {database}.t (n Int64, s String) ENGINE = MergeTree ORDER BY n")
    await engine.insert_file(
        f"{database}.t (n, s)",
        "SELECT n * 10, s FROM {source}",
        file,
        format="JSONEachRow",
        structure="n Int64, s String",
    )
    assert await engine.query(f"SELECT n, s FROM {database}.t ORDER BY n") == b"10\ta\n20\tb\n"
    assert await engine.select_file(
        "SELECT count() AS c FROM {source} WHERE n > 1", file, format="JSONEachRow", structure="n Int64, s String"
    ) == [{"c": 1}]
    with pytest.raises(ValueError, match="exactly once"):
        await engine.insert_file("t", "SELECT 1", file, format="JSONEachRow", structure="n Int64, s String")


async def test_a_file_from_elsewhere_is_refused(engine: Engine) -> None:
    with pytest.raises(SqlError) as caught:
        await engine.select_file(
            "SELECT * FROM {source}", Path("/etc/hostname"), format="LineAsString", structure="l String"
        )
    assert caught.value.engine_code == 291


def test_the_transport_that_we_rely_on() -> None:
    """`engine/http.py` calls it past the facade: a new release that changes it should fail here, not in
    production.
    """
    transport: Callable[..., object] = HttpAsyncBackend.request
    names = set(inspect.signature(transport).parameters)
    assert {"data", "params", "files", "server_wait", "retries", "retryable"} <= names
    assert list(inspect.signature(HttpAsyncBackend.error_handler).parameters)[:2] == ["self", "response"]
    assert {"session", "acquire", "release"} <= set(dir(SessionLease))

"""ClickHouse's HTTP protocol as the child speaks it, seen with a plain HTTP client."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import lz4.frame
import pytest
from backports import zstd
from yarl import URL

from pipit.engine import Engine
from pipit.engine.embedded.supervisor import EngineAddress
from pipit.sql.literals import quote_string
from waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def http(endpoint: EngineAddress) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"X-ClickHouse-User": endpoint.user, "X-ClickHouse-Key": endpoint.password}
    base = f"http://127.0.0.1:{endpoint.port}"
    async with aiohttp.ClientSession(base, headers=headers, auto_decompress=False) as session:
        yield session


async def ask(
    http: aiohttp.ClientSession, body: str | bytes | io.BytesIO | None = None, **params: str
) -> tuple[int, str, aiohttp.ClientResponse]:
    async with http.post("/", params=params, data=body) as response:
        return response.status, (await response.read()).decode(), response


async def code_of(http: aiohttp.ClientSession, body: str | bytes | None = None, **params: str) -> int:
    """The engine's code of a refusal, which stands in header and body alike."""
    status, text, response = await ask(http, body, **params)
    assert status >= 400, text
    code = int(response.headers["X-ClickHouse-Exception-Code"])
    assert text.startswith(f"Code: {code}. DB::Exception: ")
    assert "(version " in text
    return code


async def test_the_statement_in_url_in_body_and_in_both(http: aiohttp.ClientSession) -> None:
    assert (await ask(http, query="SELECT 1"))[:2] == (200, "1\n")
    assert (await ask(http, "SELECT 1"))[:2] == (200, "1\n")
    assert (await ask(http, "+ 1", query="SELECT 1"))[:2] == (200, "2\n")


async def test_get_only_reads(http: aiohttp.ClientSession) -> None:
    async with http.get("/", params={"query": "SELECT 1"}) as response:
        assert await response.read() == b"1\n"
    async with http.get("/", params={"query": "CREATE TABLE t (n Int8) ENGINE = Memory"}) as response:
        assert response.status == 500
        assert response.headers["X-ClickHouse-Exception-Code"] == "164"
    async with http.get("/", params={"query": "DROP TABLE nope", "readonly": "0"}) as response:
        assert response.headers["X-ClickHouse-Exception-Code"] == "164"


async def test_headers(http: aiohttp.ClientSession) -> None:
    sql = "SELECT number FROM numbers(5)"
    _, _, response = await ask(http, sql, query_id="mine", default_format="JSONEachRow")
    headers = response.headers
    assert headers["X-ClickHouse-Query-Id"] == "mine"
    assert headers["X-ClickHouse-Format"] == "JSONEachRow"
    assert headers["Content-Type"].startswith("application/x-ndjson")
    assert headers["X-ClickHouse-Timezone"] and headers["X-ClickHouse-Server-Display-Name"]
    summary = json.loads(headers["X-ClickHouse-Summary"])
    assert summary["result_rows"] == "5" and summary["read_rows"] == "5"
    assert int(summary["elapsed_ns"]) > 0
    _, _, response = await ask(http, "SELECT 1 FORMAT CSV -- FORMAT JSON")
    assert response.headers["X-ClickHouse-Format"] == "CSV"
    _, text, response = await ask(http, "CREATE DATABASE IF NOT EXISTS default")
    assert text == "" and "X-ClickHouse-Format" not in response.headers


async def test_a_line_break_in_a_query_id_is_no_header(http: aiohttp.ClientSession) -> None:
    status, text, response = await ask(http, "SELECT 1", query_id="a\r\nX-Evil: 1")
    assert (status, text) == (200, "1\n")
    assert "X-Evil" not in response.headers


async def test_statuses(http: aiohttp.ClientSession) -> None:
    for sql, status in (("SELECT 1 +", 400), ("SELECT nope", 404), ("SELECT * FROM nope", 404), ("", 400)):
        assert (await ask(http, sql))[0] == status
    status, _, _ = await ask(http, "SELECT sleep(3)", max_execution_time="0.1", timeout_overflow_mode="throw")
    assert status == 408
    async with http.get("/elsewhere") as response:
        assert response.status == 404


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; SELECT 2",
        "SELECT 1; SELECT * FROM",
        "CREATE TABLE evil (n Int8) ENGINE = Memory; SELECT FROM WHERE",
        "SELECT 1;;SELECT 2",
        "SELECT 1 /* ; */; DROP TABLE x -- '",
        "INSERT INTO t SELECT 1; DROP TABLE t",
    ],
)
async def test_several_statements_are_refused_and_none_runs(http: aiohttp.ClientSession, sql: str) -> None:
    assert await code_of(http, sql) == 62
    assert (await ask(http, "EXISTS TABLE evil"))[1] == "0\n"


async def test_a_trailing_semicolon_is_fine(http: aiohttp.ClientSession) -> None:
    assert (await ask(http, "SELECT 1 ;\n"))[:2] == (200, "1\n")
    assert (await ask(http, "SELECT ';' -- ; SELECT 2\n"))[:2] == (200, ";\n")


@pytest.mark.parametrize("readonly", ["0", "1", "2"])
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 INTO OUTFILE '{path}'",
        "SELECT 1 INTO/**/OUTFILE '{path}' FORMAT CSV",
        "SELECT 1 iNtO -- x\n outfile '{path}' TRUNCATE",
        "EXPLAIN SELECT 1 INTO OUTFILE '{path}'",
        "SHOW TABLES INTO OUTFILE '{path}'",
        "WITH 1 AS a SELECT a INTO OUTFILE '{path}' AND STDOUT",
    ],
)
async def test_into_outfile_is_refused_always(
    http: aiohttp.ClientSession, tmp_path: Path, sql: str, readonly: str
) -> None:
    path = tmp_path / "out"
    assert await code_of(http, sql.replace("{path}", str(path)), readonly=readonly) == 291
    assert not path.exists()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT file('/etc/hostname')",
        "SELECT FILE ( '/etc/hostname')",
        "SELECT `file`('/etc/hostname')",
        "SELECT \"file\"('/etc/hostname')",
        "SELECT * APPLY(file) FROM (SELECT '/etc/hostname')",
        "SELECT * APPLY file FROM (SELECT '/etc/hostname')",
        "SELECT * FROM file('/etc/hostname', LineAsString)",
        "SELECT * FROM file('{inside}/../../../../../etc/hostname', LineAsString)",
        "SELECT * FROM file('{inside}/{..,x}/../../../../etc/hostname', LineAsString)",
        "SELECT * FROM file({p:String}, LineAsString)",
        "SELECT * FROM file(concat('/etc', '/hostname'), LineAsString)",
        "SELECT * FROM file('/etc/host\\name', LineAsString)",
        "SELECT * FROM Python(x)",
        "SELECT * FROM `python` (x)",
        "CREATE TABLE default.stolen (l String) ENGINE = File(LineAsString, '/etc/hostname')",
        "INSERT INTO FUNCTION file('/tmp/pipit-evil', CSV, 'a Int8') SELECT 1",
        "INSERT INTO default.t FROM INFILE '/etc/hostname' FORMAT LineAsString",
        "BACKUP TABLE default.t TO File('/tmp/pipit-evil')",
    ],
)
async def test_files_are_out_of_reach(http: aiohttp.ClientSession, tmp_path: Path, sql: str) -> None:
    sql = sql.replace("{inside}", str(tmp_path))
    for readonly in ("0", "1"):
        params = {"param_p": "/etc/hostname"} if "{p:" in sql else {}
        assert await code_of(http, sql, readonly=readonly, **params) in (291, 164)


async def test_words_like_file_are_no_crime(http: aiohttp.ClientSession) -> None:
    sql = "SELECT 'INTO OUTFILE' AS file, 'file(' AS python, file AS outfile /* file('x') */"
    assert (await ask(http, sql, readonly="1"))[:2] == (200, "INTO OUTFILE\tfile(\tINTO OUTFILE\n")


async def test_a_file_inside_the_roots_may_be_read_but_not_with_readonly(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("1\n2\n")
    (tmp_path / "it's.csv").write_text("1\n2\n3\n")
    (tmp_path / "link.csv").symlink_to("/etc/hostname")
    sql = f"SELECT count() FROM file('{tmp_path}/rows.csv', 'CSV', 'n Int8')"
    assert (await ask(http, sql))[:2] == (200, "2\n")
    assert await code_of(http, sql, readonly="1") == 291
    assert await code_of(http, sql.replace("rows", "link")) == 291
    assert (await ask(http, sql.replace("rows", "it\\'s")))[:2] == (200, "3\n")
    assert await code_of(http, sql.replace("rows", "\\x72ows")) == 291


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE t (n Int8) ENGINE = Memory",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t FORMAT CSV\n1\n",
        "SET max_threads = 1",
        "USE system",
        "KILL QUERY WHERE 1",
        "SYSTEM FLUSH LOGS",
        "DROP TABLE t",
        "SELECT 1 SETTINGS readonly = 0",
        "SELECT 1 SETTINGS max_execution_time = 0",
        "SELECT * FROM url('http://127.0.0.1:1/', CSV, 'a Int8')",
        "SELECT * FROM s3('http://127.0.0.1:1/bucket/key', CSV, 'a Int8')",
        "SELECT * FROM executable('ls', TSV, 'a String')",
    ],
)
async def test_readonly_only_reads(http: aiohttp.ClientSession, sql: str) -> None:
    assert await code_of(http, sql, readonly="1", max_execution_time="5") == 164


async def test_nothing_stays_behind(http: aiohttp.ClientSession) -> None:
    assert (await ask(http, "SET max_threads = 7"))[0] == 200
    assert (await ask(http, "USE system"))[0] == 200
    for _ in range(20):
        answer = await ask(http, "SELECT currentDatabase(), getSetting('max_threads') = 7, getSetting('readonly')")
        assert answer[1] == "default\t0\t0\n"


async def test_bytes_that_are_no_text(http: aiohttp.ClientSession) -> None:
    for field in ("log_comment", "param_v", "database", "query_id", "max_threads"):
        url = URL(f"/?query=SELECT+1&{field}=%FF%FE", encoded=True)
        async with http.post(url) as response:
            assert response.status in (200, 400), field
    async with http.post("/", data=b"SELECT hex('\xff')") as response:
        assert await response.read() == b"FF\n"


@pytest.mark.parametrize("name", ["a&max_threads=7", "a b`c", "a%20b", "a?x#y", "ä", "9", "a'\\n", "CamelCase"])
async def test_a_database_of_any_name(http: aiohttp.ClientSession, name: str) -> None:
    quoted = "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
    assert (await ask(http, f"CREATE DATABASE {quoted}"))[0] == 200
    try:
        status, text, _ = await ask(
            http, "SELECT currentDatabase(), getSetting('max_threads') = 7", database=name, default_format="TSVRaw"
        )
        assert (status, text) == (200, f"{name}\t0\n")
    finally:
        await ask(http, f"DROP DATABASE {quoted}")
    assert await code_of(http, "SELECT 1", database=name) == 81


_ALL = "".join(map(chr, range(1, 128))) + "é漢😀"
_VALUES = [*_ALL, _ALL, "", " a ", "1&readonly=0", "a&max_threads=7", "%26", "a%20b", "a+b", "a=b", "a?b#c", "\\x61", "\\'"]


@pytest.mark.parametrize("readonly", ["0", "1"])
@pytest.mark.parametrize("database", ["", "system", "a b`&c"])
async def test_a_setting_is_what_was_sent(http: aiohttp.ClientSession, database: str, readonly: str) -> None:
    if " " in database:
        await ask(http, "CREATE DATABASE IF NOT EXISTS `a b\\`&c`")
    sql = "SELECT hex(getSetting('format_csv_null_representation')), getSetting('readonly'), getSetting('max_threads') = 7"
    for value in _VALUES:
        sent = {"format_csv_null_representation": value, "readonly": readonly, "database": database}
        assert (await ask(http, sql, **sent))[1] == f"{value.encode().hex().upper()}\t{readonly}\t0\n", value


@pytest.mark.parametrize("kept", ["a", "a&b", "a'b", "a\\b", "é", "a\tb", "a}b", "a, b: c", "%61", " a", "&readonly=0&x="])
async def test_a_filter_is_what_was_sent(http: aiohttp.ClientSession, database: str, kept: str) -> None:
    for statement in (
        "CREATE TABLE t (s String) ENGINE = MergeTree ORDER BY s",
        f"INSERT INTO t VALUES ({quote_string(kept)}), ('other'), ('a '), ('b')",
    ):
        assert (await ask(http, statement, database=database))[0] == 200
    condition = f"s = {quote_string(kept)}"
    filters = f"{{{quote_string(f'{database}.t')}: {quote_string(condition)}}}"
    sql = "SELECT hex(groupArray(s)[1]), count() FROM t"
    sent = {"additional_table_filters": filters, "readonly": "1", "database": database}
    assert (await ask(http, sql, **sent))[1] == f"{kept.encode().hex().upper()}\t1\n"
    assert (await ask(http, sql + " SETTINGS additional_table_filters = {}", **sent))[0] == 500
    broken = sent | {"additional_table_filters": filters[:-2]}
    assert (await ask(http, sql, **broken))[0] >= 400


async def test_a_setting_that_says_what_is_so_anyhow_holds_where_another_one_changes_that(http: aiohttp.ClientSession) -> None:
    sql = "SELECT getSetting('output_format_json_quote_64bit_integers')"
    for sent in ({"compatibility": "24.1"}, {}):
        quoted = [(await ask(http, sql, **sent, **more))[1] for more in _QUOTES]
        assert quoted == [f"{str(bool(sent)).lower()}\n", "false\n", "true\n"]


_QUOTES: list[dict[str, str]] = [{}, *({"output_format_json_quote_64bit_integers": value} for value in "01")]


@pytest.mark.parametrize("name", ["mode", "path", "config_file", "no_such_setting", "output", "verbose", "MAX_THREADS"])
async def test_a_name_that_is_no_setting_is_refused(http: aiohttp.ClientSession, name: str) -> None:
    """A connection's URL would take it for an option, or ignore it."""
    assert await code_of(http, "SELECT 1", **{name: "1"}) == 115


async def test_a_setting_that_is_no_name(http: aiohttp.ClientSession) -> None:
    assert await code_of(http, "SELECT 1", **{"max_threads=1, readonly": "0"}) == 115
    assert await code_of(http, "SELECT 1", no_such_setting="1") == 115
    assert await code_of(http, "from x", dialect="prql") == 115


async def test_inserts(http: aiohttp.ClientSession, database: str) -> None:
    await ask(http, "CREATE TABLE t (n Int64, s String) ENGINE = MergeTree ORDER BY n", database=database)

    async def insert(body: str | bytes | io.BytesIO | None = None, **params: str) -> int:
        status, text, response = await ask(http, body, database=database, **params)
        assert status == 200, text
        return int(json.loads(response.headers["X-ClickHouse-Summary"])["written_rows"])

    assert await insert("INSERT INTO t FORMAT CSV\n1,a\n2,b\n") == 2
    assert await insert("3,c\n", query="INSERT INTO t FORMAT CSV") == 1
    assert await insert('{"n":4}', query="INSERT INTO t (n) FORMAT JSONEachRow") == 1
    assert await insert('/* x */ INSERT INTO TABLE `t` (n, `s`) FORMAT JSONEachRow {"n":5} {"n":6}') == 2
    assert await insert("INSERT INTO t VALUES (7, 'FORMAT CSV'), (8, 'h')") == 2
    assert await insert("(9, 'i')", query="INSERT INTO t VALUES") == 1
    assert await insert("INSERT INTO t SETTINGS async_insert = 0 FORMAT TSV\n10\tj\n") == 1
    assert await insert("INSERT INTO t SELECT {n:Int64}, 'k'", param_n="11") == 1
    assert await insert("INSERT INTO FUNCTION null('n Int8') FORMAT CSV\n1\n") == 1
    assert await insert("", query="INSERT INTO t FORMAT CSV") == 0
    many = io.BytesIO(b"".join(b"%d,x\n" % n for n in range(100, 300_000)))
    assert await insert(many, query="INSERT INTO t FORMAT CSV") == 299_900
    assert (await ask(http, "SELECT count(), max(n) FROM t", database=database))[1] == "299911\t299999\n"


async def test_an_insert_from_a_select_takes_its_data(http: aiohttp.ClientSession, database: str) -> None:
    await ask(http, "CREATE TABLE t (n Int64) ENGINE = MergeTree ORDER BY n", database=database)
    sql = "INSERT INTO t SELECT n * 10 FROM input('n Int64') WHERE n > {low:Int64} FORMAT CSV"
    many = io.BytesIO(b"".join(b"%d\n" % n for n in range(100_000)))
    status, text, _ = await ask(http, many, query=sql, database=database, param_low="5")
    assert (status, text) == (200, "")
    assert (await ask(http, "SELECT count(), min(n) FROM t", database=database))[1] == "99994\t60\n"
    assert (await ask(http, f"{sql}\n7\n", database=database, param_low="5"))[0] == 200
    assert (await ask(http, "SELECT count() FROM t", database=database))[1] == "99995\n"


async def test_data_that_nothing_reads_is_refused(http: aiohttp.ClientSession, database: str) -> None:
    await ask(http, "CREATE TABLE t (n Int64) ENGINE = MergeTree ORDER BY n", database=database)
    assert await code_of(http, "1\n2\n", query="INSERT INTO t SELECT 5 FORMAT CSV", database=database) == 48
    assert (await ask(http, "SELECT count() FROM t", database=database))[1] == "0\n"


async def test_external_tables(http: aiohttp.ClientSession) -> None:
    for sql in ("SELECT sum(n) FROM data", "WITH 1 AS one SELECT sum(n) * one FROM data"):
        form = aiohttp.FormData()
        form.add_field("data", b"1\n2\n", filename="data.csv")
        params = {"query": sql, "data_format": "CSV", "data_structure": "n Int64"}
        async with http.post("/", params=params, data=form) as response:
            assert await response.read() == b"3\n"


async def test_bodies_come_compressed(http: aiohttp.ClientSession) -> None:
    sql = b"SELECT 1 + 1"
    for name, packed in (("gzip", gzip.compress(sql)), ("lz4", lz4.frame.compress(sql)), ("zstd", zstd.compress(sql))):
        async with http.post("/", data=packed, headers={"Content-Encoding": name}) as response:
            assert await response.read() == b"2\n"
        async with http.post("/", data=packed[:-3], headers={"Content-Encoding": name}) as response:
            assert response.headers["X-ClickHouse-Exception-Code"] == "354"
    two = gzip.compress(b"SELECT ") + gzip.compress(b"5")
    async with http.post("/", data=two, headers={"Content-Encoding": "gzip"}) as response:
        assert await response.read() == b"5\n"
    async with http.post("/", data=sql, headers={"Content-Encoding": "rot13"}) as response:
        assert response.headers["X-ClickHouse-Exception-Code"] == "89"


async def test_answers_are_compressed_when_asked_for(http: aiohttp.ClientSession) -> None:
    unpack = {"gzip": gzip.decompress, "lz4": lz4.frame.decompress, "zstd": zstd.decompress}
    for sql in ("SELECT 1", "SELECT number FROM numbers(300000)"):
        plain = (await ask(http, sql))[1].encode()
        for name, function in unpack.items():
            headers = {"Accept-Encoding": name}
            async with http.post("/", params={"enable_http_compression": "1"}, data=sql, headers=headers) as response:
                assert response.headers["Content-Encoding"] == name
                assert function(await response.read()) == plain
            async with http.post("/", data=sql, headers=headers) as response:
                assert "Content-Encoding" not in response.headers
                assert await response.read() == plain


async def test_nobody_without_the_password(endpoint: EngineAddress) -> None:
    base = f"http://127.0.0.1:{endpoint.port}"
    attempts: list[dict[str, str]] = [
        {},
        {"X-ClickHouse-User": endpoint.user},
        {"X-ClickHouse-User": endpoint.user, "X-ClickHouse-Key": endpoint.password + "x"},
        {"X-ClickHouse-User": "default", "X-ClickHouse-Key": endpoint.password},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Bearer " + endpoint.password},
    ]
    async with aiohttp.ClientSession(base) as session:
        for headers in attempts:
            for path in ("/", "/heartbeat"):
                async with session.post(path, data="SELECT 1", headers=headers) as response:
                    assert response.status == 401
                    assert response.headers["X-ClickHouse-Exception-Code"] == "516"
        basic = {"Authorization": aiohttp.encode_basic_auth(endpoint.user, endpoint.password)}
        async with session.post("/", data="SELECT 1", headers=basic) as response:
            assert await response.read() == b"1\n"
        async with session.get("/ping") as response:
            assert await response.read() == b"Ok.\n"


async def test_an_error_after_the_first_byte_breaks_the_connection(http: aiohttp.ClientSession) -> None:
    sql = (
        "SELECT number, throwIf(number = 500000) FROM numbers(1000000) SETTINGS max_block_size = 10000, max_threads = 1"
    )
    seen = b""
    with pytest.raises(aiohttp.ClientError):
        async with http.post("/", data=sql) as response:
            assert response.status == 200
            async for part in response.content.iter_any():
                seen += part
    assert seen and b"xception" not in seen


async def test_a_lost_client_ends_its_query(http: aiohttp.ClientSession, engine: Engine) -> None:
    sql = "SELECT count(), 'lost client' FROM numbers(1000000000000)"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await ask(http, sql)
    running = "SELECT count() AS c FROM system.processes WHERE query LIKE '%lost cli' || 'ent%'"

    async def ended() -> bool:
        return (await engine.rows(running))[0]["c"] == 0

    await until(ended)


async def test_a_client_lost_in_the_middle_of_an_insert(
    http: aiohttp.ClientSession, endpoint: EngineAddress, database: str
) -> None:
    await ask(http, "CREATE TABLE t (n Int64) ENGINE = MergeTree ORDER BY n", database=database)
    request = (
        f"POST /?query=INSERT%20INTO%20t%20FORMAT%20CSV&database={database}&user={endpoint.user}"
        f"&password={endpoint.password} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n1\n2\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
    writer.write(request.encode())
    await writer.drain()
    await asyncio.sleep(0.2)
    writer.close()
    await writer.wait_closed()
    assert await reader.read() == b""
    running = "SELECT count() FROM system.processes WHERE query LIKE 'INSERT%'"

    async def ended() -> bool:
        return (await ask(http, running))[1] == "0\n"

    await until(ended)
    assert (await ask(http, "SELECT count() FROM t", database=database))[1] == "0\n"


async def test_memory_is_bounded_and_the_engine_survives(http: aiohttp.ClientSession, endpoint: EngineAddress) -> None:
    sql = "SELECT name FROM system.server_settings WHERE name = 'max_server_memory_usage' AND toUInt64(value) > 0"
    assert (await ask(http, sql))[1] == "max_server_memory_usage\n"
    assert int((await ask(http, "SELECT getSetting('max_memory_usage')"))[1]) > 100 << 20
    hungry = "SELECT count() FROM (SELECT number, groupArray(number) FROM numbers(1000000000) GROUP BY number)"
    assert await code_of(http, hungry, max_memory_usage="100000000") == 241
    assert (await ask(http, "SELECT 1"))[1] == "1\n"


async def test_large_results_of_formats_with_a_frame(http: aiohttp.ClientSession) -> None:
    _, text, _ = await ask(http, "SELECT number FROM numbers(200000) FORMAT JSONCompact")
    assert len(json.loads(text)["data"]) == 200_000
    _, text, _ = await ask(http, "SELECT number AS n FROM numbers(200000)", default_format="CSVWithNames")
    assert text.startswith('"n"\n0\n') and text.count('"n"') == 1


async def test_totals_come_with_streamed_formats(http: aiohttp.ClientSession) -> None:
    _, text, _ = await ask(http, "SELECT count() FROM numbers(10) GROUP BY number % 2 WITH TOTALS")
    assert text == "5\n5\n\n10\n"


async def test_large_answers_in_one_piece_at_the_same_time(http: aiohttp.ClientSession) -> None:
    """They are sent from the engine's own memory: it must not be used again before the last byte is sent."""

    async def one(number: int) -> None:
        sql = f"SELECT repeat('{number:03}', 1000) AS t, number FROM numbers({500 + 150 * number})"
        status, text, response = await ask(http, sql, default_format="JSON")
        assert status == 200
        assert int(response.headers["Content-Length"]) == len(text)
        rows = json.loads(text)["data"]
        assert len(rows) == 500 + 150 * number
        assert {row["t"] for row in rows} == {f"{number:03}" * 1000}

    for _ in range(2):
        await asyncio.gather(*(one(number) for number in range(16)))

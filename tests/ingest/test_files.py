"""Files into data sources: what goes in, what goes into the quarantine, and what the answer says of it."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pipit.ingest.files import cut
from pipit.ingest.files.dialect import detected
from serving import Reply, Workspace

pytestmark = pytest.mark.anyio

SALES = """
SCHEMA >
    `id` UInt32 `json:$.id`,
    `day` Date `json:$.day`,
    `amount` Decimal(9, 2) `json:$.amount`,
    `customer` String `json:$.user.name`,
    `tags` Array(String) `json:$.tags[:]` DEFAULT [],
    `note` Nullable(String) `json:$.note`,
    `source` LowCardinality(String) `json:$.source` DEFAULT 'file',
    `made` UInt8 DEFAULT 7

ENGINE MergeTree
ENGINE_PARTITION_KEY toYYYYMM(day)
ENGINE_SORTING_KEY id
"""
CLICKS = "SCHEMA >\n    k String,\n    n UInt8\n\nENGINE MergeTree\nENGINE_SORTING_KEY k\n"
FILES = {"datasources/sales.datasource": SALES, "datasources/clicks.datasource": CLICKS}


@pytest.fixture
async def project(workspace: Workspace) -> Workspace:
    await workspace.deploy(FILES)
    return workspace


async def sql(workspace: Workspace, query: str) -> list[dict[str, Any]]:
    return await workspace.rows(f"/v0/sql?q={quote(query + ' FORMAT JSON')}")


async def append(workspace: Workspace, name: str, body: bytes, more: str = "", **options: Any) -> Reply:
    return await workspace.post(f"/v0/datasources?mode=append&name={name}{more}", data=body, **options)


async def test_csv_by_its_header_in_any_order(project: Workspace) -> None:
    body = b'day,id,customer,amount,unknown\n2026-01-02,1,"a, ""b""\nc",1.005,x\r\n2026-02-03,2,d,2,y\n'
    reply = await append(project, "sales", body, "&format=csv")
    assert reply.status == 200, reply.text
    answer = reply.json
    assert {k: answer[k] for k in ("successful_rows", "quarantine_rows", "invalid_lines", "error")} == {
        "successful_rows": 2,
        "quarantine_rows": 0,
        "invalid_lines": 0,
        "error": False,
    }
    assert answer["datasource"]["name"] == "sales"
    assert await sql(project, "SELECT * FROM sales ORDER BY id") == [
        {
            "id": 1,
            "day": "2026-01-02",
            "amount": 1.01,
            "customer": 'a, "b"\nc',
            "tags": [],
            "note": None,
            "source": "file",
            "made": 7,
        },
        {
            "id": 2,
            "day": "2026-02-03",
            "amount": 2,
            "customer": "d",
            "tags": [],
            "note": None,
            "source": "file",
            "made": 7,
        },
    ]


async def test_csv_without_a_header_goes_by_position(project: Workspace) -> None:
    body = b"1;2026-01-02;3;me;\"['x', 'it''s']\";;;9\n2;2026-01-02;3;me;\"[\"\"y\"\"]\";n;s;\n"
    reply = await append(project, "sales", body.replace(b"it''s", b"it\\'s"), "&format=csv")
    assert reply.json["successful_rows"] == 2, reply.text
    assert await sql(project, "SELECT id, tags, note, source, made FROM sales ORDER BY id") == [
        {"id": 1, "tags": ["x", "it's"], "note": None, "source": "file", "made": 9},
        {"id": 2, "tags": ["y"], "note": "n", "source": "s", "made": 7},
    ]


async def test_bad_rows_of_csv_are_in_the_quarantine_with_their_place_and_reason(project: Workspace) -> None:
    body = (
        b"k,n\n"
        b"good,1\n"
        b"big,300\n"
        b"short\n"
        b"\n"
        b'"two\nlines",2\n'
        b'"behind"x,3\n'
        b"long,4,5\n"
        b"empty,\n"
        b"last,255"
    )
    reply = await project.post(
        "/v0/datasources?mode=append&name=clicks&format=csv",
        data=b'--b\r\nContent-Disposition: form-data; name="csv"; filename="clicks of may.csv"\r\n\r\n'
        + body
        + b"\r\n--b--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert reply.status == 200, reply.text
    assert (reply.json["successful_rows"], reply.json["quarantine_rows"], reply.json["invalid_lines"]) == (3, 5, 3)
    assert reply.json["error"] == "There was an error with file contents: 5 rows in quarantine and 3 invalid lines."
    assert [row["k"] for row in await sql(project, "SELECT k FROM clicks ORDER BY n")] == ["good", "two\nlines", "last"]
    found = await sql(
        project,
        "SELECT c__line AS line, k, n, c__error_column AS columns, c__error[1] AS error, c__record AS record, "
        "c__file AS file, c__import_id AS import FROM clicks_quarantine ORDER BY line",
    )
    assert {row["file"] for row in found} == {"clicks of may.csv"}
    assert {row["import"] for row in found} == {reply.json["import_id"]}
    assert [(row["line"], row["k"], row["n"], row["columns"], row["record"]) for row in found] == [
        (3, "big", "300", ["n"], None),
        (4, None, None, [""], "short"),
        (8, None, None, [""], '"behind"x,3'),
        (9, None, None, [""], "long,4,5"),
        (10, "empty", "", ["n"], None),
    ]
    assert found[0]["error"] == "value '300' on column 'n' is not UInt8"
    assert found[4]["error"] == "value '' on column 'n' is not UInt8"


async def test_ndjson_reads_as_events_do(project: Workspace) -> None:
    body = (
        b'\xef\xbb\xbf{"id":1,"day":"2026-01-02","amount":1.5,"user":{"name":"x"},"tags":["a"],"more":1}\r\n'
        b"\n"
        b'{"id":-1,"day":"2026-01-02","amount":1.5,"user":{"name":"x"}}\n'
        b"[1]\n"
        b'{"id":2,"day":"2026-01-02","amount":"2","user":{"name":"y"},"source":"web"}'
    )
    reply = await append(project, "sales", body, "&format=ndjson")
    assert (reply.json["successful_rows"], reply.json["quarantine_rows"], reply.json["invalid_lines"]) == (2, 2, 1), reply.text
    assert [r["customer"] for r in await sql(project, "SELECT customer FROM sales ORDER BY id")] == ["x", "y"]
    found = await sql(project, "SELECT c__line AS line, id, c__record AS record, c__file AS file FROM sales_quarantine ORDER BY line")
    assert found == [
        {"line": 3, "id": "-1", "record": None, "file": "body.ndjson"},
        {"line": 4, "id": None, "record": "[1]", "file": "body.ndjson"},
    ]


@pytest.fixture
async def parquet(project: Workspace, tmp_path: Path) -> bytes:
    path = tmp_path / "sales.parquet"
    await project.server.engine.command(
        f"INSERT INTO FUNCTION file('{path}', 'Parquet') SELECT toInt64(number) - 1 AS id, toDate('2026-01-01') + number AS day, "
        "number / 4 AS amount, tuple(concat('u', toString(number)), number)::Tuple(name String, x UInt64) AS user, "
        "['t'] AS tags, if(number = 2, NULL, 'n')::Nullable(String) AS note FROM numbers(5)"
    )
    return path.read_bytes()


async def test_parquet_by_jsonpaths(project: Workspace, parquet: bytes) -> None:
    reply = await append(project, "sales", parquet, "&format=parquet")
    assert (reply.json["successful_rows"], reply.json["quarantine_rows"]) == (4, 1), reply.text
    rows = await sql(project, "SELECT id, day, amount, customer, tags, note, source FROM sales ORDER BY id")
    assert rows[0] == {"id": 0, "day": "2026-01-02", "amount": 0.25, "customer": "u1", "tags": ["t"], "note": "n", "source": "file"}
    assert rows[1]["note"] is None
    assert await sql(project, "SELECT c__line AS line, id, c__error[1] AS error FROM sales_quarantine") == [
        {"line": 1, "id": "-1", "error": "value '-1' on column 'id' is not UInt32"}
    ]


@pytest.mark.parametrize("how", ["gzip", "zstd", "encoding", "two members"])
async def test_packed_files_are_unpacked(project: Workspace, how: str) -> None:
    from pipit.ingest.files.arrive import ZstdError  # the same module as the server's

    assert ZstdError
    body = b"k,n\na,1\nb,2\n"
    headers = {}
    if how == "zstd":
        import sys

        if sys.version_info >= (3, 14):
            from compression.zstd import compress
        else:
            from backports.zstd import compress
        packed = compress(body)
    elif how == "two members":
        packed = gzip.compress(body[:6]) + gzip.compress(body[6:])
    else:
        packed = gzip.compress(body)
        headers = {"Content-Encoding": "gzip"} if how == "encoding" else {}
    reply = await append(project, "clicks", packed, headers=headers)
    assert reply.json["successful_rows"] == 2, reply.text


async def test_a_damaged_file_leaves_nothing(project: Workspace) -> None:
    packed = gzip.compress(b"k,n\n" + b"".join(b"%d,1\n" % n for n in range(50_000)))
    for body in (packed[:-20], packed[:2000] + b"\0" * 50 + packed[2050:]):
        reply = await append(project, "clicks", body)
        assert reply.status == 400, reply.text
    assert await sql(project, "SELECT count() AS n FROM clicks") == [{"n": 0}]
    assert zlib.crc32(packed)  # the file itself was good
    assert list((project.server.config.data_dir / "files").iterdir()) == []


async def test_many_pieces_are_as_one(project: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut, "PIECE_BYTES", 40_000)
    rows = [f'"k{n}\n{"x" * 20}",{n % 300}\n' for n in range(20_000)]
    body = "".join(rows).encode()
    reply = await append(project, "clicks", body, "&format=csv")
    good = sum(n % 300 < 256 for n in range(20_000))
    assert (reply.json["successful_rows"], reply.json["quarantine_rows"]) == (good, 20_000 - good), reply.text
    assert await sql(project, "SELECT count() AS n, uniqExact(k) AS k FROM clicks") == [{"n": good, "k": good}]
    (found,) = await sql(
        project,
        "SELECT countIf(c__line = 2 * toUInt64(extract(k, '([0-9]+)')) + 1) AS right, count() AS n FROM clicks_quarantine",
    )
    assert found == {"right": 20_000 - good, "n": 20_000 - good}


async def test_an_append_that_is_sent_twice_under_one_key_counts_once(project: Workspace) -> None:
    for _ in range(2):
        reply = await append(project, "clicks", b"a,1\n", headers={"Idempotency-Key": "one"})
        assert reply.json["successful_rows"] == 1, reply.text
    assert await sql(project, "SELECT count() AS n FROM clicks") == [{"n": 1}]


async def test_an_append_as_a_job(project: Workspace) -> None:
    reply = await project.post(
        "/v1/datasources/clicks/append?format=csv&cli_version=5.0.3&from=cli",
        data=b"a,1\nb,x\n",
        headers={"Content-Type": "text/csv"},
    )
    assert reply.status == 200, reply.text
    assert reply.json["kind"] == "import"
    assert reply.json["import_id"] == reply.json["id"] == reply.json["job_id"]
    await project.server.jobs.ended(reply.json["id"])
    job = (await project.get(f"/v0/jobs/{reply.json['id']}?debug=blocks,block_log")).json
    assert (job["status"], job["quarantine_rows"], job["invalid_lines"], job["statistics"]["row_count"]) == ("done", 1, 0, 1)
    assert job["datasource"]["name"] == "clicks"


async def test_an_unknown_data_source_is_the_dialects_refusal(project: Workspace) -> None:
    for path in ("/v0/datasources?mode=append&name=nope", "/v1/datasources/nope/append", "/v0/datasources?mode=create&name=new"):
        reply = await project.post(path, data=b"a,1\n")
        assert (reply.status, reply.json["error"][:6]) == (403, "Adding"), reply.text


async def test_views_are_fed_and_a_row_that_one_refuses_is_in_quarantine(workspace: Workspace) -> None:
    view = "NODE seen\nSQL >\n    SELECT k, toUInt64(throwIf(n = 13) + n) AS total FROM clicks\nTYPE materialized\nDATASOURCE totals\n"
    totals = "SCHEMA >\n    k String,\n    total UInt64\n\nENGINE MergeTree\nENGINE_SORTING_KEY k\n"
    await workspace.deploy({**FILES, "datasources/totals.datasource": totals, "pipes/seen.pipe": view})
    body = b"".join(b"k%d,%d\n" % (n, n) for n in range(20))
    reply = await append(workspace, "clicks", body)
    assert (reply.json["successful_rows"], reply.json["quarantine_rows"]) == (19, 1), reply.text
    assert await sql(workspace, "SELECT count() AS n FROM totals") == [{"n": 19}]
    (found,) = await sql(workspace, "SELECT k, c__line AS line, c__error[1] AS error FROM clicks_quarantine")
    assert (found["k"], found["line"]) == ("k13", 14)
    assert "seen" in found["error"]


async def test_json_columns_and_states(workspace: Workspace) -> None:
    table = "SCHEMA >\n    id UInt8,\n    data JSON\n\nENGINE MergeTree\nENGINE_SORTING_KEY id\n"
    state = "SCHEMA >\n    k String,\n    u AggregateFunction(uniq, String)\n\nENGINE AggregatingMergeTree\nENGINE_SORTING_KEY k\n"
    await workspace.deploy({"datasources/docs.datasource": table, "datasources/states.datasource": state})
    body = b'id,data\n1,"{""a"":[1,2],""d"":""2026-01-01""}"\n2,"{nope"\n'
    reply = await append(workspace, "docs", body, "&format=csv")
    assert (reply.json["successful_rows"], reply.json["quarantine_rows"]) == (1, 1), reply.text
    assert json.loads(json.dumps(await sql(workspace, "SELECT data FROM docs"))) == [{"data": {"a": [1, 2], "d": "2026-01-01"}}]
    refused = await append(workspace, "states", b"a,b\n", "&format=csv")
    assert (refused.status, refused.json["reason"]) == (400, "not_appendable"), refused.text


async def test_what_is_done_to_a_data_source_is_written_down(project: Workspace) -> None:
    await append(project, "clicks", b"a,1\nb,x\n", "&format=csv")
    await project.post("/v0/datasources?mode=replace&name=clicks&format=csv", data=b"a,2\n")
    await project.post("/v1/datasources/clicks/delete", data=b"delete_condition=n=2&wait=true", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert (await project.post("/v0/datasources/clicks/truncate")).status == 205
    await project.server.ingest.drain(project.database, "s1_datasources_ops_log")
    found = await sql(
        project,
        "SELECT event_type, datasource_name, result, rows, rows_quarantine, import_id = job_id AS same, "
        "`Options.Names` AS names FROM tinybird.datasources_ops_log",
    )
    assert sorted((r["event_type"], r["result"], r["rows"], r["rows_quarantine"], r["same"]) for r in found if r["event_type"] != "truncate") == [
        ("append", "ok", 1, 1, 1),
        ("delete", "ok", 1, 0, None),
        ("replace", "ok", 1, 0, 1),
    ]
    assert {r["datasource_name"] for r in found} == {"clicks"} and len(found) == 4
    assert ["format", "file", "mode"] in [r["names"] for r in found]


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("id,day,amount", ("id", "day", "amount")),
        ("id,at,amount", ("id", "day", "amount")),  # the columns in their order, one under another name
        ("ID , at, amount", ("id", "day", "amount")),
        ("amount,at,id", ("amount", "at", "id")),
        ("id,at", ("id", "at")),
        ("id,at,day", ("id", "at", "day")),
        ("id,at,amount,day", ("id", "at", "amount", "day")),
        ("1,2026-01-01,amount", ()),
    ],
)
def test_the_names_of_a_header(header: str, names: tuple[str, ...]) -> None:
    assert detected(f"{header}\n1,2026-01-01,5\n".encode(), ["id", "day", "amount"], ",").names == names

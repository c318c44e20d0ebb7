"""Sinks: files in the bucket of a real S3 store, with the rows of the pipe, and back into a table."""

from __future__ import annotations

import gzip
import io

import pyarrow.parquet
import pytest

from pipit.datafiles.exports import BadTemplate, Part, parse_template
from stores import Buckets
from waiting import until

pytestmark = pytest.mark.anyio

ROWS = "SELECT number AS id, concat('c', toString(number % 3)) AS customer, toDate('2026-01-30') + number % 2 AS day FROM numbers(12)"


def sink(buckets: Buckets, template: str, *, sql: str = ROWS, more: str = "", schedule: str = "@on-demand") -> dict[str, str]:
    return {
        "connections/store.connection": buckets.store.connection(),
        "sinks/out.pipe": f"NODE rows\nSQL >\n    {sql}\nTYPE sink\nEXPORT_CONNECTION_NAME store\nEXPORT_SCHEDULE {schedule}\n"
        f'EXPORT_BUCKET_URI s3://{buckets.bucket}/exports\nEXPORT_FILE_TEMPLATE "{template}"\n{more}',
    }


async def run(buckets: Buckets, query: str = "") -> dict[str, object]:
    return await buckets.workspace.job(await buckets.workspace.post(f"/v0/pipes/out/sink{query}"))


async def content(buckets: Buckets) -> dict[str, bytes]:
    return {key: await buckets.store.get(buckets.bucket, key) for key in await buckets.store.keys(buckets.bucket)}


@pytest.mark.parametrize(
    ("template", "parts"),
    [
        ("all", (Part("all"),)),
        ("{a}", (Part(column="a"),)),
        ("d/{a}/p_{4}", (Part("d/"), Part(column="a"), Part("/p_"), Part(files=4))),
        ("{a, '%Y-%m-%d'}", (Part(column="a", form="%Y-%m-%d"),)),
        ('{a,"%Y"}.csv', (Part(column="a", form="%Y"), Part(".csv"))),
    ],
)
def test_a_template_has_places(template: str, parts: tuple[Part, ...]) -> None:
    assert parse_template(template) == parts


@pytest.mark.parametrize("template", ["{a", "a}", "{}", "{0}", "{5000}", "{a}{b}", "../{a}", "a/./b", "{a,b}", "x" * 600])
def test_what_is_no_template_is_told(template: str) -> None:
    with pytest.raises(BadTemplate):
        parse_template(template)


async def test_a_file_for_each_value(buckets: Buckets) -> None:
    await buckets.workspace.deploy(sink(buckets, "{customer}/{day, '%Y-%m'}", more="EXPORT_WRITE_STRATEGY truncate\n"))
    job = await run(buckets)
    assert (job["status"], job["files"]) == ("done", 3), job
    found = await content(buckets)
    assert sorted(found) == [f"exports/c{n}/2026-01.csv" for n in range(3)]
    assert found["exports/c0/2026-01.csv"].startswith(b'"id","customer","day"\n0,"c0","2026-01-30"\n')
    again = await run(buckets)
    assert again["status"] == "done" and await content(buckets) == found


async def test_new_overwrites_nothing_and_says_what_it_wrote(buckets: Buckets) -> None:
    await buckets.workspace.deploy(sink(buckets, "all.ndjson.gz", more="EXPORT_FORMAT ndjson\nEXPORT_COMPRESSION gz\n"))
    first, second = await run(buckets), await run(buckets)
    found = await content(buckets)
    assert sorted(found) == sorted([*first["file_names"], *second["file_names"]]) and len(found) == 2  # type: ignore[misc]
    for key, body in found.items():
        assert key.startswith("exports/all_") and key.endswith(".ndjson.gz")
        assert gzip.decompress(body).count(b"\n") == 12

    async def told() -> bool:
        rows = await buckets.sql("SELECT pipe_name, result, written_rows, output FROM tinybird.sinks_ops_log")
        found = [(row["pipe_name"], row["result"], int(row["written_rows"]), len(row["output"])) for row in rows]
        return found == [("out", "ok", 12, 1)] * 2

    await until(told)


async def test_rows_are_dealt_out_in_their_order(buckets: Buckets) -> None:
    sql = "SELECT number AS id FROM numbers(1000) ORDER BY id DESC"
    await buckets.workspace.deploy(sink(buckets, "p_{4}", sql=sql, more="EXPORT_FORMAT parquet\nEXPORT_WRITE_STRATEGY truncate\n"))
    assert (await run(buckets))["files"] == 4
    found = [pyarrow.parquet.read_table(io.BytesIO(body)).column("id").to_pylist() for body in (await content(buckets)).values()]
    assert all(ids == sorted(ids, reverse=True) and len(ids) == 250 for ids in found)
    assert sorted(id for ids in found for id in ids) == list(range(1000))


async def test_values_lead_to_no_other_folder_and_to_no_common_file(buckets: Buckets) -> None:
    sql = "SELECT arrayJoin(['a/b', 'a_b', '..', '', '%empty', 'a%2Fb', 'é 世']) AS customer, 1 AS n"
    await buckets.workspace.deploy(sink(buckets, "{customer}/rows", sql=sql, more="EXPORT_WRITE_STRATEGY truncate\n"))
    assert (await run(buckets))["files"] == 7
    found = await content(buckets)
    assert len(found) == 7 and all(body.count(b"\n") == 2 for body in found.values())
    assert all(key.startswith("exports/") and key.count("/") == 2 and "/../" not in key for key in found)


async def test_values_that_meet_in_one_name_are_an_error(buckets: Buckets) -> None:
    sql = "SELECT tupleElement(t, 1) AS a, tupleElement(t, 2) AS b FROM (SELECT arrayJoin([('x-y', 'z'), ('x', 'y-z')]) AS t)"
    await buckets.workspace.deploy(sink(buckets, "{a}-{b}", sql=sql))
    job = await run(buckets)
    assert job["status"] == "error" and "one file" in str(job["error"]) and await content(buckets) == {}


async def test_what_is_wrong_is_told(buckets: Buckets) -> None:
    await buckets.workspace.deploy(sink(buckets, "{nothing}"))
    job = await run(buckets)
    assert job["status"] == "error" and "nothing" in str(job["error"])
    for asked, part in (
        ("path=http://x/y", "s3://"),
        ("connection=other", "no connection 'other'"),
        ("format=xml", "no format"),
        ("compression=rar", "no compression"),
        ("file_template={a}{b}", "side by side"),
    ):
        reply = await buckets.workspace.post(f"/v0/pipes/out/sink?{asked}")
        assert reply.status == 400 and part in reply.text, reply.text
    assert (await buckets.workspace.post("/v0/pipes/nowhere/sink")).status == 404


async def test_a_large_file_is_there_when_it_is_whole(buckets: Buckets) -> None:
    sql = "SELECT number AS id, hex(randomString(500)) AS pad FROM numbers(25000)"
    await buckets.workspace.deploy(sink(buckets, "all", sql=sql, more="EXPORT_FORMAT ndjson\nEXPORT_WRITE_STRATEGY truncate\n"))
    job = await run(buckets)
    assert job["status"] == "done", job
    (body,) = (await content(buckets)).values()
    assert len(body) > 24 << 20 and body.count(b"\n") == 25_000
    broken = sql.replace("hex(", "throwIf(number = 24999) + length(")
    await buckets.workspace.deploy(sink(buckets, "all", sql=broken, more="EXPORT_FORMAT ndjson\nEXPORT_WRITE_STRATEGY truncate\n"))
    assert (await run(buckets))["status"] == "error"
    assert (await content(buckets)).popitem()[1] == body


TYPES = """SCHEMA >
    id UInt64 `json:$.id`,
    s String `json:$.s`,
    l LowCardinality(String) `json:$.l`,
    n Nullable(Int32) `json:$.n`,
    f Float64 `json:$.f`,
    d Decimal(18, 4) `json:$.d`,
    day Date `json:$.day`,
    at DateTime64(3) `json:$.at`,
    u UUID `json:$.u`,
    a Array(String) `json:$.a[:]`,
    b Bool `json:$.b`

"""
ALL = """SELECT number AS id, concat('a,"\\n\\\\t é', toString(number)) AS s, toLowCardinality('x') AS l,
        if(number % 2, NULL, toInt32(-number)) AS n, number / 7 AS f, toDecimal64(number, 4) / 8 AS d,
        toDate('2026-01-01') + number AS day, toDateTime64('2026-01-01 00:00:00.123', 3) + number AS at,
        toUUID('6f2c1a3e-0000-4000-8000-000000000001') AS u, ['x', concat('y,', toString(number))] AS a, number % 2 = 0 AS b
    FROM numbers(50)"""


@pytest.mark.parametrize(("format", "more"), [("csv", "gz"), ("ndjson", "none"), ("parquet", "snappy")])
async def test_out_and_in_again_is_the_same(buckets: Buckets, format: str, more: str) -> None:
    files = sink(buckets, "all", sql=ALL, more=f"EXPORT_FORMAT {format}\nEXPORT_COMPRESSION {more}\n")
    files |= buckets.files("exports/**", name="back", schema=TYPES)
    await buckets.workspace.deploy(files)
    assert (await run(buckets))["status"] == "done"

    async def there() -> bool:
        (row,) = await buckets.sql("SELECT count() + (SELECT count() FROM back_quarantine) AS n FROM back")
        return int(row["n"]) >= 50

    await until(there)
    columns = "id, s, l, n, f, d, day, at, u, a, b"
    assert await buckets.sql("SELECT c__error FROM back_quarantine LIMIT 1") == []
    out = await buckets.sql(f"SELECT {columns} FROM ({ALL}) ORDER BY id")
    assert await buckets.sql(f"SELECT {columns} FROM back ORDER BY id") == out

"""Objects of a real S3 store into tables: each version once, whatever it is written in, with bad rows in quarantine."""

from __future__ import annotations

import gzip
import json
import sys

import pytest

from stores import Buckets
from waiting import until

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.anyio


def lines(first: int, end: int) -> bytes:
    return b"".join(b'{"id": %d}\n' % n for n in range(first, end))


async def test_objects_are_loaded_as_they_appear_and_once(buckets: Buckets) -> None:
    await buckets.put({"in/a.ndjson": lines(0, 10), "in/b.csv": b"id,v\n10,1\n11,2\n", "out/c.ndjson": lines(50, 60)})
    await buckets.workspace.deploy(buckets.files("in/**"))
    await buckets.hold(list(range(12)))
    await buckets.put({"in/x/y/d.ndjson": lines(12, 15), "in/empty.csv": b"", "in/folder/": b""})
    await buckets.hold(list(range(15)))
    await buckets.put({"in/a.ndjson": lines(0, 10)})  # the same content again is no other version
    await buckets.put({"in/b.csv": b"v,id\n1,15\n"})
    await buckets.hold(list(range(16)))
    await buckets.looked()
    assert await buckets.ids() == list(range(16))
    assert buckets.status().state == "ready" and buckets.status().failed == 0


async def test_every_format_and_packing(buckets: Buckets) -> None:
    parquet = await buckets.workspace.post(
        "/v0/sql", data={"q": "SELECT toUInt64(number + 600) AS id, toUInt8(3) AS v FROM numbers(100) FORMAT Parquet"}
    )
    await buckets.put(
        {
            "a.ndjson.gz": gzip.compress(lines(0, 100)),
            "b.jsonl.zst": zstd.compress(lines(100, 200)),
            "c.json": lines(200, 300),
            "d.csv.gz": gzip.compress(b"".join(b"%d,1\n" % n for n in range(300, 400))),
            "e.tsv": b"id\tv\n" + b"".join(b"%d\t1\n" % n for n in range(400, 500)),
            "f.csv": b"v;id\n" + b"".join(b"1;%d\n" % n for n in range(500, 600)),
            "g.parquet": parquet.body,
            "o d'd [n]ame {source} \u00e9\u4e16?&=%2F.ndjson": lines(700, 710),
        }
    )
    await buckets.put({"encoded.ndjson": gzip.compress(lines(710, 720))}, ContentEncoding="gzip")
    await buckets.workspace.deploy(buckets.files("*"))
    await buckets.hold(list(range(720)))


async def test_bad_rows_are_in_quarantine_with_file_line_and_reason(buckets: Buckets) -> None:
    await buckets.put(
        {
            "a.ndjson": b'{"id": 1}\n\n{"id": "x"}\n{"id": 2, "v": 300}\n{"id": 3}\n',
            "b {source}.ndjson": b'{"id": 4}\n{"id": -5}\nno json\n',
            "c.csv": b'id,v\n6,1\n"7,1\n8,1\n9,1,1\n10,256\n',
            "d.csv": b'id,v\n"11",1\nzz,"2"\n',
        }
    )
    await buckets.workspace.deploy(buckets.files("*"))
    await buckets.hold([1, 3, 4, 6, 8, 11])
    await until(lambda: buckets.status().quarantined == 8)
    found = await buckets.sql("SELECT c__file, c__line, c__error FROM orders_quarantine ORDER BY c__file, c__line")
    places = [(row["c__file"].removeprefix(f"s3://{buckets.bucket}/"), int(row["c__line"])) for row in found]
    assert places == [
        ("a.ndjson", 3),
        ("a.ndjson", 4),
        ("b {source}.ndjson", 2),
        ("b {source}.ndjson", 3),
        ("c.csv", 3),
        ("c.csv", 5),
        ("c.csv", 6),
        ("d.csv", 3),
    ]
    assert all(row["c__error"][0] for row in found)


async def test_what_cannot_be_loaded_is_parked_and_keeps_nobody_waiting(buckets: Buckets) -> None:
    await buckets.put(
        {
            "a.ndjson": lines(0, 5),
            "b.csv.gz": gzip.compress(b"id\n1\n")[:-6],
            "c.parquet": b"no Parquet at all",
            "d.parquet": b"PAR1 but not to its end",
            "e.what": b"1\n",
            "z.ndjson": lines(5, 10),
        }
    )
    await buckets.workspace.deploy(buckets.files("*"))
    await buckets.hold(list(range(10)))
    assert buckets.status().objects == 2
    reply = await buckets.workspace.get("/v0/connectors/store")
    (read,) = reply.json["datasources"]
    assert {one["object"].rpartition("/")[2] for one in read["not_loaded"]} == {"b.csv.gz", "c.parquet", "d.parquet", "e.what"}
    assert all(one["error"] for one in read["not_loaded"])
    await buckets.put({"c.parquet": b"still none", "b.csv.gz": gzip.compress(b"id\n10\n")})
    await buckets.hold(list(range(11)))


async def test_on_demand_loads_at_first_and_when_it_is_asked(buckets: Buckets) -> None:
    await buckets.put({"a.ndjson": lines(0, 5)})
    await buckets.workspace.deploy(buckets.files("*", schedule="@on-demand"))
    await buckets.hold(list(range(5)))
    await buckets.put({"b.ndjson": lines(5, 8), "c.ndjson": b'{"id": "x"}\n'})
    await buckets.workspace.deploy(buckets.files("*", schedule="@on-demand", more="DESCRIPTION other\n"))
    reply = await buckets.workspace.post("/v0/datasources/orders/scheduling/runs")
    job = await buckets.workspace.job(reply)
    assert (job["status"], job["files"], job["quarantine_rows"]) == ("done", 2, 1), job
    assert await buckets.ids() == list(range(8))
    again = await buckets.workspace.job(await buckets.workspace.post("/v0/datasources/orders/scheduling/runs"))
    assert (again["status"], again["files"]) == ("done", 0)

    async def told() -> bool:
        rows = await buckets.sql(
            "SELECT event_type, result, rows FROM tinybird.datasources_ops_log WHERE datasource_name = 'orders'"
            " AND has(`Options.Names`, 'files') ORDER BY rows DESC"
        )
        return [(r["event_type"], r["result"], int(r["rows"])) for r in rows] == [("append", "ok", 5), ("append", "ok", 3)]

    await until(told)


async def test_a_stopped_bucket_is_not_looked_at(buckets: Buckets) -> None:
    await buckets.workspace.deploy(buckets.files("*"))
    await buckets.looked(1)
    assert (await buckets.workspace.post("/v0/datasources/orders/stop")).status == 200
    await buckets.put({"a.ndjson": lines(0, 5)})
    refused = await buckets.workspace.post("/v0/datasources/orders/scheduling/runs")
    assert refused.status == 400 and "stopped" in refused.text
    assert buckets.status().state == "stopped" and await buckets.ids() == []
    assert (await buckets.workspace.post("/v0/datasources/orders/start")).status == 200
    await buckets.hold(list(range(5)))


async def test_a_large_object_is_cut_and_loaded_once(buckets: Buckets) -> None:
    """More than one piece, of which one has a bad row far behind."""
    row = json.dumps({"id": 7, "pad": "x" * 200}).encode() + b"\n"
    body = row * 340_000 + b'{"id": "bad"}\n' + row * 10
    assert len(body) > 64 << 20
    await buckets.put({"big.ndjson.zst": zstd.compress(body, 1)})
    await buckets.workspace.deploy(buckets.files("*"))

    async def there() -> bool:
        (found,) = await buckets.sql("SELECT count() AS n FROM orders")
        return int(found["n"]) >= 340_010

    await until(there, 90)
    (bad,) = await buckets.sql("SELECT c__line, c__file FROM orders_quarantine")
    assert (int(bad["c__line"]), bad["c__file"]) == (340_001, f"s3://{buckets.bucket}/big.ndjson.zst")


async def test_a_pattern_and_a_time_choose_objects(buckets: Buckets) -> None:
    await buckets.put({f"d{n:02}/a.ndjson": lines(n, n + 1) for n in range(12)})
    await buckets.workspace.deploy(buckets.files("d{08..10}/?.ndjson", more="IMPORT_FROM_TIMESTAMP 2020-01-01T00:00:00Z\n"))
    await buckets.hold([8, 9, 10])
    await buckets.workspace.deploy(
        buckets.files("*/a.ndjson", name="later", more="IMPORT_FROM_TIMESTAMP 2100-01-01T00:00:00Z\n"),
        allow_destructive=True,
    )
    job = await buckets.workspace.job(await buckets.workspace.post("/v0/datasources/later/scheduling/runs"))
    assert (job["status"], job["files"]) == ("done", 0)

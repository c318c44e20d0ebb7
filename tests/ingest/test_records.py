"""Records of a topic, from their file into the table: the columns of a record, what is refused and why, once."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pipit.errors import SqlError
from pipit.ingest import load, records, target_of
from pipit.ingest.records import Cut, Form, encode
from serving import Workspace

pytestmark = pytest.mark.anyio

CONNECTION = "TYPE kafka\nKAFKA_BOOTSTRAP_SERVERS 127.0.0.1:9\nKAFKA_SECURITY_PROTOCOL PLAINTEXT\n"
SOURCE = """
SCHEMA >
    id UInt64 `json:$.id`,
    v UInt8 `json:$.v` DEFAULT 7,
    tags Array(String) `json:$.tags[:]`,
    day Date DEFAULT toDate(__timestamp)

ENGINE MergeTree
ENGINE_SORTING_KEY id
KAFKA_CONNECTION_NAME broker
KAFKA_TOPIC orders
KAFKA_GROUP_ID pipit
KAFKA_STORE_RAW_VALUE {raw}
KAFKA_STORE_HEADERS True
"""


async def deployed(workspace: Workspace, *, raw: bool = True, more: str = "", source: str = SOURCE) -> None:
    await workspace.deploy(
        {
            "connections/broker.connection": CONNECTION,
            "datasources/orders.datasource": source.replace("{raw}", str(raw)) + more,
        }
    )


def cut_of(workspace: Workspace, rows: list[bytes], *, raw: bool = True, identity: str = "c1/t1/3/0-99/e1") -> Cut:
    snapshot = workspace.server.catalog.snapshot(workspace.id)
    target = target_of(snapshot.tables["orders"])
    meta: dict[str, Any] = load.meta(target.columns, target.quarantine_table, target.partition_key)
    meta["records"] = asdict(Form("orders", 3, raw))
    folder: Path = workspace.server.config.data_dir / "segments" / "kafka" / workspace.database
    return records.write(folder / f"{len(rows)}{records.SUFFIX}", target.database, target.table, meta, identity, rows)


async def sql(workspace: Workspace, query: str) -> list[dict[str, Any]]:
    reply = await workspace.post("/v0/sql", data={"q": f"{query} FORMAT JSON"})
    assert reply.status == 200, reply.text
    rows: list[dict[str, Any]] = reply.json["data"]
    return rows


async def test_a_record_has_its_place_and_its_value(workspace: Workspace) -> None:
    await deployed(workspace)
    rows = [
        encode(b'{"id": 1, "tags": ["a"]}', 10, 1_700_000_000_123, b"key-1", [("trace", b"\xff\x00"), ("none", None)]),
        encode(b'{\n  "id": 2,\n  "tags": []\n}', 12, -1),
    ]
    assert await workspace.server.ingest.insert(cut_of(workspace, rows)) == 0
    first, second = await sql(
        workspace,
        "SELECT *, hex(__headers['trace']) AS trace, mapKeys(__headers) AS names, toUnixTimestamp(__timestamp) AS at "
        "FROM orders ORDER BY id",
    )
    assert (first["id"], first["v"], first["tags"]) == (1, 7, ["a"])
    assert (first["__topic"], first["__partition"], int(first["__offset"])) == ("orders", 3, 10)
    assert (first["__key"], first["trace"], first["names"]) == ("key-1", "FF00", ["trace", "none"])
    assert (first["at"], first["day"]) == (1_700_000_000, "2023-11-14")
    assert first["__value"] == '{"id": 1, "tags": ["a"]}'
    assert (second["id"], second["__key"], second["names"], second["at"]) == (2, "", [], 0)
    assert second["__value"] == '{\n  "id": 2,\n  "tags": []\n}'


async def test_a_raw_value_is_kept_only_where_it_is_asked_for(workspace: Workspace) -> None:
    await deployed(workspace, raw=False)
    await workspace.server.ingest.insert(cut_of(workspace, [encode(b'{"id": 1, "tags": []}', 1, 1)], raw=False))
    assert (await sql(workspace, "SELECT __value FROM orders"))[0]["__value"] == ""


BAD = {
    b"": records.TOMBSTONE,
    b"not json": "invalid JSON",
    b"\x00\xff{": "invalid JSON",
    b'["a"]': "invalid JSON",
    b'{"id": 1, "tags": []': "invalid JSON",
    b'{"id": 1, "tags": ["a\nb"]}': "invalid JSON",
    b'{"id": -1, "tags": []}': "value '-1' on column 'id' is not UInt64",
    b'{"id": 1, "v": 300, "tags": []}': "value '300' on column 'v' is not UInt8",
    b'{"tags": []}': "Object does not have column 'id'",
}


async def test_a_bad_record_is_in_quarantine_with_its_place_value_and_reason(workspace: Workspace) -> None:
    await deployed(workspace, raw=False)
    rows = [encode(b'{"id": 5, "tags": []}', 0, 1)]
    rows += [encode(value, n, 1_700_000_000_000, b"k") for n, value in enumerate(BAD, 1)]
    rows.append(encode(b"\x00\x00\x00\x00\x09xx", 90, 1, problem="the schema 9 is not known"))
    rows.append(encode(b'{"id": 6, "tags": []}', 91, 1))
    assert await workspace.server.ingest.insert(cut_of(workspace, rows, raw=False)) == len(BAD) + 1
    assert [int(row["id"]) for row in await sql(workspace, "SELECT id FROM orders ORDER BY id")] == [5, 6]
    kept = await sql(
        workspace,
        "SELECT __topic, __partition, __offset, __key, hex(__value) AS value, c__error "
        "FROM orders_quarantine ORDER BY toInt64(__offset)",
    )
    assert [bytes.fromhex(row["value"]) for row in kept] == [*BAD, b"\x00\x00\x00\x00\x09xx"]
    for row, (n, reason) in zip(kept, enumerate([*BAD.values(), "the schema 9 is not known"], 1), strict=True):
        assert (row["__topic"], row["__partition"]) == ("orders", "3")
        assert row["__offset"] == str(n if n <= len(BAD) else 90)
        assert reason in row["c__error"][0]


async def test_a_cut_that_is_made_again_is_stored_once(workspace: Workspace) -> None:
    await deployed(workspace)
    rows = [encode(b'{"id": %d, "tags": []}' % n, n, 1) for n in range(50)] + [encode(b"bad", 50, 1)]
    for _ in range(3):
        await workspace.server.ingest.insert(cut_of(workspace, rows))
    await workspace.server.ingest.insert(cut_of(workspace, rows, identity="c1/t1/3/0-99/e2"))
    (row,) = await sql(workspace, "SELECT count() AS n, uniqExact(id) AS ids FROM orders")
    assert (int(row["n"]), int(row["ids"])) == (100, 50)
    (row,) = await sql(workspace, "SELECT count() AS n FROM orders_quarantine")
    assert int(row["n"]) == 2


async def test_a_time_beyond_the_column_is_refused(workspace: Workspace) -> None:
    await deployed(workspace, raw=False)
    rows = [encode(b'{"id": 1, "tags": []}', 0, 4294967295999), encode(b'{"id": 2, "tags": []}', 1, 4294967296000)]
    assert await workspace.server.ingest.insert(cut_of(workspace, rows, raw=False)) == 1
    (kept,) = await sql(workspace, "SELECT __offset, c__error FROM orders_quarantine")
    assert kept["__offset"] == "1" and "time is beyond" in kept["c__error"][0]


async def test_columns_of_a_record_may_have_types_of_their_own(workspace: Workspace) -> None:
    own = "id UInt64 `json:$.id`,\n    __partition UInt32,\n    __offset UInt64,\n    __timestamp DateTime64(3),\n    __key Nullable(String),"
    await deployed(workspace, raw=False, source=SOURCE.replace("id UInt64 `json:$.id`,", own))
    rows = [encode(b'{"id": 1, "tags": []}', 7, 1_700_000_000_123, b"k")]
    assert await workspace.server.ingest.insert(cut_of(workspace, rows, raw=False)) == 0
    (row,) = await sql(
        workspace,
        "SELECT __partition AS p, __offset AS o, toUnixTimestamp64Milli(__timestamp) AS t, __key AS k FROM orders",
    )
    assert (int(row["p"]), int(row["o"]), int(row["t"]), row["k"]) == (3, 7, 1_700_000_000_123, "k")


VIEW = (
    "NODE n\nSQL >\n    SELECT id, toUInt8(throwIf(id = 13) + 1) AS n FROM orders\nTYPE materialized\nDATASOURCE seen\n"
)
SEEN = "SCHEMA >\n    id UInt64,\n    n UInt8\n\nENGINE MergeTree\nENGINE_SORTING_KEY id\n"


async def test_a_record_that_a_view_refuses_is_in_quarantine_and_the_rest_in_both(workspace: Workspace) -> None:
    await workspace.deploy(
        {
            "connections/broker.connection": CONNECTION,
            "datasources/orders.datasource": SOURCE.replace("{raw}", "False"),
            "datasources/seen.datasource": SEEN,
            "pipes/view.pipe": VIEW,
        }
    )
    rows = [encode(b'{"id": %d, "tags": ["x\\ny"]}' % n, n, 1, b"\n") for n in range(40)]
    await workspace.server.ingest.insert(cut_of(workspace, rows))
    await workspace.server.ingest.insert(cut_of(workspace, rows))
    for table in ("orders", "seen"):
        (row,) = await sql(workspace, f"SELECT count() AS n, uniqExact(id) AS ids FROM {table} WHERE id != 13")
        assert (int(row["n"]), int(row["ids"])) == (39, 39), table
    kept = await sql(workspace, "SELECT __offset, __value, c__error FROM orders_quarantine")
    assert [(row["__offset"], row["__value"]) for row in kept] == [("13", '{"id": 13, "tags": ["x\\ny"]}')]
    assert "view" in kept[0]["c__error"][0]


async def test_a_default_that_throws_holds_back_only_its_own_record(workspace: Workspace) -> None:
    source = SOURCE.replace("day Date DEFAULT toDate(__timestamp)", "x UInt8 DEFAULT __offset * 10")
    await deployed(workspace, source=source)
    rows = [encode(b'{"id": %d, "tags": []}' % n, n, 1) for n in range(40)]
    try:
        await workspace.server.ingest.insert(cut_of(workspace, rows))
    except SqlError as error:
        pytest.fail(f"{error.message} {error.detail}")
    (row,) = await sql(workspace, "SELECT count() AS n, max(x) AS most FROM orders")
    assert (int(row["n"]), int(row["most"])) == (26, 250)
    (row,) = await sql(workspace, "SELECT count() AS n, min(toInt64(__offset)) AS first FROM orders_quarantine")
    assert (int(row["n"]), int(row["first"])) == (14, 26)

"""From a bucket to a readable row: Pipit's loading against the engine's own `INSERT ... SELECT FROM s3()` of the same
objects, in one run, each into a table of its own. The store runs on the same cores.

    .venv/bin/python bench/s3.py --mb 200 --small 1000 --rounds 3
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from pipit.access.tokens import make_token  # noqa: E402
from pipit.ingest.files.remote import AllowedHosts  # noqa: E402
from pipit.server import Config, Server, open_server  # noqa: E402
from stores import KEY, SECRET, ObjectStore, store_program  # noqa: E402

SCHEMA = """SCHEMA >
    id UInt64 `json:$.id`,
    customer String `json:$.customer`,
    kind LowCardinality(String) `json:$.kind`,
    amount Float64 `json:$.amount`,
    text String `json:$.text`

ENGINE MergeTree
ENGINE_SORTING_KEY id
"""
COLUMNS = "id UInt64, customer String, kind LowCardinality(String), amount Float64, text String"
FORMATS = {"ndjson": "JSONEachRow", "csv": "CSVWithNames", "parquet": "Parquet"}
_ROW_BYTES = 250


async def content(server: Server, format: str, first: int, rows: int) -> bytes:
    select = (
        "SELECT number AS id, concat('customer-', toString(number % 500)) AS customer, "
        "concat('kind-', toString(number % 7)) AS kind, number % 1000 + 0.25 AS amount, "
        f"hex(sipHash128(number)) || repeat('x', 100) AS text FROM numbers({first}, {rows})"
    )
    return await server.engine.query(
        select, settings={"output_format_json_quote_64bit_integers": 0}, format=FORMATS[format]
    )


async def load(server: Server, store: ObjectStore, bucket: str, format: str, rows: int, name: str) -> float:
    """Seconds until all rows are in the table of a data source that is deployed now."""
    files = {
        "connections/store.connection": store.connection(),
        f"datasources/{name}.datasource": f"{SCHEMA}IMPORT_CONNECTION_NAME store\n"
        f"IMPORT_BUCKET_URI s3://{bucket}/*.{format}\nIMPORT_SCHEDULE @once\n",
    }
    workspace = await server.catalog.create_workspace(f"w_{name}")
    began = time.perf_counter()
    await server.deployer.deploy(workspace.id, files)
    table = server.catalog.snapshot(workspace.id).tables[name]
    while True:
        (row,) = await server.engine.rows(f"SELECT count() AS n FROM `{table.database}`.`{table.physical}`")
        if int(row["n"]) >= rows:
            assert int(row["n"]) == rows
            return time.perf_counter() - began
        await asyncio.sleep(0.02)


async def insert(server: Server, store: ObjectStore, bucket: str, format: str, rows: int, name: str) -> float:
    """Seconds of the engine's own insert."""
    await server.engine.command("CREATE DATABASE IF NOT EXISTS raw")
    await server.engine.command(f"CREATE TABLE raw.{name} ({COLUMNS}) ENGINE = MergeTree ORDER BY id")
    source = f"s3('{store.url}/{bucket}/*.{format}', '{KEY}', '{SECRET}', '{FORMATS[format]}', '{COLUMNS}')"
    began = time.perf_counter()
    await server.engine.command(f"INSERT INTO raw.{name} SELECT * FROM {source}")
    took = time.perf_counter() - began
    (row,) = await server.engine.rows(f"SELECT count() AS n FROM raw.{name}")
    assert int(row["n"]) == rows
    return took


async def compare(server: Server, store: ObjectStore, asked: argparse.Namespace) -> None:
    per_object = asked.mb * 1_000_000 // _ROW_BYTES // 4
    kinds: Mapping[str, tuple[str, int, int]] = {
        "large NDJSON": ("ndjson", 4, per_object),
        "large CSV": ("csv", 4, per_object),
        "large Parquet": ("parquet", 4, per_object),
        "small NDJSON": ("ndjson", asked.small, 100),
        "small CSV": ("csv", asked.small, 100),
    }
    print(f"{'objects':<14} {'number':>7} {'MB':>8} {'Pipit s':>9} {'s3() s':>9} {'Pipit MB/s':>11} {'ratio':>6}")
    for number, (name, (format, objects, rows)) in enumerate(kinds.items()):
        bucket, size = await store.bucket(), 0
        for one in range(objects):
            body = await content(server, format, one * rows, rows)
            size += len(body)
            await store.put(bucket, {f"{one:06}.{format}": body})
        ours, theirs = [], []
        for round in range(asked.rounds):
            ours.append(await load(server, store, bucket, format, objects * rows, f"d{number}_{round}"))
            theirs.append(await insert(server, store, bucket, format, objects * rows, f"d{number}_{round}"))
        a, b = statistics.median(ours), statistics.median(theirs)
        print(f"{name:<14} {objects:>7} {size / 1e6:>8.1f} {a:>9.2f} {b:>9.2f} {size / 1e6 / a:>11.1f} {b / a:>6.2f}")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=200, help="of the large objects, together")
    parser.add_argument("--small", type=int, default=1000, help="how many small objects")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = ObjectStore(Path(folder) / "s3", store_program())
        store.start()
        try:
            config = Config(
                Path(folder) / "data",
                make_token(owner="bench"),
                connectors=True,
                urls=AllowedHosts(private=("127.0.0.1",)),
            )
            async with open_server(config) as server:
                await compare(server, store, asked)
        finally:
            store.kill()


if __name__ == "__main__":
    asyncio.run(main())

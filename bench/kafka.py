"""From a topic to a readable row: Pipit's connector against the engine's own insert of the same rows, in one run.

The broker runs on the same cores. The records are in the topic before the data source is deployed; the time ends when
all of them are counted in the table. The engine's own insert reads the same rows as NDJSON from one file, unchecked.

    .venv/bin/python bench/kafka.py --records 300000 --rounds 3
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from brokers import Broker, kafka_libs  # noqa: E402
from pipit.access.tokens import make_token  # noqa: E402
from pipit.server import Config, Server, open_server  # noqa: E402

SCHEMA = """SCHEMA >
    id UInt64 `json:$.id`,
    customer String `json:$.customer`,
    kind LowCardinality(String) `json:$.kind`,
    amount Float64 `json:$.amount`,
    text String `json:$.text`

ENGINE MergeTree
ENGINE_SORTING_KEY id
"""


def value(id: int) -> bytes:
    return b'{"id": %d, "customer": "customer-%d", "kind": "kind-%d", "amount": %d.25, "text": "%s"}' % (
        id, id % 500, id % 7, id % 1000, b"x" * 150,
    )  # fmt: skip


async def fill(broker: Broker, topic: str, partitions: int, records: int) -> None:
    await broker.create_topic(topic, partitions)
    async with broker.producer(linger_ms=20, max_batch_size=256 << 10) as producer:
        for first in range(0, records, 5000):
            ids = range(first, min(first + 5000, records))
            await asyncio.gather(*[await producer.send(topic, value(id), partition=id % partitions) for id in ids])


async def read(server: Server, broker: Broker, topic: str, records: int) -> float:
    """Seconds until all records are in the table."""
    files = {
        "connections/broker.connection": (
            f"TYPE kafka\nKAFKA_BOOTSTRAP_SERVERS {broker.address()}\nKAFKA_SECURITY_PROTOCOL PLAINTEXT\n"
        ),
        f"datasources/{topic}.datasource": (
            f"{SCHEMA}KAFKA_CONNECTION_NAME broker\nKAFKA_TOPIC {topic}\nKAFKA_GROUP_ID of_{topic}\n"
            "KAFKA_AUTO_OFFSET_RESET earliest\n"
        ),
    }
    workspace = await server.catalog.create_workspace(f"w_{topic}")
    began = time.perf_counter()
    await server.deployer.deploy(workspace.id, files)
    table = server.catalog.snapshot(workspace.id).tables[topic]
    while True:
        (row,) = await server.engine.rows(f"SELECT count() AS n FROM `{table.database}`.`{table.physical}`")
        if int(row["n"]) >= records:
            assert int(row["n"]) == records
            return time.perf_counter() - began
        await asyncio.sleep(0.02)


async def insert(server: Server, folder: Path, name: str, records: int) -> float:
    """Seconds of the engine's own insert."""
    path = folder / "segments" / f"{name}.ndjson"
    path.write_bytes(b"".join(value(id) + b"\n" for id in range(records)))
    columns = "id UInt64, customer String, kind LowCardinality(String), amount Float64, text String"
    await server.engine.command(f"CREATE TABLE default.{name} ({columns}) ENGINE = MergeTree ORDER BY id")
    began = time.perf_counter()
    await server.engine.insert_file(
        f"default.{name}", "SELECT * FROM {source}", path, format="JSONEachRow", structure=columns
    )
    return time.perf_counter() - began


async def main(records: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="pipit-bench-") as made:
        folder = Path(made)
        broker = Broker(folder / "kafka", kafka_libs())
        broker.start()
        try:
            config = Config(folder / "data", make_token(owner="bench"), connectors=True)
            async with open_server(config) as server:
                print(f"{records:,} records of {len(value(records))} bytes; records/s, medians of {rounds}")
                for partitions in (1, 6):
                    through, raw = [], []
                    for number in range(rounds):
                        topic = f"p{partitions}_{number}"
                        await fill(broker, topic, partitions, records)
                        through.append(records / await read(server, broker, topic, records))
                        raw.append(records / await insert(server, folder / "data", topic, records))
                    ratios = [a / b for a, b in zip(through, raw, strict=True)]
                    print(
                        f"{partitions} partition{'s' if partitions > 1 else ''}: {statistics.median(through):,.0f} "
                        f"through the connector, {statistics.median(raw):,.0f} by the engine's own insert, "
                        f"ratio {statistics.median(ratios):.2f}"
                    )
                most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                print(f"memory of this process at most: {most:,.0f} MB")
        finally:
            broker.kill()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    asyncio.run(main(given.records, given.rounds))

"""A process that ingests and can be killed: `python process.py <data> <mode>`. Prints what was
acknowledged, as it is.

`send`: batches of rows until it is killed or told to stop by a closed stdin. `count`: starts, loads what
was left, and prints a JSON object of what the table holds. With `-picky` there is a view more, which refuses one row of
each batch: every segment is taken apart.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from pipit.datafiles.resources import Column, DataSource
from pipit.engine import open_engine
from pipit.errors import Unavailable
from pipit.ingest import Ingest, Target
from pipit.tables import Locks
from pipit.tables.quarantine import create_quarantine
from pipit.tables.settings import table_settings

COLUMNS = (Column("id", "UInt64", "$.id"), Column("day", "Date", "$.day"))
TARGET = Target("crash", "d1_events", "q1_events", COLUMNS, "toYYYYMM(day)")
BATCH = 20
VIEW = (
    "CREATE TABLE IF NOT EXISTS crash.d1_view (id UInt64) ENGINE = MergeTree ORDER BY id SETTINGS SETTINGS_OF_TABLES",
    "CREATE MATERIALIZED VIEW IF NOT EXISTS crash.m1_view TO crash.d1_view AS SELECT id FROM crash.d1_events",
)
PICKY = (
    "CREATE TABLE IF NOT EXISTS crash.d1_picky (id UInt64) ENGINE = MergeTree ORDER BY id SETTINGS SETTINGS_OF_TABLES",
    "CREATE MATERIALIZED VIEW IF NOT EXISTS crash.m1_picky TO crash.d1_picky AS SELECT id FROM crash.d1_events "
    f"WHERE throwIf(id % {BATCH} = {BATCH - 2}) = 0",
)


# With `-only` it is the one view, and refuses a row of the batches of one client.
ONLY = (PICKY[0], PICKY[1].replace(f"id % {BATCH}", f"id % {4 * BATCH}"))


async def send(ingest: Ingest) -> None:
    """Four clients, each waits for every other batch; one row of a batch is bad."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), stop.set)

    async def client(number: int) -> None:
        for batch in range(1_000_000):
            if stop.is_set():
                return
            first = (batch * 4 + number) * BATCH
            rows = [{"id": first + n, "day": f"2024-0{n % 3 + 1}-01"} for n in range(BATCH - 1)] + [{"id": "bad"}]
            body = "".join(json.dumps(row) + "\n" for row in rows).encode()
            while True:
                try:
                    result = await ingest.append(TARGET, body, wait=batch % 2 == 0, idempotency_key=f"{first}")
                except Unavailable:
                    await asyncio.sleep(0.05)
                    continue
                break
            print(first, "loaded" if result.loaded else "kept", flush=True)

    await asyncio.gather(*(client(n) for n in range(4)))


async def main(data: Path, mode: str) -> None:
    async with open_engine(data) as engine:
        settings = ", ".join(f"{k} = {v}" for k, v in table_settings().items())
        for statement in (
            "CREATE DATABASE IF NOT EXISTS crash",
            "CREATE TABLE IF NOT EXISTS crash.d1_events (id UInt64, day Date) ENGINE = MergeTree "
            f"PARTITION BY toYYYYMM(day) ORDER BY id SETTINGS {settings}",
            create_quarantine(DataSource("events", "", COLUMNS), "crash", "q1_events"),
            *(ONLY if mode.endswith("-only") else VIEW),
            *(PICKY if mode.endswith("-picky") else ()),
        ):
            await engine.command(statement.replace("SETTINGS_OF_TABLES", settings))
        ingest = Ingest(engine, data, Locks())
        await ingest.start()
        print("ready", flush=True)
        if mode.startswith("send"):
            await send(ingest)
        drained = await ingest.drain("crash", "d1_events")
        found: dict[str, Any] = {"drained": drained}
        views = {"-only": ["d1_picky"], "-picky": ["d1_view", "d1_picky"]}.get(
            mode[len(mode.split("-")[0]) :], ["d1_view"]
        )
        for table in ("d1_events", *views):
            rows = await engine.rows(f"SELECT id, count() AS n FROM crash.{table} GROUP BY id")
            found[table] = {str(row["id"]): row["n"] for row in rows}
        (row,) = await engine.rows("SELECT count() AS n FROM crash.q1_events")
        found["bad"] = row["n"]
        await ingest.close()  # what it keeps for the next segment goes; what a kill left went at the start
        left = await engine.rows("SELECT name FROM system.tables WHERE database = 'crash' AND name LIKE 'probe%'")
        found["left"] = [row["name"] for row in left]
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))

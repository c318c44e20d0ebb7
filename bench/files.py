"""Loading a file against the engine's own insert of the same file, in the same run.

    .venv/bin/python bench/files.py [--rows 1000000] [--rounds 3] [--only csv] [--views 0] [--days 30]

`engine` is `INSERT INTO ... SELECT * FROM file(...)` as the engine does it by itself, into a table without Pipit's sync
to the disk and without checks. `pipit` is one POST of the file, by curl, to `/v0/datasources?mode=append`, from the
first byte to the answer: sent, kept on the disk, synced, checked, inserted, synced. `load` is the part of it after the
file is here.
Medians of the rounds; `ratio` is the engine's time to Pipit's. `memory`: the largest of Pipit's own process and of the
engine's, in MB, before the first load and at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import tempfile
import time
from pathlib import Path

import aiohttp
from stand import pipit

from pipit.catalog.snapshot import Snapshot
from pipit.server import Server
from pipit.sql.identifiers import quote

TABLE = """\
SCHEMA >
    id UInt64 `json:$.id`,
    at DateTime `json:$.at`,
    user String `json:$.user`,
    method LowCardinality(String) `json:$.method`,
    path String `json:$.path`,
    amount Float64 `json:$.amount`,
    number Int32 `json:$.number`,
    note String `json:$.note`

ENGINE MergeTree
ENGINE_PARTITION_KEY toYYYYMM(at)
ENGINE_SORTING_KEY user, at
"""
TOTALS = "SCHEMA >\n    user String,\n    total Float64\n\nENGINE SummingMergeTree\nENGINE_SORTING_KEY user\n"
VIEW = (
    "NODE sums\nSQL >\n    SELECT user, sum(amount) AS total FROM events GROUP BY user\n"
    "TYPE materialized\nDATASOURCE totals_@n\n"
)
STRUCTURE = "id UInt64, at DateTime, user String, method String, path String, amount Float64, number Int32, note String"
FORMATS = {"csv": "CSVWithNames", "ndjson": "JSONEachRow", "parquet": "Parquet"}


def snapshot_of(server: Server) -> Snapshot:
    (found,) = server.catalog.snapshots.values()
    return found


async def make(server: Server, path: Path, format: str, rows: int, days: int) -> None:
    await server.engine.command(
        f"INSERT INTO FUNCTION file('{path}', '{FORMATS[format]}', '{STRUCTURE}') SELECT number AS id, "
        f"toDateTime('2026-01-01 00:00:00') + number * {days * 86400} / {rows} AS at, "
        "concat('user', toString(rand(1) % 10000)) AS user, ['GET', 'POST', 'PUT'][1 + rand(2) % 3] AS method, "
        "concat('/some/path/', toString(rand(3) % 100000), '/x') AS path, rand(4) / 1000 AS amount, "
        f"toInt32(rand(5) % 1000) AS number, randomPrintableASCII(100) AS note FROM numbers({rows})"
    )


async def by_engine(server: Server, path: Path, format: str) -> float:
    database = snapshot_of(server).workspace.database
    table = f"{quote(database)}.raw"
    definition = STRUCTURE.replace("method String", "method LowCardinality(String)")
    await server.engine.command(f"DROP TABLE IF EXISTS {table} SYNC")
    await server.engine.command(
        f"CREATE TABLE {table} ({definition}) ENGINE = MergeTree PARTITION BY toYYYYMM(at) ORDER BY (user, at)"
    )
    started = time.perf_counter()
    await server.engine.command(f"INSERT INTO {table} SELECT * FROM file('{path}', '{FORMATS[format]}', '{STRUCTURE}')")
    took = time.perf_counter() - started
    await server.engine.command(f"DROP TABLE {table} SYNC")
    return took


async def by_pipit(server: Server, port: int, path: Path, format: str, rows: int) -> tuple[float, float]:
    """From the first byte to the answer, and of this what comes after the file has arrived."""
    token = snapshot_of(server).workspace.admin_token
    headers = {"Authorization": f"Bearer {token}"}
    url = f"http://127.0.0.1:{port}"
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=3600)) as session:
        async with session.post(f"{url}/v0/datasources/events/truncate") as done:
            assert done.status == 205
        # Another process sends, as any client would be one.
        command = ["curl", "-sS", "-X", "POST", "-T", str(path)]
        command += ["-H", f"Authorization: Bearer {token}", "-H", "Expect:"]
        started = time.perf_counter()
        sending = await asyncio.create_subprocess_exec(
            *command, f"{url}/v0/datasources?mode=append&name=events&format={format}", stdout=asyncio.subprocess.PIPE
        )
        answer, _ = await sending.communicate()
        took = time.perf_counter() - started
        found = json.loads(answer)
        assert found["successful_rows"] == rows and not found["error"], found
        job = server.jobs.job(snapshot_of(server), found["import_id"])
    begun, ended = job.created_at, job.updated_at
    return took, _seconds(ended) - _seconds(begun)


def _seconds(text: str) -> float:
    hours, minutes, seconds = text[11:].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def memory(pid: int | None = None) -> int:
    """The most of a process that was in memory, in MB."""
    text = Path(f"/proc/{pid or 'self'}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", text)
    return int(found[1]) // 1024 if found else 0


def engine_process() -> int:
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            if "pipit" in Path(f"/proc/{pid}/cmdline").read_text():
                return int(pid)
    raise RuntimeError("no engine")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--views", type=int, default=0)
    parser.add_argument("--only", choices=sorted(FORMATS), default="")
    arguments = parser.parse_args()
    async with pipit() as (server, port):
        files = {"datasources/events.datasource": TABLE}
        for n in range(arguments.views):
            files |= {f"datasources/totals_{n}.datasource": TOTALS, f"pipes/view_{n}.pipe": VIEW.replace("@n", str(n))}
        await server.deployer.deploy(snapshot_of(server).workspace.id, files)
        folder = server.config.data_dir / "files"
        await asyncio.to_thread(folder.mkdir, exist_ok=True)
        child = engine_process()
        print(f"{arguments.rows:,} rows, {arguments.days} days, {arguments.views} views, {os.cpu_count()} cores")
        print(f"memory before: pipit {memory()} MB, engine {memory(child)} MB")
        print("format        MB    engine     pipit      load   pipit MB/s   ratio")
        for format in [arguments.only] if arguments.only else FORMATS:
            with tempfile.TemporaryDirectory(dir=folder) as place:
                path = Path(place) / f"events.{format}"
                await make(server, path, format, arguments.rows, arguments.days)
                size = path.stat().st_size / 1e6
                raw, ours, loads = [], [], []
                for _ in range(arguments.rounds):
                    raw.append(await by_engine(server, path, format))
                    took, load = await by_pipit(server, port, path, format, arguments.rows)
                    ours.append(took)
                    loads.append(load)
            engine, whole, load = (statistics.median(times) for times in (raw, ours, loads))
            print(
                f"{format:<8} {size:7.0f} {engine:8.2f}s {whole:8.2f}s {load:8.2f}s "
                f"{size / whole:11.1f} {engine / whole:8.2f}"
            )
        print(f"memory at the end: pipit {memory()} MB, engine {memory(child)} MB")


if __name__ == "__main__":
    asyncio.run(main())

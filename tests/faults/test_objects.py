"""kill -9 of the process that loads a bucket, of its engine and of the store, while objects come, are written again, are
empty, damaged, nested and oddly named: each row of each version is in the table once, and each bad one in quarantine.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gzip
import io
import os
import random
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from processes import Served, served
from stores import ObjectStore
from waiting import wait_for

_SCHEMA = "SCHEMA >\n    id UInt64 `json:$.id`,\n    day Date `json:$.day`\n\n"
_PREFIXES = ("", "a b/", "deep/er/and/deeper/", "\u00fcn\u00efcode \u4e16/", "{source}/", "q'uote\"s/")


def project(store: ObjectStore, bucket: str) -> dict[str, str]:
    return {
        "connections/store.connection": store.connection(),
        "datasources/records.datasource": (
            f"{_SCHEMA}ENGINE MergeTree\nENGINE_SORTING_KEY id\nENGINE_PARTITION_KEY toYYYYMM(day)\n"
            f"IMPORT_CONNECTION_NAME store\nIMPORT_BUCKET_URI s3://{bucket}/in/**\nIMPORT_SCHEDULE @auto\n"
        ),
        "datasources/totals.datasource": (
            "SCHEMA >\n    one UInt8,\n    n SimpleAggregateFunction(sum, UInt64)\n\n"
            "ENGINE AggregatingMergeTree\nENGINE_SORTING_KEY one\n"
        ),
        "pipes/sum.pipe": (
            "NODE sum\nSQL >\n    SELECT toUInt8(1) AS one, count() AS n FROM records GROUP BY one\n"
            "TYPE materialized\nDATASOURCE totals\n"
        ),
        "pipes/counts.pipe": (
            "NODE endpoint\nSQL >\n"
            "    SELECT count() AS rows, uniqExact(id) AS ids, sum(id) AS total, (SELECT sum(n) FROM totals) AS rolled,\n"
            "        (SELECT count() FROM records_quarantine) AS bad,\n"
            "        (SELECT uniqExact(c__file, c__line) FROM records_quarantine) AS different_bad FROM records\n"
            "TYPE endpoint\n"
        ),
    }


@dataclass
class World:
    """What was put into the bucket, and what has to come of it. Each version of each object has ids of its own."""

    chance: random.Random
    next: int = 0
    rows: int = 0
    total: int = 0
    bad: int = 0
    damaged: int = 0
    keys: list[str] = field(default_factory=list)

    def version(self, key: str, rows: int) -> bytes:
        """NDJSON or CSV by the name, perhaps packed, every tenth with a bad line."""
        csv = ".csv" in key
        lines = [b"id,day"] if csv else []
        for id in range(self.next, self.next + rows):
            day = f"2026-{1 + id % 3:02}-01"
            lines.append(f"{id},{day}".encode() if csv else f'{{"id": {id}, "day": "{day}"}}'.encode())
        self.rows, self.total = self.rows + rows, self.total + sum(range(self.next, self.next + rows))
        self.next += rows
        if self.chance.random() < 0.1:
            lines.insert(len(lines) // 2 + 1, b"x,2026-01-01" if csv else b'{"id": -1, "day": "2026-01-01"}')
            self.bad += 1
        body = b"\n".join(lines) + b"\n"
        return gzip.compress(body) if key.endswith(".gz") else body

    def batch(self, objects: int) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for _ in range(objects):
            number, kind = len(self.keys), self.chance.random()
            name = f"in/{self.chance.choice(_PREFIXES)}{number:06}"
            ending = self.chance.choice((".ndjson", ".csv", ".ndjson.gz", ".csv.gz"))
            if kind < 0.05:
                found[f"{name}{ending}"] = b""
            elif kind < 0.08:
                found[f"{name}.ndjson.gz"] = gzip.compress(b'{"id": 1, "day": "2026-01-01"}\n' * 50)[:-9]
                self.damaged += 1
            else:
                key = f"{name}{ending}"
                found[key] = self.version(key, self.chance.choice((1, 3, 20, 200)))
                self.keys.append(key)
                continue
            self.keys.append("")
        return found

    def rewritten(self, objects: int) -> dict[str, bytes]:
        """Other content under keys that are there."""
        keys = self.chance.sample([key for key in self.keys if key], objects)
        return {key: self.version(key, self.chance.choice((2, 30))) for key in keys}


def counts(server: Served) -> dict[str, int]:
    status, reply = server.get("/v0/pipes/counts.json")
    return {k: int(v) for k, v in reply["data"][0].items()} if status == 200 else {}


def read(server: Served) -> dict[str, int]:
    status, reply = server.get("/v0/connectors")
    found: dict[str, int] = reply["connectors"][0]["datasources"][0] if status == 200 else {}
    return found


def parquet(world: World, rows: int) -> bytes:
    ids = list(range(world.next, world.next + rows))
    world.rows, world.total, world.next = world.rows + rows, world.total + sum(ids), world.next + rows
    out = io.BytesIO()
    table = pyarrow.table({"id": pyarrow.array(ids, pyarrow.uint64()), "day": [datetime.date(2026, 1, 1)] * rows})
    pyarrow.parquet.write_table(table, out)
    return out.getvalue()


def put(store: ObjectStore, bucket: str, objects: Mapping[str, bytes]) -> None:
    asyncio.run(store.put(bucket, objects))


def kill_engine(server: Served) -> None:
    for pid in server.children():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("objects", "kills", "seconds"),
    [
        pytest.param(120, 3, 120, id="dose"),
        pytest.param(10_000, 12, 900, id="all", marks=[pytest.mark.long, pytest.mark.timeout(2400)]),
    ],
)
def test_each_version_of_each_object_is_there_once(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objects: int, kills: int, seconds: float
) -> None:
    monkeypatch.setenv("PIPIT_PRIVATE_URL_HOSTS", "127.0.0.1")
    bucket = asyncio.run(store.bucket())
    world = World(random.Random(objects))
    put(store, bucket, world.batch(objects // 4))
    with served(tmp_path, project(store, bucket)) as server:
        for kill in range(kills):
            put(store, bucket, world.batch(objects * 3 // 4 // kills))
            put(store, bucket, {f"in/{kill}.parquet": parquet(world, 500)})
            before = counts(server).get("rows", 0)
            if kill % 2:
                kill_engine(server)
            else:
                server.kill_everything()
                server.start()
            if kill % 4 == 2:
                store.kill()
                wait_for(lambda: read(server).get("state") == "waiting", what="it says that the store is away")
                store.start()
            wait_for(lambda before=before: counts(server).get("rows", -1) > before or done(server, world), 120, "it goes on")
        # A version that is replaced before it was seen is never there, so these come last.
        wait_for(lambda: done(server, world), seconds, "all rows are in the table")
        put(store, bucket, world.rewritten(objects // 20))
        wait_for(lambda: done(server, world), seconds, "all rows of the other versions are in the table")
        wait_for(lambda: read(server).get("parked") == world.damaged, seconds, "what is damaged is parked")
        assert counts(server) == {
            "rows": world.rows,
            "ids": world.rows,
            "total": world.total,
            "rolled": world.rows,
            "bad": world.bad,
            "different_bad": world.bad,
        }


def done(server: Served, world: World) -> bool:
    found = counts(server)
    return found.get("rows", 0) >= world.rows and found.get("bad", 0) >= world.bad

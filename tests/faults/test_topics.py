"""kill -9 of the process that reads a topic, of its engine and of the broker, while records come: each committed record
is in the table and in its view once, and the quarantine holds the bad ones that were planted and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from brokers import Broker
from processes import Served, served
from waiting import wait_for

PARTITIONS = 6
_BATCH = 500
_SCHEMA = "SCHEMA >\n    id UInt64 `json:$.id`,\n    day Date `json:$.day`\n\n"


def project(broker: Broker, topic: str) -> dict[str, str]:
    return {
        "connections/broker.connection": (
            f"TYPE kafka\nKAFKA_BOOTSTRAP_SERVERS {broker.address()}\nKAFKA_SECURITY_PROTOCOL PLAINTEXT\n"
        ),
        "datasources/records.datasource": (
            f"{_SCHEMA}ENGINE MergeTree\nENGINE_SORTING_KEY id\nENGINE_PARTITION_KEY toYYYYMM(day)\n"
            f"KAFKA_CONNECTION_NAME broker\nKAFKA_TOPIC {topic}\nKAFKA_GROUP_ID of_{topic}\nKAFKA_AUTO_OFFSET_RESET earliest\n"
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
            "        (SELECT uniqExact(__partition, __offset) FROM records_quarantine) AS different_bad FROM records\n"
            "TYPE endpoint\n"
        ),
    }


@dataclass
class Sender:
    """Transactions of records, of which every fifth is aborted; each hundredth record is a bad one."""

    broker: Broker
    topic: str
    records: int
    good: int = 0
    total: int = 0
    bad: int = 0
    failure: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        try:
            asyncio.run(self._send())
        except BaseException as error:
            self.failure = error
        self.done.set()

    async def _send(self) -> None:
        async with self.broker.producer(
            transactional_id=f"of-{self.topic}", transaction_timeout_ms=120_000
        ) as producer:
            for first in range(0, self.records, _BATCH):
                await producer.begin_transaction()
                sent = []
                for id in range(first, min(first + _BATCH, self.records)):
                    value = (
                        b'{"id": "x%d"}' % id
                        if id % 100 == 99
                        else b'{"id": %d, "day": "2026-%02d-01"}' % (id, 1 + id % 3)
                    )
                    sent.append(await producer.send(self.topic, value, b"%d" % (id % 1000)))
                await asyncio.gather(*sent)
                if first // _BATCH % 5 == 4:
                    await producer.abort_transaction()
                    continue
                await producer.commit_transaction()
                ids = [id for id in range(first, min(first + _BATCH, self.records)) if id % 100 != 99]
                self.good, self.total = self.good + len(ids), self.total + sum(ids)
                self.bad += min(_BATCH, self.records - first) - len(ids)


@contextlib.contextmanager
def sending(broker: Broker, topic: str, records: int) -> Iterator[Sender]:
    sender = Sender(broker, topic, records)
    thread = threading.Thread(target=sender.run, daemon=True)
    thread.start()
    yield sender
    thread.join(300)


def counts(server: Served) -> dict[str, int]:
    status, reply = server.get("/v0/pipes/counts.json")
    return {k: int(v) for k, v in reply["data"][0].items()} if status == 200 else {}


def kill_engine(server: Served) -> None:
    for pid in server.children():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def check_all_is_there(server: Served, sender: Sender, seconds: float) -> dict[str, Any]:
    assert sender.done.wait(300) and sender.failure is None, sender.failure
    wait_for(lambda: counts(server).get("rows", 0) >= sender.good, seconds, "all records are in the table")
    wait_for(lambda: counts(server).get("bad", 0) >= sender.bad, seconds, "all bad records are in quarantine")
    found = counts(server)
    assert found == {
        "rows": sender.good,
        "ids": sender.good,
        "total": sender.total,
        "rolled": sender.good,
        "bad": sender.bad,
        "different_bad": sender.bad,
    }
    return found


@pytest.mark.parametrize(
    ("records", "kills", "seconds"),
    [
        pytest.param(100_000, 4, 120, id="dose"),
        pytest.param(1_000_000, 20, 600, id="million", marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
    ],
)
def test_each_committed_record_is_there_once(
    broker: Broker, tmp_path: Path, records: int, kills: int, seconds: float
) -> None:
    topic = f"killed{records}"
    asyncio.run(broker.create_topic(topic, PARTITIONS))
    chance = random.Random(records)
    with served(tmp_path, project(broker, topic)) as server, sending(broker, topic, records) as sender:
        wait_for(lambda: counts(server).get("rows", 0) > 0, what="records come")
        for kill in range(kills):
            before = counts(server).get("rows", 0)
            time.sleep(chance.uniform(0.0, 1.0))  # a moment that nothing in the process decides
            if kill % 2:
                kill_engine(server)
            else:
                server.kill_everything()
                server.start()
            if kill % 8 == 5:
                broker.kill()
                broker.start()
            goal = min(before + records // (2 * kills), sender.good)
            wait_for(lambda goal=goal: counts(server).get("rows", 0) >= goal, 120, "it goes on")
        check_all_is_there(server, sender, seconds)

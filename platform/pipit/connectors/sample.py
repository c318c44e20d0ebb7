"""A look through a connection, which moves no offset: whether it works, which topics there are, records of one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from pipit.connectors import client_log
from pipit.connectors.source import Broker
from pipit.errors import BadRequest, Reason

SECONDS = 15.0
MAX_RECORDS = 100
_MAX_TEXT = 10_000


@dataclass(frozen=True, slots=True)
class Record:
    partition: int
    offset: int
    timestamp: int
    key: str | None
    value: str | None
    headers: tuple[tuple[str, str], ...]


async def topics(broker: Broker) -> list[str]:
    """Raises BadRequest, which says what is wrong with the connection."""
    async with _connected(broker) as consumer:
        return sorted(topic for topic in await consumer.topics() if not topic.startswith("__"))


async def records(broker: Broker, topic: str, most: int) -> list[Record]:
    """The last ones of each partition, oldest first. Raises BadRequest."""
    most = min(most, MAX_RECORDS)
    async with _connected(broker) as consumer:
        numbers = (await consumer._client.fetch_all_metadata()).partitions_for_topic(topic)
        if not numbers:
            raise BadRequest(f"The topic '{topic[:200]}' does not exist", reason=Reason.CONNECTION_FAILED)
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        first = await consumer.beginning_offsets(partitions)
        end = await consumer.end_offsets(partitions)
        share = max(1, most // max(1, len(partitions)))
        left = {tp for tp in partitions if end[tp] > first[tp]}
        for tp in partitions:
            consumer.seek(tp, max(first[tp], end[tp] - share))
        found: list[Record] = []
        while left:
            for tp, some in (await consumer.getmany(*left, timeout_ms=500, max_records=MAX_RECORDS)).items():
                found += [_shown(record) for record in some]
                if await consumer.position(tp) >= end[tp]:
                    left.discard(tp)
            for tp in list(left):  # control records at the end of a partition are none
                if await consumer.position(tp) >= end[tp]:
                    left.discard(tp)
    return sorted(found, key=lambda record: (record.timestamp, record.partition, record.offset))[-most:]


def _shown(record: object) -> Record:
    def text(data: bytes | None) -> str | None:
        return None if data is None else data[:_MAX_TEXT].decode(errors="replace")

    headers = tuple((name, text(value) or "") for name, value in record.headers)  # type: ignore[attr-defined]
    return Record(
        record.partition,  # type: ignore[attr-defined]
        record.offset,  # type: ignore[attr-defined]
        record.timestamp,  # type: ignore[attr-defined]
        text(record.key),  # type: ignore[attr-defined]
        text(record.value),  # type: ignore[attr-defined]
        headers,
    )


@asynccontextmanager
async def _connected(broker: Broker) -> AsyncIterator[AIOKafkaConsumer]:
    with client_log.told() as said:
        try:
            async with asyncio.timeout(SECONDS):
                consumer = AIOKafkaConsumer(
                    **broker.options(),
                    client_id="pipit-sample",
                    enable_auto_commit=False,
                    isolation_level="read_committed",
                    request_timeout_ms=8000,
                )
                try:
                    await consumer.start()
                    yield consumer
                finally:
                    with contextlib.suppress(KafkaError):
                        await consumer.stop()
        except TimeoutError:
            raise _failed(broker, "no answer within 15 s") from None
        except KafkaConnectionError:
            raise _failed(broker, said[-1] if said else "no broker answers") from None
        except KafkaError as error:
            raise _failed(broker, f"{type(error).__name__}: {error}"[:300]) from None


def _failed(broker: Broker, why: str) -> BadRequest:
    return BadRequest(
        f"Cannot read through the connection ({broker.protocol} to {broker.servers[:200]}): {why}",
        reason=Reason.CONNECTION_FAILED,
    )


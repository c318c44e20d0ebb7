"""Several readers of one group: partitions change hands while records come, and each record is stored once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from pipit.connectors import Source, Status, sources_of
from pipit.connectors.reader import TopicReader
from pipit.connectors.sink import TableSink
from streams import Streams, values
from waiting import until

pytestmark = pytest.mark.anyio


def source(streams: Streams, name: str) -> Source:
    server = streams.workspace.server
    found = sources_of(server.catalog.snapshot(streams.workspace.id))[name]
    assert isinstance(found, Source)
    return found


@asynccontextmanager
async def another_reader(streams: Streams, name: str, *, gently: bool = True) -> AsyncIterator[Status]:
    """As another process of the group would be; not `gently`: it goes without finishing what it does."""
    server = streams.workspace.server
    sink = TableSink(server.catalog, server.ingest, server.config.data_dir / "segments" / "kafka")
    told = Status()
    reader = TopicReader(source(streams, name), sink, asyncio.Semaphore(2), told)
    task = asyncio.create_task(reader.run())
    try:
        yield told
    finally:
        if gently:
            await reader.settle(10)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_readers_join_and_leave_while_records_come(streams: Streams) -> None:
    topic = await streams.topic(6)
    await streams.workspace.deploy(streams.files("orders", topic))
    sent = 0

    async def send(number: int) -> None:
        nonlocal sent
        await streams.broker.send(topic, values(sent, sent + number))
        sent += number

    await send(3000)
    async with another_reader(streams, "orders") as first:
        await send(3000)
        await until(lambda: first.partitions)
        await send(3000)
        async with another_reader(streams, "orders", gently=False) as second:
            await until(lambda: second.partitions)
            await send(5000)
            await until(lambda: second.rows)
        await send(3000)
    await send(3000)
    await streams.holds("orders", sent)
    (row,) = await streams.sql("SELECT uniqExact(id) AS ids FROM orders")
    assert int(row["ids"]) == sent


async def set_position(streams: Streams, topic: str, offset: int, metadata: str) -> None:
    """Of the group, which has no members now."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=streams.broker.address(), group_id=f"of_{topic}", enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.commit({TopicPartition(topic, 0): OffsetAndMetadata(offset, metadata)})
    finally:
        await consumer.stop()


async def position_of(streams: Streams, topic: str) -> tuple[int, str]:
    async with streams.broker.admin() as admin:
        found = await admin.list_consumer_group_offsets(f"of_{topic}")
    one = found[TopicPartition(topic, 0)]
    return one.offset, one.metadata


@asynccontextmanager
async def stopped(streams: Streams) -> AsyncIterator[None]:
    server = streams.workspace.server
    snapshot = server.catalog.snapshot(streams.workspace.id)
    await server.connectors.set_stopped(snapshot, "orders", stopped=True)
    yield
    await server.connectors.set_stopped(snapshot, "orders", stopped=False)


async def test_a_pending_cut_is_made_again_as_it_was(streams: Streams) -> None:
    """Whoever finds it stores exactly its range under its token: where its rows are not in the table, and where they are."""
    topic = await streams.topic()
    await streams.workspace.deploy(streams.files("orders", topic))
    await streams.broker.send(topic, values(0, 100))
    await streams.holds("orders", 100)
    async with stopped(streams):
        offset, metadata = await position_of(streams, topic)
        assert offset == 100 and "pending" not in metadata
        await streams.broker.send(topic, values(100, 150))
        await set_position(streams, topic, 100, f"{metadata} pending:100-149")
    await streams.holds("orders", 150)
    async with stopped(streams):  # as a process leaves it that is killed between the insert and the commit
        assert await position_of(streams, topic) == (150, metadata)
        await set_position(streams, topic, 100, f"{metadata} pending:100-149")
    await until(lambda: streams.status("orders").rows >= 50)
    await streams.broker.send(topic, values(150, 160))
    await streams.holds("orders", 160)


async def test_offsets_that_somebody_reset_are_read_again(streams: Streams) -> None:
    topic = await streams.topic()
    await streams.workspace.deploy(streams.files("orders", topic))
    await streams.broker.send(topic, values(0, 100))
    await streams.holds("orders", 100)
    async with stopped(streams):
        await set_position(streams, topic, 0, "")
    await until(lambda: streams.status("orders").rows >= 100)
    assert await streams.count("orders") == (200, 100)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_every_compression_is_read(streams: Streams, codec: str) -> None:
    topic = await streams.topic()
    async with streams.broker.producer(compression_type=codec) as producer:
        await asyncio.gather(*[await producer.send(topic, value) for value in values(0, 500)])
    await streams.workspace.deploy(streams.files("orders", topic))
    await streams.holds("orders", 500)

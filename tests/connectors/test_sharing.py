"""Several readers of one group: partitions change hands while records come, and each record is stored once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from pipit.connectors import Source, Status, position, sources_of, topic_id
from pipit.connectors.reader import CutOf, TopicReader
from pipit.connectors.sink import TableSink
from pipit.deploy import execute
from pipit.errors import Conflict, Reason
from pipit.ingest import records
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


def rebuilt(files: dict[str, str]) -> dict[str, str]:
    return {path: text.replace("ENGINE_SORTING_KEY id", "ENGINE_SORTING_KEY v, id") for path, text in files.items()}


async def test_no_table_is_made_anew_from_one_that_may_have_a_pending_cut(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows would be in the new one, under no token, and come again: after a kill between an insert and the commit,
    also if the process is another one by now."""
    monkeypatch.setattr(execute, "_QUIET_SECONDS", 0.1)
    monkeypatch.setattr(execute, "_SETTLED_SECONDS", 0.1)
    topic = await streams.topic()
    files = streams.files("orders", topic)
    await streams.workspace.deploy(files)
    await streams.broker.send(topic, values(0, 100))
    await streams.holds("orders", 100)
    server = streams.workspace.server
    folder = server.config.data_dir / "segments" / "kafka"
    async with stopped(streams):
        offset, metadata = await position_of(streams, topic)
        await streams.broker.send(topic, values(100, 150))
        await set_position(streams, topic, offset, f"{metadata} pending:100-149")
        cut = await cut_of(streams, topic, 100, 150, metadata)
        await TableSink(server.catalog, server.ingest, folder).store(*cut)
        for restarts in (False, True):
            if restarts:
                server.ingest.forget(cut[0].identity)
                TableSink(server.catalog, server.ingest, folder)
            with pytest.raises(Conflict) as refused:
                await streams.workspace.deploy(rebuilt(files))
            assert refused.value.reason is Reason.EVENTS_BEING_SORTED
    await until(lambda: streams.status("orders").rows >= 50)
    await until(lambda: not TableSink(server.catalog, server.ingest, folder).unfinished(source(streams, "orders")))
    await streams.workspace.deploy(rebuilt(files))
    assert await streams.count("orders") == (150, 150)
    await streams.broker.send(topic, values(150, 160))
    await streams.holds("orders", 160)


async def cut_of(streams: Streams, topic: str, first: int, end: int, metadata: str) -> tuple[CutOf, list[bytes]]:
    async with AIOKafkaConsumer(bootstrap_servers=streams.broker.address()) as consumer:
        cluster, topic_of = await topic_id.identify(consumer._client, topic)
    at, range = position.committed(first, metadata, topic_of), position.Range(first, end - 1)
    identity = position.identity(cluster, topic_of, 0, range, at.epoch)
    rows = [records.encode(value, first + n, 1_700_000_000_000) for n, value in enumerate(values(first, end))]
    return CutOf(source(streams, "orders"), 0, range, identity), rows


async def test_what_another_process_has_stored_keeps_no_deployment(streams: Streams) -> None:
    topic = await streams.topic()
    files = streams.files("orders", topic)
    await streams.workspace.deploy(files)
    await streams.broker.send(topic, values(0, 100))
    await streams.holds("orders", 100)
    server = streams.workspace.server
    async with stopped(streams):  # the position is past a cut that this process does not know to be done
        _, metadata = await position_of(streams, topic)
        cut = await cut_of(streams, topic, 0, 100, metadata)
        kept = server.config.data_dir / "segments" / "kafka" / cut[0].source.database / "orders"
        kept.mkdir(parents=True, exist_ok=True)
        (kept / f"{cut[0].identity}.meta").write_text('{"table": "orders", "rows": 100, "meta": {}}')
        TableSink(server.catalog, server.ingest, kept.parent.parent)
    await until(lambda: not list(kept.iterdir()))
    await streams.workspace.deploy(rebuilt(files))
    assert await streams.count("orders") == (100, 100)


async def test_a_table_is_made_anew_while_records_come(streams: Streams) -> None:
    topic = await streams.topic(3)
    files = streams.files("orders", topic)
    await streams.workspace.deploy(files)
    sent = 0

    async def send() -> None:
        nonlocal sent
        while sent < 30_000:
            await streams.broker.send(topic, values(sent, sent + 500))
            sent += 500

    sending = asyncio.create_task(send())
    await until(lambda: streams.status("orders").rows)
    for to in (rebuilt(files), files):
        await streams.workspace.deploy(to)
    await sending
    await streams.holds("orders", sent)

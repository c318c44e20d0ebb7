"""Topics into tables: each committed record once, the bad ones in quarantine, positions kept."""

from __future__ import annotations

import pytest
from aiokafka import TopicPartition

from streams import Streams, values
from waiting import until

pytestmark = pytest.mark.anyio


async def position(streams: Streams, group: str, topic: str, partition: int = 0) -> tuple[int, str]:
    async with streams.broker.admin() as admin:
        found = await admin.list_consumer_group_offsets(group)
    one = found[TopicPartition(topic, partition)]
    return one.offset, one.metadata


async def test_records_are_read_into_the_table(streams: Streams) -> None:
    topic = await streams.topic(3)
    await streams.broker.send(topic, values(0, 1000))
    await streams.workspace.deploy(streams.files("orders", topic))
    await streams.holds("orders", 1000)
    (row,) = await streams.sql(
        "SELECT sum(id) AS ids, uniqExact(__partition) AS parts, any(__topic) AS topic FROM orders"
    )
    assert (int(row["ids"]), int(row["parts"]), row["topic"]) == (sum(range(1000)), 3, topic)
    await streams.broker.send(topic, values(1000, 1100))
    await streams.holds("orders", 1100)
    await until(lambda: streams.status("orders").lag == 0)
    assert (streams.status("orders").state, streams.status("orders").rows) == ("reading", 1100)


async def test_bad_records_are_in_quarantine_and_stop_nothing(streams: Streams) -> None:
    topic = await streams.topic()
    big = b'{"id": 9, "x": "' + b"y" * (11 << 20) + b'"}'
    await streams.broker.send(topic, [*values(0, 10), b"no json", None, b'{"id": "x"}', b"\x00", big, *values(10, 20)])
    await streams.workspace.deploy(streams.files("orders", topic))
    await streams.holds("orders", 20)

    async def bad() -> list[tuple[int, str]]:
        rows = await streams.sql(
            "SELECT toInt64(__offset) AS o, c__error[1] AS e, length(__value) AS n FROM orders_quarantine ORDER BY o"
        )
        return [(int(row["o"]), row["e"]) for row in rows]

    await until(lambda: bad())
    found = await bad()
    assert [offset for offset, _ in found] == [10, 11, 12, 13, 14]
    assert "tombstone" in found[1][1] and "larger than 10 MB" in found[4][1]
    assert streams.status("orders").quarantined == 5


async def test_aborted_transactions_are_not_read_and_their_gaps_are_passed(streams: Streams) -> None:
    topic = await streams.topic()
    async with streams.broker.producer(transactional_id=f"tx-{topic}") as producer:
        for n in range(10):
            await producer.begin_transaction()
            for value in values(n * 10, n * 10 + 10):
                await producer.send(topic, value)
            await (producer.abort_transaction() if n % 2 else producer.commit_transaction())
    await streams.workspace.deploy(streams.files("orders", topic))
    await streams.holds("orders", 50)
    await until(lambda: streams.status("orders").lag == 0)
    offset, metadata = await position(streams, f"of_{topic}", topic)
    assert offset == 110 and "pending" not in metadata


async def test_two_data_sources_read_two_topics_and_one_that_is_missing_harms_neither(streams: Streams) -> None:
    first, second = await streams.topic(), await streams.topic()
    files = streams.files("one", first) | streams.files("two", second) | streams.files("gone", "not_there")
    await streams.workspace.deploy(files)
    await streams.broker.send(first, values(0, 100))
    await streams.broker.send(second, values(0, 50))
    await streams.holds("one", 100)
    await streams.holds("two", 50)
    await until(lambda: streams.status("gone").state == "error")
    assert streams.status("gone").note == "the topic does not exist"


async def test_a_stopped_data_source_reads_nothing_and_goes_on_where_it_was(streams: Streams) -> None:
    topic = await streams.topic()
    await streams.workspace.deploy(streams.files("orders", topic))
    await streams.broker.send(topic, values(0, 10))
    await streams.holds("orders", 10)
    connectors = streams.workspace.server.connectors
    snapshot = streams.workspace.server.catalog.snapshot(streams.workspace.id)
    await connectors.set_stopped(snapshot, "orders", stopped=True)
    await streams.broker.send(topic, values(10, 20))
    assert streams.status("orders").state == "stopped"
    assert await streams.count("orders") == (10, 10)
    await connectors.set_stopped(snapshot, "orders", stopped=False)
    await streams.holds("orders", 20)


async def test_a_topic_that_is_made_anew_is_read_from_its_beginning(streams: Streams) -> None:
    topic = await streams.topic()
    await streams.workspace.deploy(streams.files("orders", topic))
    await streams.broker.send(topic, values(0, 10))
    await streams.holds("orders", 10)
    connectors = streams.workspace.server.connectors
    snapshot = streams.workspace.server.catalog.snapshot(streams.workspace.id)
    await connectors.set_stopped(snapshot, "orders", stopped=True)
    async with streams.broker.admin() as admin:
        await admin.delete_topics([topic])
    await streams.broker.create_topic(topic)
    await streams.broker.send(topic, values(0, 10))
    await connectors.set_stopped(snapshot, "orders", stopped=False)
    await until(lambda: streams.status("orders").rows >= 10)
    assert await streams.count("orders") == (20, 10)


async def test_a_group_that_begins_at_the_end_misses_nothing_after_that(streams: Streams) -> None:
    topic = await streams.topic()
    await streams.broker.send(topic, values(0, 10))
    files = {name: text.replace("earliest", "latest") for name, text in streams.files("orders", topic).items()}
    await streams.workspace.deploy(files)
    await until(lambda: streams.status("orders").partitions)
    assert (await position(streams, f"of_{topic}", topic))[0] == 10
    await streams.broker.send(topic, values(10, 15))
    await streams.holds("orders", 5)


async def test_a_deploy_that_alters_the_table_disturbs_no_reading(streams: Streams) -> None:
    topic = await streams.topic(2)
    files = streams.files("orders", topic)
    await streams.workspace.deploy(files)
    await streams.broker.send(topic, values(0, 100))
    await streams.holds("orders", 100)
    wider = {name: text.replace("v UInt8", "more Nullable(String) `json:$.more`,\n    v UInt16") for name, text in files.items()}
    await streams.broker.send(topic, values(100, 200))
    await streams.workspace.deploy(wider)
    await streams.broker.send(topic, [b'{"id": %d, "v": 300, "more": "x"}' % n for n in range(200, 300)])
    await streams.holds("orders", 300)
    (row,) = await streams.sql("SELECT sum(v) AS v, countIf(more = 'x') AS more FROM orders")
    assert (int(row["v"]), int(row["more"])) == (200 * 7 + 100 * 300, 100)

"""Values and keys that name a schema in a registry: Avro and JSON, their evolution, and what is wrong with one."""

from __future__ import annotations

import datetime
import decimal
import io
from typing import Any

import fastavro
import pytest

from brokers import SchemaRegistry
from streams import Streams
from waiting import until

pytestmark = pytest.mark.anyio

ORDER = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "v", "type": ["null", "int"], "default": None},
        {"name": "who", "type": {"type": "record", "name": "Who", "fields": [{"name": "name", "type": "string"}]}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 4}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
    ],
}
SCHEMA = """SCHEMA >
    id UInt64 `json:$.id`,
    v Nullable(UInt8) `json:$.v`,
    who String `json:$.who.name`,
    at DateTime64(6, 'UTC') `json:$.at`,
    price Decimal(12, 4) `json:$.price`,
    tags Array(String) `json:$.tags[:]`

"""
AT = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC)


def avro(id: int, schema: Any, value: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return b"\x00" + id.to_bytes(4) + out.getvalue()


def order(number: int, v: int | None = 7) -> dict[str, Any]:
    who = {"name": f'who "{number}"\n'}
    return {"id": number, "v": v, "who": who, "at": AT, "price": decimal.Decimal("1.1000"), "tags": ["a", "b"]}


def files(streams: Streams, registry: SchemaRegistry, topic: str, more: str, schema: str = SCHEMA) -> dict[str, str]:
    connection = streams.connection(more=f"KAFKA_SCHEMA_REGISTRY_URL {registry.url}\n")
    made = streams.files("orders", topic, schema=schema, more=more)
    return made | {"connections/broker.connection": connection}


async def test_avro_values_have_their_types_and_none_is_another(streams: Streams, registry: SchemaRegistry) -> None:
    topic = await streams.topic()
    id = registry.register(f"{topic}-value", ORDER)
    good = avro(id, ORDER, order(1))
    sent = [good, avro(id, ORDER, order(2, None)), avro(id, ORDER, order(3, 300)), avro(999_999, ORDER, order(4))]
    await streams.broker.send(topic, [*sent, b'{"id": 5}', good[:-3], good + b"x", avro(id, ORDER, order(6))])
    await streams.workspace.deploy(files(streams, registry, topic, "KAFKA_VALUE_FORMAT avro\n"))
    await streams.holds("orders", 3)
    rows = await streams.sql(
        "SELECT id, v, who, toString(at) AS at, toString(price) AS price, tags FROM orders ORDER BY id"
    )
    assert [(int(row["id"]), row["v"]) for row in rows] == [(1, 7), (2, None), (6, 7)]
    first = rows[0]
    assert (first["who"], first["at"]) == ('who "1"\n', "2026-01-02 03:04:05.678901")
    assert (first["price"], first["tags"]) == ("1.1", ["a", "b"])
    await until(lambda: streams.status("orders").quarantined == 5)
    kept = await streams.sql(
        "SELECT c__error[1] AS e, hex(__value) AS v FROM orders_quarantine ORDER BY toInt64(__offset)"
    )
    assert [bytes.fromhex(row["v"]) for row in kept] == [sent[2], sent[3], b'{"id": 5}', good[:-3], good + b"x"]
    assert [
        word in row["e"]
        for word, row in zip(
            ("'300' on column 'v'", "schema 999999", "does not begin with the id", f"schema {id}", f"schema {id}"),
            kept,
            strict=True,
        )
    ] == [True] * 5, kept


async def test_a_schema_evolves_and_refers_to_others(streams: Streams, registry: SchemaRegistry) -> None:
    topic = await streams.topic()
    who = {"type": "record", "name": "Person", "namespace": "x", "fields": [{"name": "name", "type": "string"}]}
    registry.register(f"{topic}-who", who)
    text = [{"name": "id", "type": "long"}, {"name": "who", "type": "x.Person"}]
    reference = {"name": "x.Person", "subject": f"{topic}-who", "version": 1}
    one = registry.register(f"{topic}-value", {"type": "record", "name": "R", "fields": text}, references=[reference])
    whole = {"type": "record", "name": "R", "fields": [text[0], {"name": "who", "type": who}]}
    two_fields = [*whole["fields"], {"name": "v", "type": "int", "default": 3}]  # type: ignore[misc]
    newer = {"type": "record", "name": "R", "fields": two_fields}
    two = registry.register(f"{topic}-newer", newer)
    await streams.broker.send(
        topic,
        [avro(one, whole, {"id": 1, "who": {"name": "a"}}), avro(two, newer, {"id": 2, "who": {"name": "b"}, "v": 9})],
    )
    schema = (
        "SCHEMA >\n    id UInt64 `json:$.id`,\n    who String `json:$.who.name`,\n    v Nullable(UInt8) `json:$.v`\n\n"
    )
    await streams.workspace.deploy(files(streams, registry, topic, "KAFKA_VALUE_FORMAT avro\n", schema))
    await streams.holds("orders", 2)
    rows = await streams.sql("SELECT id, who, v FROM orders ORDER BY id")
    assert [(int(row["id"]), row["who"], row["v"]) for row in rows] == [(1, "a", None), (2, "b", 9)]


async def test_json_values_of_a_schema_and_avro_keys(streams: Streams, registry: SchemaRegistry) -> None:
    topic = await streams.topic()
    id = registry.register(f"{topic}-value", {"type": "object", "properties": {"id": {"type": "integer"}}}, type="JSON")
    key = registry.register(f"{topic}-key", {"type": "string"})
    head = b"\x00" + id.to_bytes(4)
    async with streams.broker.producer() as producer:
        for number in range(3):
            await producer.send(topic, head + b'{\n"id": %d}' % number, avro(key, {"type": "string"}, f"key {number}"))
        await producer.send(topic, head + b'{"id": }', avro(key, {"type": "string"}, "bad"))
        await producer.send(topic, head + b'{"id": 9}', b"no avro")
    more = "KAFKA_VALUE_FORMAT json_with_schema\nKAFKA_KEY_FORMAT avro\nKAFKA_STORE_RAW_VALUE True\n"
    schema = "SCHEMA >\n    id UInt64 `json:$.id`\n\n"
    await streams.workspace.deploy(files(streams, registry, topic, more, schema))
    await streams.holds("orders", 3)
    rows = await streams.sql("SELECT id, __key, hex(__value) AS raw FROM orders ORDER BY id")
    assert [row["__key"] for row in rows] == ["key 0", "key 1", "key 2"]
    assert bytes.fromhex(rows[0]["raw"]) == head + b'{\n"id": 0}'
    await until(lambda: streams.status("orders").quarantined == 2)


async def test_while_the_registry_is_away_the_topic_waits_and_others_go_on(
    streams: Streams, registry: SchemaRegistry
) -> None:
    first, second = await streams.topic(), await streams.topic()
    id = registry.register(f"{first}-value", ORDER)
    registry.kill()
    try:
        await streams.broker.send(first, [avro(id, ORDER, order(1))])
        await streams.broker.send(second, [b'{"id": 1}'])
        made = files(streams, registry, first, "KAFKA_VALUE_FORMAT avro\n")
        plain = {name: text for name, text in streams.files("plain", second).items() if "plain" in name}
        await streams.workspace.deploy(made | plain)
        await until(lambda: streams.status("orders").state == "waiting")
        assert "registry does not answer" in streams.status("orders").note
        assert registry.url not in streams.status("orders").note
        await streams.holds("plain", 1)
        assert await streams.count("orders") == (0, 0)
    finally:
        registry.start()
    # It keeps its schemas in memory: the id is another schema's now, or nobody's.
    while registry.register(f"again{first}", ORDER) < id:
        registry.register(f"filler{first}", {"type": "record", "name": "F", "fields": []})
    await streams.holds("orders", 1)

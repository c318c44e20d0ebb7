"""Connections: every security setting, what a wrong one says, and that no answer and no log holds a secret."""

from __future__ import annotations

import logging

import pytest

from brokers import PASSWORD, USER
from pipit.errors import ProjectError
from streams import Streams, values
from waiting import until

pytestmark = pytest.mark.anyio

CREDENTIALS = 'KAFKA_KEY {{ tb_secret("user") }}\nKAFKA_SECRET {{ tb_secret("password") }}\n'
SETTINGS = {
    "PLAINTEXT": ("PLAINTEXT", ""),
    "SASL_PLAINTEXT, PLAIN": ("SASL_PLAINTEXT", CREDENTIALS),
    "SASL_PLAINTEXT, SCRAM-SHA-256": ("SASL_PLAINTEXT", f"KAFKA_SASL_MECHANISM SCRAM-SHA-256\n{CREDENTIALS}"),
    "SSL": ("SSL", "CA"),
    "SASL_SSL, PLAIN": ("SASL_SSL", f"{CREDENTIALS}CA"),
    "SASL_SSL, SCRAM-SHA-512": ("SASL_SSL", f"KAFKA_SASL_MECHANISM SCRAM-SHA-512\n{CREDENTIALS}CA"),
}
WRONG = {
    "password": ("SASL_PLAINTEXT", CREDENTIALS, "no-s3cret-of-anybody"),
    "password of SCRAM": ("SASL_SSL", f"KAFKA_SASL_MECHANISM SCRAM-SHA-256\n{CREDENTIALS}CA", "no-s3cret-of-anybody"),
    "certificate": ("SSL", "", ""),
    "protocol": ("PLAINTEXT at SSL", "", ""),
}


async def with_secrets(streams: Streams, password: str = PASSWORD) -> None:
    catalog = streams.workspace.server.catalog
    await catalog.put_secret(streams.workspace.id, "user", USER)
    await catalog.put_secret(streams.workspace.id, "password", password)


def connection(streams: Streams, protocol: str, more: str) -> str:
    block = "KAFKA_SSL_CA_PEM >\n" + "".join(f"    {line}\n" for line in streams.broker.ca_pem.splitlines())
    text = streams.connection(protocol.split(" at ")[-1], more.replace("CA", block) if more.endswith("CA") else more)
    return text.replace("PROTOCOL SSL", "PROTOCOL PLAINTEXT") if " at " in protocol else text


@pytest.mark.parametrize("name", SETTINGS)
async def test_a_topic_is_read_with_every_security_setting(streams: Streams, name: str) -> None:
    await with_secrets(streams)
    topic = await streams.topic()
    await streams.broker.send(topic, values(0, 5))
    files = streams.files("orders", topic) | {"connections/broker.connection": connection(streams, *SETTINGS[name])}
    await streams.workspace.deploy(files)
    await streams.holds("orders", 5)
    reply = await streams.workspace.post("/v0/connectors/broker/test")
    assert (reply.status, reply.json["result"]) == (200, "ok")


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_wrong_is_told_without_a_secret(
    streams: Streams, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    protocol, more, password = WRONG[name]
    await with_secrets(streams, password or PASSWORD)
    files = streams.files("orders", await streams.topic())
    await streams.workspace.deploy(files | {"connections/broker.connection": connection(streams, protocol, more)})
    await until(lambda: streams.status("orders").state == "error")
    reply = await streams.workspace.post("/v0/connectors/broker/test")
    assert reply.status == 400 and reply.json["reason"] == "connection_failed"
    said = reply.text + streams.status("orders").note + (await streams.workspace.get("/v0/connectors")).text
    assert "s3cret" not in said and "s3cret" not in caplog.text
    if "password" in name:
        assert "uthentication" in reply.json["error"]
    if name == "certificate":
        assert "CERTIFICATE_VERIFY_FAILED" in reply.json["error"]


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("connections/broker.connection", "KAFKA_SASL_MECHANISM OAUTHBEARER", "Invalid value 'OAUTHBEARER'"),
        ("connections/broker.connection", "KAFKA_SSL_CA_PEM >\n    abc", "is no certificate in PEM form"),
        ("datasources/orders.datasource", "KAFKA_VALUE_FORMAT protobuf", "Invalid value 'protobuf'"),
        ("datasources/orders.datasource", "KAFKA_VALUE_FORMAT avro", "needs a schema registry"),
        ("datasources/orders.datasource", "KAFKA_KEY_FORMAT json_with_schema", "needs a schema registry"),
    ],
)
async def test_a_setting_that_does_not_work_is_an_error_at_its_line(
    streams: Streams, file: str, line: str, message: str
) -> None:
    files = streams.files("orders", "t")
    files[file] += f"{line}\n"
    with pytest.raises(ProjectError) as refused:
        await streams.workspace.deploy(files)
    (error,) = refused.value.errors
    assert message in error.message and error.file == file and error.line


async def test_a_group_reads_a_topic_for_one_data_source(streams: Streams) -> None:
    files = streams.files("one", "t", group="g") | streams.files("two", "t", group="g")
    with pytest.raises(ProjectError, match="with the same KAFKA_GROUP_ID"):
        await streams.workspace.deploy(files)


async def test_connections_are_listed_and_looked_into(streams: Streams) -> None:
    topic = await streams.topic(2)
    await streams.broker.send(topic, values(0, 30))
    await streams.workspace.deploy(streams.files("orders", topic))
    await streams.holds("orders", 30)
    (listed,) = (await streams.workspace.get("/v0/connectors")).json["connectors"]
    assert (listed["name"], listed["service"]) == ("broker", "kafka")
    assert listed["settings"]["kafka_security_protocol"] == "PLAINTEXT"
    (read,) = listed["datasources"]
    assert (read["topic"], read["state"], read["rows"]) == (topic, "reading", 30)
    path = f"/v0/connectors/{listed['id']}/preview"
    assert {"topic": topic} in (await streams.workspace.get(path)).json["preview"]
    (shown,) = (await streams.workspace.get(f"{path}?kafka_topic={topic}&max_records=12")).json["preview"]
    assert 0 < len(shown["records"]) <= 12 and shown["records"][0]["value"].startswith('{"id": ')
    missing = await streams.workspace.get(f"{path}?kafka_topic=no_such_topic")
    assert (missing.status, missing.json["reason"]) == (400, "connection_failed")
    text = (await streams.workspace.get("/v0/connectors/broker.connection")).text
    assert text == streams.connection()


async def test_only_an_admin_sees_connections_or_stops_a_topic(streams: Streams) -> None:
    await streams.workspace.deploy(streams.files("orders", await streams.topic()))
    reader = await streams.workspace.server.catalog.credentials.create(
        streams.workspace.id, "r", ("DATASOURCES:READ:orders",)
    )
    for token in (reader.token, streams.workspace.tenant("x", customer="a")):
        for path in (
            "/v0/connectors",
            "/v0/connectors/broker",
            "/v0/connectors/broker/preview",
            "/v0/connectors/broker.connection",
        ):
            assert (await streams.workspace.get(path, token=token)).status == 403
        for path in ("/v0/connectors/broker/test", "/v0/datasources/orders/stop"):
            assert (await streams.workspace.post(path, token=token)).status == 403
        sql = "/v0/sql?q=SELECT+*+FROM+tinybird.kafka_ops_log"
        assert (await streams.workspace.get(sql, token=token)).status == 403


async def test_stop_and_start_by_http_and_the_log_of_it(streams: Streams) -> None:
    topic = await streams.topic()
    await streams.workspace.deploy(streams.files("orders", topic))
    await streams.broker.send(topic, [*values(0, 5), b"bad"])
    await streams.holds("orders", 5)
    stopped = await streams.workspace.post("/v0/datasources/orders/stop")
    assert (stopped.status, stopped.json["state"]) == (200, "stopped")
    assert (await streams.workspace.post("/v0/datasources/orders/start")).json["state"] in ("starting", "reading")
    assert (await streams.workspace.post("/v0/datasources/nope/stop")).status == 404

    async def logged() -> bool:
        rows = await streams.sql(
            "SELECT topic, sum(processed_messages) AS n FROM tinybird.kafka_ops_log GROUP BY topic"
        )
        return any(row["topic"] == topic for row in rows)

    await streams.broker.send(topic, values(5, 10))
    await until(logged)

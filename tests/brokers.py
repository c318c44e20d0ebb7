"""A real Apache Kafka for tests: one broker in KRaft mode, on loopback, in a folder of its own.

It listens with every security protocol at once. Its jars come from the cache that scripts/kafka/fetch fills.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import urllib.request
import uuid
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from pages import ROOT
from ports import free_port
from waiting import until, wait_for

USER, PASSWORD = "bob", "bobs-s3cret-of-the-broker"
_PROTOCOLS = ("PLAINTEXT", "SASL_PLAINTEXT", "SSL", "SASL_SSL")
_LOG = """
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c: %m%n
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = INFO
"""


class Broker:
    def __init__(self, folder: Path, libs: Path) -> None:
        self.folder, self._libs = folder, libs
        self._process: subprocess.Popen[bytes] | None = None
        self._ports = {name: free_port() for name in ("CONTROLLER", *_PROTOCOLS)}
        folder.mkdir(parents=True, exist_ok=True)
        self._make_certificates()
        (folder / "log4j2.properties").write_text(_LOG)
        (folder / "server.properties").write_text(self._properties())
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        scram = f"=[name={USER},password={PASSWORD}]"
        self._java(
            "-Xmx128m", "kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", cluster,
            "-c", str(folder / "server.properties"),
            "--add-scram", f"SCRAM-SHA-256{scram}", "--add-scram", f"SCRAM-SHA-512{scram}",
        )  # fmt: skip

    def address(self, protocol: str = "PLAINTEXT") -> str:
        return f"localhost:{self._ports[protocol]}"

    @property
    def ca_pem(self) -> str:
        return (self.folder / "ca.pem").read_text()

    def start(self) -> None:
        """Returns once it serves."""
        log = self.folder / "broker.log"
        before = log.stat().st_size if log.exists() else 0
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [
                    "java", "-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xss512k",
                    "-Djava.awt.headless=true", f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}",
                    "-cp", f"{self._libs}/*", "kafka.Kafka", str(self.folder / "server.properties"),
                ],
                stdout=out, stderr=subprocess.STDOUT, cwd=self.folder, start_new_session=True,
            )  # fmt: skip

        def started() -> bool:
            assert self._process is not None
            text = log.read_bytes()[before:]
            assert self._process.poll() is None, text.decode(errors="replace")[-3000:]
            return b"Kafka Server started" in text

        wait_for(started, seconds=90)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _properties(self) -> str:
        listeners = ",".join(f"{name}://127.0.0.1:{port}" for name, port in self._ports.items())
        advertised = ",".join(f"{name}://localhost:{self._ports[name]}" for name in _PROTOCOLS)
        plain = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        lines = [
            "process.roles=broker,controller",
            "node.id=1",
            f"controller.quorum.voters=1@127.0.0.1:{self._ports['CONTROLLER']}",
            f"listeners={listeners}",
            f"advertised.listeners={advertised}",
            "controller.listener.names=CONTROLLER",
            "inter.broker.listener.name=PLAINTEXT",
            "listener.security.protocol.map=" + ",".join(f"{n}:{n}" for n in _PROTOCOLS) + ",CONTROLLER:PLAINTEXT",
            f"log.dirs={self.folder / 'data'}",
            "offsets.topic.replication.factor=1",
            "offsets.topic.num.partitions=4",
            "transaction.state.log.replication.factor=1",
            "transaction.state.log.min.isr=1",
            "transaction.state.log.num.partitions=4",
            "group.initial.rebalance.delay.ms=0",
            "group.min.session.timeout.ms=1000",
            "broker.session.timeout.ms=2000",
            "auto.create.topics.enable=false",
            "message.max.bytes=20971520",
            "replica.fetch.max.bytes=20971520",
            "log.cleaner.enable=false",
            "num.network.threads=2",
            "num.io.threads=2",
            "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            f"ssl.keystore.location={self.folder / 'broker.p12'}",
            "ssl.keystore.type=PKCS12",
            "ssl.keystore.password=changeit",
            "ssl.client.auth=none",
        ]
        for protocol in ("sasl_plaintext", "sasl_ssl"):
            lines.append(f"listener.name.{protocol}.plain.sasl.jaas.config={plain}")
            for bits in ("256", "512"):
                lines.append(f"listener.name.{protocol}.scram-sha-{bits}.sasl.jaas.config={scram}")
        return "\n".join(lines) + "\n"

    def _make_certificates(self) -> None:
        key = ("keytool", "-genkeypair", "-alias", "broker", "-keyalg", "EC", "-dname", "CN=localhost", "-validity", "30")
        store = ("-keystore", str(self.folder / "broker.p12"), "-storetype", "PKCS12", "-storepass", "changeit")
        subprocess.run([*key, "-ext", "SAN=dns:localhost,ip:127.0.0.1", *store], check=True, capture_output=True)
        shown = subprocess.run(
            ["keytool", "-exportcert", "-rfc", "-alias", "broker", *store], check=True, capture_output=True, text=True
        )
        (self.folder / "ca.pem").write_text(shown.stdout)

    def _java(self, memory: str, *arguments: str) -> None:
        done = subprocess.run(
            ["java", memory, "-cp", f"{self._libs}/*", *arguments], capture_output=True, text=True, cwd=self.folder
        )
        assert done.returncode == 0, done.stdout + done.stderr

    async def create_topic(self, name: str, partitions: int = 1, **config: str) -> None:
        async with self.admin() as admin:
            await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])

            async def there() -> bool:
                (found,) = await admin.describe_topics([name])
                return len([one for one in found["partitions"] if one["leader"] >= 0]) == partitions

            await until(there)

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address())
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()

    @asynccontextmanager
    async def producer(self, **options: object) -> AsyncIterator[AIOKafkaProducer]:
        producer = AIOKafkaProducer(bootstrap_servers=self.address(), **{"max_request_size": 20 << 20, **options})
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    async def send(self, topic: str, values: list[bytes | None], *, partition: int | None = None) -> None:
        async with self.producer() as producer:
            sent = [await producer.send(topic, value, b"key" if value is None else None, partition) for value in values]
            await asyncio.gather(*sent)


def kafka_libs() -> Path:
    found = subprocess.run([str(ROOT / "scripts" / "kafka" / "fetch")], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return Path(found.stdout.strip())


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    running = Broker(tmp_path_factory.mktemp("kafka"), kafka_libs())
    running.start()
    yield running
    running.kill()


class SchemaRegistry:
    """Apicurio, whose API is also that of Confluent's registry. It keeps its schemas in memory."""

    def __init__(self, folder: Path, libs: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/apis/ccompat/v7"
        self._folder, self._libs = folder, libs
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        (jar,) = self._libs.glob("registry/**/apicurio-registry-app-*-runner.jar")
        with (self._folder / "registry.log").open("ab") as out:
            self._process = subprocess.Popen(
                [
                    "java", "-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                    "-Dquarkus.http.host=127.0.0.1", f"-Dquarkus.http.port={self.port}",
                    "-Dapicurio.datasource.jdbc.initial-size=2", "-Dapicurio.datasource.jdbc.min-size=2",
                    "-jar", str(jar),
                ],
                stdout=out, stderr=subprocess.STDOUT, cwd=self._folder, start_new_session=True,
            )  # fmt: skip
        wait_for(self._answers, seconds=90, what="the schema registry is up")

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def register(self, subject: str, schema: object, *, type: str = "AVRO", references: object = ()) -> int:
        body = {"schema": json.dumps(schema), "schemaType": type, "references": references}
        request = urllib.request.Request(f"{self.url}/subjects/{subject}/versions", data=json.dumps(body).encode())
        request.add_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        with urllib.request.urlopen(request, timeout=30) as response:
            return int(json.loads(response.read())["id"])

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SchemaRegistry]:
    running = SchemaRegistry(tmp_path_factory.mktemp("registry"), kafka_libs())
    running.start()
    yield running
    running.kill()

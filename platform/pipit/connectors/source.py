"""What a data source reads: a topic, through a connection, with every setting checked once.

`sources_of` is the one place where KAFKA_* words become options of the client. A secret stands in `Broker` only, which
shows none of it.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipit.catalog.snapshot import Snapshot
from pipit.datafiles.resources import Connection, DataSource

SESSION_SECONDS = 10  # after a kill the partitions wait for as long
_REBALANCE_SECONDS = 60


class Refused(ValueError):
    """A setting that does not work; the text is for the project's author."""


@dataclass(frozen=True, slots=True)
class Broker:
    """How to reach a cluster."""

    servers: str
    protocol: str = "SASL_SSL"
    mechanism: str = "PLAIN"
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    ca: str = field(default="", repr=False)
    registry: str = field(default="", repr=False)

    @classmethod
    def of(cls, connection: Connection) -> Broker:
        """Raises Refused."""
        given = connection.settings
        for word, value in given.items():
            if "{{" in value:
                raise Refused(f"{word} needs a secret that is not there: set it, and deploy again")
        made = cls(
            servers=given["KAFKA_BOOTSTRAP_SERVERS"],
            protocol=given.get("KAFKA_SECURITY_PROTOCOL") or "SASL_SSL",
            mechanism=given.get("KAFKA_SASL_MECHANISM") or "PLAIN",
            user=given.get("KAFKA_KEY", ""),
            password=given.get("KAFKA_SECRET", ""),
            ca=given.get("KAFKA_SSL_CA_PEM", ""),
            registry=given.get("KAFKA_SCHEMA_REGISTRY_URL", ""),
        )
        made.options()
        return made

    def options(self) -> dict[str, Any]:
        """Of an aiokafka client. Raises Refused."""
        found: dict[str, Any] = {
            "bootstrap_servers": [server.strip() for server in self.servers.split(",") if server.strip()],
            "security_protocol": self.protocol,
        }
        if self.protocol.endswith("SSL"):
            found["ssl_context"] = self._context()
        if self.protocol.startswith("SASL"):
            if self.mechanism == "OAUTHBEARER":
                raise Refused("KAFKA_SASL_MECHANISM OAUTHBEARER is not supported yet; use PLAIN or SCRAM")
            if not (self.user and self.password):
                raise Refused(f"{self.protocol} needs KAFKA_KEY and KAFKA_SECRET")
            found["sasl_mechanism"] = self.mechanism
            found["sasl_plain_username"] = self.user
            found["sasl_plain_password"] = self.password
        return found

    def _context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cadata=self.ca or None)
        except (ssl.SSLError, ValueError):
            raise Refused("KAFKA_SSL_CA_PEM is no certificate in PEM form") from None


@dataclass(frozen=True, slots=True)
class Source:
    """A data source's topic. Equal where nothing of it changed, so that a deploy does not disturb its reader."""

    workspace: str  # its id
    database: str
    name: str
    connection: str
    broker: Broker
    topic: str
    group: str
    earliest: bool = False
    raw: bool = False
    headers: bool = False
    key_format: str = ""
    value_format: str = "json_without_schema"

    @property
    def identity(self) -> tuple[str, str]:
        return self.database, self.name

    def consumer_options(self) -> dict[str, Any]:
        """Of an AIOKafkaConsumer. Where a partition begins is decided by its reader (`reader.py`), not by the client.

        The client's sticky assignor and static membership have known faults, so neither is used.
        """
        return {
            **self.broker.options(),
            "client_id": "pipit",
            "group_id": self.group,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "isolation_level": "read_committed",
            "session_timeout_ms": SESSION_SECONDS * 1000,
            "heartbeat_interval_ms": 3000,
            "rebalance_timeout_ms": _REBALANCE_SECONDS * 1000,
            # It stays in the group while the engine is away: that it lives is told by its heartbeats.
            "max_poll_interval_ms": 7 * 24 * 3600 * 1000,
            "metadata_max_age_ms": 60_000,
        }


def sources_of(snapshot: Snapshot) -> dict[str, Source | Refused]:
    """Of each data source with KAFKA_* what it reads, or why it cannot."""
    found: dict[str, Source | Refused] = {}
    for name, table in snapshot.tables.items():
        if table.datasource.kafka and not table.datasource.vendor:
            try:
                found[name] = source_of(snapshot, table.datasource)
            except Refused as refused:
                found[name] = refused
    return found


def source_of(snapshot: Snapshot, datasource: DataSource) -> Source:
    """Raises Refused."""
    given = datasource.kafka
    for word, value in given.items():
        if "{{" in value:
            raise Refused(f"{word} needs a secret that is not there: set it, and deploy again")
    name = given.get("KAFKA_CONNECTION_NAME", "")
    connection = snapshot.project.connections.get(name)
    if connection is None:
        raise Refused(f"there is no connection '{name}'")
    return Source(
        workspace=snapshot.workspace.id,
        database=snapshot.workspace.database,
        name=datasource.name,
        connection=name,
        broker=Broker.of(connection),
        topic=given.get("KAFKA_TOPIC", ""),
        group=given.get("KAFKA_GROUP_ID", ""),
        earliest=given.get("KAFKA_AUTO_OFFSET_RESET") == "earliest",
        raw=_is_on(given, "KAFKA_STORE_RAW_VALUE"),
        headers=_is_on(given, "KAFKA_STORE_HEADERS") or _is_on(given, "KAFKA_STORE_BINARY_HEADERS"),
        key_format=given.get("KAFKA_KEY_FORMAT", ""),
        value_format=given.get("KAFKA_VALUE_FORMAT") or "json_without_schema",
    )


def _is_on(given: Mapping[str, str], word: str) -> bool:
    return given.get(word) == "True"

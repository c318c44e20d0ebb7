"""A server whose connectors run, and data sources that read a topic, for tests."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from brokers import Broker
from pipit.access.tokens import make_token
from pipit.connectors.status import Status
from pipit.engine import Engine
from pipit.server import Config, Server, running
from serving import Workspace, made_workspace, serving
from waiting import until

_topics = itertools.count(1)
SCHEMA = "SCHEMA >\n    id UInt64 `json:$.id`,\n    v UInt8 `json:$.v` DEFAULT 7\n\n"
ENGINE = "ENGINE MergeTree\nENGINE_SORTING_KEY id\n"


def values(first: int, end: int) -> list[bytes | None]:
    return [b'{"id": %d}' % n for n in range(first, end)]


@pytest.fixture(scope="module")
async def connecting(engine: Engine, tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> AsyncIterator[Server]:
    data_dir = tmp_path_factory.mktemp("connectors")
    async with running(Config(data_dir, make_token(owner="tests"), connectors=True), engine) as server:
        yield server


@pytest.fixture(scope="module")
async def connecting_url(connecting: Server) -> AsyncIterator[str]:
    async with serving(connecting) as url:
        yield url


@dataclass
class Streams:
    workspace: Workspace
    broker: Broker

    def files(self, name: str, topic: str, *, group: str = "", more: str = "", schema: str = SCHEMA) -> dict[str, str]:
        return {
            "connections/broker.connection": self.connection(),
            f"datasources/{name}.datasource": f"{schema}{ENGINE}"
            f"KAFKA_CONNECTION_NAME broker\nKAFKA_TOPIC {topic}\nKAFKA_GROUP_ID {group or 'of_' + topic}\n"
            f"KAFKA_AUTO_OFFSET_RESET earliest\n{more}",
        }

    def connection(self, protocol: str = "PLAINTEXT", more: str = "") -> str:
        return (
            f"TYPE kafka\nKAFKA_BOOTSTRAP_SERVERS {self.broker.address(protocol)}\n"
            f"KAFKA_SECURITY_PROTOCOL {protocol}\n{more}"
        )

    async def topic(self, partitions: int = 1, **config: str) -> str:
        name = f"t{next(_topics)}"
        await self.broker.create_topic(name, partitions, **config)
        return name

    async def sql(self, query: str) -> list[dict[str, Any]]:
        reply = await self.workspace.post("/v0/sql", data={"q": f"{query} FORMAT JSON"})
        assert reply.status == 200, reply.text
        rows: list[dict[str, Any]] = reply.json["data"]
        return rows

    async def count(self, table: str) -> tuple[int, int]:
        """Rows, and different ids."""
        (row,) = await self.sql(f"SELECT count() AS n, uniqExact(__partition, __offset) AS different FROM {table}")
        return int(row["n"]), int(row["different"])

    async def holds(self, table: str, rows: int, seconds: float = 60.0) -> None:
        async def there() -> bool:
            return (await self.count(table))[0] >= rows

        await until(there, seconds)
        assert await self.count(table) == (rows, rows)

    def status(self, name: str) -> Status:
        server = self.workspace.server
        found = server.connectors.status(server.catalog.snapshot(self.workspace.id), name)
        assert found is not None
        return found


@pytest.fixture
async def streams(
    connecting: Server, connecting_url: str, http: aiohttp.ClientSession, broker: Broker
) -> AsyncIterator[Streams]:
    async with made_workspace(connecting, connecting_url, http) as made:
        yield Streams(made, broker)

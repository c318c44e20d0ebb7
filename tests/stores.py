"""A real S3 store for tests (versitygw), on loopback, in a folder of its own, and data sources that load from it.

Its program comes from the cache that scripts/s3/fetch fills.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from pages import ROOT
from pipit.access.tokens import make_token
from pipit.connectors.buckets.status import BucketStatus
from pipit.engine import Engine
from pipit.ingest.files.remote import AllowedHosts
from pipit.server import Config, Server, running
from ports import free_port
from serving import Workspace, made_workspace, serving
from waiting import until, wait_for

KEY, SECRET = "pipit-tests", "s3cret-of-the-store"
_buckets = itertools.count(1)
SCHEMA = "SCHEMA >\n    id UInt64 `json:$.id`,\n    v UInt8 `json:$.v` DEFAULT 7\n\n"
ENGINE = "ENGINE MergeTree\nENGINE_SORTING_KEY id\n"


class ObjectStore:
    def __init__(self, folder: Path, program: str) -> None:
        self.folder, self._program = folder, program
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("iam", "data", "versions"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Returns once it serves."""
        with (self.folder / "store.log").open("ab") as out:
            self._process = subprocess.Popen(
                [
                    self._program, "--port", f"127.0.0.1:{self.port}", "--region", "us-east-1", "--health", "/healthz",
                    "--keep-alive", "--quiet", "--iam-dir", str(self.folder / "iam"), "posix",
                    "--versioning-dir", str(self.folder / "versions"), str(self.folder / "data"),
                ],
                env={**os.environ, "ROOT_ACCESS_KEY_ID": KEY, "ROOT_SECRET_ACCESS_KEY": SECRET},
                stdout=out, stderr=subprocess.STDOUT, cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        wait_for(self._answers, what="the S3 store is up")

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, (self.folder / "store.log").read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Any]:
        made = AioSession().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.url,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            config=AioConfig(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
        )
        async with made as client:
            yield client

    async def bucket(self) -> str:
        name = f"bucket-{next(_buckets)}"
        async with self.client() as client:
            await client.create_bucket(Bucket=name)
        return name

    async def put(self, bucket: str, objects: Mapping[str, bytes], **more: Any) -> None:
        async with self.client() as client:
            for key, body in objects.items():
                await client.put_object(Bucket=bucket, Key=key, Body=body, **more)

    async def delete(self, bucket: str, *keys: str) -> None:
        async with self.client() as client:
            for key in keys:
                await client.delete_object(Bucket=bucket, Key=key)

    async def get(self, bucket: str, key: str) -> bytes:
        async with self.client() as client:
            found = await client.get_object(Bucket=bucket, Key=key)
            async with found["Body"] as body:
                content: bytes = await body.read()
                return content

    async def keys(self, bucket: str) -> list[str]:
        async with self.client() as client:
            found = await client.list_objects_v2(Bucket=bucket)
            return [one["Key"] for one in found.get("Contents", ())]

    def connection(self, *, secret: str = SECRET) -> str:
        return f"TYPE s3\nS3_REGION us-east-1\nS3_ENDPOINT {self.url}\nS3_ACCESS_KEY {KEY}\nS3_SECRET {secret}\n"


def store_program() -> str:
    found = subprocess.run([str(ROOT / "scripts" / "s3" / "fetch")], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    running = ObjectStore(tmp_path_factory.mktemp("s3"), store_program())
    running.start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
async def importing(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    config = Config(
        tmp_path_factory.mktemp("importing"),
        make_token(owner="tests"),
        connectors=True,
        bucket_poll_seconds=0.3,
        urls=AllowedHosts(private=("127.0.0.1",)),
    )
    async with running(config, engine) as server:
        yield server


@pytest.fixture(scope="module")
async def importing_url(importing: Server) -> AsyncIterator[str]:
    async with serving(importing) as url:
        yield url


@dataclass
class Buckets:
    workspace: Workspace
    store: ObjectStore
    bucket: str

    def files(
        self, pattern: str, *, name: str = "orders", schedule: str = "@auto", more: str = "", schema: str = SCHEMA
    ) -> dict[str, str]:
        return {
            "connections/store.connection": self.store.connection(),
            f"datasources/{name}.datasource": f"{schema}{ENGINE}IMPORT_CONNECTION_NAME store\n"
            f"IMPORT_BUCKET_URI s3://{self.bucket}/{pattern}\nIMPORT_SCHEDULE {schedule}\n{more}",
        }

    async def put(self, objects: Mapping[str, bytes], **more: Any) -> None:
        await self.store.put(self.bucket, objects, **more)

    async def sql(self, query: str) -> list[dict[str, Any]]:
        reply = await self.workspace.post("/v0/sql", data={"q": f"{query} FORMAT JSON"})
        assert reply.status == 200, reply.text
        rows: list[dict[str, Any]] = reply.json["data"]
        return rows

    async def ids(self, table: str = "orders") -> list[int]:
        return [int(row["id"]) for row in await self.sql(f"SELECT id FROM {table} ORDER BY id")]

    async def hold(self, ids: list[int], table: str = "orders", seconds: float = 60.0) -> None:
        async def there() -> bool:
            return len(await self.ids(table)) >= len(ids)

        await until(there, seconds)
        assert await self.ids(table) == sorted(ids)

    def status(self, name: str = "orders") -> BucketStatus:
        server = self.workspace.server
        found = server.connectors.bucket_status(server.catalog.snapshot(self.workspace.id), name)
        assert found is not None
        return found

    async def looked(self, times: int = 2) -> None:
        """As many looks at the bucket came to their end, from now on."""
        for _ in range(times):
            before = self.status().looked_at
            await until(lambda before=before: self.status().looked_at > before)


@pytest.fixture
async def buckets(
    importing: Server, importing_url: str, http: aiohttp.ClientSession, store: ObjectStore
) -> AsyncIterator[Buckets]:
    async with made_workspace(importing, importing_url, http) as made:
        yield Buckets(made, store, await store.bucket())


def sync(store: ObjectStore, bucket: str, objects: Mapping[str, bytes]) -> None:
    asyncio.run(store.put(bucket, objects))

"""Buckets: the endpoint of a connection turns the server against no address of its own network, and no secret is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from attacks.test_urls import HERE, Store, web_server
from attacks.test_urls import store as machine
from pipit.connectors.buckets.place import Place
from pipit.connectors.buckets.store import Store as BucketStore
from pipit.connectors.buckets.store import StoreAway, StoreRefuses
from pipit.connectors.source import Refused
from pipit.errors import BadRequest, Reason
from pipit.ingest.files.remote import AllowedHosts
from serving import Workspace
from stores import KEY, SECRET, Buckets

pytestmark = pytest.mark.anyio
__all__ = ["machine"]  # a fixture


def place(endpoint: str, *, path_style: bool = True) -> Place:
    return Place("s3", endpoint, "us-east-1", path_style, "key", "s3cret")


@asynccontextmanager
async def opened(endpoint: str, allowed: AllowedHosts, **more: bool) -> AsyncIterator[BucketStore]:
    async with BucketStore.opened(place(endpoint, **more), allowed) as made:
        yield made


@pytest.mark.parametrize("endpoint", [url for url in HERE if url.startswith("http")])
@pytest.mark.parametrize("path_style", [True, False])
async def test_an_endpoint_on_this_machine_is_never_asked(machine: Store, endpoint: str, path_style: bool) -> None:
    with pytest.raises((BadRequest, StoreAway, ValueError)):
        async with opened(endpoint.format(port=machine.port).rstrip("/"), AllowedHosts(), path_style=path_style) as made:
            async for _ in made.pages("bucket", ""):
                pass
    assert machine.asked == []


async def test_a_name_that_resolves_to_this_machine_is_refused_by_its_reason(machine: Store) -> None:
    with pytest.raises(BadRequest) as raised:
        async with opened(f"http://localhost:{machine.port}", AllowedHosts()) as made:
            async for _ in made.pages("bucket", ""):
                pass
    assert raised.value.reason is Reason.URL_REFUSED and "127.0.0.1" not in str(raised.value)
    assert machine.asked == []


async def test_a_redirect_of_a_store_leads_nowhere(machine: Store) -> None:
    """What a private host may do that the operator named, another address of the network may not."""
    allowed = AllowedHosts(private=(f"127.0.0.1:{machine.port}",))
    async with web_server() as other:
        for host in ("localhost", "127.0.0.1", "[::ffff:127.0.0.1]"):
            machine.elsewhere = f"http://{host}:{other.port}/secret"
            async with opened(f"http://127.0.0.1:{machine.port}", allowed) as made:
                with pytest.raises((StoreAway, StoreRefuses, BadRequest)):
                    async for _ in made.pages("away", ""):
                        pass
        assert other.asked == []
    assert {request.path for request in machine.asked} == {"/away"}


async def test_only_hosts_of_the_list_are_asked(machine: Store) -> None:
    with pytest.raises(BadRequest):
        async with opened("https://elsewhere.example", AllowedHosts(hosts=("files.example",))):
            pass


@pytest.mark.parametrize("endpoint", ["http://u:p@host", "file:///etc", "http://", "nothing", "http://h/?a=b"])
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    from pipit.datafiles.resources import Connection

    given = {"S3_REGION": "us-east-1", "S3_ACCESS_KEY": "k", "S3_SECRET": "s", "S3_ENDPOINT": endpoint}
    with pytest.raises(Refused):
        Place.of(Connection("c", "c.connection", "s3", given, "", ""))


async def test_a_server_without_private_hosts_does_not_read_its_own_network(
    workspace: Workspace, buckets: Buckets, http: aiohttp.ClientSession
) -> None:
    """The same store and files as elsewhere in the tests, where the operator has not allowed it."""
    found = buckets.workspace.server.connectors
    assert found is not workspace.server.connectors
    async with BucketStore.opened(Place("s3", buckets.store.url, "us-east-1", True, KEY, SECRET), AllowedHosts(private=("127.0.0.1",))) as made:
        assert buckets.bucket in await made.buckets()
    with pytest.raises(BadRequest):
        async with BucketStore.opened(Place("s3", buckets.store.url, "us-east-1", True, KEY, SECRET), AllowedHosts()):
            pass


async def test_no_answer_log_or_error_has_the_secret(buckets: Buckets, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "pipit")
    await buckets.put({"a.ndjson": b'{"id": 1}\n', "b.ndjson": b"nothing\n", "c.parquet": b"nothing"})
    workspace = buckets.workspace
    await workspace.server.catalog.put_secret(workspace.id, "store_secret", SECRET)
    files = buckets.files("*")
    files["connections/store.connection"] = buckets.store.connection(secret='{{ tb_secret("store_secret") }}')
    await workspace.deploy(files)
    await buckets.hold([1])
    await workspace.server.catalog.put_secret(workspace.id, "store_secret", f"wrong-{SECRET}")
    files["connections/store.connection"] += "DESCRIPTION other\n"
    await workspace.deploy(files)
    paths = ("/v0/connectors", "/v0/connectors/store", "/v0/connectors/store.connection", "/v0/datasources", "/v0/jobs")
    told = [(await workspace.get(path)).text for path in paths]
    for _ in range(3):
        told.append((await workspace.get("/v0/connectors")).text)
        await asyncio.sleep(0)
    for sql in ("SELECT * FROM tinybird.datasources_ops_log", "SELECT * FROM tinybird.jobs_log", "SELECT * FROM orders_quarantine"):
        told.append(str(await buckets.sql(sql)))
    assert SECRET not in "".join(told) and SECRET not in caplog.text
    source = next(iter(workspace.server.connectors._running.values())).source
    assert SECRET not in repr(source)

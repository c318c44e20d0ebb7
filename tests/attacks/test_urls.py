"""Files by URL: the server is not turned against its own machine and network, whatever form the address has."""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

from pipit.errors import BadRequest, Reason
from pipit.ingest.files import remote
from pipit.ingest.files.remote import AllowedHosts, fetched, judge_address
from serving import Workspace

pytestmark = pytest.mark.anyio

TABLE = "SCHEMA >\n    k String,\n    n UInt8\n\nENGINE MergeTree\nENGINE_SORTING_KEY k\n"
CANARY = b"secret,1\n" * 1000


class Store:
    """A web server on this machine, and what was asked of it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[web.Request] = []
        self.breaks = 0
        self.elsewhere = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        if request.path == "/away":
            raise web.HTTPFound(self.elsewhere)
        start = int(request.headers.get("Range", "bytes=0-")[len("bytes=") : -1])
        headers = {"ETag": '"one"', "Content-Length": str(len(CANARY) - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(CANARY) - 1}/{len(CANARY)}"
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        await response.prepare(request)
        if self.breaks:
            self.breaks -= 1
            await response.write(CANARY[start : start + 3000])
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(CANARY[start:])
        return response


@asynccontextmanager
async def web_server() -> AsyncIterator[Store]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        found = Store(listener.getsockname()[1])
        application = web.Application()
        application.router.add_get("/{path:.*}", found.answer)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.SockSite(runner, listener).start()
        yield found
        await runner.cleanup()


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with web_server() as found:
        yield found


async def content(url: str, allowed: AllowedHosts | None = None) -> bytes:
    return b"".join([block async for block in fetched(url, allowed or AllowedHosts())])


HERE = [
    "http://127.0.0.1:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST.:{port}/",
    "http://127.1:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[fe80::1%25lo]:{port}/",
    "http://169.254.169.254/latest/meta-data/",
    "http://10.0.0.1/",
    "http://192.168.1.1/",
    "http://172.16.0.1/",
    "http://100.64.0.1/",
    "http://[fd00::1]/",
    "http://[fc00::1]/",
    "http://[fec0::1]/",
    "http://[feff:ffff::1]/",
    "http://224.0.0.1/",
    "http://user@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}@example.com/",
    "http://example.com@127.0.0.1:{port}/",
    "file:///etc/passwd",
    "ftp://127.0.0.1/x",
    "gopher://127.0.0.1:{port}/_x",
    "http:///x",
    "http://",
    "//127.0.0.1:{port}/",
]


@pytest.fixture(scope="module")
async def empty(shared_workspace: Workspace) -> Workspace:
    """With a table that nothing is loaded into."""
    await shared_workspace.deploy({"datasources/t.datasource": TABLE})
    return shared_workspace


@pytest.mark.parametrize("url", HERE)
async def test_this_machine_and_its_neighbours_are_never_asked(empty: Workspace, store: Store, url: str) -> None:
    """In the job, and in the request that asks for it."""
    workspace = empty
    sent = quote(url.format(port=store.port), safe="")
    for path in (f"/v0/datasources?mode=append&name=t&url={sent}", f"/v1/datasources/t/replace?url={sent}", f"/v0/analyze?url={sent}"):
        reply = await workspace.post(path)
        if reply.status == 200:
            await workspace.server.jobs.ended(reply.json["id"])
            job = (await workspace.get(f"/v0/jobs/{reply.json['id']}")).json
            assert job["status"] == "error", job
        else:
            assert reply.status == 400, reply.text
        assert b"secret" not in reply.body
    assert store.asked == []


async def test_a_redirect_leads_nowhere_else(store: Store) -> None:
    allowed = AllowedHosts(private=(f"127.0.0.1:{store.port}",))
    for elsewhere in (f"http://localhost:{store.port}/x", "http://169.254.169.254/", "file:///etc/passwd", "http://[::1]/"):
        store.elsewhere = elsewhere
        with pytest.raises(BadRequest) as refused:
            await content(f"{store.url}/away", allowed)
        assert refused.value.reason is Reason.URL_REFUSED
    assert {request.path for request in store.asked} == {"/away"}
    store.elsewhere = "/away"
    with pytest.raises(BadRequest, match="redirects more than"):
        await content(f"{store.url}/away", allowed)


def test_no_redirect_leads_from_https_to_http() -> None:
    place = remote.yarl.URL("https://files.example.com/a/b.csv?x=1")
    for location in ("http://files.example.com/a/b.csv", "HTTP://other.example.com/", "file:///etc/passwd"):
        with pytest.raises(BadRequest) as refused:
            remote._next(place, location)
        assert refused.value.reason is Reason.URL_REFUSED
    assert str(remote._next(place, "../c.csv")) == "https://files.example.com/c.csv"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[list[str]]]]:
    """What names mean: the answers one after the other, the last one for ever."""
    known: dict[str, list[list[str]]] = {}
    loop = asyncio.get_event_loop_policy()
    assert loop
    original = asyncio.base_events.BaseEventLoop.getaddrinfo

    async def resolve(self: Any, host: Any, port: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in known:
            return await original(self, host, port, **options)
        answers = known[name]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        kinds = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [(kinds[ipaddress.ip_address(a).version], socket.SOCK_STREAM, 6, "", (a, port)) for a in found]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", resolve)
    yield known


async def test_a_name_that_comes_to_mean_this_machine_is_not_followed(store: Store, names: dict[str, list[list[str]]]) -> None:
    """DNS rebinding: public at the first look, private at the next. And a name with one private address among public ones."""
    names["rebinding.example"] = [["127.0.0.1"]]
    names["both.example"] = [["93.184.216.34", "127.0.0.1"]]
    for host in names:
        with pytest.raises(BadRequest) as refused:
            await content(f"http://{host}:{store.port}/")
        assert refused.value.reason is Reason.URL_REFUSED
    # The connection goes to the address that was judged: there is no second look.
    looked: list[str] = []
    real = judge_address

    def judge(address: remote.Address) -> None:
        looked.append(str(address))

    names["once.example"] = [["127.0.0.1"], ["192.0.2.1"]]
    remote.judge_address = judge  # type: ignore[assignment]
    try:
        assert await content(f"http://once.example:{store.port}/") == CANARY
    finally:
        remote.judge_address = real
    assert looked == ["127.0.0.1"]


async def test_only_hosts_of_the_list(store: Store) -> None:
    allowed = AllowedHosts(hosts=("files.example.com", "*.cdn.example.com:8443"))
    for url in ("http://example.com/", "http://files.example.com.evil.example/", "http://a.cdn.example.com/", "http://xfiles.example.com/"):
        with pytest.raises(BadRequest) as refused:
            await content(url, allowed)
        assert refused.value.reason is Reason.URL_REFUSED
    with pytest.raises(BadRequest):
        await content(f"{store.url}/", AllowedHosts(hosts=(f"127.0.0.1:{store.port}",)))
    assert store.asked == []
    for address in ("8.8.8.8", "2606:4700::1111"):
        judge_address(ipaddress.ip_address(address))


async def test_a_connection_that_breaks_is_taken_up_where_it_broke(store: Store) -> None:
    store.breaks = 2
    assert await content(f"{store.url}/", AllowedHosts(private=("127.0.0.1",))) == CANARY
    assert [r.headers.get("Range") for r in store.asked] == [None, "bytes=3000-", "bytes=6000-"]
    assert not any("Authorization" in r.headers or "Cookie" in r.headers for r in store.asked)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "nowhere.invalid"])
async def test_what_names_no_host_is_not_tried_again(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    tried: list[str] = []
    once = remote._once

    def counted(*args: Any) -> AsyncIterator[tuple[bytes, str]]:
        tried.append(host)
        return once(*args)

    async def unknown(*_: object, **__: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", unknown)
    monkeypatch.setattr(remote, "_once", counted)
    with pytest.raises(BadRequest) as refused:
        await content(f"http://{host}/")
    assert refused.value.reason is Reason.URL_UNREACHABLE
    assert tried == [host]


async def test_a_file_by_url_and_what_its_job_shows(workspace: Workspace, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await workspace.deploy({"datasources/t.datasource": TABLE})
    kind: Any = workspace.server.jobs._kinds["import"]._kind
    allowed = AllowedHosts(private=("127.0.0.1",))
    monkeypatch.setattr(kind, "_allowed", allowed)
    object.__setattr__(workspace.server.config, "urls", allowed)
    try:
        sent = quote(f"{store.url}/a.csv?signature=abc123", safe="")
        tenant = workspace.jwt({"type": "DATASOURCES:APPEND", "resource": "t"})
        refused = await workspace.post(f"/v0/datasources?mode=append&name=t&url={sent}", token=tenant)
        assert (refused.status, store.asked) == (403, []), refused.text
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        reply = await workspace.post("/v0/datasources?mode=append&name=t", data=f"url={sent}".encode(), headers=headers)
        assert (reply.status, reply.json["kind"]) == (200, "import"), reply.text
        await workspace.server.jobs.ended(reply.json["id"])
        job = await workspace.get(f"/v0/jobs/{reply.json['id']}")
        assert (job.json["status"], job.json["successful_rows"]) == ("done", 1000), job.text
        assert "abc123" not in job.text
    finally:
        object.__setattr__(workspace.server.config, "urls", dataclasses.replace(allowed, private=()))

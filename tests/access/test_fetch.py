"""Key sets over HTTP, from a real server: bounded in size, time and number; kept for a bounded time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from pipit.access.fetch import (
    MAX_BYTES,
    REFRESH_SECONDS,
    STALE_SECONDS,
    UNKNOWN_KEY_SECONDS,
    FetchedKeys,
    fetch_json,
)
from pipit.errors import BadRequest
from signing import Provider, jwks, pair, providing
from waiting import until

pytestmark = pytest.mark.anyio


class World:
    """A provider, a clock that only the test moves, and how often a change was told."""

    def __init__(self, provider: Provider, patience: float = 5.0) -> None:
        self.provider = provider
        self.now = 1_800_000_000.0
        self.told = 0
        self.fetched = FetchedKeys(changed=self._tell, clock=lambda: self.now, patience=patience)
        self.fetched.watch([provider.url])

    def _tell(self) -> None:
        self.told += 1

    def kids(self) -> list[str]:
        return [k.kid for k in self.fetched.keys(self.provider.url).keys.values()]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with providing(pair("ES256", "a")) as provider:
        made = World(provider)
        yield made
        await made.fetched.close()


async def test_keys_are_fetched_and_told(world: World) -> None:
    assert world.kids() == []
    await world.fetched.refresh()
    assert (world.kids(), world.told, world.provider.asked) == (["a"], 1, 1)
    assert world.fetched.keys(world.provider.url).until == world.now + STALE_SECONDS
    await world.fetched.refresh()
    assert world.provider.asked == 1, "not due"
    world.now += REFRESH_SECONDS
    world.provider.published = jwks(pair("ES256", "b"))
    await world.fetched.refresh()
    assert (world.kids(), world.told) == (["b"], 2)


async def test_an_unknown_key_asks_at_once_but_not_often(world: World) -> None:
    await world.fetched.learn([world.provider.url])
    assert (world.kids(), world.told) == (["a"], 1)
    world.provider.published = jwks(pair("ES256", "b"))
    for _ in range(50):
        await world.fetched.learn([world.provider.url])
    assert world.provider.asked == 1
    world.now += UNKNOWN_KEY_SECONDS
    await asyncio.gather(*(world.fetched.learn([world.provider.url]) for _ in range(50)))
    assert (world.kids(), world.provider.asked, world.told >= 2) == (["b"], 2, True)


async def test_only_registered_urls_are_asked(world: World) -> None:
    async with providing(pair("ES256", "evil")) as evil:
        await world.fetched.learn([evil.url])
        await world.fetched.refresh()
        assert evil.asked == 0
        world.fetched.watch([])
        assert not world.fetched.has_urls
        assert world.kids() == []
        world.now += REFRESH_SECONDS
        await world.fetched.refresh()
        await world.fetched.learn([world.provider.url])
        assert world.provider.asked == 1


@pytest.mark.parametrize("failure", ["status", "nonsense", "empty", "private", "huge", "away", "redirect"])
async def test_a_provider_that_fails_changes_nothing_until_its_keys_are_too_old(world: World, failure: str) -> None:
    await world.fetched.refresh()
    first = world.fetched.keys(world.provider.url)
    provider = world.provider
    async with providing(pair("ES256", "elsewhere")) as elsewhere:
        if failure == "status":
            provider.status = 500
        elif failure == "nonsense":
            provider.published = b"<html>"
        elif failure == "empty":
            provider.published = {"keys": []}
        elif failure == "private":
            provider.published = {"keys": [pair("ES256").jwk(d="AAAA")]}
        elif failure == "huge":
            provider.published = json.dumps(jwks(pair("ES256", "b"))).encode() + b" " * MAX_BYTES
        elif failure == "redirect":
            provider.status, provider.headers = 302, {"Location": elsewhere.url}
        else:
            provider.gate = asyncio.Event()
            world.fetched = FetchedKeys(changed=world._tell, clock=lambda: world.now, patience=0.05)
            world.fetched.watch([provider.url])
            await world.fetched.learn([provider.url])
            assert world.kids() == []
            provider.gate.set()  # the request for keys waited less long than the fetch, which goes on
            await until(lambda: world.kids() == ["a"])
            return
        world.now += REFRESH_SECONDS
        await world.fetched.refresh()
        assert provider.asked == 2
        assert elsewhere.asked == 0
        assert world.fetched.keys(provider.url) is first
        assert first.until == world.now - REFRESH_SECONDS + STALE_SECONDS
        assert world.told == 1


async def test_a_refresh_under_way_serves_who_waits(world: World) -> None:
    world.provider.gate = asyncio.Event()
    refreshing = asyncio.create_task(world.fetched.refresh())
    await until(lambda: world.provider.asked)
    learning = asyncio.create_task(world.fetched.learn([world.provider.url]))
    await asyncio.sleep(0)
    world.provider.gate.set()
    await asyncio.gather(refreshing, learning)
    assert (world.provider.asked, world.kids()) == (1, ["a"])
    assert world.told >= 1


async def test_it_asks_by_itself(world: World) -> None:
    running = asyncio.create_task(world.fetched.run())
    try:
        await until(lambda: world.told)
    finally:
        running.cancel()
    assert world.kids() == ["a"]


@pytest.mark.parametrize("url", ["http://example.com/keys", "file:///etc/passwd", "http://127.0.0.1:1/keys"])
async def test_what_cannot_be_fetched_says_why(url: str) -> None:
    with pytest.raises(BadRequest):
        await fetch_json(url)

"""One server per state, where no lock on a data directory says so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipit.catalog.lease import only_server
from pipit.engine import Engine
from pipit.errors import Conflict
from waiting import until

pytestmark = pytest.mark.anyio


class Remote:
    """The real engine, as one that several servers can reach."""

    embedded = False

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


async def test_a_second_server_is_refused_until_the_first_has_left(engine: Engine) -> None:
    remote = Remote(engine)
    async with only_server(remote):
        for _ in range(2):
            with pytest.raises(Conflict, match=r"Another Pipit server \(.+, process \d+\)"):
                async with only_server(remote):
                    pass
    async with only_server(remote):
        pass


async def test_one_that_was_killed_is_forgotten_and_one_that_lives_is_not(engine: Engine) -> None:
    remote = Remote(engine)
    living = only_server(remote, hold=2.0, renew=0.1)
    await living.__aenter__()
    await asyncio.sleep(2.5)  # longer than it holds without renewing
    with pytest.raises(Conflict):
        async with only_server(remote):
            pass
    await living.__aexit__(None, None, None)
    async with only_server(remote, hold=0.3, renew=60):
        await asyncio.sleep(0.5)  # as if killed: nothing renews
        async with only_server(remote):
            pass


async def test_of_servers_that_start_at_once_one_stays_at_most(engine: Engine) -> None:
    remote = Remote(engine)
    stay = asyncio.Event()

    async def serve() -> None:
        async with only_server(remote):
            await stay.wait()

    all_three = [asyncio.ensure_future(serve()) for _ in range(3)]
    await until(lambda: sum(task.done() for task in all_three) >= 2)
    stay.set()
    failures = await asyncio.gather(*all_three, return_exceptions=True)
    assert sum(isinstance(f, Conflict) for f in failures) >= 2


async def test_the_embedded_engine_needs_none(engine: Engine) -> None:
    async with only_server(engine), only_server(engine):
        pass

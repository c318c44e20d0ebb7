"""The events on their way in: over HTTP, once, and again after a restart from where they were."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipit.demo import stream_events
from pipit.demo.events import text_of
from pipit.errors import PipitError
from serving import Workspace
from waiting import until

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]


def project() -> dict[str, str]:
    return {
        str(path.relative_to(ROOT)): path.read_text()
        for folder in ("datasources", "pipes")
        for path in sorted((ROOT / folder).iterdir())
    }


@asynccontextmanager
async def streaming(workspace: Workspace, token: str, progress: Callable[[int], None]) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(
        stream_events(workspace.base_url, token, workspace.admin_token, stop, days=1, on_progress=progress)
    )
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 10)


async def counted(workspace: Workspace, where: str) -> int:
    rows = await workspace.rows(f"/v0/sql?q=SELECT+count()+AS+n+FROM+events+WHERE+{where}+FORMAT+JSON")
    return int(rows[0]["n"])


async def live(workspace: Workspace, since: datetime) -> None:
    """Until an event later than `since` can be read."""
    await until(lambda: counted(workspace, f"timestamp>'{text_of(since)}'".replace(" ", "%20")))


async def test_history_comes_once_then_live_events_and_a_restart_goes_on(workspace: Workspace) -> None:
    await workspace.deploy(project())
    sent: list[int] = []
    started = datetime.now(UTC)
    async with streaming(workspace, workspace.admin_token, sent.append):
        await live(workspace, datetime.now(UTC))
    assert sent and sent == sorted(sent)
    assert (await workspace.rows("/v0/sql?q=SELECT+count()+AS+n+FROM+contracts+FORMAT+JSON"))[0]["n"] == 3
    before = f"timestamp<='{text_of(started)}'".replace(" ", "%20")
    history = await counted(workspace, before)
    assert 0 < history <= sent[-1]

    async with streaming(workspace, workspace.admin_token, sent.append):
        await live(workspace, datetime.now(UTC))
    assert await counted(workspace, before) == history


async def test_a_token_that_may_not_append_is_said_at_once(workspace: Workspace) -> None:
    await workspace.deploy(project())
    reader = workspace.tenant("recent_activity", customer_id="acme")
    with pytest.raises(PipitError, match="contracts were refused"):
        await asyncio.wait_for(
            stream_events(workspace.base_url, reader, workspace.admin_token, asyncio.Event(), days=1), 30
        )

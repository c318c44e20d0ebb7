"""Sends the sample events over HTTP, as any client would: the history in one go, then live ones.

Uses nothing but the public API: `/v0/events` with an append token, and one endpoint with a read token to find
out how far the history got last time, so that a restart goes on and never counts a day twice. An API that is
starting, busy (429) or without its engine (503) is waited for.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

import aiohttp
import msgspec

from pipit.demo.events import HISTORY_DAYS, Event, Trickle, contracts, history
from pipit.errors import PipitError

Progress = Callable[[int], None]

_BATCH_ROWS = 15_000  # about 4 MB a request
# Seconds; then it quietens, so that a demo left on overnight does not drown its own history.
_LIVELY_FOR = 15 * 60.0
_encode = msgspec.json.Encoder().encode


async def stream_events(
    base_url: str,
    append_token: str,
    read_token: str,
    stop: asyncio.Event,
    *,
    days: int = HISTORY_DAYS,
    on_progress: Progress | None = None,
) -> None:
    """Fills `events` and `contracts` of the demo project and keeps events coming, until `stop` is set.

    The history goes `days` back, or to the newest event that the server has.
    `on_progress` gets the number of events sent so far while the history goes in, and is not called
    afterwards.
    """
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(base_url, timeout=timeout) as session:
        sender = _Sender(session, append_token, stop)
        now = datetime.now(UTC)
        since = await _latest(session, read_token, stop) or now - timedelta(days=days)
        await sender.send("contracts", contracts())
        sent = 0
        waiting: list[Event] = []
        by_day = history(since, now)
        while not stop.is_set():
            day = await asyncio.to_thread(next, by_day, None)
            if day is not None:
                waiting += day
            while len(waiting) >= _BATCH_ROWS or (day is None and waiting):
                batch, waiting = waiting[:_BATCH_ROWS], waiting[_BATCH_ROWS:]
                await sender.send("events", batch)
                sent += len(batch)
                if on_progress:
                    on_progress(sent)
            if day is None:
                break
        await _trickle(sender, stop)


async def _trickle(sender: _Sender, stop: asyncio.Event) -> None:
    """One small request a second or so."""
    trickle, random = Trickle(), Random()
    started = asyncio.get_running_loop().time()
    while not stop.is_set():
        quiet = asyncio.get_running_loop().time() - started > _LIVELY_FOR
        count = 1 if quiet else random.choice((1, 1, 2, 2, 3, 4))
        await sender.send("events", [trickle.next(datetime.now(UTC)) for _ in range(count)])
        await _pause(stop, random.uniform(3.0, 6.0) if quiet else random.uniform(0.6, 1.4))


class _Sender:
    """Posts rows as NDJSON and tries again until they are acknowledged (2xx) or it is time to stop."""

    def __init__(self, session: aiohttp.ClientSession, token: str, stop: asyncio.Event) -> None:
        self._session = session
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson"}
        self._stop = stop

    async def send(self, name: str, rows: list[Event]) -> None:
        body = b"\n".join(map(_encode, rows)) + b"\n"
        pause = 0.2
        while not self._stop.is_set():
            try:
                async with self._session.post(
                    "/v0/events", params={"name": name}, data=io.BytesIO(body), headers=self._headers
                ) as response:
                    if response.status < 300:
                        return
                    text = await response.text()
                    if response.status not in (429, 500, 502, 503, 504):
                        raise PipitError(f"Sample {name} were refused ({response.status}): {text}")
                    pause = max(pause, _retry_after(response))
            except (aiohttp.ClientConnectionError, TimeoutError):
                pass  # not up yet, or going down: the pause below, then again
            await _pause(self._stop, pause)
            pause = min(pause * 2, 3.0)


async def _latest(session: aiohttp.ClientSession, token: str, stop: asyncio.Event) -> datetime | None:
    """The time of the newest event that the server has, None where it has none."""
    headers = {"Authorization": f"Bearer {token}"}
    while not stop.is_set():
        try:
            async with session.get(
                "/v0/pipes/recent_activity.json", params={"limit": "1"}, headers=headers
            ) as response:
                if response.status == 200:
                    rows = (await response.json(content_type=None))["data"]
                    return datetime.fromisoformat(rows[0]["timestamp"]).replace(tzinfo=UTC) if rows else None
                if response.status not in (429, 503):
                    text = await response.text()
                    raise PipitError(f"The demo's endpoint does not answer ({response.status}): {text}")
        except (aiohttp.ClientConnectionError, TimeoutError):
            pass
        await _pause(stop, 0.3)
    return None


def _retry_after(response: aiohttp.ClientResponse) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return

"""Key sets that identity providers publish: fetched in the background, kept for a bounded time.

Only URLs that a workspace registered are ever asked for; nothing of a token becomes an address. An answer is bounded in
size and time, and a redirect is not followed. Each URL is asked again every `REFRESH_SECONDS`, and at once when a token
names a key that is not known, but at most every `UNKNOWN_KEY_SECONDS`. Keys that could not be fetched anew for
`STALE_SECONDS` stop to count: so a key that a provider takes back ends after `REFRESH_SECONDS`, or after
`STALE_SECONDS` where its answers no longer arrive. No request waits for a provider longer than `PATIENCE_SECONDS`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from time import time

import aiohttp

from pipit import jsontext
from pipit.access.jwks import KeySet, check_url, read_keys
from pipit.errors import BadRequest, Reason

log = logging.getLogger("pipit.access")

REFRESH_SECONDS = 300.0
UNKNOWN_KEY_SECONDS = 30.0
STALE_SECONDS = 3600.0
PATIENCE_SECONDS = 2.0
MAX_BYTES = 256 * 1024
_FETCH_SECONDS = 5.0
_AT_ONCE = 8
_TICK_SECONDS = 5.0

Fetch = Callable[[str], Awaitable[object]]


async def fetch_json(url: str) -> object:
    """The JSON document at a URL that was registered. Raises BadRequest with the reason, for the server's log."""
    check_url(url)
    timeout = aiohttp.ClientTimeout(total=_FETCH_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.get(url, allow_redirects=False, headers={"Accept": "application/json"}) as response,
        ):
            if response.status != 200:
                raise BadRequest(f"it answered {response.status}", reason=Reason.KEY_UNREACHABLE)
            body = b""
            async for chunk in response.content.iter_chunked(65_536):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise BadRequest(f"its answer is larger than {MAX_BYTES} bytes", reason=Reason.KEY_UNREACHABLE)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise BadRequest(f"it cannot be reached ({type(error).__name__})", reason=Reason.KEY_UNREACHABLE) from None
    try:
        return jsontext.exact(body)
    except (ValueError, RecursionError):
        raise BadRequest("its answer is not JSON", reason=Reason.KEY_UNREACHABLE) from None


class FetchedKeys:
    """The key sets of the URLs that registrations name. For one event loop."""

    def __init__(
        self,
        *,
        changed: Callable[[], None],
        fetch: Fetch = fetch_json,
        clock: Callable[[], float] = time,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        """`changed` is called after key sets changed, so that what was verified under others is forgotten."""
        self._changed = changed
        self._fetch = fetch
        self._clock = clock
        self._patience = patience
        self._sets: Mapping[str, KeySet] = {}
        self._tried: dict[str, float] = {}  # when a URL was asked last, whatever came of it
        self._running: dict[str, asyncio.Task[None]] = {}
        self._news = False  # what was not told yet
        self._watched: frozenset[str] = frozenset()

    def watch(self, urls: Iterable[str]) -> None:
        """These are registered now; what is known of others is forgotten."""
        self._watched = frozenset(urls)
        self._sets = {url: keys for url, keys in self._sets.items() if url in self._watched}
        self._tried = {url: at for url, at in self._tried.items() if url in self._watched}

    @property
    def has_urls(self) -> bool:
        return bool(self._watched)

    def keys(self, url: str) -> KeySet:
        """What is known now; empty until the first answer."""
        return self._sets.get(url, KeySet())

    async def learn(self, urls: Iterable[str]) -> None:
        """A request's token names keys that are not known: asks, if that was not done just now. Bounded in time."""
        now = self._clock()
        tasks = []
        for url in self._watched.intersection(urls):
            task = self._running.get(url)
            if task is None and not 0 <= now - self._tried.get(url, -UNKNOWN_KEY_SECONDS) < UNKNOWN_KEY_SECONDS:
                task = self._start(url, tell=True)
            if task is not None:
                tasks.append(task)
        if tasks:
            await asyncio.wait(tasks, timeout=self._patience)
            self._tell()  # also of those that `refresh` began: it tells of all its URLs at the end

    async def refresh(self) -> None:
        """Asks all that are due, a few at a time, and tells once."""
        now = self._clock()
        tried = {url: now - self._tried.get(url, -REFRESH_SECONDS) for url in sorted(self._watched)}
        due = [url for url, ago in tried.items() if not 0 <= ago < REFRESH_SECONDS]
        some = asyncio.Semaphore(_AT_ONCE)

        async def one(url: str) -> None:
            async with some:
                await (self._running.get(url) or self._start(url, tell=False))

        await asyncio.gather(*(one(url) for url in due))
        self._tell()

    async def run(self) -> None:
        """Keeps key sets fresh, for as long as the server runs."""
        while True:
            try:
                await self.refresh()
            except Exception:
                log.exception("key sets could not be refreshed")
            await asyncio.sleep(_TICK_SECONDS)

    async def close(self) -> None:
        for task in list(self._running.values()):
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    def _tell(self) -> None:
        if self._news:
            self._news = False
            self._changed()

    def _start(self, url: str, *, tell: bool) -> asyncio.Task[None]:
        self._tried[url] = self._clock()
        task = asyncio.ensure_future(self._ask(url, tell))
        self._running[url] = task
        task.add_done_callback(lambda _: self._running.pop(url, None))
        return task

    async def _ask(self, url: str, tell: bool) -> None:
        """A provider that fails, or publishes nonsense, changes nothing."""
        try:
            keys = read_keys(await self._fetch(url), until=self._clock() + STALE_SECONDS, lenient=True)
        except BadRequest as error:
            log.warning("the keys at %s: %s", url, error.message)
            return
        if url not in self._watched:
            return
        self._sets = {**self._sets, url: keys}
        self._news = True
        if tell:
            self._tell()

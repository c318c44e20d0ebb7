"""Cached responses of endpoints, for as long as their `cache_ttl` says: a run is saved, never a decision.

A request gets here with its finished plan: token, grants, fixed parameters, policies and the examination of its text
have passed, as for every other request. Who may not read is refused before anything is looked up, and no refusal and no
error is ever cached (attack F08).

The key is a SHA-256 over everything that the engine would get, encoded so that no two plans have one encoding: the
workspace, its database and deployment, statement, bound values as they are sent, filters, settings, format. A
tenant's key holds what makes it that tenant as well: context, fixed parameters and filters of its token, or the
token's name where it has none of them. So nobody can tell from the time of an answer what another tenant asked
(attacks F01, F02, E10). Nothing that a client calls an id or a key is part of it (F03).

The same request in flight twice runs once. If that run fails in the engine, all get the error; if it is given up
for any other reason (its client left, its token had too many queries), the next one runs it. Memory is bounded, in
all and for each answer; a larger answer passes through as if there were no cache. For one event loop.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from enum import Enum

import msgspec
from cachetools import TLRUCache

from pipit import jsontext
from pipit.access.context import SecurityContext
from pipit.engine.binding import bind
from pipit.errors import PipitError, QueryTimeout, SqlError, TooLarge
from pipit.query.plan import Plan

MAX_BYTES = 64 * 1024 * 1024  # of all responses together
MAX_ANSWER_BYTES = 1024 * 1024  # of one
MAX_SECONDS = 24 * 3600  # whatever a pipe's CACHE says
_AT_ONCE = 4  # of those that wait for one answer
_BYTES_OF_AN_ENTRY = 512  # its key and what holds it

# The engine said no to this very statement, and would say it again. Anything else is about who asked, or about now.
_OF_THE_STATEMENT = (SqlError, QueryTimeout, TooLarge)

Run = Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]
Hand = Callable[[bytes], AbstractAsyncContextManager[AsyncIterator[bytes]]]


class _Landed(Enum):
    GIVEN_UP = "given up"  # by its leader: the next one in line leads
    TOO_LARGE = "too large"  # to be cached: each runs its own


_Outcome = bytes | PipitError | _Landed


class _Flight:
    """A run that others wait for. Who leaves meanwhile takes nothing from them."""

    __slots__ = ("_outcome", "_waiting")

    def __init__(self) -> None:
        self._outcome: _Outcome | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def landed(self) -> _Outcome:
        if self._outcome is None:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        assert self._outcome is not None
        return self._outcome

    def land(self, outcome: _Outcome) -> bool:
        """Whether it had not landed before."""
        if self._outcome is not None:
            return False
        self._outcome = outcome
        self._wake()
        return True

    def _wake(self) -> None:
        """Some at a time: the loop looks in between for what else has come, such as the first one's next request."""
        woken = 0
        while self._waiting and woken < _AT_ONCE:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                woken += 1
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._wake)


class Cache:
    def __init__(
        self,
        *,
        max_bytes: int = MAX_BYTES,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_answer = max_answer_bytes
        self._answers: TLRUCache[bytes, tuple[bytes, int]] = TLRUCache(
            max_bytes,
            lambda _, entry, now: now + entry[1],
            timer=clock,
            getsizeof=lambda entry: len(entry[0]) + _BYTES_OF_AN_ENTRY,
        )
        self._flights: dict[bytes, _Flight] = {}

    @property
    def size(self) -> int:
        """The bytes that are cached now."""
        return int(self._answers.currsize)

    @asynccontextmanager
    async def open(
        self, key: bytes, seconds: int, run: Run, hand: Hand | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The answer under this key: cached, from a run that is under way, or from `run`. Raises what `run` raises.

        `hand`: how a whole answer becomes a stream; who waits for a slow client counts what it holds.
        """
        hand = hand or _handed
        while True:
            cached = self._answers.get(key)
            if cached is not None:
                async with hand(cached[0]) as whole:
                    yield whole
                return
            flight = self._flights.get(key)
            if flight is None:
                async with self._lead(key, seconds, run, hand) as chunks:
                    yield chunks
                return
            landed = await flight.landed()
            if isinstance(landed, PipitError):
                raise copy.copy(landed)
            if isinstance(landed, bytes):
                async with hand(landed) as whole:
                    yield whole
                return
            if landed is _Landed.TOO_LARGE:
                async with run() as chunks:
                    yield chunks
                return

    @asynccontextmanager
    async def _lead(self, key: bytes, seconds: int, run: Run, hand: Hand) -> AsyncIterator[AsyncIterator[bytes]]:
        flight = self._flights[key] = _Flight()

        def land(outcome: _Outcome) -> None:
            if flight.land(outcome):
                del self._flights[key]

        try:
            async with run() as chunks:
                parts: list[bytes] = []
                size = 0
                async for chunk in chunks:
                    parts.append(chunk)
                    size += len(chunk)
                    if size > self._max_answer:
                        land(_Landed.TOO_LARGE)
                        yield _chained(parts, chunks)
                        return
            body = b"".join(parts)
            self._keep(key, body, seconds)
            land(body)
        except _OF_THE_STATEMENT as error:
            land(error)
            raise
        finally:
            land(_Landed.GIVEN_UP)
        async with hand(body) as whole:
            yield whole

    def _keep(self, key: bytes, body: bytes, seconds: int) -> None:
        with suppress(ValueError):  # larger than the whole cache
            self._answers[key] = body, min(seconds, MAX_SECONDS)


def key_of(plan: Plan) -> bytes:
    """Two requests have one key only if the engine would get the very same from both, for the same reader."""
    if plan.derived.key is None:
        plan.derived.key = hashlib.sha256(_everything_of(plan)).digest()
    return plan.derived.key


def _everything_of(plan: Plan) -> bytes:
    snapshot, pipe = plan.read.snapshot, plan.read.query.name
    workspace = snapshot.workspace
    parts = (
        workspace.id,
        workspace.database_id,
        workspace.database,
        snapshot.edition,
        pipe,
        plan.composed.sql,
        sorted(bind(plan.params).items()),
        sorted(plan.filters.items()),
        sorted((name, str(value)) for name, value in plan.settings.items()),
        plan.format.name,
        _reader(plan.read.security, pipe),
    )
    return msgspec.msgpack.encode(parts)


def _reader(security: SecurityContext, pipe: str) -> str:
    """Whose answer it is. A workspace's own tokens are one reader: what they get differs in nothing."""
    if not security.is_tenant:
        return "workspace"
    context = sorted(security.context.items())
    fixed = [sorted(scope.fixed_params.items()) for scope in security.scopes_for("PIPES:READ", pipe)]
    filters = sorted((scope.resource, scope.filter) for scope in security.scopes if scope.filter)
    name = "" if context or filters or any(fixed) else security.name
    return jsontext.text(["tenant", context, fixed, filters, name])


async def once(body: bytes) -> AsyncIterator[bytes]:
    """A whole answer as a stream of one chunk."""
    yield body


@asynccontextmanager
async def _handed(body: bytes) -> AsyncIterator[AsyncIterator[bytes]]:
    yield once(body)


async def _chained(parts: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    async for part in rest:
        yield part

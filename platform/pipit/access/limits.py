"""`limits.rps` of JWTs: how many requests of one token name a workspace takes in a second.

Counted per workspace and JWT name, as the dialect has it (and per environment, where the token names one), in windows
of one second: give each tenant's token a name of its own, or they share a limit and its headers. Memory is bounded; a
name forgotten starts a new window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from time import monotonic

from cachetools import LRUCache

from pipit.access.context import SecurityContext
from pipit.errors import RateLimited

_NAMES = 10_000


class RateLimiter:
    """Counts requests. For one event loop; each API process counts its own."""

    def __init__(self, *, clock: Callable[[], float] = monotonic, names: int = _NAMES) -> None:
        self._clock = clock
        # (workspace, environment, name, data source that is written to) -> (second, requests in it)
        self._windows: LRUCache[tuple[str, str, str, str], tuple[int, int]] = LRUCache(names)

    def check(self, security: SecurityContext) -> Mapping[str, str]:
        """Counts one request and returns its rate-limit headers, if there is a limit. Raises RateLimited."""
        return self._count(security, security.rps if security.is_tenant else 0, "")

    def check_write(self, security: SecurityContext, datasource: str, rps: int) -> Mapping[str, str]:
        """The same for what a token appends to one data source: events and files, `rps` of them; 0: no limit."""
        return self._count(security, rps, datasource)

    def _count(self, security: SecurityContext, rps: int, datasource: str) -> Mapping[str, str]:
        if rps <= 0:
            return {}
        now = self._clock()
        second = math.floor(now)
        key = (security.workspace_id, security.environment, security.name, datasource)
        window, count = self._windows.get(key, (second, 0))
        if window != second:
            count = 0
        allowed = count < rps
        if allowed:
            count += 1
        self._windows[key] = (second, count)
        # Rounded up, so that a client that waits this long is let in.
        reset = str(max(1, math.ceil(second + 1 - now)))
        headers = {
            "X-RateLimit-Limit": str(rps),
            "X-RateLimit-Remaining": str(max(0, rps - count)),
            "X-RateLimit-Reset": reset,
        }
        if not allowed:
            where = f" to '{datasource}'" if datasource else ""
            raise RateLimited(
                f"The token '{security.name}' may send {rps} requests a second{where}",
                hint=f"Wait {reset} s and try again.",
                headers=headers | {"Retry-After": reset},
            )
        return headers

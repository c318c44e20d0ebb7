"""What made the engine hang is not run again at once: each time costs everybody a restart of the engine.

Some statements cannot be interrupted (a constant that is computed for minutes). The engine's process is ended then, and
another one serves after a second or two. Here it is remembered who asked for what: the same token name with the same
claims asking the same endpoint, or the SQL API, is refused for some minutes (two tenants' tokens may have one name); a
workspace's own token only for the same text. In memory: a restart of Pipit forgets it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from pipit import jsontext
from pipit.access.context import SecurityContext
from pipit.errors import RateLimited, Reason

SECONDS = 300.0
_MOST = 10_000

Key = tuple[str, str, str, str, str]  # workspace, environment, token, its claims, what it asked for


class HangBreaker:
    def __init__(self, *, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._until: dict[Key, float] = {}

    def add(self, security: SecurityContext, what: str) -> None:
        """`what` it asked for: an endpoint, the SQL API, a text."""
        key = _key(security, what)
        self._until.pop(key, None)
        self._until[key] = self._clock() + self._seconds
        while len(self._until) > _MOST:
            del self._until[next(iter(self._until))]

    def check(self, security: SecurityContext, what: str) -> None:
        """Raises RateLimited."""
        if not self._until:
            return
        key = _key(security, what)
        left = self._until.get(key, 0.0) - self._clock()
        if left > 0:
            raise RateLimited(
                "This query made the engine hang, so it is not run again for now",
                hint="A statement that cannot be interrupted: look for a constant that takes long to compute.",
                headers={"Retry-After": str(math.ceil(left))},
                reason=Reason.QUERY_HUNG,
            )
        self._until.pop(key, None)


def _key(security: SecurityContext, what: str) -> Key:
    claims = ""
    if security.is_tenant:
        scopes = sorted((s.type, s.resource, s.filter, sorted(s.fixed_params.items())) for s in security.scopes)
        claims = jsontext.text([sorted(security.context.items()), scopes], default=str)
    return (security.workspace_id, security.environment, security.name, claims, what)

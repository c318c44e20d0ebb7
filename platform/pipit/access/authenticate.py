"""A request's token becomes a `SecurityContext`, or the request ends with 403.

Exactly one token per request: two of them could be read differently by two programs (attack A17). A
verified JWT is remembered, never longer than its own time and never under another keyring than the one that
verified it: a revoked or changed secret counts from the next request on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import time

from cachetools import LRUCache

from pipit.access.context import SecurityContext
from pipit.access.jwt import Verified, invalid_token, looks_like_jwt, verify
from pipit.access.keyring import Keyring
from pipit.access.tokens import digest
from pipit.errors import BadRequest, Forbidden, Reason

_REMEMBERED = 10_000


def bearer_tokens(headers: Sequence[str]) -> list[str]:
    """The tokens of a request's Authorization headers. Other schemes are a proxy's business.

    Raises BadRequest for more than one header: which of them counts is nobody's guess.
    """
    if len(headers) > 1:
        raise BadRequest(
            "The request has more than one Authorization header", hint="Send one token.", reason=Reason.TOKEN_AMBIGUOUS
        )
    return [header[7:].strip(" ") for header in headers if header[:7].lower() == "bearer "]


def one_token(header: Sequence[str], query: Sequence[str]) -> str:
    """The one token of a request. Raises BadRequest for more than one, Forbidden for none."""
    tokens = [*header, *query]
    if len(tokens) > 1:
        raise BadRequest(
            "The request carries more than one token",
            hint="Send one: in the header or the URL.",
            reason=Reason.TOKEN_AMBIGUOUS,
        )
    if not tokens or not tokens[0]:
        raise Forbidden(
            "The request carries no token",
            hint="Send it as 'Authorization: Bearer <token>' or as '?token=<token>'.", reason=Reason.TOKEN_MISSING,
        )
    return tokens[0]


class Authenticator:
    """Who holds a token, with a bounded memory of verified JWTs. For one event loop; not for threads."""

    def __init__(self, *, clock: Callable[[], float] = time, remembered: int = _REMEMBERED) -> None:
        self._clock = clock
        self._keyring: Keyring | None = None
        self._verified: LRUCache[bytes, Verified] = LRUCache(remembered)

    def check(self, token: str, keyring: Keyring) -> SecurityContext:
        """Who asks. Raises Forbidden. The memory changes no answer: it is what `verify` would give now."""
        key = digest(token)
        found = keyring.find_by(key)
        if found is not None:
            return found
        if not looks_like_jwt(token):
            raise invalid_token()
        if keyring is not self._keyring:
            self._verified.clear()
            self._keyring = keyring
        now = self._clock()
        verified = self._verified.get(key)
        if verified is None:
            verified = self._verified[key] = verify(token, keyring, now=now)
        try:
            verified.check_time(now)
        except Forbidden:
            del self._verified[key]
            raise
        return verified.security

    def remembers(self, token: str, keyring: Keyring) -> bool:
        """Whether this text was verified under this keyring. It may have expired since."""
        return keyring is self._keyring and digest(token) in self._verified

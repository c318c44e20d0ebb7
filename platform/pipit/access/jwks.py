"""Public keys as JWKs (RFC 7517): read strictly, each bound for good to one algorithm.

A key's algorithm comes from the key (its `alg`, else the one of its type and curve) and never from a token: a token
that names another is refused (attacks A03, A04). Symmetric and private keys are no public keys, so they are never
taken. A token's `kid` is looked up exactly; an unknown one finds nothing, and there is no "first key" (A05).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import jwt as pyjwt

from pipit.errors import BadRequest, Reason

MAX_KEYS = 100
MAX_KID = 256
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192  # more would be somebody else's way to spend our time
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

# Type and curve -> the algorithms that such a key may be bound to; without an `alg` of its own it is the first.
_ALGORITHMS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("RSA", ""): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
ALGORITHMS: frozenset[str] = frozenset(name for names in _ALGORITHMS.values() for name in names)
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_JWS = pyjwt.PyJWS(algorithms=sorted(ALGORITHMS))


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """One public key and the one algorithm that it verifies."""

    kid: str  # empty: it has none
    algorithm: str
    jwk: pyjwt.PyJWK = field(repr=False, compare=False)

    def verifies(self, text: str) -> bool:
        try:
            _JWS.decode_complete(text, self.jwk, algorithms=[self.algorithm])
        except pyjwt.PyJWTError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class KeySet:
    """Keys by `kid` and algorithm, good until a moment: those of a URL end, unless they are fetched again."""

    keys: Mapping[tuple[str, str], VerifyingKey] = field(default_factory=dict)
    until: float = inf

    def find(self, kid: str | None, algorithm: str) -> VerifyingKey | None:
        """A token without a `kid` means the only key there is; with one, exactly that key."""
        if kid is not None:
            return self.keys.get((kid, algorithm)) if kid else None
        if len(self.keys) != 1:
            return None
        (only,) = self.keys.values()
        return only if only.algorithm == algorithm else None


def read_keys(document: object, *, until: float = inf, lenient: bool = False) -> KeySet:
    """A JWK Set: `{"keys": [...]}`. Raises BadRequest, with the reason.

    `lenient`: keys that cannot be used are left out, as long as one is left (a provider's set holds others too).
    """
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not listed:
        raise BadRequest(
            "A JWK Set needs a list 'keys'",
            hint='Such as {"keys": [{"kty": "RSA", "n": "", "e": ""}]}.',
            reason=Reason.KEY_INVALID,
        )
    if len(listed) > MAX_KEYS:
        raise BadRequest(f"A JWK Set has at most {MAX_KEYS} keys", reason=Reason.KEY_INVALID)
    found: dict[tuple[str, str], VerifyingKey] = {}
    twice: set[tuple[str, str]] = set()
    for number, item in enumerate(listed):
        try:
            key = _read_key(item, f"keys[{number}]")
        except BadRequest:
            if lenient:
                continue
            raise
        place = (key.kid, key.algorithm)
        if place in found:
            twice.add(place)
        found[place] = key
    if twice and not lenient:
        raise BadRequest(
            "Two keys of the JWK Set have the same 'kid'",
            hint="Give each key a 'kid' of its own.",
            reason=Reason.KEY_INVALID,
        )
    usable = {place: key for place, key in found.items() if place not in twice}
    if not usable:
        raise BadRequest(
            "The JWK Set has no key that can be used",
            hint=f"Keys for {', '.join(sorted(ALGORITHMS))}.",
            reason=Reason.KEY_INVALID,
        )
    return KeySet(MappingProxyType(usable), until)


def check_url(url: str) -> str:
    """Where a key set may be fetched from: https, or http on this machine. Raises BadRequest."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if not host or port == 0 or not re.fullmatch(r"[!-~]{1,2000}", url):
        raise BadRequest(
            "'jwks_url' is not a URL",
            hint="Such as https://example.com/.well-known/jwks.json",
            reason=Reason.KEY_INVALID,
        )
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise BadRequest("'jwks_url' must hold no user, password or fragment", reason=Reason.KEY_INVALID)
    if parts.scheme != "https" and not (parts.scheme == "http" and host in LOOPBACK):
        raise BadRequest(
            "'jwks_url' must be https",
            hint="http is for this machine only: http://127.0.0.1:8080/keys",
            reason=Reason.KEY_INVALID,
        )
    return url


def _read_key(item: object, where: str) -> VerifyingKey:
    if not isinstance(item, dict):
        raise BadRequest(f"{where} is not an object", reason=Reason.KEY_INVALID)
    kind = (_text(item, "kty", where), _text(item, "crv", where))
    allowed = _ALGORITHMS.get((kind[0], "" if kind[0] == "RSA" else kind[1]))
    if allowed is None:
        raise BadRequest(
            f"{where} is no public key for signatures",
            hint="RSA, EC (P-256, P-384, P-521) or OKP (Ed25519).",
            reason=Reason.KEY_INVALID,
        )
    if _PRIVATE & item.keys():
        raise BadRequest(
            f"{where} holds a private key",
            hint="Send the public part only, and replace the pair.",
            reason=Reason.KEY_INVALID,
        )
    if item.get("use", "sig") != "sig" or "verify" not in item.get("key_ops", ["verify"]):
        raise BadRequest(f"{where} is not for verifying signatures", reason=Reason.KEY_INVALID)
    algorithm = _text(item, "alg", where) or allowed[0]
    if algorithm not in allowed:
        raise BadRequest(
            f"{where} has an 'alg' that its type does not have",
            hint=f"One of {', '.join(allowed)}.",
            reason=Reason.KEY_INVALID,
        )
    kid = _text(item, "kid", where)
    if len(kid) > MAX_KID:
        raise BadRequest(f"{where} has a 'kid' of more than {MAX_KID} characters", reason=Reason.KEY_INVALID)
    public = {name: value for name, value in item.items() if name in ("kty", "crv", "n", "e", "x", "y")}
    if any(not isinstance(value, str) or len(value) > 4096 for value in public.values()):
        raise BadRequest(f"{where} cannot be read", reason=Reason.KEY_INVALID)
    try:
        jwk = pyjwt.PyJWK(public, algorithm=algorithm)
    except (pyjwt.PyJWTError, ValueError, TypeError, KeyError):
        raise BadRequest(f"{where} cannot be read as a {kind[0]} key", reason=Reason.KEY_INVALID) from None
    if kind[0] == "RSA" and not MIN_RSA_BITS <= jwk.key.key_size <= MAX_RSA_BITS:
        raise BadRequest(f"{where} must have {MIN_RSA_BITS} to {MAX_RSA_BITS} bits", reason=Reason.KEY_INVALID)
    return VerifyingKey(kid, algorithm, jwk)


def _text(item: Mapping[str, Any], name: str, where: str) -> str:
    value = item.get(name, "")
    if not isinstance(value, str):
        raise BadRequest(f"{where}.{name} is not a text", reason=Reason.KEY_INVALID)
    return value

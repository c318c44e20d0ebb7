"""JWTs of tenants: HS256 with the workspace's admin token as the key, or a key pair that the workspace registered.

There are two ways, and no token can cross from one to the other. With `alg` HS256 the key is the admin token of the
workspace that the payload names, a secret text. With any other the key is a public key of a registration
(`issuers.py`), which verifies its own algorithm only. The header names a key by `kid` at most; it brings none, and
nothing in it or in the payload makes the server fetch anything. Whatever is wrong up to the signature gives one and the
same text (which check failed is nobody's business), and an unknown workspace costs the same work as a wrong HS256
signature. PyJWT does the cryptography; the claims are read by `claims.py`. `exp` is mandatory and exclusive: at that
second the token is over.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import jwt as pyjwt

from pipit.access.claims import read_claims, read_times, strict_object, write_scopes
from pipit.access.context import Scope, SecurityContext
from pipit.access.issuers import accepts_audience, chosen_key, translated
from pipit.access.jwks import ALGORITHMS, MAX_KID
from pipit.access.keyring import Keyring, WorkspaceKey
from pipit.errors import BadRequest, Forbidden, Reason

MAX_TOKEN_BYTES = 16_384
ALGORITHM = "HS256"

# Compact serialization of a JWS, strict: no padding, no white space, a whole signature (32 bytes are the least).
_FORM = re.compile(r"[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]{43,}")
# Any other header field could ask for a key, an algorithm or an extension. None is honoured, so none is
# accepted. `x5t` only names a certificate; providers write it beside `kid`, and it is not looked at.
_HEADER_FIELDS = {"alg", "typ"}
_SIGNED_HEADER_FIELDS = {"alg", "typ", "kid", "x5t", "x5t#S256"}
_TYPES = ("JWT", "AT+JWT")
_JWS = pyjwt.PyJWS(algorithms=[ALGORITHM])
# Verifies in the place of a workspace that does not exist. Made anew in each process, so it signs nothing.
_NOBODY = secrets.token_hex(32)


@dataclass(frozen=True, slots=True)
class Verified:
    """What a good JWT means, and from when until when (`expires`: the first second too late)."""

    security: SecurityContext
    not_before: int
    expires: int
    keys_until: float = inf  # when the key that verified it stops to count

    def check_time(self, now: float) -> None:
        """Raises Forbidden outside the token's time, or its key's."""
        if now >= self.keys_until:
            raise invalid_token()
        if now >= self.expires:
            raise Forbidden(
                "The token has expired", hint="Make a new one with a later 'exp'.", reason=Reason.TOKEN_EXPIRED
            )
        if now < self.not_before:
            raise Forbidden(
                "The token is not valid yet",
                hint="Its 'nbf' is in the future: compare the two clocks.",
                reason=Reason.TOKEN_NOT_YET_VALID,
            )


def looks_like_jwt(text: str) -> bool:
    return text.count(".") == 2 and not text.startswith("p.")


def verify(text: str, keyring: Keyring, *, now: float) -> Verified:
    """Raises Forbidden for every token that is not exactly right."""
    if len(text) > MAX_TOKEN_BYTES:
        raise Forbidden(
            f"The token is longer than {MAX_TOKEN_BYTES} bytes",
            hint="Put fewer scopes into one token.",
            reason=Reason.TOKEN_TOO_LONG,
        )
    header, claims = read_segments(text)
    if header.get("alg") != ALGORITHM:
        return _verify_signed(text, header, claims, keyring, now)
    typ = header.get("typ", "JWT")
    if not header.keys() <= _HEADER_FIELDS or not isinstance(typ, str) or typ.upper() != "JWT":
        raise invalid_token()
    workspace_id = claims.get("workspace_id")
    key = keyring.workspaces.get(workspace_id) if isinstance(workspace_id, str) else None
    try:
        _JWS.decode_complete(text, key.admin_token if key else _NOBODY, algorithms=[ALGORITHM])
    except pyjwt.PyJWTError:
        raise invalid_token() from None
    if key is None:
        raise invalid_token()
    not_before, expires = read_times(claims)
    verified = Verified(read_claims(claims, key.id), not_before, expires)
    verified.check_time(now)
    return verified


def read_segments(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and payload of a text in a JWT's form. Nothing of them is proved yet. Raises Forbidden."""
    if len(text) > MAX_TOKEN_BYTES or not _FORM.fullmatch(text):
        raise invalid_token()
    header, payload, signature = text.split(".")
    _decoded(signature)
    return _segment(header), _segment(payload)


def signed_header(header: Mapping[str, Any]) -> tuple[str, str | None] | None:
    """Algorithm and `kid` of a header that a public key may have signed; None for any other."""
    algorithm, typ, kid = header.get("alg"), header.get("typ", "JWT"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS or not header.keys() <= _SIGNED_HEADER_FIELDS:
        return None
    if not isinstance(typ, str) or typ.upper() not in _TYPES:
        return None
    if "kid" in header and (not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID):
        return None
    return algorithm, kid


def missing_keys(text: str, keyring: Keyring) -> list[str]:
    """The registered URLs where a key that this token names, and that is not known, may be. Proves nothing."""
    if not looks_like_jwt(text):
        return []
    try:
        header, claims = read_segments(text)
    except Forbidden:
        return []
    named = signed_header(header)
    if named is None:
        return []
    candidates = [one for one in keyring.issuers_for(claims) if one.issuer.jwks_url]
    return [one.issuer.jwks_url for one in candidates if one.keys.find(named[1], named[0]) is None]


def _verify_signed(
    text: str, header: Mapping[str, Any], claims: Mapping[str, Any], keyring: Keyring, now: float
) -> Verified:
    """A token that a registered key pair has signed."""
    named = signed_header(header)
    chosen = chosen_key(keyring.issuers_for(claims), named[1], named[0]) if named else None
    if chosen is None or now >= chosen[0].keys.until or not chosen[1].verifies(text):
        raise invalid_token()
    trusted, issuer = chosen[0], chosen[0].issuer
    id = trusted.workspace_id
    if claims.get("workspace_id", id if issuer.is_provider else None) != id:
        raise invalid_token()
    not_before, expires = read_times(claims)
    meaning = dict(claims)
    if issuer.issuer:  # who made it and for whom has been compared with the registration
        meaning.pop("iss", None)
        if issuer.audience and accepts_audience(issuer, meaning.get("aud")):
            meaning.pop("aud")
    security = read_claims(translated(issuer, claims) if issuer.is_provider else meaning, id)
    verified = Verified(security, not_before, expires, trusted.keys.until)
    verified.check_time(now)
    return verified


def mint(
    workspace_id: str,
    admin_token: str,
    *,
    name: str,
    scopes: Sequence[Scope],
    expires_at: int,
    context: Mapping[str, object] | None = None,
    rps: int = 0,
    environment: str = "",
) -> str:
    """A JWT that `verify` accepts until `expires_at`. Raises BadRequest where it would not."""
    payload: dict[str, object] = {
        "workspace_id": workspace_id,
        "name": name,
        "exp": expires_at,
        "scopes": write_scopes(scopes),
    }
    if context:
        payload["context"] = dict(context)
    if rps:
        payload["limits"] = {"rps": rps}
    if environment:
        payload["environment"] = environment
    keyring = Keyring.build([WorkspaceKey(workspace_id, "", admin_token)], [])
    try:
        text = sign(payload, admin_token)
        verify(text, keyring, now=expires_at - 1)
    except Forbidden as error:
        raise BadRequest(error.message, hint=error.hint, reason=Reason.CLAIM_INVALID) from None
    except (TypeError, ValueError, RecursionError):
        raise BadRequest("The token's values cannot be written as JSON", reason=Reason.CLAIM_INVALID) from None
    return text


def sign(payload: Mapping[str, object], admin_token: str) -> str:
    """A JWT of any payload: what a backend with the admin token signs. Whether `verify` takes it is another question.

    Raises TypeError, ValueError or RecursionError for what JSON cannot say.
    """
    body = json.dumps(payload, separators=(",", ":"), allow_nan=False).encode()
    return _JWS.encode(body, admin_token, algorithm=ALGORITHM)


def invalid_token() -> Forbidden:
    """The one answer to a token that nobody signed, or signed otherwise than we ask."""
    return Forbidden(
        "Invalid token",
        hint="Use a token of this server, or a JWT signed with HS256: the key is the admin token of the "
        "workspace, 'workspace_id' its id, the header only 'alg' and 'typ', and no name stands twice. A JWT of a key "
        "pair needs a registered key: the 'kid', 'iss' and 'aud' that were registered.", reason=Reason.TOKEN_INVALID,
    )


def _segment(text: str) -> dict[str, Any]:
    """A segment's JSON object."""
    try:
        return strict_object(_decoded(text))
    except ValueError:
        raise invalid_token() from None


def _decoded(text: str) -> bytes:
    """Base64 that decodes to the same bytes as another text is refused (A21)."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise invalid_token() from None
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise invalid_token()
    return data

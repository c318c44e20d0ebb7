"""JWTs of tenants: HS256 with the workspace's admin token as the key, and nothing else.

The key is the admin token of the workspace that the payload names; no header field can choose a key or an
algorithm. Whatever is wrong up to the signature gives one and the same text (which check failed is nobody's
business), and an unknown workspace costs the same work as a wrong signature. PyJWT does the cryptography;
the claims are read by `claims.py`. `exp` is mandatory and exclusive: at that second the token is over.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt as pyjwt

from pipit.access.claims import read_claims, read_times, strict_object, write_scopes
from pipit.access.context import Scope, SecurityContext
from pipit.access.keyring import Keyring, WorkspaceKey
from pipit.errors import BadRequest, Forbidden

MAX_TOKEN_BYTES = 16_384
ALGORITHM = "HS256"

# Compact serialization of a JWS, strict: no padding, no white space, a whole SHA-256 signature.
_FORM = re.compile(r"[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]{43}")
# Any other header field could ask for a key, an algorithm or an extension. None is honoured, so none is
# accepted.
_HEADER_FIELDS = {"alg", "typ"}
_JWS = pyjwt.PyJWS(algorithms=[ALGORITHM])
# Verifies in the place of a workspace that does not exist. Made anew in each process, so it signs nothing.
_NOBODY = secrets.token_hex(32)


@dataclass(frozen=True, slots=True)
class Verified:
    """What a good JWT means, and from when until when (`expires`: the first second too late)."""

    security: SecurityContext
    not_before: int
    expires: int

    def check_time(self, now: float) -> None:
        """Raises Forbidden outside the token's time."""
        if now >= self.expires:
            raise Forbidden("The token has expired", hint="Make a new one with a later 'exp'.")
        if now < self.not_before:
            raise Forbidden(
                "The token is not valid yet", hint="Its 'nbf' is in the future: compare the two clocks."
            )


def looks_like_jwt(text: str) -> bool:
    return text.count(".") == 2 and not text.startswith("p.")


def verify(text: str, keyring: Keyring, *, now: float) -> Verified:
    """Raises Forbidden for every token that is not exactly right."""
    if len(text) > MAX_TOKEN_BYTES:
        raise Forbidden(
            f"The token is longer than {MAX_TOKEN_BYTES} bytes", hint="Put fewer scopes into one token."
        )
    if not _FORM.fullmatch(text):
        raise invalid_token()
    header, payload, _ = text.split(".")
    _check_header(_segment(header))
    claims = _segment(payload)
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


def mint(
    workspace_id: str,
    admin_token: str,
    *,
    name: str,
    scopes: Sequence[Scope],
    expires_at: int,
    context: Mapping[str, object] | None = None,
    rps: int = 0,
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
    keyring = Keyring.build([WorkspaceKey(workspace_id, "", admin_token)], [])
    try:
        body = json.dumps(payload, separators=(",", ":"), allow_nan=False).encode()
        text = _JWS.encode(body, admin_token, algorithm=ALGORITHM)
        verify(text, keyring, now=expires_at - 1)
    except Forbidden as error:
        raise BadRequest(error.message, hint=error.hint) from None
    except (TypeError, ValueError, RecursionError):
        raise BadRequest("The token's values cannot be written as JSON") from None
    return text


def invalid_token() -> Forbidden:
    """The one answer to a token that nobody signed, or signed otherwise than we ask."""
    return Forbidden(
        "Invalid token",
        hint="Use a token of this server, or a JWT signed with HS256: the key is the admin token of the "
        "workspace, 'workspace_id' its id, the header only 'alg' and 'typ', and no name stands twice.",
    )


def _check_header(header: Mapping[str, Any]) -> None:
    if header.get("alg") != ALGORITHM or not header.keys() <= _HEADER_FIELDS:
        raise invalid_token()
    typ = header.get("typ", "JWT")
    if not isinstance(typ, str) or typ.upper() != "JWT":
        raise invalid_token()


def _segment(text: str) -> dict[str, Any]:
    """A segment's JSON object. Base64 that decodes to the same bytes as another text is refused (A21)."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
            raise invalid_token()
        return strict_object(data)
    except ValueError:
        raise invalid_token() from None

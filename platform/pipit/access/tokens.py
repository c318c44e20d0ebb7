"""The text of static tokens, and scope strings: `TYPE[:resource]`.

A static token is a random secret in the dialect's form, found again by its text alone: nothing in it is
trusted when it comes back. This module never writes a token into a message, and refuses a secret too short
to sign JWTs with.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import uuid
from collections.abc import Iterable
from functools import lru_cache

from pipit import jsontext
from pipit.access.context import Scope
from pipit.errors import BadRequest, Reason

# HS256 wants a key of at least the hash's size (RFC 7518, 3.2).
MIN_SECRET_BYTES = 32
HOST = "local"
_VISIBLE = re.compile(r"[!-~]*")
_SIGNATURE = re.compile(r"[A-Za-z0-9_-]{43}")  # 32 bytes

# Scope type -> whether it names a resource.
SCOPE_TYPES: dict[str, bool] = {
    "ADMIN": False,
    "ADMIN_USER": False,
    "TOKENS": False,
    "WORKSPACE:READ_ALL": False,
    "WORKSPACE:DEPLOY": False,
    "ORG_DATASOURCES:READ": False,
    "DATASOURCES:CREATE": False,
    "DATASOURCES:APPEND": True,
    "DATASOURCES:READ": True,
    "DATASOURCES:DROP": True,
    "PIPES:CREATE": False,
    "PIPES:READ": True,
    "PIPES:DROP": True,
}


def make_token(*, owner: str, id: str = "", host: str = HOST) -> str:
    """A new static token: `p.` + base64url(JSON) + `.` + 32 unguessable bytes.

    The last part is an HMAC under a key that is thrown away at once: the token can only be looked up, never
    computed.
    """
    body = jsontext.text({"u": owner, "id": id or str(uuid.uuid4()), "host": host})
    payload = _base64url(body.encode())
    signature = hmac.new(secrets.token_bytes(32), payload.encode(), hashlib.sha256).digest()
    return f"p.{payload}.{_base64url(signature)}"


def is_made(token: str) -> bool:
    """Whether `make_token` could have made it, from its first to its last byte."""
    return bool(token_id(token)) and _SIGNATURE.fullmatch(token.rpartition(".")[2]) is not None


def token_id(token: str) -> str:
    """The id inside a token that `make_token` made; empty for any other text."""
    parts = token.split(".")
    if len(parts) != 3 or parts[0] != "p":
        return ""
    try:
        body = jsontext.exact(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return ""
    found = body.get("id") if isinstance(body, dict) else None
    return found if isinstance(found, str) else ""


def check_admin_token(token: str, *, of: str = "") -> str:
    """The token itself, if it can serve as a secret and JWT key. Raises BadRequest, at start-up.

    `of` names another token than the default workspace's admin token.
    """
    name = f"The token '{of}'" if of else "The admin token (PIPIT_ADMIN_TOKEN)"
    hint = "Use a random secret, such as the output of `openssl rand -hex 32`; unset, one is made."
    if len(token.encode("utf-8", "surrogatepass")) < MIN_SECRET_BYTES:
        raise BadRequest(
            f"{name} is shorter than {MIN_SECRET_BYTES} bytes", hint=hint, reason=Reason.TOKEN_SECRET_UNFIT
        )
    if not _VISIBLE.fullmatch(token):
        raise BadRequest(
            f"{name} has a character that an Authorization header cannot carry",
            hint=hint,
            reason=Reason.TOKEN_SECRET_UNFIT,
        )
    if token.startswith(("-----BEGIN", "ssh-", "ecdsa-sha2-")):
        raise BadRequest(
            f"{name} looks like a public or private key; it must be a random secret",
            hint=hint,
            reason=Reason.TOKEN_SECRET_UNFIT,
        )
    return token


@lru_cache(maxsize=8192)
def parse_scope(text: str) -> Scope:
    """`PIPES:READ:top_pages` -> Scope. Raises BadRequest on an unknown type or a missing resource."""
    for type in sorted(SCOPE_TYPES, key=len, reverse=True):
        if text != type and not text.startswith(f"{type}:"):
            continue
        resource, _, filter = text[len(type) + 1 :].partition(":")
        scope = checked_scope(type, resource, filter)
        if text.endswith(":"):  # one scope has one text: texts are compared, and kept
            raise BadRequest(
                f"The scope '{text[:200]}' ends with a ':'",
                hint=f"Write {text.rstrip(':')[:200]}.",
                reason=Reason.SCOPE_INVALID,
            )
        return scope
    raise BadRequest(
        f"Unknown scope '{text[:200]}'", hint=f"Scopes are {', '.join(SCOPE_TYPES)}.", reason=Reason.SCOPE_INVALID
    )


def checked_scope(type: str, resource: str, filter: str = "") -> Scope:
    """A static token's scope, validated."""
    names_one = SCOPE_TYPES.get(type)
    if names_one is None:
        raise BadRequest(
            f"Unknown scope '{type[:200]}'", hint=f"Scopes are {', '.join(SCOPE_TYPES)}.", reason=Reason.SCOPE_INVALID
        )
    if names_one and not resource:
        raise BadRequest(
            f"The scope {type} needs a resource", hint=f"Write {type}:<name>.", reason=Reason.SCOPE_INVALID
        )
    if not names_one and (resource or filter):
        raise BadRequest(f"The scope {type} takes no resource", reason=Reason.SCOPE_INVALID)
    if filter:
        raise BadRequest(
            "A static token cannot carry a filter",
            hint="Only JWTs can: a DATASOURCES:READ scope with 'filter'.",
            reason=Reason.SCOPE_INVALID,
        )
    return Scope(type, resource)


def scope_objects(scopes: Iterable[Scope]) -> list[dict[str, str]]:
    """Scopes as the API shows them: `resource` and `filter` only where there is one."""
    listed = []
    for scope in scopes:
        shown = {"type": scope.type}
        if scope.resource:
            shown["resource"] = scope.resource
        if scope.filter:
            shown["filter"] = scope.filter
        listed.append(shown)
    return listed


def token_object(
    *,
    id: str,
    token: str,
    name: str,
    scopes: Iterable[Scope],
    origin: str,
    description: str = "",
    host: str = HOST,
    is_internal: bool = False,
) -> dict[str, object]:
    """A static token as `GET /v0/tokens` shows it (dialect 3.6), secret and all: for token managers only."""
    return {
        "id": id,
        "token": token,
        "name": name,
        "description": description,
        "scopes": scope_objects(scopes),
        "origin": origin,
        "host": host,
        "is_internal": is_internal,
    }


def digest(token: str) -> bytes:
    """What a token is looked up and named by: nobody can make two texts collide, or steer the time of a comparison."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

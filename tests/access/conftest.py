"""Two workspaces, their keyring, and a signer that can make any token, also the ones that no library would."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pipit.access.context import Scope
from pipit.access.keyring import Keyring, StaticToken, WorkspaceKey

NOW = 1_800_000_000

Sign = Callable[..., str]


def segment(data: object) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.fixture
def now() -> int:
    return NOW


@pytest.fixture
def one() -> WorkspaceKey:
    return WorkspaceKey("id-of-one", "one", "secret-of-workspace-one-0123456789abcdef")


@pytest.fixture
def two() -> WorkspaceKey:
    return WorkspaceKey("id-of-two", "two", "secret-of-workspace-two-0123456789abcdef")


@pytest.fixture
def keyring(one: WorkspaceKey, two: WorkspaceKey) -> Keyring:
    static = StaticToken(
        one.id, "7", "dashboards", "p.eyJ1Ijoib25lIn0.static-token-of-one", (Scope("PIPES:READ", "top_pages"),)
    )
    return Keyring.build([one, two], [static])


@pytest.fixture
def payload(one: WorkspaceKey) -> dict[str, Any]:
    """The claims of a good token; tests change one thing."""
    return {
        "workspace_id": one.id,
        "name": "acme",
        "exp": NOW + 60,
        "scopes": [{"type": "PIPES:READ", "resource": "top_pages", "fixed_params": {"customer_id": "acme"}}],
        "context": {"customer_id": "acme"},
        "limits": {"rps": 10},
    }


@pytest.fixture
def sign(one: WorkspaceKey) -> Sign:
    """Signs anything with HMAC: `payload` and `header` may be raw bytes."""

    def make(
        payload: Mapping[str, Any] | bytes,
        *,
        key: str | bytes = one.admin_token,
        header: Mapping[str, Any] | bytes | None = None,
        digest: Any = hashlib.sha256,
    ) -> str:
        head = {"alg": "HS256", "typ": "JWT"} if header is None else header
        signed = f"{segment(head)}.{segment(payload)}"
        secret = key.encode() if isinstance(key, str) else key
        return f"{signed}.{segment(hmac.new(secret, signed.encode(), digest).digest())}"

    return make

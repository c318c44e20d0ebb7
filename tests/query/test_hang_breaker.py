"""A read that made the engine hang is not run again at once by the same token."""

from __future__ import annotations

from typing import Any

import pytest

from pipit.access.context import Scope, SecurityContext, TokenKind
from pipit.engine.failures import HUNG, engine_error
from pipit.errors import QueryTimeout, RateLimited
from pipit.query.hang_breaker import HangBreaker
from projects import TENANTS
from serving import Workspace

pytestmark = pytest.mark.anyio

TENANT = SecurityContext("w", TokenKind.JWT, "acme", ())


def test_for_a_while_the_same_token_may_not_ask_the_same() -> None:
    now = 1000.0
    breaker = HangBreaker(seconds=300, clock=lambda: now)
    breaker.add(TENANT, "latest")
    with pytest.raises(RateLimited) as caught:
        breaker.check(TENANT, "latest")
    assert caught.value.headers == {"Retry-After": "300"}
    breaker.check(TENANT, "other")
    breaker.check(SecurityContext("w", TokenKind.JWT, "globex", ()), "latest")
    breaker.check(SecurityContext("v", TokenKind.JWT, "acme", ()), "latest")
    breaker.check(SecurityContext("w", TokenKind.JWT, "acme", (), context={"customer_id": "b"}), "latest")
    fixed = Scope("PIPES:READ", "latest", fixed_params={"customer_id": "b"})
    breaker.check(SecurityContext("w", TokenKind.JWT, "acme", (fixed,)), "latest")
    filtered = Scope("DATASOURCES:READ", "events", filter="customer_id = 'b'")
    breaker.check(SecurityContext("w", TokenKind.JWT, "acme", (filtered,)), "latest")
    now += 300
    breaker.check(TENANT, "latest")


def test_what_is_remembered_is_bounded() -> None:
    breaker = HangBreaker()
    for number in range(10_100):
        breaker.add(TENANT, str(number))
    breaker.check(TENANT, "0")
    with pytest.raises(RateLimited):
        breaker.check(TENANT, "10099")


async def test_the_read_is_refused_after_it_hung(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's part is in tests/engine/test_supervisor.py; here it only says what it says then."""
    await workspace.deploy(TENANTS)
    acme, globex = (
        workspace.tenant("latest", "chained", customer_id="a"),
        workspace.jwt({"type": "PIPES:READ", "resource": "latest"}, name="globex", context={"customer_id": "b"}),
    )
    failure = engine_error(159, f"Code: 159. DB::Exception: {HUNG}")
    assert isinstance(failure, QueryTimeout) and failure.hung

    def hangs(*_: Any, **__: Any) -> Any:
        raise failure

    with monkeypatch.context() as patched:
        patched.setattr(type(workspace.server.engine), "stream", hangs)
        assert (await workspace.get("/v0/pipes/latest.json", token=acme)).status == 408
    refused = await workspace.get("/v0/pipes/latest.json?limit=7", token=acme)
    assert refused.status == 429 and int(refused.headers["Retry-After"]) > 200, refused.text
    assert (await workspace.get("/v0/pipes/latest.json", token=globex)).status == 200
    assert (await workspace.get("/v0/pipes/latest.json")).status == 200

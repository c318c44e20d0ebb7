"""`limits.rps`: counted per workspace and token name (attack E09)."""

from __future__ import annotations

import pytest

from pipit.access.context import SecurityContext, TokenKind
from pipit.access.limits import RateLimiter
from pipit.errors import RateLimited


class Clock:
    now = 100.25

    def __call__(self) -> float:
        return self.now


def tenant(name: str = "acme", rps: int = 3, workspace: str = "w") -> SecurityContext:
    return SecurityContext(workspace, TokenKind.JWT, name, rps=rps)


def test_requests_above_the_limit_get_429_and_are_let_in_after_the_reset() -> None:
    clock = Clock()
    limiter = RateLimiter(clock=clock)
    remaining = [limiter.check(tenant())["X-RateLimit-Remaining"] for _ in range(3)]
    assert remaining == ["2", "1", "0"]
    for _ in range(2):
        with pytest.raises(RateLimited) as caught:
            limiter.check(tenant())
        assert caught.value.status == 429
        assert caught.value.headers == {
            "X-RateLimit-Limit": "3",
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": "1",
            "Retry-After": "1",
        }
    clock.now += int(caught.value.headers["Retry-After"])
    assert limiter.check(tenant())["X-RateLimit-Remaining"] == "2"


def test_a_long_run_never_gets_more_than_its_share() -> None:
    clock = Clock()
    limiter = RateLimiter(clock=clock)
    passed = 0
    for _ in range(400):
        try:
            limiter.check(tenant(rps=5))
            passed += 1
        except RateLimited:
            pass
        clock.now += 0.03125
    assert 5 * 12 <= passed <= 5 * 14


def test_tokens_of_one_name_share_and_others_do_not_e09() -> None:
    limiter = RateLimiter(clock=Clock())
    limiter.check(tenant())
    assert limiter.check(tenant())["X-RateLimit-Remaining"] == "1"
    assert limiter.check(tenant("rival"))["X-RateLimit-Remaining"] == "2"
    assert limiter.check(tenant(workspace="v"))["X-RateLimit-Remaining"] == "2"


def test_each_token_is_held_to_its_own_limit() -> None:
    limiter = RateLimiter(clock=Clock())
    for _ in range(3):
        limiter.check(tenant(rps=10))
    with pytest.raises(RateLimited):
        limiter.check(tenant(rps=3))
    assert limiter.check(tenant(rps=10))["X-RateLimit-Remaining"] == "6"


def test_no_limit_no_headers() -> None:
    limiter = RateLimiter(clock=Clock())
    for security in (tenant(rps=0), SecurityContext("w", TokenKind.STATIC, "t", rps=1)):
        for _ in range(10):
            assert limiter.check(security) == {}


def test_the_memory_is_bounded() -> None:
    limiter = RateLimiter(clock=Clock(), names=8)
    for i in range(100):
        limiter.check(tenant(f"t{i}", rps=1))
    assert len(limiter._windows) == 8


def test_writes_are_counted_for_each_token_and_data_source() -> None:
    limiter = RateLimiter(clock=Clock())
    admin = SecurityContext("w", TokenKind.ADMIN, "admin")
    assert limiter.check_write(admin, "t", 0) == {} == limiter.check(admin)
    assert [limiter.check_write(one, name, 1)["X-RateLimit-Remaining"] for one in (admin, tenant()) for name in ("t", "u")] == ["0"] * 4
    with pytest.raises(RateLimited, match="to 't'") as caught:
        limiter.check_write(admin, "t", 1)
    assert caught.value.headers["Retry-After"] == caught.value.headers["X-RateLimit-Reset"] == "1"
    assert limiter.check(tenant())["X-RateLimit-Remaining"] == "2", "reads have a limit of their own"

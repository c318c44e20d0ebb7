"""One token per request, remembered no longer than it counts (attacks A10, A16, A17, F07, F08, F12)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipit.access.authenticate import Authenticator, bearer_tokens, one_token
from pipit.access.context import TokenKind
from pipit.access.jwt import verify
from pipit.access.keyring import Keyring, WorkspaceKey
from pipit.errors import BadRequest, Forbidden

Sign = Callable[..., str]


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(now: int) -> Clock:
    return Clock(now)


@pytest.fixture
def authenticator(clock: Clock) -> Authenticator:
    return Authenticator(clock=clock, remembered=4)


@pytest.mark.parametrize("header", ["Bearer abc", "bearer abc", "BEARER  abc "])
def test_a_bearer_header(header: str) -> None:
    assert bearer_tokens([header]) == ["abc"]


@pytest.mark.parametrize("header", ["", "abc", "Basic YTpi", "Bearer", "Bearerabc", "Token abc"])
def test_other_headers_carry_no_token(header: str) -> None:
    assert bearer_tokens([header]) == []
    with pytest.raises(Forbidden, match="no token"):
        one_token(bearer_tokens([header]), [])


def test_a17_two_authorization_headers() -> None:
    for headers in (["Bearer a", "Bearer b"], ["Bearer a", "Bearer a"], ["Basic YTpi", "Bearer a"]):
        with pytest.raises(BadRequest) as caught:
            bearer_tokens(headers)
        assert caught.value.status == 400


@pytest.mark.parametrize(
    ("header", "query"), [(["a"], ["b"]), (["a"], ["a"]), ([], ["a", "b"]), ([], ["a", "a"]), (["a"], [""])]
)
def test_a17_two_tokens(header: list[str], query: list[str]) -> None:
    with pytest.raises(BadRequest) as caught:
        one_token(header, query)
    assert caught.value.status == 400


@pytest.mark.parametrize(("header", "query"), [([], []), ([""], []), ([], [""])])
def test_no_token(header: list[str], query: list[str]) -> None:
    with pytest.raises(Forbidden) as caught:
        one_token(header, query)
    assert caught.value.status == 403
    assert "Bearer" in caught.value.hint


def test_every_kind_of_token(
    authenticator: Authenticator, keyring: Keyring, one: WorkspaceKey, sign: Sign, payload: dict[str, Any]
) -> None:
    tokens = {
        one.admin_token: TokenKind.ADMIN,
        "p.eyJ1Ijoib25lIn0.static-token-of-one": TokenKind.STATIC,
        sign(payload): TokenKind.JWT,
    }
    for text, kind in tokens.items():
        for _ in range(2):
            assert authenticator.check(text, keyring).kind is kind


@pytest.mark.parametrize("text", ["x", "p.e.x", "a.b", "a.b.c", "Bearer x", "p." + "e" * 40, "\0", "\ud800", "🐦" * 20])
def test_unknown_tokens_get_one_answer(authenticator: Authenticator, keyring: Keyring, text: str) -> None:
    with pytest.raises(Forbidden) as caught:
        authenticator.check(text, keyring)
    assert caught.value.message == "Invalid token"


def test_a_bearer_list_is_no_token(authenticator: Authenticator, keyring: Keyring, one: WorkspaceKey) -> None:
    with pytest.raises(Forbidden):
        authenticator.check(*bearer_tokens([f"Bearer {one.admin_token}, Bearer x"]), keyring)


def test_a10_a_remembered_token_expires_on_time(
    authenticator: Authenticator, clock: Clock, keyring: Keyring, sign: Sign, payload: dict[str, Any]
) -> None:
    text = sign(payload)
    first = authenticator.check(text, keyring)
    assert authenticator.check(text, keyring) is first, "it was remembered"
    clock.now += 60
    for _ in range(2):
        with pytest.raises(Forbidden, match="expired"):
            authenticator.check(text, keyring)


def test_a13_a_clock_that_goes_back_is_noticed(
    authenticator: Authenticator, clock: Clock, keyring: Keyring, sign: Sign, payload: dict[str, Any], now: int
) -> None:
    text = sign(payload | {"nbf": now})
    authenticator.check(text, keyring)
    clock.now -= 1
    with pytest.raises(Forbidden, match="not valid yet"):
        authenticator.check(text, keyring)


def test_a16_a_revoked_static_token_ends_at_once(
    authenticator: Authenticator, keyring: Keyring, one: WorkspaceKey, two: WorkspaceKey
) -> None:
    text = "p.eyJ1Ijoib25lIn0.static-token-of-one"
    authenticator.check(text, keyring)
    with pytest.raises(Forbidden):
        authenticator.check(text, Keyring.build([one, two], []))


def test_a16_f12_a_changed_secret_ends_its_jwts_at_once(
    authenticator: Authenticator,
    keyring: Keyring,
    one: WorkspaceKey,
    two: WorkspaceKey,
    sign: Sign,
    payload: dict[str, Any],
) -> None:
    text = sign(payload)
    authenticator.check(text, keyring)
    changed = WorkspaceKey(one.id, one.name, "another-secret-of-workspace-one-0123456789")
    with pytest.raises(Forbidden, match="Invalid token"):
        authenticator.check(text, Keyring.build([changed, two], []))
    with pytest.raises(Forbidden, match="Invalid token"):
        authenticator.check(text, Keyring.build([two], []))


def test_f08_a_refusal_is_not_remembered(
    authenticator: Authenticator, clock: Clock, keyring: Keyring, sign: Sign, payload: dict[str, Any], now: int
) -> None:
    text = sign(payload | {"nbf": now + 1})
    with pytest.raises(Forbidden):
        authenticator.check(text, keyring)
    clock.now += 1
    assert authenticator.check(text, keyring).name == "acme"


def test_f12_the_memory_is_bounded_and_tells_tokens_apart(
    authenticator: Authenticator, keyring: Keyring, sign: Sign, payload: dict[str, Any], now: int
) -> None:
    texts = {f"tenant-{i}": sign(payload | {"name": f"tenant-{i}"}) for i in range(20)}
    for _ in range(3):
        for name, text in texts.items():
            assert authenticator.check(text, keyring).name == name
            assert authenticator.check(text, keyring) == verify(text, keyring, now=now).security
            with pytest.raises(Forbidden):
                authenticator.check(text[:-1] + ("A" if text[-1] != "A" else "B"), keyring)

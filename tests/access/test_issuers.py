"""Tokens that a key pair signed: whose registration they find, what they mean, and every way to be refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipit.access.authenticate import Authenticator
from pipit.access.issuers import Issuer, TrustedIssuer, check_unambiguous, read_issuer
from pipit.access.jwks import KeySet, read_keys
from pipit.access.jwt import missing_keys, verify
from pipit.access.keyring import Keyring, WorkspaceKey
from pipit.errors import BadRequest, Conflict, Forbidden
from signing import ALGORITHMS, Pair, hmac_token, jwks, pair

Claims = dict[str, Any]
ISS, AUD = "https://idp.example.com/", "pipit-app"
PIPES = [{"type": "PIPES:READ", "resource": "usage"}, {"type": "DATASOURCES:APPEND", "resource": "events"}]


def registration(*pairs: Pair, **more: Any) -> Issuer:
    return read_issuer({"jwks": jwks(*pairs)} | more, "k")


def provider(*pairs: Pair, **more: Any) -> Issuer:
    return registration(
        *pairs,
        **{"issuer": ISS, "audience": AUD, "scopes": PIPES, "context": {"customer_id": "https://acme.com/org"}} | more,
    )


@pytest.fixture
def ring(one: WorkspaceKey, two: WorkspaceKey) -> Callable[..., Keyring]:
    def make(*issuers: Issuer | tuple[str, Issuer]) -> Keyring:
        named = [i if isinstance(i, tuple) else (one.id, i) for i in issuers]
        return Keyring.build([one, two], [], [TrustedIssuer(w, i, read_keys(i.jwks)) for w, i in named])

    return make


@pytest.fixture
def oidc(now: int) -> Claims:
    return {
        "iss": ISS,
        "aud": AUD,
        "sub": "auth0|7",
        "exp": now + 60,
        "iat": now,
        "https://acme.com/org": "acme",
        "app_metadata": {"teams": ["red", "blue"], "env": "eu"},
        "scope": "openid profile",
    }


def refused(text: str, keyring: Keyring, now: float) -> Forbidden:
    with pytest.raises(Forbidden) as caught:
        verify(text, keyring, now=now)
    return caught.value


Ring = Callable[..., Keyring]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_teams_own_key_signs_our_payload(ring: Ring, payload: Claims, now: int, algorithm: str) -> None:
    key = pair(algorithm)
    for keyring, claims, header in (
        (ring(registration(key)), payload, {}),
        (ring(registration(key)), payload, {"kid": None}),
        (ring(registration(key)), payload | {"iss": "pipit"}, {}),
        (ring(registration(key)), payload | {"aud": payload["workspace_id"]}, {"x5t": "abc", "typ": None}),
        (ring(registration(key, issuer="billing")), payload | {"iss": "billing"}, {}),
        (ring(registration(key, issuer="billing", audience="x")), payload | {"iss": "billing", "aud": ["y", "x"]}, {}),
    ):
        verified = verify(key.sign(claims, **header), keyring, now=now)
        security = verified.security
        assert security.is_tenant
        assert (security.workspace_id, security.name, security.rps) == ("id-of-one", "acme", 10)
        assert dict(security.context) == {"customer_id": "acme"}
        assert dict(security.scopes[0].fixed_params) == {"customer_id": "acme"}
        assert verified.expires == now + 60


def test_an_own_key_needs_workspace_and_scopes(ring: Ring, payload: Claims, now: int) -> None:
    key = pair("ES256")
    keyring = ring(registration(key, issuer="billing"))
    for name in ("workspace_id", "scopes", "exp"):
        refused(key.sign({k: v for k, v in payload.items() if k != name} | {"iss": "billing"}), keyring, now)
    refused(key.sign(payload), keyring, now)  # without its iss
    refused(key.sign(payload | {"iss": "billing", "aud": "somebody"}), keyring, now)
    refused(key.sign(payload), ring(), now)


def test_an_identity_providers_token(ring: Ring, oidc: Claims, now: int) -> None:
    key = pair("RS256")
    keyring = ring(
        provider(
            key,
            context={"customer_id": "https://acme.com/org", "teams": ["app_metadata", "teams"], "seat": "seat"},
            fixed_params={"customer": "https://acme.com/org"},
            fixed_values={"customer_id": "https://acme.com/org"},
            optional=["seat"],
            environment=["app_metadata", "env"],
            rps=5,
        )
    )
    for aud in (AUD, ["other", AUD]):
        security = verify(key.sign(oidc | {"aud": aud}, typ="at+jwt"), keyring, now=now).security
        assert security.is_tenant
        assert (security.workspace_id, security.name, security.rps) == ("id-of-one", "auth0|7", 5)
        assert dict(security.context) == {"customer_id": "acme", "teams": ("red", "blue")}
        assert security.environment == "eu"
        read, append = security.scopes
        assert (read.resource, dict(read.fixed_params)) == ("usage", {"customer": "acme"})
        assert (append.resource, dict(append.fixed_values)) == ("events", {"customer_id": "acme"})


def test_what_a_providers_token_says_of_scopes_counts_for_nothing(ring: Ring, oidc: Claims, now: int) -> None:
    key = pair("RS256")
    keyring = ring(provider(key))
    own = {
        "scopes": [{"type": "PIPES:READ", "resource": "secret"}, {"type": "ADMIN"}],
        "context": {"customer_id": "rival"},
        "name": "somebody",
        "limits": {"rps": 0},
        "environment": "other",
    }
    plain, loud = (verify(key.sign(c), keyring, now=now).security for c in (oidc, oidc | own))
    assert plain == loud
    assert dict(loud.context) == {"customer_id": "acme"}
    refused(key.sign(oidc | {"workspace_id": "id-of-two"}), keyring, now)


@pytest.mark.parametrize("value", [None, "", [], {}, {"a": 1}, [[]], ["", "a"], [None], ["a", 1], "a\0"])
def test_a_mapped_claim_without_a_value_is_never_no_filter(ring: Ring, oidc: Claims, now: int, value: object) -> None:
    key = pair("ES256")
    for mapped in ({"context": {"customer_id": "org"}}, {"fixed_params": {"customer_id": "org"}, "context": {}}):
        keyring = ring(provider(key, **mapped))
        refused(key.sign(oidc | {"org": value}), keyring, now)
        assert "'org'" in refused(key.sign(oidc), keyring, now).message
    keyring = ring(provider(key, context={"customer_id": "org"}, optional=["customer_id"]))
    assert dict(verify(key.sign(oidc), keyring, now=now).security.context) == {}
    refused(key.sign(oidc | {"org": value}), keyring, now)


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://idp.example.com"},
        {"iss": "https://IDP.example.com/"},
        {"iss": None},
        {"iss": [ISS]},
        {"iss": {}},
        {"aud": "other"},
        {"aud": []},
        {"aud": None},
        {"aud": {AUD: 1}},
        {"aud": AUD.upper()},
        {"aud": f"x {AUD}"},
        {"sub": ""},
        {"sub": 7},
        {"sub": None},
    ],
)
def test_a15_another_issuer_or_audience(ring: Ring, oidc: Claims, now: int, change: Claims) -> None:
    key = pair("RS256")
    refused(key.sign(oidc | change), ring(provider(key)), now)
    (name,) = change
    refused(key.sign({k: v for k, v in oidc.items() if k != name}), ring(provider(key)), now)


def test_two_workspaces_share_an_issuer_by_audience_only(ring: Ring, oidc: Claims, now: int) -> None:
    key, other = pair("RS256"), pair("RS256", number=1)
    mine, theirs = provider(key), provider(other, audience="their-app")
    keyring = ring(mine, ("id-of-two", theirs))
    assert verify(key.sign(oidc), keyring, now=now).security.workspace_id == "id-of-one"
    of_two = verify(other.sign(oidc | {"aud": "their-app"}), keyring, now=now).security
    assert of_two.workspace_id == "id-of-two"
    refused(other.sign(oidc), keyring, now)  # the key of one registration verifies for no other
    refused(key.sign(oidc | {"aud": "their-app"}), keyring, now)
    for aud in ([AUD, "their-app"], ["their-app", AUD]):
        for signer in (key, other):
            refused(signer.sign(oidc | {"aud": aud}), keyring, now)  # two could be meant: none is


@pytest.mark.parametrize("pairs", [(AUD, AUD), ("", AUD), (AUD, ""), ("", "")])
def test_registrations_that_could_take_one_token_are_refused(pairs: tuple[str, str]) -> None:
    two = [Issuer(name=str(i), issuer=ISS, audience=aud) for i, aud in enumerate(pairs)]
    with pytest.raises(Conflict, match="audience"):
        check_unambiguous(two)
    for workspaces in (("a", "b"), ("a", "a")):
        with pytest.raises(Conflict):
            Keyring.build(
                [WorkspaceKey(w, w, w * 40) for w in set(workspaces)],
                [],
                [TrustedIssuer(w, i, KeySet()) for w, i in zip(workspaces, two, strict=True)],
            )
    check_unambiguous([Issuer(name="a", issuer=ISS, audience="x"), Issuer(name="b", issuer=ISS, audience="y")])


def test_a_key_opens_its_own_workspace_only(ring: Ring, payload: Claims, now: int) -> None:
    key = pair("ES256")
    keyring = ring(registration(key))
    assert verify(key.sign(payload), keyring, now=now)
    refused(key.sign(payload | {"workspace_id": "id-of-two"}), keyring, now)
    both = ring(registration(key), ("id-of-two", registration(pair("ES256", number=1))))
    refused(key.sign(payload | {"workspace_id": "id-of-two"}), both, now)


def test_several_own_keys_are_told_apart_by_kid(ring: Ring, payload: Claims, now: int) -> None:
    a, b = pair("ES256", "a"), pair("ES256", "b")
    two = ring(read_issuer({"jwks": jwks(a)}, "a"), read_issuer({"jwks": jwks(b)}, "b"))
    for key in (a, b):
        assert verify(key.sign(payload), two, now=now)
        refused(key.sign(payload, kid=None), two, now)
    refused(a.sign(payload, kid="b"), two, now)


def test_keys_that_are_too_old_count_for_nothing(ring: Ring, one: WorkspaceKey, payload: Claims, now: int) -> None:
    key = pair("ES256")
    issuer = read_issuer({"jwks_url": "https://example.com/keys"}, "k")
    keys = read_keys(jwks(key), until=now + 10)
    keyring = Keyring.build([one], [], [TrustedIssuer(one.id, issuer, keys)])
    text = key.sign(payload)
    clock = [float(now)]
    authenticator = Authenticator(clock=lambda: clock[0])
    assert authenticator.check(text, keyring).name == "acme"
    clock[0] += 10
    with pytest.raises(Forbidden, match="Invalid token"):
        authenticator.check(text, keyring)
    with pytest.raises(Forbidden, match="Invalid token"):
        Authenticator(clock=lambda: clock[0]).check(text, keyring)


def test_f12_what_was_verified_is_forgotten_with_the_key(ring: Ring, payload: Claims, now: int) -> None:
    old, new = pair("ES256"), pair("ES256", number=1)
    authenticator = Authenticator(clock=lambda: float(now))
    before, after, none = ring(registration(old)), ring(registration(new)), ring()
    text = old.sign(payload)
    assert authenticator.check(text, before) is authenticator.check(text, before)
    assert authenticator.remembers(text, before)
    for keyring in (after, none):
        assert not authenticator.remembers(text, keyring)
        with pytest.raises(Forbidden):
            authenticator.check(text, keyring)
    assert authenticator.check(new.sign(payload), after).name == "acme"


def test_only_unknown_keys_of_registered_urls_are_asked_for(one: WorkspaceKey, payload: Claims, now: int) -> None:
    key, other = pair("ES256", "a"), pair("ES256", "b")
    url = "https://example.com/keys"
    issuer = read_issuer({"jwks_url": url, "issuer": "team"}, "k")
    keyring = Keyring.build([one], [], [TrustedIssuer(one.id, issuer, read_keys(jwks(key)))])
    claims = payload | {"iss": "team"}
    assert missing_keys(other.sign(claims), keyring) == [url]
    assert missing_keys(key.sign(claims), keyring) == []
    for text in (
        other.sign(payload),
        other.sign(claims | {"iss": "https://evil.example.com/keys"}),
        other.sign(claims, jku="https://evil.example.com/keys"),
        other.sign(claims, alg="HS256"),
        other.sign(claims, kid=""),
        hmac_token(claims, b"x" * 32),
        "a.b.c",
        "",
        one.admin_token,
    ):
        assert missing_keys(text, keyring) == []


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({}, "either"),
        ({"jwks": jwks(pair("ES256")), "jwks_url": "https://x/"}, "either"),
        ({"jwks": {"keys": []}}, "JWK Set"),
        ({"jwks_file": "/etc/keys"}, "unknown field"),
        ({"jwks_url": "http://example.com/"}, "https"),
        ({"jwks_url": 1}, "Expected"),
        ({"audience": "a"}, "issuer"),
        ({"issuer": "pipit"}, "pipit"),
        ({"issuer": "a\n"}, "printable"),
        ({"context": {"a": "b"}}, "without 'scopes'"),
        ({"environment": "b"}, "without 'scopes'"),
        ({"rps": 4}, "without 'scopes'"),
        ({"scopes": PIPES}, "'issuer' and 'audience'"),
        ({"scopes": PIPES, "issuer": ISS}, "'issuer' and 'audience'"),
        ({"scopes": [{"type": "ADMIN"}], "issuer": ISS, "audience": AUD}, "scope"),
        ({"scopes": [{"type": "PIPES:READ"}], "issuer": ISS, "audience": AUD}, "resource"),
        ({"scopes": PIPES, "issuer": ISS, "audience": AUD, "context": {"a": ""}}, "claim"),
        ({"scopes": PIPES, "issuer": ISS, "audience": AUD, "context": {"a": []}}, "claim"),
        ({"scopes": PIPES, "issuer": ISS, "audience": AUD, "context": {"a": ["x", ""]}}, "claim"),
        ({"scopes": PIPES, "issuer": ISS, "audience": AUD, "context": {"a": 5}}, "cannot be read"),
        ({"scopes": PIPES, "issuer": ISS, "audience": AUD, "token_name": ""}, "claim"),
        ({"scopes": PIPES, "issuer": ISS, "audience": AUD, "optional": ["b"]}, "optional"),
        ({"scopes": PIPES, "issuer": ISS, "audience": AUD, "rps": -1}, "rps"),
        ({"scopes": PIPES[:1], "issuer": ISS, "audience": AUD, "fixed_values": {"a": "b"}}, "DATASOURCES:APPEND"),
        (
            {
                "scopes": [PIPES[0] | {"fixed_params": {"a": "1"}}],
                "issuer": ISS,
                "audience": AUD,
                "fixed_params": {"a": "b"},
            },
            "fixed twice",
        ),
    ],
)
def test_what_is_no_registration(document: Claims, reason: str) -> None:
    if not document.keys() & {"jwks", "jwks_url", "jwks_file"} and document:
        document = document | {"jwks": jwks(pair("ES256"))}
    with pytest.raises(BadRequest, match=reason):
        read_issuer(document, "k")


@pytest.mark.parametrize("name", ["", "a b", "../x", "a/b", "-a", "x" * 65, "é"])
def test_a_registrations_name(name: str) -> None:
    with pytest.raises(BadRequest, match="name"):
        read_issuer({"jwks": jwks(pair("ES256"))}, name)

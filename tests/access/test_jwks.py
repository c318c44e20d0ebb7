"""Public keys: read strictly, each bound to one algorithm."""

from __future__ import annotations

from typing import Any

import pytest

from pipit.access.jwks import MAX_KEYS, check_url, read_keys
from pipit.errors import BadRequest
from signing import ALGORITHMS, jwks, pair, small_rsa


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "ES512"])
def test_a_key_verifies_its_own_algorithm(algorithm: str) -> None:
    mine, other = pair(algorithm), pair(algorithm, number=1)
    (key,) = read_keys(jwks(mine)).keys.values()
    assert (key.kid, key.algorithm) == ("k1", algorithm)
    text = mine.sign({"a": 1})
    assert key.verifies(text)
    head, body, signature = text.split(".")
    assert not key.verifies(f"{head}.{body[:-1]}{'A' if body[-1] != 'A' else 'B'}.{signature}")
    assert not key.verifies(other.sign({"a": 1}))
    assert not key.verifies(mine.sign({"a": 1}, alg="HS256"))
    assert not key.verifies(mine.sign({"a": 1}, alg="none"))


def test_an_rsa_key_is_bound_to_its_alg_and_to_rs256_without_one() -> None:
    rsa = pair("RS256")
    assert [k.algorithm for k in read_keys(jwks(rsa)).keys.values()] == ["RS256"]
    (bound,) = read_keys({"keys": [rsa.jwk(alg="PS256")]}).keys.values()
    assert bound.algorithm == "PS256"
    assert not bound.verifies(rsa.sign({"a": 1}))
    assert not bound.verifies(rsa.sign({"a": 1}, alg="PS256"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kty": "oct", "k": "c2VjcmV0"}, "public key"),
        ({"kty": None}, "public key"),
        ({"kty": ["RSA"]}, "not a text"),
        ({"d": "AAAA"}, "private"),
        ({"p": "AAAA"}, "private"),
        ({"use": "enc"}, "verifying"),
        ({"key_ops": ["sign"]}, "verifying"),
        ({"alg": "HS256"}, "'alg'"),
        ({"alg": "none"}, "'alg'"),
        ({"alg": "ES256"}, "'alg'"),
        ({"alg": 1}, "not a text"),
        ({"kid": 1}, "not a text"),
        ({"kid": "k" * 300}, "kid"),
        ({"n": None}, "read as"),
        ({"n": "!!"}, "read|bits"),
        ({"n": 5}, "cannot be read"),
        ({"n": "x" * 5000}, "cannot be read"),
        ({"e": "AA"}, "read"),
    ],
)
def test_what_is_no_public_key_is_refused(change: dict[str, Any], reason: str) -> None:
    good, bad = pair("EdDSA"), pair("RS256").jwk(**change)
    with pytest.raises(BadRequest, match=reason):
        read_keys({"keys": [bad]})
    with pytest.raises(BadRequest, match=reason):
        read_keys({"keys": [good.jwk(kid="good"), bad]})
    # A provider's set may hold keys for other things beside.
    assert [k.kid for k in read_keys({"keys": [bad, good.jwk(kid="good")]}, lenient=True).keys.values()] == ["good"]
    with pytest.raises(BadRequest, match="no key"):
        read_keys({"keys": [bad]}, lenient=True)


@pytest.mark.parametrize(
    ("algorithm", "crv"), [("ES256", "secp256k1"), ("ES256", "P-384"), ("EdDSA", "Ed448"), ("EdDSA", "X25519")]
)
def test_a_curve_that_is_not_the_keys(algorithm: str, crv: str) -> None:
    with pytest.raises(BadRequest):
        read_keys({"keys": [pair(algorithm).jwk(crv=crv)]})


def test_small_rsa_keys_are_refused() -> None:
    with pytest.raises(BadRequest, match="2048"):
        read_keys(jwks(small_rsa()))


@pytest.mark.parametrize("document", [None, [], {}, {"keys": []}, {"keys": {}}, {"keys": [1]}, "x", {"keys": None}])
def test_what_is_no_key_set(document: object) -> None:
    for lenient in (False, True):
        with pytest.raises(BadRequest):
            read_keys(document, lenient=lenient)


def test_a_key_set_is_bounded() -> None:
    with pytest.raises(BadRequest, match=str(MAX_KEYS)):
        read_keys({"keys": [pair("EdDSA").jwk(kid=f"k{i}") for i in range(MAX_KEYS + 1)]})


def test_a_kid_is_looked_up_exactly() -> None:
    one, two = pair("ES256", "a"), pair("ES256", "b")
    keys = read_keys(jwks(one, two))
    assert keys.find("a", "ES256") != keys.find("b", "ES256")
    for kid in (None, "", "A", "a ", "c", "../a"):
        assert keys.find(kid, "ES256") is None, "no fallback to a first key"
    assert keys.find("a", "RS256") is None
    only = read_keys(jwks(one))
    assert only.find(None, "ES256") is not None
    assert only.find(None, "RS256") is None
    nameless = read_keys({"keys": [one.jwk(kid=None)]})
    assert nameless.find(None, "ES256") is not None
    assert nameless.find("", "ES256") is None
    assert nameless.find("a", "ES256") is None


def test_two_keys_of_one_kid_are_none() -> None:
    twice = {"keys": [pair("ES256", "a").jwk(), pair("ES256", "a", 1).jwk(), pair("ES256", "b").jwk()]}
    with pytest.raises(BadRequest, match="same 'kid'"):
        read_keys(twice)
    assert [k.kid for k in read_keys(twice, lenient=True).keys.values()] == ["b"]


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/jwks.json",
        "https://10.0.0.1:8443/realms/x?y=z",
        "http://127.0.0.1:8080/k",
        "http://localhost/k",
        "http://[::1]:80/k",
    ],
)
def test_where_keys_may_be_fetched(url: str) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/jwks.json",
        "http://127.0.0.1.example.com/",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "ftp://example.com/",
        "//example.com/",
        "https://",
        "https:///keys",
        "https://user:pw@example.com/",
        "https://user@example.com/",
        "https://example.com/#x",
        "https://example.com:99999/",
        "https://example.com:0/",
        "https://exa mple.com/",
        "https://example.com/\r\nHost: x",
        "https://[::1/",
        "https://example.com/" + "x" * 3000,
        "",
    ],
)
def test_where_keys_may_not_be_fetched(url: str) -> None:
    with pytest.raises(BadRequest):
        check_url(url)

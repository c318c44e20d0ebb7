"""JWTs: what is accepted, and every way to be refused (attacks A01 to A26, B21)."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

import jwt as pyjwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import examples
from pipit.access.context import Scope, TokenKind
from pipit.access.jwt import MAX_TOKEN_BYTES, mint, read_segments, verify
from pipit.access.keyring import Keyring, WorkspaceKey
from pipit.errors import BadRequest, Forbidden

Sign = Callable[..., str]
Claims = dict[str, Any]


def refusal(text: str, keyring: Keyring, now: float) -> Forbidden:
    with pytest.raises(Forbidden) as caught:
        verify(text, keyring, now=now)
    assert caught.value.status == 403
    assert "secret-of" not in str(caught.value.body())
    return caught.value


def test_a_good_token_says_who_asks(keyring: Keyring, sign: Sign, payload: Claims, now: int) -> None:
    security = verify(sign(payload), keyring, now=now).security
    assert security.kind is TokenKind.JWT
    assert security.is_tenant
    assert not security.is_admin
    assert (security.workspace_id, security.name, security.rps) == ("id-of-one", "acme", 10)
    assert dict(security.context) == {"customer_id": "acme"}
    assert [dict(s.fixed_params) for s in security.scopes_for("PIPES:READ", "top_pages")] == [
        {"customer_id": "acme"}
    ]
    with pytest.raises(TypeError):
        security.context["customer_id"] = "rival"  # type: ignore[index]


def test_a_token_of_pyjwt_is_accepted(keyring: Keyring, one: WorkspaceKey, payload: Claims, now: int) -> None:
    text = pyjwt.encode(payload, one.admin_token, algorithm="HS256")
    assert verify(text, keyring, now=now).expires == now + 60


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "None"},
        {"alg": "nOnE"},
        {"alg": ""},
        {"alg": None},
        {"alg": ["HS256"]},
        {"alg": "hs256"},
        {"alg": "HS256 "},
        {"typ": "JWT"},
        {"alg": "HS384"},
        {"alg": "HS512"},
        {"alg": "RS256"},
        {"alg": "EdDSA"},
        {},
    ],
)
def test_a01_a02_a03_a04_only_the_algorithm_hs256(
    keyring: Keyring, sign: Sign, payload: Claims, now: int, header: Claims
) -> None:
    good = sign(payload, header=header)
    unsigned = good.rpartition(".")[0] + "."
    for text in (good, unsigned, sign(payload, header=header, key="")):
        assert refusal(text, keyring, now).message == "Invalid token"


def test_a04_a_longer_hash_is_not_our_signature(keyring: Keyring, sign: Sign, payload: Claims, now: int) -> None:
    refusal(sign(payload, digest=hashlib.sha512), keyring, now)
    refusal(sign(payload, header={"alg": "HS512", "typ": "JWT"}, digest=hashlib.sha512), keyring, now)


@pytest.mark.parametrize(
    "field",
    [
        {"kid": "unknown"},
        {"kid": "../../dev/null"},
        {"kid": "x' OR 1=1"},
        {"jku": "http://127.0.0.1:1/keys"},
        {"x5u": "http://127.0.0.1:1/cert"},
        {"jwk": {"kty": "oct", "k": "c2VjcmV0"}},
        {"x5c": ["MIIB"]},
        {"crit": ["exp"]},
        {"crit": []},
        {"crit": ["b64"], "b64": False},
        {"b64": True},
        {"cty": "JWT"},
        {"zip": "DEF"},
        {"typ": "JWE"},
        {"typ": 1},
    ],
)
def test_a05_a06_a07_a08_a09_no_header_field_asks_for_a_key_or_an_extension(
    keyring: Keyring, sign: Sign, payload: Claims, now: int, field: Claims
) -> None:
    header = {"alg": "HS256", "typ": "JWT"} | field
    assert refusal(sign(payload, header=header), keyring, now).message == "Invalid token"
    refusal(sign(payload, header=header, key=""), keyring, now)


def test_a10_expired_at_exp_and_after(keyring: Keyring, sign: Sign, payload: Claims, now: int) -> None:
    text = sign(payload)
    verify(text, keyring, now=now + 59.999)
    for late in (60, 61, 10**9):
        assert refusal(text, keyring, now + late).message == "The token has expired"


def test_a11_exp_is_mandatory(keyring: Keyring, sign: Sign, payload: Claims, now: int) -> None:
    del payload["exp"]
    assert "exp" in refusal(sign(payload), keyring, now).message


@pytest.mark.parametrize(
    "exp",
    [
        '"1900000000"',
        "1900000000.5",
        "1900000000.0",
        "1e400",
        "-1",
        "0",
        "[1900000000]",
        "{}",
        "null",
        "true",
        "1900000000000",
        "1" * 5000,
    ],
)
def test_a12_exp_is_a_whole_number_of_seconds(
    keyring: Keyring, sign: Sign, payload: Claims, now: int, exp: str
) -> None:
    raw = json.dumps(payload).replace(str(payload["exp"]), exp)
    refusal(sign(raw.encode()), keyring, now)


@pytest.mark.parametrize("exp", ["NaN", "Infinity", "-Infinity"])
def test_a12_what_is_not_json_is_refused(
    keyring: Keyring, sign: Sign, payload: Claims, now: int, exp: str
) -> None:
    raw = json.dumps(payload).replace(str(payload["exp"]), exp)
    assert refusal(sign(raw.encode()), keyring, now).message == "Invalid token"


def test_a13_nbf_in_the_future(keyring: Keyring, sign: Sign, payload: Claims, now: int) -> None:
    assert "not valid yet" in refusal(sign(payload | {"nbf": now + 1}), keyring, now).message
    verify(sign(payload | {"nbf": now}), keyring, now=now)
    for odd in ("now", None, [1], True, 1.5):
        refusal(sign(payload | {"nbf": odd}), keyring, now)


def test_a14_a_token_of_another_workspace(
    keyring: Keyring, sign: Sign, payload: Claims, one: WorkspaceKey, two: WorkspaceKey, now: int
) -> None:
    refusal(sign(payload, key=two.admin_token), keyring, now)
    refusal(sign(payload | {"workspace_id": two.id}, key=one.admin_token), keyring, now)
    of_two = sign(payload | {"workspace_id": two.id}, key=two.admin_token)
    assert verify(of_two, keyring, now=now).security.workspace_id == two.id


@pytest.mark.parametrize("workspace", [None, "", "id-of-nobody", "ID-OF-ONE", "one", ["id-of-one"], {}, 1, True])
def test_a14_the_workspace_must_exist(
    keyring: Keyring, sign: Sign, payload: Claims, now: int, workspace: object
) -> None:
    unknown = refusal(sign(payload | {"workspace_id": workspace}), keyring, now)
    forged = refusal(sign(payload, key="x" * 40), keyring, now)
    assert unknown.body() == forged.body(), "which check failed is nobody's business"


def test_a14_workspace_id_is_mandatory(keyring: Keyring, sign: Sign, payload: Claims, now: int) -> None:
    del payload["workspace_id"]
    refusal(sign(payload), keyring, now)


@pytest.mark.parametrize("claim", ["aud", "iss"])
def test_a15_a_token_for_somebody_else(
    keyring: Keyring, sign: Sign, payload: Claims, now: int, claim: str
) -> None:
    for value in ("billing", "", None, ["billing"], [], 1, {}):
        assert claim in refusal(sign(payload | {claim: value}), keyring, now).message
    verify(sign(payload | {claim: "id-of-one"}), keyring, now=now)


def test_a19_a_name_twice(keyring: Keyring, sign: Sign, payload: Claims, now: int) -> None:
    raw = json.dumps(payload)
    fixed = '"fixed_params": {"customer_id": "acme"}'
    assert fixed in raw
    for twice in (
        raw.replace(fixed, fixed + ', "fixed_params": {"customer_id": "rival"}'),
        raw.replace(fixed, '"fixed_params": {"customer_id": "acme", "customer_id": "rival"}'),
        raw.replace(fixed, '"fixed_params": {"customer_id": "acme", "customer\\u005fid": "rival"}'),
        raw[:-1] + ', "exp": 1900000000}',
        raw[:-1] + ', "workspace_id": "id-of-two"}',
    ):
        assert refusal(sign(twice.encode()), keyring, now).message == "Invalid token"
    header = b'{"alg": "HS256", "typ": "JWT", "alg": "none"}'
    refusal(sign(payload, header=header), keyring, now)


def test_a20_nested_and_huge_tokens_are_refused_fast(
    keyring: Keyring, sign: Sign, payload: Claims, now: int
) -> None:
    started = time.thread_time()
    refusal(sign(sign(payload).encode()), keyring, now)
    refusal(".".join([sign(payload), "aaaa", "bbbb"]), keyring, now)
    refusal("e" * 1024 * 1024, keyring, now)
    refusal(sign(payload | {"pad": "x" * MAX_TOKEN_BYTES}), keyring, now)
    refusal(sign(b"[" * 8000 + b"]" * 1000), keyring, now)
    refusal(sign(b'{"a":' * 1800), keyring, now)
    refusal(sign(payload | {"scopes": [{"type": "PIPES:READ", "resource": "a"}] * 10_000}), keyring, now)
    many = [{"type": "PIPES:READ", "resource": f"p{i}"} for i in range(101)]
    assert "scopes" in refusal(sign(payload | {"scopes": many}), keyring, now).message
    assert time.thread_time() - started < 3


def test_a21_the_text_of_a_token_has_one_form(
    keyring: Keyring, sign: Sign, payload: Claims, now: int
) -> None:
    good = sign(payload)
    head, body, signature = good.split(".")
    verify(good, keyring, now=now)
    bad = [
        f"{head}.{body}.",
        f"{head}.{body}",
        f"{head}.{body}.{signature[:-1]}",
        f"{head}.{body}.{signature[:22]}",
        f"{head}.{body}.{signature}=",
        f"{head}=.{body}.{signature}",
        f"{head}.{body}==.{signature}",
        f"{good} ",
        f" {good}",
        f"{good}\n",
        f"{head}.\n{body}.{signature}",
        f"{head}.{body}.{signature}.",
        f".{body}.{signature}",
        f"{head}..{signature}",
        good.replace("-", "+").replace("_", "/") + "+",
        f"{head}.{body}.{signature[:-1]}é",
        "",
        "..",
    ]
    for text in bad:
        assert refusal(text, keyring, now).message == "Invalid token"


def test_a21_every_other_last_character_of_the_signature_is_refused(
    keyring: Keyring, sign: Sign, payload: Claims, now: int
) -> None:
    """Base64 of 32 bytes leaves two bits of the last character unused: four texts decode to the same bytes."""
    good = sign(payload)
    for character in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        if character != good[-1]:
            refusal(good[:-1] + character, keyring, now)


def test_a21_no_segment_has_a_second_text(sign: Sign, payload: Claims) -> None:
    """Here already, whatever the library that checks signatures thinks of it."""
    good = sign(payload)
    read_segments(good)
    with pytest.raises(Forbidden):
        read_segments(good[:-1] + chr(ord(good[-1]) + 1))  # the next letter, the same bytes


@settings(max_examples=examples(300))
@given(position=st.integers(0, 10_000), character=st.characters(min_codepoint=32, max_codepoint=126))
def test_any_changed_character_is_refused(
    keyring: Keyring, sign: Sign, payload: Claims, now: int, position: int, character: str
) -> None:
    good = sign(payload)
    position %= len(good)
    if good[position] != character:
        refusal(good[:position] + character + good[position + 1 :], keyring, now)


@settings(max_examples=examples(300))
@given(
    claims=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    ),
    name=st.sampled_from(["scopes", "context", "limits", "exp", "nbf", "name", "workspace_id", "aud"]),
)
def test_whatever_a_claim_holds_the_answer_is_a_context_or_403(
    keyring: Keyring, sign: Sign, payload: Claims, now: int, name: str, claims: object
) -> None:
    try:
        verify(sign(payload | {name: claims}), keyring, now=now)
    except Forbidden as error:
        json.dumps(error.body()).encode()
        assert error.message.isprintable()


def test_mint_makes_what_verify_accepts(keyring: Keyring, one: WorkspaceKey, now: int) -> None:
    scopes = [
        Scope("PIPES:READ", "top_pages", fixed_params={"customer_id": "acme", "seats": 5, "beta": True}),
        Scope("DATASOURCES:READ", "events", filter="customer_id = 'acme'"),
        Scope("DATASOURCES:APPEND", "events", fixed_values={"customer_id": "acme"}),
    ]
    text = mint(
        one.id,
        one.admin_token,
        name="acme",
        scopes=scopes,
        expires_at=now + 10,
        context={"customer_id": "acme", "teams": ["a", "b"], "seats": 5},
        rps=7,
    )
    security = verify(text, keyring, now=now).security
    assert [(s.type, s.resource, s.filter) for s in security.scopes] == [
        (s.type, s.resource, s.filter) for s in scopes
    ]
    assert dict(security.scopes[0].fixed_params) == scopes[0].fixed_params
    assert dict(security.scopes[2].fixed_values) == scopes[2].fixed_values
    assert dict(security.context) == {"customer_id": "acme", "teams": ("a", "b"), "seats": 5}
    assert security.rps == 7
    head = json.loads(base64.urlsafe_b64decode(text.split(".")[0] + "=="))
    assert head == {"alg": "HS256", "typ": "JWT"}


def test_mint_refuses_what_verify_would_refuse(one: WorkspaceKey, now: int) -> None:
    def bad(**changes: Any) -> BadRequest:
        arguments: dict[str, Any] = {"name": "acme", "scopes": [], "expires_at": now} | changes
        with pytest.raises(BadRequest) as caught:
            mint(one.id, one.admin_token, **arguments)
        return caught.value

    assert "context.customer_id" in bad(context={"customer_id": None}).message
    assert "exp" in bad(expires_at=now * 1000).message
    assert "scopes" in bad(scopes=[Scope("ADMIN")]).message
    bad(context={"customer_id": float("nan")})
    bad(context={"customer_id": object()})
    bad(context={"customer_id": "x" * MAX_TOKEN_BYTES})
    bad(expires_at="soon")
    with pytest.raises(BadRequest, match="32 bytes"):
        mint(one.id, "short", name="acme", scopes=[], expires_at=now)

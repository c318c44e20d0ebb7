"""Static tokens, scope strings, and secrets that are too weak (attack A22)."""

from __future__ import annotations

import base64
import json

import pytest

from pipit.access.context import Scope, SecurityContext, TokenKind
from pipit.access.tokens import (
    SCOPE_TYPES,
    check_admin_token,
    make_token,
    parse_scope,
    token_id,
    token_object,
)
from pipit.errors import BadRequest


def test_a_token_has_the_form_that_clients_look_for() -> None:
    token = make_token(owner="ws", id="7")
    assert token.startswith("p.e")
    prefix, payload, signature = token.split(".")
    body = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert (prefix, body) == ("p", {"u": "ws", "id": "7", "host": "local"})
    assert len(base64.urlsafe_b64decode(signature + "=")) == 32
    assert check_admin_token(token) == token
    assert token_id(token) == "7"


def test_two_tokens_of_one_id_differ() -> None:
    assert make_token(owner="ws", id="7") != make_token(owner="ws", id="7")


@pytest.mark.parametrize("text", ["", "p", "p.e", "p.a.b", "p.eyJ1Ijox.x", "p.W10.x", "p.é.x", "a.b.c.d", "p.MQ.x"])
def test_other_texts_have_no_id(text: str) -> None:
    assert token_id(text) == ""


@pytest.mark.parametrize("secret", ["", "~~~", "x" * 31, " " * 40, "x" * 32 + "\n", "ö" * 20, "ssh-rsa " + "A" * 40])
def test_a22_a_weak_secret_is_refused_at_start_up(secret: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_admin_token(secret)
    assert "PIPIT_ADMIN_TOKEN" in caught.value.message
    assert "openssl" in caught.value.hint
    assert not secret.strip() or secret not in str(caught.value.body())


@pytest.mark.parametrize("secret", ["ssh-rsa" + "A" * 40, "-----BEGIN" + "A" * 40])
def test_a22_a_key_of_another_kind_is_no_secret(secret: str) -> None:
    with pytest.raises(BadRequest, match="key"):
        check_admin_token(secret)


@pytest.mark.parametrize("secret", ["x" * 32, "p.eyJ1IjoiYSJ9.0123456789012345678", "!~" * 16])
def test_any_secret_of_32_bytes_is_taken(secret: str) -> None:
    assert check_admin_token(secret) == secret


@pytest.mark.parametrize("text", [f"{type}:x" if named else type for type, named in SCOPE_TYPES.items()])
def test_scopes_are_parsed(text: str) -> None:
    scope = parse_scope(text)
    assert text in (scope.type, f"{scope.type}:{scope.resource}")
    assert scope.type in SCOPE_TYPES


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ROOT",
        "admin",
        "ADMIN:x",
        "ADMINS",
        "PIPES",
        "PIPES:READ",
        "PIPES:READ:",
        "DATASOURCES:APPEND",
        "TOKENS:x",
        "DATASOURCES:READ:a:b = 1",
        "WORKSPACE:READ_ALL:x",
    ],
)
def test_other_scopes_are_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_scope(text)


def test_the_object_that_the_api_shows() -> None:
    shown = token_object(
        id="7", token="p.e", name="t", scopes=[Scope("ADMIN"), Scope("PIPES:READ", "p")], origin="datafile"
    )
    assert shown == {
        "id": "7",
        "token": "p.e",
        "name": "t",
        "description": "",
        "scopes": [{"type": "ADMIN"}, {"type": "PIPES:READ", "resource": "p"}],
        "origin": "datafile",
        "host": "local",
        "is_internal": False,
    }


def test_a_jwt_is_never_an_admin() -> None:
    for type in ("ADMIN", "ADMIN_USER"):
        scopes = (Scope(type),)
        assert SecurityContext("w", TokenKind.STATIC, "t", scopes).is_admin
        assert not SecurityContext("w", TokenKind.JWT, "t", scopes).is_admin

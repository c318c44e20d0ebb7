"""The keyring: one meaning for each secret, none for a weak one."""

from __future__ import annotations

import pytest

from pipit.access.context import Scope, TokenKind
from pipit.access.keyring import Keyring, StaticToken, WorkspaceKey
from pipit.errors import BadRequest


def static(key: WorkspaceKey, text: str, name: str = "t") -> StaticToken:
    return StaticToken(key.id, "1", name, text, (Scope("PIPES:READ", "p"),))


def test_tokens_are_found_by_their_exact_text(keyring: Keyring, one: WorkspaceKey, two: WorkspaceKey) -> None:
    admin = keyring.find(one.admin_token)
    assert admin is not None
    assert (admin.workspace_id, admin.kind, admin.is_admin) == (one.id, TokenKind.ADMIN, True)
    other = keyring.find(two.admin_token)
    assert other is not None
    assert other.workspace_id == two.id
    named = keyring.find("p.eyJ1Ijoib25lIn0.static-token-of-one")
    assert named is not None
    assert (named.kind, named.name, named.is_admin, named.is_tenant) == (TokenKind.STATIC, "dashboards", False, False)
    text = one.admin_token
    for wrong in ("", text[:-1], text + "x", text.upper(), text + "\0", " " + text, "\ud800"):
        assert keyring.find(wrong) is None


def test_two_tokens_of_one_text_are_refused(one: WorkspaceKey, two: WorkspaceKey) -> None:
    text = "t" * 40
    with pytest.raises(BadRequest, match="same text") as caught:
        Keyring.build([one], [static(one, text, "a"), static(one, text, "b")])
    assert text not in str(caught.value.body())
    with pytest.raises(BadRequest, match="same text"):
        Keyring.build([one, WorkspaceKey("id-3", "three", one.admin_token)], [])
    with pytest.raises(BadRequest, match="same text"):
        Keyring.build([one, two], [static(two, one.admin_token)])


@pytest.mark.parametrize("secret", ["", "short", "x" * 31])
def test_a22_no_workspace_without_a_secret(one: WorkspaceKey, secret: str) -> None:
    with pytest.raises(BadRequest, match="32 bytes"):
        Keyring.build([WorkspaceKey("id", "weak", secret)], [])
    with pytest.raises(BadRequest, match="32 bytes"):
        Keyring.build([one], [static(one, secret)])


def test_workspace_ids_are_unique_and_not_empty(one: WorkspaceKey) -> None:
    for id in (one.id, ""):
        with pytest.raises(BadRequest, match="workspace id"):
            Keyring.build([one, WorkspaceKey(id, "other", "y" * 40)], [])


def test_a_token_of_a_workspace_that_is_gone_opens_nothing(one: WorkspaceKey, two: WorkspaceKey) -> None:
    assert Keyring.build([one], [static(two, "t" * 40)]).find("t" * 40) is None


def test_a_keyring_does_not_change_and_does_not_show_its_secrets(keyring: Keyring, one: WorkspaceKey) -> None:
    with pytest.raises(TypeError):
        keyring.workspaces["x"] = one  # type: ignore[index]
    with pytest.raises(AttributeError):
        keyring.workspaces = {}  # type: ignore[misc]
    shown = repr(keyring) + repr(static(one, "t" * 40))
    assert one.admin_token not in shown
    assert "tttt" not in shown

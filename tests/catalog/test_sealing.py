"""What seals the secrets of the state."""

from __future__ import annotations

import base64

import pytest

from pipit.catalog.sealing import NO_SEALS, Seals, read_seals
from pipit.catalog.state import DATABASE, State
from pipit.errors import BadRequest
from serving import Workspace

PLACE = ("secrets", "w1", "name")
ONE, TWO = "the first key of the tests", "the second key of the tests"


def test_a_text_opens_only_where_it_was_sealed() -> None:
    """K47"""
    seals = read_seals(ONE)
    for text in ("x", "", "ü" * 1000, "a secret of some length"):
        sealed, key_id = seals.seal(text, PLACE)
        # A short text may stand in the sealed one by chance.
        assert key_id == seals.first and (len(text) < 8 or text.encode() not in base64.b64decode(sealed))
        assert seals.open(sealed, key_id, PLACE) == text
        assert seals.seal(text, PLACE)[0] != sealed
        for place in (("secrets", "w2", "name"), ("secrets", "w1", "other"), ("tokens", "w1", "name"), ("secrets", "w1name", "")):
            with pytest.raises(BadRequest, match="changed by somebody else"):
                seals.open(sealed, key_id, place)
        for broken in (sealed[:-4], sealed[4:], "", "AAAA", sealed + "!", sealed.swapcase()):
            with pytest.raises(BadRequest, match="changed by somebody else"):
                seals.open(broken, key_id, PLACE)


def test_keys_are_known_by_their_ids() -> None:
    one, both, again = read_seals(ONE), read_seals(f" {TWO} , {ONE}\n"), read_seals(f"{ONE},{ONE}")
    sealed, key_id = one.seal("x", PLACE)
    assert both.first != one.first == again.first == key_id
    assert both.open(sealed, key_id, PLACE) == again.open(sealed, key_id, PLACE) == "x"
    with pytest.raises(BadRequest, match="another key than PIPIT_SECRETS_KEY has"):
        read_seals(TWO).open(sealed, key_id, PLACE)
    with pytest.raises(BadRequest, match="PIPIT_SECRETS_KEY is not set"):
        NO_SEALS.open(sealed, key_id, PLACE)


@pytest.mark.parametrize("value", ["short", "fifteen letters", f"{ONE},", f",{ONE}", f"{ONE},short", ","])
def test_short_keys_are_refused(value: str) -> None:
    with pytest.raises(BadRequest, match=r"too short: \d+ of at least 16 characters") as caught:
        read_seals(value)
    assert "short" not in caught.value.message.replace("too short", "") and "letters" not in caught.value.message


def test_no_key_keeps_texts_as_they_are() -> None:
    for value in ("", "  \n"):
        assert read_seals(value).seal("x", PLACE) == ("x", "")
    assert "first key" not in repr(read_seals(ONE))


@pytest.mark.anyio
async def test_rows_that_are_exchanged_are_no_secrets(workspace: Workspace) -> None:
    """K47: who can write to the disk gives no workspace the secret of another one."""
    engine = workspace.server.engine
    state = State(engine, read_seals(ONE))
    await state.put_secret(workspace.id, "mine", "the value")
    await state.put_secret("another workspace", "mine", "another value")
    assert [(s.name, s.value) for s in await state.secrets(workspace.id)] == [("mine", "the value")]
    await engine.command(
        f"INSERT INTO {DATABASE}.secrets (workspace_id, name, value, created_at, deleted, version, key_id) "
        "SELECT {to:String}, name, value, created_at, deleted, version + 1000000000, key_id "
        f"FROM {DATABASE}.secrets WHERE workspace_id = 'another workspace'",
        {"to": workspace.id},
    )
    with pytest.raises(BadRequest, match="changed by somebody else"):
        await state.secrets(workspace.id)
    await engine.command(
        f"ALTER TABLE {DATABASE}.secrets DELETE WHERE key_id != ''", settings={"mutations_sync": 1}
    )  # the run's other tests have no key


def test_without_keys_nothing_is_known() -> None:
    assert NO_SEALS.knows("") and not NO_SEALS.knows("ab") and Seals() == NO_SEALS

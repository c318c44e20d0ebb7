"""The index of idempotency keys: durable, bounded, and never another client's."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipit.errors import BadRequest, Conflict
from pipit.ingest.keys import Keys, content_hash, key_hash


def opened(path: Path, **options: float) -> Keys:
    keys = Keys(path, **options)  # type: ignore[arg-type]
    keys.open()
    return keys


def store(keys: Keys, *names: str, bad: int = 1) -> None:
    for name in names:
        keys.add(name, "digest", 5)
        keys.settle(name, bad)
    keys.remember(names)


def test_a_key_survives_a_restart_with_its_counts(tmp_path: Path) -> None:
    keys = opened(tmp_path / "keys")
    store(keys, "a", bad=2)
    again = opened(tmp_path / "keys").find("a", "digest")
    assert again is not None
    assert (again.known.rows, again.known.bad) == (5, 2)
    assert opened(tmp_path / "keys").find("b", "digest") is None


def test_the_same_key_with_other_content_is_a_conflict(tmp_path: Path) -> None:
    keys = opened(tmp_path / "keys")
    store(keys, "a")
    with pytest.raises(Conflict):
        keys.find("a", "other")


def test_a_line_that_was_cut_off_is_skipped_and_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    store(opened(path), "a", "b")
    path.write_bytes(path.read_bytes()[:-7])
    keys = opened(path)
    assert keys.find("a", "digest") is not None
    assert keys.find("b", "digest") is None
    path.write_bytes(path.read_bytes() + b"1234")
    store(keys, "c")
    assert opened(path).find("c", "digest") is not None


def test_keys_are_forgotten_by_age_and_number(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    store(opened(path), "a", "b", "c")
    assert opened(path, seconds=0).find("a", "digest") is None
    store(opened(path), "a", "b", "c")
    few = opened(path, most=2)
    assert few.find("a", "digest") is None
    assert few.find("c", "digest") is not None


def test_the_file_does_not_grow_without_end(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    keys = opened(path, most=50)
    for n in range(80):
        store(keys, *(f"{n}-{m}" for m in range(50)))
    assert len(path.read_bytes().splitlines()) < 2500
    assert opened(path).find("79-49", "digest") is not None


def test_a_key_means_something_only_to_its_sender_and_table() -> None:
    hashes = {
        key_hash("t", "db", "events", "k"),
        key_hash("u", "db", "events", "k"),
        key_hash("t", "db2", "events", "k"),
        key_hash("t", "db", "events2", "k"),
        key_hash("t", "db", "event", "sk"),
        key_hash("t", "db", "events", "k2"),
        key_hash("", "tdb", "events", "k"),
    }
    assert len(hashes) == 7
    assert key_hash("t", "db", "events", "k") in hashes
    assert content_hash(b"a") != content_hash(b"b")


@pytest.mark.parametrize("key", ["", "  ", "x" * 256])
def test_a_key_that_says_nothing_is_refused(key: str) -> None:
    with pytest.raises(BadRequest):
        key_hash("t", "db", "events", key)

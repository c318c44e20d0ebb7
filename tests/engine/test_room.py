"""A definition is not written where there is hardly any room: the engine would lose the one that is there."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipit.engine.codes import Code
from pipit.engine.embedded.failure import Failure
from pipit.engine.embedded.guard import ROOM_BYTES, Guard

CHANGES = (
    b"ALTER TABLE t ADD COLUMN x Int8",
    b" /* why */ create table t (x Int8) ENGINE = MergeTree ORDER BY x",
    b"CREATE DATABASE d",
    b"RENAME TABLE a TO b",
    b"EXCHANGE TABLES a AND b",
)
OTHERS = (b"SELECT 1", b"INSERT INTO t SELECT 1", b"DROP TABLE t SYNC", b"TRUNCATE TABLE t", b"KILL QUERY WHERE 1")


@pytest.mark.parametrize("free", [0, ROOM_BYTES - 4096])
def test_changes_of_definitions_take_room(free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(f_bavail=free // 4096, f_frsize=4096, f_files=0, f_favail=0)
    monkeypatch.setattr(os, "statvfs", lambda path: found)
    guard = Guard([], tmp_path)
    for text in CHANGES:
        with pytest.raises(Failure) as caught:
            guard.check_room(text)
        assert caught.value.code == Code.NOT_ENOUGH_SPACE
    for text in OTHERS:
        guard.check_room(text)


def test_with_room_they_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(f_bavail=ROOM_BYTES // 4096, f_frsize=4096, f_files=1000, f_favail=1000)
    monkeypatch.setattr(os, "statvfs", lambda path: found)
    for text in (*CHANGES, *OTHERS):
        Guard([], tmp_path).check_room(text)

"""A deduplication token whose part was lost in a crash no longer swallows the replay."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipit.engine import Engine, open_engine
from pipit.engine.embedded.dedup_repair import parse_part, repair

pytestmark = pytest.mark.anyio


def craft(folder: Path, parts: list[str], log: str) -> Path:
    table = folder / "store" / "abc" / "abc0"
    for part in [*parts, "detached", "deduplication_logs"]:
        (table / part).mkdir(parents=True)
    file = table / "deduplication_logs" / "deduplication_log_1.txt"
    file.write_text(log)
    return file


def test_records_without_a_part_go(tmp_path: Path) -> None:
    log = "1\tall_1_1_0\tall_11_22\n1\tall_2_2_0\tall_33_44\n"
    file = craft(tmp_path, ["all_1_1_0", "tmp_insert_all_2_2_0"], log)
    assert repair(tmp_path) == 1
    assert file.read_text() == "1\tall_1_1_0\tall_11_22\n"


def test_a_merge_and_a_mutation_cover_their_parts(tmp_path: Path) -> None:
    log = "1\t202401_1_1_0\ta\n1\t202401_2_2_0\tb\n1\t202402_2_2_0\tc\n1\t202401_3_3_0\td\n"
    file = craft(tmp_path, ["202401_1_2_1", "202401_3_3_0_7"], log)
    assert repair(tmp_path) == 1
    assert "202402" not in file.read_text()


def test_what_was_taken_back_and_what_is_unknown_stays(tmp_path: Path) -> None:
    log = "2\tall_1_1_0\ta\n7\tall_9_9_0\tb\nsomething else\n"
    file = craft(tmp_path, [], log)
    before = file.stat().st_mtime_ns
    assert repair(tmp_path) == 0
    assert file.read_text() == log and file.stat().st_mtime_ns == before


def test_half_a_line_goes(tmp_path: Path) -> None:
    file = craft(tmp_path, ["all_1_1_0"], "1\tall_1_1_0\ta\n1\tall_1_1")
    assert repair(tmp_path) == 1
    assert file.read_text() == "1\tall_1_1_0\ta\n"


def test_names_of_parts() -> None:
    assert parse_part("202401_1_20_3") == ("202401", 1, 20)
    assert parse_part("all_1_1_0_5") == ("all", 1, 1)
    for other in ("tmp_insert_all_2_2_0", "detached", "deduplication_logs", "delete_tmp_all_1_1_0", "all_a_1_0"):
        assert parse_part(other) is None


async def insert(engine: Engine, token: str, n: int) -> None:
    await engine.insert("t", [{"n": n}], settings={"insert_deduplication_token": token})


async def count(engine: Engine) -> int:
    return int((await engine.rows("SELECT count() AS c FROM t"))[0]["c"])


async def test_the_engine_takes_the_replay_of_a_lost_part_and_only_that(tmp_path: Path) -> None:
    async with open_engine(tmp_path, memory=1 << 30) as engine:
        await engine.command(
            "CREATE TABLE t (n Int64) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 100"
        )
        await insert(engine, "a", 1)
        await insert(engine, "b", 2)
        await insert(engine, "b", 2)
        assert await count(engine) == 2
    (lost,) = (tmp_path / "engine").glob("store/*/*/all_2_2_0")
    shutil.rmtree(lost)
    (log,) = lost.parent.glob("deduplication_logs/*.txt")
    assert "all_2_2_0" in log.read_text()
    async with open_engine(tmp_path, memory=1 << 30) as engine:
        assert await count(engine) == 1
        await insert(engine, "a", 1)
        assert await count(engine) == 1
        await insert(engine, "b", 2)
        assert await count(engine) == 2
        await insert(engine, "b", 2)
        assert await count(engine) == 2


async def test_tokens_of_merged_parts_are_kept(tmp_path: Path) -> None:
    async with open_engine(tmp_path, memory=1 << 30) as engine:
        await engine.command(
            "CREATE TABLE t (n Int64) ENGINE = MergeTree ORDER BY n"
            " SETTINGS non_replicated_deduplication_window = 100, old_parts_lifetime = 0"
        )
        for n in range(3):
            await insert(engine, f"token {n}", n)
        await engine.command("OPTIMIZE TABLE t FINAL")
    async with open_engine(tmp_path, memory=1 << 30) as engine:
        for n in range(3):
            await insert(engine, f"token {n}", n)
        assert await count(engine) == 3

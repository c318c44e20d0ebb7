"""One rule of what may have been meant: a right suggestion or none."""

from __future__ import annotations

import pytest

from pipit.suggest import closest, did_you_mean, listed

ENGINES = ["MergeTree", "ReplacingMergeTree", "SummingMergeTree", "CollapsingMergeTree", "Null"]
COMMANDS = ["check", "copy", "deploy", "init", "ls", "plan", "query", "serve", "sql", "test", "token"]
FUNCTIONS = ["count", "countIf", "max", "min", "sum", "sumIf", "toStartOfHour", "toStartOfMonth"]


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("ReplacingMergetre", ENGINES, "ReplacingMergeTree"),
        ("replacingmergetree", ENGINES, "ReplacingMergeTree"),
        ("MergTree", ENGINES, "MergeTree"),
        ("Nul", ENGINES, "Null"),
        ("Log", ENGINES, ""),
        ("Distributed", ENGINES, ""),
        ("open", COMMANDS, ""),
        ("create", COMMANDS, ""),
        ("chek", COMMANDS, "check"),
        ("tokn", COMMANDS, "token"),
        ("quer", COMMANDS, "query"),
        ("cuont", FUNCTIONS, "count"),
        ("COUNT", FUNCTIONS, "count"),
        ("toStartOfHuor", FUNCTIONS, "toStartOfHour"),
        ("foo", FUNCTIONS, ""),
        ("sum2", ["min2", "sumIf"], ""),
        ("max", FUNCTIONS, ""),
        ("", FUNCTIONS, ""),
        ("x" * 100_000, FUNCTIONS, ""),
        ("count", [], ""),
    ],
)
def test_closest(word: str, known: list[str], meant: str) -> None:
    assert closest(word, known) == meant
    assert did_you_mean(word, known) == (f"Did you mean {meant}?" if meant else "")


def test_a_list_of_names_is_a_sentence_and_not_longer_than_a_line() -> None:
    assert listed([]) == "" and listed(["b"]) == "There is b." and listed(["b", "a"]) == "There are a, b."
    assert listed("jihgfedcba") == "There are a, b, c, d, e, f, g, h and more."

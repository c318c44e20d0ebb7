"""The catalogue of attacks is covered: each case is named by a test, or does not apply, with the reason in words.

A case is named by its number in a test file: in a docstring, a comment or a test's name.
The cases and their texts stand in docs/contributing/attack-catalogue.md.
"""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/contributing/attack-catalogue.md"
CASES = re.findall(r"^- \*\*([A-K][0-9]{2})\*\* \S", PAGE.read_text(), re.MULTILINE)

NOT_APPLICABLE = {
    "J08": "There is no semantic layer, so no filters of a request that could be combined with `or` and `not`.",
    "J09": "There are no measures, dimensions, segments or member expressions that a client could name.",
    "J10": "There are no join paths that a client could choose; joins stand in pipes, and each table has its filter.",
    "J13": "There are no pre-aggregations; a materialized view's target is checked as a table of its own (J04, lineage).",
}

TESTS = Path(__file__).parents[1]


def named_cases() -> set[str]:
    found: set[str] = set()
    for file in TESTS.rglob("test_*.py"):
        if file == Path(__file__):
            continue
        text = file.read_text()
        found |= {
            case.upper()
            for case in re.findall(r"(?<![0-9A-Za-z])([A-Ja-j][0-3][0-9]|[Kk][0-9][0-9])(?![0-9A-Za-z])", text)
        }
    return found


def test_the_catalogue_is_a_list_in_order() -> None:
    assert len(CASES) > 150 and sorted(set(CASES)) == CASES


def test_every_case_is_named_by_a_test_or_does_not_apply() -> None:
    named = named_cases()
    assert [case for case in CASES if case not in named and case not in NOT_APPLICABLE] == []


def test_what_does_not_apply_says_why_and_is_tested_nowhere() -> None:
    assert NOT_APPLICABLE.keys() <= set(CASES)
    assert not NOT_APPLICABLE.keys() & named_cases()
    assert all(len(reason.split()) > 5 for reason in NOT_APPLICABLE.values())

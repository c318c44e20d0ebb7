"""The catalogue of attacks is covered: each case is named by a test, or does not apply, with the reason in words.

A case is named by its number in a test file: in a docstring, a comment or a test's name.
The catalogue (G is ingestion's, and has its own tests):

A tokens, B parameters, C templates, D ad-hoc SQL, E side channels, F caches and shared state, H outputs and budgets,
I HTTP, J control plane and semantic layer, K found while using Pipit.
"""

from __future__ import annotations

import re
from pathlib import Path

CATALOGUE = {
    "A": "01 02 03 04 05 06 07 08 09 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26",
    "B": "01 02 03 05 06 07 08 09 10 11 13 14 15 16 17 18 19 21 22 23 24",
    "C": "01 02 03 04 05 06 07 08 09 10 11 12 13 14 15 16 17",
    "D": "01 02 03 04 05 06 07 08 09 10 11 12 13 14 15 16 17 18 19 20 21 22 23 25 26 27 30 31 32",
    "E": "01 02 04 05 07 08 09 10 11 13 14",
    "F": "01 02 03 04 05 07 08 09 11 12",
    "H": "01 02 03 04 05 06 07 08 09 10 11 12",
    "I": "01 02 03 04 05 06 07 09 10 11 12 13 14",
    "J": "01 02 03 04 05 06 07 08 09 10 11 12 13 15 16 17",
    "K": " ".join(
        (
            "01 02 03 04",  # what the engine knows of all rows of a table
            "20 21 22 23 24 25 26 27 28",  # writes through views, idempotency keys, names of environments
            "30 31 32 33 39",  # writes
            "40 41 42 43 44 45 46 47",  # the server
            "70 71 72 73 74 75 79",  # templates
        )
    ),
}
CASES = [letter + number for letter, numbers in CATALOGUE.items() for number in numbers.split()]

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
            for case in re.findall(r"(?<![0-9A-Za-z])([A-Ja-j][0-3][0-9]|[Kk][0-8][0-9])(?![0-9A-Za-z])", text)
        }
    return found


def test_every_case_is_named_by_a_test_or_does_not_apply() -> None:
    named = named_cases()
    assert [case for case in CASES if case not in named and case not in NOT_APPLICABLE] == []


def test_what_does_not_apply_says_why_and_is_tested_nowhere() -> None:
    assert NOT_APPLICABLE.keys() <= set(CASES)
    assert not NOT_APPLICABLE.keys() & named_cases()
    assert all(len(reason.split()) > 5 for reason in NOT_APPLICABLE.values())

"""What is equal, and what a person reads when it is not.

An answer must be the expected text, byte for byte but for line ends at its end, and for `\\/` in JSON, which is another
way to write `/`: ClickHouse writes the one, other tools the other. Rows that the query's ORDER BY leaves
in any order (ties) may come in any: then the rows must be the same ones, and their keys in the same sequence. A query
without ORDER BY promises no order at all.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum

_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_MOST_LINES = 40
_MOST_WIDTH = 400


class RowMatch(StrEnum):
    """`TIES`: equal but for the order of rows that the query leaves open. `ORDER`: the same rows, wrongly ordered."""

    EXACT = "exact"
    TIES = "ties"
    ORDER = "order"
    NO = "no"


def lines_of(text: str) -> list[str]:
    return text.rstrip("\n").split("\n") if text.strip("\n") else []


def plain_slashes(text: str) -> str:
    """JSON lines in which a `/` is written as itself. Of texts that are no JSON nothing that matters changes."""
    return _ESCAPED.sub(lambda found: "/" if found[1] == "/" else found[0], text)


def same_rows(expected: str, actual: str) -> RowMatch:
    """EXACT, NO, or ORDER: whether that matters is for `in_order` to say."""
    if expected.rstrip("\n") == actual.rstrip("\n"):
        return RowMatch.EXACT
    return RowMatch.ORDER if Counter(lines_of(expected)) == Counter(lines_of(actual)) else RowMatch.NO


def in_order(expected: str, keys: Mapping[str, Sequence[str]], order: Sequence[str]) -> RowMatch:
    """`keys`: for each line the sort keys that it came with, as often as it came; `order`: the keys as they came.

    TIES when the expected lines, by their keys, stand in that sequence.
    """
    left = {line: list(found) for line, found in keys.items()}
    return RowMatch.TIES if [left[line].pop(0) for line in lines_of(expected)] == list(order) else RowMatch.ORDER


def difference(expected: str, actual: str) -> str:
    """A unified diff, cut to what a terminal can hold; `-` is what the file expects, `+` what came."""
    lines = list(
        difflib.unified_diff(lines_of(expected), lines_of(actual), "expected", "actual", lineterm="", n=2),
    )
    shown = [
        line if len(line) <= _MOST_WIDTH else f"{line[:_MOST_WIDTH]}... ({len(line):,} characters)" for line in lines
    ]
    if len(shown) > _MOST_LINES:
        shown = [*shown[:_MOST_LINES], f"... and {len(shown) - _MOST_LINES} lines more"]
    return "\n".join(shown)

"""Values as they are typed on a command line."""

from __future__ import annotations

import pytest

from pipit.access.arguments import parse_pairs, parse_ttl
from pipit.errors import BadRequest


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("15m", 900), ("1h", 3600), ("7d", 604_800), ("2w", 1_209_600), (" 1h ", 3600)]
)
def test_times_to_live(text: str, seconds: int) -> None:
    assert parse_ttl(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "0h", "-1h", "1.5h", "1y", "1h30m", "1H", "999999999w", "١h"])
def test_other_texts_are_no_time(text: str) -> None:
    with pytest.raises(BadRequest, match="time to live"):
        parse_ttl(text)


def test_pairs() -> None:
    pairs = ["a=1", "b=", "c=x=y", "d:=5", 'e:=["x","y"]', "f:=true", 'g:="z"', "h=007"]
    assert parse_pairs(pairs) == {
        "a": "1", "b": "", "c": "x=y", "d": 5, "e": ["x", "y"], "f": True, "g": "z", "h": "007",
    }  # fmt: skip


@pytest.mark.parametrize("pairs", [["a"], ["=1"], [":=1"], ["a=1", "a=2"], ["a=1", "a:=2"], ["a:=x"], ["a:=null"], ["a:={}"]])
def test_other_texts_are_no_pairs(pairs: list[str]) -> None:
    with pytest.raises(BadRequest):
        parse_pairs(pairs)

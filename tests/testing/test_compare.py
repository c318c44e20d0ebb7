"""Equal, equal but for ties, and different; what a query sorts by."""

from __future__ import annotations

import pytest

from pipit.testing.compare import RowMatch, difference, in_order, plain_slashes, same_rows
from pipit.testing.order import sort_keys


@pytest.mark.parametrize(
    ("expected", "actual", "match"),
    [
        ("a\nb\n", "a\nb\n", RowMatch.EXACT),
        ("a\nb", "a\nb\n", RowMatch.EXACT),
        ("", "", RowMatch.EXACT),
        ("a\nb\n", "b\na\n", RowMatch.ORDER),
        ("a\na\n", "a\n", RowMatch.NO),
        ("a\na\nb\n", "a\nb\nb\n", RowMatch.NO),
        ("", "a\n", RowMatch.NO),
    ],
)
def test_the_same_rows(expected: str, actual: str, match: RowMatch) -> None:
    assert same_rows(expected, actual) is match


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (r'{"a":"\/x\/"}', '{"a":"/x/"}'),
        (r'{"a":"\\/"}', r'{"a":"\\/"}'),  # a backslash, then a slash
        (r'{"a":"\\\/\n"}', r'{"a":"\\/\n"}'),
        ("a/b\\", "a/b\\"),
    ],
)
def test_a_slash_in_json_is_a_slash_however_it_is_written(text: str, plain: str) -> None:
    assert plain_slashes(text) == plain
    assert same_rows(plain_slashes(text), plain) is RowMatch.EXACT


def test_ties_may_come_in_any_order_and_keys_may_not() -> None:
    keys = {"a1": ["1"], "b1": ["1"], "c2": ["2"]}
    assert in_order("b1\na1\nc2", keys, ["1", "1", "2"]) is RowMatch.TIES
    assert in_order("a1\nc2\nb1", keys, ["1", "1", "2"]) is RowMatch.ORDER


def test_a_difference_is_short_enough_to_read() -> None:
    shown = difference("\n".join(map(str, range(1000))), "x" * 5000).splitlines()
    assert len(shown) <= 42
    assert max(map(len, shown)) < 500
    assert "lines more" in shown[-1]


@pytest.mark.parametrize(
    ("sql", "keys"),
    [
        ("SELECT a FROM t", []),
        ("SELECT a FROM (SELECT a FROM t ORDER BY a)", []),
        ("SELECT a FROM t ORDER BY a", ["a"]),
        ("SELECT a FROM t ORDER BY a DESC NULLS LAST, f(b, 1) ASC, c LIMIT 5 BY a LIMIT 3", ["a", "f(b, 1)", "c"]),
        ("SELECT a FROM t ORDER BY a WITH FILL FROM 1 TO 5", ["a"]),
        ("SELECT row_number() OVER (ORDER BY b) FROM t ORDER BY a SETTINGS max_threads = 1", ["a"]),
        ("SELECT a FROM t ORDER BY 1", ["1"]),
        ("SELECT a FROM t ORDER BY ALL DESC", ["ALL"]),
        ("SELECT a FROM t ORDER BY {p1:String} = a", ["{p1:String} = a"]),
        ("SELECT a FROM t ORDER BY a UNION ALL SELECT b FROM u", []),
    ],
)
def test_what_a_query_sorts_by(sql: str, keys: list[str] | None) -> None:
    assert sort_keys(sql) == keys

"""Where a text parameter is a pattern of LIKE: found in each form that people write, and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipit.templates import patterns


@pytest.mark.parametrize(
    "condition",
    [
        "x LIKE {{String(a)}}",
        "x like {{ String(a, 'z', description='LIKE it') }}",
        "x NOT LIKE {{String(a)}} AND y = {{String(b)}}",
        "x ILIKE concat('%', {{String(a)}}, '%')",
        "lower(x) not ilike concat('%', lower({{String(a)}}), '%')",
        "x LIKE '%' || {{String(a)}} || '%'",
        "x LIKE ('%' || lower({{String(a)}}))",
        "x LIKE {{String(a) + '%'}}",
        "like(x, {{String(a)}})",
        "not notILike(concat(x, y), concat({{String(a)}}, '%')) AND x = {{String(b)}}",
        "x LIKE {% if defined(a) %} {{String(a)}} {% else %} 'z' {% end %}",
        "x LIKE toString({{Int32(n)}}) OR x LIKE {{String(a)}}",
        "arrayExists(y -> x ILIKE y, [{{String(b)}}]) AND x ILIKE {{String(a)}}",
    ],
)
def test_found(condition: str) -> None:
    source = f"\n%\nSELECT 1\nWHERE {condition}"
    assert [found.parameter for found in patterns(source)] == ["a"]
    line, column = patterns(source)[0][1:]
    assert source.split("\n")[line - 1][column - 1 :].startswith("{{")


@pytest.mark.parametrize(
    "condition",
    [
        "x = {{String(a)}}",
        "x LIKE '%y%' AND z = {{String(a)}}",
        "x LIKE concat('%', y, '%') AND z = {{String(a)}}",
        "x LIKE {{sql_unescape(String(a), '%')}}",
        "x LIKE {{Int32(a)}}",
        "x LIKE {{String('const')}}",
        "like({{String(a)}}, 'x%')",
        "position(x, {{String(a)}}) > 0 -- not LIKE {{String(a)}}",
        "x = 'LIKE' AND y = {{String(a)}}",
        "x LIKE y[1] AND z IN ({{String(a)}})",
        "likes = {{String(a)}}",
        "unlike({{String(a)}})",
    ],
)
def test_not_found(condition: str) -> None:
    assert patterns(f"%\nSELECT 1 WHERE {condition}") == ()


def test_plain_sql_and_what_does_not_compile() -> None:
    assert patterns("SELECT x LIKE '{{String(a)}}'") == ()
    assert patterns("% SELECT x LIKE {{String(a)") == ()
    assert patterns("% SELECT x LIKE {{String(a}}") == ()


PIECES = ["LIKE", "like(", "{{String(a)}}", "{{", "}}", "(", ")", "||", ",", "'", "[", "]", "NOT", "x", "{% if a %}", "--\n", "\\"]


@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_any_text(pieces: list[str]) -> None:
    for found in patterns("% " + " ".join(pieces)):
        assert found.parameter == "a" and found.line

"""What may be a row filter: one boolean expression over the table's own columns (attacks D06, D08, D15, D17, D19)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipit.access.filters import jwt_filter
from pipit.errors import Forbidden
from pipit.sql.expressions import ExpressionError, check_condition

GOOD = [
    "org_id = '42'",
    "org_id = '42' AND (team = 'a' OR team IS NULL)",
    "a IN (1, 2, -3) AND b NOT IN ('x')",
    "a IN ['x', 'y']",
    "(a, b) IN ((1, 'x'), (2, 'y'))",
    "a IN (toUInt8(1), CAST(2 AS UInt8), NULL)",
    "lower(name) LIKE '%x%' AND NOT deleted",
    "date >= toDate('2020-01-01') AND ts > now() - INTERVAL 7 DAY",
    "has(['a', 'b'], team)",
    "multiIf(a = 1, 1, a = 2, 0, 1)",
    "CASE WHEN (a = 1) THEN (1) ELSE (0) END",
    "a BETWEEN (1) AND (5)",
    "`odd name` = 'it''s \\' -- ; (select'",
    "CAST(a AS String) = '5'",
    "a::String = '5'",
    "a ? b : c",
    "tags['k'] = 'v'",
    "arrayExists(x -> x = 1, xs)",
    "1",
]

BAD = {
    "": "empty",
    "   ": "empty",
    "a = 1; DROP TABLE x": "';'",
    "a = 1 -- x": "comment",
    "a = 1 /* x */": "comment",
    "a = 1 # x": "comment",
    "a = 1) OR (1 = 1": "closes nothing",
    "a = 1) OR 1 = 1 --": "comment",
    "(a = 1": "missing",
    "a = [1)": "closes nothing",
    "a = 1, b = 2": "one expression",
    "a = 'x": "quote",
    "a = \x00": "character",
    "a = {p:String}": "{",
    "a = {'k': 1}": "{",
    "a IN (SELECT 1)": "names",
    "(SELECT 1) = 1": "SELECT",
    "(sElEcT 1) = 1": "SELECT",
    "EXISTS (SELECT 1)": "EXISTS",
    "exists(tbl)": "EXISTS",
    "(WITH 1 AS x SELECT x) = 1": "WITH",
    "a IN tbl": "list of values",
    "a IN `tbl`": "list of values",
    "a GLOBAL IN tbl": "list of values",
    "a NOT IN db.tbl": "list of values",
    "a IN (tbl)": "names",
    "a IN ((tbl))": "names",
    "a IN (`tbl`)": "names",
    "a IN (db.tbl)": "names",
    "a IN tbl(1)": "list of values",
    "a IN": "list of values",
    "in(a, tbl)": "names",
    "IN(a, tbl)": "names",
    "notIn(a, tbl)": "notIn",
    "globalIn(a, tbl)": "globalIn",
    "globalNotIn(a, tbl)": "globalNotIn",
    "nullIn(a, tbl)": "nullIn",
    "`nullIn`(a, tbl)": "nullIn",
    "globalNotNullIn(a, tbl)": "globalNotNullIn",
    "inIgnoreSet(a, tbl)": "inIgnoreSet",
    "dictGet('d', 'x', a) = 1": "dictGet",
    "dictHas('d', a)": "dictHas",
    "joinGet('j', 'x', a) = 1": "joinGet",
    "file('/etc/passwd') = ''": "file",
    "throwIf(a = 1) = 0": "throwIf",
    "sleep(3) = 0": "sleep",
    "`sleep`(3) = 0": "sleep",
    "nonsense(a)": "nonsense",
    "arrayJoin([1, 2]) = 1": "arrayJoin",
    "count() > 1": "count",
    "getSetting('x') = 1": "getSetting",
    "a = 1 SETTINGS additional_table_filters = 1": "SETTINGS",
    "a = 1 UNION ALL b": "UNION",
    "a = 1 AS b": "AS",
    "lower(a AS b) = 1": "AS",
    "CAST((a AS b) AS String) = ''": "AS",
    "@@x = 1": "@@",
    "a = 1 AND " + "(" * 200 + "1" + ")" * 200: "too deeply",
    "a" * 20_000: "longer",
}


@pytest.mark.parametrize("text", GOOD)
def test_a_condition_is_taken_as_it_is(text: str) -> None:
    check_condition(text)
    assert jwt_filter(text) == text


@pytest.mark.parametrize(("text", "why"), BAD.items(), ids=range(len(BAD)))
def test_d06_d08_d15_d17_d19_anything_else_is_refused_with_its_reason(text: str, why: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        check_condition(text)
    assert why in caught.value.message
    for _ in range(2):
        with pytest.raises(Forbidden) as refused:
            jwt_filter(text)
        assert caught.value.message in refused.value.message


@given(st.lists(st.sampled_from([*GOOD, *BAD, " ", "(", ")", "[", "]", ",", "'", "IN", "AS", "x", "--", "\\"]), max_size=6))
def test_what_passes_is_balanced_and_has_nothing_of_a_second_statement(pieces: list[str]) -> None:
    try:
        tokens = check_condition("".join(pieces))
    except ExpressionError:
        return
    depth = 0
    for token in tokens:
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(token.text, 0)
        assert depth >= 0
        assert token.text.upper() not in ("SELECT", ";", "WITH", "SETTINGS", "{")
    assert depth == 0

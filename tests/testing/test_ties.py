"""Rows that the ORDER BY of the rendered query leaves open may come in any order, and no others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipit.datafiles import read_project
from pipit.testing.cases import read_tests
from pipit.testing.harness import Harness, open_harness
from pipit.testing.run import run_project

pytestmark = pytest.mark.anyio

TABLE = "SCHEMA >\n    a String `json:$.a`,\n    n Int32 `json:$.n`,\n    k String `json:$.k`\n\nENGINE MergeTree\nENGINE_SORTING_KEY a\n"
# Sorted by n descending: first c, then a and b in any order, then d.
ROWS = '{"a":"a","n":3,"k":"x"}\n{"a":"b","n":3,"k":"y"}\n{"a":"c","n":5,"k":"x"}\n{"a":"d","n":1,"k":"y"}\n'
# Each leaves a and b open and nothing else.
OPEN = {
    "in_a_branch": "SELECT a, n FROM t {% if defined(up) %} ORDER BY n, a {% else %} ORDER BY n DESC {% end %}",
    "all_of_it_in_a_branch": "{% if not defined(up) %} SELECT a, n FROM t ORDER BY n DESC {% else %} SELECT 1 AS a {% end %}",
    "in_a_loop": "SELECT a, n FROM t ORDER BY {% for c in ['n'] %} -{{column(c)}}, {% end %} length(a)",
    "a_column": "SELECT a, n FROM t ORDER BY {{column(by, 'n')}} DESC",
    "a_name_of_the_template": "{% set by = 'n' %} SELECT a, n FROM t ORDER BY {{column(by)}} DESC",
    "a_value": "SELECT a, n FROM t ORDER BY n * {{Int32(sign, -1)}}",
    "a_condition": "SELECT a, n FROM t ORDER BY if({{String(by, 'n')}} = 'n', n, 0) DESC",
    "a_position": "SELECT a, n FROM t ORDER BY 2 DESC",
    "of_the_table": "SELECT a FROM t ORDER BY t.n DESC",
    "of_an_alias": "SELECT s.a AS a FROM t AS s {% if not defined(up) %} ORDER BY s.n DESC {% end %}",
    "of_a_node": "SELECT a FROM picked {% if not defined(up) %} ORDER BY picked.n DESC {% end %}",
    "of_groups": "SELECT a FROM t GROUP BY a {% if not defined(up) %} ORDER BY sum(n) DESC {% end %}",
    "of_a_join": "SELECT t.a AS a FROM t JOIN picked p ON p.a = t.a {% if not defined(up) %} ORDER BY p.n DESC {% end %}",
    "of_distinct_rows": "SELECT DISTINCT a, n FROM t {% if not defined(up) %} ORDER BY n DESC {% end %}",
    "a_union": "SELECT * FROM (SELECT a, n FROM t WHERE n > 2 UNION ALL SELECT a, n FROM t WHERE n <= 2) ORDER BY n DESC",
    "with_a_limit": "SELECT a, n FROM t {% if not defined(up) %} ORDER BY n DESC {% end %} LIMIT {{Int32(limit, 10)}}",
}
CLOSED = {
    "by_all": "SELECT n, a FROM t ORDER BY ALL DESC",
    "by_both_positions": "SELECT a, n FROM t ORDER BY 2 DESC, 1 DESC",
    "the_other_branch": "SELECT a, n FROM t {% if defined(up) %} ORDER BY n {% else %} ORDER BY n DESC, a DESC {% end %}",
}


def rows(text: str, order: str) -> str:
    """The four rows in this order, with the columns that the query has."""
    with_n = "SELECT a, n" in text or "DISTINCT a, n" in text or "SELECT *" in text
    numbers = {"a": 3, "b": 3, "c": 5, "d": 1}
    if "SELECT n, a" in text:
        return "".join(f'    {{"n":{numbers[a]},"a":"{a}"}}\n' for a in order)
    return "".join(f'    {{"a":"{a}","n":{numbers[a]}}}\n' if with_n else f'    {{"a":"{a}"}}\n' for a in order)


@pytest.fixture(scope="module")
async def harness(anyio_backend: str) -> AsyncIterator[Harness]:
    async with open_harness() as opened:
        yield opened


@pytest.mark.parametrize("policy", [False, True], ids=["as the workspace", "as a tenant"])
async def test_only_what_the_query_leaves_open_may_come_in_any_order(
    harness: Harness, tmp_path: Path, policy: bool
) -> None:
    """Also where branches, loops or values of the template decide by what the rows are sorted."""
    files = {
        "datasources/t.datasource": TABLE + ("\nROW_POLICY >\n    n < {{Int32(context.below)}}\n" if policy else ""),
        "fixtures/t.ndjson": ROWS + '{"a":"z","n":100,"k":"z"}\n' * policy,
    }
    expected: dict[str, str] = {}
    for name, text in (OPEN | CLOSED).items():
        node = "NODE picked\nSQL >\n    SELECT a, n FROM t\n\n" if "picked" in text else ""
        files[f"pipes/{name}.pipe"] = f"{node}NODE n\nSQL >\n    %\n    {text}\n\nTYPE endpoint\n"
        cases = "- as: {below: 50}\n" if policy else ""
        orders = ("cabd", "cbad", "acbd", "cadb")
        for order in orders:
            cases += f"- name: {order}\n  expected_result: |\n{rows(text, order)}"
            right = order in ("cabd", "cbad") if name in OPEN else order == "cbad"
            expected[f"{name}: {order}"] = "passed" if right else "failed"
        files[f"tests/{name}.yaml"] = cases
    for file, text in files.items():
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = await run_project(harness, tmp_path, read_project(tmp_path), read_tests(tmp_path), jobs=4)
    wrong = {r.test.id: (r.note, r.difference) for r in found.results if str(r.outcome) != expected[r.test.id]}
    assert len(found.results) == len(expected) and not wrong, wrong

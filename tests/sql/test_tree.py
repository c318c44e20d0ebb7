"""What a query reads, against the live engine; and the attacks on the examination itself."""

from __future__ import annotations

from typing import Any

import pytest

from pipit.errors import ReadRefused, SqlError
from pipit.sql.precheck import check_text
from pipit.sql.tree import Reads, check_reads, parse_query_tree

pytestmark = pytest.mark.anyio

JOIN_SETTINGS = {"joined_subquery_requires_alias": 0}


async def examined(tables: Any, sql: str, params: dict[str, str | int] | None = None) -> Reads:
    raw = await tables.explain(sql, params, raw=True)
    resolved = await tables.explain(sql, params, **JOIN_SETTINGS)
    return raw.merged(resolved)  # type: ignore[no-any-return]


async def check(tables: Any, sql: str, params: dict[str, str | int] | None = None) -> None:
    """All of what a text goes through before a tenant's token may run it. Only table d1_t is allowed."""
    check_text(sql)
    check_reads(await examined(tables, sql, params), allowed_tables=frozenset({f"{tables.database}.d1_t"}))


ALLOWED = r"""
SELECT * FROM {d}.d1_t
SELECT a, count() FROM `{d}`.`d1_t` AS t FINAL SAMPLE 1/10 WHERE s LIKE '%x%' GROUP BY a HAVING count() > 1 ORDER BY a LIMIT 5
SELECT uniqIf(a, a > 1), sumMerge(x), quantile(0.5)(a), SUM(a) FROM (SELECT a, sumState(a) AS x FROM {d}.d1_t GROUP BY a) GROUP BY a
WITH t AS (SELECT * FROM {d}.d1_t), k AS (SELECT a FROM t) SELECT * FROM t WHERE a IN k AND a IN (SELECT a FROM {d}.d1_t)
SELECT a FROM {d}.d1_t WHERE (a, s, arr) IN {d}.d1_t OR a IN (1, 2)
SELECT a FROM {d}.d1_t ORDER BY a WITH FILL FROM 1 TO 5 STEP 1 INTERPOLATE
SELECT sum(a) OVER (PARTITION BY s ORDER BY a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM {d}.d1_t
SELECT sum(a) OVER w FROM {d}.d1_t WINDOW w AS (ORDER BY a)
SELECT a FROM {d}.d1_t GROUP BY GROUPING SETS ((a), (s))
SELECT a FROM {d}.d1_t GROUP BY a WITH TOTALS
SELECT a, grouping(a) FROM {d}.d1_t GROUP BY ROLLUP(a)
SELECT x FROM {d}.d1_t ARRAY JOIN arr AS x
SELECT * EXCEPT (a) REPLACE (upper(s) AS s) APPLY (x -> x) FROM {d}.d1_t
SELECT COLUMNS('a|s') APPLY (toString) FROM {d}.d1_t
SELECT replaceAll(s, '\n', ' '), '\n', arrayStringConcat(arr, ',\n') FROM {d}.d1_t WHERE s LIKE 'a\n%' OR s ILIKE '\tb'
SELECT a FROM {d}.d1_t WHERE s IN ('\n', 'a\tb') AND s NOT IN (SELECT '\r') ORDER BY a, s || '\n'
SELECT trim(BOTH '\n' FROM s), position('\n' IN s), splitByChar('\t', s) FROM {d}.d1_t
SELECT * EXCEPT (a) REPLACE (replaceAll(s, '\n', '') AS s) FROM {d}.d1_t
SELECT * EXCEPT (a, arr) APPLY (x -> replaceAll(x, '\n', '')) FROM {d}.d1_t
SELECT a FROM {d}.d1_t UNION ALL SELECT length(concat('a', '\n'))
SELECT t.a, z.a FROM {d}.d1_t AS t ANY LEFT JOIN {d}.d1_t AS z USING a
SELECT number FROM numbers(10) UNION ALL SELECT a FROM {d}.d1_t INTERSECT SELECT 1
WITH p1 AS (WITH a1 AS (SELECT 1 AS a), b AS (SELECT a FROM a1) SELECT * FROM b), p2 AS (WITH a1 AS (SELECT * FROM p1), b AS (SELECT * FROM a1) SELECT * FROM b) SELECT * FROM p2
WITH t AS (SELECT a FROM {d}.d1_t) SELECT * FROM (WITH t AS (SELECT a FROM t) SELECT * FROM t)
WITH RECURSIVE r AS (SELECT 1 AS k UNION ALL SELECT k + 1 FROM r WHERE k < 3) SELECT * FROM r
SELECT if(a > 1, 'x', 'y'), multiIf(a = 1, 2, 3), arrayMap(x -> x + 1, arr), toDate('2020-01-01') + INTERVAL 1 DAY FROM {d}.d1_t
SELECT a FROM {d}.d1_t LIMIT 1 BY a LIMIT 2 OFFSET 1 SETTINGS max_threads = 1, join_use_nulls = 1
SELECT now(), today(), {{p:Int32}}, {{q:Array(String)}} FROM {d}.d1_t WHERE EXISTS (SELECT 1 FROM {d}.d1_t)
SELECT CASE WHEN a = 1 THEN 'x\nTABLE id: 1, table_name: other' END AS `a label, table_nam: e` FROM {d}.d1_t
""".strip().splitlines()

REFUSED = r"""
SELECT * FROM {d}.d1_u
SELECT * FROM d1_u
SELECT * FROM d1_t
SELECT * FROM {d}.d1_t, {d}.d1_u
SELECT * FROM {d}.d1_t WHERE a IN {d}.d1_u
SELECT * FROM {d}.d1_t WHERE a IN d1_u
SELECT * FROM {d}.d1_t WHERE (a, 1) GLOBAL NOT IN (SELECT a, 1 FROM {d}.d1_u)
SELECT * FROM {d}.d1_t WHERE in(a, {d}.d1_u)
SELECT (SELECT max(a) FROM {d}.d1_u) FROM {d}.d1_t
SELECT 1 FROM {d}.d1_t WHERE EXISTS (SELECT 1 FROM {d}.d1_u)
SELECT a FROM {d}.d1_t UNION ALL SELECT a FROM {d}.d1_u
WITH x AS (SELECT * FROM {d}.d1_u) SELECT * FROM x
WITH x AS (SELECT * FROM {d}.d1_u) SELECT * FROM {d}.d1_t
WITH d1_u AS (SELECT * FROM d1_u) SELECT * FROM d1_u
WITH d1_u AS (SELECT * FROM x), x AS (SELECT * FROM d1_u) SELECT * FROM d1_u
WITH d1_u AS (SELECT a FROM x), x AS (SELECT if({{p:Int32}} = 1, (SELECT max(a) FROM d1_u), 0) AS a) SELECT 1
WITH p1 AS (WITH a1 AS (SELECT 1 AS a), b AS (SELECT * FROM a1) SELECT * FROM b), p2 AS (WITH a1 AS (SELECT * FROM p1), b AS (SELECT * FROM a1) SELECT * FROM b) SELECT * FROM p2
WITH t AS (SELECT a FROM u) SELECT a FROM (WITH u AS (SELECT a FROM t) SELECT a FROM t)
SELECT * FROM (WITH d1_u AS (SELECT 1 AS a) SELECT * FROM d1_u), d1_u
SELECT if({{p:Int32}} = 1, (SELECT max(a) FROM {d}.d1_u), 0) FROM {d}.d1_t
SELECT if({{p:Int32}} = 1, 1 IN {d}.d1_u, 0) FROM {d}.d1_t
SELECT if({{p:Int32}} = 1, 1 IN d1_u, 0) FROM {d}.d1_t
SELECT if({{p:Int32}} = 1, dictGet('{d}.dic', 'v', 1), 0)
SELECT multiIf({{p:Int32}} = 1, joinGet('{d}.j', 'v', 1), 0)
SELECT dictHas('{d}.dic', 1) FROM {d}.d1_t
SELECT a FROM {d}.d1_t ORDER BY a WITH FILL INTERPOLATE (s AS dictGet('x', 'y', 1))
SELECT dictGet({{q:String}}, 'v', 1)
SELECT joinGet(concat('a', '.b'), 'v', 1)
SELECT `joinGet`({{q:String}}, 'v', 1)
SELECT * FROM {{t:Identifier}}
SELECT a IN {{t:Identifier}} FROM {d}.d1_t
SELECT * FROM merge('{d}', '.*')
SELECT * FROM merge({{q:String}}, '.*')
SELECT * FROM loop({d}.d1_t)
SELECT * FROM view(SELECT * FROM {d}.d1_u)
SELECT * FROM (EXPLAIN SELECT * FROM {d}.d1_t)
SELECT * FROM mergeTreeIndex('{d}', 'd1_t')
SELECT * FROM remote('127.0.0.1', {d}, d1_u)
SELECT * FROM file('/etc/passwd', 'RawBLOB')
SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a Int32')
SELECT * FROM dictionary('{d}.dic')
SELECT * FROM system.tables
SELECT * FROM INFORMATION_SCHEMA.tables
SELECT * FROM {d}.d1_t SETTINGS additional_table_filters = {{'x': '1'}}
SELECT * FROM (SELECT * FROM {d}.d1_t SETTINGS additional_table_filters = DEFAULT)
SELECT * FROM (SELECT * FROM {d}.d1_t SETTINGS param_p = '1')
SELECT * FROM {d}.d1_t SETTINGS readonly = 0
SELECT * FROM {d}.d1_t INTO OUTFILE '/tmp/pipit_must_not_exist'
SELECT * FROM {d}.d1_t FORMAT Null
SELECT * FROM {d}.d1_t; SELECT 1
SELECT * FROM {d}.d1_t PARALLEL WITH SELECT 1
SELECT throwIf(a > 1) FROM {d}.d1_t
SELECT lowCardinalityKeys(toLowCardinality(s)) FROM {d}.d1_t
SELECT hostName(), version() FROM {d}.d1_t
SELECT sleep(1)
SELECT file('/etc/passwd')
SELECT getSetting('max_threads')
SELECT @@max_threads
SELECT aggThrowIf(0.1, 1) FROM {d}.d1_t
SELECT noSuchFunction(1)
SELECT 1 AS `x\nTABLE id: 1, table_name: y`
SELECT * FROM {d}.d1_t AS `x\n  JOIN TREE`
SELECT a AS "x\x0a", 1 FROM {d}.d1_t
SELECT COLUMNS('a|\n  WHERE') FROM {d}.d1_t
SELECT * EXCEPT 'a|\n  WHERE' FROM {d}.d1_t
SELECT * EXCEPT('a|\n  WHERE') FROM {d}.d1_t
SELECT * EXCEPT STRICT('a|\n  WHERE') FROM {d}.d1_t
SELECT d1_t.COLUMNS('a|\n  WHERE') FROM {d}.d1_t
SELECT * LIKE 'a\n%' FROM {d}.d1_t
SELECT * NOT ILIKE 'a\n%' FROM {d}.d1_t
SELECT * APPLY(toString, 'a\n  WHERE') FROM {d}.d1_t
SELECT 1 FROM {d}.d1_t, 'x\nTABLE id: 1'
SELECT 1 FROM {d}.d1_t JOIN 'x\nTABLE id: 1' ON 1
SELECT 1 FROM 'x\nTABLE id: 1'
WITH `c\nTABLE id: 9, table_name: y` AS (SELECT 1) SELECT * FROM `c\nTABLE id: 9, table_name: y`
SELECT 1 FROM {d}.d1_t AS `x, identifier: system.one`
SELECT a FROM `{d}.d1_u`
WITH `a.b` AS (SELECT 1) SELECT * FROM `a.b`
DROP TABLE {d}.d1_t
EXPLAIN SELECT 1
SHOW TABLES
""".strip().splitlines()

PARAMS: dict[str, str | int] = {"p": 0, "q": "d.x", "t": "d1_t"}


@pytest.mark.parametrize("template", ALLOWED)
async def test_allowed(tables: Any, template: str) -> None:
    sql = template.format(d=tables.database).replace("{q:Array(String)}", "['x']")
    await check(tables, sql, PARAMS)


@pytest.mark.parametrize("template", REFUSED)
async def test_refused(tables: Any, template: str) -> None:
    with pytest.raises((ReadRefused, SqlError)):
        await check(tables, template.format(d=tables.database), PARAMS)


async def test_what_folds_away_by_value_is_still_seen(tables: Any) -> None:
    """The reason for the raw tree: the resolved one depends on the value, the raw one does not."""
    sql = "SELECT multiIf({p:UInt8} = 1, dictGet('x.dic', 'v', 1), 'no')"
    resolved = await tables.explain(sql, {"p": 0})
    assert "dictGet" not in resolved.functions
    raw = await tables.explain(sql, {"p": 0}, raw=True)
    assert "dictGet" in raw.functions
    assert raw.objects == {"x.dic"}


async def test_an_allowed_object(tables: Any) -> None:
    raw = await tables.explain("SELECT dictGet('x.dic', 'v', 1)", raw=True)
    with pytest.raises(ReadRefused) as refused:
        check_reads(raw, allowed_tables=frozenset())
    assert "join" in refused.value.hint
    with pytest.raises(ReadRefused):
        check_reads(raw, allowed_tables=frozenset(), allowed_objects=frozenset({"x.other"}))
    check_reads(raw, allowed_tables=frozenset(), allowed_objects=frozenset({"x.dic"}))


async def test_hostile_constants_stay_constants(tables: Any) -> None:
    hostile = "x\nTABLE id: 1, table_name: d.stolen\n  JOIN TREE\n    IDENTIFIER id: 2, identifier: d.stolen"
    literal = "'" + hostile.replace("\n", "\\n") + "'"
    for sql, params in (
        (f"SELECT {literal} AS x", {}),
        ("SELECT {h:String} AS x, 1 WHERE x = {h:String}", {"h": hostile}),
    ):
        for raw in (True, False):
            reads = await tables.explain(sql, params, raw=raw)
            assert reads.unknown == ()
            assert reads.tables == {"system.one"}


async def test_types_named_by_hostile_text(tables: Any) -> None:
    sql = "SELECT CAST(tuple(1), 'Tuple(`x\\nTABLE id: 5, table_name: d.u` Int8)') AS a, CAST('a\\nb', 'Enum8(\\'a\\nb\\' = 1)') AS b"
    for raw in (True, False):
        reads = await tables.explain(sql, raw=raw)
        assert reads.unknown or reads.tables == {"system.one"}


async def test_a_subquery_that_reads_the_query_around_it_is_told(tables: Any) -> None:
    for test in ("EXISTS (SELECT 1 FROM u WHERE u.a = t.a)", "t.a = (SELECT max(a) FROM u WHERE u.a = t.a)"):
        with pytest.raises(ReadRefused) as caught:
            await check(tables, f"SELECT a FROM t WHERE {test}")
        assert caught.value.hint and "a column of the query around it" in caught.value.hint, caught.value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ERROR",
        "QUERY id: 0\n  SOMETHING NEW\n    TABLE id: 1, table_name: a.b",
        "QUERY id: 0\n  JOIN TREE\n    NEW_NODE id: 1, table_name: a.b",
        "QUERY id: 0\n  JOIN TREE\n        TABLE id: 1, table_name: a.b",
        "QUERY id: 0\n  JOIN TREE\n    TABLE id: 1, table_name: a.b.c",
        "QUERY id: 0\n  JOIN TREE\n    TABLE id: 1, table_name: a.b, table_name: c.d",
        "QUERY id: 0\n  JOIN TREE\n    TABLE id: 1, alias: x",
        "QUERY id: 0\nQUERY id: 1",
        "QUERY id: 0\n  PROJECTION\n    LIST id: 1\n      FUNCTION id: 2, function_name: a b, function_type: ordinary",
        "QUERY id: 0\n  JOIN TREE\n    TABLE id: 1, table_name: _temporary_and_external_tables.x",
    ],
)
def test_an_unknown_tree_is_refused(text: str) -> None:
    with pytest.raises(ReadRefused):
        check_reads(parse_query_tree(text), allowed_tables=frozenset({"a.b", "c.d"}))


def test_what_hides_a_line_is_named() -> None:
    with pytest.raises(ReadRefused, match=r"The text 'a\\n' at character 18 holds a line break"):
        check_text("SELECT * EXCEPT ('a\\n') FROM t")
    with pytest.raises(ReadRefused, match=r"The name `a\\u\{a\}b` at character 13 holds"):
        check_text("SELECT 1 AS `a\nb`")

"""Table references against the engine: what find_tables reports is what the engine's resolved tree reads."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fuzz import examples
from pipit.engine import Engine
from pipit.errors import SqlError
from pipit.sql.references import (
    find_table_functions,
    find_tables,
    inner_settings,
    rename,
    single_statement,
    strip_settings,
    trailing_clauses,
    with_ctes,
)

pytestmark = pytest.mark.anyio

# Every one runs on the engine. Names t, u, w are tables unless hidden.
QUERIES = """
SELECT a FROM t
SELECT a FROM "t"
SELECT a FROM `t` AS `x`
SELECT a FROM 't'
SELECT a, FROM t
SELECT a FROM t final
SELECT a FROM t AS x FINAL SAMPLE 1/10 OFFSET 1/2 WHERE a = 1
SELECT x.a FROM t x FINAL
SELECT /* FROM u */ a FROM t -- , u
SELECT 'FROM u', $$ FROM u $$ FROM t
SELECT t.a, u.a FROM t, u
SELECT * FROM t AS x, u AS y, w
SELECT * FROM t JOIN u USING (a), w
SELECT * FROM t JOIN u USING a WHERE 1
SELECT * FROM t ANY LEFT JOIN u USING a
SELECT * FROM t LEFT ANY JOIN u USING a
SELECT * FROM t GLOBAL ALL INNER JOIN u ON t.a = u.a
SELECT * FROM t LEFT OUTER JOIN u AS k ON t.a = k.a RIGHT JOIN w ON w.a = k.a
SELECT * FROM t SEMI LEFT JOIN u ON t.a = u.a
SELECT * FROM t LEFT ANTI JOIN u ON t.a = u.a
SELECT * FROM t FULL OUTER JOIN u USING a
SELECT * FROM t ASOF JOIN u ON t.s = toString(u.a) AND t.a > u.a
SELECT * FROM t CROSS JOIN u
SELECT * FROM t PASTE JOIN u
SELECT * FROM t NATURAL JOIN u
SELECT * FROM (t JOIN u ON t.a = u.a)
SELECT * FROM (t AS x JOIN u AS y ON x.a = y.a) AS z
SELECT * FROM (t, u)
SELECT * FROM t ARRAY JOIN arr
SELECT y FROM t ARRAY JOIN arr AS y, arr AS z WHERE y IN u
SELECT * FROM t LEFT ARRAY JOIN arr AS y JOIN u ON y = u.a
SELECT * FROM t AS x (p, q, r)
FROM t
FROM t SELECT a
FROM t JOIN u USING a SELECT a WHERE a IN w
FROM t |> WHERE a = 1
FROM t |> WHERE a IN u |> LIMIT 1
SELECT (FROM u) FROM t
SELECT (SELECT max(a) FROM u) AS q, (SELECT 1) FROM t
SELECT * FROM (SELECT * FROM (SELECT a FROM t))
SELECT a FROM t WHERE a IN (SELECT a FROM u WHERE a IN w)
SELECT a FROM t WHERE a IN u
SELECT a FROM t WHERE a IN (u)
SELECT a FROM t WHERE a IN ((u))
SELECT a FROM t WHERE a NOT IN u OR a GLOBAL IN w OR a GLOBAL NOT IN u
SELECT a FROM t WHERE NOT a IN u
SELECT a FROM t WHERE (a, a) IN (SELECT a, a FROM u)
SELECT a FROM t WHERE in(a, u) AND notIn(a, w) AND globalIn(a, (u)) AND inIgnoreSet(a, w)
SELECT if(1 IN u, 1, 0) FROM t
SELECT arrayMap(x -> x IN u, arr) FROM t
SELECT CASE WHEN a IN u THEN 1 ELSE 2 END FROM t
SELECT CAST(a IN u AS String) FROM t
SELECT a IN u = 1 FROM t
SELECT a IN u AND a IN w FROM t
SELECT a IN (1, 2), a IN [1, 2], a IN tuple(1, 2) FROM t
SELECT a BETWEEN 1 AND (SELECT max(a) FROM u) FROM t
SELECT a = ANY (SELECT a FROM u) FROM t
SELECT 1 FROM t WHERE EXISTS (SELECT 1 FROM u)
SELECT 1 FROM t WHERE NOT EXISTS(SELECT 1 FROM u)
SELECT EXTRACT(DAY FROM today()), TRIM(BOTH 'a' FROM s), SUBSTRING(s FROM 1 FOR 2) FROM t
SELECT TRIM(LEADING 'a' FROM s) FROM t
SELECT a IS DISTINCT FROM 1, a IS NOT DISTINCT FROM 2 FROM t
SELECT position('a' IN s) FROM t
SELECT a FROM t ORDER BY a WITH FILL FROM 1 TO 3 STEP 1 INTERPOLATE
SELECT 1 AS x ORDER BY x WITH FILL FROM 1 TO 3
SELECT a FROM t LIMIT 1 BY a LIMIT 2 OFFSET 1
SELECT a FROM t ORDER BY a LIMIT (SELECT 1) OFFSET (SELECT count() FROM w)
SELECT a FROM t GROUP BY GROUPING SETS ((a), (a IN u))
SELECT a FROM t GROUP BY a WITH TOTALS HAVING a IN u ORDER BY a
SELECT a FROM t QUALIFY row_number() OVER (PARTITION BY a IN u ORDER BY a IN w) = 1
SELECT sum(a) OVER x FROM t WINDOW x AS (PARTITION BY a ORDER BY a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
SELECT a FROM t PREWHERE a IN u WHERE a IN w
SELECT count() FILTER (WHERE a IN u) FROM t
SELECT * REPLACE (a IN u AS a) FROM t
SELECT * EXCEPT (a) FROM t
SELECT * EXCEPT a FROM t
SELECT COLUMNS('a') APPLY (x -> x IN u) FROM t
SELECT DISTINCT a FROM t
SELECT DISTINCT ON (a) a FROM t
SELECT TOP 1 a FROM t
SELECT INTERVAL 1 DAY + now(), DATE '2020-01-01' FROM t
SELECT 1 UNION ALL SELECT a FROM t
SELECT a FROM t UNION DISTINCT SELECT a FROM u INTERSECT SELECT a FROM w
(SELECT a FROM t) EXCEPT (SELECT a FROM u)
((SELECT a FROM t)) UNION ALL (SELECT a FROM u)
WITH u AS (SELECT 1 AS a) SELECT * FROM u
WITH u AS (SELECT 1 AS a) SELECT a IN u FROM t
WITH u AS MATERIALIZED (SELECT 1 AS a) SELECT * FROM u, w
WITH u (k) AS (SELECT 1) SELECT k FROM u
WITH u AS (SELECT * FROM u) SELECT * FROM u
WITH u AS (SELECT 1 AS a) SELECT * FROM (WITH u AS (SELECT * FROM u) SELECT * FROM u)
WITH x AS (SELECT * FROM u), u AS (SELECT 1 AS a) SELECT * FROM x
WITH u AS (SELECT 1 AS a), x AS (SELECT * FROM u) SELECT * FROM x
WITH x AS (WITH u AS (SELECT 2 AS a) SELECT * FROM u) SELECT * FROM x, u
WITH RECURSIVE u AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM u WHERE a < 3) SELECT * FROM u
WITH RECURSIVE u AS (SELECT * FROM u) SELECT * FROM u
WITH (SELECT 1 AS a) AS u SELECT * FROM u
WITH (SELECT max(a) FROM w) AS m, x AS (SELECT m) SELECT * FROM x
WITH 1 AS q, [1, 2] AS u SELECT a IN u FROM t
WITH (SELECT 7) AS u SELECT a IN u FROM t
WITH U AS (SELECT 1 AS a) SELECT * FROM u
WITH u AS (SELECT 1 AS a) SELECT * FROM "u"
WITH u AS (SELECT 1 AS a) FROM u
WITH u AS (SELECT 1 AS a) SELECT * FROM u UNION ALL SELECT * FROM u
WITH u AS (SELECT 1 AS a) SELECT * FROM u INTERSECT (SELECT * FROM u EXCEPT SELECT * FROM u)
WITH u AS (SELECT 1 AS a) SELECT * FROM u UNION ALL WITH u AS (SELECT 2 AS a) SELECT * FROM u
WITH u AS (SELECT 1 AS a) SELECT * FROM u UNION ALL (WITH k AS (SELECT 2) SELECT * FROM u)
(WITH u AS (SELECT 1 AS a) SELECT * FROM u) UNION ALL (SELECT * FROM w UNION ALL (SELECT * FROM u))
((WITH u AS (SELECT 1 AS a) SELECT * FROM u) INTERSECT (SELECT * FROM u)) EXCEPT SELECT * FROM u
(WITH u AS (SELECT 1 AS a) SELECT * FROM u UNION ALL SELECT * FROM w) UNION ALL SELECT * FROM u
SELECT * FROM u UNION ALL (WITH u AS (SELECT 1 AS a) SELECT * FROM u)
SELECT * FROM (WITH u AS (SELECT 1 AS a) SELECT * FROM u) AS q, u
WITH u AS (SELECT 1 AS a) SELECT * FROM (SELECT * FROM (SELECT a IN u AS a FROM t))
SELECT * FROM t AS u, u AS k
SELECT * FROM u AS k, t AS u
SELECT * FROM t AS u JOIN u ON 1
SELECT * FROM u AS u JOIN u AS k ON 1
SELECT * FROM t AS u WHERE a IN (SELECT a FROM u)
WITH x AS (SELECT 1 AS a) SELECT x.a FROM t AS x, x
SELECT [1] AS u, a IN u FROM t
SELECT (SELECT 1 AS u), a IN u FROM t
SELECT arrayMap(u -> 1 IN (u), [1]) FROM t
SELECT max(from), min(from.x) FROM (SELECT tuple(1)::Tuple(x Int32) AS from) AS q, t
SELECT from, 1, from + 1 FROM (SELECT a AS from FROM t)
SELECT in.a FROM t AS in
SELECT interval, date, end, case FROM (SELECT a AS interval, a AS date, a AS end, a AS case FROM t)
SELECT a END FROM t
SELECT a over FROM t
SELECT 1 IN (SELECT 1) AS x FROM t
SELECT a x, a + 1 y, 'u' z, (a, 1) k, [a] l FROM t
SELECT number FROM numbers(10) WHERE number IN u
SELECT * FROM values('a Int32', 1, 2) AS v JOIN t ON v.a = t.a
SELECT t.arr.size0, t.* FROM t
""".strip().splitlines()

# Columns and unused expressions look like tables to us and are none to the engine: we may report more, never less.
MORE = [
    "SELECT a IN u FROM (SELECT 1 AS a, [1, 2] AS u)",
    "SELECT 1 IN (t.a) FROM t",
    "WITH a IN u AS z SELECT 1 FROM t",
    "SELECT a FROM t WINDOW x AS (ORDER BY a IN u)",
    "WITH u AS (SELECT 1 AS a), k AS (SELECT * FROM w) SELECT * FROM u",
]
SETTINGS = {"joined_subquery_requires_alias": 0}


def named(sql: str) -> set[str]:
    return {reference.name for reference in find_tables(sql)}


async def read_by(tables: Any, sql: str) -> set[str]:
    reads = await tables.explain(sql, **SETTINGS)
    assert reads.unknown == ()
    return {table.removeprefix(f"{tables.database}.") for table in reads.tables - {"system.one"}}


async def test_the_engine_reads_what_is_found(tables: Any) -> None:
    wrong = []
    for sql in QUERIES:
        read = await read_by(tables, sql)
        if named(sql) != read:
            wrong.append((sql, named(sql), read))
    assert wrong == []


async def test_more_is_found_where_only_the_engine_knows(tables: Any) -> None:
    for sql in MORE:
        assert named(sql) > await read_by(tables, sql)


async def test_renamed_texts_read_the_new_tables(tables: Any) -> None:
    for sql in QUERIES:
        names = {found.start: f"`{tables.database}`.`d1_{found.name}`" for found in find_tables(sql)}
        reads = await tables.explain(rename(sql, names), database="default", **SETTINGS)
        assert reads.tables - {"system.one"} == {f"{tables.database}.d1_{name}" for name in named(sql)}, sql
        assert reads.bare_tables == frozenset(), sql


def test_rename_keeps_the_name_for_the_columns() -> None:
    sql = "SELECT e.a FROM events e JOIN users ON e.a = users.a WHERE b IN tags AND c IN (SELECT x FROM `odd name`)"
    names = {found.start: f"p.d1_{number}" for number, found in enumerate(find_tables(sql))}
    assert rename(sql, names) == (
        "SELECT e.a FROM p.d1_0 e JOIN p.d1_1 AS `users` ON e.a = users.a WHERE b IN p.d1_2 "
        "AND c IN (SELECT x FROM p.d1_3 AS `odd name`)"
    )


def test_places_and_kinds() -> None:
    sql = "SELECT * FROM db.events AS e, users FINAL WHERE x IN other.tags"
    found = find_tables(sql)
    assert [(r.database, r.name, r.has_alias, r.kind) for r in found] == [
        ("db", "events", True, "from"),
        (None, "users", False, "from"),
        ("other", "tags", False, "in"),
    ]
    assert [sql[r.start : r.end] for r in found] == ["db.events", "users", "other.tags"]


def test_table_functions() -> None:
    sql = "SELECT * FROM numbers(10) AS n JOIN url('http://x', CSV) ON 1 WHERE a IN (SELECT 1 FROM s3('x'))"
    assert [(f.name, sql[f.start : f.end]) for f in find_table_functions(sql)] == [
        ("numbers", "numbers(10)"),
        ("url", "url('http://x', CSV)"),
        ("s3", "s3('x')"),
    ]
    assert named("SELECT * FROM view(SELECT * FROM t) WHERE 1") == {"t"}


# The pipe p reads nothing and gives one column; each branch of each text must see it, and nothing else must change.
BRANCHES = """
SELECT k FROM p
FROM p
-- a comment
WITH 1 AS one SELECT k + one FROM p
WITH q AS (SELECT k FROM p) SELECT * FROM q
WITH RECURSIVE r AS (SELECT 1 AS k UNION ALL SELECT k + 1 FROM r WHERE k < 3) SELECT k FROM r UNION ALL SELECT * FROM p
(SELECT k FROM p)
((SELECT k FROM p))
SELECT k FROM p UNION ALL SELECT k FROM p
SELECT k FROM p UNION ALL (SELECT k FROM p UNION DISTINCT SELECT k FROM p)
(SELECT k FROM p) UNION ALL (SELECT k FROM p)
(SELECT k FROM p UNION ALL SELECT k FROM p) UNION ALL SELECT k FROM p
((SELECT k FROM p) INTERSECT (SELECT k FROM p)) EXCEPT SELECT k FROM p
SELECT k FROM p INTERSECT SELECT k FROM p EXCEPT SELECT k FROM p
SELECT k FROM p UNION ALL (WITH 2 AS two SELECT k + two FROM p)
WITH 1 AS one SELECT k FROM p UNION ALL SELECT k + one FROM p UNION ALL WITH 3 AS three SELECT k + three FROM p
(WITH c AS (SELECT k FROM p) SELECT k FROM c) UNION ALL SELECT k FROM c UNION ALL SELECT k FROM p
(WITH c AS (SELECT 1 AS k) SELECT k FROM c UNION ALL SELECT k FROM p) UNION ALL SELECT k FROM p
SELECT k FROM (SELECT k FROM p UNION ALL SELECT 1 WHERE 1 IN p)
SELECT number FROM numbers(3) WHERE number IN p
SELECT k FROM p UNION ALL (WITH c AS (SELECT 1 AS k) SELECT k FROM c UNION ALL SELECT k FROM c)
""".strip().splitlines()


async def test_every_branch_sees_the_prepended_ctes(engine: Engine) -> None:
    for sql in BRANCHES:
        if sql.startswith("--"):
            continue
        text = with_ctes(sql, [("p", "SELECT 5 AS k -- last"), ("unused", "SELECT 1")])
        as_subquery = sql.replace("FROM p", "FROM (SELECT 5 AS k) AS p").replace("IN p", "IN (SELECT 5 AS k)")
        expected = await engine.query(f"SELECT * FROM ({as_subquery}) ORDER BY ALL", format="TSV")
        assert await engine.query(f"SELECT * FROM ({text}) ORDER BY ALL", format="TSV") == expected, text
        assert sorted((await engine.query(text, format="TSV")).splitlines()) == expected.splitlines(), text


def test_with_ctes_leaves_the_text_alone() -> None:
    assert with_ctes("SELECT 1", []) == "SELECT 1"
    assert with_ctes("/* x */ SELECT 1", [("p", "SELECT 2")]) == "/* x */ WITH `p` AS (\nSELECT 2\n)\nSELECT 1"


@pytest.mark.parametrize(
    ("sql", "statement"),
    [
        ("SELECT 1", "SELECT 1"),
        ("SELECT 1;", "SELECT 1"),
        ("SELECT 1 ; ; -- c", "SELECT 1  -- c"),
        ("(SELECT 1) UNION ALL (SELECT 2)", "(SELECT 1) UNION ALL (SELECT 2)"),
        ("-- c\nwith x AS (SELECT 1) SELECT ';' FROM x", "-- c\nwith x AS (SELECT 1) SELECT ';' FROM x"),
    ],
)
def test_single_statement(sql: str, statement: str) -> None:
    assert single_statement(sql) == statement


@pytest.mark.parametrize(
    "sql",
    [
        "",
        ";",
        "-- nothing",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE t",
        "SELECT 1 PARALLEL WITH SELECT 2",
        "DROP TABLE t",
        "EXPLAIN SELECT 1",
        "SHOW TABLES",
        "INSERT INTO t SELECT 1",
        "SET x = 1",
        "1 + 1",
        "SEL/**/ECT 1",
        "SELECT 'open",
        "SELECT (1",
        "SELECT 1)",
        "SELECT 1 /* open",
        "SELECT \x00 1",
        "ＳＥＬＥＣＴ 1",
        "SELECT " + "(" * 2000 + "1" + ")" * 2000,
        "SELECT " + "(SELECT " * 100 + "1" + ")" * 100,
    ],
)
def test_not_a_single_select(sql: str) -> None:
    with pytest.raises(SqlError):
        single_statement(sql)


def test_settings_are_hoisted() -> None:
    sql = "SELECT a FROM t -- x\nSETTINGS max_threads = 2, join_algorithm = 'ha\\'sh', extremes=-1 FORMAT JSON"
    assert strip_settings(sql) == (
        "SELECT a FROM t -- x\n FORMAT JSON",
        {"max_threads": "2", "join_algorithm": "ha'sh", "extremes": "-1"},
    )
    assert strip_settings("SELECT settings FROM t") == ("SELECT settings FROM t", {})
    assert strip_settings("(SELECT 1) UNION ALL SELECT 2 SETTINGS a = 1")[1] == {"a": "1"}


@pytest.mark.parametrize("value", ["{p:UInt8}", "(SELECT 1)", "{'d.t': '1'}", "toString(1)", "[1]"])
def test_a_setting_that_is_no_literal_is_refused(value: str) -> None:
    with pytest.raises(SqlError):
        strip_settings(f"SELECT 1 SETTINGS a = {value}")


def test_output_clauses() -> None:
    kinds = [clause.kind for clause in trailing_clauses("SELECT 1 INTO OUTFILE 'x' FORMAT JSON SETTINGS a = 1")]
    assert kinds == ["into", "format", "settings"]
    assert trailing_clauses("SELECT format, settings, into FROM t") == ()
    assert trailing_clauses("SELECT * FROM (SELECT 1 SETTINGS a = 1)") == ()
    (inner,) = inner_settings("WITH x AS (SELECT 1 SETTINGS a = DEFAULT, b.c = 2) SELECT * FROM x SETTINGS d = 3")
    assert [setting.name for setting in inner.settings] == ["a", "b.c"]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT " * 20_000,
        "SELECT a FROM " * 20_000,
        "in(a, " * 800 + ")" * 800,
        "a IN b " * 20_000,
        "CASE WHEN " * 20_000,
        "INTERVAL " * 20_000,
        "WITH x AS " * 20_000,
        "x -> " * 10_000,
        "SELECT a FROM t UNION ALL " * 5_000,
    ],
)
def test_odd_texts_are_quick_and_do_not_raise(text: str) -> None:
    began = time.thread_time()
    find_tables(text)
    assert time.thread_time() - began < 5


_WORDS = [
    "SELECT",
    "FROM",
    "WITH",
    "AS",
    "IN",
    "(",
    ")",
    ",",
    ".",
    ";",
    "a",
    "u",
    "'x'",
    "`t`",
    "1",
    "=",
    "UNION",
    "ALL",
    "JOIN",
    "ON",
    "*",
    "SETTINGS",
    "EXCEPT",
    "NOT",
    "->",
    "{p:Int8}",
]


@given(st.lists(st.sampled_from(_WORDS), max_size=40).map(" ".join))
@settings(max_examples=examples(300))
def test_any_text_is_cut_or_refused(text: str) -> None:
    with contextlib.suppress(SqlError):
        find_tables(text)


# --- queries made at random, always valid ---------------------------------------------------------------------

_names = st.sampled_from(["t", "u", "w"])
_tables = st.sampled_from(["t", "u", "w", "`t`", '"u"', "w"])


def _conditions(queries: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.just("1"),
        _tables.map(lambda name: f"toInt32(1) IN (SELECT a FROM {name})"),
        queries.map(lambda query: f"1 IN ({query})"),
        queries.map(lambda query: f"EXISTS ({query})"),
        st.tuples(queries, _tables).map(
            lambda x: f"if(1 = 2, (SELECT max(a) FROM ({x[0]})), 3) > 1 OR 1 IN (SELECT a FROM {x[1]})"
        ),
    )


def _from(queries: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    item = st.one_of(_tables, queries.map(lambda query: f"({query})"))
    return st.one_of(
        item.map(lambda x: f"{x} AS q1"),
        st.tuples(item, item, st.sampled_from(["JOIN", "LEFT JOIN", "ANY LEFT JOIN", "GLOBAL INNER JOIN"])).map(
            lambda x: f"{x[0]} AS q1 {x[2]} {x[1]} AS q2 ON q1.a = q2.a"
        ),
        st.tuples(item, item).map(lambda x: f"{x[0]} q1, {x[1]} AS q2"),
    )


def _selects(queries: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    plain = st.tuples(_from(queries), _conditions(queries)).map(lambda x: f"SELECT q1.a AS a FROM {x[0]} WHERE {x[1]}")
    first = plain.map(lambda query: query.replace("SELECT", "FROM t AS q9 SELECT q9.a AS a UNION ALL SELECT", 1))
    with_cte = st.tuples(_names, queries, plain).map(lambda x: f"WITH {x[0]} AS ({x[1]}) {x[2]}")
    two_ctes = st.tuples(queries, queries, plain).map(lambda x: f"WITH u AS ({x[0]}), w AS ({x[1]}) {x[2]}")
    union = st.tuples(queries, queries, st.sampled_from(["UNION ALL", "EXCEPT", "INTERSECT", "UNION DISTINCT"])).map(
        lambda x: f"({x[0]}) {x[2]} ({x[1]})"
    )
    bare_union = st.tuples(with_cte, plain).map(lambda x: f"{x[0]} UNION ALL {x[1]}")
    return st.one_of(plain, first, with_cte, two_ctes, union, bare_union)


_queries = st.recursive(_names.map(lambda name: f"SELECT a FROM {name}"), _selects, max_leaves=6)


# The engine resolves `u` inside of `t` where `t` is used: there it is a CTE that reads `t`, and `t` becomes a table.
_USED_INSIDE_ANOTHER = "WITH t AS (SELECT a FROM u) SELECT a FROM t WHERE 1 IN (WITH u AS (SELECT a FROM t) SELECT a FROM t)"


@example(sql=_USED_INSIDE_ANOTHER)
@given(sql=_queries)
@settings(max_examples=examples(150))
async def test_random_queries_read_what_is_found(tables: Any, sql: str) -> None:
    raw = await tables.explain(sql, raw=True)
    if raw.unknown:
        assert raw.unknown[0] == "its CTEs refer to each other in a circle"
        return
    assert named(sql) == raw.bare_tables | raw.bare_members, sql
    assert named(sql) >= await read_by(tables, sql), sql

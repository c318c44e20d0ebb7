from __future__ import annotations

import pytest

from pipit.engine import Engine
from pipit.sql.outputs import interval_parameters, sample_parameters, unaliased_parameters, unsupported_parameters

UNALIASED = [
    "SELECT {x:Int32}",
    "SELECT a, toDate({x:Date}) FROM t GROUP BY a",
    "SELECT (SELECT {x:Int32}) FROM t",
    "WITH q AS (SELECT {x:Int32}) SELECT * FROM q",
    "SELECT sum(a) FILTER (WHERE b = {x:Int32}) FROM t",
    "SELECT INTERVAL {x:Int32} DAY",
    "SELECT {x:Array(String)}[1], b AS c",
    "SELECT DISTINCT {x:Int32} FROM t",
    "SELECT DISTINCT ON (a) {x:Int32} FROM t",
    "SELECT (1 AS y, {x:Int32})",
    "SELECT 1 UNION ALL SELECT {x:Int32}",
    "SELECT a FROM t WHERE b IN (SELECT {x:Int32} UNION ALL SELECT c FROM d)",
    "SELECT TOP 1 {x:Int32} FROM t",
    "FROM t SELECT {x:Int32}",
    "SELECT {x:Int32}, FROM t",
    "SELECT EXTRACT(DAY FROM {x:Date}) FROM t",
    "SELECT {x:Int32} FROM t FORMAT JSON",
    "SELECT CAST({x:Int32} AS String) FROM t",
    "SELECT arrayMap(y -> y + {x:Int32}, a) FROM t",
    "SELECT CASE WHEN {x:Int32} THEN 1 END",
    "SELECT count() OVER (ORDER BY a ROWS BETWEEN {x:Int32} PRECEDING AND CURRENT ROW) FROM t",
]
BOUND = [
    "SELECT {x:Int32} AS y",
    "SELECT {x:Int32} y, 1 FROM t",
    "SELECT {x:Int32} `y z` FROM t",
    "SELECT a FROM t WHERE b = {x:Int32} ORDER BY {x:Int32} LIMIT {x:UInt8}",
    "WITH {x:Int32} AS k SELECT k",
    "SELECT CASE WHEN {x:Int32} THEN 1 END end FROM t",
    "SELECT INTERVAL {x:Int32} DAY d, 1",
    "SELECT INTERVAL {x:Int32} DAY AS d",
    "SELECT f(a)::String, {x:Int32}::String y",
    "SELECT a FROM t GROUP BY a HAVING count() > {x:Int32}",
    "SELECT a FROM t JOIN u ON a = {x:Int32}",
    "SELECT (SELECT {x:Int32} AS y) z",
    "SELECT a FROM numbers({x:UInt8})",
    "SELECT a FROM t LIMIT {x:UInt8} BY a",
    "SELECT a IN ({x:Int32}) AS b FROM t",
    "SELECT sum({x:Int32}) OVER w AS s FROM t WINDOW w AS (ORDER BY a)",
]


@pytest.mark.parametrize("sql", UNALIASED)
def test_printed(sql: str) -> None:
    assert unaliased_parameters(sql) == {sql.index("{")}


@pytest.mark.parametrize("sql", BOUND)
def test_bound(sql: str) -> None:
    assert unaliased_parameters(sql) == frozenset()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "select", ["{x:Int32}", "{x:Int32} + 1", "{x:Int32} y", "{x:Int32} + 1 AS z", "(1, {x:Int32})", "[{x:Int32}] q"]
)
async def test_the_engine_names_exactly_these_after_the_value(engine: Engine, select: str) -> None:
    sql = f"SELECT {select}"
    names = [list((await engine.rows(sql, {"x": value}))[0]) for value in (5, 6)]
    assert (names[0] != names[1]) == bool(unaliased_parameters(sql))


def test_sample() -> None:
    sql = "SELECT * FROM t SAMPLE {x:Float32} OFFSET {x:Float32} WHERE {x:Int32}"
    assert sample_parameters(sql) == {sql.index("{"), sql.index("{", 30)}


@pytest.mark.parametrize(
    ("sql", "count"),
    [
        ("SELECT a + INTERVAL {x:String} AS b FROM t", 1),
        ("SELECT toStartOfInterval(a, INTERVAL {x:String}) AS b, now() - INTERVAL {x:Int32} DAY FROM t", 1),
        ("SELECT 1 AS b FROM t WHERE a > now() - INTERVAL {x:String} AND b > now() - interval {x:String}", 2),
        ("SELECT interval, {x:String} AS b FROM t GROUP BY interval", 0),
    ],
)
def test_intervals_with_their_unit(sql: str, count: int) -> None:
    assert len(interval_parameters(sql)) == count


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM {x:Identifier}",
        "SELECT * FROM { x : Identifier }",
        "SELECT * FROM {x /**/ : Identifier}",
        "SELECT 1 SETTINGS max_threads = {x:UInt8}",
        "SELECT * FROM (SELECT 1 SETTINGS max_threads = {x:UInt8})",
    ],
)
def test_unsupported(sql: str) -> None:
    assert unsupported_parameters(sql)


def test_supported() -> None:
    assert unsupported_parameters("SELECT {x:Int32} FROM t WHERE a IN {y:Array(String)} LIMIT {z:UInt8}") == {}

"""Whether a condition on a fixed parameter confines every read, on trees of the real engine."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pipit.audit.confinement import reads_of, sees
from pipit.engine import Engine
from pipit.sql.tree import EXPLAIN_RAW, EXPLAIN_RESOLVED

pytestmark = pytest.mark.anyio

DATABASE = "audit_confinement"
TEXT, NUMBER, UUID = "Mark", 1987654329, "5f0c9d1e-7a3b-4c2d-9e8f-1a2b3c4d5e6f"
PARAMS = {"p": TEXT, "list": [TEXT], "flag": 0, "number": NUMBER, "digits": str(NUMBER), "uuid": UUID}
COLUMNS = {
    f"{DATABASE}.ev": frozenset({"tenant"}),
    f"{DATABASE}.us": frozenset({"tenant"}),
    f"{DATABASE}.num": frozenset({"tid", "uid"}),
}

CONFINED = [
    "select x from ev where tenant = {p:String}",
    "select x from ev prewhere tenant = {p:String}",
    "select x from ev where toString(tenant) in {list:Array(String)}",
    "select x from ev where tenant in ({p:String}) and x > 1",
    "select x from ev array join [1, 2] as k where has({list:Array(String)}, tenant)",
    "select n from num where tid = {number:UInt64}",
    "select n from num where tid = toUInt64({digits:String})",
    "select n from num where toString(tid) = {digits:String}",
    "select n from num where uid = {uuid:String}",
    # What an equal column hands on, where the join narrows that side.
    "with e as (select * from ev where tenant = {p:String}) "
    "select e.x, u.y from e left join (select * from us) as u on u.tenant = e.tenant",
    "with e as (select * from ev where tenant = {p:String}) "
    "select e.x, u.y from e join (select * from us) as u on u.tenant = e.tenant",
    "select e.x, u.y from ev e left join us u on u.tenant = e.tenant where u.tenant = {p:String}",
    "select e.x, u.y from ev e left join us u on e.x = u.y where e.tenant = {p:String} and u.tenant = {p:String}",
    "select e.x, u.y from ev e any left join us u on e.x = u.y and e.tenant = u.tenant where e.tenant = {p:String}",
    "select e.x, u.y from ev e, us u where e.tenant = u.tenant and u.tenant = {p:String}",
    "select x, tenant from ev e join us u using (tenant) where tenant = {p:String}",
    "select e.x, w.y from ev e left join us u on u.tenant = e.tenant left join us w on w.tenant = e.tenant "
    "where e.tenant = {p:String}",
    # From outside into a subquery that takes rows or whole groups.
    "select x from (select tenant, x from ev union all select tenant, y from us) where tenant = {p:String}",
    "select tenant, s from (select tenant, sum(x) s from ev group by tenant) where tenant = {p:String}",
    "select tenant, sum(x) s from ev group by tenant having tenant = {p:String}",
    "select x / (select sum(x) from ev where tenant = {p:String}) from ev where tenant = {p:String}",
]

NOT_CONFINED = [
    "select x from ev",
    "select x from ev where tenant = {p:String} or x = 1",
    "select x from ev where ({flag:UInt8} = 1 or tenant = {p:String})",
    "select x from ev where if({flag:UInt8} = 1, 1, tenant = {p:String})",
    # The engine leaves out a branch that is not taken where it cannot resolve it: only the condition is in the tree then.
    "select x from ev where if({flag:UInt8} = 1, isNull(dictGetOrNull('gone', 'a', tenant)), tenant = {p:String})",
    "select x from ev where tenant in ({p:String}, 'b')",
    "select x from ev where tenant != {p:String}",
    "select x from ev where lower(tenant) = {p:String}",
    "select n from num where toUInt32(tid) = {number:UInt64}",
    # A condition on the other side's column, or on a side that an outer join keeps whole.
    "with e as (select * from ev where tenant = {p:String}) "
    "select e.x, u.y from e right join (select * from us) as u on u.tenant = e.tenant",
    "with e as (select * from ev where tenant = {p:String}) "
    "select e.x, u.y from e join (select * from us limit 1) as u on u.tenant = e.tenant",
    "select e.x, u.y from ev e left join us u on u.tenant = e.tenant and u.tenant = {p:String}",
    "select e.x, u.y from ev e left join us u on u.tenant = e.tenant and e.tenant = {p:String}",
    "select e.x, u.y from ev e left join us u on e.x = u.y where u.tenant = {p:String}",
    "select e.x, u.y from ev e left join us u on e.x = u.y where e.tenant = {p:String}",
    "select e.x, u.y from ev e full join us u on u.tenant = e.tenant and e.tenant = {p:String}",
    "select e.x, u.y from ev e any left join us u on e.x = u.y where e.tenant = {p:String} and u.tenant = {p:String}",
    # `u.tenant` is '' where nothing matches, and rows of '' would be read.
    "select e.x, w.y from ev e left join us u on u.tenant = e.tenant left join us w on w.tenant = u.tenant "
    "where e.tenant = {p:String}",
    # One arm, one subquery, one table that stands for itself.
    "select x from ev where tenant = {p:String} union all select y from us",
    "select x from ev where tenant = {p:String} except select y from us",
    "select x / (select sum(x) from ev) from ev where tenant = {p:String}",
    "select x from ev where tenant = {p:String} and x in (select y from us)",
    "select x from ev where tenant = {p:String} and (tenant, x) in us",
    # Rows were mixed before the condition.
    "select tenant, s from (select tenant, sum(x) over () s from ev) where tenant = {p:String}",
    "select tenant, x from (select tenant, x from ev order by x limit 3) where tenant = {p:String}",
    "select tenant, x from (select tenant, x from ev limit 1 by x) where tenant = {p:String}",
    "select t, s from (select any(tenant) t, sum(x) s from ev group by x) where t = {p:String}",
    "select tenant, sum(x) s from ev group by tenant with totals having tenant = {p:String}",
    # The row of all tenants has the column's default, which is somebody's value, too.
    "select tenant, sum(x) s from ev group by tenant with rollup having tenant = {p:String}",
    "select tenant, sum(x) s from ev group by cube(tenant) having tenant = {p:String}",
    "select tenant, s from (select tenant, sum(x) s from ev group by rollup(tenant)) where tenant = {p:String}",
    "with e as (select tenant from ev where tenant = {p:String} group by tenant with rollup) "
    "select u.y from e join us u on u.tenant = e.tenant",
    # By the rows' places.
    "select a.x, b.y from (select x, tenant from ev) a paste join (select y, tenant from us where tenant = {p:String}) b "
    "where a.tenant = {p:String}",
]


@pytest.fixture(scope="module")
async def tables(engine: Engine) -> AsyncIterator[None]:
    await engine.command(f"CREATE DATABASE {DATABASE}")
    for definition in (
        "ev (tenant LowCardinality(String), x UInt32)",
        "us (tenant String, y UInt32)",
        "num (tid UInt64, uid UUID, n UInt32)",
    ):
        await engine.command(f"CREATE TABLE {DATABASE}.{definition} ENGINE MergeTree ORDER BY tuple()")
    yield
    await engine.command(f"DROP DATABASE {DATABASE} SYNC")


async def confined(engine: Engine, sql: str) -> bool:
    marker = NUMBER if "num" in sql and "uuid" not in sql else UUID if "uuid" in sql else TEXT
    trees = [
        (await engine.query(explain + sql, PARAMS, database=DATABASE, format="TSVRaw")).decode()
        for explain in (EXPLAIN_RESOLVED, EXPLAIN_RAW)
    ]
    names = [name for name in ("ev", "us", "num") if f" {name}" in sql]
    known = frozenset(f"{DATABASE}.{name}" for name in names)
    reads = reads_of(trees[0], trees[1], marker, COLUMNS, known)
    assert {read.table for read in reads} == known
    return all(read.confined for read in reads)


@pytest.mark.parametrize("sql", CONFINED)
async def test_confined(tables: None, engine: Engine, sql: str) -> None:
    assert await confined(engine, sql)


@pytest.mark.parametrize("sql", NOT_CONFINED)
async def test_not_confined(tables: None, engine: Engine, sql: str) -> None:
    assert not await confined(engine, sql)


async def test_a_table_that_the_walk_does_not_meet_is_not_confined(tables: None, engine: Engine) -> None:
    sql = "select x from ev where tenant = {p:String}"
    resolved = (await engine.query(EXPLAIN_RESOLVED + sql, PARAMS, database=DATABASE, format="TSVRaw")).decode()
    reads = reads_of(resolved, resolved, TEXT, COLUMNS, frozenset(COLUMNS))
    assert {read.table for read in reads if not read.confined} == {f"{DATABASE}.us", f"{DATABASE}.num"}


async def test_a_tree_that_is_not_understood_confines_nothing() -> None:
    reads = reads_of("QUERY id: 0\n  SURPRISE\n", "QUERY id: 0\n", TEXT, COLUMNS, frozenset({f"{DATABASE}.ev"}))
    assert [(read.table, read.confined) for read in reads] == [(f"{DATABASE}.ev", False)]


async def test_which_columns_are_compared_with_the_parameter(tables: None, engine: Engine) -> None:
    sql = "with e as (select * from ev where tenant = {p:String}) select e.x from e where x = 1"
    resolved = (await engine.query(EXPLAIN_RESOLVED + sql, PARAMS, database=DATABASE, format="TSVRaw")).decode()
    assert sees(resolved, TEXT) == ((f"{DATABASE}.ev", "tenant"),)

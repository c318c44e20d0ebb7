"""The engine's settings that isolation stands on: the engine still has them, they mean what they meant, and they work.

A setting that a new engine drops or makes obsolete is ignored in silence, and with it what it kept back.
"""

from __future__ import annotations

import pytest

from pipit.engine import Engine
from pipit.query import limits

pytestmark = pytest.mark.anyio

PINNED = (
    limits._BASE
    | limits.STRICT
    | limits.FILTER_FIRST
    | limits.WHOLE_COLUMNS
    | limits.EXAMINE_SETTINGS
    | limits.tenant_sql_settings(limits.TenantSqlLimits(), filtered=False)
    | dict(limits.REPEATABLE)
    | {"additional_table_filters": "{}", "readonly": 1, "wait_end_of_query": 1, "cancel_http_readonly_queries_on_client_close": 1}
)
# Of the HTTP interface only; a server knows it, system.settings lists it too or not.
_OF_HTTP = {"wait_end_of_query", "cancel_http_readonly_queries_on_client_close"}


async def test_every_setting_is_the_engines_and_none_is_obsolete(engine: Engine) -> None:
    rows = await engine.rows("SELECT name, is_obsolete AS obsolete, type FROM system.settings")
    known = {str(row["name"]): row for row in rows}
    assert set(PINNED) - known.keys() - _OF_HTTP == set()
    assert [name for name in PINNED if name in known and known[name]["obsolete"]] == []


async def test_they_still_do_what_they_are_there_for(engine: Engine) -> None:
    """Each switches something off that the plan shows, or the answer: seen on, and off."""
    database = "pinned_settings"
    await engine.command(f"CREATE DATABASE IF NOT EXISTS {database}")
    await engine.command(f"DROP TABLE IF EXISTS {database}.t")
    columns = "c String, n Int64, a Array(Int64), j JSON, INDEX i n TYPE minmax GRANULARITY 1"
    layout = "ENGINE = MergeTree PARTITION BY n % 2 ORDER BY (c, n) SETTINGS index_granularity = 2"
    await engine.command(f"CREATE TABLE {database}.t ({columns}) {layout}")
    row = "toString(number % 3), number, [number], if(number % 3 = 1, '{\"k\":1}', '{\"hidden\":1}')"
    await engine.command(f"INSERT INTO {database}.t SELECT {row} FROM numbers(50)")

    async def plan(sql: str, settings: limits.SettingsDict) -> str:
        explain = f"EXPLAIN actions = 1, indexes = 1 {sql}"
        return (await engine.query(explain, settings=settings, database=database, format="TSVRaw")).decode()

    read = "SELECT n FROM t WHERE c = '1' AND n > 40 AND n % 2 = 1"
    for setting, word in {
        "use_primary_key": "Search Algorithm: binary search",
        "use_skip_indexes": "Name: i",
        "use_partition_pruning": "Parts: 1/2",
        "optimize_move_to_prewhere": "Prewhere filter",
        "query_plan_enable_optimizations": "Prewhere filter",
    }.items():
        assert setting in limits.FILTER_FIRST
        assert word in await plan(read, {})
        assert word not in await plan(read, {setting: 0})
    for text, word in {"SELECT distinctJSONPaths(j) FROM t": "__special", "SELECT length(a) FROM t": "size0"}.items():
        assert word in await plan(text, {})
        assert word not in await plan(text, limits.WHOLE_COLUMNS)
    filtered: limits.SettingsDict = {"additional_table_filters": f"{{'{database}.t': 'c = \\'1\\''}}"}
    counted = await engine.rows(f"SELECT count() AS n FROM {database}.t", settings=filtered)
    assert int(str(counted[0]["n"])) == 17
    paths = f"SELECT distinctJSONPaths(j) AS paths FROM {database}.t"
    assert (await engine.rows(paths, settings={**filtered, **limits.WHOLE_COLUMNS}))[0]["paths"] == ["k"]
    reply = await engine.query(f"SELECT n FROM {database}.t ORDER BY n LIMIT 1", settings=filtered | limits.STRICT, format="JSON")
    assert b'"rows_before_limit_at_least": 17' in reply and b"statistics" not in reply
    await engine.command(f"DROP DATABASE {database}")

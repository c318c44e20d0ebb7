"""The reviewed lists name all that the engine has; a new engine version fails here, with the names to review."""

from __future__ import annotations

import pytest

from pipit.engine import Engine
from pipit.sql.allowed import (
    ALLOWED_FORMATS,
    ALLOWED_FUNCTIONS,
    ALLOWED_SETTINGS,
    ALLOWED_TABLE_FUNCTIONS,
    OBJECT_FUNCTIONS,
    UNREVIEWED,
    function_verdict,
    read_reviewed,
    table_function_allowed,
)
from pipit.sql.review import QUERIES, difference, rewritten


@pytest.mark.anyio
@pytest.mark.parametrize("listed", QUERIES)
async def test_everything_in_the_engine_is_reviewed(engine: Engine, listed: str) -> None:
    rows = (await engine.query(QUERIES[listed], format="TSVRaw")).decode()
    new, gone = difference(listed, rows)
    assert (new, gone) == ([], []), "run `python -m pipit.sql.review --write` and give each new name its verdict"


@pytest.mark.parametrize("listed", ["functions", "table_functions", "settings", "formats", "merge_tree_settings", "types"])
def test_nothing_is_left_unreviewed(listed: str) -> None:
    assert [name for name, columns in read_reviewed(listed).items() if columns[-1] == UNREVIEWED] == []


def test_a_new_name_is_refused_until_reviewed() -> None:
    rows = "".join(f"{name}\n" for name in [*read_reviewed("table_functions"), "brandNew"])
    assert difference("table_functions", rows) == (["brandNew"], [])
    assert rewritten("table_functions", rows).splitlines()[-1] == f"brandNew\t{UNREVIEWED}"


@pytest.mark.parametrize(
    "name",
    [
        "sum",
        "SUM",
        "sumIf",
        "countIf",
        "uniqState",
        "uniqMergeState",
        "avgOrNullIf",
        "quantilesTDigestMerge",
        "argMaxIf",
        "groupArrayArray",
        "toDate",
        "concat",
        "if",
        "exists",
        "grouping",
        "now",
        "any_respect_nulls",
        "sumMap",
        "sumMapIf",
        "windowFunnel",
        "retention",
        "COALESCE",
        "JSONExtractString",
        "plus",
        "_CAST",
        "cityHash64",
        "countDistinct",
        "row_number",
    ],
)
def test_allowed_functions(name: str) -> None:
    assert function_verdict(name) == ""


@pytest.mark.parametrize(
    "name",
    [
        "file",
        "getSetting",
        "getMacro",
        "currentUser",
        "user",
        "USER",
        "hostName",
        "HOSTNAME",
        "version",
        "VERSION",
        "uptime",
        "initialQueryID",
        "serverUUID",
        "sleep",
        "sleepEachRow",
        "hasColumnInTable",
        "filesystemAvailable",
        "addressToLine",
        "getServerPort",
        "tcpPort",
        "currentProfiles",
        "throwIf",
        "aggThrow",
        "aggThrowIf",
        "transactionID",
        "aiGenerate",
        "AIGenerate",
        "chdb",
        "flameGraph",
        "lowCardinalityKeys",
        "blockNumber",
        "rowNumberInAllBlocks",
        "globalVariable",
        "catboostEvaluate",
        "noSuchFunction",
        "noSuchFunctionIf",
        "State",
        "sumX",
        "__applyFilter",
        "dictGet",
        "joinGet",
        "dictHas",
        "currentDatabase",
        "DATABASE",
        "regionToName",
    ],
)
def test_refused_functions(name: str) -> None:
    assert function_verdict(name)


def test_objects() -> None:
    assert {
        "dictGet",
        "dictGetOrDefault",
        "dictHas",
        "joinGet",
        "joinGetOrNull",
        "dictGetHierarchy",
    } <= OBJECT_FUNCTIONS
    assert not OBJECT_FUNCTIONS & ALLOWED_FUNCTIONS
    assert all(name in OBJECT_FUNCTIONS for name in read_reviewed("functions") if name.startswith(("dict", "joinGet")))


def test_table_functions() -> None:
    assert {
        "generateRandom",
        "null",
        "numbers",
        "numbers_mt",
        "values",
        "zeros",
        "zeros_mt",
        "generateSeries",
        "generate_series",
        "SQLStandardValues",
    } == ALLOWED_TABLE_FUNCTIONS
    assert not table_function_allowed("db.parameterized_view")


def test_settings_that_would_undo_the_filters_are_refused() -> None:
    dangerous = [
        "additional_table_filters",
        "additional_result_filter",
        "readonly",
        "max_execution_time",
        "max_result_rows",
        "limit",
        "offset",
        "max_memory_usage",
        "log_queries",
        "log_comment",
        "use_query_cache",
        "use_primary_key",
        "enable_analyzer",
        "database",
        "dialect",
        "allow_ddl",
        "max_rows_to_read",
        "param_x",
        "query_cache_share_between_users",
        "force_primary_key",
    ]
    assert not ALLOWED_SETTINGS & set(dangerous)
    assert {"join_algorithm", "join_use_nulls", "max_threads"} <= ALLOWED_SETTINGS


def test_formats() -> None:
    assert {"JSON", "CSVWithNames", "NDJSON", "Parquet", "Prometheus", "TabSeparated"} <= ALLOWED_FORMATS
    assert not ALLOWED_FORMATS & {"Template", "CustomSeparated", "Null", "Protobuf", "CapnProto", "SQLInsert"}

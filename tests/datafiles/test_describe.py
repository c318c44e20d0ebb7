"""The printer and the API objects."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipit.datafiles import (
    column_object,
    datasource_type,
    engine_object,
    index_object,
    parse_datasource,
    print_datasource,
    sql_schema,
)
from pipit.datafiles.resources import DataSource, Position

TEXT = """\
DESCRIPTION >
    # not a comment
    text
TOKEN app APPEND
TAGS a, b
SCHEMA >
    ts DateTime64(3) `json:$.ts` CODEC(Delta,  ZSTD(1)) DEFAULT now64(3),
    `odd \\`name` Nullable(String) `json:$['o.n']`,
    n LowCardinality(Nullable(String)),
    total SimpleAggregateFunction(sum, UInt64)
ENGINE ReplacingMergeTree
ENGINE_SORTING_KEY toStartOfHour(ts, 'UTC'), "n"
ENGINE_VER total
ENGINE_TTL toDateTime(ts) + INTERVAL 1 DAY
ENGINE_SETTINGS index_granularity=1
INDEXES >
    i lower(n) TYPE bloom_filter(0.01) GRANULARITY 2
ROW_POLICY >
    n = {{String(context.n)}}
      OR 0
ROW_POLICY_OPTIONAL m, n
KAFKA_CONNECTION_NAME "k \\"q\\""
KAFKA_TOPIC t#1
KAFKA_GROUP_ID g
SHARED_WITH a, b
FORWARD_QUERY >
    SELECT *
BACKFILL skip
"""


def without_places(source: DataSource) -> DataSource:
    columns = tuple(replace(column, position=Position()) for column in source.columns)
    policy = source.row_policy and replace(source.row_policy, position=Position())
    engine = replace(source.engine, position=Position())
    return replace(source, columns=columns, engine=engine, row_policy=policy, text="")


FOR_ALL = "SCHEMA >\n    a String\nENGINE MergeTree\nROW_POLICY none REASON 'all \"of\" them # are public \\'\n"


@pytest.mark.parametrize("text", [TEXT, "SCHEMA >\n    a String\n", FOR_ALL])
def test_what_is_printed_parses_back_to_the_same(text: str) -> None:
    source = parse_datasource(text, file="e.datasource")
    printed = print_datasource(source)
    again = parse_datasource(printed, file="e.datasource")
    assert without_places(again) == without_places(source)
    assert print_datasource(again) == printed


def test_columns_indexes_and_engine_as_the_api_has_them() -> None:
    source = parse_datasource(TEXT, file="e.datasource")
    assert sql_schema(source.columns[:2]) == (
        "`ts` DateTime64(3) `json:$.ts` DEFAULT now64(3) CODEC(Delta, ZSTD(1)), "
        "`odd \\`name` Nullable(String) `json:$['o.n']`"
    )
    assert column_object(source.columns[0]) == {
        "name": "ts",
        "normalized_name": "ts",
        "type": "DateTime64(3)",
        "nullable": False,
        "default_value": "DEFAULT now64(3)",
        "codec": "CODEC(Delta, ZSTD(1))",
        "jsonpath": "$.ts",
        "auto": False,
    }
    assert column_object(source.columns[1]) | {"name": ""} == {
        "name": "",
        "normalized_name": "odd__name",
        "type": "String",
        "nullable": True,
        "default_value": None,
        "codec": None,
        "jsonpath": "$['o.n']",
        "auto": False,
    }
    assert column_object(source.columns[2])["type"] == "LowCardinality(Nullable(String))"
    assert index_object(source.indexes[0]) == {
        "name": "i",
        "expr": "lower(n)",
        "type_full": "bloom_filter(0.01)",
        "granularity": 2,
    }
    assert engine_object(source.engine) == {
        "engine": "ReplacingMergeTree",
        "engine_full": "ReplacingMergeTree(total) ORDER BY (toStartOfHour(ts, 'UTC'), n) "
        "TTL toDateTime(ts) + INTERVAL 1 DAY SETTINGS index_granularity = 1",
        "sorting_key": "toStartOfHour(ts, 'UTC'), n",
        "ttl": "toDateTime(ts) + INTERVAL 1 DAY",
        "ver": "total",
    }
    assert datasource_type(source) == "kafka"
    assert datasource_type(parse_datasource("SCHEMA >\n    a String\n", file="e.datasource")) == "csv"

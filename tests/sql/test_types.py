"""A type has one name in Pipit, the engine's own, however its author wrote it."""

from __future__ import annotations

import pytest

from pipit.engine import Engine
from pipit.sql.literals import quote_string
from pipit.sql.types import OWN_NAMES, own_type

WRITTEN = {
    "INT": "Int32",
    "int": "Int32",
    "BIGINT UNSIGNED": "UInt64",
    "Array(bigint  unsigned)": "Array(UInt64)",
    "double precision": "Float64",
    "Nullable( VARCHAR )": "Nullable(String)",
    "LowCardinality (Nullable (Text))": "LowCardinality(Nullable(String))",
    "Array(LowCardinality (String))": "Array(LowCardinality(String))",
    "numeric(9, 2)": "Decimal(9, 2)",
    "DATETIME('UTC')": "DateTime('UTC')",
    "TimeStamp": "DateTime",
    "datetime64 (3, 'UTC')": "DateTime64(3, 'UTC')",
    "json": "JSON",
    "json(day date, skip date, SKIP a.time, time.int INT, max_dynamic_paths=4, `x y`.z text)": (
        "JSON(day Date, skip date, SKIP a.time, time.int Int32, max_dynamic_paths=4, `x y`.z String)"
    ),
    "JSON(SKIP REGEXP 'a[(]', a Array(JSON(b INT)))": "JSON(SKIP REGEXP 'a[(]', a Array(JSON(b Int32)))",
    "Tuple(date date, `time` Time, int Array(int))": "Tuple(date Date, `time` Time, int Array(Int32))",
    "Tuple(INT, text)": "Tuple(Int32, String)",
    "Nested(time datetime, n SMALLINT)": "Nested(time DateTime, n Int16)",
    "Map(text, decimal(9, 2))": "Map(String, Decimal(9, 2))",
    "enum('int' = 1, 'text' = 2)": "Enum('int' = 1, 'text' = 2)",
    "AggregateFunction(any, INT)": "AggregateFunction(any, Int32)",
    "AggregateFunction(quantiles(0.5, 0.9), real)": "AggregateFunction(quantiles(0.5, 0.9), Float32)",
    "SimpleAggregateFunction(max, INT)": "SimpleAggregateFunction(max, Int32)",
    "SimpleAggregateFunction(groupArrayArray, Array (INT))": "SimpleAggregateFunction(groupArrayArray, Array(Int32))",
    "Variant(INT, text)": "Variant(Int32, String)",
    "FixedString( 4 )": "FixedString(4)",
    "Map(String, UInt8)": "Map(String, UInt8)",
    "GEOMETRY": "Geometry",
    "geometry": "geometry",
    "String": "String",
    "string": "string",
    "": "",
    "Int8)": "Int8)",
}


@pytest.mark.parametrize("written", WRITTEN)
def test_the_engines_own_name(written: str) -> None:
    assert own_type(written) == WRITTEN[written]
    assert own_type(WRITTEN[written]) == WRITTEN[written]


@pytest.mark.anyio
async def test_it_means_the_same_to_the_engine(engine: Engine) -> None:
    async def columns(type: str) -> list[object]:
        settings = {"allow_experimental_variant_type": 1, "allow_suspicious_variant_types": 1}
        structure = quote_string(f"a {type}")
        return [
            (r["name"], r["type"])
            for r in await engine.rows(f"DESCRIBE format('JSONEachRow', {structure}, '')", settings=settings)
        ]

    for written, own in WRITTEN.items():
        if written not in ("", "geometry", "string", "Int8)"):
            assert await columns(written) == await columns(own), written


@pytest.mark.anyio
async def test_every_other_name_of_the_engine_is_known(engine: Engine) -> None:
    rows = await engine.rows(
        "SELECT name, case_insensitive AS any_case, alias_to AS own FROM system.data_type_families"
    )
    theirs = {
        (r["name"].lower() if r["any_case"] else r["name"]): r["own"] or r["name"]
        for r in rows
        if r["own"] or r["any_case"]
    }
    assert theirs == OWN_NAMES

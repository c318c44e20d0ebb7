"""Which types a column can be altered to where it is."""

from __future__ import annotations

import pytest

from pipit.deploy.alterations import in_place


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("String", "Nullable(String)"),
        ("String", "LowCardinality(String)"),
        ("LowCardinality(String)", "String"),
        ("LowCardinality(String)", "LowCardinality(Nullable(String))"),
        ("Int32", "Int64"),
        ("UInt8", "Int16"),
        ("UInt8", "Nullable(UInt64)"),
        ("Int64", "Int256"),
        ("Date", "Date32"),
        ("Decimal(9, 2)", "Decimal(18, 2)"),
        ("Decimal32(2)", "Decimal(18, 2)"),
        ("Enum8('a' = 1)", "Enum8('a' = 1, 'b' = 2)"),
        ("Enum8('a' = 1)", "Enum16('a' = 1, 'b' = 200)"),
        ("Array(Int32)", "Array(Nullable(Int64))"),
        ("Map(String, Int32)", "Map(LowCardinality(String), Int64)"),
        ("Tuple(a Int8, b String)", "Tuple(a Int16, b Nullable(String))"),
        ("SimpleAggregateFunction(sum, Int64)", "SimpleAggregateFunction(sum, Int128)"),
    ],
)
def test_what_holds_every_value(before: str, after: str) -> None:
    found = in_place("c", before, after)
    assert found is not None and not found.misfit


@pytest.mark.parametrize(
    ("before", "after", "misfit"),
    [
        ("Nullable(String)", "String", "isNull(`c`)"),
        ("LowCardinality(Nullable(String))", "String", "isNull(`c`)"),
        ("Int64", "Int8", "isNotNull(`c`) AND isNull(accurateCastOrNull(`c`, 'Int8'))"),
        ("Int8", "UInt8", "isNotNull(`c`) AND isNull(accurateCastOrNull(`c`, 'UInt8'))"),
        ("UInt64", "Int64", "isNotNull(`c`) AND isNull(accurateCastOrNull(`c`, 'Int64'))"),
        (
            "Nullable(Int64)",
            "Int8",
            "isNull(`c`) OR isNotNull(`c`) AND isNull(accurateCastOrNull(`c`, 'Int8'))",
        ),
        ("Enum8('a' = 1, 'b' = 2)", "Enum8('a' = 1)", "ifNull(toString(`c`) NOT IN ('a'), 0)"),
    ],
)
def test_what_holds_only_some(before: str, after: str, misfit: str) -> None:
    found = in_place("c", before, after)
    assert found is not None and found.misfit == misfit


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Int64", "String"),
        ("String", "Int64"),
        ("Float32", "Float64"),
        ("Int32", "Float64"),
        ("DateTime", "DateTime64(3)"),
        ("DateTime", "DateTime('UTC')"),
        ("FixedString(3)", "String"),
        ("String", "FixedString(3)"),
        ("Decimal(18, 2)", "Decimal(18, 4)"),
        ("Decimal(18, 2)", "Decimal(9, 2)"),
        ("Enum8('a' = 1)", "Enum8('a' = 2)"),
        ("Enum8('a' = 1)", "String"),
        ("Array(Int64)", "Array(Int32)"),
        ("Array(Nullable(String))", "Array(String)"),
        ("Tuple(a Int8)", "Tuple(b Int8)"),
        ("Tuple(Int8)", "Tuple(Int8, Int8)"),
        ("Int64", "Array(Int64)"),
        ("Bool", "UInt8"),
        ("AggregateFunction(sum, Int32)", "AggregateFunction(sum, Int64)"),
        ("SimpleAggregateFunction(sum, Int64)", "SimpleAggregateFunction(max, Int64)"),
        ("SimpleAggregateFunction(sum, Int64)", "Int64"),
        ("SimpleAggregateFunction(sum, Int64)", "SimpleAggregateFunction(sum, Int32)"),
        ("JSON", "String"),
    ],
)
def test_what_needs_another_table(before: str, after: str) -> None:
    assert in_place("c", before, after) is None

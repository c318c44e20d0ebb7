"""What the tables and the quarantine hold after a line of each kind: the engine decides, not Python."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import examples
from ingest.sheet import Sheet, c
from pipit.datafiles.resources import Column
from pipit.engine import Engine
from pipit.errors import BadRequest
from pipit.ingest import parse

pytestmark = pytest.mark.anyio


@pytest.fixture
async def sheet(engine: Engine, tmp_path: Path) -> AsyncIterator[Sheet]:
    yield Sheet(engine, tmp_path)


# type, JSON text of the value, what is stored (None: refused)
VALUES: list[tuple[str, str, Any]] = [
    ("UInt8", "255", 255),
    ("UInt8", "300", None),
    ("UInt8", "-1", None),
    ("UInt8", "1.5", None),
    ("UInt8", "1.0", 1),
    ("UInt8", "true", 1),
    ("UInt8", "false", 0),
    ("UInt8", '"true"', None),
    ("Nullable(Int64)", "true", 1),
    ("Nullable(Int64)", '"false"', None),
    ("LowCardinality(UInt32)", "true", 1),
    ("UInt256", "true", "1"),
    ("UInt256", '"true"', None),
    ("Int128", "false", "0"),
    ("Float64", "true", 1),
    ("Float32", "false", 0),
    ("Float64", '"true"', None),
    ("Decimal(9, 2)", "true", None),
    ("Array(UInt8)", "[true, false, 2]", [1, 0, 2]),
    ("Array(UInt8)", '[1, "true"]', None),
    ("Array(Nullable(Int64))", "[true, null]", [1, None]),
    ("Array(Nullable(Int64))", '["true", null]', None),
    ("Array(Array(Float64))", "[[true], [1.5]]", [[1], [1.5]]),
    ("Array(Array(Float64))", '[[true], ["false"]]', None),
    ("Map(String, UInt8)", '{"a": true, "b": 0}', {"a": 1, "b": 0}),
    ("Map(String, UInt8)", '{"a": "true"}', None),
    ("Map(UInt8, String)", '{"true": "x"}', None),
    ("Tuple(a UInt8, b String)", '{"a": true, "b": "true"}', {"a": 1, "b": "true"}),
    ("Tuple(a UInt8, b String)", '{"a": "true", "b": "true"}', None),
    ("Tuple(UInt8, Bool)", "[false, true]", [0, True]),
    ("Nested(a UInt8)", '[{"a": true}]', [{"a": 1}]),
    ("Array(String)", '[true, "true"]', ["true", "true"]),
    ("UInt8", '"7"', 7),
    ("UInt8", '""', None),
    ("UInt8", '"x"', None),
    ("UInt8", "[1]", None),
    ("UInt8", "{}", None),
    ("Int32", "340282366920938463463374607431768211461", None),
    ("Int32", '"text"', None),
    ("Int32", "true", 1),
    ("Int32", "-2147483648", -2147483648),
    ("Int32", "-2147483649", None),
    ("Int64", "9223372036854775807", 9223372036854775807),
    ("Int64", "9223372036854775808", None),
    ("UInt64", "18446744073709551615", 18446744073709551615),
    ("UInt64", "18446744073709551616", None),
    ("UInt64", "12345678901234567.0", None),
    ("Int128", "170141183460469231731687303715884105727", "170141183460469231731687303715884105727"),
    ("Int128", "170141183460469231731687303715884105728", None),
    ("Int128", "340282366920938463463374607431768211461", None),
    ("UInt128", "18446744073709551616.0", None),
    ("UInt256", str(2**256 - 1), str(2**256 - 1)),
    ("UInt256", str(2**256), None),
    ("Int256", str(2**255), None),
    ("Float64", "1e308", 1e308),
    ("Float64", "1e400", None),
    ("Float64", '"1e400"', None),
    ("Float64", "0.30000000000000004", 0.30000000000000004),
    ("Float32", "1.5", 1.5),
    ("Float32", "1e300", None),
    ("Float64", "NaN", None),
    ("Decimal(9, 2)", "12.34", 12.34),
    ("Decimal(9, 2)", "434.99999999999994", 435),
    ("Decimal(9, 2)", "9999999.999", None),
    ("Decimal(9, 2)", "12345678901", None),
    ("Decimal(5, 2)", "1000", None),
    ("Decimal(38, 18)", "12345.123456789012345678", "12345.123456789012345678"),
    ("Decimal64(4)", '"1.00005"', 1.0001),
    ("Decimal(9, 2)", '"abc"', None),
    ("Bool", "true", True),
    ("Bool", "0", False),
    ("Bool", '"yes"', None),
    ("Bool", "2", None),
    ("String", '"caf\\u00e9"', "café"),
    ("String", "12", "12"),
    ("String", "true", "true"),
    ("String", '{"a": [1, "x"]}', '{"a":[1,"x"]}'),
    ("String", '""', ""),
    ("FixedString(3)", '"abc"', "abc"),
    ("FixedString(3)", '"abcd"', None),
    ("LowCardinality(String)", '"a"', "a"),
    ("UUID", '"61f0c404-5cb3-11e7-907b-a6006ad3dba0"', "61f0c404-5cb3-11e7-907b-a6006ad3dba0"),
    ("UUID", '"61f0c404"', None),
    ("IPv4", '"10.0.0.1"', "10.0.0.1"),
    ("IPv4", '"10.0.0"', None),
    ("IPv6", '"::1"', "::1"),
    ("IPv6", '"zz"', None),
    ("Enum8('a' = 1, 'it\\'s' = 2)", '"it\'s"', "it's"),
    ("Enum8('a' = 1, 'b' = 2)", '"c"', None),
    ("Enum8('a' = 1, 'b' = 2)", "2", "b"),
    ("Enum16('a', 'b')", '"b"', "b"),
    ("Date", '"2024-05-01"', "2024-05-01"),
    ("Date", '"2024-13-45"', None),
    ("Date", '"2024-02-30"', None),
    ("Date", '"2200-01-01"', None),
    ("Date", '"1969-12-31"', None),
    ("Date32", '"2200-01-01"', "2200-01-01"),
    ("Date32", '"1969-12-31"', "1969-12-31"),
    ("Date32", '"2400-01-01"', None),
    ("DateTime('UTC')", '"2024-05-01 10:00:00"', "2024-05-01 10:00:00"),
    ("DateTime('UTC')", '"2024-05-01T10:00:00.123Z"', "2024-05-01 10:00:00"),
    ("DateTime('UTC')", '"2024-05-01T10:00:00+02:00"', "2024-05-01 08:00:00"),
    ("DateTime('Europe/Madrid')", '"2024-05-01 10:00:00"', "2024-05-01 10:00:00"),
    ("DateTime('UTC')", "1714557600", "2024-05-01 10:00:00"),
    ("DateTime('UTC')", "1714557600123", "2024-05-01 10:00:00"),
    ("DateTime('UTC')", '"2200-01-01"', None),
    ("DateTime('UTC')", '"2106-02-07 06:28:15"', "2106-02-07 06:28:15"),
    ("DateTime('UTC')", '"2106-02-07 06:28:16"', None),
    ("DateTime('UTC')", '"1969-12-31 23:59:59"', None),
    ("DateTime('UTC')", '"2024-05-01 25:00:00"', None),
    ("DateTime('UTC')", '"2024-05-01 10:61:00"', None),
    ("DateTime('UTC')", '"5"', None),
    ("DateTime('UTC')", "0", "1970-01-01 00:00:00"),
    ("DateTime('UTC')", "5", "1970-01-01 00:00:05"),
    ("DateTime('UTC')", "99999999", "1973-03-03 09:46:39"),
    ("DateTime('UTC')", "0.9", "1970-01-01 00:00:00"),
    ("DateTime('UTC')", "-1", None),
    ("DateTime('UTC')", "-0.5", None),
    ("DateTime('UTC')", '"1969-12-31 23:59:59.5"', None),
    ("DateTime('Asia/Tokyo')", '"1970-01-01T00:00:00.999-00:00"', "1970-01-01 09:00:00"),
    ("Nullable(DateTime('UTC'))", "-0.001", None),
    ("Array(DateTime('UTC'))", "[0, -0.5]", None),
    ("Date", '"1969-12-31T23:59:59.9Z"', None),
    ("DateTime64(6, 'UTC')", "-2208988800", "1900-01-01 00:00:00.000000"),
    ("DateTime64(6, 'UTC')", "-2208988800.000001", None),
    ("DateTime64(9, 'UTC')", '"1899-12-31 23:59:59.999999999"', None),
    ("DateTime('UTC')", "4294967295", "2106-02-07 06:28:15"),
    ("DateTime('UTC')", "4294967296", None),
    ("DateTime('UTC')", "100000000000", "1973-03-03 09:46:40"),
    ("DateTime('UTC')", "1714557600123.5", "2024-05-01 10:00:00"),
    ("DateTime('UTC')", "1714557600123456", "2024-05-01 10:00:00"),
    ("DateTime('UTC')", "1714557600123456789", "2024-05-01 10:00:00"),
    ("DateTime('Europe/Madrid')", "1714557600123456", "2024-05-01 12:00:00"),
    ("DateTime('UTC')", "1e22", None),
    ("DateTime('UTC')", "true", None),
    ("DateTime('UTC')", '"0"', None),
    ("DateTime('UTC')", '"20240501"', None),
    ("DateTime('UTC')", '"202405011000"', None),
    ("DateTime('UTC')", '"1714557600"', "2024-05-01 10:00:00"),
    ("DateTime('UTC')", '"1714557600123"', "2024-05-01 10:00:00"),
    ("Nullable(DateTime('UTC'))", "0", "1970-01-01 00:00:00"),
    ("Nullable(DateTime('UTC'))", '"2024"', None),
    ("DateTime64(3, 'UTC')", "0", "1970-01-01 00:00:00.000"),
    ("DateTime64(3, 'UTC')", "-1.5", "1969-12-31 23:59:58.500"),
    ("DateTime64(3, 'UTC')", "-1714557600123", "1915-09-02 13:59:59.877"),
    ("DateTime64(9, 'UTC')", "1714557600123456789", "2024-05-01 10:00:00.123456789"),
    ("DateTime64(9, 'UTC')", "9223372036", None),
    ("DateTime64(6, 'UTC')", "10413791999", "2299-12-31 23:59:59.000000"),
    ("DateTime64(6, 'UTC')", "10413792000", None),
    ("Date", "0", "1970-01-01"),
    ("Date", "19844", "2024-05-01"),
    ("Date", "65535", "2149-06-06"),
    ("Date", "1714557600", "2024-05-01"),
    ("Date", "-1", None),
    ("Date", '"19844"', None),
    ("Date32", "-1", "1969-12-31"),
    ("Date32", "1714557600123", "2024-05-01"),
    ("Array(DateTime('UTC'))", "[0, 5]", ["1970-01-01 00:00:00", "1970-01-01 00:00:05"]),
    ("Array(DateTime('UTC'))", '["20240501"]', None),
    ("Array(DateTime('UTC'))", '[0, "1714557600"]', ["1970-01-01 00:00:00", "2024-05-01 10:00:00"]),
    ("Map(String, Date)", '{"a": 0}', {"a": "1970-01-01"}),
    ("DateTime('UTC')", '"Jan"', None),
    ("DateTime('UTC')", '"0000-00-00 00:00:00"', None),
    ("DateTime('UTC')", '""', None),
    ("DateTime64(6, 'UTC')", '"2024-01-23T10:30:00.123456"', "2024-01-23 10:30:00.123456"),
    ("DateTime64(3, 'UTC')", "1714557600123", "2024-05-01 10:00:00.123"),
    ("DateTime64(9, 'UTC')", '"2024-05-01T10:00:00.123456789Z"', "2024-05-01 10:00:00.123456789"),
    ("DateTime64(9, 'UTC')", '"2263-01-01 00:00:00"', None),
    ("DateTime64(3, 'UTC')", '"2299-12-31 23:59:59.999"', "2299-12-31 23:59:59.999"),
    ("DateTime64(3, 'UTC')", '"2300-01-01"', None),
    ("SimpleAggregateFunction(sum, UInt64)", "5", 5),
    ("Array(UInt8)", "[1, 2]", [1, 2]),
    ("Array(UInt8)", "[]", []),
    ("Array(UInt8)", "[1, 300]", None),
    ("Array(UInt8)", "[1, null]", None),
    ("Array(Nullable(UInt8))", "[1, null]", [1, None]),
    ("Array(UInt8)", "5", None),
    ("Array(UInt8)", '"[1]"', None),
    ("Array(String)", '["a", 1, {"b": 2}]', ["a", "1", '{"b":2}']),
    ("Array(Array(UInt8))", "[[1], [2, 3]]", [[1], [2, 3]]),
    ("Array(Array(UInt8))", "[[1], [300]]", None),
    ("Array(DateTime('UTC'))", '["2024-05-01 10:00:00"]', ["2024-05-01 10:00:00"]),
    ("Map(String, UInt8)", '{"a": 1}', {"a": 1}),
    ("Map(String, UInt8)", "{}", {}),
    ("Map(String, UInt8)", '{"a": 300}', None),
    ("Map(String, UInt8)", "[1]", None),
    ("Map(LowCardinality(String), Array(UInt8))", '{"a": [1]}', {"a": [1]}),
    ("Tuple(a UInt8, `b c` String)", '{"a": 1, "b c": "x"}', {"a": 1, "b c": "x"}),
    ("Tuple(a UInt8, b String)", '{"a": 300, "b": "x"}', None),
    ("Tuple(UInt8, String)", '[1, "x"]', [1, "x"]),
    ("Point", "[1.5, 2]", [1.5, 2]),
    ("MultiPoint", "[[1.5, 2]]", [[1.5, 2]]),
    ("MultiPoint", "[[1.5]]", None),
    ("BFloat16", "1.5", 1.5),
    ("BFloat16", "true", 1),
    ("BFloat16", '"true"', None),
    ("BFloat16", "1e39", None),
    ("Nullable(BFloat16)", '"x"', None),
    ("Array(BFloat16)", "[1, true]", [1, 1]),
    ("IntervalDay", "3", "3"),
    ("IntervalDay", "1.5", None),
    ("IntervalDay", '"x"', None),
    ("IntervalMonth", "true", None),
    ("IntervalYear", "1e300", None),
    ("QBit(Float32, 2)", "[1.5, 2]", [1.5, 2]),
    ("QBit(Float32, 2)", "[1.5]", None),
    ("QBit(Float32, 2)", "[1, 2, 3]", None),
    ("QBit(Float32, 2)", "[1, null]", None),
    ("QBit(Float32, 2)", '"x"', None),
    ("QBit(Float32, 2)", '{"a": 1}', None),
    ("JSON", '{"a": {"b": 1}}', {"a": {"b": 1}}),
    ("JSON", "5", None),
    ("JSON", '{"a": 1, "a": 2}', {"a": 1}),
    ("JSON", '{"x": {"a": 1, "b": 2, "a": "z"}}', {"x": {"a": 1, "b": 2}}),
    ("JSON(a UInt8)", '{"a": 1, "a": 2}', {"a": 1}),
    ("Array(JSON)", '[{"a": 1, "a": 2}]', [{"a": 1}]),
    ("JSON(a UInt8)", '{"a": 300}', None),
]


@pytest.mark.parametrize(("type", "sent", "stored"), VALUES, ids=[f"{t}<-{v[:40]}" for t, v, _ in VALUES])
async def test_a_value_is_stored_as_it_is_or_refused(sheet: Sheet, type: str, sent: str, stored: Any) -> None:
    good, bad = await sheet.read([c("id", "UInt32"), c("v", type)], [f'{{"id": 1, "v": {sent}}}'])
    if stored is None:
        assert good == []
        assert bad[0]["c__error"]
        assert bad[0]["c__error_column"] in (["v"], [""])
    else:
        assert bad == []
        assert _comparable(good[0]["v"]) == _comparable(stored)


def _comparable(value: Any) -> Any:
    return value if isinstance(value, (bool, list, dict)) else str(value)


async def test_missing_and_null_values_follow_the_column(sheet: Sheet) -> None:
    columns = [
        c("required", "Int32", "$.a.required"),
        c("optional", "Nullable(Int32)"),
        c("tags", "Array(String)", "$.tags[:]"),
        c("more", "Array(String)", "$.more[:]", "['none']"),
        c("kind", "Nullable(String)", default="'unknown'"),
        c("low", "LowCardinality(Nullable(String))"),
    ]
    full = {"a": {"required": 1}, "optional": 2, "tags": ["x"], "more": ["y"], "kind": "k", "low": "l"}
    without_optional: dict[str, Any] = {"a": {"required": 1}, "tags": [], "kind": None}
    good, bad = await sheet.read(
        columns, [full, {**full, "a": {}}, {**full, "a": None}, without_optional, {"a": {"required": 3}}]
    )
    assert good[0] == {"required": 1, "optional": 2, "tags": ["x"], "more": ["y"], "kind": "k", "low": "l"}
    assert good[1] == {
        "required": 1, "optional": None, "tags": [], "more": ["none"], "kind": None, "low": None,
    }  # fmt: skip
    missing = (
        "Strict type checking failed. Object does not have column 'required', you should send a value or recreate "
        "the table with a Nullable column type. While accessing jsonpath '$.a.required'"
    )
    assert [row["c__error"] for row in bad[:2]] == [[missing], [missing]]
    assert bad[2]["c__error_column"] == ["tags"]
    assert "jsonpath '$.tags[:]'" in bad[2]["c__error"][0]


async def test_a_default_may_be_computed_from_other_columns(sheet: Sheet) -> None:
    columns = [
        c("n", "Int32"),
        c("twice", "Array(Int32)", default="[n, n]"),
        c("m", "Nullable(Int32)", default="n + 1"),
    ]
    good, bad = await sheet.read(columns, [{"n": 5}, {"n": 5, "twice": [1], "m": None}, {"n": 5, "twice": "x"}])
    assert good == [{"n": 5, "twice": [5, 5], "m": 6}, {"n": 5, "twice": [1], "m": None}]
    assert bad[0]["c__error"] == ["value 'x' on column 'twice' is not Array(Int32)"]


async def test_every_form_of_path(sheet: Sheet) -> None:
    columns = [
        c("deep", "UInt8", "$.a.b.c"),
        c("sibling", "String", "$.a.b.d"),
        c("object", "String", "$.a"),
        c("bracket", "String", "$['x.y']['z-1']"),
        c("odd.name-1", "String", "$.1st"),
        c("second", "UInt8", "$.list[1]"),
        c("list", "Array(UInt8)", "$.list[:]"),
        c("names", "Array(String)", "$.items[:].name"),
        c("prices", "Array(Nullable(Decimal(9, 2)))", "$.items[:].price"),
        c("items", "String", "$.items"),
        c("record", "String", "$"),
        c("json", "JSON", "$"),
    ]
    line = {
        "a": {"b": {"c": 1, "d": "x"}}, "x.y": {"z-1": "q"}, "1st": "one", "list": [7, 8],
        "items": [{"name": "n1", "price": 1.5}, {"name": "n2"}],
    }  # fmt: skip
    good, bad = await sheet.read(columns, [line])
    assert [row["c__error"] for row in bad] == []
    assert good[0] == {
        "deep": 1, "sibling": "x", "object": '{"b":{"c":1,"d":"x"}}', "bracket": "q", "odd.name-1": "one",
        "second": 8, "list": [7, 8], "names": ["n1", "n2"], "prices": ["1.5", None],
        "items": '[{"name":"n1","price":1.5},{"name":"n2"}]', "record": json.dumps(line), "json": good[0]["json"],
    }  # fmt: skip
    assert good[0]["json"]["a"] == line["a"]
    _, bad = await sheet.read(columns[7:8], [{"items": [{"name": "n1"}, {}]}, {"items": 5}, {}])
    assert [row["c__error_column"] for row in bad] == [["names"]] * 3


async def test_an_array_is_never_read_as_an_object_by_position(sheet: Sheet) -> None:
    columns = [c("x", "Nullable(String)", "$.a.x"), c("y", "Nullable(String)", "$.a.y")]
    good, bad = await sheet.read(columns, [{"a": ["1", "2"]}, '{"a" : \t[5]}', [{"x": 1}], {"a": "text"}])
    assert good == [{"x": None, "y": None}]  # a text has no x
    assert [row["c__error"] for row in bad] == [
        ["an array stands where an object should. While accessing jsonpath '$.a.x'"],
        ["an array stands where an object should. While accessing jsonpath '$.a.x'"],
        [f"{NO_OBJECT}it is a list; send its items, one object a line, or the whole with format=json"],
    ]


NO_OBJECT = "invalid JSON: the line is not a JSON object: "
# A line, and a part of what is said of it.
FAULTS: list[tuple[bytes, str]] = [
    (b'{"a": "x\ty"}', "a raw tab or another control character"),
    (b'{"a": "x\x01y"}', "a raw tab or another control character"),
    (b'{"a": "x\x00"}', "a raw tab or another control character"),
    (b'{"a": "\\ud800"}', "half of a surrogate pair"),
    (b'{"a": "x\\uDC00y", "b": 1}', "half of a surrogate pair"),
    (b'{"a": "x\xff"}', "it is not valid UTF-8"),
    (b'{"a": "\xc3"}', "it is not valid UTF-8"),
    (b'{"a": NaN}', "NaN and Infinity"),
    (b'{"a": [1, -Infinity]}', "NaN and Infinity"),
    (b'{"a": nan}', "NaN and Infinity"),
    (b'[{"a": 1}]', "it is a list"),
    (b"[]", "it is a list"),
    (b"5", "it is a single value"),
    (b'"text"', "it is a single value"),
    (b"null", "it is a single value"),
    (b'{"a": 1', "it ends before an object or a list is closed"),
    (b'{"a": [1, {"b": "}"}', "it ends before an object or a list is closed"),
    (b'{"a": "half', "it ends before a text is closed"),
    (b'{"a": "quote \\"', "it ends before a text is closed"),
    (b'{"a": 1} {"a": 2}', "more follows behind the object"),
    (b'{"a": {"b": "}"}}x', "more follows behind the object"),
    (b'{"a": 1}}', "more follows behind the object"),
    (b"{'a': 1}", "it cannot be read"),
    (b'{"a": 1,}', "it cannot be read"),
    (b"hello", "it cannot be read"),
]


@pytest.mark.parametrize(("line", "said"), FAULTS)
async def test_what_is_wrong_with_a_line_is_said(sheet: Sheet, line: bytes, said: str) -> None:
    _, bad = await sheet.read([c("a", "String")], [line])
    ((reason,),) = [row["c__error"] for row in bad]
    assert reason.startswith(NO_OBJECT)
    assert reason.removeprefix(NO_OBJECT).startswith(said)


BROKEN: list[bytes] = [
    b'{"a": "half',
    b'{"a": 1}}',
    b'{"a": 1} {"a": 2}',
    b'{"a": 1}); DROP TABLE t; --',
    b'{"a": "x\xff"}',
    b'{"a": "\\ud800"}',
    b'{"a": "\x00"}',
    b"\x00",
    b'"text"',
    b"5",
    b"null",
    b"[]",
    b"{'a': 1}",
    b'{"a": NaN}',
    b'{"a": 1,}',
    b'{"b":' + b"[" * 5000 + b"]" * 5000 + b"}",
    b'{"b":' * 5000,
]


@pytest.mark.parametrize("type", ["String", "Nullable(String)"])
async def test_a_line_that_is_no_json_object_is_kept_whole(sheet: Sheet, type: str) -> None:
    good, bad = await sheet.read([c("a", type)], [{"a": "1"}, *BROKEN, {"a": "2"}])
    assert [row["a"] for row in good] == ["1", "2"]
    assert [len(row["c__error"]) for row in bad] == [1] * len(BROKEN)
    assert all(row["c__error"][0].startswith(NO_OBJECT) for row in bad)
    assert {row["c__import_id"] for row in bad} == {"i"}
    # Bytes that are not UTF-8 cannot come back through JSON; all others do.
    sent = {line.decode() for line in BROKEN if b"\xff" not in line}
    assert sent <= {row["c__record"] for row in bad}


async def test_a_half_line_cannot_reach_into_the_next_one(sheet: Sheet) -> None:
    """Another client's row stands between the two halves of an object."""
    lines = ['{"a": "mine", "b": {"c":', {"a": "theirs"}, "}}", '{"a": "', {"a": "theirs too"}, '"}']
    good, bad = await sheet.read([c("a", "String")], lines)
    assert [row["a"] for row in good] == ["theirs", "theirs too"]
    assert len(bad) == 4


async def test_fixed_values_win_over_whatever_the_body_says(sheet: Sheet) -> None:
    columns = [c("customer", "LowCardinality(String)"), c("n", "Nullable(UInt8)"), c("ok", "Bool")]
    lines = [
        '{"customer": "B", "n": 1}',
        '{"customer": "B", "customer": "C", "n": 1}',
        '{"\\u0063ustomer": "B", "ok": false}',
        "{}",
    ]
    fixed = {"customer": "A'{source}\\", "ok": True}
    good, bad = await sheet.read(columns, lines, fixed)
    assert bad == []
    assert {row["customer"] for row in good} == {"A'{source}\\"}
    assert {row["ok"] for row in good} == {True}
    with pytest.raises(BadRequest, match="'tenant'"):
        parse.reader(columns, {"tenant": "A"})


async def test_of_duplicate_keys_the_first_counts(sheet: Sheet) -> None:
    good, _ = await sheet.read([c("a", "UInt8")], ['{"a": 1, "a": 300}'])
    assert good == [{"a": 1}]


async def test_the_quarantine_shows_values_as_they_were_sent(sheet: Sheet) -> None:
    columns = [c("n", "UInt8"), c("tags", "Array(UInt8)", "$.tags[:]"), c("s", "String"), c("m", "Map(String, UInt8)")]
    _, bad = await sheet.read(columns, [{"n": 300, "tags": [1, "x"], "s": {"k": 1}, "m": 5, "extra": 1}])
    assert {k: v for k, v in bad[0].items() if k not in ("insertion_date", "c__import_id")} == {
        "n": "300",
        "tags": '[1,"x"]',
        "s": '{"k":1}',
        "m": "5",
        "c__error_column": ["n", "tags", "m"],
        "c__error": [
            "value '300' on column 'n' is not UInt8",
            "value '[1,\"x\"]' on column 'tags' is not Array(UInt8)",
            "value '5' on column 'm' is not Map(String, UInt8)",
        ],
        "c__record": None,
    }


async def test_very_long_rows_and_very_many_keys(sheet: Sheet) -> None:
    long = {"id": 1, "s": "x" * 5_000_000}
    wide = {"id": 2, "s": "y", **{f"k{n}": n for n in range(200_000)}}
    good, bad = await sheet.read([c("id", "UInt32"), c("s", "String")], [long, wide, {"id": 3, "s": "z"}])
    assert [(row["id"], len(row["s"])) for row in good] == [(1, 5_000_000), (2, 1), (3, 1)]
    assert bad == []


async def test_a_schema_may_be_the_record_alone(sheet: Sheet) -> None:
    good, bad = await sheet.read([c("record", "String", "$")], ['{"a": 1.10}', "nonsense", "5"])
    assert good == [{"record": '{"a": 1.10}'}]
    assert [row["c__record"] for row in bad] == ["nonsense", "5"]


BITS = (8, 16, 32, 64, 128, 256)
EDGES = [edge + n for bits in BITS for edge in (0, 2**bits, 2 ** (bits - 1), -(2 ** (bits - 1))) for n in (-1, 0, 1)]
QUICK = settings(max_examples=examples(15))


@QUICK
@given(numbers=st.lists(st.integers(-(2**260), 2**260), max_size=30), quoted=st.booleans())
async def test_an_integer_is_itself_or_refused(sheet: Sheet, numbers: list[int], quoted: bool) -> None:
    sent = list(dict.fromkeys([*numbers, *EDGES]))
    texts = [f'"{n}"' if quoted else str(n) for n in sent]
    columns = [c(f"{s}{b}", f"Nullable({s}Int{b})") for s in ("", "U") for b in BITS]
    for column in columns:
        low, high = (0, 2 ** int(column.name[1:])) if column.name.startswith("U") else (None, None)
        if low is None or high is None:
            low, high = -(2 ** (int(column.name) - 1)), 2 ** (int(column.name) - 1)
        good, bad = await sheet.read([column], [f'{{"{column.name}": {text}}}' for text in texts])
        fits = [n for n in sent if low <= n < high]
        assert [int(row[column.name]) for row in good] == fits
        assert [row[column.name] for row in bad] == [str(n) for n in sent if not low <= n < high]


@QUICK
@given(texts=st.lists(st.text(), min_size=1, max_size=50), ascii=st.booleans())
async def test_a_text_is_itself(sheet: Sheet, texts: list[str], ascii: bool) -> None:
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    lines = [json.dumps({"s": text}, ensure_ascii=ascii) for text in texts]
    good, bad = await sheet.read([c("s", "String")], lines)
    assert bad == []
    assert [row["s"] for row in good] == texts


@QUICK
@given(numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
async def test_a_float_is_itself(sheet: Sheet, numbers: list[float]) -> None:
    good, bad = await sheet.read([c("f", "Float64")], [f'{{"f": {number!r}}}' for number in numbers])
    assert bad == []
    assert [float(row["f"]) for row in good] == numbers


@QUICK
@given(numbers=st.lists(st.decimals(-(10**19), 10**19, places=18), min_size=1, max_size=50), quoted=st.booleans())
async def test_a_decimal_is_itself(sheet: Sheet, numbers: list[Decimal], quoted: bool) -> None:
    texts = [f'"{n:f}"' if quoted else f"{n:f}" for n in numbers]
    good, bad = await sheet.read([c("d", "Decimal(38, 18)")], [f'{{"d": {text}}}' for text in texts])
    assert bad == []
    assert [Decimal(row["d"]) for row in good] == numbers


EPOCH = datetime(1970, 1, 1)
UNITS = st.sampled_from([1, 10**3, 10**6, 10**9])


@QUICK
@given(
    st.lists(st.tuples(st.integers(-2208988800, 9223372035), st.integers(0, 10**9 - 1), UNITS), min_size=1, max_size=50)
)
async def test_a_number_is_the_time_since_1970_that_its_size_says(
    sheet: Sheet, moments: list[tuple[int, int, int]]
) -> None:
    """Seconds below 10^11, milliseconds below 10^14, microseconds below 10^17, else nanoseconds."""
    lines, expected = [], []
    for seconds, nanoseconds, unit in moments:
        number = seconds * unit + nanoseconds * unit // 10**9
        size = abs(number)
        per_second = 1 if size < 10**11 else 10**3 if size < 10**14 else 10**6 if size < 10**17 else 10**9
        total = Decimal(number) / per_second
        whole, fraction = divmod(int(total * 10**9), 10**9)
        in_range = -2208988800 <= whole < 9223372036
        lines.append(f'{{"t": {number}}}')
        moment = EPOCH + timedelta(seconds=whole) if in_range else None
        expected.append(moment and f"{moment:%Y-%m-%d %H:%M:%S}.{fraction:09}")
    good, bad = await sheet.read([c("t", "Nullable(DateTime64(9, 'UTC'))")], lines)
    assert len(bad) == expected.count(None)
    assert [row["t"] for row in good] == [one for one in expected if one is not None]


@QUICK
@given(st.lists(st.integers(-(10**6), 2**32 + 10**6), min_size=1, max_size=80))
async def test_every_second_of_a_datetime_is_itself(sheet: Sheet, numbers: list[int]) -> None:
    columns = [c("t", "Nullable(DateTime('UTC'))"), c("z", "Nullable(DateTime('Asia/Kolkata'))", "$.t")]
    good, _ = await sheet.read(columns, [{"t": number} for number in numbers])
    inside = [n for n in numbers if 0 <= n < 2**32]
    assert [row["t"] for row in good] == [f"{EPOCH + timedelta(seconds=n):%Y-%m-%d %H:%M:%S}" for n in inside]
    local = [EPOCH + timedelta(seconds=n, hours=5, minutes=30) for n in inside]
    assert [row["z"] for row in good] == [f"{moment:%Y-%m-%d %H:%M:%S}" for moment in local]


async def test_rows_are_counted_for_each_request(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "x.segment"
    path.write_bytes(b'\x1eabc header\n{"a":1}\n{"a":300}\n\x1eabc frame\n{"a":1}\nx\n{"a":"y"}\n')
    reader = parse.reader([c("a", "UInt8")], frame="\x1eabc")
    rows = await engine.select_file(reader.counts([0, 2]), path, format=parse.FORMAT, structure=parse.STRUCTURE)
    counts = {row["start"]: (row["total"], row["bad"]) for row in rows}
    assert counts == {0: (2, 1), 2: (3, 2)}


def test_a_schema_that_json_cannot_fill_is_named() -> None:
    columns = [
        c("a", "Array(String)", "$.x[:].y[:].z"),
        c("b", "String", "$.items[:].name"),
        c("c", "AggregateFunction(uniq, String)"),
        c("d", "String", "x"),
        c("e", "String", "$[:].x"),
        c("f", "", "$.x"),
        c("g", "String", "$.ok"),
    ]
    assert [problem.split(":")[0] for problem in parse.problems(columns)] == [f"column {n}" for n in "fabcde"]


async def test_without_any_path_the_keys_are_the_names(sheet: Sheet) -> None:
    columns = [Column("a", "UInt8"), Column("it's", "String")]
    good, _ = await sheet.read(columns, [{"a": 1, "it's": "x"}])
    assert good == [{"a": 1, "it's": "x"}]


def documented() -> list[tuple[str, str, str]]:
    """The examples of docs/reference/values.md: type, event, what is stored."""
    page = (Path(__file__).parents[2] / "docs/reference/values.md").read_text()
    table = page.split("| column | event | stored |")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[2:]]
    return [(row[0].strip("`"), row[1].strip("`"), row[2]) for row in rows]


@pytest.mark.parametrize(("type", "line", "stored"), documented())
async def test_the_examples_of_the_documentation(sheet: Sheet, type: str, line: str, stored: str) -> None:
    good, bad = await sheet.read([c("v", type)], [line])
    if stored.startswith("refused"):
        assert f"refused: `{bad[0]['c__error'][0]}`" == stored
    else:
        value = good[0]["v"]
        text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        assert f"`{text}`" == stored

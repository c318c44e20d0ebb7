"""The table that texts are tried over: a column of every type, harmless rows of A, poisonous rows of others.

A's values are chosen so that most functions answer (numbers as texts, dates as texts, JSON, addresses). The others' are
chosen to make a function fail, change its type or its state: other keys and types, lists where A has numbers, zeros,
huge ones, bad dates, texts that cannot be parsed, bytes that are no UTF-8, nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

ROWS = 6  # of A
# Before A and behind it in the sorting key: what a part knows may stand with its first row or its last one.
BEFORE, BEHIND = ("", "A"), ("b", "zz")


@dataclass(frozen=True, slots=True)
class Column:
    """`own` and `poison`: SQL expressions, taken in turn."""

    name: str
    type: str
    own: tuple[str, ...]
    poison: tuple[str, ...]


_BYTES = ("''", "unhex('FFFE00')", "repeat('zq', 3000)", "'zq%(['", "'-'", "'0'", "'\\\\'")
# The kinds of text that functions read. Each is a String and a LowCardinality(String) column.
TEXTS = {
    "num": ("'1'", "'2'", "'30'"),
    "word": ("'ab'", "'abc'", "'b'"),
    "date": ("'2026-01-01'", "'2026-01-02'"),
    "time": ("'2026-01-01 10:00:00'", "'2026-01-02 11:30:00'"),
    "json": ("'{\"a\": 1, \"b\": [1, 2], \"name\": \"x\"}'", "'{\"a\": 2, \"b\": [3], \"name\": \"y\"}'"),
    "uuid": ("'61f0c404-5cb3-11e7-907b-a6006ad3dba0'", "'61f0c404-5cb3-11e7-907b-a6006ad3dba1'"),
    "ip": ("'127.0.0.1'", "'10.0.0.7'"),
    "url": ("'http://example.com/a/b?x=1#f'", "'https://www.example.org/q?y=2'"),
    "code": ("'YWJj'", "'YWJjZGVm'"),  # base64, base58 and hex read it
}


def _mixed(*values: str) -> tuple[str, ...]:
    return tuple(f"CAST({value} AS Dynamic)" for value in values)


def _variant(*values: str) -> tuple[str, ...]:
    return tuple(f"CAST({value} AS Variant(String, UInt64, Array(UInt8)))" for value in values)


def _json(*values: str) -> tuple[str, ...]:
    return tuple(f"'{value}'" for value in values)


def _state(function: str, type: str, *values: str) -> tuple[str, ...]:
    return tuple(f"arrayReduce('{function}State', [CAST({value} AS {type})])" for value in values)


_SHAPES = ("'zq'", "CAST([1] AS Array(UInt8))", "''", "CAST([] AS Array(UInt8))", "NULL")
_HUGE = ("9223372036854775807", "-9223372036854775808", "0", "-1", "4444")

COLUMNS: tuple[Column, ...] = (
    *(Column(f"s_{kind}", "String", own, _BYTES) for kind, own in TEXTS.items()),
    *(Column(f"lc_{kind}", "LowCardinality(String)", own, _BYTES) for kind, own in TEXTS.items()),
    Column("ns", "Nullable(String)", ("'1'", "NULL", "'2'"), (*_BYTES, "NULL")),
    Column("lcn", "LowCardinality(Nullable(String))", ("'1'", "NULL", "'2'"), (*_BYTES, "NULL")),
    Column("fs", "FixedString(4)", ("'abcd'", "'1234'"), ("''", "unhex('FFFEFDFC')", "'zq%('")),
    Column("u8", "UInt8", ("1", "2", "3"), ("0", "255", "44")),
    Column("i64", "Int64", ("1", "2", "2", "5"), _HUGE),
    Column("u64", "UInt64", ("1", "2", "7"), ("0", "18446744073709551615", "4444")),
    Column("h3", "UInt64", ("599686042433355775", "599686043507097599"), ("0", "18446744073709551615", "4444")),
    Column("nn", "Nullable(Int64)", ("1", "NULL", "3"), (*_HUGE, "NULL")),
    Column("lcu", "LowCardinality(UInt32)", ("1", "2", "3"), ("0", "4294967295", "4444")),
    Column("f64", "Float64", ("1.5", "2.25", "0.5"), ("nan", "inf", "-inf", "0", "1e308", "-1e-300")),
    Column("dec", "Decimal(18, 4)", ("1.5", "2.25"), ("0", "99999999999999.9999", "-99999999999999.9999")),
    Column("b", "Bool", ("true", "false"), ("false", "true")),
    Column("e", "Enum8('p' = 1, 'q' = 2, 'zqenum' = 3)", ("'p'", "'q'"), ("'zqenum'",)),
    Column("day", "Date", ("'2026-01-01'", "'2026-01-02'"), ("'1970-01-01'", "'2149-06-06'")),
    Column("day32", "Date32", ("'2026-01-01'", "'2026-01-02'"), ("'1900-01-01'", "'2299-12-31'")),
    Column("dt", "DateTime", ("'2026-01-01 10:00:00'", "'2026-01-01 11:30:00'"), ("0", "4294967295")),
    Column(
        "dt64",
        "DateTime64(3)",
        ("'2026-01-01 10:00:00.123'", "'2026-01-01 11:30:00.5'"),
        ("'1900-01-01 00:00:00.000'", "'2262-04-11 23:47:16.000'"),
    ),
    Column("uuid", "UUID", TEXTS["uuid"], ("'00000000-0000-0000-0000-000000000000'", "generateUUIDv4()")),
    Column("ip4", "IPv4", TEXTS["ip"], ("'0.0.0.0'", "'255.255.255.255'")),
    Column("ip6", "IPv6", ("'::1'", "'::ffff:127.0.0.1'"), ("'::'", "'ffff::ffff'")),
    Column("a", "Array(Int64)", ("[1, 2, 3]", "[2]"), ("[]", "[0, 9223372036854775807, -1]", "range(500)")),
    Column("af", "Array(Float64)", ("[1.5, 2, 3]", "[2, 1, 0.5]"), ("[]", "[nan, inf]", "[0]")),
    Column("sa", "Array(String)", ("['ab', 'c']", "['x']"), ("[]", "[unhex('FFFE')]", "['', repeat('zq', 500)]")),
    Column("lca", "Array(LowCardinality(String))", ("['1', '2']", "['30']"), ("[]", "['zq%(']", "[unhex('FFFE'), '']")),
    Column("m", "Map(String, Int64)", ("map('k', 1, 'l', 2)", "map('k', 3)"), ("map()", "map('zqkey', 0)")),
    Column(
        "lm", "Map(LowCardinality(String), String)", ("map('k', '1')", "map('k', '2')"), ("map()", "map('zq%(', unhex('FF'))")
    ),
    Column("t", "Tuple(x Int64, y String)", ("(1, 'ab')", "(2, 'c')"), ("(0, '')", "(9223372036854775807, unhex('FF'))")),
    Column("pt", "Tuple(Float64, Float64)", ("(1.5, 2)", "(2, 3)"), ("(nan, inf)", "(0, 0)", "(1e300, -1e300)")),
    Column(
        "data",
        "JSON(max_dynamic_paths = 4, max_dynamic_types = 8, typed UInt32, kind LowCardinality(String))",
        _json(
            '{"num":1,"text":"ab","list":[1,2],"sub":{"x":1},"typed":1,"kind":"k"}',
            '{"num":2,"text":"c","list":[3],"sub":{"x":2},"typed":2,"kind":"l"}',
        ),
        _json(
            '{"num":[1],"text":5,"list":{"zqdeep":1},"sub":7,"kind":"zq%("}',
            '{"num":"zq","text":[1],"list":"zq","sub":{"x":"zq","zqkey":{"y":[1]}}}',
            '{"num":1.5,"text":true,"list":[[1]],"sub":[{"q":1}]}',
            '{"num":true,"text":1.5,"list":1,"sub":{"x":[{"z":1}]}}',
            '{"zqk1":1,"zqk2":1,"zqk3":1,"zqk4":1,"zqk5":1,"zqk6":1,"zqk7":[{"a":1}],"num":"2026-01-01"}',
            "{}",
        ),
    ),
    Column("d", "Dynamic(max_types=3)", _mixed("1", "2"), _mixed("'zq'", "[1]", "1.5", "true", "('zq', 1)", "NULL")),
    Column("v", "Variant(String, UInt64, Array(UInt8))", _variant("toUInt64(1)", "toUInt64(2)"), _variant(*_SHAPES)),
    Column("dv", "Dynamic", _mixed("'ab'", "'c'"), _mixed("toDate('2020-01-01')", "map('zq', 1)", "[1.5]", "NULL")),
    Column("st_sum", "AggregateFunction(sum, Int64)", _state("sum", "Int64", "1", "2"), _state("sum", "Int64", *_HUGE)),
    Column("st_uniq", "AggregateFunction(uniq, String)", _state("uniq", "String", "'a'"), _state("uniq", "String", *_BYTES)),
    Column("ss", "SimpleAggregateFunction(max, Int64)", ("1", "2"), _HUGE),
)
# Parts of columns that texts name like columns.
PARTS: tuple[tuple[str, str], ...] = (
    ("data.num", "Dynamic(max_types=8)"),
    ("data.text", "Dynamic(max_types=8)"),
    ("data.list", "Dynamic(max_types=8)"),
    ("data.sub.x", "Dynamic(max_types=8)"),
    ("data.num.:Int64", "Nullable(Int64)"),
    ("data.kind", "LowCardinality(String)"),
    ("data.^sub", "JSON"),
    ("data.num::Float64", "Float64"),
    ("data.text::String", "String"),
    ("d::Int64", "Int64"),
    ("v.UInt64", "Nullable(UInt64)"),
    ("t.x", "Int64"),
    ("m['k']", "Int64"),
    ("bitmapBuild(CAST(a AS Array(UInt64)))", "AggregateFunction(groupBitmap, UInt64)"),
)
NAMES: tuple[tuple[str, str], ...] = (*((c.name, c.type) for c in COLUMNS), *PARTS)

SCHEMA = "SCHEMA >\n    customer_id String,\n    n Int64,\n" + ",\n".join(f"    {c.name} {c.type}" for c in COLUMNS)
FACTS = (
    f"{SCHEMA}\n\nENGINE MergeTree\nENGINE_SORTING_KEY customer_id, sipHash64(n)\nENGINE_SAMPLING_KEY sipHash64(n)\n"
    "ROW_POLICY customer_id = {{String(context.customer_id)}}\n"
)
# What a table can know beside its columns: keys, partitions, indexes, versions.
KEYED = (
    "SCHEMA >\n    customer_id String,\n    n Int64,\n    s_word String,\n    lc_word LowCardinality(String),\n"
    "    i64 Int64,\n    day Date,\n    ver UInt64\n\n"
    "ENGINE ReplacingMergeTree\nENGINE_PARTITION_KEY toYYYYMM(day)\nENGINE_SORTING_KEY i64, customer_id, n\n"
    "ENGINE_VER ver\nINDEXES >\n    INDEX mm n TYPE minmax GRANULARITY 1\n    INDEX st i64 TYPE set(100) GRANULARITY 1\n"
    "    INDEX bf s_word TYPE bloom_filter GRANULARITY 1\n    INDEX tb lc_word TYPE tokenbf_v1(256, 2, 0) GRANULARITY 1\n"
    "ROW_POLICY customer_id = {{String(context.customer_id)}}\n"
)


def structure() -> str:
    """The columns of `facts` as CREATE TABLE has them."""
    return ", ".join(["customer_id String", "n Int64", *(f"`{c.name}` {c.type}" for c in COLUMNS)])


def rows_of_a(first: int, last: int) -> Iterator[str]:
    """SELECTs of one row each, by number from `first` to before `last`."""
    for number in range(first, last):
        yield _select("a", number, [(c, c.own[number % len(c.own)]) for c in COLUMNS])


def rows_of_others(tenants: tuple[str, ...], start: int) -> Iterator[str]:
    """All of the poison, of each tenant; `start`: which of it comes first, and so is the type that a part knows best."""
    most = max(len(c.poison) for c in COLUMNS)
    for at, tenant in enumerate(tenants):
        for number in range(most):
            shift = start + number + at
            yield _select(tenant, number - 2, [(c, c.poison[shift % len(c.poison)]) for c in COLUMNS])


def _select(tenant: str, number: int, values: list[tuple[Column, str]]) -> str:
    listed = ", ".join(f"CAST({value} AS {column.type}) AS `{column.name}`" for column, value in values)
    return f"SELECT '{tenant}' AS customer_id, toInt64({number}) AS n, {listed}"

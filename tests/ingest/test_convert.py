"""What a typed value becomes in a column of another type: itself, rounded where the rule says so, or refused.

All pairs of the types below, each with values at the ends of its range, against plain arithmetic in Python.
"""

from __future__ import annotations

import re
import struct
from datetime import datetime
from decimal import ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, Decimal, InvalidOperation, localcontext

import pytest

from pipit.engine import Engine
from pipit.errors import SqlError
from pipit.ingest.convert import REFUSED, conversion
from pipit.sql.literals import quote_string

pytestmark = pytest.mark.anyio

EPOCH = datetime(1970, 1, 1)
INTEGERS = {
    f"{sign}Int{bits}": (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for sign in ("", "U")
    for bits in (8, 16, 32, 64, 128, 256)
}
ODD = (0, 1, 2, 5, 300, 2**24 + 1, 2**53 + 1, 86400, 70000, 120529, 1700000000, 99999999999)
NUMBERS = sorted({n for first, last in INTEGERS.values() for n in (first - 1, first, last, last + 1)} | set(ODD))
MOMENTS = [
    "1969-12-31 23:59:59",
    "1970-01-01 00:00:00",
    "2024-01-02 03:04:05",
    "2106-02-07 06:28:15",
    "2106-02-07 06:28:16",
    "2149-06-06 23:59:59",
    "2149-06-07 00:00:00",
]
FAR = ["2299-12-31 23:59:59", "2300-01-01 00:00:00", "1899-12-31 00:00:00", "9999-01-01 00:00:00"]
VALUES: dict[str, list[str]] = {
    **{t: [str(n) for n in NUMBERS if first <= n <= last] for t, (first, last) in INTEGERS.items()},
    "Bool": ["true", "false"],
    "Float64": [
        "0",
        "1",
        "1.9",
        "-1",
        "-0.5",
        "300",
        "1e300",
        "nan",
        "inf",
        "-inf",
        "0.1",
        "16777217",
        "9007199254740992",
        "1e19",
        "1e39",
        "1e77",
        "1e100",
        "3e9",
        "5e9",
    ],
    "Float32": ["0", "1", "1.5", "300", "3e38", "nan", "inf", "0.1", "-7"],
    "Decimal(9, 2)": ["0", "1", "1.99", "300", "9999999.99", "-1.01", "-0.01"],
    "Decimal(18, 4)": ["1", "1.9951", "1.005", "99999999999999.9999", "9999999.9951"],
    "Decimal(76, 20)": ["1", "1.00000000000000000001", "9" * 55],
    "String": [
        "a",
        "b",
        "c",
        "zz",
        "0",
        "1",
        "300",
        "-1",
        "1.9",
        "1.2.3",
        "-",
        ".",
        "abcdefgh",
        "true",
        "1e300",
        "340282366920938463463374607431768211461",
        "",
        "2024-01-02",
        "2024-13-45",
        "2200-01-01",
        "2024-01-02 03:04:05",
        "1969-12-31 23:59:59.5",
        "-0.5",
    ],
    "FixedString(4)": ["", "a", "300", "abcd"],
    "FixedString(8)": ["", "a", "300", "abcdefgh"],
    "Enum8('a' = 1, 'b' = 2)": ["a", "b"],
    "Enum8('b' = 1, 'a' = 2)": ["a", "b"],
    "Enum8('a' = 1)": ["a"],
    "Enum16('a' = 1, 'c' = 300)": ["a", "c"],
    "Date": ["1970-01-01", "2024-02-29", "2106-02-07", "2106-02-08", "2149-06-06"],
    "Date32": ["1900-01-01", "1969-12-31", "1970-01-01", "2024-02-29", "2106-02-08", "2149-06-07", "2299-12-31"],
    "DateTime('UTC')": ["1970-01-01 00:00:00", "2024-01-02 03:04:05", "2106-02-07 06:28:15"],
    "DateTime64(0, 'UTC')": [*MOMENTS, *FAR],
    "DateTime64(3, 'UTC')": [
        *MOMENTS,
        *FAR,
        "2024-01-02 03:04:05.555",
        "1969-12-31 23:59:59.500",
        "1899-12-31 23:59:59.999",
    ],
    "DateTime64(9, 'UTC')": [
        *MOMENTS,
        "2024-01-02 03:04:05.555555555",
        "2262-04-11 23:47:15",
        "1969-12-31 23:59:59.999999999",
    ],
}
MANTISSA = {"Float32": 24, "Float64": 53}


def exact(text: str, float_type: str) -> Decimal:
    """What a float of this type holds when it is written so."""
    value = float(text)
    return Decimal(struct.unpack("f", struct.pack("f", value))[0] if float_type == "Float32" else value)


def is_number(type: str) -> bool:
    return type in INTEGERS or type.startswith(("Float", "Decimal"))


def number(text: str, type: str) -> Decimal | None:
    if type.startswith("Date"):
        seconds = moment(text)
        return seconds / 86400 if type in ("Date", "Date32") else seconds
    if type.startswith("Enum"):
        return Decimal(enum(type)[text])
    if type == "Float32" and float(text) - float(text) == 0:
        return exact(text, type)
    try:
        return Decimal({"true": "1", "false": "0"}.get(text, text))
    except InvalidOperation:
        return None


def enum(type: str) -> dict[str, int]:
    return {name: int(n) for name, n in re.findall(r"'(\w)' = (\d+)", type)}


def moment(text: str) -> Decimal:
    text, _, fraction = text.partition(".")
    parsed = datetime.strptime(text, "%Y-%m-%d %H:%M:%S" if " " in text else "%Y-%m-%d")
    return Decimal(int((parsed - EPOCH).total_seconds())) + (Decimal(f"0.{fraction}") if fraction else 0)


def is_right(source: str, was: str, target: str, became: str) -> bool:
    """Whether the value is what the rule says, by arithmetic of its own."""
    if target == "String":
        return True
    if is_number(target) or target == "Bool":
        before, after = number(was, source), number(became, target)
        if before is None or after is None:
            return False
        if target in MANTISSA:
            if not before.is_finite() or not after.is_finite():
                return str(before) == str(after)
            if source in INTEGERS:  # whole numbers stay what they are
                return exact(was, target) == before == exact(became, target)
            return abs(before - after) <= abs(before) * Decimal(2) ** -(MANTISSA[target] - 1)
        if target.startswith("Decimal"):
            before = Decimal(was) if source == "Float32" else before  # its shortest text, as a reader sees it
            scale = int(target.split(",")[1].strip(" )"))
            return after == before.quantize(Decimal(1).scaleb(-scale), rounding=ROUND_HALF_UP)
        if source in MANTISSA:
            return exact(was, source) == after
        if source.startswith("DateTime64"):  # fractions of a second are dropped
            return after in (before.to_integral(ROUND_DOWN), before.to_integral(ROUND_FLOOR))
        return before == after
    if target in ("Date", "Date32"):
        if source.startswith(("Date", "String", "Fixed")):
            return became == was[:10]
        before = number(was, source)
        return before is not None and moment(became) / 86400 in (before, Decimal(int(before) // 86400))
    if target.startswith("Date"):
        if source.startswith(("String", "Fixed")):
            return became[:10] == was[:10] and became[11:19] == (was[11:19] or "00:00:00")
        before = moment(was) if source.startswith("Date") else number(was, source)
        precision = int(target[11]) if target.startswith("DateTime64") else 0
        unit = Decimal(1).scaleb(-precision)
        return before is not None and moment(became) in {before.quantize(unit, r) for r in (ROUND_DOWN, ROUND_FLOOR)}
    if target.startswith("Enum"):
        if was in enum(target):
            return became == was
        before = number(was, "String")
        return before is not None and before == enum(target)[became]
    if target.startswith("FixedString"):
        return became.rstrip("\0") == was.rstrip("\0")
    return became == was


def of(type: str, text: str) -> str:
    return (
        f"to{type}({quote_string(text)})" if type in INTEGERS else f"CAST({quote_string(text)}, {quote_string(type)})"
    )


async def stored(engine: Engine, source: str, target: str, texts: list[str]) -> list[tuple[str, str | None]]:
    """What it was and what it became, None where it was refused. Raises where the engine has no such conversion."""
    sql = conversion(source, target, "x", "NO").sql
    # Without raising, so that all values are seen at once.
    sql = sql.replace("throwIf(", "identity(").replace(", 'NO')", ")").replace("assumeNotNull(", "identity(")
    typed = quote_string(target if sql == "x" else f"Nullable({target})")
    values = ", ".join(of(source, text) for text in texts)
    rows = await engine.rows(
        f"SELECT toString(x) AS was, toString(CAST({sql}, {typed})) AS became FROM (SELECT arrayJoin([{values}]) AS x)"
    )
    return [(str(row["was"]), row["became"]) for row in rows]


@pytest.mark.parametrize("source", VALUES)
async def test_no_pair_of_types_cuts(engine: Engine, source: str) -> None:
    wrong: list[str] = []
    tried = 0
    with localcontext() as context:
        context.prec = 200
        for target in VALUES:
            try:
                pairs = await stored(engine, source, target, VALUES[source])
            except SqlError:  # the engine raises on one of them, which is as good; on which?
                pairs = []
                for text in VALUES[source]:
                    try:
                        pairs += await stored(engine, source, target, [text])
                    except SqlError:
                        continue
            tried += len(pairs)
            wrong += [f"{source} {was} -> {target} {became}" for was, became in pairs if became is not None
                      and not is_right(source, was, target, became)]  # fmt: skip
    assert not wrong, "\n".join(wrong)
    assert tried


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("UInt8", "Int16"), ("Int32", "Int64"), ("UInt32", "Float64"), ("UInt64", "UInt256"), ("Int64", "Decimal(19, 0)"),
        ("Float32", "Float64"), ("Decimal(9, 2)", "Decimal(18, 4)"), ("Date", "Date32"), ("Date", "DateTime64(3)"),
        ("DateTime", "DateTime64(3)"), ("DateTime64(3)", "DateTime64(6)"), ("FixedString(4)", "FixedString(8)"),
        ("Enum8('a' = 1)", "Enum8('a' = 1, 'b' = 2)"), ("Enum8('a' = 1)", "String"), ("Bool", "UInt8"), ("Int64", "String"),
        ("String", "LowCardinality(String)"), ("LowCardinality(String)", "String"), ("Int8", "Nullable(Int16)"),
        ("Array(UInt8)", "Array(Int16)"), ("Map(String, UInt8)", "Map(LowCardinality(String), UInt64)"),
        ("Tuple(a UInt8, b String)", "Tuple(a UInt16, b String)"), ("Int64", "SimpleAggregateFunction(sum, Int64)"),
        ("AggregateFunction(sum, Int64)", "AggregateFunction(sum, Int64)"), ("JSON", "JSON"), ("JSON", "String"),
        ("UInt8", "Dynamic"), ("Nullable(Int8)", "Nullable(Int64)"), ("Decimal(9,2)", "Decimal(9, 2)"),
        ("Array(Nothing)", "Array(String)"), ("Nullable(Nothing)", "String"), ("IPv4", "String"),
    ],
)  # fmt: skip
def test_what_fits_is_left_to_the_engine(source: str, target: str) -> None:
    found = conversion(source, target, "x", "NO")
    assert (found.sql, found.loses) == ("x", ())


COMPOUND = [
    # source type, value, target type, what is stored (None: refused)
    ("Array(Int64)", "[1, 127]", "Array(Int8)", "[1,127]"),
    ("Array(Int64)", "[1, 300]", "Array(Int8)", None),
    ("Array(Array(Int64))", "[[1], [300]]", "Array(Array(UInt8))", None),
    ("Array(Array(Int64))", "[[1], [200]]", "Array(Array(UInt8))", "[[1],[200]]"),
    ("Array(Nullable(Int64))", "[1, NULL]", "Array(Int64)", None),
    ("Array(Nullable(Int64))", "[1, NULL]", "Array(Nullable(Int8))", "[1,NULL]"),
    ("Array(Nullable(Int64))", "[300, NULL]", "Array(Nullable(Int8))", None),
    ("Array(Float64)", "[1.5]", "Array(Int32)", None),
    ("Array(String)", "['2024-13-45']", "Array(Date)", None),
    ("Map(String, Int64)", "map('a', 300)", "Map(String, UInt8)", None),
    ("Map(String, Int64)", "map('a', 200)", "Map(String, UInt8)", "{'a':200}"),
    ("Map(Int64, String)", "map(300, 'a')", "Map(Int8, String)", None),
    ("Map(String, Array(Int64))", "map('a', [300])", "Map(String, Array(UInt8))", None),
    ("Map(String, Int64)", "map('a', 300)", "Array(Tuple(String, UInt8))", None),
    ("Array(Tuple(String, Int64))", "[('a', 300)]", "Map(String, UInt8)", None),
    ("Tuple(a Int64, b String)", "(300, 'x')", "Tuple(a Int8, b String)", None),
    ("Tuple(a Int64, b String)", "(30, 'x')", "Tuple(a Int8, b String)", "(30,'x')"),
    ("Tuple(b Int64, a Int64)", "(1, 2)", "Tuple(a Int8, b Int8)", "(2,1)"),
    ("Tuple(Int64, Int64)", "(1, 300)", "Tuple(Int8, Int8)", None),
    ("Array(Tuple(n Int64))", "[tuple(300)]", "Array(Tuple(n UInt8))", None),
    ("Nullable(Int64)", "NULL", "Int64", None),
    ("Nullable(Int64)", "NULL", "Nullable(Int8)", None),
    ("LowCardinality(Nullable(String))", "NULL", "String", None),
    ("LowCardinality(String)", "'abc'", "FixedString(2)", None),
    ("LowCardinality(String)", "'300'", "UInt8", None),
    ("String", "'[300,1]'", "Array(UInt8)", None),
    ("String", "'[200,1]'", "Array(UInt8)", "[200,1]"),
    ("Dynamic", "300::Int64", "Int8", None),
    ("Dynamic", "30::Int64", "Int8", "30"),
    ("Dynamic", "1.9::Float64", "Int32", None),
    ("Dynamic", "[300]::Array(Int64)", "Array(UInt8)", None),
    ("Dynamic", "NULL", "Int64", None),
    ("Variant(Int64, String)", "300::Int64", "Int8", None),
    ("Int64", "300", "SimpleAggregateFunction(max, Int8)", None),
    ("Int64", "300", "LowCardinality(UInt8)", None),
]


@pytest.mark.parametrize(("source", "value", "target", "wanted"), COMPOUND)
async def test_what_is_inside_of_something(
    engine: Engine, source: str, value: str, target: str, wanted: str | None
) -> None:
    found = conversion(source, target, "x", "it does not fit")
    typed = quote_string(target)
    sql = f"SELECT toString(CAST({found.sql}, {typed})) AS became FROM (SELECT materialize(CAST({value}, {quote_string(source)})) AS x)"
    allowed = {"allow_suspicious_low_cardinality_types": 1}
    if wanted is None and not ("Nullable" in target and value == "NULL"):
        assert found.loses
        with pytest.raises(SqlError, match="does not fit"):
            await engine.rows(sql, settings=allowed)
    else:
        (row,) = await engine.rows(sql, settings=allowed)
        assert row["became"] == wanted


def test_what_is_lost_is_said() -> None:
    assert conversion("Int64", "Int8", "x", "NO").loses == (REFUSED,)
    said = {
        ("Float64", "Float32"): "rounded",
        ("DateTime", "Date"): "time of day",
        ("DateTime64(3)", "DateTime"): "fractions",
        ("Nullable(Int8)", "Int8"): "NULL",
        ("Tuple(a Int8, b Int8)", "Tuple(a Int8, c Int8)"): "elements",
    }
    for (source, target), word in said.items():
        assert any(word in text for text in conversion(source, target, "x", "NO").loses), (source, target)

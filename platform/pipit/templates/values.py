"""What a template's expression may yield, and what each kind is to the engine: a type, a bound value, a printed text.

A value of a sized type function keeps its type (`Int32(a)` is an int that says so); arithmetic on it gives a plain int,
whose type is the one that ClickHouse gives an integer literal of that size. Text is text, dates too, as in the dialect.
`Sql` is text that may stand in a statement as it is: only functions of this package make it, from checked parts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from pipit.sql.literals import print_literal, quote_string
from pipit.templates.failures import value_error

RequestValue = str | int | float | bool | None | Sequence["RequestValue"] | dict[str, Any]
ParamValue = str | int | float | bool | None | Sequence["ParamValue"]

NO_VALUE = "__no_value__"  # stands for an absent text when a template is rendered for validation only
MAX_BITS = 256
_INTERVAL = re.compile(r"-?[0-9]{1,9} +(?:second|minute|hour|day|week|month|quarter|year)s?", re.IGNORECASE)


class Sized(int):
    """An integer of a sized type, `Int8` to `UInt256`."""

    clickhouse: ClassVar[str]


class Floating(float):
    """A number of `Float32` or `Float64`, asked for by name."""

    clickhouse: ClassVar[str]


SIZED: dict[str, type[Sized]] = {
    f"{sign}Int{bits}": type(f"{sign}Int{bits}", (Sized,), {"clickhouse": f"{sign}Int{bits}"})
    for sign in ("", "U")
    for bits in (8, 16, 32, 64, 128, 256)
}
FLOATING: dict[str, type[Floating]] = {
    name: type(name, (Floating,), {"clickhouse": name}) for name in ("Float32", "Float64")
}


class Sql(str):
    """SQL text made of checked parts: a quoted identifier, a comment line, an inner block's output."""

    __slots__ = ()


class Secret:
    """A secret's text. It can be put into SQL (bound) and nothing else: no comparison, no method, no repr."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "Secret(...)"


def literal_type(low: int, high: int) -> str:
    """The type of an integer literal; of a list of integers, given its least and greatest."""
    if low >= 0:
        return f"UInt{_bits(high.bit_length())}"
    signed = _bits(max((-low - 1).bit_length(), 0) + 1)
    if high < 0:
        return f"Int{signed}"
    unsigned = _bits(high.bit_length())
    fits = _bits(high.bit_length() + 1)
    return f"Int{max(signed, fits if unsigned >= 64 else 2 * unsigned)}"


def _bits(needed: int) -> int:
    for bits in (8, 16, 32, 64, 128, 256):
        if needed <= bits:
            return bits
    raise value_error(f"The number is longer than {MAX_BITS} bits")


def type_of(value: object) -> str:
    """The ClickHouse type that a value is bound as."""
    kind = type(value)
    if kind is str:
        return "String"
    if isinstance(value, Sized | Floating):
        return value.clickhouse
    if kind is bool:
        return "Bool"
    if isinstance(value, int):
        return literal_type(value, value)
    if isinstance(value, float):
        return "Float64"
    if isinstance(value, tuple) and value:
        return f"Tuple({', '.join(type_of(item) for item in value)})"
    if isinstance(value, list):
        return f"Array({_element_type(value)})"
    if isinstance(value, str):
        return "String"
    if isinstance(value, dict):
        raise value_error("An object cannot stand in SQL, only its parts", hint="Take a part with .get('key').")
    raise value_error(f"A value of type {kind.__name__} cannot stand in SQL")


def _element_type(items: Sequence[object]) -> str:
    """The one type of a list's elements. A list of mixed kinds has none and is refused."""
    if not items:
        return "Nothing"
    kinds = {_kind(item) for item in items}
    if kinds == {"int"}:
        numbers = [int(item) for item in items if isinstance(item, int)]
        return literal_type(min(numbers), max(numbers))
    if kinds <= {"int", "float"}:
        return "Float64"
    if kinds == {"str"}:
        return "String"
    if kinds == {"bool"}:
        return "Bool"
    if kinds == {"list"}:
        return f"Array({_element_type([inner for item in items if isinstance(item, list) for inner in item])})"
    if kinds == {"tuple"}:
        rows = [item for item in items if isinstance(item, tuple)]
        if len({len(row) for row in rows}) == 1 and rows[0]:
            return f"Tuple({', '.join(_element_type(column) for column in zip(*rows, strict=True))})"
    raise value_error("A list in SQL needs elements of one type")


def _kind(item: object) -> str:
    for kind, name in ((bool, "bool"), (int, "int"), (float, "float"), (str, "str"), (list, "list"), (tuple, "tuple")):
        if isinstance(item, kind):
            return name
    return "other"


def plain(value: Any) -> ParamValue:
    """The value without our subclasses, as the engine's client takes it."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    return [plain(item) for item in value]


def dialect_text(value: object, type: str) -> str:
    """The value as the dialect prints it: what a column without an alias is named after."""
    try:
        if isinstance(value, Sized):
            return f"to{value.clickhouse}({quote_string(str(int(value)))})"
        if isinstance(value, Floating):
            return f"to{value.clickhouse}({quote_string(str(float(value)))})"
        if isinstance(value, float) and not isinstance(value, bool) and not _finite(value):
            return f"toFloat64({quote_string(str(value))})"
        if isinstance(value, list):
            inner = type[len("Array(") : -1]
            if not value:
                return "[]"
            return "[" + ",".join(dialect_text(item, inner) for item in value) + "]"
        if isinstance(value, tuple):
            return "tuple(" + ",".join(dialect_text(item, type_of(item)) for item in value) + ")"
        if type == "Float64" and isinstance(value, int):
            return print_literal(float(value), type)
        if isinstance(value, int) and not isinstance(value, bool):
            return print_literal(int(value), type if type.startswith(("Int", "UInt")) else type_of(value))
        return print_literal(value, type)
    except ValueError as error:
        raise value_error(f"The value cannot be printed: {error}") from error


def plain_number(value: object) -> str:
    """A number as bare digits, for SAMPLE, whose grammar takes nothing else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _finite(value) or value < 0:
        raise value_error("SAMPLE takes a number that is not negative")
    return format(value, "f") if isinstance(value, float) else str(int(value))


def interval_text(value: object) -> str:
    """A number and its unit as a quoted text, for `INTERVAL '1 day'`, whose grammar takes no bound value."""
    if not isinstance(value, str) or not _INTERVAL.fullmatch(value):
        raise value_error("INTERVAL takes a whole number and a unit, such as '1 day' or '15 minute'")
    return quote_string(value)


def _finite(value: float) -> bool:
    return value == value and value not in (float("inf"), float("-inf"))

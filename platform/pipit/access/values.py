"""What a value of the context may be, per type of a policy: no value becomes another one on its way to the column.

A text of digits is a UInt64, a number is never a String; an integer that a Float64 would round, a date before 1970 that
a Date would clamp and a fraction of a second that a DateTime64(3) would cut are refused.
"""

from __future__ import annotations

import datetime as dt
import re
import struct
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

from pipit.templates.types import PARSERS
from pipit.templates.values import FLOATING, type_of

DATES = ("Date", "DateTime", "DateTime64")
_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[ T]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_MOST_DIGITS = 400  # of a float's integer part, with some to spare
_DATETIME_TYPE = re.compile(r"\bDateTime(?:64\(\s*([0-9]))?")
# The engine's own bounds, which it clamps to: docs of Date, DateTime and DateTime64.
_FIRST = dt.datetime(1970, 1, 1)
_LAST_DATE = dt.datetime(2149, 6, 6)
_LAST_TIME = dt.datetime(2106, 2, 7, 6, 28, 15)
_FIRST_64, _LAST_64 = dt.datetime(1900, 1, 1), dt.datetime(2262, 4, 11)


def typed(type: str, given: object, digits: int = 9) -> tuple[object, str]:
    """The value and the ClickHouse type to print it as. Raises ValueError on a value of another kind.

    `digits`: of a second's fraction, how many a DateTime64 may have.
    """
    if type == "Boolean":
        if not isinstance(given, bool):
            raise ValueError("not a boolean")
        return given, "Bool"
    if isinstance(given, bool) or given == "" or (type in ("String", *DATES) and not isinstance(given, str)):
        raise ValueError("another kind of value")
    if type in DATES:
        return _date(type, str(given), digits), "String"
    parsed = PARSERS[type](given)
    if isinstance(parsed, int):
        return int(parsed), type if type not in ("Int", "Integer") else type_of(int(parsed))
    if type in FLOATING:
        _check_exact(type, given)
    return parsed, type


def digits_of(type: str, columns: Iterable[str]) -> int | None:
    """How many digits of a second's fraction a date of a policy may have, beside columns of these types.

    None: beside them it would be cut.
    """
    times = [int(found[1] or 0) for column in columns for found in _DATETIME_TYPE.finditer(column)]
    if type == "Date" or (type == "DateTime" and times):
        return 0
    fractions = [digits for digits in times if digits and type == "DateTime64"]
    return min(fractions, default=None)


def _date(type: str, text: str, digits: int) -> str:
    if type == "Date":
        if not _DATE.fullmatch(text) or not _FIRST <= dt.datetime.fromisoformat(text) <= _LAST_DATE:
            raise ValueError("not a date of the engine")
        return text
    found = _TIME.fullmatch(text)
    if not found:
        raise ValueError("not a time")
    moment = dt.datetime.fromisoformat(f"{found[1]} {found[2]}")
    fraction = (found[3] or "").rstrip("0")
    if type == "DateTime":
        if found[3] or not _FIRST <= moment <= _LAST_TIME:
            raise ValueError("not a time of the engine")
        return f"{found[1]} {found[2]}"
    if len(fraction) > digits or not _FIRST_64 <= moment < _LAST_64:
        raise ValueError("more than the column holds")
    return f"{found[1]} {found[2]}.{fraction or '0'}"


def _check_exact(type: str, given: object) -> None:
    """An integer must be the float's value, however it is written: 9007199254740993.0 is not a Float64."""
    if isinstance(given, int):
        number = given
    elif isinstance(given, str) and (whole := _whole(given)) is not None:
        number = whole
    else:
        return
    try:
        stored = struct.unpack("f", struct.pack("f", number))[0] if type == "Float32" else float(number)
        exact = int(stored) == number
    except OverflowError:
        exact = False
    if not exact:
        raise ValueError("would be rounded")


def _whole(text: str) -> int | None:
    """The integer that a text is, if it is one: 42, 42.0, 4.2e1. Raises ValueError on one that no float holds."""
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        return None
    if not number.is_finite():
        return None
    if number.adjusted() > _MOST_DIGITS:
        raise ValueError("would be infinite")
    if number != number.to_integral_value():
        return None
    return int(number)

"""The type functions' validation: a request's value becomes a value of that type, or ValueError.

Values come from a query string or form (text; a list when repeated) or from JSON (numbers, true, false, lists). What
is accepted follows tinybird.md 2.2; digits are ASCII digits only. Dates stay text, as in the dialect, once they look
right.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable

from pipit.templates.failures import explain, value_error
from pipit.templates.values import FLOATING, SIZED, Floating, Sized

_INTEGER = re.compile(r"[+-]?[0-9]{1,80}\Z")
_FLOAT = re.compile(r"\s*[+-]?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?|nan|inf|infinity)\s*\Z", re.I | re.A)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_CLOCK = r"[0-9]{2}:[0-9]{2}:[0-9]{2}"
_DAY = r"(?:[0-9]{4}.[0-9]{2}.[0-9]{2}[T ]|[0-9]{2}.[0-9]{2}.[0-9]{4} )"
_DATETIME = re.compile(_DAY + _CLOCK)
_DATETIME64 = re.compile(_DAY + _CLOCK + r"\.[0-9]{3,}")
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "0")

MAX_ITEMS = 100_000
_LONGEST_TEXT = 10_000  # bits of an integer that becomes text
_LONGEST_NUMBER = 1100  # the digits of the longest exact float


def text_of(value: object) -> str:
    """A scalar as text. Lists and objects are no scalars."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value.bit_length() > _LONGEST_TEXT:
        raise ValueError("the number is too long")
    if isinstance(value, (int, float)):
        return str(value)
    raise ValueError("not a scalar")


def _string(value: object) -> str:
    return text_of(value)


def _boolean(value: object) -> int:
    """As in the dialect every text is one: `''`, `0` and `false` are 0, any other text is 1, `no` and a blank too."""
    if isinstance(value, (int, float)):
        return int(value != 0)
    return int(text_of(value).lower() not in (*_FALSE, ""))


def plain_boolean(value: object) -> int:
    """What is plainly one: for values that a token fixes, where `no` must not be true."""
    text = text_of(value).lower()
    if text not in (*_TRUE, *_FALSE):
        raise ValueError("not a boolean")
    return int(text in _TRUE)


def _integer(value: object) -> int:
    if isinstance(value, bool):
        raise ValueError("not an integer")
    if isinstance(value, int):
        number = int(value)
    else:
        text = text_of(value)
        if not _INTEGER.match(text):
            raise ValueError("not an integer")
        number = int(text)
    if not -(1 << 255) <= number < 1 << 256:
        raise ValueError("out of range")
    return number


def _sized(kind: type[Sized]) -> Callable[[object], Sized]:
    name = kind.clickhouse
    bits = int(name.rpartition("Int")[2])
    low, high = (0, (1 << bits) - 1) if name.startswith("U") else (-(1 << bits - 1), (1 << bits - 1) - 1)

    def parse(value: object) -> Sized:
        number = _integer(value)
        if not low <= number <= high:
            raise ValueError("out of range")
        return kind(number)

    return parse


def _number(value: object) -> float:
    if isinstance(value, bool):
        raise ValueError("not a number")
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError as error:
            raise ValueError("out of range") from error
    text = text_of(value)
    if len(text) > _LONGEST_NUMBER or not _FLOAT.match(text):
        raise ValueError("not a number")
    return float(text)


def _floating(kind: type[Floating]) -> Callable[[object], Floating]:
    return lambda value: kind(_number(value))


def _date(value: object) -> str:
    text = text_of(value)
    if not _DATE.match(text):
        raise ValueError("not a date")
    dt.date.fromisoformat(text)
    return text


def _datetime(pattern: re.Pattern[str]) -> Callable[[object], str]:
    def parse(value: object) -> str:
        text = text_of(value)
        if not pattern.match(text):
            raise ValueError("not a datetime")
        return text

    return parse


def _json(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else explain(error)
        raise value_error(f"Error parsing JSON: '{shown(value)}' - {reason}") from error


PARSERS: dict[str, Callable[[object], object]] = {
    "String": _string,
    "Boolean": _boolean,
    "Date": _date,
    "DateTime": _datetime(_DATETIME),
    "DateTime64": _datetime(_DATETIME64),
    "Int": _integer,
    "Integer": _integer,
    "JSON": _json,
    **{name: _sized(kind) for name, kind in SIZED.items()},
    **{name: _floating(kind) for name, kind in FLOATING.items()},
}

# Those that are something without a value and a default, in the dialect: no request can miss them.
NEVER_MISSING: dict[str, str] = {"Boolean": "0", "JSON": "{}"}

# Stricter ones, for a value that a token fixes.
PLAIN: dict[str, Callable[[object], object]] = {"Boolean": plain_boolean}

# What stands for an absent value when a template is rendered for validation only.
STAND_INS: dict[str, object] = {
    "String": "__no_value__",
    "Boolean": "0",
    "Date": "2019-01-01",
    "DateTime": "2019-01-01 00:00:00",
    "DateTime64": "2019-01-01 00:00:00.000",
    "JSON": "{}",
}


def stand_in(type: str) -> object:
    return STAND_INS.get(type, "0")


def parse(type: str, value: object, parser: Callable[[object], object] | None = None) -> object:
    """The value as `type`, with another parser if one is given. Raises TemplateError with the dialect's text."""
    try:
        return (parser or PARSERS[type])(value)
    except ValueError as error:
        raise value_error(f"Error validating '{shown(value)}' to type {type}") from error


def parse_list(element: str, value: object) -> list[object]:
    """A list from text with commas, a repeated parameter or a JSON list. An unknown element type is read as String."""
    known = element if element in PARSERS else "String"
    items = list(value) if isinstance(value, (list, tuple)) else _split(value, element)
    if len(items) > MAX_ITEMS:
        raise value_error(f"A list has at most {MAX_ITEMS} elements")
    parser = PARSERS[known]
    parsed: list[object] = []
    for index, item in enumerate(items):
        try:
            stripped = item.strip() if known != "String" and isinstance(item, str) else item
            parsed.append(_bare(parser(stripped)))
        except ValueError as error:
            whole = shown(",".join(shown(i) for i in items[:200]))
            text = shown(item) if item != "" else "empty string"
            raise value_error(f"Error validating [{whole}][{index}] ({text}) to type {known}") from error
    return parsed


def _split(value: object, element: str) -> list[str]:
    try:
        return text_of(value).split(",")
    except ValueError as error:
        raise value_error(f"Error validating '{shown(value)}' to type Array({element})") from error


def _bare(item: object) -> object:
    """In a list the dialect prints plain numbers, so the elements lose their own types."""
    if isinstance(item, int):
        return int(item)
    return float(item) if isinstance(item, float) else item


def shown(value: object) -> str:
    """A value in a message, cut to a sane length. Half characters are shown as ?: an answer cannot hold them."""
    try:
        text = text_of(value)
    except ValueError:
        text = json.dumps(value, default=str) if not isinstance(value, int) else "a number of many digits"
    text = text if len(text) <= 200 else text[:200] + "..."
    return text.encode("utf-8", "replace").decode()

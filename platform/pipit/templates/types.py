"""The type functions' validation: a request's value becomes a value of that type, or ValueError.

Values come from a query string or form (text; a list when repeated) or from JSON (numbers, true, false, lists). What
is accepted follows Tinybird's dialect; digits are ASCII digits only. Dates stay text, as in the dialect, once they look
right.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable

from pipit.errors import Reason
from pipit.templates.failures import explain, value_error
from pipit.templates.values import FLOATING, NO_VALUE, SIZED, Floating, Sized

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
    """A scalar's text. An object, or a list that holds any, is its JSON text; a plain list is no text."""
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(i, (dict, list)) for i in value)):
        return json.dumps(value, ensure_ascii=False)
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
    low, high = bounds(kind)

    def parse(value: object) -> Sized:
        number = _integer(value)
        if not low <= number <= high:
            raise ValueError("out of range")
        return kind(number)

    return parse


def bounds(kind: type[Sized]) -> tuple[int, int]:
    name = kind.clickhouse
    bits = int(name.rpartition("Int")[2])
    return (0, (1 << bits) - 1) if name.startswith("U") else (-(1 << bits - 1), (1 << bits - 1) - 1)


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
        raise value_error(
            f"Error parsing JSON: '{shown(value)}' - {reason}", reason=Reason.PARAMETER_INVALID
        ) from error


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
    "String": NO_VALUE,
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
        raise value_error(
            f"Error validating '{shown(value)}' to type {type}", reason=Reason.PARAMETER_INVALID
        ) from error


def parse_list(element: str, value: object) -> list[object]:
    """The value as a list of elements of a type. An unknown element type is read as String."""
    known = element if element in PARSERS else "String"
    try:
        items = items_of(value)
    except ValueError as error:
        raise value_error(
            f"Error validating '{shown(value)}' to type Array({element})", reason=Reason.PARAMETER_INVALID
        ) from error
    if len(items) > MAX_ITEMS:
        raise value_error(f"A list has at most {MAX_ITEMS} elements", reason=Reason.PARAMETER_INVALID)
    parser = PARSERS[known]
    parsed: list[object] = []
    for index, item in enumerate(items):
        try:
            if known != "JSON" and (item is None or isinstance(item, (list, tuple, dict))):
                raise ValueError("not a scalar")
            stripped = item.strip() if known != "String" and isinstance(item, str) else item
            parsed.append(_bare(parser(stripped)))
        except ValueError as error:
            whole = shown(",".join(shown(i) for i in items[:200]))
            text = shown(item) if item != "" else "empty string"
            raise value_error(
                f"Error validating [{whole}][{index}] ({text}) to type {known}", reason=Reason.PARAMETER_INVALID
            ) from error
    return parsed


def items_of(value: object) -> list[object]:
    """The one rule of what a list's elements are, for every way in which a request says one: a repeated parameter or
    a list of a JSON body has its elements, and so has the text of a JSON list (`["a","b"]`); any other text has what
    stands between its commas. Raises ValueError where there is no list."""
    written = written_list(value)
    return list(text_of(value).split(",")) if written is None else written


def written_list(value: object) -> list[object] | None:
    """The elements of what is a list as it stands; None for a text that may hold some between separators."""
    if isinstance(value, (list, tuple)):
        return list(value)
    bare = value.strip() if isinstance(value, str) else ""
    if bare.startswith("[") and bare.endswith("]"):
        try:
            return list(json.loads(bare, parse_constant=_no_json))
        except (ValueError, RecursionError):
            pass  # `[a,b]` is a text with commas
    return None


def _no_json(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _bare(item: object) -> object:
    """In a list the dialect prints plain numbers, so the elements lose their own types."""
    if isinstance(item, int):
        return int(item)
    return float(item) if isinstance(item, float) else item


def form_of(type: str) -> str:
    """What a value of the type looks like, for who has to write one."""
    if type in _FORMS:
        return _FORMS[type]
    if type in FLOATING:
        return "a number, such as 1.5"
    if type in SIZED:
        low, high = bounds(SIZED[type])
        return f"a whole number from {low} to {high}" if high < 1 << 64 else f"a whole number that {type} can hold"
    return "a whole number"


_FORMS = {
    "String": "a text, a number, true or false",
    "Boolean": "a text, a number, true or false",
    "Date": "a day as YYYY-MM-DD, such as 2026-03-09",
    "DateTime": "a time as YYYY-MM-DD hh:mm:ss, such as 2026-03-09 10:00:00",
    "DateTime64": "a time with three or more digits of a fraction, such as 2026-03-09 10:00:00.000",
    "JSON": 'JSON text, such as {"a": 1}',
}


def shown(value: object) -> str:
    """A value in a message, cut to a sane length. Half characters are shown as ?: an answer cannot hold them."""
    try:
        text = text_of(value)
    except ValueError:
        text = json.dumps(value, default=str) if not isinstance(value, int) else "a number of many digits"
    text = text if len(text) <= 200 else text[:200] + "..."
    return text.encode("utf-8", "replace").decode()

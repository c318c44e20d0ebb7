"""The one place that turns a value into SQL text (rule 2).

Promises: what `print_literal` returns is one expression that ClickHouse reads back as exactly the value given, of the
type given, wherever an expression may stand with white space around it; or it raises ValueError. It takes values that
are already parsed (an int for Int32, not the text "5") and checks them again all the same: kind, range, encoding.
Never does it pass a character of the value through unescaped, and never does the type's text reach SQL unless it was
parsed here and printed anew.

Negative numbers stand in parentheses, so that `x-{{...}}` cannot become a comment. Types without a literal of their own
are printed as CAST('text', 'Type'), which the engine folds into a constant.
"""

from __future__ import annotations

import datetime as dt
import decimal
import ipaddress
import math
import re
import uuid
from collections.abc import Callable, Sequence
from functools import lru_cache

_ESCAPES = {
    "\\": "\\\\",
    "'": "\\'",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\0": "\\0",
}
_SPECIAL = re.compile(r"[\\'\b\f\n\r\t\0]")

_INTEGER = re.compile(r"(U?)Int(8|16|32|64|128|256)\Z")
_NAME = re.compile(r"\s*([A-Za-z][A-Za-z0-9]*)\s*")
_WRAPPERS = ("Nullable", "LowCardinality", "Array")
_DECIMAL_DIGITS = {"Decimal32": 9, "Decimal64": 18, "Decimal128": 38, "Decimal256": 76}
_TIME_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+\-/]*\Z")

_DATE_RANGES = {
    "Date": (dt.date(1970, 1, 1), dt.date(2149, 6, 6)),
    "Date32": (dt.date(1900, 1, 1), dt.date(2299, 12, 31)),
}
_DATETIME_RANGES = {
    "DateTime": (dt.datetime(1970, 1, 1), dt.datetime(2106, 2, 7, 6, 28, 15)),
    "DateTime64": (dt.datetime(1900, 1, 1), dt.datetime(2262, 4, 11, 23, 47, 16)),
}


def quote_string(text: str) -> str:
    """A '...' literal. Raises ValueError on text that is not valid Unicode (lone surrogates)."""
    if not isinstance(text, str):
        raise ValueError(f"not a text: {type(text).__name__}")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError("the text is not valid Unicode") from error
    return "'" + _SPECIAL.sub(lambda match: _ESCAPES[match[0]], text) + "'"


def print_literal(value: object, type: str) -> str:
    """`value` as an SQL expression of ClickHouse type `type`. Raises ValueError when the value is not of that type."""
    return _printer(type)(value)


@lru_cache(maxsize=512)
def _printer(type: str) -> Callable[[object], str]:
    name, arguments = _parse(type)
    if name in _WRAPPERS:
        if len(arguments) != 1:
            raise ValueError(f"{name} takes one type: {type}")
        inner = _printer(arguments[0])
        if name == "Array":
            return _array(inner, _canonical(arguments[0]))
        return _nullable(inner) if name == "Nullable" else inner
    if name == "Tuple":
        return _tuple([_printer(argument) for argument in arguments])
    integer = _INTEGER.match(name)
    if integer and not arguments:
        return _integer(signed=not integer[1], bits=int(integer[2]))
    if name in ("Float32", "Float64") and not arguments:
        return _float(name)
    if name in ("String", "Enum8", "Enum16") or (name == "Enum" and arguments):
        return _string
    if name == "Bool" and not arguments:
        return _bool
    if name == "FixedString" or name.startswith("Decimal"):
        return _fixed_string(*arguments) if name == "FixedString" else _decimal(name, arguments)
    if name in _DATE_RANGES and not arguments:
        return _date(name)
    if name in _DATETIME_RANGES:
        return _datetime(name, arguments)
    if name in ("UUID", "IPv4", "IPv6") and not arguments:
        return _parsed(name)
    raise ValueError(f"no literal for the type {type}")


def _parse(type: str) -> tuple[str, tuple[str, ...]]:
    """`Name(a, b)` -> name and the texts of its arguments, split at commas outside of brackets and quotes."""
    match = _NAME.match(type)
    if not match:
        raise ValueError(f"not a type: {type}")
    rest = type[match.end() :].strip()
    if not rest:
        return match[1], ()
    if not (rest.startswith("(") and rest.endswith(")")):
        raise ValueError(f"not a type: {type}")
    arguments: list[str] = []
    depth, start, quoted = 0, 1, False
    position = 1
    while position < len(rest) - 1:
        character = rest[position]
        if quoted and character == "\\":
            position += 1
        elif character == "'":
            quoted = not quoted
        elif not quoted and character in "()":
            depth += 1 if character == "(" else -1
            if depth < 0:
                raise ValueError(f"not a type: {type}")
        elif not quoted and character == "," and depth == 0:
            arguments.append(rest[start:position].strip())
            start = position + 1
        position += 1
    if depth or quoted:
        raise ValueError(f"not a type: {type}")
    arguments.append(rest[start:-1].strip())
    return match[1], tuple(arguments)


def _canonical(type: str) -> str:
    """The type's text, printed anew from its parts: only what `_printer` knows, with checked arguments."""
    name, arguments = _parse(type)
    if name in _WRAPPERS or name == "Tuple":
        return f"{name}({', '.join(_canonical(argument) for argument in arguments)})"
    if name.startswith("Enum"):
        return "String"
    if name in _DATETIME_RANGES:
        return _datetime_type(name, arguments)[0]
    if name.startswith("Decimal"):
        precision, scale = _decimal_type(name, arguments)
        return f"Decimal({precision}, {scale})"
    if name == "FixedString":
        return f"FixedString({_small_number(arguments[0])})"
    return name


def _cast(text: str, type: str) -> str:
    return f"CAST({quote_string(text)}, {quote_string(type)})"


def _small_number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise ValueError(f"not a number: {text}")
    return int(text)


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"not a text: {type(value).__name__}")
    return quote_string(value)


def _bool(value: object) -> str:
    if not isinstance(value, bool):
        raise ValueError("not true or false")
    return "true" if value else "false"


def _integer(*, signed: bool, bits: int) -> Callable[[object], str]:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    name = f"{'' if signed else 'U'}Int{bits}"

    def show(value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"not a value of {name}")
        if bits > 64:  # a longer number is a Float64 to the engine
            return _cast(int.__repr__(value), name)
        return int.__repr__(value) if value >= 0 else f"({int.__repr__(value)})"

    return show


def _float(name: str) -> Callable[[object], str]:
    def show(value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"not a value of {name}")
        try:
            number = float(value)
        except OverflowError as error:
            raise ValueError(f"not a value of {name}") from error
        if not math.isfinite(number):
            raise ValueError("not a finite number")
        if name == "Float32":
            return _cast(float.__repr__(number), name)
        text = float.__repr__(number)
        return f"({text})" if text.startswith("-") else text

    return show


def _fixed_string(*arguments: str) -> Callable[[object], str]:
    if len(arguments) != 1:
        raise ValueError("FixedString takes one number")
    length = _small_number(arguments[0])

    def show(value: object) -> str:
        text = _string(value)
        if len(str(value).encode()) > length:
            raise ValueError(f"longer than {length} bytes")
        return f"CAST({text}, 'FixedString({length})')"

    return show


def _decimal_type(name: str, arguments: Sequence[str]) -> tuple[int, int]:
    if name in _DECIMAL_DIGITS and len(arguments) == 1:
        precision, scale = _DECIMAL_DIGITS[name], _small_number(arguments[0])
    elif name == "Decimal" and len(arguments) in (1, 2):
        precision, scale = _small_number(arguments[0]), _small_number(arguments[1]) if len(arguments) == 2 else 0
    else:
        raise ValueError(f"no literal for the type {name}")
    if not (1 <= precision <= 76 and scale <= precision):
        raise ValueError("Decimal out of range")
    return precision, scale


def _decimal(name: str, arguments: Sequence[str]) -> Callable[[object], str]:
    precision, scale = _decimal_type(name, arguments)

    def show(value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, (int, decimal.Decimal)):
            raise ValueError("not a decimal number")
        number = decimal.Decimal(value)
        if not number.is_finite():
            raise ValueError("not a finite number")
        _, digits, exponent = number.as_tuple()
        assert isinstance(exponent, int)
        whole = len(digits) + exponent
        if whole > precision - scale and any(digits):
            raise ValueError(f"too large for Decimal({precision}, {scale})")
        if exponent < -scale:
            raise ValueError(f"more than {scale} digits after the point")
        return _cast(format(number if any(digits) else decimal.Decimal(0), "f"), f"Decimal({precision}, {scale})")

    return show


def _date(name: str) -> Callable[[object], str]:
    low, high = _DATE_RANGES[name]

    def show(value: object) -> str:
        if isinstance(value, dt.datetime) or not isinstance(value, dt.date) or not low <= value <= high:
            raise ValueError(f"not a value of {name}")
        return _cast(value.isoformat(), name)

    return show


def _datetime_type(name: str, arguments: Sequence[str]) -> tuple[str, int]:
    rest = list(arguments)
    digits = 0
    shown: list[str] = []
    if name == "DateTime64":
        digits = _small_number(rest.pop(0)) if rest else 3
        if digits > 9:
            raise ValueError("DateTime64 has at most 9 digits")
        shown.append(str(digits))
    if rest:
        zone = rest.pop(0)
        if not (zone.startswith("'") and zone.endswith("'") and _TIME_ZONE.match(zone[1:-1])):
            raise ValueError("not a time zone")
        shown.append(zone)
    if rest:
        raise ValueError(f"too many arguments of {name}")
    return (f"{name}({', '.join(shown)})" if shown else name), digits


def _datetime(name: str, arguments: Sequence[str]) -> Callable[[object], str]:
    full, digits = _datetime_type(name, arguments)
    low, high = _DATETIME_RANGES[name]

    def show(value: object) -> str:
        """A datetime without a zone is in the type's zone, as the text is."""
        if not isinstance(value, dt.datetime) or value.tzinfo is not None or not low <= value <= high:
            raise ValueError(f"not a value of {name} (a datetime without a zone)")
        fraction = f"{value.microsecond:06d}"
        if fraction[digits:].strip("0"):
            raise ValueError(f"more than {digits} digits of a second")
        text = value.replace(microsecond=0).isoformat(sep=" ")
        return _cast(f"{text}.{fraction[:digits]}" if digits else text, full)

    return show


def _parsed(name: str) -> Callable[[object], str]:
    kinds: dict[str, type] = {"UUID": uuid.UUID, "IPv4": ipaddress.IPv4Address, "IPv6": ipaddress.IPv6Address}
    kind = kinds[name]

    def show(value: object) -> str:
        if isinstance(value, str):
            value = kind(value)  # raises ValueError
        if not isinstance(value, kind) or (isinstance(value, ipaddress.IPv6Address) and value.scope_id):
            raise ValueError(f"not a value of {name}")
        return _cast(str(value), name)

    return show


def _nullable(inner: Callable[[object], str]) -> Callable[[object], str]:
    return lambda value: "NULL" if value is None else inner(value)


def _array(inner: Callable[[object], str], element: str) -> Callable[[object], str]:
    def show(value: object) -> str:
        if not isinstance(value, (list, tuple)):
            raise ValueError("not a list")
        if not value:
            return f"CAST([], {quote_string(f'Array({element})')})"
        return "[" + ", ".join(inner(item) for item in value) + "]"

    return show


def _tuple(inner: Sequence[Callable[[object], str]]) -> Callable[[object], str]:
    def show(value: object) -> str:
        if not isinstance(value, (list, tuple)) or len(value) != len(inner) or not inner:
            raise ValueError("not a tuple of this length")
        return "tuple(" + ", ".join(part(item) for part, item in zip(inner, value, strict=True)) + ")"

    return show

"""Checked casts: from what JSON held, read as text, to a column's type, so that a wrong value is never
another value.

Everything is read as `Nullable(String)` in the shape of the type (`wide`). `value` is then the expression
of the typed value, valid where `bad` is false. ClickHouse's own casts are used only where they were seen to
refuse (300 into UInt8) and guarded where they wrap or guess: integers of 128 bits and more, dates out of
range or not of the calendar, numbers too large for a float, unknown enum names, digits of a decimal
(rounded half away from zero, never cut). What each value becomes is written in docs/reference/values.md.

A JSON true is 1 for a number, and a JSON number is a time since 1970; the texts "true" and "20240501" are neither.
They look alike here: `text_doubt` says where that can matter, and the JSON itself is asked then.
"""

from __future__ import annotations

import re

from pipit.ingest.types import Type, parse, strip
from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string

_TEXT = "Nullable(String)"
_AS_THEY_ARE = frozenset({"Dynamic", "Variant"})
_WIDE_INTEGERS = frozenset({"Int128", "Int256", "UInt128", "UInt256"})
INTEGERS = frozenset(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64, 128, 256))
_FLOATS = frozenset({"Float32", "Float64", "BFloat16"})
# The first and the last second of each type.
_MOMENTS = {
    "Date": (0, 5662310399),  # 2149-06-06 23:59:59
    "Date32": (-2208988800, 10413791999),  # 1900-01-01, 2299-12-31 23:59:59
    "DateTime": (0, 4294967295),  # 2106-02-07 06:28:15
    "DateTime32": (0, 4294967295),
    "DateTime64": (-2208988800, 10413791999),
}
CHECKED = INTEGERS | _FLOATS | _MOMENTS.keys() | {"UUID", "IPv4", "IPv6", "Enum", "Enum8", "Enum16"}
_LAST_NANOSECONDS = 9223372035  # 2262-04-11 23:47:15, the last whole second
_DECIMAL_PRECISION = {"Decimal32": 9, "Decimal64": 18, "Decimal128": 38, "Decimal256": 76}

# A calendar day; with a time of day, fraction and zone.
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9](:([0-5][0-9]|60)([.,][0-9]{1,9})?)?"
_OFFSET = r"([+](0[0-9]|1[0-3])|-(0[0-9]|1[01]))(:?[0-5][0-9])?|([+]14|-12)(:?00)?"
_CALENDAR = r"^[12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([T ]" + _CLOCK + rf"( ?(Z|UTC|GMT|{_OFFSET}))?)?$"
_DECIMAL = "^[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]+)?$"
# A number is a time since 1970: seconds, or milliseconds, micro- or nanoseconds, told by its size.
_NUMBER = r"^-?[0-9]+([.][0-9]+)?$"
_MOMENT = f"{_CALENDAR}|{_NUMBER}"
# How many are in a second, by the digits before the point: none, up to 11, 14, 17, and more.
_UNITS = [1] * 12 + [10**3] * 3 + [10**6] * 3 + [10**9]
_MOST_DAYS = 65_535  # for a Date a number up to here counts days, as in ClickHouse
# A text of digits is such a number only where it cannot be a year, month, day or minute without its dashes.
_TEXT_NUMBER = r"^[0-9]{9,10}([.][0-9]+)?$|^[0-9]{13}$|^[0-9]{16}$|^[0-9]{19}$"
# A local time, to the minute or finer, but for a leap second.
_LOCAL = r"^.{4}-.{11}(:[0-5][0-9]([.,][0-9]+)?)?$"
_ONE_OF_MANY = r"[-+]?[0-9]+([.][0-9]+)?([eE][-+]?[0-9]+)?\s*"
_TRUTH = "('true', 'false')"


def wide(type: Type) -> str:
    """The type that is read from the JSON: the same shape, every leaf a text that may be NULL."""
    inner, _ = strip(type)
    if inner.name == "Array":
        return f"Array({wide(inner.inner)})"
    if inner.name == "Map":
        return f"Map(String, {wide(inner.inner)})"
    if inner.name == "Tuple":
        return f"Tuple({_wide_elements(inner)})"
    if inner.name == "Nested":
        return f"Array(Tuple({_wide_elements(inner)}))"
    if inner.name == "Dynamic":
        return "Dynamic(max_types=0)"  # else a value gets the type of another row's where that fits
    return inner.text if inner.name in _AS_THEY_ARE else _TEXT


def is_compound(type: Type) -> bool:
    """Whether its wide form cannot be NULL, so that absence has to be asked for."""
    return strip(type)[0].name in ("Array", "Map", "Tuple", "Nested")


def value(type: Type, x: str, depth: int = 0) -> str:
    inner, nullable = strip(type)
    item = f"_pipit_v{depth}"
    if inner.name in ("Array", "Nested"):
        return f"arrayMap({item} -> {value(_item(inner), item, depth + 1)}, {x})"
    if inner.name == "Map":
        key = value(parse(inner.arguments[0]), item, depth + 1)
        held = value(inner.inner, item, depth + 1)
        keys, values = (
            f"arrayMap({item} -> {key}, mapKeys({x}))",
            f"arrayMap({item} -> {held}, mapValues({x}))",
        )
        return f"mapFromArrays({keys}, {values})"
    if inner.name == "Tuple":
        elements = inner.elements()
        parts = [value(t, f"tupleElement({x}, {n})", depth) for n, (_, t) in enumerate(elements, 1)]
        return f"CAST(tuple({', '.join(parts)}), {quote_string(inner.text)})"
    cast = or_null(inner, x)
    return cast if nullable or inner.name in _AS_THEY_ARE else f"assumeNotNull({cast})"


def bad(type: Type, x: str, depth: int = 0) -> str:
    """True for a value that the type does not take; for a type that is not Nullable, also for NULL."""
    inner, nullable = strip(type)
    item = f"_pipit_v{depth}"
    if inner.name in ("Array", "Nested"):
        condition = bad(_item(inner), item, depth + 1)
        return "false" if condition == "false" else f"arrayExists({item} -> {condition}, {x})"
    if inner.name == "Map":
        key_type = parse(inner.arguments[0])
        key = bad(key_type, item, depth + 1)
        if text := text_doubt(strip(key_type)[0], item):  # a key is always a text
            key = f"({key} OR {text})"
        held = bad(inner.inner, item, depth + 1)
        return f"(arrayExists({item} -> {key}, mapKeys({x})) OR arrayExists({item} -> {held}, mapValues({x})))"
    if inner.name == "Tuple":
        elements = inner.elements()
        parts = [bad(t, f"tupleElement({x}, {n})", depth) for n, (_, t) in enumerate(elements, 1)]
        return "(" + " OR ".join(parts) + ")"
    if inner.name in _AS_THEY_ARE:
        return "false"
    cast = or_null(inner, x)
    if not nullable:
        return f"isNull({cast})"
    return "false" if cast == x else f"(isNotNull({x}) AND isNull({cast}))"


def or_null(type: Type, x: str) -> str:
    """One value: NULL where the text `x` is NULL or no value of the type."""
    return finished(type, x, prepared(type, x) or "")


def of_text(type: Type, x: str) -> str:
    """As `or_null`, of what was certainly sent as a text."""
    doubt = text_doubt(type, x)
    return f"if({doubt}, NULL, {or_null(type, x)})" if doubt else or_null(type, x)


def of_cell(type: Type, x: str) -> str:
    """Of a cell of CSV: a date may have any form that the engine knows, but for one that only looks like ISO 8601."""
    if type.name not in _MOMENTS:
        return or_null(type, x)
    guess = _guess(type, x)
    inside = f"NOT {_has_dash(x)} AND {_is_inside(type, guess)}"
    strict = of_text(type, x)
    lenient = f"if({inside}, CAST({guess}, {quote_string(f'Nullable({type.text})')}), NULL)"
    return f"if(isNotNull({strict}), {strict}, {lenient})"  # hardly any cell needs the other


def prepared(type: Type, x: str) -> str | None:
    """What `finished` needs more than once, for a caller that can give it a name: statements stay short so."""
    if type.name in INTEGERS or type.name in _FLOATS:
        return _plain(type, x)
    if type.name.startswith("Decimal"):
        precision, scale = digits(type)
        spare = min(scale + 20, 76 - (precision - scale))
        return f"round(toDecimal256OrNull({x}, {spare}), {scale})"
    if type.name in _MOMENTS:
        return _moment(type, x)
    return None


def finished(type: Type, x: str, p: str) -> str:
    """The typed value or NULL; `p` is what was prepared."""
    name = type.name
    if name == "Dynamic":
        return f"CAST({x}, {quote_string(type.text)})"
    if name == "String" or name in _AS_THEY_ARE:
        return x
    truth = f"{x} IN {_TRUTH}, CAST({x} = 'true', {quote_string(f'Nullable({type.text})')})"
    if name in _WIDE_INTEGERS:  # the cast wraps: 2^128 + 5 would be 5
        return f"multiIf(toString({p}) = {x}, {p}, {truth}, NULL)"
    if name in INTEGERS:
        return f"if(isNull({p}) AND {truth}, {p})"
    if name in _FLOATS:
        # Not multiIf, which has no BFloat16.
        return f"if(isFinite({p}) OR match({x}, '^[-+]?(?i:nan|inf|infinity)$'), {p}, if({truth}, NULL))"
    if name == "Bool":
        return f"if(lower({x}) IN ('true', 'false', '1', '0'), {_plain(type, x)}, NULL)"
    if name in ("Enum", "Enum8", "Enum16"):  # the cast raises on an unknown name
        known = ", ".join(quote_string(v) for v in type.enum_values())
        return f"CAST(if({x} IN ({known}), {x}, NULL), {quote_string(f'Nullable({type.text})')})"
    if name.startswith("Decimal"):
        precision, scale = digits(type)
        limit = f"toDecimal256({quote_string('1' + '0' * (precision - scale))}, 0)"
        kept = f"match({x}, {quote_string(_DECIMAL)})"  # else 1.2.3 would be 1.23, and a dot 0
        if precision - scale <= 70:
            kept += f" AND abs({p}) < {limit}"
        return f"if({kept}, {_plain(type, p)}, NULL)"
    if name.startswith("Interval"):  # the cast raises on what is no whole number
        return f"CAST(accurateCastOrNull({x}, 'Int64'), {quote_string(f'Nullable({type.text})')})"
    if name == "QBit":  # the cast raises on what is no list of numbers, or one of another length
        listed = rf"^\s*[\[]\s*{_ONE_OF_MANY}(,\s*{_ONE_OF_MANY}){{{int(type.arguments[1]) - 1}}}[\]]\s*$"
        return _plain(type, f"if(match({x}, {quote_string(listed)}), {x}, NULL)")
    if name in _MOMENTS:
        target = quote_string(f"Nullable({type.text})")
        kept = f"match({x}, {quote_string(_MOMENT)}) AND {_is_inside(type, p)}"
        if _has_gaps(type):
            # An hour that the zone skips comes out as another one (a leap second may, too).
            clock = f"match({x}, {quote_string(_LOCAL)}) AND substring({x}, 12, 5) != formatDateTime({p}, '%H:%i')"
            kept += f" AND NOT ({clock})"
        return f"if({kept}, CAST({p}, {target}), NULL)"
    return _plain(type, x)


def _has_gaps(type: Type) -> bool:
    """Whether the column's zone may skip an hour."""
    zone = type.arguments[int(type.name == "DateTime64") :]
    return type.name.startswith("DateTime") and zone not in ((), ("'UTC'",))


def _plain(type: Type, x: str) -> str:
    return f"accurateCastOrNull({x}, {quote_string(type.text)})"


def digits(type: Type) -> tuple[int, int]:
    """Precision and scale of a Decimal."""
    if precision := _DECIMAL_PRECISION.get(type.name):
        return precision, int(type.arguments[0])
    precision = int(type.arguments[0]) if type.arguments else 10
    return precision, int(type.arguments[1]) if len(type.arguments) > 1 else 0


def _moment(type: Type, x: str) -> str:
    """ISO 8601, `YYYY-MM-DD[ hh:mm:ss[.f]][zone]` in the column's zone, or a number: a DateTime64, or NULL."""
    target = quote_string(f"Nullable(DateTime64({_precision_and_zone(type)}))")
    # Of what is taken only a calendar day has a dash there.
    return f"if({_has_dash(x)}, {_guess(type, x)}, CAST({_seconds(type, x)}, {target}))"


def _guess(type: Type, x: str) -> str:
    return f"parseDateTime64BestEffortOrNull({x}, {_precision_and_zone(type)})"


def _precision_and_zone(type: Type) -> str:
    if type.name == "DateTime64":
        return ", ".join(type.arguments)
    return "3, 'UTC'" if type.name in ("Date", "Date32") else ", ".join(["3", *type.arguments])


def _has_dash(x: str) -> str:
    return f"substring({x}, 5, 1) = '-'"


def _seconds(type: Type, x: str) -> str:
    """Since 1970, as a decimal. What the type does not hold is the second before or behind it: its cast would wrap,
    or fail."""
    digits = f"least(length(extract({x}, '^-?([0-9]+)')), {len(_UNITS) - 1})"
    number = f"toDecimal128OrNull({x}, 9)"
    seconds = f"{number} / {_UNITS}[{digits} + 1]"
    if type.name in ("Date", "Date32"):
        seconds = f"if(abs(toFloat64OrZero({x})) <= {_MOST_DAYS}, {number} * 86400, {seconds})"
    first, last = _range_of(type)
    return f"greatest(least({seconds}, toDecimal128({last + 1}, 9)), toDecimal128({first - 1}, 9))"


def _is_inside(type: Type, p: str) -> str:
    """Whether the type has a moment. A fraction in its last second is still inside. Before 1970 a whole second is the
    next one, so of the first it is the fraction that counts."""
    first, last = _range_of(type)
    return f"{p} >= toDateTime64({first}, 0) AND toUnixTimestamp64Second({p}) <= {last}"


def _range_of(type: Type) -> tuple[int, int]:
    first, last = _MOMENTS[type.name]
    nanoseconds = type.name == "DateTime64" and int(type.arguments[0]) == 9
    return first, _LAST_NANOSECONDS if nanoseconds else last


def text_doubt(type: Type, x: str) -> str:
    """Whether the text `x` is refused if it was sent as a text, though the same JSON value is taken; '' if never."""
    if type.name in INTEGERS or type.name in _FLOATS:
        return f"ifNull({x} IN {_TRUTH}, false)"
    if type.name in _MOMENTS:
        return f"ifNull(NOT {_has_dash(x)} AND NOT match({x}, {quote_string(_TEXT_NUMBER)}), false)"
    return ""


def refuses_text(type: Type, text: str) -> bool:
    """As `text_doubt`, for a text that is known."""
    if type.name in INTEGERS or type.name in _FLOATS:
        return text in ("true", "false")
    return type.name in _MOMENTS and bool(re.match(_NUMBER, text)) and not re.match(_TEXT_NUMBER, text)


def _item(type: Type) -> Type:
    return parse(f"Tuple({', '.join(type.arguments)})") if type.name == "Nested" else type.inner


def _wide_elements(type: Type) -> str:
    return ", ".join(f"{quote(name)} {wide(t)}" if name else wide(t) for name, t in type.elements())

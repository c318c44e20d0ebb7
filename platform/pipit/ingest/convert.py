"""Checked conversions from a typed value to a column's type, for every INSERT ... SELECT that Pipit makes.

The engine's own conversion cuts in silence: 300 becomes 44 in an Int8, 1.9 becomes 1, a day of 2200 becomes one of
2063, text that is no date becomes 1970. `conversion` says for two types whether every value fits (then the engine
converts), and if not gives the expression that raises on a value that does not. What a value becomes is the rule for
events (`cast.py`): a float or decimal is rounded to the digits of its column, a moment loses what its column has no
place for (the time of day, fractions of a second), and everything else fits whole or is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipit.ingest import cast
from pipit.ingest.types import Type, parse, strip
from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string

REFUSED = "a value that does not fit is refused"
ROUNDED = "digits that have no place are rounded"
DAY_ONLY = "the time of day is dropped"
SECONDS_ONLY = "fractions of a second are dropped"
NO_NULL = "NULL is refused"
ELEMENTS = "elements of a tuple that only one side has are dropped, or zero"
_NEVER = "false"
_ORDER = (REFUSED, NO_NULL, ROUNDED, DAY_ONLY, SECONDS_ONLY, ELEMENTS)

_INTEGERS = {
    f"{sign}Int{bits}": (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for sign in ("", "U")
    for bits in (8, 16, 32, 64, 128, 256)
} | {"Bool": (0, 1)}
_WIDE = frozenset(f"{sign}Int{bits}" for sign in ("", "U") for bits in (128, 256))
_MANTISSA = {"BFloat16": 8, "Float32": 24, "Float64": 53}  # bits
_ENUMS = frozenset({"Enum8", "Enum16"})
_TEXTS = frozenset({"String", "FixedString"})
_MOMENTS = frozenset({"Date", "Date32", "DateTime", "DateTime64"})
_DAYS = frozenset({"Date", "Date32"})
_COMPOUND = frozenset({"Array", "Tuple", "Map", "Nested"})
_ANYTHING = frozenset({"Dynamic", "Variant"})
# The ends of the engine's moments, in whole seconds since 1970. Precision 9 and 8 end where 64 bits do.
_LAST_DATETIME = 4294967295  # 2106-02-07 06:28:15
_LAST_OF_9, _FIRST_OF_9 = 9223372035, -9223372035  # 2262-04-11, 1677-09-21
_LAST_OF_8 = 92233720367  # the year 4892
_YEAR_0 = -62167219200
_LAST_DATE = 65535  # days: 2149-06-06
# Read from text inside of an array: text stands in quotes there, numbers do not.
_READ_AS = {"Bool": "Bool"} | dict.fromkeys(_MANTISSA, "Float64") | dict.fromkeys(_INTEGERS.keys() - {"Bool"}, "Int256")
_ENUM_NUMBER = re.compile(r"=\s*(-?\d+)\s*\Z")


@dataclass(frozen=True, slots=True)
class Conversion:
    """`sql` is the value, ready for the column: it raises where the value does not fit. `loses` says what becomes of
    values that do not fit; none: all do.

    The same in two parts, neither of which raises: `bad` where it does not fit, and `value`, right where it does.
    """

    sql: str
    loses: tuple[str, ...] = ()
    bad: str = _NEVER
    value: str = ""


def conversion(source: str, target: str, x: str, message: str, *, null_is_default: bool = False) -> Conversion:
    """From the engine's name of a type to another. `message` is what a refused value's error says.

    `null_is_default`: the engine puts the column's DEFAULT in the place of NULL.
    """
    s, t = type_of(source), type_of(target)
    found = _Converter(message).convert(s, t, x, 0, null_is_default=null_is_default)
    quiet = _Converter(None).convert(s, t, x, 0, null_is_default=null_is_default)
    return Conversion(found.sql, tuple(one for one in _ORDER if one in found.loses), quiet.bad, quiet.sql)


def type_of(text: str) -> Type:
    try:
        return parse(text)
    except ValueError:
        return Type(text, (), text)


@dataclass(frozen=True, slots=True)
class _Found:
    sql: str
    loses: frozenset[str] = frozenset()
    bad: str = _NEVER


@dataclass(frozen=True, slots=True)
class _Leaf:
    """`sql` is NULL where the value does not fit; without it the engine's conversion is right for all values."""

    sql: str = ""
    loses: frozenset[str] = frozenset()


_FITS = _Leaf()


def _refusing(sql: str) -> _Leaf:
    return _Leaf(sql, frozenset({REFUSED}))


@dataclass(frozen=True, slots=True)
class _Converter:
    message: str | None  # None: nothing raises

    def convert(self, source: Type, target: Type, x: str, depth: int, *, null_is_default: bool = False) -> _Found:
        s, s_null = strip(source)
        t, t_null = strip(target)
        if _same(s, t):
            s = t
        if t.name in _COMPOUND and s is not t:
            return self._compound(s, t, x, depth)
        takes_null = t_null or null_is_default or t.name in _ANYTHING
        null = s_null or s.name in _ANYTHING
        leaf = _FITS if s is t else _leaf(s, t, x)
        loses = leaf.loses
        if not leaf.sql:
            if not null or takes_null or s.name == "Nothing":
                return _Found(x, loses)
            bad = f"isNull({x})"
            return _Found(self._not_null(x, bad), loses | {NO_NULL}, bad)
        if not takes_null or not null:
            loses |= {NO_NULL} if null else set()
            bad = f"isNull({leaf.sql})"
            return _Found(self._not_null(leaf.sql, bad), loses, bad)
        bad = f"(isNull({leaf.sql}) AND isNotNull({x}))"
        return _Found(self._or_raise(leaf.sql, bad), loses, bad)

    def _or_raise(self, value: str, wrong: str) -> str:
        if self.message is None:
            return value
        return f"if(throwIf({wrong}, {quote_string(self.message)}), NULL, {value})"

    def _not_null(self, value: str, wrong: str) -> str:
        return f"assumeNotNull({self._or_raise(value, wrong)})"

    def _compound(self, s: Type, t: Type, x: str, depth: int) -> _Found:
        item = f"_pipit_v{depth}"
        if s.name in _TEXTS:
            read = _readable(t)
            inner = self.convert(type_of(read), t, f"CAST({x}, {quote_string(read)})", depth)
            return inner if inner.loses else _Found(x)
        if s.name in _ANYTHING:
            wide = f"CAST({x}, {quote_string(cast.wide(t))})"
            bad, value = cast.bad(t, wide), cast.value(t, wide)
            wrong = f"isNull({x})" if bad == "false" else f"(isNull({x}) OR {bad})"
            # An array, a map or a tuple cannot be NULL, so both branches are the value; the first is never reached.
            chosen = value
            if self.message is not None:
                chosen = f"if(throwIf({wrong}, {quote_string(self.message)}), {value}, {value})"
            return _Found(chosen, frozenset({REFUSED, NO_NULL}), wrong)
        if (s.name, t.name) == ("Map", "Array"):
            pairs = type_of(f"Array(Tuple({', '.join(s.arguments)}))")
            inner = self.convert(pairs, t, f"CAST({x}, {quote_string(pairs.text)})", depth)
            return inner if inner.loses else _Found(x)
        if (s.name, t.name) == ("Array", "Map") and s.inner.name == "Tuple" and len(s.inner.arguments) == 2:
            as_map = type_of(f"Map({', '.join(e.text for _, e in s.inner.elements())})")
            inner = self.convert(as_map, t, f"CAST({x}, {quote_string(as_map.text)})", depth)
            return inner if inner.loses else _Found(x)
        if s.name in ("Array", "Nested") and t.name in ("Array", "Nested"):
            inner = self.convert(_item(s), _item(t), item, depth + 1)
            if not inner.loses:
                return _Found(x)
            return _Found(f"arrayMap({item} -> {inner.sql}, {x})", inner.loses, _any(item, inner.bad, x))
        if (s.name, t.name) == ("Map", "Map"):
            key = self.convert(type_of(s.arguments[0]), type_of(t.arguments[0]), item, depth + 1)
            held = self.convert(s.inner, t.inner, item, depth + 1)
            if not key.loses | held.loses:
                return _Found(x)
            keys = f"arrayMap({item} -> {key.sql}, mapKeys({x}))"
            values = f"arrayMap({item} -> {held.sql}, mapValues({x}))"
            made = f"CAST(mapFromArrays({keys}, {values}), {quote_string(t.text)})"
            bad_pairs = [_any(item, key.bad, f"mapKeys({x})"), _any(item, held.bad, f"mapValues({x})")]
            return _Found(made, key.loses | held.loses, _either(bad_pairs))
        if (s.name, t.name) == ("Tuple", "Tuple"):
            return self._tuple(s, t, x, depth)
        return _Found(x)  # the engine refuses it, or knows how

    def _tuple(self, s: Type, t: Type, x: str, depth: int) -> _Found:
        """By name where both have names, as the engine does it; else by place."""
        mine, theirs = s.elements(), t.elements()
        by_name = all(name for name, _ in (*mine, *theirs))
        places = {name if by_name else str(n): n for n, (name, _) in enumerate(mine)}
        parts: list[str] = []
        wrong: list[str] = []
        loses: frozenset[str] = frozenset()
        for n, (name, type) in enumerate(theirs):
            place = places.pop(name if by_name else str(n), None)
            if place is None:  # the engine puts the type's zero there
                loses |= {ELEMENTS}
                parts.append(f"defaultValueOfTypeName({quote_string(type.text)})")
                continue
            found = self.convert(mine[place][1], type, f"tupleElement({x}, {place + 1})", depth)
            parts.append(found.sql)
            wrong.append(found.bad)
            loses |= found.loses
        if places:
            loses |= {ELEMENTS}
        if not loses:
            return _Found(x)
        return _Found(f"CAST(tuple({', '.join(parts)}), {quote_string(t.text)})", loses, _either(wrong))


def _any(item: str, bad: str, x: str) -> str:
    return _NEVER if bad == _NEVER else f"arrayExists({item} -> {bad}, {x})"


def _either(wrong: list[str]) -> str:
    kept = [one for one in wrong if one != _NEVER]
    return f"({' OR '.join(kept)})" if kept else _NEVER


def _same(s: Type, t: Type) -> bool:
    return re.sub(r"\s+", "", s.text) == re.sub(r"\s+", "", t.text)


def _item(type: Type) -> Type:
    return type_of(f"Tuple({', '.join(type.arguments)})") if type.name == "Nested" else type.inner


def _readable(type: Type) -> str:
    """A type of the same shape that text can be read into without a loss."""
    inner, nullable = strip(type)
    if inner.name == "Array":
        return f"Array({_readable(inner.inner)})"
    if inner.name == "Map":
        return f"Map({', '.join(_readable(type_of(a)) for a in inner.arguments)})"
    if inner.name in ("Tuple", "Nested"):
        elements = ", ".join(f"{quote(n)} {_readable(e)}" if n else _readable(e) for n, e in inner.elements())
        return f"Tuple({elements})" if inner.name == "Tuple" else f"Array(Tuple({elements}))"
    read = "Decimal(76, 38)" if inner.name.startswith("Decimal") else _READ_AS.get(inner.name, "String")
    return f"Nullable({read})" if nullable else read


def _leaf(s: Type, t: Type, x: str) -> _Leaf:
    """One value that is no array, map or tuple; the types differ."""
    if t.name in ("String", *_ANYTHING) or s.name == "Nothing":
        return _FITS
    if s.name in _ANYTHING:
        return _refusing(cast.or_null(t, f"CAST({x}, 'Nullable(String)')"))
    if t.name == "FixedString":
        return _into_fixed(s, t, x)
    if s.name in _TEXTS:
        if t.name in ("JSON", "Object", "AggregateFunction") or t.name in _COMPOUND:
            return _FITS  # the engine reads it, or refuses it
        return _refusing(cast.of_text(t, x if s.name == "String" else f"toString({x})"))
    if s.name in _ENUMS and t.name in _ENUMS:
        known = set(s.arguments) <= set(t.arguments)
        return _FITS if known else _refusing(cast.or_null(t, f"toString({x})"))
    if s.name in _MOMENTS and t.name in _MOMENTS:
        return _moment(s, t, x)
    if t.name in _ENUMS:
        number = _whole_number(s, x)
        known_numbers = ", ".join(_enum_numbers(t))
        if not number or not known_numbers:
            return _FITS
        name = f"CAST(if({number} IN ({known_numbers}), {number}, NULL), {quote_string(f'Nullable({t.text})')})"
        return _refusing(name)
    if t.name in _MOMENTS:
        return _number_as_moment(s, t, x)
    return _into_number(s, t, x)


def _into_fixed(s: Type, t: Type, x: str) -> _Leaf:
    if s.name == "FixedString" and int(s.arguments[0]) <= int(t.arguments[0]):
        return _FITS
    if s.name not in _TEXTS:
        return _FITS  # the engine refuses
    text = f"toString({x})" if s.name == "FixedString" else x
    typed = quote_string(f"Nullable({t.text})")
    return _refusing(f"CAST(if(length({text}) <= {t.arguments[0]}, {text}, NULL), {typed})")


def _enum_numbers(type: Type) -> list[str]:
    found = [_ENUM_NUMBER.search(argument) for argument in type.arguments]
    return [one[1] for one in found if one]


def _range(type: Type) -> tuple[int, int] | None:
    """The least and the greatest value of what the engine converts as a whole number."""
    if type.name in _INTEGERS:
        return _INTEGERS[type.name]
    if type.name in _ENUMS:
        numbers = [int(n) for n in _enum_numbers(type)]
        return (min(numbers), max(numbers)) if numbers else None
    if type.name == "Date":
        return 0, 2**16 - 1
    if type.name == "DateTime":
        return 0, 2**32 - 1
    if type.name == "Date32":
        return -(2**31), 2**31 - 1
    if type.name == "Time":
        return -3599999, 3599999
    if type.name.startswith("Interval"):
        return -(2**63), 2**63 - 1
    return None


def _whole_number(s: Type, x: str) -> str:
    """The value as a number that `accurateCastOrNull` looks at rightly; NULL where it is none. Empty: not numeric."""
    if s.name in _INTEGERS or s.name in _MANTISSA:
        return x
    if s.name == "DateTime64":
        return f"toInt64({x})"
    if s.name.startswith("Decimal"):
        return f"accurateCastOrNull(toString({x}), 'Int256')"
    return f"CAST({x}, 'Nullable(Int64)')" if _range(s) else ""


def _into_number(s: Type, t: Type, x: str) -> _Leaf:
    loses = {SECONDS_ONLY} if s.name == "DateTime64" else set()  # into a whole number
    if t.name.startswith("Decimal"):
        return _into_decimal(s, t, x)
    if t.name in _MANTISSA:
        return _into_float(s, t, x)
    if t.name == "IPv4":
        fits = s.name not in _INTEGERS or _INTEGERS[s.name][1] < 2**32
        return _FITS if fits else _refusing(f"CAST({_accurate(x, 'UInt32')}, 'Nullable(IPv4)')")
    number = _whole_number(s, x)
    if not number:  # not of this family: the engine knows how, or refuses; but it takes anything for true
        return _refusing(cast.or_null(t, f"toString({x})")) if t.name == "Bool" else _FITS
    inside, outside = _range(s), _range(t)
    if outside is None:
        return _FITS
    if inside and outside[0] <= inside[0] and inside[1] <= outside[1]:
        return _FITS
    if t.name == "Bool":
        return _refusing(f"if({number} IN (0, 1), CAST({number}, 'Nullable(Bool)'), NULL)")
    if t.name in _INTEGERS and t.name not in _WIDE:
        return _Leaf(_accurate(number, t.name), frozenset({REFUSED, *loses}))
    if t.name in _WIDE:
        if s.name in _MANTISSA:  # exact up to 127 bits only
            whole = f"CAST(if(abs({x}) < 1.7e38, {x}, 0), 'Int128')"
            number = f"if(isFinite({x}) AND toFloat64({whole}) = {x}, {whole}, NULL)"
        text = f"toString({number})"
        return _Leaf(cast.or_null(t, text), frozenset({REFUSED, *loses}))
    whole = _accurate(number, "Int64")
    typed = quote_string(f"Nullable({t.text})")
    return _Leaf(
        f"CAST(if({whole} BETWEEN {outside[0]} AND {outside[1]}, {whole}, NULL), {typed})",
        frozenset({REFUSED, *loses}),
    )


def _accurate(x: str, name: str) -> str:
    return f"accurateCastOrNull({x}, {quote_string(name)})"


def _into_float(s: Type, t: Type, x: str) -> _Leaf:
    bits = _MANTISSA[t.name]
    typed = quote_string(f"Nullable({t.name})")
    if s.name in _MANTISSA or s.name.startswith("Decimal") or s.name == "DateTime64":
        if s.name in _MANTISSA and _MANTISSA[s.name] <= bits:
            return _FITS
        if t.name == "Float64":
            return _Leaf(loses=frozenset({ROUNDED}))
        value = f"CAST({x}, {typed})"
        same_kind = f"isFinite({value}) OR NOT isFinite(toFloat64({x}))"
        return _Leaf(f"if({same_kind}, {value}, NULL)", frozenset({REFUSED, ROUNDED}))
    inside = _range(s)
    number = _whole_number(s, x)
    if inside is None or not number or max(-inside[0], inside[1]) <= 2**bits:
        return _FITS
    if t.name == "BFloat16" or s.name in _WIDE:
        value = f"CAST({number}, {typed})"
        return _refusing(f"if(toString(toDecimal256OrNull(toString({value}), 0)) = toString({number}), {value}, NULL)")
    return _refusing(_accurate(number, t.name))


def _digits(type: Type) -> tuple[int, int]:
    """How many before and behind the point a Decimal has."""
    precision, scale = cast.digits(type)
    return precision - scale, scale


def _into_decimal(s: Type, t: Type, x: str) -> _Leaf:
    before, behind = _digits(t)
    if s.name.startswith("Decimal"):
        before_s, behind_s = _digits(s)
        if before_s <= before and behind_s <= behind:
            return _FITS
        loses = {REFUSED} if before_s > before else set()
        if behind_s > behind:
            loses |= {REFUSED, ROUNDED}  # rounding may carry
        return _Leaf(cast.or_null(t, f"toString({x})"), frozenset(loses))
    if s.name in _MANTISSA:
        return _Leaf(cast.or_null(t, f"toString({x})"), frozenset({REFUSED, ROUNDED}))
    if s.name == "DateTime64":
        return _Leaf(cast.or_null(t, f"toString(CAST({x}, 'Nullable(Decimal(38, 9))'))"), frozenset({REFUSED, ROUNDED}))
    inside, number = _range(s), _whole_number(s, x)
    if inside is None or not number or max(-inside[0], inside[1]) < 10**before:
        return _FITS
    return _refusing(cast.or_null(t, f"toString({number})"))


def _moment(s: Type, t: Type, x: str) -> _Leaf:
    """From one moment to another: in range, with what the column has a place for."""
    typed = quote_string(f"Nullable({t.text})")
    loses: set[str] = set()
    if s.name not in _DAYS and t.name in _DAYS:
        loses.add(DAY_ONLY)
    precision_s, precision = (int(one.arguments[0]) if one.name == "DateTime64" else 0 for one in (s, t))
    if t.name not in _DAYS and precision_s > precision:
        loses.add(SECONDS_ONLY)
    if t.name == "Date":
        day = f"toDate32({x})"
        inside = "" if s.name in ("DateTime",) else f"{day} BETWEEN '1970-01-01' AND '2149-06-06'"
    elif t.name == "Date32":
        inside = f"toYear({x}) BETWEEN 1900 AND 2299" if s.name == "DateTime64" else ""
    else:
        zone = t.arguments[int(t.name == "DateTime64") :]
        second = f"toUnixTimestamp64Second(CAST({x}, {quote_string(_nullable_moment(zone))}))"
        if t.name == "DateTime" and s.name in _DAYS:
            inside = f"toDate32(CAST({x}, {typed})) = toDate32({x})"
        elif t.name == "DateTime":
            # Not the whole second from which on: half a second before 1970 has the whole second 0.
            inside = f"{x} >= toDateTime64(0, 0) AND {second} <= {_LAST_DATETIME}" if s.name != "DateTime" else ""
        elif precision == 9:
            inside = f"{second} BETWEEN {_FIRST_OF_9} AND {_LAST_OF_9}" if s.name not in ("DateTime", "Date") else ""
        else:
            inside = f"{second} <= {_LAST_OF_8}" if precision == 8 and s.name == "DateTime64" else ""
    if not inside:
        return _Leaf(loses=frozenset(loses))
    return _Leaf(f"CAST(if({inside}, {x}, NULL), {typed})", frozenset({REFUSED, *loses}))


def _nullable_moment(zone: tuple[str, ...]) -> str:
    return f"Nullable(DateTime64(0{', ' + zone[0] if zone else ''}))"


def _number_as_moment(s: Type, t: Type, x: str) -> _Leaf:
    """Days or seconds since 1970, as the engine takes them; it stops at the end of the type in silence."""
    number = _whole_number(s, x)
    if not number or s.name in _MOMENTS:
        return _FITS
    typed = quote_string(f"Nullable({t.text})")
    if t.name in _DAYS:
        inside = _range(s)
        if t.name == "Date" and inside and inside[0] >= 0 and inside[1] <= _LAST_DATE:
            return _FITS
        whole = _accurate(number, "Int64")
        day = f"CAST({whole}, {typed})"
        shown = f"CAST({day}, 'Nullable(Int64)')"
        seconds = f"({whole} >= 0 AND {shown} = intDiv({whole}, 86400))"
        return _refusing(f"if({shown} = {whole} OR {seconds}, {day}, NULL)")
    inside = _range(s)
    if t.name == "DateTime":
        if inside and inside[0] >= 0 and inside[1] <= _LAST_DATETIME:
            return _FITS
        first, last = 0, _LAST_DATETIME
    else:
        first, last = (-_LAST_OF_9, _LAST_OF_9) if int(t.arguments[0]) == 9 else (_YEAR_0, _LAST_OF_8)
        if inside and first <= inside[0] and inside[1] <= last:
            return _FITS
    loses = {REFUSED} | ({SECONDS_ONLY} if not inside else set())
    if s.name in _MANTISSA:
        number = f"toFloat64({number})"
    if s.name.startswith("Decimal"):
        number = f"CAST({x}, 'Nullable(Decimal(76, 9))')"
    kept = f"if({number} >= {first} AND {number} <= {last}, {number}, NULL)"
    if t.name == "DateTime" and s.name.startswith("Decimal"):
        kept = f"CAST({kept}, 'Nullable(Float64)')"
    return _Leaf(f"CAST({kept}, {typed})", frozenset(loses))

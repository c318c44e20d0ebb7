"""The text of a ClickHouse type as a small tree: enough to read it from JSON and to check the cast into it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ALIASES = {
    "Point": "Tuple(Float64, Float64)",
    "Ring": "Array(Tuple(Float64, Float64))",
    "LineString": "Array(Tuple(Float64, Float64))",
    "MultiPoint": "Array(Tuple(Float64, Float64))",
    "Polygon": "Array(Array(Tuple(Float64, Float64)))",
    "MultiLineString": "Array(Array(Tuple(Float64, Float64)))",
    "MultiPolygon": "Array(Array(Array(Tuple(Float64, Float64))))",
}
_ELEMENT = re.compile(r"(?:`((?:[^`\\]|\\.|``)*)`|([A-Za-z_][A-Za-z0-9_]*))\s+(?=\S)(.*)\Z", re.DOTALL)
_ENUM_ELEMENT = re.compile(r"'((?:[^'\\]|\\.|'')*)'\s*(?:=\s*(-?\d+))?\s*\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Type:
    """`name(arguments)`. `text` is what the author wrote (wrappers and all)."""

    name: str
    arguments: tuple[str, ...]
    text: str

    @property
    def inner(self) -> Type:
        return parse(self.arguments[-1])

    def elements(self) -> tuple[tuple[str, Type], ...]:
        """Of a Tuple or Nested: (name, type), the name empty where it has none."""
        found = []
        for argument in self.arguments:
            named = _ELEMENT.match(argument)
            if named and not _is_type_call(argument):
                found.append((_unquote(named[1]) if named[1] is not None else named[2], parse(named[3])))
            else:
                found.append(("", parse(argument)))
        return tuple(found)

    def enum_values(self) -> tuple[str, ...]:
        """The texts that mean a value of an Enum: its names, and the numbers written next to them."""
        names, numbers = [], []
        for argument in self.arguments:
            element = _ENUM_ELEMENT.match(argument)
            if element is None:
                raise ValueError(f"cannot read the enum element {argument}")
            names.append(_unquote(element[1]).replace("''", "'"))
            if element[2]:
                numbers.append(element[2])
        return tuple(dict.fromkeys(names + numbers))


def parse(text: str) -> Type:
    text = text.strip()
    text = _ALIASES.get(text, text)
    name, parenthesis, rest = text.partition("(")
    if not parenthesis:
        return Type(text, (), text)
    if not rest.endswith(")"):
        raise ValueError(f"the type {text} is not closed")
    return Type(name.strip(), _split(rest[:-1]), text)


def strip(type: Type) -> tuple[Type, bool]:
    """Without LowCardinality, Nullable and SimpleAggregateFunction, and whether it was Nullable."""
    nullable = False
    while type.name in ("LowCardinality", "Nullable", "SimpleAggregateFunction"):
        nullable |= type.name == "Nullable"
        type = type.inner
    return type, nullable


def _split(text: str) -> tuple[str, ...]:
    """At the commas that stand in no parentheses and no quotes."""
    parts, depth, quote, start, place = [], 0, "", 0, 0
    while place < len(text):
        char = text[place]
        if quote:
            if char == "\\":
                place += 1
            elif char == quote:
                quote = ""
        elif char in "'`":
            quote = char
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:place].strip())
            start = place + 1
        place += 1
    last = text[start:].strip()
    return (*parts, last) if last else tuple(parts)


def _is_type_call(argument: str) -> bool:
    """`Decimal (9, 2)` has a space and no name."""
    return re.match(r"[A-Za-z0-9_]+\s*\(", argument) is not None


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)

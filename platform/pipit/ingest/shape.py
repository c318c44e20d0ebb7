"""Whether JSON has the shape of a column's type, at every depth, asked of the JSON itself.

`JSONExtract` never refuses: an array of the wrong items comes out empty, an item of the wrong kind as its
default, an array where an object should be is read by position, and what a tuple has no place for is dropped.
Here is what tells such a value from an honest one. Since it reads the JSON a second time, `doubt` says first,
from the value that was read, whether that can matter at all.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipit.ingest import cast
from pipit.ingest.types import Type, parse, strip
from pipit.sql.literals import quote_string


def doubt(type: Type, x: str, depth: int = 0) -> str:
    """False only where the wide value `x` is surely what the JSON held."""
    inner, _ = strip(type)
    item = f"_pipit_v{depth}"
    if inner.name == "Tuple" or inner.name == "Nested":
        return "true"
    if inner.name not in ("Array", "Map"):
        return cast.text_doubt(inner, x) or "false"
    below = doubt(inner.inner, item, depth + 1)
    values = x if inner.name == "Array" else f"mapValues({x})"
    more = "" if below == "false" else f" OR arrayExists({item} -> {below}, {values})"
    return f"(empty({x}){more})"


def misfit(type: Type, json: str, depth: int = 0) -> str:
    """Whether the JSON text (an expression) has another shape. Single values are left to their casts, but for a text
    that reads like a value of another kind.
    """
    inner, _ = strip(type)
    item = f"_pipit_j{depth}"
    kind = f"JSONType({json})"
    if inner.name in ("Array", "Nested"):
        element = parse(f"Tuple({', '.join(inner.arguments)})") if inner.name == "Nested" else inner.inner
        below = misfit(element, item, depth + 1)
        if below == "false":
            return f"({kind} != 'Array')"
        return f"({kind} != 'Array' OR arrayExists({item} -> {below}, JSONExtractArrayRaw({json})))"
    if inner.name == "Map":
        below = misfit(inner.inner, f"({item}.2)", depth + 1)
        if below == "false":
            return f"({kind} != 'Object')"
        return f"({kind} != 'Object' OR arrayExists({item} -> {below}, JSONExtractKeysAndValuesRaw({json})))"
    if inner.name == "Tuple":
        elements = inner.elements()
        checks = [f"NOT ({kind} = 'Array' AND JSONLength({json}) = {len(elements)})"]
        if all(name for name, _ in elements):
            checks[0] += f" AND {kind} != 'Object'"
        for n, (name, element) in enumerate(elements, 1):
            held = f"JSONExtractRaw({json}, {n})"
            if name:
                held = f"if({kind} = 'Array', {held}, JSONExtractRaw({json}, {quote_string(name)}))"
            check = misfit(element, held, depth)
            if check != "false":
                checks.append(check)
        return f"({' OR '.join(checks)})"
    if doubtful := cast.text_doubt(inner, f"JSONExtractString({json})"):
        return f"(startsWith({json}, '\"') AND {doubtful})"
    return "false"


def item_misfit(type: Type, item: str, keys: Sequence[str]) -> str:
    """For a path into the items of an array: whether an item does not lead through objects to a value of the
    shape of `type`. A value that may be NULL may also be missing; nothing else may."""
    inner, nullable = strip(type)
    optional = nullable or inner.name in ("Dynamic", "Variant")
    allowed = "'Object', 'Null'" if optional else "'Object'"
    quoted = [quote_string(key) for key in keys]
    checks = [f"JSONType({', '.join([item, *quoted[:n]])}) NOT IN ({allowed})" for n in range(len(quoted))]
    there = ", ".join([item, *quoted])
    below = misfit(type, f"JSONExtractRaw({there})")
    if below != "false":
        checks.append(below)
    if not optional and inner.name not in ("Array", "Map", "Tuple", "Nested"):
        checks.append(f"JSONType({there}) = 'Null'")
    return f"({' OR '.join(checks)})"

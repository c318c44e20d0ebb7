"""A table behind a security barrier: the engine's own columns, without what they share with rows that a filter removed.

Some columns keep a state that outlives the filter. The engine looks at all of it, whatever rows are left:

- a LowCardinality column keeps its whole dictionary, and a function runs once for each word of it: one that fails on a
  word of a hidden row tells that the word is there (measured: `toFixedString`, `base58Decode`);
- Dynamic, Variant and JSON columns keep each type that a value of theirs had, and a cast is prepared for each of these
  types: one that fails on a type of a hidden row tells of it (measured: `data.amount::Float64` beside a hidden `[1]`).

So the table is read through a subquery that makes such columns anew from the rows that are left. Types and names stay
what they were. Dictionaries are made full and encoded again. Of the others each value goes through a state of an
aggregate function, which holds that value and its own type, and nothing of the column that it came from.

That costs about 2 us for a JSON object of five keys and 0.2 us for one key of it. So where a statement reads only some
keys, the barrier hands on only those, as columns of the same names (`data.amount`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set

from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string

_ENCODED = re.compile(r"\bLowCardinality\(")
# Types whose columns hold values of several types. Geometry is a Variant of shapes.
_MIXED = re.compile(r"\b(?:JSON|Dynamic|Variant|Geometry)\b", re.IGNORECASE)
# A key of a JSON column as the engine's tree names it, with its type maybe: data.a.b, data.a.:`Int64`.
_KEY = re.compile(r"(?P<column>\w+)(?P<keys>(?:\.[^\W\d]\w*)+)(?P<type>\.:`\w+`)?", re.ASCII)
# What the barrier itself calls, beside CAST: `check_tenant_trees` lets these pass where a barrier stands.
BARRIER_FUNCTIONS = frozenset({"initializeAggregation"})


def is_mixed(type: str) -> bool:
    """Whether a column of this type holds values of several types."""
    return _MIXED.search(type) is not None and not type.startswith("AggregateFunction(")


def behind_barrier(
    table: str,
    columns: Mapping[str, str],
    used: Mapping[str, str] | None = None,
    *,
    hidden: Set[str] = frozenset(),
) -> tuple[str, str] | None:
    """What stands before and after the table's modifiers (`FINAL`) in its place; None where no column needs it.

    `table` as it stands in SQL, `columns` with their types. `used`: the columns and parts of columns that the statement
    reads, with their types, as the engine's tree names them; None where that is not known. `hidden`: columns that it
    has and that no statement may see.
    """
    keys = _keys(columns, used) if used is not None else {}
    renewed = [_renewed(quote(name), name, type) for name, type in columns.items() if _needs(type) and name not in keys]
    replaced = f" REPLACE ({', '.join(renewed)})" if renewed else ""
    dropped = [*keys, *sorted(hidden)]
    left_out = f" EXCEPT ({', '.join(map(quote, dropped))})" if dropped else ""
    added = "".join(f", {one}" for found in keys.values() for one in found)
    if not (replaced or left_out):
        return None
    return f"(SELECT *{left_out}{replaced}{added} FROM {table}", ")"


def full_type(type: str) -> str:
    """The type without LowCardinality, at any depth. `LowCardinality(Nullable(String))` -> `Nullable(String)`."""
    found = _ENCODED.search(type)
    if found is None:
        return type
    depth = 1
    for end in range(found.end(), len(type)):
        depth += {"(": 1, ")": -1}.get(type[end], 0)
        if not depth:
            return full_type(type[: found.start()] + type[found.end() : end] + type[end + 1 :])
    raise ValueError(f"the brackets of the type {type!r} do not match")


def _needs(type: str) -> bool:
    return is_mixed(type) or _ENCODED.search(type) is not None


def _keys(columns: Mapping[str, str], used: Mapping[str, str]) -> dict[str, list[str]]:
    """JSON column -> the keys of it that are read, as columns of the barrier. Not of one that is read whole."""
    found: dict[str, list[str]] = {}
    for name in (name for name, type in columns.items() if type.startswith("JSON") and name not in used):
        parts = {part: type for part, type in used.items() if part.startswith(f"{name}.")}
        matches = [(_KEY.fullmatch(part), part, type) for part, type in parts.items()]
        if any(match is None or match["column"] != name for match, _, _ in matches):
            continue  # an array of objects, a part of the object: the whole column is made anew
        found[name] = [
            _renewed(_path(match["column"], match["keys"], match["type"]), part, type)
            for match, part, type in sorted(matches, key=lambda one: one[1])
            if match is not None
        ]
    return found


def _path(column: str, keys: str, type: str | None) -> str:
    return ".".join(quote(name) for name in (column, *keys[1:].split("."))) + (type or "")


def _renewed(value: str, name: str, type: str) -> str:
    """The value made anew, under the name. `type` of the value, as the engine or the schema writes it."""
    alias = quote(name)
    if type.startswith("AggregateFunction("):
        return f"{value} AS {alias}"  # a state holds its own rows' values
    if is_mixed(type):
        # The tuple keeps what is NULL: an aggregate function would leave it out.
        return f"initializeAggregation('groupArray', tuple({value}))[1].1 AS {alias}"
    if not _ENCODED.search(type):
        return f"{value} AS {alias}"
    plain = type
    if type.startswith("SimpleAggregateFunction("):
        plain = type[type.index(",") + 1 : -1].strip()
    return f"CAST(CAST({value}, {quote_string(full_type(plain))}), {quote_string(type)}) AS {alias}"

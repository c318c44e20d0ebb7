"""A table behind a fence: the engine's own columns, without what they share with rows that a filter removed.

A LowCardinality column keeps its whole dictionary when rows are filtered out, and the engine runs a function once for
each word of it: one that fails on a word of a hidden row tells that the word is there (measured: `toFixedString`,
`base58Decode`). So the table is read through a subquery that makes such columns full and encodes them anew, from
the rows that are left. Types and names stay what they were.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string

_ENCODED = re.compile(r"\bLowCardinality\(")


def fenced(table: str, columns: Mapping[str, str]) -> tuple[str, str] | None:
    """What stands before and after the table's modifiers (`FINAL`) in its place; None where no column needs it.

    `table` as it stands in SQL, `columns` with their types.
    """
    renewed = [_renewed(name, type) for name, type in columns.items() if _ENCODED.search(type)]
    if not renewed:
        return None
    return f"(SELECT * REPLACE ({', '.join(renewed)}) FROM {table}", ")"


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


def _renewed(name: str, type: str) -> str:
    column = quote(name)
    if type.startswith("AggregateFunction("):
        return f"{column} AS {column}"  # a state holds its own rows' values
    if type.startswith("SimpleAggregateFunction("):
        plain = type[type.index(",") + 1 : -1].strip()
        return f"CAST(CAST({column}, {quote_string(full_type(plain))}), {quote_string(type)}) AS {column}"
    return f"CAST(CAST({column}, {quote_string(full_type(type))}), {quote_string(type)}) AS {column}"

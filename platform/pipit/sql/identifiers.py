"""Names: how they are written into SQL, and which ones a project may give to its resources (Tinybird's dialect).

A name reaches SQL text only through `quote`, and only when it comes from the catalog or another allow-list
(rule 2).
"""

from __future__ import annotations

import re

# Names that a workspace keeps for itself, and words that mean something where a table's name may stand.
_WORKSPACE_NAMES = (
    "tinybird system public default main origin live snapshot _temporary_and_external_tables information_schema pipit"
)
# Only words that begin a clause where a table's name stands: real projects call pipes `totals`, `top` or `rows`.
_KEYWORDS = (
    "all and any array as asof between case cast create cross distinct drop else end except exists final from full "
    "group having if in inner insert intersect into is join left like limit not null on or order outer partition "
    "prewhere right sample select semi set settings table then union using values when where window with"
)

_OF_THE_WORKSPACE = frozenset(_WORKSPACE_NAMES.split())
RESERVED_NAMES: frozenset[str] = _OF_THE_WORKSPACE | frozenset(_KEYWORDS.split())

_RESOURCE_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
_ESCAPES = {
    "\\": "\\\\",
    "`": "\\`",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\0": "\\0",
}


def quote(name: str) -> str:
    """The name in backticks, safe in any place where ClickHouse takes an identifier.

    Raises on an empty name.
    """
    if not name:
        raise ValueError("a name cannot be empty")
    return "`" + "".join(_ESCAPES.get(character, character) for character in name) + "`"


def is_resource_name(name: str) -> bool:
    """Whether a data source, pipe, node, connection or workspace may have this name."""
    return _RESOURCE_NAME.match(name) is not None and name.lower() not in RESERVED_NAMES


def name_problem(name: str) -> str:
    """Why a resource cannot have this name, and what to do; '' when it can."""
    if is_resource_name(name):
        return ""
    if name.lower() in _OF_THE_WORKSPACE:
        why = f"'{name}' is a database or a name that the server keeps for itself"
    elif name.lower() in RESERVED_NAMES:
        why = f"{name.upper()} is a word of SQL: after FROM or JOIN it would not be read as a name"
    elif not name:
        return "The file has no name before its ending. Give it one."
    elif name[0].isdigit():
        why = "A name begins with a letter or _, not with a digit"
    else:
        strange = next((c for c in name if not (c.isascii() and (c.isalnum() or c == "_"))), "")
        why = f"A name has letters of a to z, digits and _, and no {strange!r}"
    other = re.sub(r"[^A-Za-z0-9_]+", "_", name)
    other = f"_{other}" if other[:1].isdigit() else other
    other = other if is_resource_name(other) else f"{other}_data"
    return f"{why}. Rename it, for example to {other}, here and where it is read."

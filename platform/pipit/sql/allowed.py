"""Reviewed allow-lists: what a text may call, set and ask for when a tenant's token runs it.

The lists in `reviewed/` name every function, table function, setting and format of the engine (26.9), each with a
verdict: `allowed`, `authors: ` and the reason why not for tenants' own SQL, or the reason why not for anybody. They are
made from the live engine by `python -m pipit.sql.review`, which never allows anything by itself: a name that a new
engine brings is `unreviewed`, refused, and fails the test.

What is refused, and why it matters: functions that read files, the network or models; that call services; that tell
of the server; that wait; that raise by value (`throwIf`: errors tell about rows of others); that show how rows lie in
blocks (`lowCardinalityKeys` prints values of rows that a filter removed). `OBJECT_FUNCTIONS` name a dictionary or Join
table in an argument: refused unless the caller allows that object. Aggregate functions are allowed with every
combinator (-If, -State, ...), which change how they aggregate and not what they read.

`authors: ...` is for what a project's pipes and a workspace's own SQL may use, and a text that a tenant wrote may not:
what shows how rows lie on the disk, costs without a bound that the engine checks, names something by a text, or tells
of the server. Settings are never a tenant's.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pipit.reasons import Reason

REVIEWED = Path(__file__).with_name("reviewed")
UNREVIEWED = "unreviewed"
_FOR_AUTHORS = "authors: "

# Of the grammar rather than of system.functions; the tree prints them like functions.
_SYNTAX_FUNCTIONS = frozenset({"exists", "grouping", "untuple", "_CAST", "lambda"})
COMBINATORS = (
    "SimpleState",
    "OrDefault",
    "Distinct",
    "Resample",
    "ForEach",
    "ArgMax",
    "ArgMin",
    "OrNull",
    "Tuple",
    "Merge",
    "State",
    "Array",
    "Null",
    "Map",
    "If",
)


def read_reviewed(name: str) -> dict[str, tuple[str, ...]]:
    """A file of `reviewed/`: name -> the other columns; the last one is the verdict."""
    lines = (REVIEWED / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return {fields[0]: tuple(fields[1:]) for fields in (line.split("\t") for line in lines if line)}


def _reason(verdict: str, *, tenant: bool) -> str:
    """Why not; empty when it is allowed."""
    if verdict.startswith(_FOR_AUTHORS):
        return verdict.removeprefix(_FOR_AUTHORS) if tenant else ""
    return "" if verdict == "allowed" else verdict


def _allowed(name: str, *, tenant: bool = False) -> frozenset[str]:
    return frozenset(key for key, columns in read_reviewed(name).items() if not _reason(columns[-1], tenant=tenant))


_FUNCTIONS = {name: (flags, verdict) for name, (flags, verdict) in read_reviewed("functions").items()}
_ANY_CASE = {name.lower(): name for name, (flags, _) in _FUNCTIONS.items() if "i" in flags}

ALLOWED_FUNCTIONS: frozenset[str] = _allowed("functions") | _SYNTAX_FUNCTIONS
AGGREGATE_FUNCTIONS: frozenset[str] = frozenset(name for name, (flags, _) in _FUNCTIONS.items() if "a" in flags)
OBJECT_FUNCTIONS: frozenset[str] = frozenset(name for name, (_, verdict) in _FUNCTIONS.items() if verdict == "object")
ALLOWED_TABLE_FUNCTIONS: frozenset[str] = _allowed("table_functions")
ALLOWED_SETTINGS: frozenset[str] = _allowed("settings")
ALLOWED_FORMATS: frozenset[str] = _allowed("formats")
# What a text may use that a tenant wrote. There are no settings among it.
TENANT_TABLE_FUNCTIONS: frozenset[str] = _allowed("table_functions", tenant=True)
TENANT_FORMATS: frozenset[str] = _allowed("formats", tenant=True)
# What a project's tables may be made of: settings of their engine, and type names (any case here; the engine is
# stricter about some).
ALLOWED_MERGE_TREE_SETTINGS: frozenset[str] = _allowed("merge_tree_settings")
TYPES: frozenset[str] = frozenset(name.lower() for name in _allowed("types"))


def function_verdict(name: str, *, tenant: bool = False) -> str:
    """Why the function is refused; empty when it is allowed. As ClickHouse knows names: most in their own case.

    `tenant`: in a text that a tenant wrote.
    """
    if name in _SYNTAX_FUNCTIONS:
        return ""
    known = name if name in _FUNCTIONS else _ANY_CASE.get(name.lower())
    if known is not None:
        verdict = _FUNCTIONS[known][1]
        if verdict == "object":
            return "it reads an object by its name"
        return _reason(verdict, tenant=tenant)
    base = name
    while suffix := next((s for s in COMBINATORS if base.endswith(s) and len(base) > len(s)), ""):
        base = base[: -len(suffix)]
        known = base if base in _FUNCTIONS else _ANY_CASE.get(base.lower())
        if known in AGGREGATE_FUNCTIONS:
            return _reason(_FUNCTIONS[known][1], tenant=tenant)
    return "it is not a function of the engine that was reviewed"


def refused_function(name: str) -> Reason:
    """Why a function that is refused is one: what reads an object by its name reads past row filters."""
    return Reason.OBJECT_REFUSED if name in OBJECT_FUNCTIONS else Reason.FUNCTION_REFUSED


def is_function(name: str) -> bool:
    """Whether the engine has a function of this name, allowed or not."""
    return name in _FUNCTIONS or name.lower() in _ANY_CASE


@cache
def function_names() -> frozenset[str]:
    """The names that may be written, the usual combinations of aggregates among them: for suggestions."""
    combined = {f"{name}{suffix}" for name in AGGREGATE_FUNCTIONS for suffix in ("If", "State", "Merge", "Array")}
    return ALLOWED_FUNCTIONS | {name for name in combined if not function_verdict(name)}


def table_function_allowed(name: str) -> bool:
    return name in ALLOWED_TABLE_FUNCTIONS

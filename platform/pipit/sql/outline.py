"""The outline of a SELECT text: its queries, their CTEs, FROM items, SELECT items, IN operands and SETTINGS.

What is recorded are places in the text; `references` and `outputs` give them meaning. `scanner` finds them.

Promises: linear time; SqlError on text that cannot be SQL (broken quotes, brackets that do not match, nested
too deeply); on anything else it never raises. It may misjudge text that the engine refuses anyway. It is not
a defence: what a query reads is decided on the engine's own tree (`sql.tree`); here only names are found, so
that they can be replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pipit.sql.lexer import Token


@dataclass(slots=True)
class TableItem:
    """One item of a FROM clause or join, or one bare name after IN. Offsets are into the text."""

    kind: str  # "from", "in", "function", "subquery"
    parts: tuple[str, ...] = ()  # ("name",) or ("database", "name")
    start: int = 0
    end: int = 0
    alias: str | None = None
    body: Union | None = None  # of a subquery
    modifiers: tuple[int, int] | None = None  # from where to where FINAL and SAMPLE stand behind it


@dataclass(slots=True)
class SelectItem:
    start: int
    end: int
    aliased: bool = False
    parameters: list[int] = field(default_factory=list)  # outside of nested subqueries


@dataclass(slots=True)
class Cte:
    name: str
    body: Union


@dataclass(slots=True)
class Setting:
    name: str
    value: str  # as written
    start: int
    end: int


@dataclass(slots=True)
class SelectOutline:
    """One SELECT without its set operators."""

    start: int
    with_start: int = -1  # where what follows WITH [RECURSIVE] begins; -1 without a WITH
    joined: bool = False  # a bracket with a list of joined tables, and no SELECT
    prewhere: bool = False
    recursive: bool = False
    ctes: list[Cte] = field(default_factory=list)
    aliases: set[str] = field(default_factory=set)  # of expressions, at any depth of this query's own
    tables: list[TableItem] = field(default_factory=list)
    members: list[TableItem] = field(default_factory=list)  # IN operands
    items: list[SelectItem] = field(default_factory=list)
    nested: list[Union] = field(default_factory=list)  # subqueries in expressions and in table functions
    samples: list[int] = field(default_factory=list)  # offsets of parameters in SAMPLE
    intervals: list[int] = field(default_factory=list)  # of parameters that are all of an INTERVAL, with its unit


@dataclass(slots=True)
class Union:
    """Queries joined by UNION, INTERSECT and EXCEPT. A bracket with several of them is a Union of its own."""

    parts: list[SelectOutline | Union] = field(default_factory=list)


@dataclass(slots=True)
class Clause:
    """A FORMAT, INTO OUTFILE or SETTINGS clause: its place, keyword to end."""

    kind: str
    start: int
    end: int
    depth: int  # 0: of the whole statement
    value: str = ""
    settings: tuple[Setting, ...] = ()


@dataclass(slots=True)
class Outline:
    union: Union
    clauses: list[Clause]
    functions: list[Token]  # every word followed by an opening bracket
    tokens: list[Token]  # significant ones
    parallel: bool = False  # statements joined by PARALLEL WITH


def all_tables(union: Union) -> Iterator[TableItem]:
    """The FROM items of all its queries, at any depth."""
    pending: list[SelectOutline | Union] = [union]
    while pending:
        part = pending.pop()
        if isinstance(part, Union):
            pending.extend(part.parts)
            continue
        pending.extend(cte.body for cte in part.ctes)
        pending.extend(part.nested)
        for item in part.tables:
            yield item
            if item.body is not None:
                pending.append(item.body)

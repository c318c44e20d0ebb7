"""DEFAULTs that may give a value which their own column cannot hold: the engine would cut it in silence.

The engine computes a DEFAULT for all rows of an insert as soon as one of them needs it. One that raises can therefore
not stand in the table: it would refuse rows that bring a value of their own, and the engine computes it again for rows
that are older than the column. So each INSERT ... SELECT that Pipit makes puts such a default in by itself: events
(`parse.py`), views, copies and populates (`match.py`).

Meant are defaults that are not the same for every row: that read another column, or a clock, or chance. The others are
judged when they are deployed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipit.engine.client import Engine
from pipit.ingest.convert import conversion
from pipit.sql.identifiers import quote
from pipit.sql.lexer import LexerKind, identifier_name, tokenize
from pipit.sql.literals import quote_string

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class CheckedDefault:
    """`value` and `bad` are SQL over `alias`, which stands for the expression; `value` is right where `bad` is false.

    `source` is the expression's type, `type` the column's. `steady`: the same for the same row, whenever it is asked.
    """

    column: str
    type: str
    source: str
    expression: str
    number: int
    value: str
    bad: str
    loses: tuple[str, ...]
    steady: bool

    @property
    def alias(self) -> str:
        return _alias(self.number)

    @property
    def named(self) -> str:
        return f"({self.expression}) AS {self.alias}"


def _alias(number: int) -> str:
    return f"_pipit_default_{number}"


async def columns_of(engine: Engine, database: str, table: str) -> Rows:
    """Name, type and default of each column of a table, as the engine has it; none of one that is not there."""
    return await engine.rows(
        "SELECT name, type, default_kind, default_expression FROM system.columns "
        "WHERE database = {database:String} AND table = {table:String} ORDER BY position",
        {"database": database, "table": table},
    )


async def checked_defaults(
    engine: Engine, database: str, table: str, columns: Rows | None = None
) -> tuple[CheckedDefault, ...]:
    """Of a table that is there; none of one that is not. `columns`: what `columns_of` says of it."""
    if columns is None:
        columns = await columns_of(engine, database, table)
    texts = {str(c["name"]): str(c["default_expression"]) for c in columns if c["default_kind"] == "DEFAULT"}
    names = {str(c["name"]) for c in columns}
    unsteady = await unsteady_defaults(engine, texts)
    varying = [name for name, text in texts.items() if name in unsteady or words_of(text) & names]
    if not varying:
        return ()
    listed = ", ".join(f"({texts[name]}) AS {_alias(n)}" for n, name in enumerate(varying))
    described = await engine.rows(
        f"DESCRIBE (SELECT {listed} FROM {quote(database)}.{quote(table)})", settings={"readonly": 1}
    )
    sources = dict(zip(varying, (str(row["type"]) for row in described), strict=True))
    types = {str(c["name"]): str(c["type"]) for c in columns}
    found: list[CheckedDefault] = []
    for name, source in sources.items():
        type, number = types[name], len(found)
        if source == "String" and type.startswith(("Bool", "Enum")):
            continue  # the engine raises on a text that it does not know, and it knows more of them than events do
        to = conversion(source, type, _alias(number), "")
        if to.bad != "false" or to.value != _alias(number):
            steady = name not in unsteady
            found.append(CheckedDefault(name, type, source, texts[name], number, to.value, to.bad, to.loses, steady))
    return tuple(found)


async def unsteady_defaults(engine: Engine, defaults: Mapping[str, str]) -> frozenset[str]:
    """The columns whose default hangs on a clock or on chance."""
    words = {name: {word.lower() for word in words_of(text)} for name, text in defaults.items()}
    used = sorted(set().union(*words.values()))
    if not used:
        return frozenset()
    rows = await engine.rows(
        "SELECT lower(name) AS name FROM system.functions "
        "WHERE ifNull(deterministic, 0) = 0 AND has({used:Array(String)}, lower(name))",
        {"used": used},
    )
    changing = {str(row["name"]) for row in rows}
    return frozenset(name for name, found in words.items() if found & changing)


def words_of(expression: str) -> frozenset[str]:
    """All that may be a name in it."""
    kinds = (LexerKind.WORD, LexerKind.QUOTED_IDENTIFIER)
    return frozenset(identifier_name(token) for token in tokenize(expression) if token.kind in kinds)


def read_by_defaults(roots: Iterable[str], expressions: Mapping[str, str], columns: Collection[str]) -> frozenset[str]:
    """The columns that are read by the defaults of these, directly or through other defaults: where one is put in, it
    must see what they will be in the table. `expressions`: the defaults of all columns.
    """
    reads = {name: words_of(text) & set(columns) for name, text in expressions.items()}
    todo = [name for root in roots for name in reads.get(root, ())]
    found: set[str] = set()
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += reads.get(name, ())
    return frozenset(found)


def left_out(type: str, default: str | None) -> str:
    """What the table puts into a column that an insert leaves out."""
    if default is None:
        return f"defaultValueOfTypeName({quote_string(type)})"
    return f"CAST(({default}), {quote_string(type)})" if type else f"({default})"

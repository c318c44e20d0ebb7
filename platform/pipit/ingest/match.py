"""The columns of a query against those of the table that it fills, as the engine describes both.

Every INSERT ... SELECT that Pipit makes (materialized views and their fills, copies, populates) selects through
`Match.select`: a value that its column cannot hold raises there, and is never cut (`convert.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipit.engine.client import Engine, ParamValue
from pipit.ingest.convert import conversion
from pipit.query.nested import described, subquery, with_settings
from pipit.sql.identifiers import quote

_QUERY = "_pipit_query"
_DEFAULT = "DEFAULT"


@dataclass(frozen=True, slots=True)
class Narrowed:
    """A column whose type cannot hold all values of the query. `loses` says what becomes of those."""

    name: str
    source: str
    target: str
    loses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """`columns` are those that both have, in the query's order; the rest of the query is dropped.

    `unknown`: of the query alone. `missing`: of the table alone, each with its type; they get their defaults.
    """

    columns: tuple[str, ...]
    values: tuple[str, ...]  # an expression for each
    narrowed: tuple[Narrowed, ...] = ()
    unknown: tuple[str, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()

    @property
    def is_checked(self) -> bool:
        return any(value != quote(name) for name, value in zip(self.columns, self.values, strict=True))

    @property
    def text(self) -> str:
        """What is selected. Two matches of the same text write the same values."""
        if not self.is_checked:
            return ", ".join(self.values)
        return ", ".join(f"{value} AS {quote(name)}" for name, value in zip(self.columns, self.values, strict=True))

    def select(self, sql: str, settings: Mapping[str, str], *, rows: bool = True) -> str:
        """These columns of the statement, under its settings; without `rows`, what it would write, and no row."""
        alias = f" AS {_QUERY}" if self.is_checked else ""
        none = "" if rows else " WHERE 0"
        return with_settings(f"SELECT {self.text} FROM {subquery(sql)}{alias}{none}", settings)

    def insert(self, into: str, sql: str, settings: Mapping[str, str], *, rows: bool = True) -> str:
        """`into` is a table's quoted name."""
        return f"INSERT INTO {into} ({', '.join(map(quote, self.columns))}) {self.select(sql, settings, rows=rows)}"


def is_checked(text: str) -> bool:
    """Whether a match's `text` is more than names of columns."""
    return f"{_QUERY}." in text


async def matched(
    engine: Engine,
    sql: str,
    params: Mapping[str, ParamValue] | None = None,
    *,
    database: str,
    table: str,
    name: str,
    settings: Mapping[str, str],
) -> Match:
    """`name` is the table's name for people. The statement has been examined."""
    query = await described(engine, sql, params, database=database, settings=settings)
    columns = await engine.rows(
        "SELECT name, type, default_kind FROM system.columns "
        "WHERE database = {database:String} AND table = {table:String} ORDER BY position",
        {"database": database, "table": table},
    )
    return match(query, [(c["name"], c["type"], c["default_kind"]) for c in columns], name)


def match(query: Sequence[tuple[str, str]], table: Sequence[tuple[str, str, str]], name: str) -> Match:
    """`query`: name and type of each column. `table`: name, type and kind of default."""
    types = {column: (type, kind == _DEFAULT) for column, type, kind in table}
    given = dict(query)
    columns: list[str] = []
    values: list[str] = []
    narrowed: list[Narrowed] = []
    for column, source in given.items():
        if column not in types:
            continue
        target, has_default = types[column]
        plain = f"{_QUERY}.{quote(column)}"
        message = f"a value of '{column}' does not fit: in '{name}' it is {target}"
        found = conversion(source, target, plain, message[:400], null_is_default=has_default)
        columns.append(column)
        values.append(found.sql)
        if found.loses:
            narrowed.append(Narrowed(column, source, target, found.loses))
    if all(value == f"{_QUERY}.{quote(column)}" for column, value in zip(columns, values, strict=True)):
        values = [quote(column) for column in columns]
    return Match(
        tuple(columns),
        tuple(values),
        tuple(narrowed),
        tuple(column for column in given if column not in types),
        tuple((column, type) for column, type, _ in table if column not in given),
    )

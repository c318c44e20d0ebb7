"""The columns of a query against those of the table that it fills, as the engine describes both.

Every INSERT ... SELECT that Pipit makes (materialized views and their fills, copies, populates) selects through
`Match.select`: a value that its column cannot hold raises there, and is never cut (`convert.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from pipit.engine.client import Engine, ParamValue
from pipit.ingest.convert import conversion, type_of
from pipit.ingest.defaults import CheckedDefault, checked_defaults, columns_of, left_out, read_by_defaults
from pipit.ingest.types import strip
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
    """`columns` are those that both have, in the query's order, and those whose default is put in here; the rest of the
    query is dropped. `named`: what the values need more than once.

    `unknown`: of the query alone. `missing`: of the table alone, each with its type; they get their defaults.
    """

    columns: tuple[str, ...]
    values: tuple[str, ...]  # an expression for each
    narrowed: tuple[Narrowed, ...] = ()
    unknown: tuple[str, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    named: tuple[str, ...] = ()

    @property
    def is_checked(self) -> bool:
        return any(value != quote(name) for name, value in zip(self.columns, self.values, strict=True))

    @property
    def text(self) -> str:
        """What is selected. Two matches of the same text write the same values."""
        return f"{self._with}{self._list}"

    @property
    def _with(self) -> str:
        return f"WITH {', '.join(self.named)} SELECT " if self.named else ""

    @property
    def _list(self) -> str:
        if not self.is_checked:
            return ", ".join(self.values)
        return ", ".join(f"{value} AS {quote(name)}" for name, value in zip(self.columns, self.values, strict=True))

    def select(self, sql: str, settings: Mapping[str, str], *, rows: bool = True) -> str:
        """These columns of the statement, under its settings; without `rows`, what it would write, and no row."""
        alias = f" AS {_QUERY}" if self.is_checked else ""
        none = "" if rows else " WHERE 0"
        select = self._with or "SELECT "
        return with_settings(f"{select}{self._list} FROM {subquery(sql)}{alias}{none}", settings)

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
    hidden: Set[str] = frozenset(),
) -> Match:
    """`name` is the table's name for people, `hidden` are columns that count as not there. The statement has been
    examined."""
    query = await described(engine, sql, params, database=database, settings=settings)
    described_columns = await columns_of(engine, database, table)
    defaults = await checked_defaults(engine, database, table, described_columns)
    columns = [c for c in described_columns if c["name"] not in hidden]
    return match(
        query,
        [(c["name"], c["type"], c["default_kind"]) for c in columns],
        name,
        [d for d in defaults if d.column not in hidden],
        {c["name"]: c["default_expression"] for c in columns if c["default_kind"] == _DEFAULT},
    )


def match(
    query: Sequence[tuple[str, str]],
    table: Sequence[tuple[str, str, str]],
    name: str,
    defaults: Sequence[CheckedDefault] = (),
    expressions: Mapping[str, str] | None = None,
) -> Match:
    """`query`: name and type of each column. `table`: name, type and kind of default. `defaults`: those of the table
    that may not fit into their columns. `expressions`: all of its defaults.
    """
    types = {column: (type, kind == _DEFAULT) for column, type, kind in table}
    given = dict(query)
    checked = {d.column: d for d in defaults if d.column not in given or _gets_default(given[d.column], d.type)}
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
        value = found.sql
        if column in checked:
            value = f"assumeNotNull(if(isNull({plain}), {_checked(checked[column], name)}, {value}))"
        values.append(value)
        if found.loses:
            narrowed.append(Narrowed(column, source, target, found.loses))
    texts = expressions or {}
    for column in sorted((read_by_defaults(checked, texts, types) | checked.keys()) - given.keys()):
        columns.append(column)
        if column in checked:
            values.append(_checked(checked[column], name))
        else:
            values.append(left_out(types[column][0], texts.get(column)))
    if all(value == f"{_QUERY}.{quote(column)}" for column, value in zip(columns, values, strict=True)):
        values = [quote(column) for column in columns]
    return Match(
        tuple(columns),
        tuple(values),
        tuple(narrowed),
        tuple(column for column in given if column not in types),
        tuple((column, type) for column, type, _ in table if column not in given),
        tuple(d.named for d in checked.values()),
    )


def _gets_default(source: str, target: str) -> bool:
    """Whether the engine may put the column's default in the place of NULL."""
    return not strip(type_of(target))[1] and strip(type_of(source))[1]


def _checked(default: CheckedDefault, table: str) -> str:
    message = f"the DEFAULT of '{default.column}' does not fit: in '{table}' it is {default.type}"
    return conversion(default.source, default.type, default.alias, message[:400]).sql

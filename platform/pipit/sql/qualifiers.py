"""The names by which columns are qualified, once other tables stand in the uses of those that a text names.

To the engine a table answers to its alias and to its own name: `FROM people AS p` is asked for `p.id`, `people.id` and
`db.people.id` (measured on 26.9). Another table in its use has another name, so it needs the old one:
- without an alias, the old name becomes its alias;
- with an alias, and where the text does qualify by the old name, the old name becomes that of a CTE in front, whose
  alias stays: a CTE answers to both too, and columns of the answer are called as they would be. FINAL and SAMPLE move
  into it, where alone they are allowed. A query with PREWHERE reads no CTE: there the alias takes the old name's use
  before the columns, unless a column or another table has that name;
- `db.people.id` has no such way: it becomes `people.id`, or where the text has another table `people`,
  `` `db.people`.id ``, with a dotted name of its own for that table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from pipit.sql.identifiers import quote
from pipit.sql.lexer import LexerKind, Token, identifier_name
from pipit.sql.outline import SelectOutline, TableItem, Union

_Table = tuple[str | None, str]  # database (None: the home), name
_Edit = tuple[int, int, str]
_NAMES = (LexerKind.WORD, LexerKind.QUOTED_IDENTIFIER)


@dataclass(frozen=True, slots=True)
class TableReference:
    """`name` at [start, end) of the text. `kind`: "from" (FROM, JOIN) or "in" (a bare name after IN).

    `modifiers`: from where to where FINAL and SAMPLE stand behind it and its alias.
    """

    database: str | None
    name: str
    start: int
    end: int
    has_alias: bool
    kind: str
    modifiers: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class TableUse:
    """A reference, the query that it stands in, and the query whose WITH that one sees (its own, mostly)."""

    reference: TableReference
    alias: str | None
    query: SelectOutline
    giver: SelectOutline


@dataclass(frozen=True, slots=True)
class _Qualifier:
    """`name.` or `database.name.` before a column, at [start, end) without the last dot."""

    table: _Table
    start: int
    end: int
    whole: bool = False  # with its database


def substituted(
    sql: str,
    tokens: Sequence[Token],
    uses: Sequence[TableUse],
    replacements: Mapping[int, str | tuple[str, str]],
    *,
    home: str | None = None,
    columns: Set[str] = frozenset(),
) -> str:
    """The text with what `replacements` has for the start of each use. `home`: the database of bare names.
    `columns`: those of the tables, as far as they are known."""
    work = _Substitution(tokens, uses, home, columns)
    edits = work.qualifiers()
    for use in uses:
        edits += work.edits_of(sql, use, replacements[use.reference.start])
    return _edited(sql, edits + work.ctes())


class _Substitution:
    def __init__(
        self, tokens: Sequence[Token], uses: Sequence[TableUse], home: str | None, columns: Set[str]
    ) -> None:
        self._home = home
        self._sources = [use for use in uses if use.reference.kind == "from"]
        self._qualifiers = [replace(q, table=self._at_home(q.table)) for q in _qualifiers(tokens)]
        self._bare = {q.table[1] for q in self._qualifiers if not q.whole}
        self._whole = {q.table for q in self._qualifiers if q.whole}
        self._names = self._named()
        self._aliased = self._by_alias(columns)
        self._ctes: dict[int, tuple[bool, dict[str, str]]] = {}  # where: whether in a WITH that is there; name -> table

    def qualifiers(self) -> list[_Edit]:
        """`db.people.` becomes the table's one name; beside PREWHERE each name of a table becomes its alias."""
        called = {**self._names, **self._aliased}
        return [
            (q.start, q.end, quote(called[q.table]))
            for q in self._qualifiers
            if q.table in (called if q.whole else self._aliased)
        ]

    def edits_of(self, sql: str, use: TableUse, replacement: str | tuple[str, str]) -> list[_Edit]:
        reference = use.reference
        before, after = replacement if isinstance(replacement, tuple) else (replacement, "")
        if reference.kind != "from":
            return [(reference.start, reference.end, before + after)]
        name = self._name(use)
        behind = f" {sql[slice(*reference.modifiers)]}" if reference.modifiers else ""
        if self._needs_cte(use, name) and self._has_cte(use, name, before + behind + after):
            edits = [(reference.start, reference.end, quote(name))]
        else:
            behind = behind if isinstance(replacement, tuple) else ""
            alias = "" if reference.has_alias else f" AS {quote(name)}"
            edits = [(reference.start, reference.end, before + behind + after + alias)]
            if not behind:
                return edits
        return [*edits, (*reference.modifiers, "")] if reference.modifiers else edits

    def ctes(self) -> list[_Edit]:
        edits: list[_Edit] = []
        for at, (in_with, tables) in self._ctes.items():
            elements = ", ".join(f"{quote(name)} AS (SELECT * FROM {table})" for name, table in tables.items())
            edits.append((at, at, f"{elements}, " if in_with else f"WITH {elements} "))
        return edits

    def _at_home(self, table: _Table) -> _Table:
        return (None, table[1]) if table[0] == self._home else table

    def _table(self, use: TableUse) -> _Table:
        return self._at_home((use.reference.database, use.reference.name))

    def _name(self, use: TableUse) -> str:
        return self._names[self._table(use)]

    def _named(self) -> dict[_Table, str]:
        """What each table is called from now on: its name, or with the database where something else has that too."""
        names: dict[_Table, str] = {}
        at = {use.reference.start: self._table(use) for use in self._sources}
        for use in self._sources:
            table = self._table(use)
            database, name = use.reference.database, table[1]
            if database is not None and (table in self._whole or use.alias is None):
                reach = _items(use.query) if table in self._whole else use.query.tables
                others = (item for item in reach if at.get(item.start) != table)
                if any(name == item.alias or item.parts[-1:] == (name,) for item in others):
                    names[table] = f"{database}.{name}"
            names.setdefault(table, name)
        return names

    def _by_alias(self, columns: Set[str]) -> dict[_Table, str]:
        """Tables that are read with PREWHERE, under an alias, and asked by their own name, which nothing else has."""
        found: dict[_Table, str] = {}
        for use in self._sources:
            table, name = self._table(use), self._name(use)
            if not use.query.prewhere or use.alias is None or name in (use.alias, *columns, *use.query.aliases):
                continue
            others = [item for item in self._all_items() if item.start != use.reference.start]
            if not any(name == item.alias or item.parts[-1:] == (name,) for item in others):
                found[table] = use.alias
        return found

    def _all_items(self) -> Iterator[TableItem]:
        for use in self._sources:
            yield from _items(use.query)

    def _needs_cte(self, use: TableUse, name: str) -> bool:
        """Whether an alias cannot do it: there is one already, or another table of the query has the name too."""
        if use.query.prewhere or use.query.joined:
            return False
        same = [other for other in self._sources if other.query is use.query and other is not use]
        unaliased = {self._name(other) for other in same if other.alias is None}
        taken = unaliased | {item.alias for item in use.query.tables if item.start != use.reference.start}
        if use.alias is None:
            return name in taken
        asked = name in self._bare or self._table(use) in self._whole
        return asked and name != use.alias and name not in taken

    def _has_cte(self, use: TableUse, name: str, table: str) -> bool:
        """Whether the query can have this CTE: no other table of the same name stands in the same WITH."""
        in_with = use.giver.with_start >= 0
        at = use.giver.with_start if in_with else use.query.start
        if any(cte.name == name for cte in use.giver.ctes):
            return False
        return self._ctes.setdefault(at, (in_with, {}))[1].setdefault(name, table) == table


def _qualifiers(tokens: Sequence[Token]) -> Iterator[_Qualifier]:
    """Whatever looks like one, anywhere: a column's own dots too."""
    index = 0
    while index < len(tokens):
        end = index
        while tokens[end].kind in _NAMES and end + 2 < len(tokens) and tokens[end + 1].kind is LexerKind.DOT:
            end += 2
        names = [identifier_name(token) for token in tokens[index:end:2]]
        if names:
            yield _Qualifier((None, names[0]), tokens[index].start, tokens[index].end)
        if len(names) > 1:
            yield _Qualifier((names[0], names[1]), tokens[index].start, tokens[index + 2].end, whole=True)
        index = end + 1


def _items(query: SelectOutline) -> Iterator[TableItem]:
    """The tables of a query, and of what its expressions may use them in."""
    yield from query.tables
    pending: list[SelectOutline | Union] = list(query.nested)
    while pending:
        part = pending.pop()
        if isinstance(part, Union):
            pending.extend(part.parts)
        else:
            yield from _items(part)


def _edited(sql: str, edits: Sequence[_Edit]) -> str:
    pieces: list[str] = []
    position = 0
    for start, end, text in sorted(edits):
        pieces += [sql[position:start], text]
        position = end
    pieces.append(sql[position:])
    return "".join(pieces)

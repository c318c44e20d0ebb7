"""Which tables an SQL text names, by position, so that other names can take their uses.

Promises: what `find_tables` reports is at an exact use in the text, and CTEs, aliases and lambda names that
hide a table are not reported; `rename` replaces those uses and nothing else. What it never is: the check of
what a query reads. That is made on the engine's own tree (`sql.tree`), so a table missed here is an unknown
table there, and not a leak.

The engine's scoping, measured on ClickHouse 26.9 and followed here:
- the CTEs of one WITH see each other in any order, and not themselves: `WITH u AS (SELECT * FROM u)` reads
  the table u, or an outer CTE u. With RECURSIVE a CTE sees itself when its body is a UNION. `WITH expr AS u`
  names no table;
- names are case-sensitive; "u", `u` and even 'u' after FROM name the CTE u too; `db.u` never does;
- a CTE is seen in all of its query, subqueries too. In `WITH u AS (..) SELECT .. UNION .. SELECT ..` the
  first SELECT's CTEs are seen by the others (through brackets, in nested unions), except by those that have a
  WITH of their own. They do not leave a bracket that holds several SELECTs;
- a CTE's names are looked up where the CTE is used: in `WITH x AS (SELECT * FROM u) SELECT * FROM (WITH u AS (..)
  SELECT * FROM x)` x reads the inner u. This one is not followed: u in x is reported, and once renamed it is the
  table that its writer meant. So tables should always be renamed to full names, and prepended CTEs get names of
  their own;
- in a FROM, another item's alias hides tables and CTEs of that name (`FROM t AS u, u` reads t twice), not in
  subqueries;
- after IN, `u` is first an alias of an expression, a lambda's name or an item of FROM, then a column, then a
  CTE, then a table. Columns are not known here: such a name is reported (kind "in"), and the caller decides
  by its catalog.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from pipit.errors import Reason, SqlError
from pipit.sql.identifiers import quote
from pipit.sql.lexer import LexerKind, string_value
from pipit.sql.outline import Clause, Outline, SelectOutline, TableItem, Union, all_tables
from pipit.sql.qualifiers import TableReference as TableReference
from pipit.sql.qualifiers import TableUse, substituted
from pipit.sql.scanner import outline


@dataclass(frozen=True, slots=True)
class TableFunctionReference:
    name: str
    start: int
    end: int


def find_tables(sql: str) -> tuple[TableReference, ...]:
    """The tables that the text names, in the order of the text."""
    return tuple(use.reference for use in _uses(outline(sql)))


def first_table(sql: str) -> TableReference | None:
    """The left-most table of the FROM, through subqueries and CTEs: the one whose rows the query goes along."""
    shape = outline(sql)
    tables = {use.reference.start: use.reference for use in _uses(shape)}
    ctes: dict[str, Union] = {}
    part: SelectOutline | Union | None = shape.union
    while part is not None:
        if isinstance(part, Union):
            part = part.parts[0] if part.parts else None
            continue
        ctes.update((cte.name, cte.body) for cte in part.ctes)
        item = part.tables[0] if part.tables else None
        if item is not None and item.start in tables:
            return tables[item.start]
        # Each is followed once: a CTE that names itself means what stands outside of it.
        part = (item.body or ctes.pop(item.parts[-1] if item.parts else "", None)) if item else None
    return None


def find_table_functions(sql: str) -> tuple[TableFunctionReference, ...]:
    """The table functions called after FROM and JOIN; start and end enclose the call."""
    found = [
        TableFunctionReference(item.parts[-1], item.start, item.end)
        for item in all_tables(outline(sql).union)
        if item.kind == "function"
    ]
    return tuple(sorted(found, key=lambda reference: reference.start))


def rename(
    sql: str,
    replacements: Mapping[int, str | tuple[str, str]],
    *,
    home: str | None = None,
    columns: Set[str] = frozenset(),
) -> str:
    """The text with each reference that starts at a key replaced. A key that is no reference's start is an error.
    `home` is the database that bare names are in, `columns` are those of the tables, as far as they are known.

    Columns may go on to be qualified by the table's own name, as the engine has it, beside an alias too: what
    stands for it is decided in `sql.qualifiers`. Of a pair, what comes behind the table (FINAL, SAMPLE) moves between
    its two halves.
    """
    if not replacements:
        return sql
    shape = outline(sql)
    found = {use.reference.start: use for use in _uses(shape)}
    chosen = [found[start] for start in sorted(replacements)]
    return substituted(sql, shape.tokens, chosen, replacements, home=home, columns=columns)


def with_ctes(sql: str, ctes: Sequence[tuple[str, str]]) -> str:
    """`sql` with the CTEs before its own, seen by every branch of its UNIONs, INTERSECTs and EXCEPTs.

    The names must not be CTE names of the text itself: the engine refuses a name twice in one WITH. Bodies
    are SELECT texts; each stands on lines of its own, so that a trailing `--` comment in it ends.
    """
    if not ctes:
        return sql
    elements = ",\n".join(f"{quote(name)} AS (\n{body}\n)" for name, body in ctes)
    shape = outline(sql)
    if any(isinstance(part, Union) and _has_with(part) for part in shape.union.parts):
        return f"WITH {elements}\nSELECT * FROM (\n{sql}\n)"
    inserts: list[tuple[int, str]] = []
    _insert_ctes(shape.union, False, elements, inserts)
    pieces: list[str] = []
    position = 0
    for offset, text in sorted(inserts):
        pieces += [sql[position:offset], text]
        position = offset
    pieces.append(sql[position:])
    return "".join(pieces)


def single_statement(sql: str) -> str:
    """The text without trailing semicolons.

    SqlError when it holds more than one statement, none, or no SELECT.
    """
    shape = outline(sql)
    tokens = shape.tokens
    end = len(tokens)
    while end and tokens[end - 1].kind is LexerKind.SEMICOLON:
        end -= 1
    if end == 0:
        raise SqlError("The SQL text is empty.", reason=Reason.SQL_INVALID)
    for token in tokens[:end]:
        if token.kind is LexerKind.SEMICOLON:
            raise SqlError(
                "Only one statement is allowed: there is text after a semicolon.", reason=Reason.NOT_ONE_SELECT
            )
    if shape.parallel:
        raise SqlError("Only one statement is allowed: PARALLEL WITH is not.", reason=Reason.NOT_ONE_SELECT)
    first = next((token for token in tokens if token.text != "("), tokens[0])
    if first.kind is not LexerKind.WORD or first.text.upper() not in ("SELECT", "WITH", "FROM"):
        raise SqlError(
            "Only SELECT statements are allowed.", hint="Start with SELECT or WITH.", reason=Reason.NOT_ONE_SELECT
        )
    return sql if end == len(tokens) else sql[: tokens[end].start] + sql[tokens[-1].end :]


def trailing_clauses(sql: str) -> tuple[Clause, ...]:
    """The FORMAT, SETTINGS and INTO OUTFILE clauses at the top level (kind: format, settings, into)."""
    return tuple(clause for clause in outline(sql).clauses if clause.depth == 0)


def inner_settings(sql: str) -> tuple[Clause, ...]:
    """SETTINGS, FORMAT and INTO OUTFILE inside of subqueries, CTEs and brackets."""
    return tuple(clause for clause in outline(sql).clauses if clause.depth > 0)


def strip_settings(sql: str) -> tuple[str, dict[str, str]]:
    """The text without its top-level SETTINGS, and these: name -> value (of strings without the quotes).

    SqlError when a value is not a literal. Whether a setting is allowed is for the caller (`sql.allowed`).
    """
    settings: dict[str, str] = {}
    pieces: list[str] = []
    position = 0
    for clause in trailing_clauses(sql):
        if clause.kind != "settings":
            continue
        for setting in clause.settings:
            settings[setting.name] = _plain_value(setting.value)
        pieces.append(sql[position : clause.start].rstrip(" \t"))
        position = clause.end
    pieces.append(sql[position:])
    return "".join(pieces), settings


_Names = frozenset[str]


def _uses(shape: Outline) -> list[TableUse]:
    found: list[TableUse] = []
    _union(shape.union, frozenset(), frozenset(), found)
    return sorted(found, key=lambda use: use.reference.start)


def _union(
    union: Union,
    scope: _Names,
    hidden: _Names,
    found: list[TableUse],
    passed: tuple[_Names, SelectOutline] | None = None,
) -> None:
    """`scope`: the CTEs that are seen. `hidden`: aliases that come before tables after IN.

    `passed`: what an outer union's first SELECT hands on, and that SELECT; it goes before what this one's first would.
    """
    first = union.parts[0] if union.parts else None
    if passed is None and isinstance(first, SelectOutline) and first.with_start >= 0:
        passed = frozenset(cte.name for cte in first.ctes), first
    for part in union.parts:
        if isinstance(part, Union):
            _union(part, scope, hidden, found, passed)
        elif part.with_start >= 0 or passed is None:
            _query(part, part, scope, hidden, found)
        else:
            _query(part, passed[1], scope | passed[0], hidden, found)


def _query(query: SelectOutline, giver: SelectOutline, outer: _Names, hidden: _Names, found: list[TableUse]) -> None:
    """`giver`: the SELECT whose WITH this one sees; itself, unless it has none and another one hands its own on."""
    scope = outer | {cte.name for cte in query.ctes}
    hidden = hidden | query.aliases
    for cte in query.ctes:
        sees_itself = cte.name in outer or (query.recursive and len(cte.body.parts) > 1)
        _union(cte.body, scope if sees_itself else scope - {cte.name}, hidden, found)
    aliases = {
        item.alias
        for item in query.tables
        if item.alias is not None and not (item.kind == "from" and item.parts == (item.alias,))
    }
    for item in query.tables:
        if item.body is not None:
            _union(item.body, scope, hidden, found)
        elif item.kind == "from":
            _report(item, query, giver, scope | aliases, found)
    for item in query.members:
        _report(item, query, giver, scope | aliases | hidden, found)
    for body in query.nested:
        _union(body, scope, hidden, found)


def _report(
    item: TableItem, query: SelectOutline, giver: SelectOutline, not_tables: _Names, found: list[TableUse]
) -> None:
    if len(item.parts) == 1 and item.parts[0] not in not_tables:
        database, name = None, item.parts[0]
    elif len(item.parts) == 2:
        database, name = item.parts
    else:
        return
    reference = TableReference(database, name, item.start, item.end, item.alias is not None, item.kind, item.modifiers)
    found.append(TableUse(reference, item.alias, query, giver))


def _insert_ctes(union: Union, covered: bool, elements: str, inserts: list[tuple[int, str]]) -> None:
    """A union's first SELECT hands its CTEs on, not to one with its own WITH, and not out of brackets."""
    first_hands_on = bool(union.parts) and isinstance(union.parts[0], SelectOutline)
    for index, part in enumerate(union.parts):
        if isinstance(part, Union):
            _insert_ctes(part, covered or (index > 0 and first_hands_on), elements, inserts)
        elif part.with_start >= 0:
            inserts.append((part.with_start, elements + ",\n"))
        elif not covered and (index == 0 or not first_hands_on):
            inserts.append((part.start, f"WITH {elements}\n"))


def _has_with(union: Union) -> bool:
    """Such a union in brackets would no longer hand on its own CTEs when an outer SELECT gets some."""
    return any(_has_with(part) if isinstance(part, Union) else part.with_start >= 0 for part in union.parts)


def _plain_value(text: str) -> str:
    if text[:1] == "'":
        return string_value(text)
    if text[:1] in '{[("`$' or "(" in text:
        raise SqlError("The value of a setting must be a number, a word or a string.", reason=Reason.SQL_INVALID)
    return text

"""What a tenant may write itself: one SELECT over named tables, everything in it allowed by list.

Stricter than what `tree.check_reads` asks of a project's pipes, because here the attacker chooses the text. Two checks,
both needed: `check_tenant_text` looks at the tokens (what no tree shows), `check_tenant_trees` at the engine's own two
trees (`sql/tree.py`). Both raise SqlError; its message is for the server's log, a tenant is told only that the query
is refused.

Allowed are functions and table functions that the reviewed lists allow for tenants (`sql/allowed.py`); columns that
the data source declares, and so no virtual column, which tell of parts and of other rows; no SETTINGS, FORMAT or
INTO OUTFILE at any depth, no PREWHERE, SAMPLE, EXPLAIN or parameter. A state of an aggregate function can only be read
from a column or computed: one made of bytes that a tenant chose would be taken for the engine's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pipit.errors import SqlError
from pipit.sql.allowed import TENANT_TABLE_FUNCTIONS, function_verdict
from pipit.sql.barrier import BARRIER_FUNCTIONS
from pipit.sql.lexer import LexerKind, Token, identifier_name, tokenize
from pipit.sql.outline import Outline, SelectOutline, Union
from pipit.sql.scanner import outline
from pipit.sql.tree import TreeNode, descendants, parse_query_tree, query_tree

MAX_TABLES = 16
_NAME = re.compile(r"[^\W\d][\w .:/%+-]*", re.UNICODE)  # of a quoted identifier: no quotes, commas, brackets
# A column of such a name is written in backticks.
_REFUSED_WORDS = frozenset(
    {"PREWHERE", "SAMPLE", "SETTINGS", "OUTFILE", "EXPLAIN", "DESCRIBE", "PARALLEL"}
)
_WHITE = frozenset(" \t\r\n")
_RESULTS_IN_STATE = re.compile(r".*, function_type: ordinary, result_type: .*AggregateFunction\(")
_FUNCTION = re.compile(r"(?:.*, )?function_name: ([A-Za-z0-9_]+),")
_COLUMN = re.compile(r"(?:.*, )?column_name: (.*), result_type: .*, source_id: (\d+)\Z")
_TABLE = re.compile(r"(?:.*, )?table_name: ([A-Za-z0-9_.]+)(?:,.*)?\Z")


def check_tenant_text(sql: str) -> None:
    """On the tokens, before anything else reads the text. `sql` has lost its FORMAT clause."""
    for token in tokenize(sql):
        _check_token(token)
    shape = outline(sql)
    for function in shape.functions:
        if (name := identifier_name(function)) in BARRIER_FUNCTIONS:
            raise SqlError(f"The function {name} is not for tenants: {function_verdict(name, tenant=True)}")
    if shape.clauses:
        raise SqlError("SETTINGS, FORMAT and INTO OUTFILE are not for tenants")
    if sum(1 for _ in _items(shape)) > MAX_TABLES:
        raise SqlError(f"It reads tables in more than {MAX_TABLES} places")


def has_final(sql: str) -> bool:
    """Whether FINAL may stand in the text; rather once too often (an alias of that name) than missed."""
    return any(t.kind is LexerKind.WORD and t.text.upper() == "FINAL" for t in tokenize(sql))


def check_tenant_trees(
    raw: str, resolved: str, columns: Mapping[str, frozenset[str]], of_barriers: frozenset[str] = frozenset()
) -> None:
    """On the engine's trees of the very statement that will run. `columns`: of each table that it may read.

    `of_barriers`: functions that stand in it because a table stands behind a barrier. `check_tenant_text` has refused
    them in the tenant's own SQL.
    """
    both = parse_query_tree(raw).merged(parse_query_tree(resolved))
    if both.unknown:
        raise SqlError(f"It cannot be examined: {both.unknown[0]}")
    if both.settings:
        raise SqlError("It has SETTINGS")
    for table in sorted(both.tables - {"system.one"} - columns.keys()):
        raise SqlError(f"It reads {table}")
    for name in sorted(both.table_functions - TENANT_TABLE_FUNCTIONS):
        raise SqlError(f"The table function {name} is not for tenants")
    for name in sorted(both.functions - of_barriers):
        if why := function_verdict(name, tenant=True):
            raise SqlError(f"The function {name} is not for tenants: {why}")
    tree = query_tree(resolved)
    if tree is None:
        raise SqlError("It cannot be examined")
    _check_nodes(list(descendants(tree)), columns)


def _check_token(token: Token) -> None:
    kind, text = token.kind, token.text
    if kind is LexerKind.PARAMETER or text in ("{", "}"):
        raise SqlError("It has a parameter")
    if kind is LexerKind.SEMICOLON:
        raise SqlError("It has a ';'")
    if kind is LexerKind.ERROR or (kind is LexerKind.WHITESPACE and not _WHITE.issuperset(text)):
        raise SqlError("It has a character that is not SQL's")
    if kind is LexerKind.WORD and text.upper() in _REFUSED_WORDS:
        raise SqlError(f"It has {text}")
    if kind is LexerKind.QUOTED_IDENTIFIER and not _NAME.fullmatch(identifier_name(token)):
        raise SqlError("It has an odd name")
    if kind is LexerKind.OPERATOR and text in ("@@", "@", "|>", "\\G", "$"):
        raise SqlError(f"It has {text}")


def _items(shape: Outline) -> Iterator[object]:
    """Each place that reads a table, a table function or a subquery."""
    pending: list[SelectOutline | Union] = [shape.union]
    while pending:
        part = pending.pop()
        if isinstance(part, Union):
            pending.extend(part.parts)
            continue
        pending.extend(cte.body for cte in part.ctes)
        pending.extend(part.nested)
        for item in (*part.tables, *part.members):
            yield item
            if item.body is not None:
                pending.append(item.body)


def _check_nodes(nodes: list[TreeNode], columns: Mapping[str, frozenset[str]]) -> None:
    tables: dict[str, str] = {}
    for node in nodes:
        if node.is_node and node.name == "TABLE" and (found := _TABLE.match(node.attributes)):
            tables[node.id] = found[1]
    for node in nodes:
        if not node.is_node:
            continue
        if node.name == "FUNCTION" and _RESULTS_IN_STATE.match(f", {node.attributes}"):
            name = _FUNCTION.match(node.attributes)
            raise SqlError(f"The function {name[1] if name else '?'} makes a state of an aggregate function")
        if node.name == "CONSTANT" and "AggregateFunction" in node.attributes:
            raise SqlError("It has a constant state of an aggregate function")
        if node.name == "COLUMN":
            found = _COLUMN.match(node.attributes)
            if found is None or f", {node.attributes}".count(", column_name: ") != 1:
                raise SqlError("A column of it cannot be told")
            table = tables.get(found[2])
            if table is not None and table != "system.one" and not _declared(found[1], columns[table]):
                raise SqlError(f"The column {found[1]} is not declared")


def _declared(column: str, declared: frozenset[str]) -> bool:
    """A column, or a part of one: `tags.size0`, `name.null`, `map.keys`."""
    pieces = column.split(".")
    return any(".".join(pieces[:length]) in declared for length in range(1, len(pieces) + 1))

"""Column lineage: whether a view or copy keeps the column that a policy compares, so that rows stay their tenant's.

Read from the SQL's text, so that a deploy can ask without a query, and narrowly: one SELECT from one data source, or
from one node that is such a SELECT, in which the column stands as it is and, where rows are aggregated, in the GROUP
BY. A constant or an aggregate in its place mixes tenants. Everything else cannot be told here: the certificate keeps a
digest of it, and the proof tries it with rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum

from pipit.audit.tenancy import columns_of_keys
from pipit.catalog.lineage import nodes_read
from pipit.catalog.snapshot import CompiledNode, CompiledPipe, NodeTarget, Snapshot, Table, TableTarget
from pipit.datafiles.resources import NodeType
from pipit.sql.allowed import AGGREGATE_FUNCTIONS, COMBINATORS
from pipit.sql.lexer import LexerKind, Token, identifier_name, significant, tokenize
from pipit.sql.references import TableReference, find_tables

_NAMES = (LexerKind.WORD, LexerKind.QUOTED_IDENTIFIER)
_CLAUSES = ("FROM", "PREWHERE", "WHERE", "GROUP", "HAVING", "ORDER", "SETTINGS", "FORMAT")
# What makes more of a SELECT than this reads.
_BEYOND = frozenset(
    {"UNION", "EXCEPT", "INTERSECT", "WITH", "JOIN", "ARRAY", "OVER", "LIMIT", "OFFSET", "QUALIFY", "FINAL", "SAMPLE"}
)
_ENDS = (*_NAMES, LexerKind.STRING, LexerKind.NUMBER, LexerKind.CLOSE)  # of an expression
# Words that a column may follow; after any other one it may be an alias.
_BEFORE_A_COLUMN = frozenset(
    {"SELECT", "DISTINCT", "PREWHERE", "WHERE", "BY", "HAVING", "AND", "OR", "NOT", "IN", "LIKE", "ILIKE", "BETWEEN"}
    | {"CASE", "WHEN", "THEN", "ELSE"}
)
_AGGREGATES = frozenset(name.lower() for name in AGGREGATE_FUNCTIONS)


class Carry(StrEnum):
    CARRIED = "carried"
    MIXED = "mixed"
    UNKNOWN = "unknown"


def has_policy(table: Table) -> bool:
    return table.policy is not None


def fillers(
    snapshot: Snapshot, table: Table, of_tenants: Callable[[Table], bool] = has_policy
) -> Iterator[tuple[CompiledPipe, CompiledNode]]:
    """The views and copies that fill a table with tenants' rows: those of tables with a policy, by default."""
    for pipe in snapshot.pipes.values():
        for node in pipe.nodes.values():
            targets = {
                NodeType.MATERIALIZED: node.node.datasource,
                NodeType.COPY: node.node.target_datasource,
            }
            if targets.get(node.node.type) == table.name and _reads(snapshot, pipe, node, of_tenants):
                yield pipe, node


def carry(
    snapshot: Snapshot, table: Table, pipe: CompiledPipe, node: CompiledNode, column: str, *, name: str = ""
) -> Carry:
    """What the node does with the column of its target `table` that a policy compares; `name`: as it is called here."""
    name = name or column
    if node.template is not None:
        return Carry.UNKNOWN
    tokens = significant(tokenize(node.node.sql))
    words = [t.text.upper() for t in tokens if t.kind is LexerKind.WORD]
    if words.count("SELECT") != 1 or words[0] != "SELECT":
        return Carry.UNKNOWN
    clauses = _clauses(tokens[1:])
    item = next((found for found in _items(clauses["SELECT"]) if found[0] == name), None)
    grouped = "GROUP" in clauses or any(_aggregates(expression) for _, expression in _items(clauses["SELECT"]))
    if item is None:
        whole = _is_star(clauses["SELECT"]) and not grouped and not set(words) & _BEYOND
        return _source(snapshot, table, pipe, node, column, name) if whole else Carry.UNKNOWN
    _, expression = item
    if _aggregates(expression) or not any(token.kind in _NAMES for token in expression):
        return Carry.MIXED
    if set(words) & _BEYOND:
        return Carry.UNKNOWN
    own = _column(expression)
    if not own or _is_alias(tokens, own):
        return Carry.UNKNOWN
    if grouped and not _is_key(clauses.get("GROUP", []), {name, own}, _place(clauses["SELECT"], name)):
        return Carry.MIXED
    return _source(snapshot, table, pipe, node, column, own)


def filled_by(snapshot: Snapshot, table: Table) -> dict[str, str]:
    """For a certificate: each view or copy that fills the table -> that it carries the policy's columns, or a digest
    of its text."""
    if table.policy is None:
        return {}
    columns = sorted(table.policy.columns)
    return {
        f"{pipe.name}.{node.name}": str(Carry.CARRIED)
        if all(carry(snapshot, table, pipe, node, column) is Carry.CARRIED for column in columns)
        else _digest(snapshot, pipe, node)
        for pipe, node in fillers(snapshot, table)
    }


def _source(
    snapshot: Snapshot, table: Table, pipe: CompiledPipe, node: CompiledNode, column: str, name: str
) -> Carry:
    """Whether the one thing in FROM has under that name what the table's policy compares its column with."""
    sources = [snapshot.resolve(reference, pipe) for reference in _from(node)]
    if len(sources) != 1:
        return Carry.UNKNOWN
    (source,) = sources
    if isinstance(source, TableTarget):
        of_source = frozenset() if source.quarantine else _keys(source.table, name)
        of_target = _keys(table, column)
        return Carry.CARRIED if of_target and of_target <= of_source else Carry.UNKNOWN
    if isinstance(source, NodeTarget):
        return carry(snapshot, table, source.pipe, source.node, column, name=name)
    return Carry.UNKNOWN


def _keys(table: Table, column: str) -> frozenset[str]:
    """The keys of the context that the table's policy compares the column with."""
    if table.policy is None:
        return frozenset()
    return frozenset(key for key, columns in columns_of_keys(table.policy).items() if column in columns)


def _from(node: CompiledNode) -> list[TableReference]:
    return list(find_tables(node.node.sql))


def _reads(
    snapshot: Snapshot, pipe: CompiledPipe, node: CompiledNode, of_tenants: Callable[[Table], bool]
) -> bool:
    for owner, current in nodes_read(snapshot, pipe, node):
        if current.template is not None:
            return True  # what it reads depends on a value
        for reference in _from(current):
            target = snapshot.resolve(reference, owner)
            if isinstance(target, TableTarget):
                source = target.table
                if any(t is not None and of_tenants(t) for t in (source, *_above(snapshot, source))):
                    return True
    return False


def _above(snapshot: Snapshot, table: Table) -> Iterator[Table | None]:
    return (snapshot.tables.get(name) for name in table.sources)


def _clauses(tokens: Sequence[Token]) -> dict[str, list[Token]]:
    """The tokens of each clause, by its first word, outside of brackets."""
    found: dict[str, list[Token]] = {"SELECT": []}
    current, depth = "SELECT", 0
    for token in tokens:
        depth -= token.kind is LexerKind.CLOSE
        word = token.text.upper() if token.kind is LexerKind.WORD and depth == 0 else ""
        if word in _CLAUSES and not (word == "GROUP" and current == "GROUP"):
            current = word
            found[current] = []
        elif not (word == "BY" and not found[current]):
            found[current].append(token)
        depth += token.kind is LexerKind.OPEN
    return found


def _items(tokens: Sequence[Token]) -> list[tuple[str, list[Token]]]:
    """Name and expression of each thing selected."""
    items: list[list[Token]] = [[]]
    depth = 0
    for index, token in enumerate(tokens):
        depth -= token.kind is LexerKind.CLOSE
        if token.kind is LexerKind.COMMA and depth == 0:
            items.append([])
        elif not (index == 0 and token.text.upper() == "DISTINCT"):
            items[-1].append(token)
        depth += token.kind is LexerKind.OPEN
    return [(_name(item), _without_alias(item)) for item in items if item]


def _name(item: Sequence[Token]) -> str:
    return identifier_name(item[-1]) if item[-1].kind in _NAMES else ""


def _without_alias(item: list[Token]) -> list[Token]:
    if len(item) > 2 and item[-2].text.upper() == "AS":
        return item[:-2]
    if len(item) > 1 and item[-1].kind in _NAMES and item[-2].kind in (*_NAMES, LexerKind.CLOSE, LexerKind.STRING):
        return item[:-1]
    return item


def _column(expression: Sequence[Token]) -> str:
    """Of `name` or `table.name`, the name."""
    kinds = [token.kind for token in expression]
    named = len(kinds) in (1, 3) and kinds[0] in _NAMES and kinds[-1] in _NAMES
    if not named or (len(kinds) == 3 and kinds[1] is not LexerKind.DOT):
        return ""
    return identifier_name(expression[-1])


def _is_alias(tokens: Sequence[Token], name: str) -> bool:
    """Whether the name is given to something else: `WHERE (team AS name) != ''` hides the column of that name."""
    for index, token in enumerate(tokens):
        if index and token.kind in _NAMES and identifier_name(token) == name:
            before = tokens[index - 1]
            if before.text.upper() == "AS":
                meant = tokens[index - 2]
                if not (meant.kind in _NAMES and identifier_name(meant) == name):
                    return True
            elif before.kind in _ENDS and before.text.upper() not in _BEFORE_A_COLUMN:
                return True
    return False


def _place(tokens: Sequence[Token], name: str) -> int:
    return next(number for number, (own, _) in enumerate(_items(tokens), 1) if own == name)


def _is_key(tokens: Sequence[Token], names: set[str], place: int) -> bool:
    keys = [expression for _, expression in _items(tokens)]
    if any(token.text.upper() in ("ROLLUP", "CUBE", "TOTALS", "SETS") for token in tokens):
        return False
    if [token.text.upper() for token in tokens] == ["ALL"]:
        return True
    return any(_column(key) in names or [token.text for token in key] == [str(place)] for key in keys)


def _aggregates(expression: Sequence[Token]) -> bool:
    for index, token in enumerate(expression[:-1]):
        if token.kind in _NAMES and expression[index + 1].text == "(" and _is_aggregate(identifier_name(token)):
            return True
    return False


def _is_aggregate(name: str) -> bool:
    while name.lower() not in _AGGREGATES:
        ending = next((c for c in COMBINATORS if name.endswith(c) and name != c), "")
        if not ending:
            return False
        name = name.removesuffix(ending)
    return True


def _is_star(tokens: Sequence[Token]) -> bool:
    return [token.text for token in tokens if token.text.upper() != "DISTINCT"] == ["*"]


def _digest(snapshot: Snapshot, pipe: CompiledPipe, node: CompiledNode) -> str:
    """Of the text of the node and of those that it reads, white space and comments aside."""
    texts = [
        f"{owner.name}.{current.name}: {' '.join(t.text for t in significant(tokenize(current.node.sql)))}"
        for owner, current in nodes_read(snapshot, pipe, node)
    ]
    return f"sha256:{hashlib.sha256(chr(10).join(sorted(texts)).encode()).hexdigest()[:16]}"

"""Of which columns of which tables a query's columns are made, read from the engine's resolved tree.

For what writes a query's rows: a view, a copy. A column of the result is `clean` where its value is a function of its
sources and of nothing else. It is not where a row's value may come from anywhere else: a constant, an aggregate over
other rows, a window, a subquery, a dictionary, chance, the defaults of an outer join. What is not understood is never
clean. One read of a table is one source, so two reads of the same table are told apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeVar

from pipit.sql.tree import (
    TreeNode,
    arguments_of,
    attribute_of,
    below,
    descendants,
    function_of,
    output_lines,
    query_tree,
)

T = TypeVar("T")

_MOST_WAYS = 64  # of rows through unions and joins of unions
_COLUMN = re.compile(r"(?:alias: .*, )?column_name: (?P<name>.*), result_type: .*, source_id: (?P<source>\d+)")
_ROLLS_UP = re.compile(r"is_group_by_with_(?:rollup|cube|grouping_sets): 1|group_by_type: (?!ordinary)\w+")
# Rows of an array, each of them made of the array.
_ROWS_OF_ITS_ARGUMENT = "arrayJoin"

# One read of a table: where in the tree, and `database.table`; and a column of it as the tree prints it.
Read = tuple[tuple[str, ...], str]
SourceColumn = tuple[Read, str]


@dataclass(frozen=True, slots=True)
class ColumnOrigin:
    """What one column is made of. `why` says what makes it not clean."""

    sources: frozenset[SourceColumn] = frozenset()
    why: str = ""

    @property
    def clean(self) -> bool:
        return not self.why and bool(self.sources)


@dataclass(frozen=True, slots=True)
class Way:
    """One way on which rows come into the result. `first` is the read that stands left of all joins, whose inserted
    rows fire a view; `reads` are all reads that are joined. A union has several ways."""

    first: Read | None
    reads: frozenset[Read]
    columns: tuple[ColumnOrigin, ...]


@dataclass(frozen=True, slots=True)
class Origins:
    ways: tuple[Way, ...]
    names: tuple[str, ...]  # of the columns, with their types behind: `customer_id String`

    def at(self, name: str) -> int | None:
        """The position of the column of this name; None where there is none, or more than one could be meant."""
        found = [place for place, text in enumerate(self.names) if text.startswith(f"{name} ")]
        return found[0] if len(found) == 1 else None


def origins_of(resolved: str, deterministic: frozenset[str]) -> Origins | None:
    """`resolved` is of a text that `precheck.check_text` let pass; None where the tree is not understood.

    `deterministic`: the engine's functions whose result depends on their arguments alone.
    """
    tree = query_tree(resolved)
    if tree is None:
        return None
    lines = resolved.split("\n")
    try:
        ways = _Walk(deterministic, lines).relation(tree, ())
    except _TooMany:
        return None
    return Origins(tuple(ways), tuple(output_lines(tree, lines)))


class _TooMany(Exception):
    pass


@dataclass(frozen=True, slots=True)
class _Source:
    """Something in a FROM, on one way: a table, or a query with its own ways. `absent`: an outer join makes rows
    without it."""

    node: TreeNode
    way: Way | None
    path: tuple[str, ...]
    names: tuple[str, ...]
    absent: bool = False

    @property
    def reads(self) -> frozenset[Read]:
        if self.way is not None:
            return self.way.reads
        if self.node.name == "TABLE":
            return frozenset({(self.path, attribute_of(self.node, "table_name"))})
        return frozenset()

    def column(self, name: str) -> ColumnOrigin:
        if self.absent:
            return replace(self._column(name), why="an outer join makes rows without it")
        return self._column(name)

    def _column(self, name: str) -> ColumnOrigin:
        if self.node.name == "TABLE":
            return ColumnOrigin(frozenset({((self.path, attribute_of(self.node, "table_name")), name)}))
        if self.way is None:
            return ColumnOrigin(why="it does not come from a table")
        # A subcolumn (`t.x`) is named after its column.
        found = [i for i, text in enumerate(self.names) if text.startswith(f"{name} ")]
        if len(found) != 1 or found[0] >= len(self.way.columns):
            return ColumnOrigin(frozenset(p for o in self.way.columns for p in o.sources), "its column is not clear")
        return self.way.columns[found[0]]


class _Walk:
    def __init__(self, deterministic: frozenset[str], lines: Sequence[str]) -> None:
        self.deterministic = deterministic
        self.lines = lines

    def relation(self, node: TreeNode, path: tuple[str, ...]) -> list[Way]:
        if node.name != "UNION":
            return self.query(node, path)
        arms = [n for n in below(node, "QUERIES") if n.name in ("QUERY", "UNION")]
        return _few([way for number, arm in enumerate(arms) for way in self.relation(arm, (*path, f"arm {number}"))])

    def query(self, node: TreeNode, path: tuple[str, ...]) -> list[Way]:
        roots = below(node, "JOIN TREE")
        projection = below(node, "PROJECTION")
        why = _rows_of_its_own(node)
        ways: list[Way] = []
        for sources in self.sources(roots[0], path) if len(roots) == 1 else [()]:
            by_id: dict[str, _Source] = {}
            for source in sources:
                # The engine gives each use of a CTE an id of its own. Two of one id could not be told apart.
                by_id[source.node.id] = replace(source, absent=True) if source.node.id in by_id else source
            first = sources[0] if sources else None
            columns = tuple(self.expression(item, by_id) for item in projection)
            if why:
                columns = tuple(replace(column, why=why) for column in columns)
            reads = frozenset[Read]().union(*(source.reads for source in sources))
            ways.append(Way(_first(first), reads, columns))
        return _few(ways)

    def sources(self, node: TreeNode, path: tuple[str, ...]) -> list[tuple[_Source, ...]]:
        """What stands in a FROM, from left to right, once for each way that its unions have."""
        if node.name == "JOIN":
            kind = attribute_of(node, "kind")
            left = self.sources_of(below(node, "LEFT TABLE EXPRESSION"), path)
            right = self.sources_of(below(node, "RIGHT TABLE EXPRESSION"), path)
            if kind not in ("INNER", "LEFT", "CROSS", "COMMA"):
                left = [_absent(sources) for sources in left]
            if kind not in ("INNER", "RIGHT", "CROSS", "COMMA"):
                right = [_absent(sources) for sources in right]
            return _few([(*one, *other) for one, other in product(left, right)])
        if node.name == "CROSS JOIN":
            parts = [self.sources(one, path) for one in below(node, "TABLE EXPRESSION")]
            return _few([tuple(s for part in chosen for s in part) for chosen in product(*parts)])
        if node.name == "ARRAY_JOIN":
            inner = self.sources_of(below(node, "TABLE EXPRESSION"), path)
            return [(*sources, _Source(node, None, path, ())) for sources in inner]
        here = (*path, node.id)
        if node.name in ("QUERY", "UNION"):
            names = tuple(output_lines(node, self.lines))
            return [(_Source(node, way, here, names),) for way in self.relation(node, here)]
        return [(_Source(node, None, here, ()),)]

    def sources_of(self, nodes: list[TreeNode], path: tuple[str, ...]) -> list[tuple[_Source, ...]]:
        return self.sources(nodes[0], path) if len(nodes) == 1 else [()]

    def expression(self, node: TreeNode, by_id: Mapping[str, _Source]) -> ColumnOrigin:
        sources: set[SourceColumn] = set()
        why = ""
        for one in _parts(node):
            found = ColumnOrigin()
            if one.name == "COLUMN":
                found = self.column(one, by_id)
            elif one.name == "FUNCTION":
                name = function_of(one)
                ordinary = attribute_of(one, "function_type") == "ordinary"
                if not ordinary or name not in self.deterministic | {_ROWS_OF_ITS_ARGUMENT}:
                    found = ColumnOrigin(why=f"{name} takes it from more than the row's own columns")
            elif one.name not in ("CONSTANT", "LIST"):
                found = ColumnOrigin(_places_inside(one, by_id), "a query, a lambda or a window stands in it")
            sources |= found.sources
            why = why or found.why
        if not sources and not why:
            why = "it is a constant"
        return ColumnOrigin(frozenset(sources), why)

    def column(self, node: TreeNode, by_id: Mapping[str, _Source]) -> ColumnOrigin:
        found = _COLUMN.fullmatch(node.attributes)
        if found is None or f", {node.attributes}".count(", column_name: ") != 1:
            return ColumnOrigin(why="its column is not clear")
        if ", result_type: " in found["name"] or found["source"] not in by_id:
            return ColumnOrigin(why="its column is not clear")
        source = by_id[found["source"]]
        if source.node.name == "ARRAY_JOIN":
            for joined in below(source.node, "JOIN EXPRESSIONS"):
                if f"column_name: {found['name']}, " in joined.attributes:
                    inner = below(joined, "EXPRESSION")
                    if len(inner) == 1:
                        return self.expression(inner[0], by_id)
            return ColumnOrigin(why="its column is not clear")
        return source.column(found["name"])


def _parts(node: TreeNode) -> Iterator[TreeNode]:
    """The nodes that decide an expression's value. A constant stands for what was folded into it."""
    yield node
    if node.name == "FUNCTION":
        for section in node.children:
            if section.name == "ARGUMENTS":
                for item in arguments_of(node):
                    yield from _parts(item)
            elif section.name != "PARAMETERS":
                yield TreeNode(section.name, children=section.children)
    elif node.name == "LIST":
        for child in node.children:
            yield from _parts(child)


def _places_inside(node: TreeNode, by_id: Mapping[str, _Source]) -> frozenset[SourceColumn]:
    """All that a part which is not understood could be made of, as far as it is of this FROM."""
    found: set[SourceColumn] = set()
    for one in descendants(node):
        column = _COLUMN.fullmatch(one.attributes) if one.name == "COLUMN" else None
        if column is not None and column["source"] in by_id:
            found |= by_id[column["source"]].column(column["name"]).sources
    return frozenset(found)


def _rows_of_its_own(query: TreeNode) -> str:
    """What makes a query give rows that are none of its sources'."""
    if _ROLLS_UP.search(query.attributes):
        return "the query rolls groups up"
    if "is_recursive_cte: 1" in query.attributes:
        return "the query is recursive"
    if any(sort.name == "SORT" and "with_fill: 1" in sort.attributes for sort in below(query, "ORDER BY")):
        return "the query fills rows in"
    return ""


def _absent(sources: tuple[_Source, ...]) -> tuple[_Source, ...]:
    return tuple(replace(source, absent=True) for source in sources)


def _first(source: _Source | None) -> Read | None:
    if source is None:
        return None
    if source.way is not None:
        return source.way.first
    return next(iter(source.reads), None)


def _few(ways: list[T]) -> list[T]:
    if len(ways) > _MOST_WAYS:
        raise _TooMany
    return ways

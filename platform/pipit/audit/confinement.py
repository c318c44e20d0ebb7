"""Whether a fixed parameter confines every read of a tenant's table, decided on the engine's resolved tree.

The statement is resolved with a marker as the parameter's value. A read of a table is confined when its rows that can
matter have the marker in the table's own column: a conjunct of WHERE or PREWHERE, of HAVING on a key, of the ON of a
join whose side it narrows; or a column that such a conjunct is equal to by an ON; or the same for a subquery's output
that is that column, where nothing before it (LIMIT, a window, an aggregate of other keys) has mixed rows.

What is not understood is never confined: OR, functions over the column other than exact conversions, conditions inside
of `if`, which the engine folds by value. The text has passed `query.examine`, so its tree can be trusted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

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

Fact = tuple[str, str]  # source id, column: its value is the marker in every row that matters

_SECTIONS_FIRST = ("PREWHERE", "WHERE")
_SAME_VALUE = frozenset(
    {"toString", "_CAST", "CAST", "accurateCast", "toUUID", "assumeNotNull", "toNullable", "toLowCardinality"}
    | {"identity", "toInt64", "toUInt64", "toInt32", "toUInt32", "tuple", "array"}
)
_SAME_COLUMN = frozenset({"toString", "_CAST", "CAST", "assumeNotNull", "toNullable", "toLowCardinality", "identity"})
_FOLDED = frozenset({"if", "multiIf", "caseWithExpression", "transform"})
# What they give depends on the rows before and after.
_LOOKS_AROUND = frozenset(
    {"neighbor", "runningDifference", "runningDifferenceStartingWithFirstValue", "runningAccumulate"}
    | {"rowNumberInBlock", "rowNumberInAllBlocks", "blockNumber", "blockSize", "runningConcurrency"}
)
_WIDENS = re.compile(r"is_(?:group_by_with_\w+|limit_with_ties|limit_by_all): 1|group_by_type: \w+")
_TEXT_TYPES = re.compile(r"constant_value: '(?:(?:LowCardinality|Nullable)\()*String\)*', ")


@dataclass(frozen=True, slots=True)
class JudgedRead:
    """One read of a table, as `database.table`, and whether it is confined."""

    table: str
    confined: bool
    why: str = ""


def reads_of(
    resolved: str, raw: str, marker: object, columns: Mapping[str, frozenset[str]], known: frozenset[str]
) -> tuple[JudgedRead, ...]:
    """Every read of a table with tenants' rows. `columns`: table -> its columns that hold the tenant.

    `known` are the tables that the examination says are read: one of them that this walk does not meet is not
    confined, and neither is anything in a text that folds conditions by a bound value.
    """
    tree = query_tree(resolved)
    if tree is None:
        return tuple(JudgedRead(table, False, "its tree is not understood") for table in sorted(columns.keys() & known))
    walk = _Walk(marker, columns, resolved.split("\n"))
    walk.relation(tree, frozenset())
    found = list(walk.reads)
    if (before := query_tree(raw)) is None or _folds(before, walk):
        found = [JudgedRead(read.table, False, "a condition depends on a value inside of `if`") for read in found]
    met = {read.table for read in found}
    found += [JudgedRead(table, False, "it is read where no filter can be seen") for table in sorted(known - met)]
    return tuple(read for read in found if read.table in columns)


def sees(resolved: str, marker: object) -> tuple[tuple[str, str], ...]:
    """`(table, column)` for each column of a table that is compared with the marker anywhere."""
    tree = query_tree(resolved)
    if tree is None:
        return ()
    walk = _Walk(marker, {}, resolved.split("\n"))
    tables = {n.id: attribute_of(n, "table_name") for n in descendants(tree) if n.name == "TABLE"}
    found: set[tuple[str, str]] = set()
    for node in descendants(tree):
        if node.name == "FUNCTION":
            for source, column in walk.facts_of(node):
                if source in tables:
                    found.add((tables[source], column))
    return tuple(sorted(found))


@dataclass(slots=True)
class _Query:
    """What is known of one query while its sources are looked at. `facts` maps to whether WHERE says so.

    `absent`: the sources of which an outer join makes rows of defaults; only what WHERE says holds in those.
    """

    facts: dict[Fact, bool] = field(default_factory=dict)
    equal: list[tuple[Fact, Fact]] = field(default_factory=list)  # from WHERE
    absent: set[str] = field(default_factory=set)

    def holds(self, fact: Fact) -> bool:
        """Whether the column is the marker in every row of the result, defaults of outer joins included."""
        return fact in self.facts and (self.facts[fact] or fact[0] not in self.absent)


class _Walk:
    def __init__(self, marker: object, columns: Mapping[str, frozenset[str]], lines: list[str]) -> None:
        self.marker = marker
        self.columns = columns
        self.lines = lines
        self.reads: list[JudgedRead] = []

    def relation(self, node: TreeNode, forced: frozenset[int]) -> frozenset[int]:
        """A query or union, whose output columns at `forced` are the marker in all rows that matter.

        Returns the positions of its output that are the marker in all rows, whatever is forced from outside.
        """
        if node.name == "UNION":
            arms = [n for n in below(node, "QUERIES") if n.name in ("QUERY", "UNION")]
            if not attribute_of(node, "union_mode").startswith(("UNION_ALL", "UNION_DISTINCT")):
                forced = frozenset()  # what EXCEPT and INTERSECT take away depends on all rows of their arms
            known = [self.relation(arm, forced) for arm in arms]
            return frozenset.intersection(*known) if known else frozenset()
        return self.query(node, forced)

    def query(self, node: TreeNode, forced: frozenset[int]) -> frozenset[int]:
        state = _Query()
        projection = below(node, "PROJECTION")
        for first in _SECTIONS_FIRST:
            for condition in _conjuncts(below(node, first)):
                self.note(condition, state)
        groups = {fact for item in below(node, "GROUP BY") for fact in self.column(item)}
        if not _widens(node):
            for condition in _conjuncts(below(node, "HAVING")):
                for fact in self.facts_of(condition):
                    if fact in groups:
                        state.facts[fact] = True
        if forced and _passes(node):
            grouped = bool(below(node, "GROUP BY"))
            for position in forced:
                if position < len(projection):
                    for fact in self.column(projection[position]):
                        if not grouped or fact in groups:
                            state.facts[fact] = True
        for root in below(node, "JOIN TREE"):
            self.sources(root, state)
        for section in node.children:
            if section.name != "JOIN TREE":
                self.expressions(section)
        if _widens(node) and not all(a.split(": ")[0] == "is_limit_with_ties" for a in _widening(node)):
            return frozenset()  # totals and rollups have rows of their own
        return frozenset(
            index
            for index, item in enumerate(projection)
            if any(state.holds(fact) for fact in self.column(item)) or self.is_marker(item)
        )

    def sources(self, root: TreeNode, state: _Query) -> None:
        """Everything in a FROM: what the joins say first, then each source with what is known of its columns."""
        joins: list[tuple[TreeNode, frozenset[str], frozenset[str]]] = []
        leaves: dict[str, tuple[TreeNode, bool]] = {}  # id -> the source, whether WHERE on its column is enough
        self.collect(root, joins, leaves, True)
        for source, (leaf, _) in leaves.items():
            if leaf.name in ("QUERY", "UNION"):
                before = len(self.reads)
                known = self.relation(leaf, frozenset())
                del self.reads[before:]  # only to learn what its output is; it is looked at below
                for name in self.names_at(leaf, known):
                    state.facts.setdefault((source, name), False)
        self.spread(joins, state)
        for id, (leaf, enough) in leaves.items():
            facts = {n for (source, n), by_where in state.facts.items() if source == id and (enough or not by_where)}
            if leaf.name == "TABLE":
                table = attribute_of(leaf, "table_name")
                confined = bool(facts & self.columns.get(table, frozenset()))
                self.reads.append(JudgedRead(table, confined, "" if confined else "no condition on its own column"))
            elif leaf.name in ("QUERY", "UNION"):
                self.relation(leaf, self.positions(leaf, facts))
            else:
                self.expressions(leaf)

    def collect(
        self,
        node: TreeNode,
        joins: list[tuple[TreeNode, frozenset[str], frozenset[str]]],
        leaves: dict[str, tuple[TreeNode, bool]],
        enough: bool,
    ) -> frozenset[str]:
        """The ids of the sources below a node of a JOIN TREE. The joins come innermost first."""
        if node.name == "JOIN":
            kind, strictness = attribute_of(node, "kind"), attribute_of(node, "strictness")
            # PASTE puts rows beside each other by their places, which the rows that a condition drops decide too.
            exact = strictness in ("ALL", "") and kind != "PASTE"
            left = self.collect_all(
                below(node, "LEFT TABLE EXPRESSION"), joins, leaves, enough and (exact or kind == "LEFT")
            )
            right = self.collect_all(
                below(node, "RIGHT TABLE EXPRESSION"), joins, leaves, enough and (exact or kind == "RIGHT")
            )
            joins.append((node, left, right))
            for section in node.children:
                if section.name in ("JOIN EXPRESSION", "JOIN EXPRESSIONS"):
                    self.expressions(section)
            return left | right
        if node.name in ("CROSS JOIN", "ARRAY_JOIN"):
            for section in node.children:
                if section.name in ("JOIN EXPRESSIONS", "JOIN EXPRESSION"):
                    self.expressions(section)
            return self.collect_all(below(node, "TABLE EXPRESSION"), joins, leaves, enough)
        leaves[node.id] = (node, enough)
        return frozenset({node.id})

    def collect_all(
        self,
        found: Iterable[TreeNode],
        joins: list[tuple[TreeNode, frozenset[str], frozenset[str]]],
        leaves: dict[str, tuple[TreeNode, bool]],
        enough: bool,
    ) -> frozenset[str]:
        return frozenset().union(*(self.collect(node, joins, leaves, enough) for node in found))

    def spread(self, joins: list[tuple[TreeNode, frozenset[str], frozenset[str]]], state: _Query) -> None:
        """Facts of the joins' conditions, and those that equal columns hand on, until nothing is new."""
        pairs: list[tuple[Fact, Fact, frozenset[str]]] = []  # with the sources that a match narrows
        for join, left, right in joins:
            kind = attribute_of(join, "kind")
            narrowed = {"INNER": left | right, "LEFT": right, "RIGHT": left}.get(kind, frozenset())
            state.absent |= {"INNER": frozenset(), "LEFT": right, "RIGHT": left}.get(kind, left | right)
            for condition in _conjuncts(below(join, "JOIN EXPRESSION")):
                for fact in self.facts_of(condition):
                    if fact[0] in narrowed:
                        state.facts[fact] = False
                pairs += [(a, b, narrowed) for a, b in self.pairs_of(condition)]
        every = frozenset({"*"})
        pairs += [(a, b, every) for a, b in state.equal]
        changed = True
        while changed:
            changed = False
            for one, two, narrowed in pairs:
                for known, other in ((one, two), (two, one)):
                    if not state.holds(known) or other in state.facts:
                        continue
                    if narrowed is every:
                        if state.facts[known]:
                            state.facts[other] = True
                            changed = True
                    elif other[0] in narrowed or state.facts[known]:
                        # The side that a match narrows has only rows that match; the other one only where WHERE
                        # has already said that its partner's column is the marker, so that there is a partner.
                        state.facts[other] = state.facts[known] and other[0] not in narrowed
                        changed = True

    def note(self, condition: TreeNode, state: _Query) -> None:
        for fact in self.facts_of(condition):
            state.facts[fact] = True
        state.equal += self.pairs_of(condition)

    def facts_of(self, condition: TreeNode) -> list[Fact]:
        """`column = marker`, `column IN [marker]`, `has([marker], column)`."""
        name = function_of(condition)
        arguments = arguments_of(condition)
        if len(arguments) != 2:
            return []
        left, right = arguments
        if name == "equals":
            for column, value in ((left, right), (right, left)):
                if self.is_marker(value):
                    return self.column(column)
        if name in ("in", "globalIn") and self.is_marker(right, listed=True):
            return self.column(left)
        if name == "has" and self.is_marker(left, listed=True):
            return self.column(right)
        return []

    def pairs_of(self, condition: TreeNode) -> list[tuple[Fact, Fact]]:
        """`a = b` of two columns; the two that USING joins."""
        if condition.name == "COLUMN":
            inner = [n for n in below(condition, "EXPRESSION") if n.name == "COLUMN"]
            if len(inner) == 2:
                return [(a, b) for a in self.column(inner[0]) for b in self.column(inner[1])]
            return []
        arguments = arguments_of(condition)
        if function_of(condition) != "equals" or len(arguments) != 2:
            return []
        return [(a, b) for a in self.column(arguments[0]) for b in self.column(arguments[1])]

    def column(self, node: TreeNode) -> list[Fact]:
        """The column that an expression is, conversions that keep its value aside."""
        while node.name == "FUNCTION" and function_of(node) in _SAME_COLUMN:
            arguments = arguments_of(node)
            cast = function_of(node) in ("CAST", "_CAST")
            if not arguments or (cast and not _is_text(arguments)):
                return []  # to a narrower number, say: another value
            node = arguments[0]
        if node.name != "COLUMN" or below(node, "EXPRESSION"):
            return []
        before, _, source = node.attributes.rpartition(", source_id: ")
        pieces = before.removeprefix("column_name: ").split(", result_type: ")
        if len(pieces) != 2 or not source.isdigit():
            return []
        return [(source, pieces[0])]

    def is_marker(self, node: TreeNode, *, listed: bool = False) -> bool:
        """A constant that is the marker, and would be the value of the parameter whatever that is."""
        if node.name != "CONSTANT":
            return False
        pieces = node.attributes.removeprefix("constant_value: ").rsplit(", constant_value_type: ", 1)
        if len(pieces) != 2:
            return False
        value = pieces[0]
        if listed:
            found = re.fullmatch(r"(?:Array_\[|Tuple_\()(.*)(?:\]|\))", value)
            value = found[1] if found else value
        if value not in _spellings(self.marker):
            return False
        inside = {function_of(n) for n in descendants(node) if n.name == "FUNCTION"}
        return inside <= _SAME_VALUE and not any(n.name in ("QUERY", "UNION") for n in descendants(node))

    def expressions(self, section: TreeNode) -> None:
        """The queries and tables inside of expressions: each stands for itself."""
        pending = [section]
        while pending:
            node = pending.pop()
            if node.name in ("QUERY", "UNION"):
                self.relation(node, frozenset())
            elif node.name == "TABLE":
                self.reads.append(JudgedRead(attribute_of(node, "table_name"), False, "it is read as a whole"))
            else:
                pending.extend(node.children)

    def names_at(self, relation: TreeNode, positions: frozenset[int]) -> list[str]:
        texts = output_lines(relation, self.lines)
        names = [texts[i].partition(" ")[0] for i in positions if i < len(texts)]
        return [name for name in names if sum(text.startswith(f"{name} ") for text in texts) == 1]

    def positions(self, relation: TreeNode, names: Iterable[str]) -> frozenset[int]:
        texts = output_lines(relation, self.lines)
        found: set[int] = set()
        for name in names:
            where = [i for i, text in enumerate(texts) if text.startswith(f"{name} ")]
            if len(where) == 1:
                found.add(where[0])
        return frozenset(found)


def _is_text(arguments: list[TreeNode]) -> bool:
    """Whether a cast is to a text."""
    return len(arguments) == 2 and bool(_TEXT_TYPES.match(arguments[1].attributes))


def _spellings(marker: object) -> frozenset[str]:
    """How the tree prints it, as any type that the same characters can have."""
    text = str(marker)
    found = {f"'{text}'"}
    if text.lstrip("-").isdigit():
        found |= {text, f"UInt64_{text}", f"Int64_{text}", f"UInt128_{text}", f"UInt256_{text}", f"Int128_{text}"}
    return frozenset(found)


def _folds(raw: TreeNode, walk: _Walk) -> bool:
    """Whether the engine may have left out a condition on the marker, or a read, because of a bound value.

    It folds `if` and its kin; nothing of the branch that was not taken is in the resolved tree then.
    """
    for node in descendants(raw):
        if node.name != "FUNCTION":
            continue
        if function_of(node) in _FOLDED:
            if any(n.name in ("QUERY", "UNION") or _is_marker_in_raw(n, walk) for n in descendants(node)):
                return True
        elif function_of(node) in ("equals", "in", "globalIn", "has"):
            inner = list(descendants(node))
            if any(_is_marker_in_raw(n, walk) for n in inner) and any(function_of(n) in _FOLDED for n in inner):
                return True
    return False


def _is_marker_in_raw(node: TreeNode, walk: _Walk) -> bool:
    return walk.is_marker(node) or walk.is_marker(node, listed=True)


def _widening(query: TreeNode) -> list[str]:
    return [part for part in query.attributes.split(", ") if _WIDENS.fullmatch(part)]


def _widens(query: TreeNode) -> bool:
    return bool(_widening(query))


def _passes(query: TreeNode) -> bool:
    """Whether a condition on the query's output could as well stand on its input: it takes whole rows or groups."""
    sections = {section.name for section in query.children}
    if sections & {"LIMIT", "OFFSET", "LIMIT BY", "LIMIT BY LIMIT", "LIMIT AFTER", "LIMIT UNTIL", "QUALIFY", "WINDOW"}:
        return False
    if _widens(query):
        return False
    for section in query.children:
        for node in _inside(section):
            if "function_type: window" in node.attributes or "with_fill: 1" in node.attributes:
                return False
            if function_of(node) in _LOOKS_AROUND:
                return False
    return True


def _conjuncts(conditions: Iterable[TreeNode]) -> Iterator[TreeNode]:
    for condition in conditions:
        if condition.name == "FUNCTION" and function_of(condition) == "and":
            yield from _conjuncts(arguments_of(condition))
        else:
            yield condition


def _inside(section: TreeNode) -> Iterator[TreeNode]:
    """Without what stands in queries of its own."""
    pending = [section]
    while pending:
        one = pending.pop()
        yield one
        pending.extend(child for child in one.children if child.name not in ("QUERY", "UNION"))

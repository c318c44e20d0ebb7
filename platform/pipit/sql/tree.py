"""What a query reads, from the engine's own `EXPLAIN QUERY TREE`: the check (c) of the design stands on this.

Two trees are needed, of the very text that will run:

- RESOLVED (`EXPLAIN QUERY TREE run_passes = 1, passes = 1 <text>`): every name resolved by the analyzer, before any
  optimisation. It tells the real tables. It executes scalar subqueries, so it runs under filters of '0';
- RAW (`EXPLAIN QUERY TREE run_passes = 0 <text>`): the text as parsed, nothing resolved, nothing executed. It is
  needed because the analyzer folds what depends on a bound value: `if({p:UInt8}, dictGet('d', 'v', 1), 0)` leaves no
  trace in the resolved tree when p = 0, and reads the dictionary when p = 1. Texts are examined once and then run
  with any value, so everything in any branch counts. Measured: `if` and `multiIf` with a constant condition fold.

Both together take 2.4 ms. `parse_query_tree` reads either; `Reads.merged` adds them up; `check_reads` decides.

What no tree shows, so that others must care: what is behind a view, a Merge, Buffer, Alias or Distributed table, a
materialized view's target, a dictionary (the catalog's lineage knows); INTO OUTFILE and FORMAT (`references.
trailing_clauses`); the arguments of table functions stay unresolved, so `view(SELECT ...)` is read by its names; a CTE
or an expression of WITH that nobody uses is in RAW only; a function without brackets (`SELECT today`) is an
identifier in RAW.

Hostile text. Constants are escaped in the tree (a newline comes as \\n). Identifiers, aliases, CTE names, COLUMNS
patterns and setting values are not: a newline in one starts a line of its own, which could pretend anything.
`precheck.check_text` refuses such a text before it is examined. A line, a kind of node or an
attribute that is not known here, or one that comes twice, makes the whole tree unknown, and unknown is refused. So do
CTEs that refer to each other in a circle: the engine then takes one name for a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipit.errors import ReadRefused, Reason
from pipit.sql.allowed import (
    ALLOWED_SETTINGS,
    OBJECT_FUNCTIONS,
    function_names,
    function_verdict,
    is_function,
    refused_function,
    table_function_allowed,
)
from pipit.sql.words import IN_FUNCTIONS
from pipit.suggest import did_you_mean

EXPLAIN_RESOLVED = "EXPLAIN QUERY TREE run_passes = 1, passes = 1 "
EXPLAIN_RAW = "EXPLAIN QUERY TREE run_passes = 0 "


@dataclass(frozen=True, slots=True)
class Reads:
    """What a tree names. `bare_tables` and `bare_members` are names without a database that are no CTE in scope."""

    tables: frozenset[str] = frozenset()  # "db.table": resolved ones, and written ones after FROM and IN
    table_functions: frozenset[str] = frozenset()
    functions: frozenset[str] = frozenset()
    objects: frozenset[str] = frozenset()  # constant first arguments of dictGet*, joinGet*, as the tree prints them
    settings: frozenset[str] = frozenset()  # of SETTINGS clauses at any depth
    bare_tables: frozenset[str] = frozenset()
    bare_members: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()  # why the tree cannot be trusted; empty when it can

    def merged(self, other: Reads) -> Reads:
        return Reads(
            self.tables | other.tables,
            self.table_functions | other.table_functions,
            self.functions | other.functions,
            self.objects | other.objects,
            self.settings | other.settings,
            self.bare_tables | other.bare_tables,
            self.bare_members | other.bare_members,
            self.unknown + other.unknown,
        )


@dataclass(slots=True)
class TreeNode:
    """A node (`TABLE id: 3, table_name: d.t`) or a section (`JOIN TREE`); attributes as printed."""

    name: str
    attributes: str = ""
    is_node: bool = False
    children: list[TreeNode] = field(default_factory=list)
    first: int = 0  # its own line and its last one
    last: int = 0
    id: str = ""


_NODE = re.compile(r"([A-Z][A-Z_ ]*?) id: (\d+)(?:, (.*))?\Z")
_NODES = frozenset(
    {
        "QUERY",
        "UNION",
        "LIST",
        "FUNCTION",
        "CONSTANT",
        "IDENTIFIER",
        "COLUMN",
        "TABLE",
        "TABLE_FUNCTION",
        "JOIN",
        "CROSS JOIN",
        "ARRAY_JOIN",
        "MATCHER",
        "LAMBDA",
        "ARGUMENTS",
        "ARGUMENT",
        "SORT",
        "INTERPOLATE",
        "WINDOW",
        "APPLY COLUMN TRANSFORMER",
        "EXCEPT COLUMN TRANSFORMER",
        "REPLACE COLUMN TRANSFORMER",
    }
)
_SECTIONS = frozenset(
    {
        "WITH",
        "PROJECTION COLUMNS",
        "PROJECTION",
        "JOIN TREE",
        "PREWHERE",
        "WHERE",
        "GROUP BY",
        "HAVING",
        "WINDOW",
        "QUALIFY",
        "ORDER BY",
        "PARTITION BY",
        "INTERPOLATE",
        "LIMIT BY LIMIT",
        "LIMIT BY OFFSET",
        "LIMIT BY",
        "LIMIT AFTER",
        "LIMIT UNTIL",
        "LIMIT",
        "OFFSET",
        "ARGUMENTS",
        "PARAMETERS",
        "EXPRESSION",
        "JOIN EXPRESSION",
        "JOIN EXPRESSIONS",
        "TABLE EXPRESSION",
        "LEFT TABLE EXPRESSION",
        "RIGHT TABLE EXPRESSION",
        "QUERIES",
        "FILL FROM",
        "FILL TO",
        "FILL STEP",
        "FILL STALENESS",
        "FRAME BEGIN OFFSET",
        "FRAME END OFFSET",
        "INTERPOLATE_EXPRESSION",
    }
)
# These sections go on with text on the same line: a name, a number, key=value pairs.
_SECTION_WITH_TEXT = re.compile(r"(EXPRESSION|SETTINGS|REPLACEMENTS|REPLACEMENT NAME)(?: (.*))?\Z")
_NUMBER = re.compile(r" id: \d+")
_TABLE_POSITIONS = frozenset({"JOIN TREE", "TABLE EXPRESSION", "LEFT TABLE EXPRESSION", "RIGHT TABLE EXPRESSION"})
_FULL_NAME = re.compile(r"[A-Za-z0-9_]+\.[A-Za-z0-9_]+\Z")
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SETTING_NAME = re.compile(r"(?:\A| )([A-Za-z_][A-Za-z0-9_.]*)=")


def parse_query_tree(text: str) -> Reads:
    """What the tree names. `text` is the engine's output in TSVRaw, one line of the tree per line."""
    reader = _Reader(text)
    root = _parse(reader)
    if len(root.children) != 1 or root.children[0].name not in ("QUERY", "UNION"):
        reader.unknown.append("not one tree")
    for node in root.children:
        reader.visit(node)
    if reader.has_circle():
        reader.unknown.append("its CTEs refer to each other in a circle")
    return reader.reads()


def query_tree(text: str) -> TreeNode | None:
    """The engine's tree itself, for who has to look at conditions; None where a line of it is not known.

    Only for a text that passed `precheck.check_text`. `PROJECTION COLUMNS` has no children: its lines are free text.
    """
    reader = _Reader(text)
    root = _parse(reader)
    return root.children[0] if len(root.children) == 1 and not reader.unknown else None


def check_reads(reads: Reads, *, allowed_tables: frozenset[str], allowed_objects: frozenset[str] = frozenset()) -> None:
    """Raises ReadRefused unless everything that `reads` names is allowed. For texts that a tenant's token runs.

    `allowed_tables` and `allowed_objects`: full names, "db.table". Messages name no table of another workspace, only
    what the text itself says.
    """
    if reads.unknown:
        raise ReadRefused(
            "This query cannot be examined, so it does not run.", hint=reads.unknown[0], reason=Reason.NOT_EXAMINABLE
        )
    for table in sorted(reads.tables - allowed_tables - {"system.one"}):
        raise ReadRefused(
            f"This query reads {table}, which is not allowed here.", reason=Reason.OBJECT_REFUSED, subject=table
        )
    for name in sorted(reads.bare_tables):
        raise ReadRefused(
            f"This query reads {name}, which is neither a data source nor a pipe.",
            reason=Reason.RESOURCE_NOT_FOUND,
            subject=name,
        )
    for name in sorted(reads.bare_members):
        if _LOOKS_PHYSICAL.match(name):
            raise ReadRefused(
                f"After IN, {name} could be a table that is not allowed here.",
                hint="Give the column a table's name.",
                reason=Reason.OBJECT_REFUSED,
                subject=name,
            )
    for name in sorted(reads.table_functions):
        if not table_function_allowed(name):
            raise ReadRefused(
                f"The table function {name} is not allowed.", reason=Reason.TABLE_FUNCTION_REFUSED, subject=name
            )
    for name in sorted(reads.functions):
        reason = function_verdict(name)
        if reason and not (name in OBJECT_FUNCTIONS and reads.objects and reads.objects <= allowed_objects):
            hint = "" if is_function(name) else did_you_mean(name, function_names())
            if name in OBJECT_FUNCTIONS:
                hint = "Read the data source of that name with a join, such as LEFT ANY JOIN."
            raise ReadRefused(
                f"The function {name} is not allowed: {reason}.",
                hint=hint,
                reason=refused_function(name),
                subject=name,
            )
    for name in sorted(reads.settings - ALLOWED_SETTINGS):
        raise ReadRefused(f"The setting {name} is not allowed.", reason=Reason.SETTING_REFUSED, subject=name)


# What the catalog calls its tables: generation and name. A column of such a name is refused after IN, bare.
_LOOKS_PHYSICAL = re.compile(r"[dqm][0-9]+_")


# Lines of what is not supported, in the author's words.
_UNSUPPORTED = {
    "CORRELATED COLUMNS": "A subquery reads a column of the query around it. Write it as a JOIN, or with IN."
}


def _parse(reader: _Reader) -> TreeNode:
    root = TreeNode("")
    stack: list[tuple[int, TreeNode]] = [(-2, root)]
    skipped = -1  # inside PROJECTION COLUMNS: lines deeper than this are free text
    for number, line in enumerate(reader.lines):
        content = line.lstrip(" ")
        if not content:
            continue
        indent = len(line) - len(content)
        if skipped >= 0 and indent > skipped:
            continue
        skipped = -1
        node = _line(content)
        while stack[-1][0] >= indent:
            stack.pop()[1].last = number - 1
        if node is None or indent != stack[-1][0] + 2:
            reader.unknown.append(_UNSUPPORTED.get(content) or f"a line of the tree is not known: {content[:60]}")
            node = node or TreeNode("?")
        if node.name == "PROJECTION COLUMNS":
            skipped = indent
        node.first = number
        stack[-1][1].children.append(node)
        stack.append((indent, node))
    for _, node in stack:
        node.last = len(reader.lines) - 1
    return root


def _line(content: str) -> TreeNode | None:
    found = _NODE.match(content)
    if found is not None and found.group(1) in _NODES:
        return TreeNode(found.group(1), found.group(3) or "", True, id=found.group(2))
    if content.rstrip(" ") in _SECTIONS:
        return TreeNode(content.rstrip(" "))
    found = _SECTION_WITH_TEXT.match(content)
    return TreeNode(found.group(1), found.group(2) or "") if found is not None else None


_Scope = Mapping[str, TreeNode]  # the name of each CTE that is seen -> the QUERY whose WITH has it


class _Reader:
    """Collects while it walks. `scope`: the CTEs that are seen; `place`: the section that a node stands in."""

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        self.texts: dict[int, str] = {}
        self.tables: set[str] = set()
        self.table_functions: set[str] = set()
        self.functions: set[str] = set()
        self.objects: set[str] = set()
        self.settings: set[str] = set()
        self.bare_tables: set[str] = set()
        self.bare_members: set[str] = set()
        self.unknown: list[str] = []
        self.ctes: dict[str, list[TreeNode]] = {}
        # Inside this CTE, this name, bound inside of that node.
        self.mentions: list[tuple[TreeNode, str, TreeNode]] = []
        self.root = TreeNode("")

    def reads(self) -> Reads:
        return Reads(
            frozenset(self.tables),
            frozenset(self.table_functions),
            frozenset(self.functions),
            frozenset(self.objects),
            frozenset(self.settings),
            frozenset(self.bare_tables),
            frozenset(self.bare_members),
            tuple(self.unknown),
        )

    def visit(self, root: TreeNode) -> None:
        """Not recursive: a tree may be as deep as the engine's parser goes."""
        self.root = root
        pending: list[tuple[TreeNode, _Scope, str, TreeNode | None]] = [(root, {}, "", None)]
        while pending:
            node, scope, place, holder = pending.pop()
            if not node.is_node:
                if node.name == "SETTINGS":
                    self.settings.update(_SETTING_NAME.findall(node.attributes))
                pending.extend((child, scope, node.name, holder) for child in node.children)
            elif node.name == "QUERY":
                pending.extend(self.parts_of(node, scope, holder))
            else:
                self.take(node, scope, place, holder)
                pending.extend((child, scope, node.name, holder) for child in node.children)

    def parts_of(
        self, query: TreeNode, scope: _Scope, holder: TreeNode | None
    ) -> Iterator[tuple[TreeNode, _Scope, str, TreeNode | None]]:
        """The sections of a query, and each CTE of its WITH with what that one sees: all of them, not itself."""
        bodies = list(self.ctes_of(query))
        inner = {**scope, **{name: query for name, _ in bodies}}
        for name, body in bodies:
            self.ctes.setdefault(name, []).append(body)
            if "is_recursive_cte: 1" in body.attributes:
                seen = inner
            else:
                seen = {key: value for key, value in inner.items() if key != name}
                if name in scope:
                    seen[name] = scope[name]
            yield body, seen, "", body
        named = {id(body) for _, body in bodies}
        for section in query.children:
            if section.name != "WITH":
                yield section, inner, "", holder
                continue
            for child in _under_list(section):
                if id(child) not in named:
                    yield child, inner, "", holder

    def has_circle(self) -> bool:
        """Whether a CTE may come to need itself.

        The engine looks up the names in a CTE's body where the CTE is used, not where it stands, so a name may mean
        any CTE of that name inside of the query that binds it; one that nothing binds where it stands, any of that name
        at all. And it takes two CTEs for one when their names and
        texts are the same, wherever they stand.
        """
        needs: dict[str, set[str]] = {}
        for holder, name, binder in self.mentions:
            for body in self.ctes.get(name, []):
                if body is not holder and binder.first <= body.first <= binder.last:
                    needs.setdefault(self.text_of(holder), set()).add(self.text_of(body))
        while free := {key for key, needed in needs.items() if not needed & needs.keys()}:
            needs = {key: needed for key, needed in needs.items() if key not in free}
        return bool(needs)

    def text_of(self, node: TreeNode) -> str:
        if id(node) not in self.texts:
            lines = self.lines[node.first : node.last + 1]
            self.texts[id(node)] = _NUMBER.sub("", "\n".join(line.lstrip(" ") for line in lines))
        return self.texts[id(node)]

    def take(self, node: TreeNode, scope: _Scope, place: str, holder: TreeNode | None) -> None:
        if node.name == "TABLE":
            name = self.attribute(node, "table_name")
            if name.startswith("_temporary_and_external_tables.") and ", temporary_table_name: " in node.attributes:
                return  # a recursive CTE's own rows
            self.table(name)
        elif node.name == "TABLE_FUNCTION":
            self.table_functions.add(self.attribute(node, "table_function_name"))
        elif node.name == "IDENTIFIER" and place in _TABLE_POSITIONS:
            self.written(self.attribute(node, "identifier"), scope, holder, self.bare_tables)
        elif node.name == "FUNCTION":
            name = self.attribute(node, "function_name")
            if not _PLAIN_NAME.match(name):
                self.unknown.append(f"a function's name is not plain: {name[:60]}")
            self.functions.add(name)
            arguments = arguments_of(node)
            if name in IN_FUNCTIONS and len(arguments) > 1 and arguments[1].name == "IDENTIFIER":
                self.written(self.attribute(arguments[1], "identifier"), scope, holder, self.bare_members)
            if name in OBJECT_FUNCTIONS:
                self.object_of(name, arguments)

    def ctes_of(self, query: TreeNode) -> Iterator[tuple[str, TreeNode]]:
        for section in query.children:
            if section.name != "WITH":
                continue
            for node in _under_list(section):
                if node.name in ("QUERY", "UNION") and "is_cte: 1" in node.attributes:
                    name = self.attribute(node, "cte_name")
                    if "." in name:
                        self.unknown.append("a CTE's name holds a dot")
                    yield name, node

    def written(self, name: str, scope: _Scope, holder: TreeNode | None, bare: set[str]) -> None:
        """A name in the place of a table, as written."""
        if holder is not None:
            self.mentions.append((holder, name, scope.get(name, self.root)))
        if name in scope:
            return
        if "." in name:
            self.table(name)
        else:
            bare.add(name)

    def table(self, name: str) -> None:
        if not _FULL_NAME.match(name):
            self.unknown.append(f"a table's name is not plain: {name[:60]}")
        self.tables.add(name)

    def object_of(self, function: str, arguments: list[TreeNode]) -> None:
        if arguments and arguments[0].name == "CONSTANT":
            value = self.attribute(arguments[0], "constant_value", up_to=", constant_value_type: ")
            if re.match(r"'[A-Za-z0-9_.]+'\Z", value):
                self.objects.add(value[1:-1])
                return
        self.unknown.append(f"the object that {function} reads is not a plain constant")

    def attribute(self, node: TreeNode, key: str, up_to: str = ", ") -> str:
        """The value of `key`; "" and unknown when it is missing or could be meant twice."""
        pieces = f", {node.attributes}".split(f", {key}: ")
        if len(pieces) != 2:
            self.unknown.append(f"the tree is ambiguous about {key}")
            return ""
        return pieces[1].split(up_to)[0]


def below(node: TreeNode, section: str) -> list[TreeNode]:
    """What stands in the sections of this name, LISTs taken apart."""
    return [item for child in node.children if child.name == section for item in _under_list(child)]


def arguments_of(function: TreeNode) -> list[TreeNode]:
    return below(function, "ARGUMENTS")


def function_of(node: TreeNode) -> str:
    return attribute_of(node, "function_name") if node.name == "FUNCTION" else ""


def attribute_of(node: TreeNode, key: str) -> str:
    """The first one of this key. Not for what can hold `, `: names of columns, constants."""
    for part in node.attributes.split(", "):
        name, sign, value = part.partition(": ")
        if sign and name == key:
            return value
    return ""


def descendants(node: TreeNode) -> Iterator[TreeNode]:
    pending = [node]
    while pending:
        one = pending.pop()
        yield one
        pending.extend(one.children)


def output_lines(relation: TreeNode, lines: Sequence[str]) -> list[str]:
    """`name type` of each output column, of the lines of the tree: of a union, its first arm's."""
    while relation.name == "UNION":
        arms = [n for n in below(relation, "QUERIES") if n.name in ("QUERY", "UNION")]
        if not arms:
            return []
        relation = arms[0]
    for section in relation.children:
        if section.name == "PROJECTION COLUMNS":
            return [line.strip(" ") for line in lines[section.first + 1 : section.last + 1] if line.strip(" ")]
    return []


def _under_list(section: TreeNode) -> list[TreeNode]:
    return [node for item in section.children for node in (item.children if item.name == "LIST" else [item])]

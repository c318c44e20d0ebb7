"""Which tables a node's rows come from, and which data sources derive from which. The engine does not know.

Row filters are keyed by table name: they do not follow rows into the target of a view or a copy. What once filled a
table counts as long as the table exists. So a deployment's row stores it (`TableNames.sources`), as it was when the
view was made. Only what is not stored there is read from the SQL here.

A node without a template is read exactly, through pipes and CTEs. The SQL of a template depends on the request, so
every resource that it names anywhere counts. If it computes names, every data source counts. One table too many causes
a refusal; one too few would be a leak.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

from cachetools import LRUCache

from pipit.catalog.snapshot import CompiledNode, CompiledPipe, NodeTarget, Snapshot, Table, TableTarget
from pipit.datafiles.resources import NodeType
from pipit.sql.lexer import LexerKind, tokenize
from pipit.sql.references import TableReference, find_tables, first_table

# The functions of a template that print a name; their arguments may be computed (`TABLE('ev' + 'ents')`).
_PRINTS_NAMES = re.compile(r"\b(?:TABLE|table|columns?|symbol)\s*\(")

_NAMES = (LexerKind.WORD, LexerKind.QUOTED_IDENTIFIER)


# A deploy looks into each text several times, and most texts are those of the deploy before.
_READ_CHARACTERS = 16 * 1024 * 1024
_read: LRUCache[tuple[bool, str], tuple[TableReference, ...]] = LRUCache(
    _READ_CHARACTERS, lambda found: 200 * (len(found) + 1)
)


def references(node: CompiledNode) -> tuple[TableReference, ...]:
    """The tables and nodes that a node's SQL may read. Of a template each name stands there once."""
    is_template, text = node.template is not None, node.node.sql
    found = _read.get((is_template, text))
    if found is None:
        if is_template:
            names: dict[tuple[str | None, str], TableReference] = {}
            for one in _every_name(text):
                names.setdefault((one.database, one.name), one)
            found = tuple(names.values())
        else:
            found = tuple(find_tables(text))
        with suppress(ValueError):  # larger than all that is remembered
            _read[is_template, text] = found
    return found


def _every_name(text: str) -> Iterator[TableReference]:
    """Every identifier of a template, as a possible table. All branches count."""
    tokens = tokenize(text)
    for index, token in enumerate(tokens):
        if token.kind in _NAMES:
            name = token.text.strip('`"')
            databases: list[str | None] = [None]
            if index > 1 and tokens[index - 1].kind is LexerKind.DOT and tokens[index - 2].kind in _NAMES:
                databases.append(tokens[index - 2].text.strip('`"'))
            for database in databases:
                yield TableReference(
                    database=database, name=name, start=token.start, end=token.end, has_alias=True, kind="from"
                )
        elif token.kind not in (LexerKind.WHITESPACE, LexerKind.COMMENT) and len(token.text) > 2:
            # Inside `{{ ... }}` and `{% ... %}` the SQL lexer may see other tokens: look into them as well.
            inner = token.text[1:-1]
            if inner != token.text and any(c.isalpha() for c in inner) and len(inner) < len(text):
                yield from _every_name(inner)


def nodes_read(
    snapshot: Snapshot, pipe: CompiledPipe, node: CompiledNode
) -> tuple[tuple[CompiledPipe, CompiledNode], ...]:
    """The node and all those whose rows can reach its result, each with its pipe."""
    key = (id(pipe), id(node))
    if key in snapshot.nodes_read:
        return snapshot.nodes_read[key]
    found: dict[tuple[str, str], tuple[CompiledPipe, CompiledNode]] = {}
    waiting = [(pipe, node)]
    while waiting:
        owner, current = waiting.pop()
        if (owner.name, current.name) in found:
            continue
        found[owner.name, current.name] = owner, current
        targets = (snapshot.resolve(reference, owner) for reference in references(current))
        waiting.extend((target.pipe, target.node) for target in targets if isinstance(target, NodeTarget))
    read = snapshot.nodes_read[key] = tuple(found.values())  # these two are the first of it, so their ids are theirs
    return read


def parameter_names(snapshot: Snapshot, pipe: CompiledPipe) -> frozenset[str]:
    """The parameters of the pipe's answer: its own, and those of the pipes that it reads."""
    nodes = [node for _, node in nodes_read(snapshot, pipe, pipe.result)]
    return frozenset(parameter.name for node in nodes if node.template for parameter in node.template.parameters)


def fixed_params(snapshot: Snapshot, pipe: CompiledPipe) -> tuple[str, ...]:
    """The parameters that a JWT has to fix: the pipe's FIXED_PARAMS, and those of the pipes that it reads."""
    found = dict.fromkeys(pipe.pipe.fixed_params)
    for node in pipe.nodes.values():
        for owner, _ in nodes_read(snapshot, pipe, node):
            found |= dict.fromkeys(owner.pipe.fixed_params)
    return tuple(found)


def lists(snapshot: Snapshot, pipe: CompiledPipe) -> frozenset[str]:
    """The parameters of the pipe, and of those that it reads, of which a request may send several values."""
    read = {owner.name: owner for node in pipe.nodes.values() for owner, _ in nodes_read(snapshot, pipe, node)}
    return frozenset(p.name for one in (pipe, *read.values()) for p in one.parameters if p.is_list)


def computes_names(snapshot: Snapshot, pipe: CompiledPipe, node: CompiledNode) -> bool:
    """Whether a template on the way to this node's rows may print a name of a table or column that is not in it."""
    return any(
        current.template is not None and _PRINTS_NAMES.search(current.node.sql)
        for _, current in nodes_read(snapshot, pipe, node)
    )


def tables_read(snapshot: Snapshot, pipe: CompiledPipe, node: CompiledNode) -> frozenset[str]:
    """The data sources whose rows can reach this node's result."""
    found: set[str] = set()
    for owner, current in nodes_read(snapshot, pipe, node):
        if current.template is not None and _PRINTS_NAMES.search(current.node.sql):
            return frozenset(snapshot.tables)
        for reference in references(current):
            if current.template is not None:  # a workspace and a name may be seen apart: too much is a refusal
                found.update(snapshot.elsewhere.get(reference.name, ()))
            target = snapshot.resolve(reference, owner)
            if isinstance(target, TableTarget):
                found.add(target.table.name)
    return frozenset(found)


def derived(snapshot: Snapshot) -> Mapping[str, frozenset[str]]:
    """Data source -> all data sources that it is or was filled from by views and copies, all the way up.

    Names of data sources that are gone by now are among them.
    """
    remembered = snapshot.names.sources
    direct = {name: set(remembered.get(table.physical, ())) for name, table in snapshot.tables.items()}
    for pipe in snapshot.pipes.values():
        for node in pipe.nodes.values():
            target = ""
            if node.node.type is NodeType.MATERIALIZED:
                target = node.node.datasource
            elif node.node.type is NodeType.COPY:
                target = node.node.target_datasource
            if target not in direct:
                continue
            if node.node.type is NodeType.COPY or snapshot.tables[target].physical not in remembered:
                direct[target] |= tables_read(snapshot, pipe, node)
    closed: dict[str, frozenset[str]] = {}
    for name in direct:
        above: set[str] = set()
        waiting = list(direct[name])
        while waiting:
            source = waiting.pop()
            if source not in above:
                above.add(source)
                waiting.extend(direct.get(source, ()))
        closed[name] = frozenset(above - {name})
    return closed


def written_with(snapshot: Snapshot, table: Table) -> tuple[Table, ...]:
    """The table, and those whose inserts write to it through views. While nothing is inserted into any of them, the
    table does not change."""
    read: dict[str, set[str]] = {}
    for pipe in snapshot.pipes.values():
        for node in pipe.nodes.values():
            if node.node.type is NodeType.MATERIALIZED:
                read.setdefault(node.node.datasource, set()).update(tables_read(snapshot, pipe, node))
    found = {table.name: table}
    waiting = [table.name]
    while waiting:
        for name in read.get(waiting.pop(), set()) - found.keys():
            found[name] = snapshot.tables[name]
            waiting.append(name)
    return tuple(found.values())


def dependencies(snapshot: Snapshot, pipe: CompiledPipe, node: CompiledNode) -> list[str]:
    """The names of resources and nodes that a node's SQL mentions, in order, without repeats."""
    found: dict[str, None] = {}
    for reference in references(node):
        target = snapshot.resolve(reference, pipe)
        if isinstance(target, TableTarget) and reference.database is not None:
            found[target.table.name] = None
        elif target is not None and reference.name != node.name:
            found[reference.name] = None
    return list(found)


def leftmost_table(snapshot: Snapshot, sql: str) -> str:
    """The data source that a composed statement reads first, whose inserts fire a view. Empty: it reads none."""
    first = first_table(sql)
    found = snapshot.physical_tables.get(f"{first.database}.{first.name}") if first else None
    return found.table.name if found and not found.quarantine and found.table.name in snapshot.tables else ""

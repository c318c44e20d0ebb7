"""A pipe and a request's values become one statement over physical tables, and the list of what it reads.

Nodes and pipes that a node reads become CTEs; names of data sources become `database`.`physical`, with the logical
name as alias so that `events.user_id` still means something. No value enters the text here (rule 2): the
binder of the request holds them. The work on a text is done once: few texts exist, since values are bound.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cachetools import LRUCache

from pipit.catalog import services
from pipit.catalog.snapshot import CompiledNode, CompiledPipe, NodeTarget, Snapshot, TableTarget, Target
from pipit.catalog.written import cte_name
from pipit.errors import Reason, SqlError, UnknownResource
from pipit.query.barriers import NO_BARRIERS, Barriers
from pipit.sql.allowed import ALLOWED_SETTINGS, ALLOWED_TABLE_FUNCTIONS
from pipit.sql.identifiers import quote
from pipit.sql.references import (
    TableReference,
    find_table_functions,
    find_tables,
    rename,
    single_statement,
    strip_settings,
    trailing_clauses,
    with_ctes,
)
from pipit.templates import Binder, RequestValue

# The engine's own tables that SQL may read (Tinybird's dialect): they hold nothing of anybody.
SYSTEM_TABLES = frozenset({"system.one", "system.numbers", "system.numbers_mt"})
# Characters of SQL kept in memory by each cache, for all workspaces together. Counted in characters and not in
# texts: a value printed into an unaliased column makes a text as long as its sender likes.
CACHE_CHARACTERS = 64 * 1024 * 1024
_RELEASE = re.compile(r"v[0-9]+(?:_[0-9]+)*")
# Nodes in one statement: far above real projects, low enough that a chain cannot be a weapon.
_MAX_NODES = 500


@dataclass(frozen=True, slots=True)
class Prepared:
    """One node's rendered text with names replaced; what it reads directly; its own SETTINGS, hoisted."""

    sql: str
    tables: frozenset[str]
    nodes: tuple[NodeTarget, ...]
    names: frozenset[str] = frozenset()  # the resources it names, as a token's scopes name them
    written: frozenset[str] = frozenset()  # the same as they stand in the text
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Composed:
    """One statement. `tables` are physical (`database.table`): all that it may read, by construction."""

    sql: str
    tables: frozenset[str]
    settings: Mapping[str, str]
    names: frozenset[str] = frozenset()  # data sources and pipes that the outermost text names
    cache_seconds: int = 0  # what a `cache_ttl` of the pipe's own nodes says; 0: none does
    pipes: frozenset[str] = frozenset()  # those whose nodes stand in it
    chosen: frozenset[str] = frozenset()  # resources that a request's value named, and no author's text


@dataclass(frozen=True, slots=True)
class _Work:
    """What every text of one statement is made with."""

    snapshot: Snapshot
    values: Mapping[str, RequestValue]
    binder: Binder
    barriers: Barriers


class Composer:
    """Composes statements; remembers what it learned about each text. Shared by all requests, changed by none."""

    def __init__(self) -> None:
        self._prepared: LRUCache[tuple[object, ...], Prepared] = LRUCache(CACHE_CHARACTERS, _size)
        self._joined: LRUCache[tuple[object, ...], str] = LRUCache(CACHE_CHARACTERS, len)

    def pipe(
        self,
        snapshot: Snapshot,
        pipe: CompiledPipe,
        node: CompiledNode,
        values: Mapping[str, RequestValue],
        binder: Binder,
        *,
        over: str | None = None,
        barriers: Barriers = NO_BARRIERS,
    ) -> Composed:
        """The statement of a pipe's node. `over` is SQL over `_`, which then means this node's result."""
        binder.identifiers.clear()
        work = _Work(snapshot, values, binder, barriers)
        target = NodeTarget(pipe, node)
        if over is not None:
            return self._compose(work, over, owner=pipe, top=target, underscore=target)
        return self._compose(work, render(snapshot, node, values, binder), owner=pipe, top=target)

    def sql(
        self,
        snapshot: Snapshot,
        text: str,
        values: Mapping[str, RequestValue],
        binder: Binder,
        *,
        pipeline: tuple[CompiledPipe, CompiledNode] | None = None,
        barriers: Barriers = NO_BARRIERS,
    ) -> Composed:
        """The statement of a workspace's own SQL (already rendered). `_` means the node of `pipeline`."""
        underscore = NodeTarget(*pipeline) if pipeline else None
        return self._compose(_Work(snapshot, values, binder, barriers), text, underscore=underscore)

    def _compose(
        self,
        work: _Work,
        text: str,
        *,
        owner: CompiledPipe | None = None,
        top: NodeTarget | None = None,
        underscore: NodeTarget | None = None,
    ) -> Composed:
        """`owner`: the pipe whose text it is, `top` its node; None for a workspace's own SQL.

        `underscore`: what `_` means in it.
        """
        # Rendered depth first, each node once: the order of binding, and so the text, depends on nothing but texts.
        binder = work.binder
        first = self._prepare(work, owner, text, under=underscore)
        chosen = _chosen(first, top.node, binder) if top else set()
        parts: dict[tuple[str, str], Prepared] = {}
        path: list[tuple[str, str]] = []
        if top is not None and underscore is None:
            path.append((top.pipe.name, top.node.name))
        asked = top or underscore

        def visit(target: NodeTarget) -> None:
            key = (target.pipe.name, target.node.name)
            if key in path:
                raise SqlError(
                    f"Recursive reference to the node '{key[1]}' of the pipe '{key[0]}'",
                    reason=Reason.RECURSIVE_REFERENCE,
                    subject=key[1],
                )
            if key in parts:
                return
            path.append(key)
            said = binder.cache_seconds
            rendered = render(work.snapshot, target.node, work.values, binder)
            if asked is None or target.pipe is not asked.pipe:
                binder.cache_seconds = said  # the pipe of the request decides whether its response is cached
            prepared = self._prepare(work, target.pipe, rendered)
            chosen.update(_chosen(prepared, target.node, binder))
            for inner in prepared.nodes:
                visit(inner)
            path.pop()
            parts[key] = prepared
            if len(parts) > _MAX_NODES:
                raise SqlError(f"The query reads more than {_MAX_NODES} nodes", reason=Reason.QUERY_TOO_COMPLEX)

        for target in first.nodes:
            visit(target)
        settings: dict[str, str] = {}
        for part in parts.values():
            settings |= part.settings
        settings |= {**first.settings, **binder.settings}
        tables = first.tables.union(*(p.tables for p in parts.values()))
        pipes = frozenset(name for name, _ in parts)
        text = self._join(work.snapshot, first, parts)
        return Composed(text, tables, settings, first.names, binder.cache_seconds, pipes, frozenset(chosen))

    def _join(self, snapshot: Snapshot, top: Prepared, parts: Mapping[tuple[str, str], Prepared]) -> str:
        """The outermost text with the other nodes before it."""
        if not parts:
            return top.sql
        names = tuple(parts)
        key = (snapshot.workspace.database_id, snapshot.edition, names, top.sql, *(p.sql for p in parts.values()))
        found = self._joined.get(key)
        if found is None:
            found = with_ctes(top.sql, [(cte_name(*name), part.sql) for name, part in parts.items()])
            remember(self._joined, key, found)
        return found

    def _prepare(
        self, work: _Work, pipe: CompiledPipe | None, text: str, *, under: NodeTarget | None = None
    ) -> Prepared:
        """Replaces the names in one rendered text. Raises SqlError on a name that is no resource of the workspace."""
        scope = f"{pipe.name if pipe else ''}\0{under.pipe.name + '.' + under.node.name if under else ''}"
        snapshot, barriers = work.snapshot, work.barriers
        key = (snapshot.workspace.database_id, snapshot.edition, scope, barriers.key, text)
        found = self._prepared.get(key)
        if found is None:
            found = prepare(snapshot, pipe, text, under=under, barriers=barriers)
            remember(self._prepared, key, found)
        return found


def render(snapshot: Snapshot, node: CompiledNode, values: Mapping[str, RequestValue], binder: Binder) -> str:
    """A node's SQL with its values bound."""
    if node.template is None:
        return node.node.sql
    binder.identifiers.clear()
    return node.template.render(values, binder, secrets=snapshot.secrets)


def _chosen(prepared: Prepared, node: CompiledNode, binder: Binder) -> set[str]:
    """The resources of a text that were printed as identifiers just now, and are no word of its author's."""
    words = node.template.words if node.template is not None else frozenset()
    return (binder.identifiers & prepared.written) - words


def prepare(
    snapshot: Snapshot,
    pipe: CompiledPipe | None,
    text: str,
    *,
    under: NodeTarget | None = None,
    barriers: Barriers = NO_BARRIERS,
) -> Prepared:
    """One text: a single SELECT, its SETTINGS hoisted, names of resources replaced, everything else refused."""
    sql, own_settings = strip_settings(single_statement(text))
    if trailing_clauses(sql):
        raise SqlError(
            "FORMAT and INTO OUTFILE are not allowed here",
            hint="Ask for a format in the URL.",
            reason=Reason.CLAUSE_REFUSED,
        )
    for name in own_settings:  # hoisted, so that nothing after this sees them; inner ones are for `sql.precheck`
        if name not in ALLOWED_SETTINGS:
            raise SqlError(
                f"The setting '{name}' is not allowed in SQL",
                hint="Remove it from SETTINGS.",
                reason=Reason.SETTING_REFUSED,
                subject=name,
            )
    for function in find_table_functions(sql):
        if function.name not in ALLOWED_TABLE_FUNCTIONS:
            raise SqlError(
                f"The table function '{function.name}' is not allowed",
                reason=Reason.TABLE_FUNCTION_REFUSED,
                subject=function.name,
            )
    tables: set[str] = set()
    names: set[str] = set()
    written: set[str] = set()
    columns: set[str] = set()
    nodes: dict[tuple[str, str], NodeTarget] = {}
    replacements: dict[int, str | tuple[str, str]] = {}
    for reference in find_tables(sql):
        if f"{reference.database}.{reference.name}" in SYSTEM_TABLES:
            continue
        target: Target | None
        if under is not None and reference.database is None and reference.name == "_":
            target = under
        else:
            target = snapshot.resolve(reference, pipe)
        if target is None:
            if reference.kind == "in":
                continue  # `x IN name` may be a column or an alias; a table would be seen in the engine's tree
            full = f"{reference.database}.{reference.name}" if reference.database else reference.name
            raise _not_found(reference, full)
        written.add(reference.name)
        if isinstance(target, TableTarget):
            tables.add(f"{target.table.database}.{target.physical}")
            names.add(target.table.name)
            columns |= {column.name for column in target.table.datasource.columns}
            new = barriers.replacement_of(target, reference.kind, sql)
        else:
            nodes[(target.pipe.name, target.node.name)] = target
            names.add(target.pipe.name)
            new = quote(cte_name(target.pipe.name, target.node.name))
        replacements[reference.start] = new
    renamed = rename(sql, replacements, home=snapshot.workspace.name, columns=columns)
    listed = frozenset(names), frozenset(written)
    return Prepared(renamed, frozenset(tables), tuple(nodes.values()), *listed, own_settings)


def _not_found(reference: TableReference, full: str) -> UnknownResource:
    if reference.database == services.DATABASE:
        hint = f"The service data sources are {', '.join(services.SERVICES)}."
    elif reference.database is not None and _RELEASE.fullmatch(reference.database):
        return UnknownResource(
            f"Resource '{full}' not found: {reference.database} is a release of Tinybird Classic, and here is only "
            "what is deployed",
            hint=f"Write {reference.name}: what is live. An older release's rows need a data source of their own.",
            reason=Reason.RESOURCE_NOT_FOUND,
            subject=full,
        )
    elif reference.database is not None:
        hint = f"A data source that '{reference.database}' shares has its file in vendor/{reference.database}/."
    else:
        hint = "It is not a data source, a pipe or a node of this pipe in the workspace."
    return UnknownResource(f"Resource '{full}' not found", hint=hint, reason=Reason.RESOURCE_NOT_FOUND, subject=full)


def remember(cache: LRUCache[Any, Any], key: object, value: object) -> None:
    """Puts a text into a bounded cache, unless it alone would push many others out."""
    if cache.getsizeof(value) <= CACHE_CHARACTERS // 256:
        cache[key] = value


def _size(prepared: Prepared) -> int:
    return len(prepared.sql)

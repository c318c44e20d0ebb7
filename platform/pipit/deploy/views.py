"""The SQL of materialized views, as the engine will hold it: composed over physical tables, without parameters.

Used for creating a view, for filling it from rows that are there, and for seeing whether a deploy changes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from msgspec import structs

from pipit.catalog.build import node_error
from pipit.catalog.snapshot import CompiledNode, CompiledPipe, Snapshot, Table
from pipit.catalog.state import TableNames
from pipit.datafiles.resources import NodeType
from pipit.engine.client import Engine
from pipit.query.compose import Composer
from pipit.query.nested import described, select
from pipit.sql.identifiers import quote
from pipit.sql.references import find_tables, single_statement
from pipit.templates import Binder


@dataclass(frozen=True, slots=True)
class View:
    """`key` is "pipe.node". `sql` is what the engine holds, without its SETTINGS; `tables` are all that it reads."""

    key: str
    pipe: CompiledPipe
    node: CompiledNode
    target: Table
    sql: str
    tables: frozenset[str]
    settings: Mapping[str, str] = field(default_factory=dict)

    def create(self, database: str, physical: str, columns: tuple[str, ...]) -> str:
        """The DDL. `columns` are those that both the query and the target have: the rest of the query is dropped."""
        into = f"{quote(self.target.database)}.{quote(self.target.physical)}"
        return f"CREATE MATERIALIZED VIEW {quote(database)}.{quote(physical)} TO {into} AS {self.select(columns)}"

    def fill(self, columns: tuple[str, ...]) -> str:
        """Writes what the view would have written for the rows that its source holds now."""
        into = f"{quote(self.target.database)}.{quote(self.target.physical)}"
        names = ", ".join(quote(c) for c in columns)
        return f"INSERT INTO {into} ({names}) {self.select(columns)}"

    def select(self, columns: tuple[str, ...]) -> str:
        return select(columns, self.sql, self.settings)

    def says_the_same(self, other: View) -> bool:
        return (self.sql, self.settings, self.target.name) == (other.sql, other.settings, other.target.name)


def views_of(snapshot: Snapshot, composer: Composer, *, pipes: Iterable[CompiledPipe] | None = None) -> dict[str, View]:
    """All views of a snapshot, or of these pipes.

    Raises DatafileError where a view's SQL takes parameters or reads what is not there.
    """
    views: dict[str, View] = {}
    for pipe in snapshot.pipes.values() if pipes is None else pipes:
        for node in pipe.nodes.values():
            if node.node.type is not NodeType.MATERIALIZED:
                continue
            target = snapshot.tables[node.node.datasource]
            binder = Binder()
            composed = composer.pipe(snapshot, pipe, node, {}, binder)
            if binder.params:
                raise node_error(
                    pipe.pipe,
                    node.node,
                    "A materialized node cannot take parameters: it runs when rows are inserted",
                    hint="Remove the parameters, or make it an endpoint.",
                )
            if composed.tables & snapshot.service_tables:
                raise node_error(
                    pipe.pipe,
                    node.node,
                    "A materialized node cannot read a service data source (tinybird.*)",
                    hint="Read it in an endpoint or a copy.",
                )
            key = f"{pipe.name}.{node.name}"
            views[key] = View(key, pipe, node, target, composed.sql, composed.tables, composed.settings)
    return views


async def common_columns(engine: Engine, view: View) -> tuple[str, ...]:
    """The columns that the view's query gives and its target has, in the query's order."""
    return tuple(name for name, of_target in await _columns(engine, view) if of_target)


async def missing_columns(engine: Engine, view: View) -> tuple[str, ...]:
    """The columns of the view's query that its target lacks: dropped, with a warning (as the dialect does)."""
    return tuple(name for name, of_target in await _columns(engine, view) if not of_target)


async def _columns(engine: Engine, view: View) -> list[tuple[str, bool]]:
    """The columns of its query, and whether the target has them."""
    target = {c.name for c in view.target.datasource.columns}
    found = await described(engine, view.sql, database=view.target.database, settings=view.settings)
    return [(name, name in target) for name, _ in found]


def names_with_sources(names: TableNames, new: Snapshot, views: Mapping[str, View]) -> TableNames:
    """The names with what feeds each table: what they remember, and all that the engine gets to see in its views."""
    known = new.physical_tables
    sources = {t.physical: set(names.sources.get(t.physical, ())) for t in new.tables.values()}
    for view in views.values():
        sources[view.target.physical] |= {known[table].table.name for table in view.tables if table in known}
    return structs.replace(names, sources={physical: sorted(found) for physical, found in sources.items()})


def trigger(snapshot: Snapshot, view: View) -> str:
    """The data source whose inserts fire the view: the left-most table of its query, through nodes and pipes."""
    physical = {f"{t.database}.{t.physical}": name for name, t in snapshot.tables.items()}
    for reference in find_tables(single_statement(view.sql)):
        name = physical.get(f"{reference.database}.{reference.name}")
        if name is not None:
            return name
    return ""

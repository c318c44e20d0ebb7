"""The SQL of materialized views, as the engine will hold it: composed over physical tables, without parameters.

Used for creating a view, for filling it from rows that are there, and for seeing whether a deploy changes it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipit.catalog.build import node_error
from pipit.catalog.lineage import leftmost_table
from pipit.catalog.snapshot import CompiledNode, CompiledPipe, Snapshot, Table
from pipit.datafiles.resources import NodeType
from pipit.deploy.concurrency import run_bounded
from pipit.engine.client import Engine, ParamValue
from pipit.errors import PipitError, Unavailable
from pipit.ingest.match import Match, is_checked, matched
from pipit.query.compose import Composer
from pipit.sql.identifiers import quote
from pipit.templates import Binder

log = logging.getLogger("pipit.deploy")

_AT_ONCE = 4  # views whose columns are looked at


@dataclass(frozen=True, slots=True)
class View:
    """`key` is "pipe.node". `sql` is what the engine holds, without its SETTINGS; `tables` are all that it reads.

    `plain` is the same text where no column is hidden: what its author wrote, whatever was removed from the tables.
    """

    key: str
    pipe: CompiledPipe
    node: CompiledNode
    target: Table
    sql: str
    tables: frozenset[str]
    settings: Mapping[str, str] = field(default_factory=dict)
    plain: str = ""

    @property
    def into(self) -> str:
        return f"{quote(self.target.database)}.{quote(self.target.physical)}"

    def create(self, database: str, physical: str, columns: Match) -> str:
        """The DDL. `columns` are those that both the query and the target have: the rest of the query is dropped."""
        made = f"{quote(database)}.{quote(physical)}"
        return f"CREATE MATERIALIZED VIEW {made} TO {self.into} AS {columns.select(self.sql, self.settings)}"

    def fill(self, columns: Match) -> str:
        """Writes what the view would have written for the rows that its source holds now."""
        return columns.insert(self.into, self.sql, self.settings)

    def says_the_same(self, other: View) -> bool:
        mine, theirs = self.plain or self.sql, other.plain or other.sql
        return (mine, self.settings, self.target.name) == (theirs, other.settings, other.target.name)


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
            plain = ""
            if snapshot.hides_nothing is not snapshot:
                plain = Composer().pipe(snapshot.hides_nothing, pipe, node, {}, Binder()).sql
            views[key] = View(key, pipe, node, target, composed.sql, composed.tables, composed.settings, plain)
    return views


async def match_of(engine: Engine, view: View, params: Mapping[str, ParamValue] | None = None) -> Match:
    """The view's query against its target, as the engine has it."""
    target = view.target
    return await matched(
        engine,
        view.sql,
        params,
        database=target.database,
        table=target.physical,
        name=target.name,
        settings=view.settings,
        hidden=target.hidden,
    )


async def matches_of(engine: Engine, snapshot: Snapshot) -> dict[str, Match]:
    """By view ("pipe.node"), of a snapshot whose tables stand in the engine."""
    views = views_of(snapshot, Composer())
    found = await run_bounded([match_of(engine, view) for view in views.values()], _AT_ONCE)
    return dict(zip(views, found, strict=True))


def views_to_make_again(live: Snapshot, selects: Mapping[str, str]) -> tuple[str, ...]:
    """The live views that would take something else of their query: `selects`, what each view is to take now."""
    known = live.names.selects
    return tuple(
        key
        for key, text in selects.items()
        if key in live.names.views and (text != known[key] if key in known else is_checked(text))
    )


async def must_make_views_again(engine: Engine, live: Snapshot) -> bool:
    """Whether one of the live views takes something else of its query than it would if it were made now."""
    try:
        selects = {key: match.text for key, match in (await matches_of(engine, live)).items()}
    except Unavailable:
        raise
    except PipitError as error:  # it was valid when it was deployed
        log.warning("the columns of a view cannot be looked at: %s", error)
        return False
    return bool(views_to_make_again(live, selects))


def trigger(snapshot: Snapshot, view: View) -> str:
    """The data source whose inserts fire the view, through nodes and pipes."""
    return leftmost_table(snapshot, view.sql)

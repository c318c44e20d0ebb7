"""Tables that a deployment shares with the one that it takes the place of, when it is made live again.

What the other one altered is altered back where every value fits, and a column that the other one added is hidden: so
answers are those from before, as far as the rows allow it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from msgspec import structs

from pipit.catalog.snapshot import Snapshot, Table
from pipit.catalog.state import DeploymentRow, HiddenColumn
from pipit.datafiles.resources import Column, WarningKind
from pipit.datafiles.resources import Warning as ProjectWarning
from pipit.deploy.alterations import AddColumn, Alteration, ModifyColumn, ModifyTtl, exact_misfit, is_late
from pipit.deploy.compare import NeedsRebuild, RebuildCause, RemovedColumn, Same, changes, meaning
from pipit.deploy.compared import misfits
from pipit.deploy.hidden_columns import still_there
from pipit.deploy.same_tables import same_tables
from pipit.engine.client import Engine


@dataclass(frozen=True, slots=True)
class Alignment:
    """What is altered of shared tables before a deployment is live again, and after."""

    before: tuple[Alteration, ...] = ()
    after: tuple[ModifyColumn | ModifyTtl, ...] = ()

    @property
    def tables(self) -> frozenset[str]:
        return frozenset(one.table.name for one in (*self.before, *self.after))


async def alignment(engine: Engine, live: Snapshot, to: Snapshot) -> Alignment:
    """A column whose rows do not fit the type that it had stays as it is. Raises Unavailable."""
    shared = [table for name, table in live.tables.items() if _is_same(table, to.tables.get(name))]
    if all(meaning(table.datasource) == meaning(to.tables[table.name].datasource) for table in shared):
        return Alignment()
    live = await still_there(engine, live)
    same = await same_tables(engine, live, to.project)
    found: list[Alteration] = []
    for table in shared:
        known = same.get(table.name, Same(to.tables[table.name].datasource))
        aimed = replace(table, datasource=known.datasource)
        for one in changes(aimed, table.datasource, known, live.names.hidden.get(table.physical, {})):
            change: Alteration | None
            if isinstance(one, NeedsRebuild):
                change = _altered_back(one, aimed, table.datasource.columns)
            elif isinstance(one, RemovedColumn) or (isinstance(one, AddColumn) and one.replaces):
                continue
            else:
                change = one
            if change is None or (isinstance(change, ModifyColumn) and await misfits(engine, change)):
                continue
            found.append(change)
    late = [one for one in found if isinstance(one, ModifyColumn | ModifyTtl) and one.late]
    return Alignment(tuple(one for one in found if not is_late(one)), tuple(late))


def _is_same(table: Table, other: Table | None) -> bool:
    return other is not None and other.physical == table.physical


def _altered_back(one: NeedsRebuild, table: Table, columns: Iterable[Column]) -> ModifyColumn | None:
    """A type that was widened in place is not narrowed by a deploy; what fits both goes back all the same."""
    if one.cause is not RebuildCause.TYPE:
        return None
    before = next(column for column in columns if column.name == one.column)
    after = next(column for column in table.datasource.columns if column.name == one.column)
    return ModifyColumn(table, before, after, exact_misfit(before, after))


def with_hidden(row: DeploymentRow, live: Snapshot, to: Snapshot) -> DeploymentRow:
    """The row of `to`, with every column hidden that a table has from `live` and its own files do not name."""
    hidden = dict(row.tables.hidden)
    for name, table in live.tables.items():
        other = to.tables.get(name)
        if other is None or other.physical != table.physical:
            continue
        mine = {column.name for column in other.datasource.columns}
        found = {
            column.name: HiddenColumn(type=column.type, default=column.default, codec=column.codec)
            for column in table.datasource.columns
        }
        found |= live.names.hidden.get(table.physical, {})
        hidden[table.physical] = {column: kept for column, kept in found.items() if column not in mine}
    tables = structs.replace(row.tables, hidden={physical: columns for physical, columns in hidden.items() if columns})
    return replace(row, tables=tables)


def gaps(live: Snapshot, to: Snapshot) -> tuple[ProjectWarning, ...]:
    """The views of `to` that fill a table which `live` has as well, without them: what came meanwhile is not there."""
    found: list[ProjectWarning] = []
    for key in to.names.views.keys() - live.names.views.keys():
        pipe, _, name = key.partition(".")
        node = to.pipes[pipe].nodes[name].node
        if not _is_same(to.tables[node.datasource], live.tables.get(node.datasource)):
            continue
        place = node.position
        found.append(
            ProjectWarning(
                place.file or to.pipes[pipe].pipe.file,
                f"The materialized node '{name}' of '{pipe}' fills '{node.datasource}' again; rows that came meanwhile "
                "are not there",
                place.line,
                place.column,
                f"`pipit populate {pipe} --truncate` fills '{node.datasource}' anew from all rows of its source.",
                kind=WarningKind.STOPS_FILLING,
            )
        )
    return tuple(sorted(found, key=lambda one: one.message))

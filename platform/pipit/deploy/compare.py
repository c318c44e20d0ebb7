"""The live project against the new one: which resources differ, what of it is altered in place, and what is not.

What can be altered where it is (`alterations.py`) is an operation each; a removed column is hidden, not dropped. All
other changes need a table made anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from pipit.catalog.snapshot import Snapshot, Table
from pipit.catalog.state import HiddenColumn
from pipit.datafiles.resources import Column, DataSource, Position, Project
from pipit.deploy.alterations import (
    AddColumn,
    AddIndex,
    Alteration,
    DropIndex,
    ModifyColumn,
    ModifySettings,
    ModifyTtl,
    in_place,
)
from pipit.deploy.plan import Difference, Refusal, refusals_of
from pipit.errors import DatafileError, Reason
from pipit.tables.ddl import engine_settings, position_of

_NOWHERE = Position()


class RebuildCause(StrEnum):
    """What of a data source changes that its table cannot be altered to."""

    TYPE = "type"  # of a column: some values would be lost, or read otherwise
    COLUMN = "column"  # a removed or added one that the table's own definition hangs on
    ENGINE = "engine"
    SORTING_KEY = "sorting_key"
    PARTITION_KEY = "partition_key"
    PRIMARY_KEY = "primary_key"
    SAMPLING_KEY = "sampling_key"
    ENGINE_OPTION = "engine_option"  # ENGINE_VER and its like
    FORWARD_QUERY = "forward_query"  # says what becomes of the rows that are there
    REFUSED = "refused"  # the engine cannot alter a table so
    WAITS = "waits"  # the deployment is to wait, and the table that is live is not altered for it


_KEYS = (
    ("name", "engine", RebuildCause.ENGINE),
    ("sorting_key", "sorting key", RebuildCause.SORTING_KEY),
    ("partition_key", "partition key", RebuildCause.PARTITION_KEY),
    ("primary_key", "primary key", RebuildCause.PRIMARY_KEY),
    ("sampling_key", "sampling key", RebuildCause.SAMPLING_KEY),
    ("ver", "ENGINE_VER", RebuildCause.ENGINE_OPTION),
    ("is_deleted", "ENGINE_IS_DELETED", RebuildCause.ENGINE_OPTION),
    ("sign", "ENGINE_SIGN", RebuildCause.ENGINE_OPTION),
    ("version", "ENGINE_VERSION", RebuildCause.ENGINE_OPTION),
    ("columns", "ENGINE_COLUMNS", RebuildCause.ENGINE_OPTION),
)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What whoever deploys has said yes to."""

    destructive: bool = False  # delete data sources with their rows
    weaker: bool = False  # confine tenants less than what is live


@dataclass(frozen=True, slots=True)
class Same:
    """A data source that is written in another way than it is deployed: in the live text's words for all that means the
    same, with the types of the columns as the engine writes them, before and after."""

    datasource: DataSource
    old_types: Mapping[str, str] = field(default_factory=dict)
    new_types: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NeedsRebuild:
    """A change that the table cannot be altered to. `column`: where it is one column's."""

    datasource: str
    cause: RebuildCause
    message: str
    position: Position
    column: str = ""


@dataclass(frozen=True, slots=True)
class RemovedColumn:
    """It stays in the table, where nothing sees it."""

    table: Table
    column: Column


@dataclass(frozen=True, slots=True)
class Comparison:
    """`alterations` are of tables of which nothing needs a rebuild, `removed` of all. `instead`: what would be altered
    in place if the table were not made anew, as far as it matters; the new table has it."""

    datasources: Difference
    pipes: Difference
    connections: Difference
    alterations: tuple[Alteration, ...] = ()
    removed: tuple[RemovedColumn, ...] = ()
    needs_rebuild: tuple[NeedsRebuild, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    allowed: Allowed = Allowed()
    instead: tuple[Alteration, ...] = ()

    @property
    def rebuilds(self) -> frozenset[str]:
        return frozenset(found.datasource for found in self.needs_rebuild)

    @property
    def hidden(self) -> tuple[RemovedColumn, ...]:
        """The removed columns of tables that stay."""
        return tuple(one for one in self.removed if one.table.name not in self.rebuilds)

    def settled(self, refused: Sequence[NeedsRebuild] = ()) -> Comparison:
        """With what was `refused` besides. A table that is made anew is not altered."""
        found = (*self.needs_rebuild, *refused)
        anew = {one.datasource for one in found}
        altered = tuple(one for one in self.alterations if one.table.name not in anew)
        # The new table has it from the start, and what it deletes is deleted all the same.
        ttls = (one for one in self.alterations if isinstance(one, ModifyTtl) and one.table.name in anew)
        return replace(self, needs_rebuild=found, alterations=altered, instead=(*self.instead, *ttls))

    def beside(self) -> Comparison:
        """For a deployment that is to wait. What is live must not notice it: a table that would be altered in place
        gets a new generation. A removed column that comes back is in the table already, so it is no alteration; its
        values are nowhere else, so its table cannot be made anew."""
        altered = [one for one in self.alterations if not (isinstance(one, AddColumn) and one.found)]
        message = "The deployment waits, and the live table is not altered for it"
        anew = {
            one.table.name: NeedsRebuild(one.table.name, RebuildCause.WAITS, message, place_of_change(one))
            for one in reversed(altered)
        }
        back = [one for one in self.alterations if isinstance(one, AddColumn) and one.found and one.table.name in anew]
        refusals = (*self.refusals, *(_comes_back(one) for one in back))
        instead = (*self.instead, *altered)
        return replace(self.settled(tuple(anew.values())), instead=instead, refusals=refusals)

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.datasources or self.pipes or self.connections)


def compare_projects(
    live: Snapshot,
    project: Project,
    *,
    allowed: Allowed,
    same: Mapping[str, Same],
    weaker: Sequence[DatafileError] = (),
) -> Comparison:
    """`same` are data sources in the live text's words for all that means the same (`same_tables.py`); `weaker` is what
    the project confines less than what is live, where somebody looked."""
    old = live.project
    refusals = refusals_of(weaker, Reason.CONFINES_LESS)
    weaker_files = {error.file for error in weaker}
    alterations: list[Alteration] = []
    removed: list[RemovedColumn] = []
    rebuilds: list[NeedsRebuild] = []
    changed: list[str] = []
    for name, datasource in project.datasources.items():
        before = old.datasources.get(name)
        known = same.get(name, Same(datasource))
        after = known.datasource
        if before is None or meaning(before) == meaning(after):
            continue
        changed.append(name)
        table = replace(live.tables[name], datasource=after)
        found = list(changes(table, before, known, live.names.hidden.get(table.physical, {})))
        if found and after.forward_query and after.forward_query != before.forward_query:
            cause = RebuildCause.FORWARD_QUERY
            at = _at(after, position_of(after, "FORWARD_QUERY"))
            found.append(NeedsRebuild(name, cause, "A FORWARD_QUERY says what becomes of the rows", at))
        rebuilds += (one for one in found if isinstance(one, NeedsRebuild))
        removed += (one for one in found if isinstance(one, RemovedColumn))
        alterations += (one for one in found if not isinstance(one, NeedsRebuild | RemovedColumn))
        unsaid = not (allowed.destructive or allowed.weaker or after.file in weaker_files)
        if before.policed and not after.policed and unsaid:
            refusals.append(_removes_policy(after))
    deleted = tuple(name for name in old.datasources if name not in project.datasources)
    return Comparison(
        Difference(_new(old.datasources, project.datasources), tuple(changed), deleted),
        _difference(
            {name: pipe.text for name, pipe in old.pipes.items()},
            {name: pipe.text for name, pipe in project.pipes.items()},
        ),
        _difference(old.connections, project.connections),
        tuple(alterations),
        tuple(removed),
        tuple(rebuilds),
        tuple(refusals),
        allowed,
    ).settled()


def _new(old: Mapping[str, object], new: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(name for name in new if name not in old)


def _difference(old: Mapping[str, object], new: Mapping[str, object]) -> Difference:
    changed = tuple(name for name, one in new.items() if name in old and old[name] != one)
    return Difference(_new(old, new), changed, _new(new, old))


def _removes_policy(datasource: DataSource) -> Refusal:
    message = f"The ROW_POLICY of '{datasource.name}' is removed: every tenant would see all of its rows"
    error = DatafileError(message, file=datasource.file, hint="Put it back, or deploy with --allow-weaker.")
    return Refusal(Reason.REMOVES_POLICY, datasource.name, error)


def _comes_back(one: AddColumn) -> Refusal:
    place, name = place_of_change(one), one.table.name
    error = DatafileError(
        f"The removed column '{one.column.name}' of '{name}' comes back with its values, and more of the table "
        "changes: that cannot be made beside what is live",
        file=place.file or one.table.datasource.file,
        line=place.line or 1,
        column=place.column or 1,
        hint="Deploy without --no-promote, or bring the column back in a deploy of its own first.",
        reason=Reason.ALTERS_LIVE_TABLE,
        subject=name,
    )
    return Refusal(Reason.ALTERS_LIVE_TABLE, name, error)


def meaning(datasource: DataSource) -> DataSource:
    """The resource without what only says where it was written."""
    return replace(datasource.placeless(), file="", text="", parts=())


def changes(
    table: Table, before: DataSource, known: Same, hidden: Mapping[str, HiddenColumn]
) -> Iterator[Alteration | RemovedColumn | NeedsRebuild]:
    """What of one data source's table differs."""
    after = known.datasource
    yield from _columns(table, before, known, hidden)
    for attribute, word, cause in _KEYS:
        if _squash(getattr(before.engine, attribute)) != _squash(getattr(after.engine, attribute)):
            yield NeedsRebuild(after.name, cause, f"The {word} changes", _at(after, after.engine.position))
    yield from _indexes(table, before, after)
    if _squash(before.engine.ttl) != _squash(after.engine.ttl):
        yield ModifyTtl(table, before.engine.ttl, after.engine.ttl)
    old, new = engine_settings(before), engine_settings(after)
    if after.engine.name != "Null" and old != new:
        names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        yield ModifySettings(table, {n: old.get(n) for n in names}, {n: new.get(n) for n in names})


def _columns(
    table: Table, before: DataSource, known: Same, hidden: Mapping[str, HiddenColumn]
) -> Iterator[Alteration | RemovedColumn | NeedsRebuild]:
    after = known.datasource
    old = {column.name: column for column in before.columns}
    previous = ""
    for column in after.columns:
        was, replaces = old.get(column.name), ""
        if was is None and column.name in hidden:
            kept = hidden[column.name]
            was = Column(column.name, kept.type, default=kept.default, codec=kept.codec)
            if _is_in_place(was, column, known):
                yield AddColumn(table, was, previous, found=True)
            else:
                was, replaces = None, kept.type
        if was is None:
            has_value = column.jsonpath is None or column.nullable or column.default is not None
            yield AddColumn(table, column, previous, unset=not has_value, replaces=replaces)
        else:
            yield from _modified(table, was, column, known)
        previous = column.name
    kept_names = {column.name for column in after.columns}
    for name, column in old.items():
        if name not in kept_names:
            yield RemovedColumn(table, column)


def _is_in_place(was: Column, column: Column, known: Same) -> bool:
    type = known.new_types.get(column.name, column.type)
    return was.type == type or in_place(column.name, was.type, type) is not None


def _modified(table: Table, was: Column, column: Column, known: Same) -> Iterator[ModifyColumn | NeedsRebuild]:
    misfit = ""
    if _squash(was.type) != _squash(column.type):
        old = known.old_types.get(was.name, was.type)
        new = known.new_types.get(column.name, column.type)
        found = in_place(column.name, old, new) if old and new else None
        if found is None:
            message = f"The type of '{column.name}' changes from {was.type} to {column.type}"
            at = _at(table.datasource, column.position)
            yield NeedsRebuild(table.name, RebuildCause.TYPE, message, at, column.name)
            return
        misfit = found.misfit
    elif _squash(was.default or "") == _squash(column.default or "") and was.codec == column.codec:
        return
    yield ModifyColumn(table, was, column, misfit)


def _indexes(table: Table, before: DataSource, after: DataSource) -> Iterator[AddIndex | DropIndex]:
    old = {index.name: index for index in before.indexes}
    new = {index.name: index for index in after.indexes}
    for name, index in old.items():
        if name not in new:
            yield DropIndex(table, index)
    for name, index in new.items():
        if name not in old:
            yield AddIndex(table, index)
        elif old[name] != index:
            yield DropIndex(table, old[name])
            yield AddIndex(table, index)


def _at(datasource: DataSource, position: Position) -> Position:
    return replace(position, file=position.file or datasource.file)


def place_of_change(alteration: Alteration) -> Position:
    """Where the files say what it does."""
    datasource = alteration.table.datasource
    match alteration:
        case AddColumn(_, column) | ModifyColumn(_, _, column):
            return _at(datasource, column.position)
        case AddIndex() | DropIndex():
            return _at(datasource, position_of(datasource, "INDEXES"))
        case ModifyTtl():
            return _at(datasource, position_of(datasource, "ENGINE_TTL"))
        case ModifySettings():
            return _at(datasource, position_of(datasource, "ENGINE_SETTINGS"))


def _squash(text: str) -> str:
    return re.sub(r"\s+", "", text)

"""The live project against the new one: which resources differ, and what of it no deploy can do.

Only additive changes are made to tables that are there: a new column that old rows have a value for. Everything else
is a refusal, so nothing is lost by accident.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pipit.catalog.snapshot import Snapshot
from pipit.datafiles.resources import Column, DataSource, Position, Project
from pipit.deploy.plan import Difference, Refusal, refusals_of
from pipit.errors import DatafileError, Reason

_NOWHERE = Position()
REBUILD = "This needs a rebuilt table, which this version cannot do yet; nothing was changed."
_REBUILD_HINT = (
    "Add a new data source with the new schema and write to both, or undo the change. "
    "Rebuilding deployments (FORWARD_QUERY, backfill) come with a later version."
)
_ENGINE_PARTS = (
    ("name", "engine"),
    ("sorting_key", "sorting key"),
    ("partition_key", "partition key"),
    ("primary_key", "primary key"),
    ("sampling_key", "sampling key"),
    ("ttl", "TTL"),
    ("ver", "ENGINE_VER"),
    ("is_deleted", "ENGINE_IS_DELETED"),
    ("sign", "ENGINE_SIGN"),
    ("version", "ENGINE_VERSION"),
    ("columns", "ENGINE_COLUMNS"),
)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What whoever deploys has said yes to."""

    destructive: bool = False  # delete data sources with their rows
    weaker: bool = False  # confine tenants less than what is live


@dataclass(frozen=True, slots=True)
class NewColumn:
    """`after` is the column before it; "": it is the first."""

    datasource: str
    column: Column
    after: str


@dataclass(frozen=True, slots=True)
class Comparison:
    datasources: Difference
    pipes: Difference
    connections: Difference
    new_columns: tuple[NewColumn, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.datasources or self.pipes or self.connections)


def compare_projects(
    live: Snapshot,
    project: Project,
    *,
    allowed: Allowed,
    same: Mapping[str, DataSource],
    weaker: Sequence[DatafileError] = (),
) -> Comparison:
    """`same` are data sources in the live text's words for all that means the same (`same_tables.py`); `weaker` is what
    the project confines less than what is live, where somebody looked."""
    old = live.project
    refusals = refusals_of(weaker, Reason.CONFINES_LESS)
    weaker_files = {error.file for error in weaker}
    columns: list[NewColumn] = []
    changed: list[str] = []
    for name, datasource in project.datasources.items():
        before = old.datasources.get(name)
        after = same.get(name, datasource)
        if before is None or _meaning(before) == _meaning(after):
            continue
        changed.append(name)
        for found in _changes(before, after):
            columns.append(found) if isinstance(found, NewColumn) else refusals.append(found)
        unsaid = not (allowed.destructive or allowed.weaker or after.file in weaker_files)
        if before.policed and not after.policed and unsaid:
            refusals.append(_removes_policy(after))
    deleted = tuple(name for name in old.datasources if name not in project.datasources)
    if not allowed.destructive:
        refusals += [_deletes_rows(old.datasources[name]) for name in deleted]
    return Comparison(
        Difference(_new(old.datasources, project.datasources), tuple(changed), deleted),
        _difference(
            {name: pipe.text for name, pipe in old.pipes.items()},
            {name: pipe.text for name, pipe in project.pipes.items()},
        ),
        _difference(old.connections, project.connections),
        tuple(columns),
        tuple(refusals),
    )


def _new(old: Mapping[str, object], new: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(name for name in new if name not in old)


def _difference(old: Mapping[str, object], new: Mapping[str, object]) -> Difference:
    changed = tuple(name for name, one in new.items() if name in old and old[name] != one)
    return Difference(_new(old, new), changed, _new(new, old))


def _removes_policy(datasource: DataSource) -> Refusal:
    message = f"The ROW_POLICY of '{datasource.name}' is removed: every tenant would see all of its rows"
    error = DatafileError(message, file=datasource.file, hint="Put it back, or deploy with --allow-weaker.")
    return Refusal(Reason.REMOVES_POLICY, datasource.name, error)


def _deletes_rows(datasource: DataSource) -> Refusal:
    name = datasource.name
    error = DatafileError(
        f"The data source '{name}' is deployed and is missing from the project; deleting it deletes its rows",
        file=datasource.file,
        hint="Put the file back, or deploy with --allow-destructive-operations.",
    )
    return Refusal(Reason.DELETES_ROWS, name, error)


def _meaning(datasource: DataSource) -> DataSource:
    """The resource without what only says where it was written."""
    return replace(datasource.placeless(), file="", text="", parts=())


def _changes(before: DataSource, after: DataSource) -> Iterator[NewColumn | Refusal]:
    """The columns to add to one data source's table, and what cannot be done to it."""

    def rebuild(message: str, at: Position = _NOWHERE) -> Refusal:
        file = at.file or after.file
        message = f"{message}. {REBUILD}"
        error = DatafileError(message, file=file, line=at.line, column=at.column, hint=_REBUILD_HINT)
        return Refusal(Reason.NEEDS_REBUILD, after.name, error)

    old = {column.name: column for column in before.columns}
    previous = ""
    for column in after.columns:
        known = old.get(column.name)
        if known is None:
            has_value = column.jsonpath is None or column.nullable or column.default is not None
            yield NewColumn(after.name, column, previous) if has_value else _no_value(after, column)
        elif _squash(known.type) != _squash(column.type):
            yield rebuild(f"The type of '{column.name}' changes from {known.type} to {column.type}", column.position)
        elif _squash(known.default or "") != _squash(column.default or ""):
            yield rebuild(f"The DEFAULT of '{column.name}' changes", column.position)
        previous = column.name
    kept = {column.name for column in after.columns}
    for name in (name for name in old if name not in kept):
        yield rebuild(f"The column '{name}' is removed")
    for attribute, word in _ENGINE_PARTS:
        if _squash(getattr(before.engine, attribute)) != _squash(getattr(after.engine, attribute)):
            yield rebuild(f"The {word} changes", after.engine.position)
    if dict(before.engine.settings) != dict(after.engine.settings):
        yield rebuild("ENGINE_SETTINGS change", after.engine.position)
    if before.indexes != after.indexes:
        yield rebuild("The indexes change")


def _no_value(datasource: DataSource, column: Column) -> Refusal:
    at = column.position
    error = DatafileError(
        f"The new column '{column.name}' has no value for the rows that are there",
        file=at.file or datasource.file,
        line=at.line,
        column=at.column,
        hint=f"Make it Nullable({column.type}) or give it a DEFAULT.",
    )
    return Refusal(Reason.NO_VALUE_FOR_ROWS, datasource.name, error)


def _squash(text: str) -> str:
    return re.sub(r"\s+", "", text)

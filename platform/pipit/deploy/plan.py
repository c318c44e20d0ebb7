"""What a deploy would change: the live project against the new one, in words and as operations.

Only additive changes are made in place: a new table, a new column that old rows can be filled for, new or changed
pipes, a new view. Everything else is an error that names what will do it later, so nothing is lost by accident.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace

from msgspec import structs

from pipit.catalog.names import mapped
from pipit.catalog.snapshot import Snapshot
from pipit.catalog.state import TableNames
from pipit.datafiles.resources import Column, DataSource, NodeType, Position, Project
from pipit.datafiles.resources import Warning as ProjectWarning
from pipit.errors import DatafileError

_NOWHERE = Position()
REBUILD = "This needs a rebuilt table, which this version cannot do yet; nothing was changed."
_REBUILD_HINT = (
    "Add a new data source with the new schema and write to both, or undo the change. "
    "Rebuilding deployments (FORWARD_QUERY, backfill) come with a later version."
)


@dataclass(frozen=True, slots=True)
class NewColumn:
    datasource: str
    column: Column
    after: str  # "" for the first


@dataclass(frozen=True, slots=True)
class Plan:
    """Names are logical. `names` maps them all to physical ones, old and new."""

    names: TableNames
    new_datasources: tuple[str, ...] = ()
    changed_datasources: tuple[str, ...] = ()
    deleted_datasources: tuple[str, ...] = ()
    new_pipes: tuple[str, ...] = ()
    changed_pipes: tuple[str, ...] = ()
    deleted_pipes: tuple[str, ...] = ()
    new_connections: tuple[str, ...] = ()
    changed_connections: tuple[str, ...] = ()
    deleted_connections: tuple[str, ...] = ()
    new_columns: tuple[NewColumn, ...] = ()
    new_views: tuple[str, ...] = ()  # "pipe.node"
    gone_views: tuple[str, ...] = ()
    changed_views: tuple[str, ...] = ()
    rechecked_views: tuple[str, ...] = ()  # made again for their conversions alone
    warnings: tuple[ProjectWarning, ...] = ()
    errors: tuple[DatafileError, ...] = field(default=())

    @property
    def is_empty(self) -> bool:
        said = {"names", "warnings", "errors"}
        return not any(getattr(self, part.name) for part in fields(self) if part.name not in said)


def make_plan(
    live: Snapshot,
    project: Project,
    *,
    existing: frozenset[str],
    allow_destructive: bool,
    allow_weaker: bool = False,
    same: Mapping[str, DataSource] | None = None,
) -> Plan:
    """Compares. `existing` are the tables that the workspace's database has now, whatever deployment made them. `same`
    are data sources in the live text's words for all that means the same (`same_tables.py`).
    """
    old = live.project
    errors: list[DatafileError] = []
    columns: list[NewColumn] = []
    changed: list[str] = []
    for name, datasource in project.datasources.items():
        before = old.datasources.get(name)
        datasource = (same or {}).get(name, datasource)
        if before is None or _meaning(before) == _meaning(datasource):
            continue
        changed.append(name)
        _compare(before, datasource, columns, errors)
        if before.policed and not datasource.policed and not (allow_destructive or allow_weaker):
            errors.append(
                DatafileError(
                    f"The ROW_POLICY of '{name}' is removed: every tenant would see all of its rows",
                    file=datasource.file,
                    hint="Put it back, or deploy with --allow-weaker.",
                )
            )
    deleted = tuple(n for n in old.datasources if n not in project.datasources)
    if deleted and not allow_destructive:
        errors.extend(
            DatafileError(
                f"The data source '{n}' is deployed and is missing from the project; deleting it deletes its rows",
                file=old.datasources[n].file,
                hint="Put the file back, or deploy with --allow-destructive-operations.",
            )
            for n in deleted
        )
    names, new_views, gone_views = _names(live, project, existing)
    errors.extend(_unguarded(project, names))
    return Plan(
        names=names,
        new_datasources=tuple(n for n in project.datasources if n not in old.datasources),
        changed_datasources=tuple(changed),
        deleted_datasources=deleted,
        new_pipes=tuple(n for n in project.pipes if n not in old.pipes),
        changed_pipes=tuple(n for n, p in project.pipes.items() if n in old.pipes and old.pipes[n].text != p.text),
        deleted_pipes=tuple(n for n in old.pipes if n not in project.pipes),
        new_connections=tuple(n for n in project.connections if n not in old.connections),
        changed_connections=tuple(
            n for n, c in project.connections.items() if n in old.connections and old.connections[n] != c
        ),
        deleted_connections=tuple(n for n in old.connections if n not in project.connections),
        new_columns=tuple(columns),
        new_views=new_views,
        gone_views=gone_views,
        warnings=project.warnings + tuple(_no_longer_filled(live, project, gone_views)),
        errors=tuple(errors),
    )


def _unguarded(project: Project, names: TableNames) -> Iterator[DatafileError]:
    """Rows of a policed data source outlive it in what was made from it; its policy does not."""
    for name, datasource in project.datasources.items():
        lost = names.lost.get(names.datasources[name])
        if lost and datasource.row_policy is None:
            yield DatafileError(
                f"'{name}' holds rows made from '{lost[0]}', which had a ROW_POLICY and is deleted",
                file=datasource.file,
                hint=f"Give '{name}' a ROW_POLICY of its own (`ROW_POLICY 0`: tenants see no row), or delete it too.",
            )


def _no_longer_filled(live: Snapshot, project: Project, gone: tuple[str, ...]) -> Iterator[ProjectWarning]:
    """Deleting a view deletes no row; from then on its target stands still."""
    for key in gone:
        pipe, _, name = key.partition(".")
        before = live.pipes[pipe].nodes[name].node if pipe in live.pipes else None
        target = before.datasource if before else ""
        if target not in project.datasources or before is None:
            continue
        sources = sorted(live.tables[target].sources) if target in live.tables else []
        what = f" from {', '.join(repr(s) for s in sources)}" if sources else ""
        place = before.position
        yield ProjectWarning(
            place.file or live.pipes[pipe].pipe.file,
            f"The materialized node '{name}' of '{pipe}' is deleted: it stops filling '{target}'{what}",
            place.line,
            place.column,
            f"The rows of '{target}' stay as they are. {undo_hint(target, pipe)}",
        )


def undo_hint(target: str, pipe: str) -> str:
    """How a view comes back to a target that is live."""
    return (
        f"To have it back later: the node again, BACKFILL skip in '{target}', deploy, and then "
        f"`pipit populate {pipe} --truncate`, which fills the target anew from all rows of its source."
    )


def _meaning(datasource: DataSource) -> DataSource:
    """The resource without what only says where it was written."""
    return replace(datasource.placeless(), file="", text="", parts=())


def _compare(before: DataSource, after: DataSource, columns: list[NewColumn], errors: list[DatafileError]) -> None:
    """The changes of one data source: additive ones into `columns`, the others into `errors`."""

    def refuse(message: str, at: Position = _NOWHERE) -> None:
        errors.append(
            DatafileError(
                f"{message}. {REBUILD}",
                file=at.file or after.file,
                line=at.line,
                column=at.column,
                hint=_REBUILD_HINT,
            )
        )

    old = {c.name: c for c in before.columns}
    previous = ""
    for column in after.columns:
        known = old.get(column.name)
        at = column.position
        if known is None:
            if column.jsonpath is not None and not column.nullable and column.default is None:
                errors.append(
                    DatafileError(
                        f"The new column '{column.name}' has no value for the rows that are there",
                        file=at.file or after.file,
                        line=at.line,
                        column=at.column,
                        hint=f"Make it Nullable({column.type}) or give it a DEFAULT.",
                    )
                )
            else:
                columns.append(NewColumn(after.name, column, previous))
        elif _squash(known.type) != _squash(column.type):
            refuse(f"The type of '{column.name}' changes from {known.type} to {column.type}", at)
        elif _squash(known.default or "") != _squash(column.default or ""):
            refuse(f"The DEFAULT of '{column.name}' changes", at)
        previous = column.name
    for name in old:
        if name not in {c.name for c in after.columns}:
            refuse(f"The column '{name}' is removed")
    for attribute, word in (
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
    ):
        if _squash(getattr(before.engine, attribute)) != _squash(getattr(after.engine, attribute)):
            refuse(f"The {word} changes", after.engine.position)
    if dict(before.engine.settings) != dict(after.engine.settings):
        refuse("ENGINE_SETTINGS change", after.engine.position)
    if before.indexes != after.indexes:
        refuse("The indexes change")


def _squash(text: str) -> str:
    return re.sub(r"\s+", "", text)


def _names(
    live: Snapshot, project: Project, existing: frozenset[str]
) -> tuple[TableNames, tuple[str, ...], tuple[str, ...]]:
    """Physical names: those that are there stay; a new one takes the first generation that no table has."""
    taken = set(existing)

    wanted = [
        f"{pipe.name}.{node.name}"
        for pipe in project.pipes.values()
        for node in pipe.nodes
        if node.type is NodeType.MATERIALIZED
    ]
    views = mapped("m", wanted, live.names.views, taken)
    kept = [t for n, t in live.tables.items() if n in project.datasources]
    leaving = {n for n, t in live.tables.items() if n not in project.datasources and t.policy is not None}
    lost = {t.physical: {*live.names.lost.get(t.physical, ()), *(t.sources & leaving)} for t in kept}
    names = TableNames(
        datasources=mapped("d", project.datasources, live.names.datasources, taken),
        quarantines=mapped("q", project.datasources, live.names.quarantines, taken),
        views=views,
        selects={key: text for key, text in live.names.selects.items() if key in views},
        sources={t.physical: sorted(t.sources) for t in kept},
        lost={physical: sorted(sources) for physical, sources in lost.items() if sources},
    )
    new = tuple(k for k in wanted if k not in live.names.views)
    gone = tuple(k for k in live.names.views if k not in views)
    return names, new, gone


def rename_views(plan: Plan, keys: tuple[str, ...], existing: frozenset[str]) -> Plan:
    """The plan with new physical names for these views: a changed view is a new object beside the old one."""
    taken = {*existing, *plan.names.views.values()}
    renamed = mapped("m", keys, {}, taken)
    names = structs.replace(plan.names, views=plan.names.views | renamed)
    return replace(plan, names=names, changed_views=keys)

"""Makes the plan: what is live and the project's files in, every operation and every refusal out. Asks nobody.

What the engine knows comes in with the `Change`, and the sizes of the tables beside it: the same change over other
rows is another plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from msgspec import structs

from pipit.catalog.build import in_database
from pipit.catalog.names import mapped
from pipit.catalog.snapshot import Snapshot, Table
from pipit.catalog.state import DeploymentRow, HiddenColumn, TableNames, TokenRow
from pipit.datafiles.resources import NodeType, WarningKind
from pipit.datafiles.resources import Warning as ProjectWarning
from pipit.deploy.alterations import Alteration, ModifyColumn, ModifyTtl, is_late
from pipit.deploy.compare import Comparison
from pipit.deploy.plan import (
    Cause,
    CreateTable,
    CreateView,
    Delete,
    DropTable,
    DropView,
    EndJobs,
    Fill,
    GoLive,
    HideColumn,
    Plan,
    Prepare,
    Refusal,
    refusals_of,
)
from pipit.deploy.removals import removals
from pipit.deploy.views import View, trigger, views_of, views_to_make_again
from pipit.errors import DatafileError, PipitError, Reason
from pipit.ingest.match import Match
from pipit.query.compose import Composer
from pipit.tables.sizes import Size, Sizes


@dataclass(frozen=True, slots=True)
class Change:
    """What a plan is made of, but for the sizes of the tables.

    `project` is the compiled project, in whichever database: the plan is for that of `live`. `matches`: what each view
    of it ("pipe.node") takes of its query. `invalid`: what the engine and the language refuse; the views of those files
    are not planned.
    """

    live: Snapshot
    project: Snapshot
    comparison: Comparison
    matches: Mapping[str, Match]
    number: int
    created_at: str
    tokens: tuple[TokenRow, ...] = ()
    invalid: tuple[DatafileError, ...] = ()
    warnings: tuple[ProjectWarning, ...] = ()
    tried: str = ""  # by which versions it was


def make_plan(change: Change, sizes: Sizes) -> Plan:
    """`sizes` are of all that stands in the live database now, whatever made it."""
    comparison, live = change.comparison, change.live
    names = _names(change, sizes)
    new = _placed(change, names)
    views = _views(change, new)
    live_views = views_of(live, Composer())
    causes = _causes(change, views, live_views)
    new = _placed(change, _with_views(names, new, views, causes, change, sizes))
    created = [
        CreateView(views[key], new.names.views[key], change.matches[key], cause)
        for key, cause in causes.items()
        if key in change.matches
    ]
    replaced = {key: cause for key, cause in causes.items() if key in live.names.views}
    gone = dict.fromkeys((key for key in live.names.views if key not in new.names.views), Cause.DELETED)
    fills, cannot_fill = _fills(live, new, created, sizes)
    late, through_live = _after_fills(live, new, created, fills)
    leaving = gone | replaced
    early = [one for one in comparison.alterations if not is_late(one)]
    prepare: list[Prepare] = [CreateTable(new.tables[name]) for name in comparison.datasources.new]
    return Plan(
        new,
        comparison.datasources,
        comparison.pipes,
        comparison.connections,
        waiting=_waiting(
            live, new, comparison.alterations, [one.view for one in created], [live_views[key] for key in leaving]
        ),
        prepare=(*prepare, *early, *(one for one in created if one not in late), *fills, *late),
        go_live=GoLive(
            DeploymentRow(change.number, change.created_at, new.project.files, new.names, change.tokens),
        ),
        hide=tuple(
            HideColumn(one.table, one.column, sizes.get(one.table.physical, Size()).rows) for one in comparison.hidden
        ),
        settle=tuple(one for one in comparison.alterations if isinstance(one, ModifyColumn | ModifyTtl) and one.late),
        retire=tuple(
            DropView(key, live.workspace.database, live.names.views[key], cause) for key, cause in leaving.items()
        ),
        delete=tuple(_deletions(live, new, comparison.datasources.deleted, sizes)),
        refusals=(
            *comparison.all_refusals,
            *removals(live, comparison, list(gone), sizes),
            *_unguarded(new),
            *refusals_of(change.invalid),
            *_changed_history(views, causes),
            *cannot_fill,
            *through_live,
        ),
        warnings=(*new.project.warnings, *_no_longer_filled(live, new, gone), *change.warnings),
        sizes=sizes,
    )


def unchanged(live: Snapshot, warnings: tuple[ProjectWarning, ...]) -> Plan:
    """Nothing is to be done."""
    return Plan(live, warnings=warnings)


# ---- names


def _placed(change: Change, names: TableNames) -> Snapshot:
    workspace = change.live.workspace
    return in_database(change.project, workspace, names, deployment=change.number, created_at=change.created_at)


def _names(change: Change, sizes: Sizes) -> TableNames:
    """Physical names of tables: those that are there stay; a new one takes the first generation that no table has."""
    live, project = change.live, change.project.project
    taken = set(sizes)
    kept = [table for name, table in live.tables.items() if name in project.datasources]
    leaving = {n for n, table in live.tables.items() if n not in project.datasources and table.policy is not None}
    lost = {t.physical: {*live.names.lost.get(t.physical, ()), *(t.sources & leaving)} for t in kept}
    return TableNames(
        datasources=mapped("d", project.datasources, live.names.datasources, taken),
        quarantines=mapped("q", project.datasources, live.names.quarantines, taken),
        sources={table.physical: sorted(table.sources) for table in kept},
        hidden={physical: columns for physical, columns in _hidden(change).items() if columns},
        late=_late(change),
        tried=change.tried,
        lost={physical: sorted(sources) for physical, sources in lost.items() if sources},
    )


def _hidden(change: Change) -> dict[str, dict[str, HiddenColumn]]:
    """The columns that are in the tables and not in the files: those of before that did not come back, and new ones."""
    live, project = change.live, change.project.project
    found = {
        table.physical: {
            column: kept
            for column, kept in live.names.hidden.get(table.physical, {}).items()
            if all(column != one.name for one in project.datasources[name].columns)
        }
        for name, table in live.tables.items()
        if name in project.datasources and name not in change.comparison.rebuilds
    }
    for removed in change.comparison.hidden:
        column = removed.column
        kept = HiddenColumn(type=column.type, default=column.default, codec=column.codec)
        found[removed.table.physical][column.name] = kept
    return found


def _late(change: Change) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in change.comparison.alterations:
        if is_late(one):
            named = one.after.name if isinstance(one, ModifyColumn) else ""
            found.setdefault(one.table.physical, []).append(named)
    return found


def _with_views(
    names: TableNames,
    new: Snapshot,
    views: Mapping[str, View],
    causes: Mapping[str, Cause],
    change: Change,
    sizes: Sizes,
) -> TableNames:
    """The names with those of the views, and with what feeds each table, all the way up.

    A view that is made is a new object beside the old one.
    """
    live = change.live.names
    wanted = [
        f"{pipe.name}.{node.name}"
        for pipe in new.project.pipes.values()
        for node in pipe.nodes
        if node.type is NodeType.MATERIALIZED
    ]
    kept = {key: name for key, name in live.views.items() if key in wanted and key not in causes}
    taken = {*sizes, *live.views.values()}
    selects = {key: text for key, text in live.selects.items() if key in kept}
    selects |= {key: change.matches[key].text for key in causes if key in change.matches}
    views_named = mapped("m", wanted, kept, taken)
    known = new.physical_tables
    direct = {table.physical: set(names.sources.get(table.physical, ())) for table in new.tables.values()}
    for view in views.values():
        # All that the engine gets to see in the view, also through nodes and other pipes.
        direct[view.target.physical] |= {known[table].table.name for table in view.tables if table in known}
    sources = {physical: sorted(found) for physical, found in direct.items()}
    names = structs.replace(names, views=views_named, selects=selects, sources=sources)
    closed = {table.physical: sorted(table.sources) for table in _placed(change, names).tables.values()}
    return structs.replace(names, sources=closed)


# ---- views


def _views(change: Change, new: Snapshot) -> dict[str, View]:
    if not change.invalid:
        return views_of(new, Composer())
    wrong = {error.file for error in change.invalid}
    found: dict[str, View] = {}
    for pipe in new.pipes.values():
        if pipe.pipe.file not in wrong:
            with suppress(PipitError):  # it reads what is wrong in another file
                found |= views_of(new, Composer(), pipes=[pipe])
    return found


def _causes(change: Change, views: Mapping[str, View], live_views: Mapping[str, View]) -> dict[str, Cause]:
    """The views to make, in the order in which they are made."""
    selects = {key: match.text for key, match in change.matches.items()}
    again = set(views_to_make_again(change.live, selects))
    causes: dict[str, Cause] = {}
    for key, view in views.items():
        if key not in live_views:
            causes[key] = Cause.NEW
        elif not view.says_the_same(live_views[key]):
            causes[key] = Cause.CHANGED
        elif key in again:
            causes[key] = Cause.CONVERSIONS
    return causes


def _fills(
    live: Snapshot, new: Snapshot, created: Iterable[CreateView], sizes: Sizes
) -> tuple[list[Fill], list[Refusal]]:
    """Those of new views over rows that are there. A new source is filled through its own views; a changed view keeps
    its history. Readers of a live target would see it half filled."""
    fills: list[Fill] = []
    refusals: list[Refusal] = []
    for made in created:
        source = live.tables.get(trigger(new, made.view))
        size = sizes.get(source.physical, Size()) if source else Size()
        if source is None or not size.rows or made.cause is not Cause.NEW:
            continue
        if made.view.target.datasource.backfill_skip:
            continue
        if made.view.target.name in live.tables:
            refusals.append(Refusal(Reason.FILLS_LIVE_TARGET, made.view.key, _cannot_fill(made.view, source.name)))
        else:
            fills.append(Fill(made.view, made.match, source, size))
    return fills, refusals


def _after_fills(
    live: Snapshot, new: Snapshot, created: Sequence[CreateView], fills: Sequence[Fill]
) -> tuple[list[CreateView], list[Refusal]]:
    """The views to make after the fills, as those would go through them: views of tables that are filled, whose own
    target is not to be. And the refusals of those whose live target would get rows so."""
    filled = {fill.view.target.name for fill in fills}
    late: list[CreateView] = []
    refusals: list[Refusal] = []
    left = list(created)
    while reached := [made for made in left if trigger(new, made.view) in filled]:
        left = [made for made in left if made not in reached]
        for made in reached:
            target = made.view.target
            if made.cause is not Cause.NEW or target.datasource.backfill_skip:
                late.append(made)
            elif target.name in live.tables:
                source = trigger(new, made.view)
                refusals.append(Refusal(Reason.FILLS_LIVE_TARGET, made.view.key, _cannot_fill(made.view, source)))
            else:
                filled.add(target.name)
    return late, refusals


def _changed_history(views: Mapping[str, View], causes: Mapping[str, Cause]) -> Iterator[Refusal]:
    """Only `DEPLOYMENT_METHOD alter` says that the rows of a view whose SQL changes may stay as they are."""
    for key, cause in causes.items():
        view = views[key]
        if cause is Cause.CHANGED and view.node.node.deployment_method.lower() != "alter":
            message = (
                f"The SQL of the materialized node '{view.node.name}' changes, so the rows of "
                f"'{view.target.name}' would have to be made again. This version cannot do that yet"
            )
            hint = "Add DEPLOYMENT_METHOD alter to keep the rows that are there, or use a new target data source."
            yield Refusal(Reason.CHANGES_VIEW, key, _at_node(view, message, hint))


def _cannot_fill(view: View, source: str) -> DatafileError:
    target = view.target.name
    return _at_node(
        view,
        f"'{target}' is live and '{source}' has rows: filling a live target is not possible yet",
        f"Write BACKFILL skip in {view.target.datasource.file} and deploy: new rows come from then on. Then "
        f"`pipit populate {view.pipe.name} --truncate` fills '{target}' anew from all rows of '{source}', in "
        "one step, if this view is all that fills it. Or use a new target.",
    )


def _at_node(view: View, message: str, hint: str) -> DatafileError:
    place = view.node.node.position
    file = place.file or view.pipe.pipe.file
    return DatafileError(message, file=file, line=place.line, column=place.column, hint=hint)


# ---- what waits, what goes


def _waiting(
    live: Snapshot, new: Snapshot, altered: Iterable[Alteration], created: Iterable[View], dropped: Iterable[View]
) -> tuple[Table, ...]:
    """The tables that feed a view which comes or goes, directly or through other views: each row is then counted once.

    Those that are altered too, with what feeds them: the engine does not bear an insert meanwhile, and a copy's
    replacement, which was made before, must not take their place.
    """
    names: set[str] = set()
    for one in altered:
        names |= {one.table.name, *(source for source in live.tables[one.table.name].sources if source in live.tables)}
    for snapshot, views in ((new, created), (live, dropped)):
        for view in views:
            source = trigger(snapshot, view)
            if source in live.tables:
                names |= {source, *(one for one in snapshot.tables[source].sources if one in live.tables)}
    return tuple(live.tables[name] for name in sorted(names))


def _deletions(live: Snapshot, new: Snapshot, deleted: tuple[str, ...], sizes: Sizes) -> Iterator[Delete]:
    if not deleted:
        return
    yield EndJobs(
        live.workspace.database_id,
        frozenset(
            name
            for name, pipe in live.pipes.items()
            if name not in new.pipes
            or new.pipes[name].pipe != pipe.pipe
            or any(node.node.target_datasource in deleted for node in pipe.nodes.values())
        ),
    )
    for name in deleted:
        table = live.tables[name]
        yield DropTable(table, sizes.get(table.physical, Size()))


def _unguarded(new: Snapshot) -> Iterator[Refusal]:
    """Rows of a policed data source outlive it in what was made from it; its policy does not."""
    for name, table in new.tables.items():
        lost = new.names.lost.get(table.physical)
        if lost and table.datasource.row_policy is None:
            error = DatafileError(
                f"'{name}' holds rows made from '{lost[0]}', which had a ROW_POLICY and is deleted",
                file=table.datasource.file,
                hint=f"Give '{name}' a ROW_POLICY of its own (`ROW_POLICY 0`: tenants see no row), or delete it too.",
            )
            yield Refusal(Reason.LOSES_POLICY, name, error)


def _no_longer_filled(live: Snapshot, new: Snapshot, gone: Iterable[str]) -> Iterator[ProjectWarning]:
    """Deleting a view deletes no row; from then on its target stands still."""
    for key in gone:
        pipe, _, name = key.partition(".")
        before = live.pipes[pipe].nodes[name].node if pipe in live.pipes else None
        if before is None or before.datasource not in new.tables:
            continue
        target = before.datasource
        sources = sorted(live.tables[target].sources) if target in live.tables else []
        what = f" from {', '.join(repr(s) for s in sources)}" if sources else ""
        place = before.position
        yield ProjectWarning(
            place.file or live.pipes[pipe].pipe.file,
            f"The materialized node '{name}' of '{pipe}' is deleted: it stops filling '{target}'{what}",
            place.line,
            place.column,
            f"The rows of '{target}' stay as they are. To have it back later: the node again, BACKFILL skip in "
            f"'{target}', deploy, and then `pipit populate {pipe} --truncate`, which fills the target anew from all "
            "rows of its source.",
            kind=WarningKind.STOPS_FILLING,
        )

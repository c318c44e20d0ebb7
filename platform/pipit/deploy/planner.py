"""Makes the plan: what is live and the project's files in, every operation and every refusal out. Asks nobody.

What the engine knows comes in with the `Change`, and the sizes of the tables beside it: the same change over other
rows is another plan.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from msgspec import structs

from pipit.catalog.build import in_database
from pipit.catalog.names import mapped
from pipit.catalog.snapshot import Snapshot
from pipit.catalog.state import DeploymentRow, HiddenColumn, TableNames, TokenRow
from pipit.datafiles.resources import DataSource, NodeType, WarningKind
from pipit.datafiles.resources import Warning as ProjectWarning
from pipit.deploy import generations
from pipit.deploy.alterations import Alteration, ModifyColumn, ModifyTtl, is_late
from pipit.deploy.carry import Carry
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
    How,
    Plan,
    Prepare,
    Rebuild,
    Refusal,
    refusals_of,
)
from pipit.deploy.removals import removals
from pipit.deploy.shared_tables import gaps
from pipit.deploy.views import View, trigger, views_of, views_to_make_again
from pipit.errors import DatafileError, PipitError, Reason
from pipit.ingest.match import Match
from pipit.query.compose import Composer
from pipit.tables.ddl import position_of
from pipit.tables.sizes import Size, Sizes


@dataclass(frozen=True, slots=True)
class Change:
    """What a plan is made of, but for the sizes of the tables.

    `project` is the compiled project, in whichever database: the plan is for that of `live`. `matches`: what each view
    of it ("pipe.node") takes of its query. `invalid`: what the engine and the language refuse; the views of those files
    are not planned. `carries`: how the rows of a table that cannot be changed in place come into a new one; `unfit`:
    what of them does not.
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
    carries: Mapping[str, Carry] = field(default_factory=dict)
    unfit: tuple[Refusal, ...] = ()
    free: int = 2**63  # bytes on the engine's disk
    destructive: bool = False  # whoever deploys has said yes to that


def make_plan(change: Change, sizes: Sizes) -> Plan:
    """`sizes` are of all that stands in the live database now, whatever made it."""
    comparison, live = change.comparison, change.live
    names = _names(change, sizes)
    new = _placed(change, names)
    views = _views(change, new)
    live_views = views_of(live, Composer())
    causes = _causes(change, views, live_views)
    flow = generations.flow_of(live, new, views, causes, comparison.rebuilds, sizes)
    before = causes
    if flow:
        names = _names(change, sizes, anew=flow.names)
        new = _placed(change, names)
        views = _views(change, new)
        own = {key: Cause.REBUILT for key, view in views.items() if view.target.name in flow.names}
        causes = {key: Cause.NEW if before.get(key) is Cause.NEW else cause for key, cause in (causes | own).items()}
    new = _placed(change, _with_views(names, new, views, causes, change, sizes))
    created = [
        CreateView(views[key], new.names.views[key], change.matches[key], cause)
        for key, cause in causes.items()
        if key in change.matches
    ]
    replaced = {
        key: Cause.CHANGED if cause is Cause.NEW else cause
        for key, cause in causes.items()
        if key in live.names.views
    }
    gone = dict.fromkeys((key for key in live.names.views if key not in new.names.views), Cause.DELETED)
    fills = [] if flow else _fills(live, new, created, sizes)
    late = _after_fills(new, created, fills)
    rebuilds = _rebuilds(change, flow, new, views, before, sizes)
    images = generations.frozen(rebuilds, flow, live, new, views)
    alterations = [one for one in comparison.alterations if one.table.name not in flow.names]
    added = [one for one in alterations if not is_late(one)]
    # Views into tables that what is live goes on using: two of them would count each row twice.
    shared = set(live.names.datasources.values())
    switch = [one for one in created if one.view.target.physical in shared]
    early = [one for one in created if one not in switch]
    used = set(new.names.datasources.values())
    retire = [
        DropView(key, live.workspace.database, live.names.views[key], cause)
        for key, cause in (gone | replaced).items()
        if live_views[key].target.physical in used
    ]
    waiting = _waiting(live, new, alterations, [one.view for one in created], [live_views[one.key] for one in retire])
    held = waiting | generations.held(flow, images, live)
    prepare: list[Prepare] = [CreateTable(new.tables[n]) for n in comparison.datasources.new if n not in flow.names]
    return Plan(
        new,
        comparison.datasources,
        comparison.pipes,
        comparison.connections,
        waiting=tuple(live.tables[name] for name in sorted(held)),
        prepare=(
            *prepare,
            *added,
            *(one for one in early if one not in late),
            *fills,
            *(one for one in early if one in late),
        ),
        frozen=images,
        rebuilds=tuple(rebuilds),
        switch=tuple(switch),
        go_live=GoLive(
            DeploymentRow(change.number, change.created_at, new.project.files, new.names, change.tokens),
        ),
        hide=tuple(
            HideColumn(one.table, one.column, sizes.get(one.table.physical, Size()).rows)
            for one in comparison.hidden
            if one.table.name not in flow.names
        ),
        settle=tuple(one for one in alterations if isinstance(one, ModifyColumn | ModifyTtl) and one.late),
        retire=tuple(retire),
        delete=tuple(_deletions(live, new, comparison.datasources.deleted, sizes)),
        refusals=(
            *comparison.refusals,
            *removals(live, comparison, list(gone), sizes),
            *change.unfit,
            *_unguarded(new),
            *refusals_of(change.invalid),
            *generations.no_room(rebuilds, change.free),
            *([] if change.destructive else generations.lost_history(rebuilds, live, new, views, sizes)),
        ),
        warnings=(
            *new.project.warnings,
            *_no_longer_filled(live, new, gone),
            *_inert(new, rebuilds),
            *_defaulted(change),
            *change.warnings,
        ),
        sizes=sizes,
    )


def _why(comparison: Comparison) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for one in comparison.needs_rebuild:
        found[one.datasource] = (*found.get(one.datasource, ()), one.message)
    return found


def _rebuilds(
    change: Change,
    flow: generations.Flow,
    new: Snapshot,
    views: Mapping[str, View],
    causes: Mapping[str, Cause],
    sizes: Sizes,
) -> list[Rebuild]:
    """`causes` are those of the views by what their authors changed."""
    if not flow:
        return []
    beside = _placed(change, generations.side_names(flow, change.live, new, views))
    return generations.rebuilds_of(
        flow,
        change.live,
        new,
        views,
        _views(change, beside),
        causes,
        change.carries,
        change.matches,
        _why(change.comparison),
        sizes,
    )


def restored(change: Change, plan: Plan, previous: Snapshot) -> Plan:
    """Of files that are those of the deployment before, which is kept: it is live again, under another number. `plan`:
    what would be done without it, for what is removed by that."""
    row = DeploymentRow(
        change.number, change.created_at, change.project.project.files, previous.names, change.tokens
    )
    comparison = change.comparison
    gone = {Reason.DELETES_ROWS, Reason.DELETES_COLUMN, Reason.DELETES_VIEW, Reason.LOSES_POLICY}
    return Plan(
        replace(previous, deployment=change.number, created_at=change.created_at),
        comparison.datasources,
        comparison.pipes,
        comparison.connections,
        go_live=GoLive(row),
        refusals=tuple(
            one
            for one in plan.refusals
            if one.reason in gone or one in comparison.refusals or one.error in change.invalid
        ),
        warnings=(*change.warnings, *gaps(change.live, previous)),
        sizes=plan.sizes,
    )


def unchanged(live: Snapshot, warnings: tuple[ProjectWarning, ...]) -> Plan:
    """Nothing is to be done."""
    return Plan(live, warnings=warnings)


# ---- names


def _placed(change: Change, names: TableNames) -> Snapshot:
    workspace = change.live.workspace
    return in_database(change.project, workspace, names, deployment=change.number, created_at=change.created_at)


def _names(change: Change, sizes: Sizes, anew: Collection[str] = ()) -> TableNames:
    """Physical names of tables: those that are there stay; a new one takes the first generation that no table has, and
    so do those that are made `anew`."""
    live, project = change.live, change.project.project
    taken = set(sizes)
    kept = [table for name, table in live.tables.items() if name in project.datasources]
    leaving = {n for n, table in live.tables.items() if n not in project.datasources and table.policy is not None}
    lost = {t.physical: {*live.names.lost.get(t.physical, ()), *(t.sources & leaving)} for t in kept}
    staying = {name: physical for name, physical in live.names.datasources.items() if name not in anew}
    quarantines = {name: physical for name, physical in live.names.quarantines.items() if name not in anew}
    datasources = mapped("d", project.datasources, staying, taken)
    return TableNames(
        datasources=datasources,
        quarantines=mapped("q", project.datasources, quarantines, taken),
        hidden={physical: columns for physical, columns in _hidden(change, anew).items() if columns},
        late=_late(change, anew),
        tried=change.tried,
        # A new generation has the rows of the one before.
        sources={datasources[table.name]: sorted(table.sources) for table in kept},
        lost={
            datasources[table.name]: sorted(lost[table.physical]) for table in kept if lost[table.physical]
        },
    )


def _hidden(change: Change, anew: Collection[str]) -> dict[str, dict[str, HiddenColumn]]:
    """The columns that are in the tables and not in the files: those of before that did not come back, and new ones."""
    live, project = change.live, change.project.project
    found = {
        table.physical: {
            column: kept
            for column, kept in live.names.hidden.get(table.physical, {}).items()
            if all(column != one.name for one in project.datasources[name].columns)
        }
        for name, table in live.tables.items()
        if name in project.datasources and name not in anew
    }
    for removed in change.comparison.hidden:
        column = removed.column
        kept = HiddenColumn(type=column.type, default=column.default, codec=column.codec)
        if removed.table.name not in anew:
            found[removed.table.physical][column.name] = kept
    return found


def _late(change: Change, anew: Collection[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in change.comparison.alterations:
        if is_late(one) and one.table.name not in anew:
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
        if key not in live_views or view.target.name != live_views[key].target.name:
            causes[key] = Cause.NEW
        elif not view.says_the_same(live_views[key]):
            causes[key] = Cause.CHANGED
        elif key in again:
            causes[key] = Cause.CONVERSIONS
    return causes


def _fills(live: Snapshot, new: Snapshot, created: Iterable[CreateView], sizes: Sizes) -> list[Fill]:
    """Those of new views into new targets, over rows that are there. A new source is filled through its own views."""
    fills: list[Fill] = []
    for made in created:
        source = live.tables.get(trigger(new, made.view))
        size = sizes.get(source.physical, Size()) if source else Size()
        if source is None or not size.rows or made.cause is not Cause.NEW or generations.keeps_rows(made.view):
            continue
        fills.append(Fill(made.view, made.match, source, size))
    return fills


def _after_fills(new: Snapshot, created: Sequence[CreateView], fills: Sequence[Fill]) -> list[CreateView]:
    """The views to make after the fills, as those would go through them: views of tables that are filled, whose own
    target is not to be."""
    filled = {fill.view.target.name for fill in fills}
    late: list[CreateView] = []
    left = list(created)
    while reached := [made for made in left if trigger(new, made.view) in filled]:
        left = [made for made in left if made not in reached]
        for made in reached:
            if made.cause is not Cause.NEW or generations.keeps_rows(made.view):
                late.append(made)
            else:
                filled.add(made.view.target.name)
    return late


def _inert(new: Snapshot, rebuilds: Sequence[Rebuild]) -> Iterator[ProjectWarning]:
    """A FORWARD_QUERY is for one deploy."""
    applied = {rebuild.table.name for rebuild in rebuilds if rebuild.how is How.FORWARD}
    for name, table in new.tables.items():
        if table.datasource.forward_query and name not in applied:
            message = f"The FORWARD_QUERY of '{name}' is not applied: its table is not made anew"
            yield _warning(table.datasource, message, "Take it out.", WarningKind.INERT_FORWARD_QUERY)


def _defaulted(change: Change) -> Iterator[ProjectWarning]:
    for carry in change.carries.values():
        if carry.is_forward and carry.defaulted:
            names = ", ".join(map(repr, carry.defaulted))
            message = f"The FORWARD_QUERY of '{carry.datasource.name}' does not give {names}: the rows get the default"
            yield _warning(carry.datasource, message, "Add it to the SELECT if that is not meant.", None)


def _warning(datasource: DataSource, message: str, hint: str, kind: WarningKind | None) -> ProjectWarning:
    place = position_of(datasource, "FORWARD_QUERY")
    file = place.file or datasource.file
    return ProjectWarning(file, message, place.line or 1, place.column or 1, hint, kind=kind)


# ---- what waits, what goes


def _waiting(
    live: Snapshot, new: Snapshot, altered: Iterable[Alteration], created: Iterable[View], dropped: Iterable[View]
) -> set[str]:
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
    return names


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

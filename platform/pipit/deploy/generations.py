"""Which tables of a change get a new generation, and where the rows of each come from. Pure: it asks nobody.

It begins with the tables that cannot be changed in place, and with the targets of views whose SQL changes. Whatever is
filled from such a table gets one too: a target that views of two generations fed would count each row twice. So a
new generation is a closed set: the views into it are its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from msgspec import structs

from pipit.catalog.lineage import written_with
from pipit.catalog.snapshot import Snapshot, Table
from pipit.catalog.state import TableNames
from pipit.deploy.carry import Carry, select_of
from pipit.deploy.plan import Cause, Frozen, How, Rebuild, Refusal, Select
from pipit.deploy.views import View, trigger
from pipit.errors import DatafileError, Reason
from pipit.ingest.match import Match
from pipit.tables.ddl import position_of
from pipit.tables.sizes import Size, Sizes

SIDE, FROZEN = "x2_", "x3_"  # beside a table: all of its new rows, and an image of its old ones
MAKING, CHUNK = "x4_", "x5_"  # beside it as well: what is just being written, and each piece that is whole

Views = Mapping[str, View]


@dataclass(frozen=True, slots=True)
class Flow:
    """`names` of the data sources that get a generation, each after those that it is filled from."""

    names: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.names)


def flow_of(
    live: Snapshot,
    new: Snapshot,
    views: Views,
    causes: Mapping[str, Cause],
    rebuilds: Collection[str],
    sizes: Sizes,
) -> Flow:
    """`new`, `views` and `causes`: as if nothing had to be made anew. `rebuilds`: what cannot be changed in place."""
    seeds = {name for name in rebuilds if name in new.tables}
    for key, cause in causes.items():
        view = views[key]
        if cause is Cause.CHANGED and not keeps_rows(view):
            seeds.add(view.target.name)
    coming = [views[key] for key, cause in causes.items() if cause is Cause.NEW and not keeps_rows(views[key])]
    filled = {view.target.name for view in coming if _has_rows(live, new, view, sizes)}
    while more := {view.target.name for view in coming if trigger(new, view) in filled} - filled:
        filled |= more
    seeds |= {name for name in filled if name in live.tables}
    if not seeds:
        return Flow(())
    feeds = {view.key: sources_of(new, view) for view in views.values()}
    # What is new and is filled from rows that are there goes with them: its fill must not fire views of the others.
    seeds |= {view.target.name for key, view in views.items() if view.target.name not in live.tables and feeds[key]}
    reached = set(seeds)
    while more := {v.target.name for v in views.values() if feeds[v.key] & reached} - reached:
        reached |= more
    ordered: list[str] = []
    left = [name for name in new.tables if name in reached]
    while left:
        above = {name: {s for v in views.values() if v.target.name == name for s in feeds[v.key]} for name in left}
        free = [name for name in left if not (above[name] & (set(left) - {name}))] or left[:1]
        ordered += free
        left = [name for name in left if name not in free]
    return Flow(tuple(ordered))


def _has_rows(live: Snapshot, new: Snapshot, view: View, sizes: Sizes) -> bool:
    source = live.tables.get(trigger(new, view))
    return source is not None and sizes.get(source.physical, Size()).rows > 0


def keeps_rows(view: View) -> bool:
    """Whether its author says that the rows that are there stay as they are."""
    return view.node.node.deployment_method.lower() == "alter" or view.target.datasource.backfill_skip


def sources_of(snapshot: Snapshot, view: View) -> frozenset[str]:
    """The data sources that the view reads, by name."""
    known = snapshot.physical_tables
    return frozenset(known[table].table.name for table in view.tables if table in known)


def rebuilds_of(
    flow: Flow,
    live: Snapshot,
    new: Snapshot,
    views: Views,
    side_views: Views,
    causes: Mapping[str, Cause],
    carries: Mapping[str, Carry],
    matches: Mapping[str, Match],
    rebuilds: Mapping[str, tuple[str, ...]],
    sizes: Sizes,
) -> list[Rebuild]:
    """`views` are composed over the new tables, `side_views` over those beside them (`side_names`). `rebuilds`: what
    cannot be changed in place, and why."""
    found: list[Rebuild] = []
    recalculated: set[str] = set()
    for name in flow.names:
        old, table = live.tables.get(name), new.tables[name]
        mine = [view for view in views.values() if view.target.name == name]
        how = _how(name, old, mine, new, causes, recalculated, rebuilds)
        if how in (How.VIEWS, How.FORWARD):
            recalculated.add(name)
        selects: tuple[Select, ...] = ()
        keys: tuple[str, ...] = ()
        read: set[str] = {name} if old is not None else set()
        if how is How.VIEWS:
            made = [view for view in mine if not view.target.datasource.backfill_skip]
            read = {trigger(new, view) for view in made}
            keys = tuple(view.key for view in made)
            selects = tuple(
                Select(one.sql, matches[one.key], one.settings, _fired_by(flow, live, new, views[one.key]))
                for one in (side_views[view.key] for view in made)
                if one.key in matches
            )
        elif how in (How.CAST, How.FORWARD) and name in carries:
            assert old is not None
            composed = select_of(_frozen(live), table.datasource)
            selects = (Select(composed.sql, carries[name].match, composed.settings, frozen_of(old.physical)),)
        size = Size(
            sum(sizes.get(live.tables[one].physical, Size()).rows for one in read if one in live.tables),
            sum(sizes.get(live.tables[one].physical, Size()).bytes for one in read if one in live.tables),
        )
        found.append(Rebuild(table, old, how, size, selects, keys, rebuilds.get(name, ())))
    return found


def _how(
    name: str,
    old: Table | None,
    views: Iterable[View],
    new: Snapshot,
    causes: Mapping[str, Cause],
    recalculated: Collection[str],
    rebuilds: Collection[str],
) -> How:
    if old is None:
        return How.VIEWS
    if name in rebuilds and new.tables[name].datasource.forward_query:
        return How.FORWARD
    made = list(views)
    if made and not all(keeps_rows(view) for view in made):
        changed = any(causes.get(view.key) in (Cause.NEW, Cause.CHANGED) and not keeps_rows(view) for view in made)
        other = any(sources_of(new, view) & set(recalculated) for view in made)
        states = name in rebuilds and _has_states(old, new.tables[name])
        if changed or other or states:
            return How.VIEWS
    return How.CAST if name in rebuilds else How.COPY


def _has_states(old: Table, new: Table) -> bool:
    """Whether a column of aggregate states becomes another one: nothing but its view can make them."""
    types = {column.name: column.type for column in old.datasource.columns}
    both = [(types[column.name], column.type) for column in new.datasource.columns if column.name in types]
    return any(before != after and "AggregateFunction(" in before + after for before, after in both)


def side_of(physical: str) -> str:
    return SIDE + physical


def frozen_of(physical: str) -> str:
    return FROZEN + physical


def _fired_by(flow: Flow, live: Snapshot, new: Snapshot, view: View) -> str:
    """The table of which each row goes through the view's statement, as `side_names` has it; "": it is not known."""
    source = trigger(new, view)
    if source in flow.names:
        return side_of(new.tables[source].physical)
    return frozen_of(live.tables[source].physical) if source in live.tables else ""


def is_beside(physical: str) -> bool:
    """Whether it is one of those that are there for a fill alone."""
    return physical.startswith((SIDE, FROZEN, MAKING, CHUNK))


def side_names(flow: Flow, live: Snapshot, new: Snapshot, views: Views) -> TableNames:
    """The names of `new`, where each table of the flow is the one beside it, and what views of the flow are fired by
    is its image."""
    names = dict(new.names.datasources)
    for view in views.values():
        source = trigger(new, view)
        if view.target.name in flow.names and source in live.tables and source not in flow.names:
            names[source] = frozen_of(live.tables[source].physical)
    for name in flow.names:
        names[name] = side_of(new.tables[name].physical)
    return structs.replace(new.names, datasources=names)


def frozen(rebuilds: Iterable[Rebuild], flow: Flow, live: Snapshot, new: Snapshot, views: Views) -> tuple[Frozen, ...]:
    """The images that the fills read."""
    found: dict[str, Frozen] = {}
    for rebuild in rebuilds:
        if rebuild.old is not None and rebuild.how in (How.CAST, How.FORWARD):
            found[rebuild.old.physical] = Frozen(rebuild.old, frozen_of(rebuild.old.physical))
        if rebuild.how is How.VIEWS:
            for view in views.values():
                source = trigger(new, view)
                if view.target.name == rebuild.table.name and source in live.tables and source not in flow.names:
                    table = live.tables[source]
                    found[table.physical] = Frozen(table, frozen_of(table.physical))
    return tuple(found.values())


def held(flow: Flow, images: Iterable[Frozen], live: Snapshot) -> set[str]:
    """The live data sources into which nothing may be inserted while the old rows are told from the new ones."""
    names = {name for name in flow.names if name in live.tables} | {image.table.name for image in images}
    return {table.name for name in names for table in written_with(live, live.tables[name])}


def _frozen(live: Snapshot) -> Snapshot:
    """What is live, where every table is its image."""
    tables = {name: replace(table, physical=frozen_of(table.physical)) for name, table in live.tables.items()}
    return replace(live, tables=tables)


def lost_history(
    rebuilds: Iterable[Rebuild], live: Snapshot, new: Snapshot, views: Views, sizes: Sizes
) -> list[Refusal]:
    """What is recalculated from rows that are not all there any more, or did not all come from there."""
    refusals: list[Refusal] = []
    for rebuild in rebuilds:
        name, old = rebuild.table.name, rebuild.old
        if rebuild.how is not How.VIEWS or old is None or not sizes.get(old.physical, Size()).rows:
            continue
        mine = [view for view in views.values() if view.target.name == name]
        why = ""
        for view in mine:
            source = new.tables.get(trigger(new, view))
            if source is None or source.name not in live.tables:
                continue
            before = live.tables[source.name].datasource.engine
            if before.name == "Null":
                why = f"'{source.name}' keeps no rows (engine Null)"
            elif before.ttl and before.ttl != old.datasource.engine.ttl:
                why = f"'{source.name}' forgets rows by its TTL"
        fed = {source for view in mine for source in sources_of(new, view)}
        others = sorted(old.sources - fed - {s for one in fed for s in new.tables[one].sources})
        if others and not why:
            why = f"it also holds rows made from {', '.join(map(repr, others))}, which no view puts there any more"
        if why:
            place = position_of(rebuild.table.datasource, "SCHEMA")
            error = DatafileError(
                f"The rows of '{name}' would be made anew from its views, and rows would be lost: {why}",
                file=place.file or rebuild.table.datasource.file,
                line=place.line or 1,
                column=place.column or 1,
                hint="Say in a FORWARD_QUERY of the data source what becomes of its rows, write BACKFILL skip to keep "
                "them as they are, or deploy with --allow-destructive-operations.",
                reason=Reason.LOSES_HISTORY,
                subject=name,
            )
            refusals.append(Refusal(Reason.LOSES_HISTORY, name, error))
    return refusals


def no_room(rebuilds: Sequence[Rebuild], free: int) -> list[Refusal]:
    """Rows that are linked take none. What is written beside may be larger than what it is made of, and is merged."""
    written = [rebuild for rebuild in rebuilds if rebuild.how is not How.COPY]
    needed = 2 * sum(rebuild.size.bytes for rebuild in written)
    if not written or needed <= free:
        return []
    first = written[0].table
    error = DatafileError(
        f"Making '{first.name}' anew needs {needed:,} bytes on the disk, and {free:,} are free",
        file=first.datasource.file,
        hint="Make room: `pipit deployment discard` frees the tables of the previous deployment.",
        reason=Reason.DISK_FULL,
        subject=first.name,
    )
    return [Refusal(Reason.DISK_FULL, first.name, error)]

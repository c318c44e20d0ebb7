"""What a tenant that appends to one data source writes into others: through views at once, through copies later.

A row policy says whose a row is by its columns. A view or a copy makes those columns of its sources' columns, so a
tenant's token must fix those, or its holder writes rows in another tenant's name. Which they are is read from the
engine's own resolved tree of each view and copy (`sql/origins.py`), once per deployment. What cannot be told is a
refusal: a token of the workspace may append all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import product
from math import prod

from cachetools import LRUCache

from pipit.access.context import FixedValue, SecurityContext
from pipit.catalog.lineage import computes_names, nodes_read, tables_read
from pipit.catalog.snapshot import CompiledNode, CompiledPipe, Snapshot, Table
from pipit.datafiles.resources import NodeType
from pipit.datafiles.resources import Warning as ProjectWarning
from pipit.engine.client import Engine
from pipit.errors import Forbidden, PipitError, Unavailable
from pipit.ingest import Target
from pipit.jobs import schedule
from pipit.query.compose import Composer
from pipit.query.examine import Examiner
from pipit.sql.origins import Origins, Read, Way, origins_of
from pipit.templates import Binder, variants

_REMEMBERED = 256  # deployments
_MOST_TEXTS = 32  # of one copy; of more of them nothing is said
_QUARANTINE = "_quarantine"


@dataclass(frozen=True, slots=True)
class Need:
    """`columns`: those of the data source appended to of which `column` of the policed `target` is made.

    `why`: no token can fix it, and why not; then `columns` are not all of it.
    """

    target: str
    column: str
    columns: frozenset[str]
    via: tuple[str, ...]  # the views and copies on the way, "pipe.node"
    why: str = ""

    @property
    def through(self) -> str:
        return " and ".join(f"'{one}'" for one in self.via)


class Writes:
    """What appends need, per deployment. Shared by all requests."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: LRUCache[tuple[str, int], Mapping[str, tuple[Need, ...]]] = LRUCache(_REMEMBERED)
        self._looking = asyncio.Lock()

    async def check(
        self, snapshot: Snapshot, table: Table, security: SecurityContext, fixed: Mapping[str, FixedValue]
    ) -> None:
        """A tenant's token fixes every column that decides whose a row is, here and in all that is filled from here.

        Raises Forbidden, naming the columns; Unavailable where the engine must be asked first and is away.
        """
        if not security.is_tenant:
            return
        if table.policy is not None:
            _check_own(table, security, fixed)
        if snapshot.workspace.settings.unfixed_appends:
            return
        for need in (await self.needs(snapshot)).get(table.name, ()):
            policy = snapshot.tables[need.target].policy
            if policy is not None and need.column in policy.columns_for(security):
                _check_need(table, need, fixed)

    async def needs(self, snapshot: Snapshot) -> Mapping[str, tuple[Need, ...]]:
        """Data source -> what a token that appends to it has to fix, beyond its own policy."""
        key = (snapshot.workspace.place, snapshot.deployment)
        if key not in self._known:
            async with self._looking:
                if key not in self._known:
                    self._known[key] = await needs_of(self._engine, snapshot)
        return self._known[key]


def _check_own(table: Table, security: SecurityContext, fixed: Mapping[str, FixedValue]) -> None:
    assert table.policy is not None
    missing = sorted(table.policy.columns_for(security) - fixed.keys())
    if missing or not fixed:
        named = f" for {_listed(missing)}" if missing else ""
        raise Forbidden(
            f"A JWT that appends to '{table.name}' must set 'fixed_values'{named}: the data source has a row policy",
            hint="Without them its holder could write another tenant's rows. Fix the columns that the policy reads.",
        )


def _check_need(table: Table, need: Need, fixed: Mapping[str, FixedValue]) -> None:
    missing = sorted(need.columns - fixed.keys())
    if need.why:
        raise Forbidden(
            f"A JWT cannot append to '{table.name}': {need.through} fills '{need.target}', which has a row policy, and "
            f"no 'fixed_values' decide its '{need.column}': {need.why}",
            hint="Its holder could write another tenant's rows. Append with a token of the workspace, or let the view "
            f"make '{need.column}' of columns of '{table.name}' alone. `pipit audit` shows all such ways.",
        )
    if missing:
        raise Forbidden(
            f"A JWT that appends to '{table.name}' must set 'fixed_values' for {_listed(missing)}: through "
            f"{need.through} they become '{need.column}' of '{need.target}', which has a row policy",
            hint="Without them its holder could write another tenant's rows. `pipit audit` shows all such ways.",
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)


def target_of(table: Table) -> Target:
    """The table as the writers of events see it."""
    return Target(
        database=table.database,
        table=table.physical,
        quarantine_table=table.quarantine,
        columns=table.datasource.columns,
        partition_key=table.datasource.engine.partition_key,
        name=table.datasource.name,
    )


def unfixed_appends(snapshot: Snapshot, needs: Mapping[str, Sequence[Need]]) -> list[ProjectWarning]:
    """What a deploy says while the workspace lets JWTs append as they could once."""
    found: dict[ProjectWarning, None] = {}
    for name, listed in needs.items():
        for need in listed:
            warning = ProjectWarning(
                snapshot.tables[name].datasource.file,
                f"The workspace's setting unfixed_appends is on: through {need.through}, JWTs that append to '{name}' "
                f"can write rows of any tenant into '{need.target}'",
                1,
                1,
                hint="Let them set 'fixed_values' as `pipit audit` says, then turn the setting off.",
            )
            found[warning] = None
    return list(found)


# ---- the graph


@dataclass(frozen=True, slots=True)
class _Filler:
    """A view or copy that writes rows into `target`. `origins`: one for each text that it may have; None: not known."""

    key: str
    file: str
    target: Table
    reads: frozenset[str]
    origins: tuple[Origins, ...] | None


async def needs_of(engine: Engine, snapshot: Snapshot) -> dict[str, tuple[Need, ...]]:
    """For every data source from which rows come into a table with a policy. Raises Unavailable."""
    wanted = _leading_to_policies(snapshot)
    if not wanted:
        return {}
    rows = await engine.rows("SELECT name FROM system.functions WHERE deterministic = 1")
    deterministic = frozenset(str(row["name"]) for row in rows)
    composer, examiner = Composer(), Examiner(engine)
    fillers: list[_Filler] = []
    for pipe, node, target in wanted:
        found = await _origins(snapshot, pipe, node, composer, examiner, deterministic)
        reads = tables_read(snapshot, pipe, node)
        fillers.append(_Filler(f"{pipe.name}.{node.name}", pipe.pipe.file, target, reads, found))
    graph = _Graph(snapshot, fillers)
    needs = {name: graph.needs(name) for name in snapshot.tables}
    return {name: found for name, found in needs.items() if found}


def _leading_to_policies(snapshot: Snapshot) -> list[tuple[CompiledPipe, CompiledNode, Table]]:
    """The views and copies through which rows may come into a table with a policy."""
    waiting = [
        (pipe, node, snapshot.tables[target])
        for pipe in snapshot.pipes.values()
        for node in pipe.nodes.values()
        if (target := _target(node)) in snapshot.tables
    ]
    reached = {name for name, table in snapshot.tables.items() if table.policy is not None}
    found: list[tuple[CompiledPipe, CompiledNode, Table]] = []
    while True:
        now = [one for one in waiting if one[2].name in reached]
        if not now:
            return found
        found += now
        waiting = [one for one in waiting if one[2].name not in reached]
        for pipe, node, _ in now:
            reached |= tables_read(snapshot, pipe, node)


def _target(node: CompiledNode) -> str:
    if node.node.type is NodeType.MATERIALIZED:
        return node.node.datasource
    return node.node.target_datasource if node.node.type is NodeType.COPY else ""


async def _origins(
    snapshot: Snapshot,
    pipe: CompiledPipe,
    node: CompiledNode,
    composer: Composer,
    examiner: Examiner,
    deterministic: frozenset[str],
) -> tuple[Origins, ...] | None:
    """Of the one text of a view; of each text that a copy may have, without and with its parameters."""
    binders: tuple[bool | None, ...] = (None,)
    texts: Sequence[Snapshot] | None = (snapshot,)
    values = {}
    if node.node.type is NodeType.COPY:
        texts = _texts(snapshot, pipe, node)
        binders = (False, True)
        values = {"job_timestamp": schedule.text_of(datetime.now(UTC))}
    if texts is None:
        return None
    found: dict[tuple[object, ...], Origins] = {}
    for text, defined in product(texts, binders):
        binder = Binder() if defined is None else Binder(placeholder=True, defined=defined)
        owner = text.pipes[pipe.name]
        try:
            composed = composer.pipe(text, owner, owner.nodes[node.name], values, binder)
            key = (composed.sql, tuple(sorted(composed.settings.items())))
            if key in found:
                continue
            origins = origins_of(await examiner.resolved(text, composed, binder), deterministic)
        except Unavailable:
            raise
        except PipitError:
            return None
        if origins is None:
            return None
        found[key] = origins
    return tuple(found.values())


def _texts(snapshot: Snapshot, pipe: CompiledPipe, node: CompiledNode) -> list[Snapshot] | None:
    """The snapshot once for each choice of branches in the templates that the node reads, whatever their conditions:
    a run may be sent any values. None where the texts cannot all be told."""
    if computes_names(snapshot, pipe, node):
        return None
    read = [(owner, one, one.template) for owner, one in nodes_read(snapshot, pipe, node)]
    choices: list[list[tuple[str, CompiledNode]]] = []
    for owner, one, template in read:
        if template is None:
            continue
        found = variants(template, _MOST_TEXTS)
        if found is None:
            return None
        choices.append([(owner.name, replace(one, template=text)) for text in found])
        if prod(len(choice) for choice in choices) > _MOST_TEXTS:
            return None
    return [_with(snapshot, chosen) for chosen in product(*choices)]


def _with(snapshot: Snapshot, nodes: Sequence[tuple[str, CompiledNode]]) -> Snapshot:
    pipes = dict(snapshot.pipes)
    for name, node in nodes:
        pipes[name] = replace(pipes[name], nodes={**pipes[name].nodes, node.name: node})
    return replace(snapshot, pipes=pipes)


@dataclass(frozen=True, slots=True)
class _Made:
    """What a column is made of, in columns of the data source that is appended to.

    `foreign`: of other tables' columns only. `why`: it is made of something else as well, or of nothing that is known.
    """

    columns: frozenset[str] = frozenset()
    why: str = ""
    foreign: bool = False


_State = Mapping[str, _Made]


@dataclass(slots=True)
class _Graph:
    snapshot: Snapshot
    fillers: Sequence[_Filler]
    found: dict[Need, None] = field(default_factory=dict)
    seen: set[tuple[object, ...]] = field(default_factory=set)

    def needs(self, name: str) -> tuple[Need, ...]:
        """What an append to this data source needs."""
        self.found, self.seen = {}, set()
        columns = [column.name for column in self.snapshot.tables[name].datasource.columns]
        self.follow(name, {column: _Made(frozenset({column})) for column in columns}, False, ())
        bad = _Made(why="rows of a quarantine were not parsed")
        self.follow(name + _QUARANTINE, dict.fromkeys(columns, bad), False, ())
        return tuple(self.found)

    def follow(self, name: str, state: _State, joined: bool, via: tuple[str, ...]) -> None:
        """`joined`: the rows stand beside other tables' rows, which decide whose they are."""
        for filler in self.fillers:
            if filler.key in via:
                continue
            for made, beside in self.through(filler, name, state):
                self.arrive(filler.target, made, joined or beside, (*via, filler.key))

    def arrive(self, target: Table, made: _State, joined: bool, via: tuple[str, ...]) -> None:
        key = (target.name, joined, frozenset(made.items()))
        if key in self.seen:
            return
        self.seen.add(key)
        for column in sorted(target.policy.columns) if target.policy else ():
            one = made.get(column, _Made(why="it is not written"))
            if one.foreign and joined:
                continue
            why = one.why or ("" if one.columns else "it is made of other tables' columns")
            self.found[Need(target.name, column, one.columns, via, why)] = None
        self.follow(target.name, made, joined, via)

    def through(self, filler: _Filler, name: str, state: _State) -> Iterator[tuple[_State, bool]]:
        """What the filler makes of rows of the table: for each read of it, and whether that is only joined."""
        columns = [column.name for column in filler.target.datasource.columns]
        if filler.origins is None:
            if name.removesuffix(_QUARANTINE) in filler.reads or name in filler.reads:
                unknown = _Made(why=f"it cannot be told from the SQL of {filler.file}")
                yield dict.fromkeys(columns, unknown), False
            return
        for origins in filler.origins:
            for way in origins.ways:
                for read in sorted(way.reads):
                    if self.name_of(read) == name:
                        beside = way.first != read
                        yield {c: self.made(origins, way, read, c, state, beside) for c in columns}, beside

    def made(self, origins: Origins, way: Way, read: Read, column: str, state: _State, beside: bool) -> _Made:
        at = origins.at(column)
        if at is None or at >= len(way.columns):
            return _Made(why="the query does not give it")
        origin = way.columns[at]
        here = [place for place in origin.places if place[0] == read]
        others = [place for place in origin.places if place[0] != read]
        if not here and beside:
            return _Made(foreign=True)
        known = self.snapshot.tables[self.name_of(read).removesuffix(_QUARANTINE)].datasource.columns
        names = frozenset(column.name for column in known)
        parts = [state.get(_column(place[1], names), _Made(why="its column is not clear")) for place in here]
        if parts and all(part.foreign for part in parts) and not origin.why and not others:
            return _Made(foreign=True)
        why = origin.why or next((part.why for part in parts if part.why), "")
        if not why and (others or any(part.foreign for part in parts)):
            tables = sorted({self.name_of(place[0]) for place in others})
            why = f"it depends on rows of {_listed(tables) if tables else 'other tables'}"
        return _Made(frozenset().union(*(part.columns for part in parts)), why)

    def name_of(self, read: Read) -> str:
        target = self.snapshot.physical_tables.get(read[1])
        if target is None:
            return ""
        return target.table.name + (_QUARANTINE if target.quarantine else "")


def _column(name: str, columns: frozenset[str]) -> str:
    """The column that `a.b.c` is, or is a part of."""
    while name not in columns and "." in name:
        name = name.rpartition(".")[0]
    return name

"""What a tenant that appends to one data source writes into others: through views at once, through copies later.

A row policy says whose a row is by its columns. A view or a copy makes those columns of its sources' columns, so a
tenant's token must fix those, or its holder writes rows in another tenant's name. What cannot be told is a refusal: a
token of the workspace may append all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipit.catalog.snapshot import Snapshot, Table
from pipit.deploy.fillers import Filler, OriginsMemory, fillers_of
from pipit.engine.client import Engine
from pipit.sql.origins import Origins, Read, Way

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


async def needs_of(
    engine: Engine, snapshot: Snapshot, memory: OriginsMemory | None = None
) -> dict[str, tuple[Need, ...]]:
    """For every data source from which rows come into a table with a policy. Raises Unavailable.

    `memory`: of the deployments before.
    """
    fillers = await fillers_of(engine, snapshot, memory)
    if not fillers:
        return {}
    graph = _Graph(snapshot, fillers)
    needs = {name: graph.needs(name) for name in snapshot.tables}
    return {name: found for name, found in needs.items() if found}


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
    fillers: Sequence[Filler]
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

    def through(self, filler: Filler, name: str, state: _State) -> Iterator[tuple[_State, bool]]:
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
        here = [column for column in origin.sources if column[0] == read]
        others = [column for column in origin.sources if column[0] != read]
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
            why = f"it depends on rows of {', '.join(repr(name) for name in tables) if tables else 'other tables'}"
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

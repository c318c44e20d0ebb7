"""What the proof knows of a project before it makes up data: constants, joins, JSON places, parameters, reachability.

All of it is read from text. A gap here costs coverage (an endpoint that stays empty is listed as unproved), never a
wrong verdict: verdicts come from answers alone.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipit.audit.comparisons import Chain, Literal, Mined, mine_node
from pipit.audit.tenancy import Tenancy
from pipit.catalog.lineage import references, tables_read
from pipit.catalog.snapshot import CompiledNode, CompiledPipe, NodeTarget, Snapshot, TableTarget
from pipit.datafiles.resources import NodeType
from pipit.templates import Parameter

_SIZES = re.compile(r"(?:\bLIMIT\s|\bSAMPLE\s|[<>]=?)\s*(\d{1,4})\b", re.IGNORECASE)
_COUNTS = re.compile(r"\bcount|\bLIMIT\b|\bSAMPLE\b|\buniq|\bsum", re.IGNORECASE)
_LARGEST = 1000
_PLAIN = ("=", "==", "IN", "!=", "<>", "has", "hasany", "in", "notin", "equals", "notequals", "indexof", "hasall")


def plain(name: str) -> str:
    """`userId`, `user_id` and `USER_ID` are one name."""
    return name.replace("_", "").lower()


@dataclass(frozen=True, slots=True)
class Reach:
    """What an endpoint reads, through nodes and pipes: its nodes, its tables, and those that fill them."""

    nodes: tuple[tuple[str, str], ...]
    tables: frozenset[str]
    above: frozenset[str]
    parameters: tuple[Parameter, ...]


@dataclass(slots=True)
class Knowledge:
    snapshot: Snapshot
    tenancy: Tenancy
    mined: Mined = field(default_factory=Mined)
    constants: dict[str, list[Literal]] = field(default_factory=lambda: defaultdict(list))
    json: dict[str, dict[Chain, str]] = field(default_factory=lambda: defaultdict(dict))  # column -> place -> function
    casts: dict[Chain, str] = field(default_factory=dict)  # a column, or a place in one -> the type it is turned into
    by_node: dict[tuple[str, str], Mined] = field(default_factory=dict)
    _leader: dict[str, str] = field(default_factory=dict)

    def pool(self, name: str) -> str:
        """The name of the pool that a column's values come from: one for all columns that are joined."""
        key = plain(name)
        while self._leader.get(key, key) != key:
            key = self._leader[key]
        return key

    def constants_of(self, name: str) -> list[Literal]:
        return self.constants.get(self.pool(name), [])

    def join(self, one: str, other: str) -> None:
        a, b = self.pool(one), self.pool(other)
        if a != b:
            self._leader[b] = a


def learn(snapshot: Snapshot, tenancy: Tenancy) -> Knowledge:
    known = Knowledge(snapshot, tenancy)
    for pipe in snapshot.pipes.values():
        for node in pipe.nodes.values():
            mined = mine_node(node)
            known.by_node[(pipe.name, node.name)] = mined
            known.mined.add(mined)
    for one in known.mined.comparisons:
        if one.operator in _PLAIN and len(one.left.names) == 1 and len(one.right.names) == 1:
            known.join(one.left.names[0][-1], one.right.names[0][-1])
    for name, chains in known.mined.aliases.items():
        if len(chains) == 1:
            known.join(next(iter(chains))[-1], name)
    for one in known.mined.comparisons:
        for side, other in ((one.left, one.right), (one.right, one.left)):
            for chain in side.names:
                known.constants[known.pool(chain[-1])] += [_without_wildcards(c, one.operator) for c in other.literals]
    for place, function in known.mined.json.items():
        known.json[place[0]][place] = function
    for chain in _dotted(known.mined):
        known.json.setdefault(chain[0], {}).setdefault(chain, "")
    _places(known)
    _defaults(known)
    for values in known.constants.values():
        values[:] = list(dict.fromkeys(values))[:40]
    return known


def _places(known: Knowledge) -> None:
    """The places in JSON columns that the SQL names, behind a table's name or not; what types it makes of columns."""
    columns = {c.name for table in known.snapshot.tables.values() for c in table.datasource.columns}
    free = {
        column.name
        for table in known.snapshot.tables.values()
        for column in table.datasource.columns
        if column.type.startswith(("JSON", "Object"))
    }
    for chain in known.mined.dotted:
        for start in (0, 1):
            if len(chain) > start + 1 and chain[start] in free:
                known.json.setdefault(chain[start], {}).setdefault(chain[start:], "")
    for chain, type in known.mined.casts.items():
        for start in (0, 1):
            if len(chain) > start and chain[start] in columns:
                known.casts[chain[start:]] = type


def constants_of_keys(known: Knowledge) -> tuple[Literal, ...]:
    """What the project's SQL, or a parameter's default, compares the columns of tenants with."""
    places = [chains for by_key in known.tenancy.columns.values() for chains in by_key.values()]
    names = {chain[-1]: None for chains in places for chain in sorted(chains)}
    return tuple(dict.fromkeys(value for name in names for value in known.constants_of(name)))


def threshold(snapshot: Snapshot) -> int:
    """The largest number of rows, up to 1000, that the project's SQL may make a difference of: LIMIT, HAVING."""
    found = [0]
    for pipe in snapshot.pipes.values():
        for node in pipe.nodes.values():
            if _COUNTS.search(node.node.sql):
                found += map(int, _SIZES.findall(node.node.sql))
    return max(number for number in found if number <= _LARGEST)


def reach(snapshot: Snapshot, pipe: CompiledPipe, node: CompiledNode) -> Reach:
    seen: dict[tuple[str, str], None] = {}
    tables: set[str] = set()
    parameters: dict[str, Parameter] = {}
    waiting = [(pipe, node)]
    while waiting:
        owner, current = waiting.pop(0)
        if (owner.name, current.name) in seen:
            continue
        seen[(owner.name, current.name)] = None
        for parameter in current.template.parameters if current.template else ():
            parameters.setdefault(parameter.name, parameter)
        for reference in references(current):
            target = snapshot.resolve(reference, owner)
            if isinstance(target, TableTarget):
                tables.add(target.table.name)
            elif isinstance(target, NodeTarget):
                waiting.append((target.pipe, target.node))
    tables |= tables_read(snapshot, pipe, node)
    above = frozenset(tables).union(*(snapshot.tables[t].sources for t in tables)) & snapshot.tables.keys()
    return Reach(tuple(seen), frozenset(tables), above, tuple(parameters.values()))


def focus(known: Knowledge, found: Reach) -> dict[str, list[Literal]]:
    """Pool -> the constants that what an endpoint reads asks for: rows made of them pass its filters together."""
    asked: dict[str, list[Literal]] = defaultdict(list)
    names = {name for table in found.above for name in _nodes_that_fill(known.snapshot, table)}
    for key in (*found.nodes, *sorted(names)):
        for one in known.by_node[key].comparisons:
            if one.operator in ("!=", "<>", "notequals", "notin"):
                continue
            for side, other in ((one.left, one.right), (one.right, one.left)):
                for chain in side.names:
                    asked[known.pool(chain[-1])] += [_without_wildcards(c, one.operator) for c in other.literals]
    return {pool: [c for c in dict.fromkeys(values) if c != ""] for pool, values in asked.items() if any(values)}


def _nodes_that_fill(snapshot: Snapshot, table: str) -> list[tuple[str, str]]:
    """The views and copies whose rows go into a data source, with the nodes beside them."""
    return [
        (pipe.name, node.name)
        for pipe in snapshot.pipes.values()
        if any(table in (n.node.datasource, n.node.target_datasource) for n in pipe.nodes.values())
        for node in pipe.nodes.values()
    ]


def filled(snapshot: Snapshot) -> tuple[frozenset[str], frozenset[str]]:
    """The data sources that views fill, and those that copies fill."""
    views: set[str] = set()
    copies: set[str] = set()
    for pipe in snapshot.pipes.values():
        for node in pipe.nodes.values():
            if node.node.type is NodeType.MATERIALIZED:
                views.add(node.node.datasource)
            elif node.node.type is NodeType.COPY:
                copies.add(node.node.target_datasource)
    return frozenset(views & snapshot.tables.keys()), frozenset(copies & snapshot.tables.keys())


def _without_wildcards(value: Literal, operator: str) -> Literal:
    if isinstance(value, str) and "like" in operator.lower():
        return value.replace("%", "").replace("_", "-") or value
    return value


def _dotted(mined: Mined) -> Iterable[Chain]:
    """Chains that may go into a JSON column: `payload.user.id`."""
    for one in mined.comparisons:
        for side in (one.left, one.right):
            yield from (chain for chain in side.names if len(chain) > 1)
    for chains in mined.aliases.values():
        yield from (chain for chain in chains if len(chain) > 1)


def _defaults(known: Knowledge) -> None:
    """A parameter's default, enum and the template's tests of it are values of the columns it is compared with."""
    for pipe in known.snapshot.pipes.values():
        for node in pipe.nodes.values():
            mined = known.by_node[(pipe.name, node.name)]
            for parameter in node.template.parameters if node.template else ():
                values: list[Literal] = [v for v in parameter.enum if isinstance(v, (str, int, float))]
                if isinstance(parameter.default, (str, int, float)) and parameter.default != "":
                    values.append(parameter.default)
                if isinstance(parameter.example, (str, int, float)):
                    values.append(parameter.example)
                if parameter.type.startswith("Array"):
                    values = [part.strip(" '") for v in values if isinstance(v, str) for part in v.split(",")]
                for chain, _ in mined.columns_of(parameter.name):
                    known.constants[known.pool(chain[-1])] += values


def links(known: Knowledge, found: Reach) -> Mapping[str, list[tuple[Chain, str]]]:
    """Parameter -> the places that it is compared with in what an endpoint reads."""
    linked: dict[str, list[tuple[Chain, str]]] = defaultdict(list)
    for key in found.nodes:
        mined = known.by_node[key]
        for parameter in found.parameters:
            linked[parameter.name] += sorted(mined.columns_of(parameter.name))
    return linked

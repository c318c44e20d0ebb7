"""Which column of which data source says whose a row is.

With row policies, the policies say it. Without any, the parameters that tokens fix do: a column that is compared with
the parameter anywhere in the project's SQL, or that has its name. A data source without such a column is shared: its
rows are nobody's, and every tenant may see them. This is a reading of the project for the audit and its proof; it
decides nothing about a request.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipit.access.policy import Policy
from pipit.audit.comparisons import Chain, Mined, mine, mine_node, places
from pipit.catalog.lineage import tables_read
from pipit.catalog.snapshot import Snapshot

_BEFORE = re.compile(r"`?([A-Za-z_]\w*)`?\s*(?:=|==|(?:\bGLOBAL\s+)?\bIN\b)\s*\(?\s*\Z", re.IGNORECASE)
_AFTER = re.compile(r"\A\s*(?:\)\s*)?(?:=|==|,|\bAS\b)\s*`?([A-Za-z_]\w*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Tenancy:
    """`columns`: data source -> key -> the places of that key's value: a column, and the path inside a JSON one.

    A key is one of the security context (`policies`), or a parameter that tokens fix.
    """

    policies: bool
    keys: tuple[str, ...]
    columns: Mapping[str, Mapping[str, frozenset[Chain]]]
    shared: frozenset[str]  # data sources without a tenant's column
    required: frozenset[str] = frozenset()  # the keys without which a token is refused

    def names(self, datasource: str) -> frozenset[str]:
        """The columns of a data source that hold a key's value."""
        return frozenset(chain[0] for chains in self.columns.get(datasource, {}).values() for chain in chains)


def of_policies(snapshot: Snapshot) -> Tenancy:
    """Read from the row policies. A data source with `ROW_POLICY none`, or without a policy, is shared."""
    columns: dict[str, dict[str, frozenset[Chain]]] = {}
    keys: dict[str, None] = {}
    required: set[str] = set()
    for name, table in snapshot.tables.items():
        if table.policy is None:
            continue
        found = columns_of_keys(table.policy)
        known = [c.name for c in table.datasource.columns]
        columns[name] = {
            key: frozenset(place for column in names for place in _places_of(table.policy, key, column, known))
            for key, names in found.items()
        }
        keys |= dict.fromkeys(sorted(found))
        required |= table.policy.required
    return Tenancy(True, tuple(keys), columns, frozenset(snapshot.tables) - columns.keys(), frozenset(required))


def _places_of(policy: Policy, key: str, column: str, known: Sequence[str]) -> set[Chain]:
    """Where in the column the policy looks for the key's value: in a JSON one at a path."""
    found: set[Chain] = set()
    for conjunct in policy.conjuncts:
        text = "".join(part if isinstance(part, str) else f" {{{{{part.key}}}}} " for part in conjunct.parts)
        for chain, _ in mine(f"% {text}", policy.keys).columns_of(key):
            found |= {place for place in places(chain, known) if place[0] == column and len(place) > 1}
    return found or {(column,)}


def of_params(snapshot: Snapshot, parameters: Iterable[str]) -> Tenancy:
    """Read from the project's SQL, for `--fixed`."""
    keys = tuple(dict.fromkeys(parameters))
    columns: dict[str, dict[str, set[Chain]]] = defaultdict(lambda: defaultdict(set))
    everything = Mined()
    compared: dict[str, list[tuple[Chain, frozenset[str]]]] = defaultdict(list)
    for pipe in snapshot.pipes.values():
        for node in pipe.nodes.values():
            mined = mine_node(node)
            everything.add(mined)
            found = {key: mined.columns_of(key) for key in keys}
            if any(found.values()):
                reads = tables_read(snapshot, pipe, node)
                above = reads.union(*(snapshot.tables[name].sources for name in reads))
                for key, chains in found.items():
                    compared[key] += [(chain, above) for chain, operator in chains if operator in ("=", "==", "IN")]
    for key in keys:
        names = {key}
        for chain, reads in compared[key]:
            for meant in (chain, *_behind(chain[-1], everything)):
                for name in reads & snapshot.tables.keys():
                    for place in places(meant, [c.name for c in snapshot.tables[name].datasource.columns]):
                        columns[name][key].add(place)
                        if len(place) == 1:
                            names.add(place[0])
        plain = {_plain(one) for one in names if _plain(one) not in _TOO_COMMON}
        for name, table in snapshot.tables.items():
            if columns[name][key]:
                continue
            columns[name][key] |= {(c.name,) for c in table.datasource.columns if _plain(c.name) in plain}
    kept = {
        name: {key: frozenset(chains) for key, chains in by_key.items() if chains} for name, by_key in columns.items()
    }
    kept = {name: by_key for name, by_key in kept.items() if by_key and name in snapshot.tables}
    return Tenancy(False, keys, kept, frozenset(snapshot.tables) - kept.keys(), frozenset(keys))


def has_policies(snapshot: Snapshot) -> bool:
    return any(table.policy is not None for table in snapshot.tables.values())


_TOO_COMMON = frozenset({"id", "name", "key", "value", "type", "event", "data"})


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _behind(name: str, mined: Mined) -> set[Chain]:
    """What a name is an alias of, in one step or several."""
    found: set[Chain] = set()
    waiting = [name]
    while waiting:
        for chain in mined.aliases.get(waiting.pop(), ()):
            if chain not in found:
                found.add(chain)
                waiting.append(chain[-1])
    return found


def columns_of_keys(policy: Policy) -> dict[str, frozenset[str]]:
    """Key -> the columns that its value is compared with; where that cannot be told, all columns of that part."""
    found: dict[str, set[str]] = defaultdict(set)
    for conjunct in policy.conjuncts:
        parts = conjunct.parts
        for index, part in enumerate(parts):
            if isinstance(part, str):
                continue
            before = parts[index - 1] if index else ""
            after = parts[index + 1] if index + 1 < len(parts) else ""
            near = _BEFORE.search(before) if isinstance(before, str) else None
            near = near or (_AFTER.search(after) if isinstance(after, str) else None)
            named = {near[1]} & conjunct.columns if near else set()
            found[part.key] |= named or conjunct.columns
    return {key: frozenset(columns) for key, columns in found.items()}

"""The requests of a proof: for each endpoint, parameters left out, given alone, given together, and an attacker's."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations

from pipit.access.params import RequestParams
from pipit.access.params import SentParameter as Sent
from pipit.audit.comparisons import Chain
from pipit.audit.prove.knowledge import Knowledge, Reach, links, plain
from pipit.audit.prove.tenants import NAMES, SUBJECT, Tenants
from pipit.audit.prove.values import Values
from pipit.ingest.types import parse
from pipit.templates import Parameter

BRANCHES = 40  # requests for each endpoint and look, for what its templates compare parameters with
_EARLY = ("from", "start", "since", "min", "after", "begin")
_LATE = ("to", "end", "until", "max", "before", "cutoff")
_PAGES = ("page", "offset", "skip")
_SIZES = ("limit", "size", "rows", "count", "days", "months", "weeks", "hours", "top", "period", "n")


@dataclass(frozen=True, slots=True)
class ProofCase:
    params: tuple[tuple[str, str], ...]

    @property
    def request(self) -> RequestParams:
        return RequestParams(tuple(Sent("query", name, value) for name, value in self.params))


@dataclass(slots=True)
class Cases:
    """Makes the requests of one endpoint."""

    known: Knowledge
    values: Values
    tenants: Tenants
    reach: Reach
    now: datetime

    def first(self, most: int) -> list[ProofCase]:
        """The ones that every round tries, the most telling first: `most` of them, and all that the templates ask for,
        alone and in pairs, as far as they are no more than BRANCHES."""
        given = self._wide()
        needed = {p.name: given[p.name] for p in self.reach.parameters if self._is_needed(p) and p.name in given}
        found = [needed, given, *self._attacks(needed), *self._attacks(given)[:1]]
        tested = [{p.name: text} for p in self.reach.parameters for text in self._tested(p)]
        pairs = [one | other for one, other in combinations(tested, 2) if one.keys() != other.keys()]
        if len(pairs) > BRANCHES:
            pairs = self.values.random.sample(pairs, BRANCHES)
        branches = [needed | chosen for chosen in (tested + pairs)[:BRANCHES]]
        found += branches[:most]
        found += [needed | {name: value} for name, value in given.items() if name not in needed]
        found += [self._drawn(needed) for _ in range(3)]
        return _cases([*found[:most], *branches])

    def random(self, count: int) -> list[ProofCase]:
        given = self._wide()
        needed = {p.name: given[p.name] for p in self.reach.parameters if self._is_needed(p) and p.name in given}
        return _cases([self._drawn(needed) for _ in range(count)])

    def _drawn(self, needed: Mapping[str, str]) -> dict[str, str]:
        draw = self.values.random
        share = draw.choice((0.0, 0.2, 0.5, 0.9))
        found: dict[str, str] = {}
        for parameter in self.reach.parameters:
            if parameter.name in needed or draw.random() < share:
                candidates = self.candidates(parameter)
                if candidates:
                    found[parameter.name] = draw.choice(candidates)
        return found

    def _wide(self) -> dict[str, str]:
        """Every parameter with the value that lets most rows through, as far as a name can tell."""
        return {p.name: found[0] for p in self.reach.parameters if (found := self.candidates(p))}

    def _is_needed(self, parameter: Parameter) -> bool:
        return parameter.needed or (parameter.required and parameter.default is None)

    def _attacks(self, needed: Mapping[str, str]) -> list[dict[str, str]]:
        """What a request may say about whose rows it wants, and does not decide."""
        names = [n for n in self._deciding() if n]
        if not names:
            return [{**needed, "x_unknown": "1"}]
        other = {name: self.tenants.text(key, NAMES[1])[0] for name, key in names}
        return [
            {**needed, **other, "x_unknown": "1"},
            {**needed, **dict.fromkeys(other, "")},
            {**needed, **{name.upper(): value for name, value in other.items()}},
        ]

    def _deciding(self) -> list[tuple[str, str]]:
        """The parameters that stand for a tenant's key, with that key."""
        found: dict[str, str] = {}
        names = {plain(key): key for key in self.tenants.tenancy.keys}
        places = {
            (plain(chain[-1]), key)
            for by_key in self.tenants.tenancy.columns.values()
            for key, chains in by_key.items()
            for chain in chains
        }
        linked = links(self.known, self.reach)
        for parameter in self.reach.parameters:
            if plain(parameter.name) in names:
                found[parameter.name] = names[plain(parameter.name)]
            for chain, operator in linked.get(parameter.name, ()):
                for name, key in places:
                    if operator in ("=", "==", "IN") and plain(chain[-1]) == name:
                        found.setdefault(parameter.name, key)
        for key in self.tenants.tenancy.keys:
            found.setdefault(key, key)
        return list(found.items())

    def _tested(self, parameter: Parameter) -> list[str]:
        """Values that the template asks for: its branches."""
        found = [str(value) for value in parameter.enum]
        for node in self.reach.nodes:
            values = self.known.by_node[node].tested.get(parameter.name, ())
            found += sorted(str(v) for v in values if v != "")
            found += sorted(str(v + step) for v in values if isinstance(v, int) for step in (1, -1))  # just past it
        return list(dict.fromkeys(found))

    def candidates(self, parameter: Parameter) -> list[str]:
        """Texts to send for it, the widest first."""
        tested = self._tested(parameter)
        default = [] if parameter.default is None else [_text(parameter.default)]
        linked = links(self.known, self.reach).get(parameter.name, [])
        deciding = dict(self._deciding()).get(parameter.name)
        if deciding is not None:
            if self.tenants.tenancy.policies and deciding not in self.tenants.tenancy.required:
                return [text for text, _ in self.tenants.optional(deciding)]
            return [self.tenants.text(deciding, name)[0] for name in (SUBJECT, *NAMES[1:])]
        if parameter.identifier:
            return [t for t in (default + tested) if t] or self._columns()
        kind = parameter.type
        array = kind.startswith("Array(")
        kind = kind[6:-1] if array else kind
        if kind.startswith("Date"):
            return self._dates(parameter, kind, linked)
        name = parameter.name.lower()
        if kind.startswith(("Int", "UInt", "Float", "Decimal")):
            found = self._numbers(name, linked, default + tested)
        elif kind == "Boolean":
            found = ["true", "false"]
        elif not tested and not linked and ("date" in name or "time" in name) and "zone" not in name:
            found = default + self._dates(parameter, "DateTime", linked)
        else:
            found = [t for t in default + tested if t]
            for chain, operator in linked[:8]:
                found += [self._like(chain, operator) for _ in range(3)]
            if not linked and not found:
                found = [self.values.text(parameter.name, "", canary=False) for _ in range(3)]
        found = [f for f in dict.fromkeys(found) if f != ""]
        if array and len(found) > 1 and not default:
            found.append(",".join(found[:2]))
        if "zone" in name and not default:
            found = ["UTC", "Europe/Madrid"]
        return found[:24]

    def _like(self, chain: Chain, operator: str) -> str:
        """A value as the compared column holds it."""
        for name in self.reach.above:
            for column in self.known.snapshot.tables[name].datasource.columns:
                if column.name in (chain[0], chain[-1]):
                    try:
                        value = self.values.of(parse(column.type or "String"), chain[-1], "")
                    except ValueError:
                        continue
                    if isinstance(value, list):
                        value = value[0] if value else ""
                    if not isinstance(value, dict) and value is not None:
                        text = _text(value)
                        return text[:3] if "like" in operator.lower() and self.values.random.random() < 0.5 else text
        return self.values.text(chain[-1], "", canary=False)

    def _numbers(self, name: str, linked: Sequence[tuple[Chain, str]], default: list[str]) -> list[str]:
        operators = {operator for _, operator in linked}
        times = any("time" in c[-1].lower() or c[-1].lower() in ("ts",) for c, _ in linked)
        if operators & {">=", ">"}:
            found = ["0", *default, "1", "2"]
        elif operators & {"<=", "<"}:
            late = int((self.now + timedelta(days=2)).timestamp())
            found = [str(late * 1000) if times else "1000000", *default, "10"]
        elif linked:
            found = [*default, *(self._like(chain, operator) for chain, operator in linked for _ in range(3))]
        elif any(part in name for part in _PAGES):
            found = [*default, "0", "1"]
        elif any(part in name for part in _SIZES):
            found = [*default, "30", "2", "1", "100"]
        elif any(part in name for part in _EARLY):
            found = ["0", *default]
        else:
            found = [*default, "1", "10", "60"]
        return [f for f in found if f.lstrip("-").replace(".", "", 1).isdigit()]

    def _dates(self, parameter: Parameter, kind: str, linked: Sequence[tuple[Chain, str]]) -> list[str]:
        operators = {operator for _, operator in linked}
        name = parameter.name.lower()
        late = bool(operators & {"<", "<="}) or (not operators and any(part in name for part in _LATE))
        if operators & {">", ">="} or any(name.startswith(part) or name.endswith(part) for part in _EARLY):
            late = False
        ages = (-2, 0, 1) if late else (45, 7, 2)
        form = {"Date": "%Y-%m-%d", "DateTime64": "%Y-%m-%d %H:%M:%S.000"}.get(kind, "%Y-%m-%d %H:%M:%S")
        found = [(self.now - timedelta(days=age)).strftime(form) for age in ages]
        days = [one[:10] for one in found]
        if "YYYY-MM-DD" in f"{parameter.format} {parameter.description}" and parameter.type == "String":
            found = days
        if parameter.type == "String":
            found += days  # a template may add the time itself
        constants = [c for chain, _ in linked for c in self.known.constants_of(chain[-1]) if isinstance(c, str)]
        if constants and not late:
            found.append(min(constants))
        default = parameter.default
        return list(dict.fromkeys(found + ([_text(default)] if isinstance(default, str) and default else [])))

    def _columns(self) -> list[str]:
        tables = sorted(self.reach.tables)
        names = [c.name for t in tables for c in self.known.snapshot.tables[t].datasource.columns]
        return names[:5]


def seeded(*parts: object) -> random.Random:
    return random.Random("/".join(map(str, parts)))


def _cases(found: Sequence[Mapping[str, str]]) -> list[ProofCase]:
    return list(dict.fromkeys(ProofCase(tuple(sorted(one.items()))) for one in found))


def _text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)

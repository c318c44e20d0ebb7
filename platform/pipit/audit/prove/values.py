"""Values for a column: of its type, from a small pool that columns of one name share, so that filters and joins match.

Numbers with a fraction are exact in binary, so that sums are exact in any order. Times lie near now, and near the
constants that the SQL compares them with. A pool mixes the constants of the SQL, values that all tenants have, and
values that only one tenant has (`canaries`): those would tell a leak by themselves.
"""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pipit import jsontext
from pipit.audit.comparisons import Chain, Literal
from pipit.audit.prove.knowledge import Knowledge
from pipit.audit.prove.tenants import NAMES, as_text
from pipit.ingest.types import Type, parse

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_BITS = re.compile(r"U?Int(\d+)")
_TIMES = re.compile(r"time|date|_at$|At$|^ts$|since|until|created|updated|seen|^day$|^hour$")
_NUMERIC = ("Int", "UInt", "Float", "BFloat", "Decimal", "Interval")
_STRANGE = 0.25
_SELDOM = 0.03  # rows that a view may refuse are looked for one by one
_AGES = (60, 400, 3_000, 3_700, 10_000, 30_000, 90_000, 100_000, 200_000, 300_000, 700_000, 1_000_000, 2_000_000)
_RARE_AGES = (8_000_000, 34_000_000, 95_000_000, -4_000, -100_000)  # seconds; below zero: to come
_AFTER = (0, 3600, 50_000, 90_000, -90_000, 700_000, 3_000_000, 9_000_000)  # a date that stands in the SQL
_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Version/17.0 Mobile Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0",
)
# Texts that SQL takes apart: a part of the column's name -> values of that form.
_FORMS: Sequence[tuple[str, Sequence[str]]] = (
    ("useragent", _AGENTS),
    ("email", ("ann@example.com", "bob@example.org", "cat@example.net")),
    ("referr", ("https://search.example/?q=1", "https://news.example/a", "", "https://www.site1.example/p1")),
    ("referer", ("https://search.example/?q=1", "https://news.example/a", "", "https://www.site1.example/p1")),
    ("url", ("https://www.site1.example/p1?utm_source=a", "https://site2.example/p2", "https://site1.example/")),
    ("href", ("https://www.site1.example/p1?utm_source=a", "https://site2.example/p2", "https://site1.example/")),
    ("hostname", ("www.site1.example", "site2.example")),
    ("domain", ("site1.example", "site2.example")),
    ("pathname", ("/", "/p1", "/p2/q")),
    ("path", ("/", "/p1", "/p2/q")),
    ("country", ("ES", "US", "DE")),
    ("locale", ("en-US", "es-ES")),
    ("currency", ("USD", "EUR")),
)


@dataclass(slots=True)
class Values:
    """Makes values. `now` is fixed for a run; everything else follows from the seed."""

    known: Knowledge
    random: random.Random
    now: datetime
    canaries: dict[str, set[str]] = field(default_factory=dict)  # tenant -> texts that only its rows hold
    strange: bool = False  # policies hold: others' rows may have values of other kinds
    focus: Mapping[str, Sequence[Literal]] = field(default_factory=dict)  # what one endpoint asks for, for some rows
    _count: int = 0

    def of(self, type: Type, name: str, tenant: str, chain: Chain = ()) -> Any:
        """A value as JSON for JSONEachRow. Raises ValueError for a type that no JSON holds."""
        chain = chain or (name,)
        match type.name:
            case "Nullable":
                return None if self.random.random() < 0.12 else self.of(type.inner, name, tenant, chain)
            case "LowCardinality" | "SimpleAggregateFunction":
                return self.of(type.inner, name, tenant, chain)
            case "Variant":
                return self._variant(type, name, tenant, chain)
            case "Dynamic":
                return self._free(chain, name, tenant)
            case "Array" | "Ring" | "Polygon":
                return [self.of(type.inner, name, tenant, chain) for _ in range(self.random.choice((0, 1, 1, 2, 3)))]
            case "Map":
                keys = sorted(self.known.mined.keys.get(name, ())) or ["k1", "k2"]
                chosen = [k for k in keys if self.random.random() < 0.8] or keys[:1]
                if self._is_strange(tenant) and parse(type.arguments[0]).name in ("String", "LowCardinality"):
                    chosen.append(self._canary(name, tenant))
                return {k: self.of(type.inner, k, tenant) for k in chosen}
            case "Tuple":
                elements = type.elements()
                if all(key for key, _ in elements):
                    return {key: self.of(inner, key, tenant) for key, inner in elements}
                return [self.of(inner, name, tenant) for _, inner in elements]
            case "JSON" | "Object":
                return self._json(chain, tenant, type)
            case "AggregateFunction":
                raise ValueError("a state is filled by a view")
            case _:
                return self._scalar(type, name, tenant, chain)

    def key(self, type: Type, value: str, number: int) -> Any:
        """A tenant's own value as this type holds it."""
        while type.name in ("Nullable", "LowCardinality", "SimpleAggregateFunction"):
            type = type.inner
        if type.name == "Array":
            return [self.key(type.inner, value, number)]
        if _BITS.fullmatch(type.name):
            return _integer(type.name, number)
        if type.name.startswith(("Float", "BFloat", "Decimal")):
            return number
        if type.name == "Bool":
            return number % 2 == 1
        return as_text(type, value, number)

    def text(self, name: str, tenant: str, *, canary: bool = True) -> str:
        """A text for a column of that name."""
        asked = [c for c in self.focus.get(self.known.pool(name), ()) if isinstance(c, str)]
        if asked and self.random.random() < 0.9:
            return self.random.choice(asked)
        constants = self.known.constants_of(name)
        draw = self.random.random()
        if constants and draw < 0.55:
            chosen = self.random.choice(constants)
            return chosen if isinstance(chosen, str) else f"{chosen:g}" if isinstance(chosen, float) else str(chosen)
        if canary and tenant and draw > 0.85:
            return self._canary(name, tenant)
        pool = self.known.pool(name)
        for part, forms in _FORMS:
            if part in pool:
                return self.random.choice(forms)
        if _TIMES.search(name):
            return self._moment(name).strftime("%Y-%m-%d %H:%M:%S")
        return f"{pool}_{self.random.randint(1, 3)}"

    def number(self, name: str, bits: int) -> int:
        asked = [c for c in self.focus.get(self.known.pool(name), ()) if isinstance(c, int)]
        if asked and self.random.random() < 0.8:
            return self.random.choice(asked) + self.random.choice((0, 0, 1, -1))
        constants = [c for c in self.known.constants_of(name) if isinstance(c, int) and not isinstance(c, bool)]
        constants += [int(c) for c in self.known.constants_of(name) if isinstance(c, str) and c.lstrip("-").isdigit()]
        if constants and self.random.random() < 0.6:
            return self.random.choice(constants) + self.random.choice((0, 0, 0, 1, -1))
        if bits >= 32 and _TIMES.search(name) and "duration" not in name.lower() and "timeout" not in name.lower():
            seconds = self._moment(name).timestamp()
            return int(seconds * 1000) if bits >= 64 else int(seconds)
        return self.random.choice((0, 1, 1, 2, 3, 5, 8, 20, 100))

    def _canary(self, name: str, tenant: str) -> str:
        self._count += 1
        mark = f"{tenant}~{plain_text(name)}~{self._count}"
        self.canaries.setdefault(tenant, set()).add(mark)
        return mark

    def _scalar(self, type: Type, name: str, tenant: str, chain: Chain) -> Any:
        kind = type.name
        bits = _BITS.fullmatch(kind)
        if bits:
            return _integer(kind, self.number(name, int(bits[1])))
        if kind in ("Float32", "Float64", "BFloat16"):
            constants = [c for c in self.known.constants_of(name) if isinstance(c, (int, float))]
            if constants and self.random.random() < 0.4:
                return float(round(self.random.choice(constants) * 4)) / 4 + self.random.choice((0, 0.25, -0.25))
            return self.random.randint(1, 400) / 4
        if kind.startswith("Decimal"):
            scale = int(type.arguments[-1]) if type.arguments else 0
            return f"{self.random.randint(1, 9)}.{'5' if scale else ''}".rstrip(".")
        if kind in ("Date", "Date32"):
            return self._moment(name).strftime("%Y-%m-%d")
        if kind.startswith("DateTime"):
            moment = self._moment(name)
            digits = int(type.arguments[0]) if kind == "DateTime64" and type.arguments else 0
            return moment.strftime("%Y-%m-%d %H:%M:%S") + (".250" if digits >= 3 else "")
        if kind.startswith("Time"):
            return f"{self.random.randint(0, 23):02d}:15:00"
        if kind == "Bool":
            return self.random.random() < 0.6
        if kind == "UUID":
            return str(uuid.uuid5(uuid.NAMESPACE_URL, self.text(name, tenant)))
        if kind == "IPv4":
            return f"10.0.0.{self.random.randint(1, 4)}"
        if kind == "IPv6":
            return f"2001:db8::{self.random.randint(1, 4)}"
        if kind.startswith("Enum"):
            return self.random.choice([v for v in type.enum_values() if not v.lstrip("-").isdigit()])
        if kind == "FixedString":
            size = int(type.arguments[0])
            return self.text(name, tenant, canary=False)[:size].ljust(size, "x")
        cast = self.known.casts.get(chain, "")
        if cast.startswith(_NUMERIC):
            # A text that is no number stops a view, or a query, that turns the column into one.
            strange = self._is_strange(tenant, _SELDOM)
            return self._canary(name, tenant) if strange else str(abs(self.number(name, 32)))
        if self.known.json.get(name) and chain == (name,):
            return jsontext.text(self._json(chain, tenant))
        return self.text(name, tenant)

    def _moment(self, name: str) -> datetime:
        """A whole second."""
        dates = [c for c in self.known.constants_of(name) if isinstance(c, str) and _DATE.match(c)]
        if dates and self.random.random() < 0.45:
            day = datetime.fromisoformat(self.random.choice(dates)[:10]).replace(tzinfo=UTC)
            return day + timedelta(
                seconds=self.random.choice((0, 3600, 50_000, 90_000, -90_000, 700_000, 3_000_000, 9_000_000))
            )
        ages = _RARE_AGES if self.random.random() < 0.04 else _AGES
        age = self.random.choice(ages) + self.random.choice((0, 0, 30, 60, 600))
        return self.now - timedelta(seconds=age)

    def _is_strange(self, tenant: str, often: float = _STRANGE) -> bool:
        """Whether a value of this row may be of another kind than the tenant's that is looked at: its own are such that
        its queries work, and stay so whatever others send."""
        return self.strange and tenant in NAMES[1:] and self.random.random() < often

    def _free(self, chain: Chain, name: str, tenant: str) -> Any:
        """For a place that takes a value of any type."""
        if self._is_strange(tenant):
            text = self._canary(name, tenant)
            return self.random.choice(([1], [text], {"k1": text}, text, True, 0.5, [{"k1": 1}]))
        cast = self.known.casts.get(chain, "")
        if cast.startswith(("Float", "BFloat", "Decimal")):
            return self.random.randint(1, 400) / 4
        if cast.startswith(_NUMERIC):
            return self.number(name, 32)
        if cast.startswith("Date"):
            return self._moment(name).strftime("%Y-%m-%d" if cast in ("Date", "Date32") else "%Y-%m-%d %H:%M:%S")
        if cast == "Bool":
            return self.random.random() < 0.5
        if cast.startswith("Array"):
            return [self.text(name, tenant)]
        numbers = [c for c in self.known.constants_of(name) if not isinstance(c, str)]
        return self.number(name, 64) if numbers else self.text(name, tenant)

    def _variant(self, type: Type, name: str, tenant: str, chain: Chain) -> Any:
        """Of the member that the SQL asks for, else the first; others' of any member."""
        members = [parse(argument) for argument in type.arguments]
        cast = self.known.casts.get(chain, "")
        asked = [m for m in members if m.name == cast or (cast.startswith(_NUMERIC) and m.name.startswith(_NUMERIC))]
        if self._is_strange(tenant):
            asked = members
        return self.of(self.random.choice(asked or members[:1]), name, tenant, chain)

    def _json(self, chain: Chain, tenant: str, type: Type | None = None) -> dict[str, Any]:
        """An object with a value at every place that the SQL takes out of it; in a JSON column of others also with keys
        that only they have."""
        found: dict[str, Any] = {}
        typed = _typed_paths(type) if type is not None else {}
        if type is not None and self._is_strange(tenant):
            found[self._canary("key", tenant)] = self.random.choice((1, "x", [1], {"k1": 1}))
        for path, inner in typed.items():
            put(found, path, self.of(inner, path[-1], tenant))
        for place, function in sorted(self.known.json.get(chain[0], {}).items()):
            if place[: len(chain)] != chain or len(place) == len(chain) or self.random.random() < 0.08:
                continue
            path = place[len(chain) :]
            if type is None:
                put(found, path, self._of_function(function, place[-1], tenant))
            elif not any(path[: len(one)] == one or one[: len(path)] == path for one in typed):
                put(found, path, self._free(place, place[-1], tenant))
        return found or {"k1": self.text("k1", tenant)}

    def _of_function(self, function: str, name: str, tenant: str) -> Any:
        kind = function.lower()
        if kind.endswith(("int", "uint")):
            return self.number(name, 64)
        if kind.endswith("float"):
            return self.random.randint(1, 400) / 4
        if kind.endswith("bool"):
            return self.random.random() < 0.5
        if kind.endswith("arrayraw"):
            return [self.text(name, tenant)]
        if kind.endswith(("raw", "values", "keys", "keysandvalues")):
            return {"k1": self.text(name, tenant)}
        numbers = [c for c in self.known.constants_of(name) if not isinstance(c, str)]
        return self.number(name, 64) if numbers else self.text(name, tenant)


def put(into: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Sets a value inside nested objects."""
    for step in path[:-1]:
        inner = into.get(step)
        if not isinstance(inner, dict):
            inner = into[step] = {}
        into = inner
    if not (isinstance(into.get(path[-1]), dict) and not isinstance(value, dict)):
        into[path[-1]] = value


def _typed_paths(type: Type) -> dict[Chain, Type]:
    """The places for which a JSON column's own type says the type: `JSON(a.b UInt32, SKIP c)`."""
    found: dict[Chain, Type] = {}
    for argument in type.arguments:
        name, _, rest = argument.partition(" ")
        if rest and "=" not in argument and name.upper() != "SKIP":
            found[tuple(name.replace("`", "").split("."))] = parse(rest)
    return found


def plain_text(name: str) -> str:
    return re.sub(r"\W", "", name)


def simple(type: Type) -> Any:
    """The plainest value of a type, for counter-examples; None where nothing is plainer than what is there."""
    while type.name in ("LowCardinality", "SimpleAggregateFunction"):
        type = type.inner
    if _BITS.fullmatch(type.name) or type.name.startswith(("Float", "Decimal")):
        return 1
    if type.name == "Array":
        return []
    if type.name == "String":
        return "x"
    return None


def _integer(kind: str, value: int) -> int:
    """Within the type's range."""
    bits = int(kind.lstrip("UInt"))
    if kind.startswith("U"):
        return min(abs(value), (1 << bits) - 1)
    most = (1 << (bits - 1)) - 1
    return max(min(value, most), -most - 1)


__all__ = ["Values", "parse", "put", "simple"]

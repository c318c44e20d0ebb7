"""The tenants of a proof and what their tokens say.

Their names are made to be mistaken for each other: one begins with another, one differs in case only.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipit.access.context import Scalar, Scope
from pipit.audit.comparisons import Chain
from pipit.audit.prove.knowledge import plain
from pipit.audit.tenancy import Tenancy
from pipit.catalog.snapshot import CompiledPipe, Snapshot
from pipit.ingest.types import Type, parse

NAMES = ("acme", "acmee", "ACME")
SUBJECT = NAMES[0]
_NUMBERS = ("Int", "UInt", "Float", "Decimal")
_OPTIONAL = ("north", "south", "East")  # values that tenants share: a team's name


@dataclass(frozen=True, slots=True)
class View:
    """What a token says of its holder: one of the ways to look at the data that a tenant has."""

    tenant: str
    context: Mapping[str, Scalar | tuple[Scalar, ...]] = field(default_factory=dict)
    fixed: Mapping[str, Scalar] = field(default_factory=dict)
    label: str = ""

    def scope(self, pipe: CompiledPipe, names: frozenset[str]) -> Scope:
        """The right to read one pipe; `names` are the parameters that it and what it reads have."""
        fixed = {k: v for k, v in self.fixed.items() if k in names or k in pipe.pipe.fixed_params}
        return Scope("PIPES:READ", pipe.name, fixed_params=fixed)


@dataclass(frozen=True, slots=True)
class Tenants:
    tenancy: Tenancy
    snapshot: Snapshot

    def text(self, key: str, tenant: str) -> tuple[str, int]:
        """A tenant's value of a key, as text and as number."""
        # `documentId` and `document_id` are one key with two names.
        place = [plain(one) for one in self.tenancy.keys].index(plain(key))
        number = 41 + 10 * place + NAMES.index(tenant)  # fits into the smallest integer
        kinds = self._kinds(key)
        if any(kind.startswith(_NUMBERS) for kind in kinds):
            return str(number), number  # also where another table holds it as a text
        text = tenant if place == 0 else f"{tenant}.{key}"
        return (_uuid(text) if "UUID" in kinds else text), number

    def optional(self, key: str) -> list[tuple[str, int]]:
        return [(text, 101 + number) for number, text in enumerate(_OPTIONAL)]

    def views(self, tenant: str) -> list[View]:
        """Required keys alone, then with optional ones, then with two values where a policy takes a list."""
        if not self.tenancy.policies:
            fixed = {key: self._fixed(key, tenant) for key in self.tenancy.keys}
            return [View(tenant, fixed=fixed, label=_label(fixed))]
        types = self._types()
        required = {k: self._typed(k, *types[k], self.text(k, tenant), 1) for k in sorted(self.tenancy.required)}
        optional = [k for k in self.tenancy.keys if k not in self.tenancy.required]
        contexts = [required]
        for key in optional:
            contexts.append(required | {key: self._typed(key, *types[key], self.optional(key)[0], 1)})
        if len(optional) > 1:
            contexts.append({k: v for one in contexts for k, v in one.items()})
        arrays = {k: self._typed(k, *types[k], self.text(k, tenant), 2) for k in required if types[k][1]}
        if arrays:
            contexts.append(required | arrays)
        fixed = {p: _first(required) for pipe in self.snapshot.pipes.values() for p in pipe.pipe.fixed_params}
        fixed |= {p: _scalar(required[p]) for p in fixed if p in required}
        return [View(tenant, context, fixed, _label(context)) for context in contexts]

    def is_list(self, key: str) -> bool:
        """Whether a policy takes a list of this key's values."""
        return self.tenancy.policies and self._types().get(key, ("", False))[1]

    def type_of(self, datasource: str, chain: Chain) -> Type:
        """The type of a key's place."""
        if len(chain) > 1:
            return parse("String")
        column = next(c for c in self.snapshot.tables[datasource].datasource.columns if c.name == chain[0])
        return parse(column.type or "String")

    def _types(self) -> dict[str, tuple[str, bool]]:
        """Key -> the type that the policies read it as, and whether as a list."""
        found: dict[str, tuple[str, bool]] = {}
        for table in self.snapshot.tables.values():
            for conjunct in table.policy.conjuncts if table.policy else ():
                for part in conjunct.parts:
                    if not isinstance(part, str):
                        found.setdefault(part.key, (part.type, part.array))
        return found

    def _typed(
        self, key: str, type: str, array: bool, value: tuple[str, int], items: int
    ) -> Scalar | tuple[Scalar, ...]:
        one = self._one(key, type, value)
        if not array:
            return one
        second = self._one(key, type, (f"{value[0]}.2", value[1] + 5))
        return (one, second)[:items]

    def _one(self, key: str, type: str, value: tuple[str, int]) -> Scalar:
        text, number = value
        if type.startswith(_NUMBERS):
            return number
        if type == "Boolean":
            return bool(number % 2)
        if type == "UUID":
            return _uuid(text)
        if type.startswith("Date"):
            return f"2024-01-{1 + number % 28:02d}" + (" 00:00:00" if type != "Date" else "")
        return str(number) if any(kind.startswith(_NUMBERS) for kind in self._kinds(key)) else text

    def _fixed(self, key: str, tenant: str) -> Scalar:
        return self.text(key, tenant)[0]

    def _kinds(self, key: str) -> set[str]:
        """The types of the columns that hold a key's value."""
        return {
            _plain(self.type_of(name, chain))
            for name, by_key in self.tenancy.columns.items()
            for chain in by_key.get(key, ())
        }


def _plain(type: Type) -> str:
    while type.name in ("Nullable", "LowCardinality", "SimpleAggregateFunction", "Array"):
        type = type.inner
    return type.name


def _uuid(text: str) -> str:
    """Of a text that is one already, itself."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, text))


def _label(values: Mapping[str, Scalar | tuple[Scalar, ...]]) -> str:
    return ", ".join(f"{k}={','.join(map(str, v)) if isinstance(v, tuple) else v}" for k, v in values.items())


def _scalar(value: Scalar | tuple[Scalar, ...]) -> Scalar:
    return value[0] if isinstance(value, tuple) else value


def _first(values: Mapping[str, Scalar | tuple[Scalar, ...]]) -> Scalar:
    return _scalar(next(iter(values.values()), ""))

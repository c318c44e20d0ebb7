"""The tenants of a proof and what their tokens say.

Their names are made to be mistaken for each other: the first is another's beginning and a third one's end, one differs
in case only, and one is what LIKE takes the first for. Besides them there are strangers: rows with no value, and with
the values that the project's SQL compares the tenant's column with ('public', 'default'): a query may make exceptions.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipit.access.context import Scalar, Scope
from pipit.audit.comparisons import Chain, Literal
from pipit.audit.prove.knowledge import plain
from pipit.audit.tenancy import Tenancy
from pipit.catalog.snapshot import CompiledPipe, Snapshot
from pipit.ingest.types import Type, parse

NAMES = ("ac_me", "ac_mee", "AC_ME", "acxme", "xac_me")
SUBJECT = NAMES[0]
_NUMBERS = ("Int", "UInt", "Float", "Decimal")
_OPTIONAL = ("north", "south", "East")  # values that tenants share: a team's name
_STRANGERS = 4
STRANGER = "stranger "
_SECOND = 5  # past the number of a tenant's first value, where its token holds a list


@dataclass(frozen=True, slots=True)
class TenantView:
    """What a token says of its holder: one of the ways to look at the data that a tenant has."""

    tenant: str
    context: Mapping[str, Scalar | tuple[Scalar, ...]] = field(default_factory=dict)
    fixed: Mapping[str, Scalar] = field(default_factory=dict)
    label: str = ""

    def scope(self, pipe: CompiledPipe, names: frozenset[str]) -> Scope:
        """The right to read one pipe; `names` are the parameters that it and what it reads have."""
        fixed = {k: v for k, v in self.fixed.items() if k in names or k in pipe.fixed_params}
        return Scope("PIPES:READ", pipe.name, fixed_params=fixed)


@dataclass(frozen=True, slots=True)
class Tenants:
    tenancy: Tenancy
    snapshot: Snapshot
    constants: tuple[Literal, ...] = ()  # what the SQL compares a tenant's column with

    @property
    def strangers(self) -> list[str]:
        """Owners of rows that are no tenant's: see `text`."""
        values = ["", *(str(one) for one in self.constants if not isinstance(one, float))]
        return [f"{STRANGER}{value}" for value in dict.fromkeys(values) if value not in NAMES][:_STRANGERS]

    def text(self, key: str, tenant: str, *, second: bool = False) -> tuple[str, int]:
        """A tenant's value of a key, or the second one where its tokens hold a list: as text and as number."""
        if tenant.startswith(STRANGER):
            given = tenant.removeprefix(STRANGER)
            return self._told(key, given, int(given) if given.isascii() and given.isdigit() else 0)
        # `documentId` and `document_id` are one key with two names.
        place = [plain(one) for one in self.tenancy.keys].index(plain(key))
        number = 41 + 10 * (place % 8) + NAMES.index(tenant)  # fits into the smallest integer
        text = tenant if place == 0 else f"{tenant}.{key}"
        return self._told(key, f"{text}.2" if second else text, number + (_SECOND if second else 0))

    def optional(self, key: str) -> list[tuple[str, int]]:
        return [self._told(key, text, 101 + number) for number, text in enumerate(_OPTIONAL)]

    def _told(self, key: str, text: str, number: int) -> tuple[str, int]:
        """The text as the columns of the key hold it; also where another table's column of it is a String."""
        types = self._column_types(key)
        for type in types:
            if type.name.startswith(_NUMBERS):
                return str(number), number
        for type in types:
            if type.name != "String":
                return as_text(type, text, number), number
        return text, number

    def views(self, tenant: str) -> list[TenantView]:
        """Required keys alone, then with optional ones, then with two values where a policy takes a list."""
        if not self.tenancy.policies:
            fixed = {key: self._fixed(key, tenant) for key in self.tenancy.keys}
            return [TenantView(tenant, fixed=fixed, label=_label(fixed))]
        types = self._types()
        required = {k: self._typed(k, *types[k], self.text(k, tenant)) for k in sorted(self.tenancy.required)}
        optional = [k for k in self.tenancy.keys if k not in self.tenancy.required]
        contexts = [required]
        for key in optional:
            contexts.append(required | {key: self._typed(key, *types[key], self.optional(key)[0])})
        if len(optional) > 1:
            contexts.append({k: v for one in contexts for k, v in one.items()})
        arrays = {
            k: (
                *_listed(required[k]),
                *_listed(self._typed(k, types[k][0], True, self.text(k, tenant, second=True))),
            )
            for k in required
            if types[k][1]
        }
        if arrays:
            contexts.append(required | arrays)
        fixed = {p: _first(required) for pipe in self.snapshot.pipes.values() for p in pipe.fixed_params}
        fixed |= {p: _scalar(required[p]) for p in fixed if p in required}
        return [TenantView(tenant, context, fixed, _label(context)) for context in contexts]

    def is_list(self, key: str) -> bool:
        """Whether a policy takes a list of this key's values."""
        return self.tenancy.policies and self._types().get(key, ("", False))[1]

    def type_of(self, datasource: str, chain: Chain, key: str = "") -> Type:
        """The type of a key's place; inside of JSON the one that the policies read it as."""
        if len(chain) > 1:
            name = self._types().get(key, ("", False))[0] if self.tenancy.policies else ""
            return parse({"Boolean": "Bool", "DateTime64": "DateTime64(3)"}.get(name, name) or "String")
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

    def _typed(self, key: str, type: str, array: bool, value: tuple[str, int]) -> Scalar | tuple[Scalar, ...]:
        """What a token says, for a policy that reads the key as this type."""
        text, number = value
        one: Scalar = text
        if type.startswith(_NUMBERS):
            one = number
        elif type == "Boolean":
            one = bool(number % 2)
        elif type.startswith("Date"):
            one = day_of(number) if type == "Date" else f"{day_of(number)} 00:00:00"
        return (one,) if array else one

    def _fixed(self, key: str, tenant: str) -> Scalar:
        return self.text(key, tenant)[0]

    def _column_types(self, key: str) -> list[Type]:
        """The types of the columns that hold a key's value."""
        return [
            _plain(self.type_of(name, chain, key))
            for name, by_key in self.tenancy.columns.items()
            for chain in sorted(by_key.get(key, ()))
        ]


def as_text(type: Type, text: str, number: int) -> str:
    """A tenant's value as a column of this type holds it, written as text. `number` tells tenants apart, too."""
    match type.name:
        case "UUID":
            return _uuid(text)
        case "Enum8" | "Enum16":
            names = [name for name in type.enum_values() if not name.lstrip("-").isdigit()] or type.enum_values()
            return names[number % len(names)]
        case "FixedString":
            size = int(type.arguments[0])
            return f"{number:0{size}d}"[-size:]
        case "Bool":
            return str(number % 2 == 1).lower()
        case "Date" | "Date32":
            return day_of(number)
        case "DateTime" | "DateTime64":
            return f"{day_of(number)} 00:00:00"
        case "IPv4":
            return f"10.0.{number // 256 % 256}.{number % 256}"
        case "IPv6":
            return f"2001:db8::{number:x}"
        case _:
            return text


def day_of(number: int) -> str:
    return f"2024-01-{1 + number % 28:02d}"


def _plain(type: Type) -> Type:
    while type.name in ("Nullable", "LowCardinality", "SimpleAggregateFunction", "Array"):
        type = type.inner
    return type


def _listed(value: Scalar | tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    return value if isinstance(value, tuple) else (value,)


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

"""The rows of a proof: for each landing data source, rows of every tenant and rows of nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipit import jsontext
from pipit.audit.comparisons import Chain, Literal
from pipit.audit.prove.knowledge import filled, plain
from pipit.audit.prove.tenants import NAMES, SUBJECT, Tenants
from pipit.audit.prove.values import Values, put
from pipit.datafiles.resources import Column, DataSource
from pipit.ingest.types import Type, parse
from pipit.sql.lexer import LexerKind, significant, tokenize

_COUNTS = dict.fromkeys(NAMES, 6) | {NAMES[0]: 40, NAMES[1]: 40, NAMES[2]: 10}
_OF_A_STRANGER = 3
_GROUPS = 5  # a fifth of a tenant's rows are like one model
MOST = 20_000  # rows in all, where a limit of the SQL asks for more of them
_SHARED = 14
_MODELS = 4  # rows that others are like, in all but a column or two: so that groups are large enough for a HAVING
_LIKE_A_MODEL = 0.6
_FOCUSED = 3  # models of each tenant for each endpoint that has met no row
_ALIKE = 5
_FIXTURE = 0.35
_MIXED = 0.1


@dataclass(frozen=True, slots=True)
class Row:
    """`tenant` is whose row it was made to be; empty: of a shared data source."""

    id: int
    table: str
    tenant: str
    values: Mapping[str, Any]


@dataclass(slots=True)
class Maker:
    values: Values
    tenants: Tenants
    fixtures: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    focused: Mapping[str, Sequence[Mapping[str, Sequence[Literal]]]] = field(default_factory=dict)
    also: frozenset[str] = frozenset()  # targets that their views leave empty, so that they get rows of their own
    threshold: int = 0  # a number of rows that must not make a difference when others have them
    _id: int = 0

    def landing(self) -> list[str]:
        """The data sources that get rows: no view fills them, nor a copy, unless events can too."""
        snapshot = self.tenants.snapshot
        views, copies = filled(snapshot)
        by_copies = {t for t in copies if not any(c.jsonpath for c in snapshot.tables[t].datasource.columns)}
        return [n for n in snapshot.tables if n in self.also or (n not in views and n not in by_copies)]

    def _counts(self) -> dict[str, int]:
        """Rows of each tenant for each table: others have groups above the threshold, the first stays below it."""
        tables = [name for name in self.landing() if name not in self.tenants.tenancy.shared]
        most = MOST // max(len(tables), 1)
        first, other = NAMES[:2]
        return _COUNTS | {
            first: max(_COUNTS[first], min(self.threshold // 2, most // 10)),
            other: max(_COUNTS[other], min(self.threshold * _GROUPS, most)),
        }

    def rows(self) -> list[Row]:
        found: list[Row] = []
        for name in self.landing():
            if name in self.tenants.tenancy.shared:
                found += self.of(name, "", _SHARED)
            else:
                for tenant, count in self._counts().items():
                    found += self.of(name, tenant, count)
                for stranger in self.tenants.strangers:
                    found += self.of(name, stranger, _OF_A_STRANGER)
        return found

    def others(self, count: int | None = None) -> list[Row]:
        """New rows of the tenants that are not looked at."""
        tables = [n for n in self.landing() if n not in self.tenants.tenancy.shared]
        counts = {name: count or most for name, most in _COUNTS.items() if name != SUBJECT}
        counts |= dict.fromkeys(self.tenants.strangers, _OF_A_STRANGER)
        return [row for name in tables for tenant, most in counts.items() for row in self.of(name, tenant, most)]

    def of(self, name: str, tenant: str, count: int) -> list[Row]:
        datasource = self.tenants.snapshot.tables[name].datasource
        if any(c.type.startswith("AggregateFunction") for c in datasource.columns):
            return []
        found: list[Row] = []
        for asked in self.focused.get(name, ()) if count > _MODELS else ():
            self.values.focus = asked
            for _ in range(_FOCUSED):
                model = self._row(datasource, tenant)
                found += [model, *(self._like(model, datasource, tenant) for _ in range(_ALIKE))]
        self.values.focus = {}
        models = [self._row(datasource, tenant) for _ in range(min(_MODELS, count))]
        alike = int(count * _LIKE_A_MODEL) - len(models)
        found += models
        found += [self._like(models[number % _MODELS], datasource, tenant) for number in range(alike)]
        return found + [self._row(datasource, tenant) for _ in range(count - len(models) - max(alike, 0))]

    def _like(self, model: Row, datasource: DataSource, tenant: str) -> Row:
        """A row that differs from another one in two columns at most, and belongs to whom that one belongs."""
        row = self._row(datasource, tenant)
        keys = self.tenants.tenancy.names(datasource.name)
        other = set(self.values.random.sample(sorted(row.values), k=min(2, len(row.values)))) - keys
        values = {name: row.values[name] if name in other else value for name, value in model.values.items()}
        return Row(row.id, datasource.name, model.tenant, values)

    def _row(self, datasource: DataSource, tenant: str) -> Row:
        self._id += 1
        random = self.values.random
        fixtures = self.fixtures.get(datasource.name, ())
        like = random.choice(fixtures) if fixtures and random.random() < _FIXTURE else {}
        found: dict[str, Any] = {}
        sampled = _words(datasource.engine.sampling_key)  # many values, or all rows are in the sample or none
        for column in datasource.columns:
            if _computed(column):
                continue
            type = parse(column.type or "String")
            if column.name == datasource.engine.sign:
                found[column.name] = 1
            elif column.name in like and not _is_time(type) and random.random() < 0.85:
                found[column.name] = like[column.name]
            elif column.name in sampled and type.name == "String":
                found[column.name] = f"{column.name}_{random.randint(1, 1_000_000)}"
            elif column.name in sampled and type.name.startswith(("Int", "UInt")):
                found[column.name] = random.randint(1, 100)
            else:
                found[column.name] = self.values.of(type, column.name, tenant)
        owner = tenant
        by_key = self.tenants.tenancy.columns.get(datasource.name, {})
        holders: dict[str, str] = {}
        for key, chains in sorted(by_key.items()):
            holder = holders.get(plain(key), tenant)
            tenants_own = tenant in NAMES
            if holders and tenants_own and plain(key) not in holders and random.random() < _MIXED:
                holder = random.choice(NAMES)
                owner = owner if holder == owner else NAMES[1]
            holders[plain(key)] = holder
            second = self.tenants.is_list(key) and tenants_own and random.random() < 0.25
            if second:
                owner = f"{owner}.2"
            for chain in chains:
                self._own(found, datasource.name, key, chain, holder, second)
        return Row(self._id, datasource.name, owner, found)

    def _own(self, row: dict[str, Any], name: str, key: str, chain: Chain, tenant: str, second: bool) -> None:
        """Puts a tenant's value at its place: where its tokens hold a list, the first of it or the second."""
        random = self.values.random
        if key in self.tenants.tenancy.required or not self.tenants.tenancy.policies:
            text, number = self.tenants.text(key, tenant, second=second)
        else:
            text, number = random.choice(self.tenants.optional(key))
        value = self.values.key(self.tenants.type_of(name, chain, key), text, number)
        held = row.get(chain[0])
        if len(chain) == 1:
            row[chain[0]] = value
        elif isinstance(held, dict):
            put(held, chain[1:], value)
        elif isinstance(held, str):
            row[chain[0]] = _in_json(held, chain[1:], value)


def _in_json(text: str, path: Sequence[str], value: Any) -> str:
    try:
        tree = jsontext.exact(text)
    except ValueError:
        return text
    if isinstance(tree, dict):
        put(tree, path, value)
    return jsontext.text(tree)


def _computed(column: Column) -> bool:
    """Its DEFAULT is made of other columns: the engine fills it."""
    if not column.default:
        return not column.type
    words = [t for t in significant(tokenize(column.default)) if t.kind is LexerKind.WORD]
    return any(word.text.lower() not in ("now", "now64", "null", "true", "false", "today") for word in words)


def _words(text: str) -> frozenset[str]:
    return frozenset(t.text.strip("`") for t in significant(tokenize(text)))


def _is_time(type: Type) -> bool:
    while type.name in ("Nullable", "LowCardinality", "SimpleAggregateFunction"):
        type = type.inner
    return type.name.startswith(("Date", "Time"))


def event(row: Row, datasource: DataSource) -> dict[str, Any]:
    """The row as the events API takes it: every value at its column's jsonpath."""
    found: dict[str, Any] = {}
    with_paths = any(c.jsonpath for c in datasource.columns)
    for column in datasource.columns:
        if column.name not in row.values or (with_paths and not column.jsonpath):
            continue
        path = (column.jsonpath or f"$.{column.name}").removeprefix("$").strip(".")
        value = row.values[column.name]
        if not path:
            found |= value if isinstance(value, dict) else _tree(value)
        elif "[:]" in path:
            before, _, after = path.partition("[:]")
            _put_each(found, before.split("."), [s for s in after.split(".") if s], value)
        else:
            put(found, [_step(step) for step in path.split(".")], value)
    return found


def _step(step: str) -> str:
    return step.removeprefix("['").removesuffix("']")


def _tree(value: object) -> dict[str, Any]:
    try:
        tree = jsontext.exact(value) if isinstance(value, str) else value
    except ValueError:
        return {}
    return tree if isinstance(tree, dict) else {}


def _put_each(into: dict[str, Any], before: Sequence[str], after: Sequence[str], values: object) -> None:
    """`$.items[:].name`: a list of objects, one for each value."""
    items = values if isinstance(values, list) else []
    for step in before[:-1]:
        into = into.setdefault(step, {})
    listed = into.setdefault(before[-1], [{} for _ in items] if after else [])
    if not after:
        listed.extend(items)
        return
    for item, value in zip(listed, items, strict=False):
        put(item, after, value)

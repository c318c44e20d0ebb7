"""Every text that a request can make of an endpoint, found by trying; and the branches that no try could reach.

For each parameter: absent, empty, values of its type, each constant that a condition compares it with (and a number's
neighbours), its enum and default. One parameter at a time, over nothing given and over everything given; and together
all those that stand in one condition, or in conditions inside of each other, or in conditions that a fixed parameter
stands inside of: two of those may each leave out one of two copies of a tenant's condition. A traced template tells
which branches each try took, so what is missed is named and never passed over.

Bounds count tries, not time: the same project gives the same report everywhere.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from pipit.audit.comparisons import mine_node
from pipit.catalog.lineage import references, tables_read
from pipit.catalog.snapshot import CompiledNode, CompiledPipe, NodeTarget, Snapshot
from pipit.engine.client import ParamValue
from pipit.errors import CustomError, PipitError, TemplateError
from pipit.query.compose import Composed, Composer
from pipit.templates import Binder, Parameter, RequestValue, Template
from pipit.templates.parts import PartKind, split
from pipit.templates.state import Branch

MAX_TRIES = 3_000
MAX_TEXTS = 200
_TOGETHER = 512  # combinations of one group of parameters; beyond that, all pairs

_WORD = re.compile(r"[A-Za-z_]\w*")

Values = Mapping[str, RequestValue]


@dataclass(frozen=True, slots=True)
class Rendering:
    """One text with the values that first made it."""

    values: Values
    composed: Composed
    binder: Binder

    @property
    def params(self) -> Mapping[str, ParamValue]:
        return self.binder.params

    @property
    def visited(self) -> frozenset[Branch]:
        return frozenset(self.binder.visited)


@dataclass(frozen=True, slots=True)
class RefusedValues:
    """Values whose text is refused before the engine sees it."""

    values: Values
    error: PipitError


@dataclass(frozen=True, slots=True)
class Renderings:
    texts: tuple[Rendering, ...]
    refusals: tuple[RefusedValues, ...]
    reached: frozenset[Branch]
    missed: tuple[Branch, ...]
    complete: bool
    paired: bool = False  # of what stands around a fixed parameter, only pairs were tried: there are too many


@dataclass(frozen=True, slots=True)
class Inputs:
    """What is known of an endpoint's parameters, its own and those of the nodes that it reads."""

    parameters: Mapping[str, Parameter]
    candidates: Mapping[str, tuple[RequestValue, ...]]  # None: absent
    choosing: tuple[str, ...]  # those that conditions of a template look at
    comparing: frozenset[str]  # those that are compared with a column
    nodes: tuple[NodeTarget, ...]
    groups: tuple[frozenset[str], ...] = ()  # parameters that conditions look at together
    literals: Mapping[str, frozenset[str]] = field(default_factory=dict)  # what conditions compare each with
    guards: tuple[tuple[frozenset[str], frozenset[str]], ...] = ()  # of conditions; of an expression inside of them

    def guarding(self, names: Iterable[str]) -> frozenset[str]:
        """The parameters of all conditions that an expression with one of these parameters stands in."""
        wanted = frozenset(names)
        return frozenset().union(*(around for around, inside in self.guards if inside & wanted)) - wanted


def traced(snapshot: Snapshot) -> Snapshot:
    """The snapshot with templates that tell which branches they take. Their SQL is the same."""

    def node(pipe: CompiledPipe, one: CompiledNode) -> CompiledNode:
        if one.template is None:
            return one
        return replace(one, template=Template.compile(one.node.sql, name=f"{pipe.name}.{one.name}", traced=True))

    pipes = {
        pipe.name: replace(pipe, nodes={name: node(pipe, one) for name, one in pipe.nodes.items()})
        for pipe in snapshot.pipes.values()
    }
    return replace(snapshot, pipes=pipes)


def inputs_of(snapshot: Snapshot, pipe: CompiledPipe) -> Inputs:
    assert pipe.endpoint is not None
    found = reachable(snapshot, pipe, pipe.endpoint)
    parameters: dict[str, Parameter] = {}
    tested: dict[str, set[str | int | float]] = {}
    comparing: set[str] = set()
    enums: dict[str, list[object]] = {}
    groups: dict[frozenset[str], None] = {}
    for target in found:
        if target.node.template is None:
            continue
        mined = mine_node(target.node)
        for name, literals in mined.tested.items():
            tested.setdefault(name, set()).update(literals)
        for parameter in target.node.template.parameters:
            known = parameters.get(parameter.name)
            if known is None or (not known.typed and parameter.typed):
                parameters[parameter.name] = parameter
            enums.setdefault(parameter.name, []).extend(parameter.enum)
            if mined.columns_of(parameter.name):
                comparing.add(parameter.name)
            if parameter.guards:
                tested.setdefault(parameter.name, set())
    guards: dict[tuple[frozenset[str], frozenset[str]], None] = {}
    for target in found:
        for around, inside in _groups(target, frozenset(parameters)):
            if inside is None:
                groups[around] = None
            else:
                guards[(around, inside)] = None
    columns = _columns(snapshot, pipe)
    candidates = {
        name: _candidates(parameter, tested.get(name, set()), enums.get(name, []), columns)
        for name, parameter in parameters.items()
    }
    choosing = tuple(name for name in parameters if name in tested)
    named = {name: frozenset(map(str, tested.get(name, ()))) for name in parameters}
    return Inputs(
        parameters, candidates, choosing, frozenset(comparing), tuple(found), tuple(groups), named, tuple(guards)
    )


def _columns(snapshot: Snapshot, pipe: CompiledPipe) -> tuple[str, ...]:
    """A few columns of what it reads: what a request may name."""
    assert pipe.endpoint is not None
    tables = sorted(tables_read(snapshot, pipe, pipe.endpoint) & snapshot.tables.keys())
    return tuple(dict.fromkeys(c.name for t in tables for c in snapshot.tables[t].datasource.columns))[:3]


def _groups(target: NodeTarget, parameters: frozenset[str]) -> Iterator[tuple[frozenset[str], frozenset[str] | None]]:
    """The parameters of each condition together with those of the conditions around it, and None; and those of the
    conditions around each expression with the parameters of that."""
    if target.node.template is None:
        return
    sql = target.node.node.sql
    start = len(sql) - len(sql.lstrip())
    stack: list[frozenset[str]] = []
    aliases: dict[str, frozenset[str]] = {}
    for part in split(sql[:start] + " " + sql[start + 1 :], ""):
        if part.kind is PartKind.TEXT:
            continue
        words = _WORD.findall(part.text)
        if part.kind is PartKind.EXPRESSION:
            if stack:
                inside = frozenset().union(*(aliases.get(w, frozenset({w} & parameters)) for w in words))
                yield frozenset().union(*stack), inside
            continue
        names = frozenset().union(*(aliases.get(w, frozenset({w} & parameters)) for w in words[1:]))
        if words[:1] == ["set"] and len(words) > 1:
            aliases[words[1]] = names | aliases.get(words[1], frozenset())
        elif words[:1] in (["if"], ["for"], ["while"], ["try"]):
            if words[0] == "for" and len(words) > 1:
                aliases[words[1]] = names
            stack.append(names)
            yield frozenset().union(*stack), None
        elif words[:1] == ["elif"] and stack:
            stack[-1] |= names
            yield frozenset().union(*stack), None
        elif words[:1] == ["end"] and stack:
            stack.pop()


def reachable(snapshot: Snapshot, pipe: CompiledPipe, node: CompiledNode) -> list[NodeTarget]:
    """The nodes that an endpoint may read, itself first."""
    found: dict[tuple[str, str], NodeTarget] = {}
    waiting = [NodeTarget(pipe, node)]
    while waiting:
        target = waiting.pop(0)
        if (target.pipe.name, target.node.name) in found:
            continue
        found[(target.pipe.name, target.node.name)] = target
        for reference in references(target.node):
            below = snapshot.resolve(reference, target.pipe)
            if isinstance(below, NodeTarget):
                waiting.append(below)
    return list(found.values())


def render_all(
    snapshot: Snapshot,
    pipe: CompiledPipe,
    inputs: Inputs,
    composer: Composer,
    *,
    fixed: Values | None = None,
    left_out: Values | None = None,
) -> Renderings:
    """All texts of the endpoint. `fixed` values stand in every try; so do those of `left_out`, where None is absent."""
    given: dict[str, RequestValue] = {**(fixed or {}), **(left_out or {})}
    texts: dict[tuple[object, ...], Rendering] = {}
    refusals: dict[Hashable, RefusedValues] = {}
    reached: set[Branch] = set()
    seen: set[tuple[tuple[str, str], ...]] = set()
    complete = True

    def attempt(assignment: Values) -> object:
        """What came of it, so that two values which make the same can be told from others."""
        nonlocal complete
        values = {name: value for name, value in {**assignment, **given}.items() if value is not None}
        known = tuple(sorted((name, str(value)) for name, value in values.items()))
        if known in seen:
            return None
        if len(seen) >= MAX_TRIES or len(texts) >= MAX_TEXTS:
            complete = False
            return None
        seen.add(known)
        tried = render(snapshot, pipe, values, composer)
        if isinstance(tried, Rendering):
            reached.update(tried.visited)
            key = (tried.composed.sql, _fixed_in(tried, fixed), *sorted(tried.composed.settings.items()))
            texts.setdefault(key, tried)
            return key
        if isinstance(tried, RefusedValues):
            refusals.setdefault(tried.error.identity, tried)
            return tried.error.identity
        reached.update(tried)  # the author's own error(): no statement comes of it
        return tried

    paired = _try_all(inputs, given, attempt)
    templates = {branch.template for branch in reached}
    missed = [
        branch
        for target in inputs.nodes
        if target.node.template is not None and f"{target.pipe.name}.{target.node.name}" in templates
        for branch in target.node.template.branches
        if branch not in reached
    ]
    found = (tuple(texts.values()), tuple(refusals.values()), frozenset(reached), tuple(missed))
    return Renderings(*found, complete, paired)


def _fixed_in(rendering: Rendering, fixed: Values | None) -> tuple[str, ...]:
    """Where the fixed values stand in a text. `{{String(other, tenant)}}` is one text, but two conditions."""
    values = {str(item) for value in (fixed or {}).values() for item in (value if isinstance(value, list) else [value])}

    def holds(bound: ParamValue) -> bool:
        items = bound if isinstance(bound, Sequence) and not isinstance(bound, str) else [bound]
        return any(str(item) in values for item in items)

    return tuple(name for name, bound in rendering.params.items() if holds(bound))


def render(
    snapshot: Snapshot, pipe: CompiledPipe, values: Values, composer: Composer
) -> Rendering | RefusedValues | frozenset[Branch]:
    """The text for these values; why it is refused; or, where the template itself refuses them, the branches taken.

    A value that the template cannot take counts for nothing: no branch of that try was seen to its end.
    """
    assert pipe.endpoint is not None
    binder = Binder()
    try:
        composed = composer.pipe(snapshot, pipe, pipe.endpoint, values, binder)
    except CustomError:
        return frozenset(binder.visited)
    except TemplateError:
        return frozenset()
    except PipitError as error:
        return RefusedValues(values, error)
    return Rendering(values, composed, binder)


def sample(parameter: Parameter) -> RequestValue:
    """A value that is likely to pass: the author's own words first."""
    for known in (*parameter.enum, parameter.example, parameter.default):
        if known not in (None, "", []) and isinstance(known, str | int | float):
            return str(known)
    if parameter.identifier:
        return None
    if _is_date(parameter):
        return _DATES["DateTime"] if "time" in parameter.name.lower() else _DATES["Date"]
    return SAMPLES[0].get(_element(parameter.type), "1")


def _is_date(parameter: Parameter) -> bool:
    """A text that seems to be a date, by what its author calls it."""
    named = f"{parameter.name} {parameter.description} {parameter.format}"
    return parameter.type == "String" and _DATE_LIKE.search(named) is not None


_DATE_LIKE = re.compile(r"date|time|YYYY|(?:\A|_)(?:from|to|start|end|since|until|day)(?:_|\s|\Z)", re.IGNORECASE)
# A day, three weeks and more than a year after the first: what conditions over spans of time ask for.
_LATER = ("2024-01-03", "2024-01-23", "2025-06-07")


_DATES = {"Date": "2024-01-02", "DateTime": "2024-01-02 00:00:00", "DateTime64": "2024-01-02 00:00:00.000"}
# A String may have to be a date, a number or a UUID where it stands; tried in this order.
SAMPLES: tuple[dict[str, str], ...] = (
    {**_DATES, "String": "x1", "Boolean": "1", "JSON": "{}"},
    {**_DATES, "String": "2024-01-02", "Boolean": "1", "JSON": "{}"},
    {**_DATES, "String": "2024-01-02 00:00:00", "Boolean": "1", "JSON": "{}"},
    {**_DATES, "String": "1", "Boolean": "1", "JSON": "[]"},
    {**_DATES, "String": "00000000-0000-0000-0000-000000000001", "Boolean": "1", "JSON": "[]"},
)


def others(inputs: Inputs, values: Values) -> Iterator[Values]:
    """The same request with other values of its free texts, for an engine that takes none of the first."""
    for samples in SAMPLES[1:]:
        changed = dict(values)
        for name, value in values.items():
            parameter = inputs.parameters.get(name)
            if parameter is not None and value in (SAMPLES[0]["String"], "", _DATES["Date"], _DATES["DateTime"]):
                changed[name] = samples.get(_element(parameter.type), "1")
        if changed != values:
            yield changed


def _element(type: str) -> str:
    return type[len("Array(") : -1] if type.startswith("Array(") else type


def _candidates(
    parameter: Parameter, tested: Iterable[str | int | float], enum: Iterable[object], columns: Iterable[str]
) -> tuple[RequestValue, ...]:
    found: list[RequestValue] = [sample(parameter), None]
    literals = sorted(tested, key=lambda one: (isinstance(one, str), str(one)))
    for literal in literals:
        found.append(str(literal))
        if isinstance(literal, int):
            found += [str(literal + 1), str(literal - 1)]
    if parameter.type.startswith("Array(") and len(literals) > 1:
        found.append(",".join(str(literal) for literal in literals))
    found += [str(one) for one in enum if isinstance(one, str | int | float)]
    if parameter.type == "Boolean":
        found += ["1", "0"]
    if parameter.identifier:
        found += columns
    else:
        found.append("")
        if parameter.type in _DATES or _is_date(parameter):
            time = " 00:00:00" if parameter.type.startswith("DateTime") else ""
            found += [f"{day}{time}" for day in _LATER]
        if _element(parameter.type) == "String":
            found.append(SAMPLES[0]["String"])
    different = list(dict.fromkeys(found))
    if parameter.type.startswith("Array("):
        different.append([])  # as a JSON body can say it: a loop over it makes no turn
    return tuple(different)


def _try_all(inputs: Inputs, given: Values, attempt: Callable[[Values], object]) -> bool:
    """Whether of what stands around the given parameters there were too many combinations to try them all."""
    free = {name: values for name, values in inputs.candidates.items() if name not in given}
    nothing: dict[str, RequestValue] = {
        name: values[0] if inputs.parameters[name].needed else None for name, values in free.items()
    }
    everything = {name: values[0] for name, values in free.items()}
    bases = (nothing, everything)
    for base in bases:
        attempt(base)
    # Values that make the same texts over both bases are one value for what follows.
    telling: dict[str, list[RequestValue]] = {}
    for name, values in free.items():
        outcomes: dict[tuple[object, ...], RequestValue] = {}
        for index, value in enumerate(values):
            outcome = tuple(attempt({**base, name: value}) for base in bases)
            # Already seen says nothing of its own: the values that the bases have are kept.
            outcomes.setdefault(outcome if None not in outcome or index > 1 else (index, outcome), value)
        telling[name] = list(outcomes.values())
    # `a == 'x' and b == 'y'`: neither value tells anything by itself, so all that conditions name are kept.
    named = {n: [*telling[n], *sorted(v for v in inputs.literals.get(n, ()) if v not in telling[n])] for n in free}
    for group in inputs.groups:
        _try_together(sorted(group & free.keys()), named, bases, attempt)
    around = sorted(inputs.guarding(given) & free.keys())
    return not _try_together(around, telling, bases, attempt)


def _try_together(
    names: Sequence[str],
    values: Mapping[str, Sequence[RequestValue]],
    bases: Iterable[Values],
    attempt: Callable[[Values], object],
) -> bool:
    """All combinations, or all pairs where those are too many: then False."""
    if len(names) < 2:
        return True
    small = prod(len(values[name]) for name in names) <= _TOGETHER
    for chosen in [tuple(names)] if small else itertools.combinations(names, 2):
        for combination in itertools.product(*(values[name] for name in chosen)):
            for base in bases:
                attempt({**base, **dict(zip(chosen, combination, strict=True))})
    return small

"""What will run, once everything about a read is decided: `Planner.plan` makes it, the cache's key is over it.

The same token that asks the same of the same snapshot gets the same plan: planning looks at nothing else, at no clock
and no row. So `PlanMemory` may remember it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cachetools import LRUCache

from pipit.engine.client import ParamValue, Statement
from pipit.query.compose import Composed
from pipit.query.formats import Format
from pipit.query.limits import SettingsDict
from pipit.query.queries import Read

MAX_CHARACTERS = 16 * 1024 * 1024  # of values, statements and filters that are remembered, for all workspaces
_OF_ONE = 64 * 1024
_OF_AN_ENTRY = 4096  # the objects around them


@dataclass(slots=True)
class Derived:
    """What is made of a plan when it runs, and is the same each time."""

    statements: dict[tuple[object, ...], Statement] = field(default_factory=dict)  # by the settings beside the plan's
    key: bytes | None = None  # of the cache (`cache.key_of`)


@dataclass(frozen=True, slots=True)
class Plan:
    """The exact statement, its bound values, filters and settings. `--show-sql` prints it."""

    read: Read
    composed: Composed
    params: Mapping[str, ParamValue]
    filters: Mapping[str, str]  # those that the token is held to
    settings: SettingsDict
    reads: frozenset[str]
    format: Format
    cache_seconds: int = 0  # how long the response may be cached; 0: not at all
    derived: Derived = field(init=False, default_factory=Derived, repr=False, compare=False)

    def again(self, read: Read) -> Plan:
        """The same, asked again by this token of this snapshot; of what `replace` makes nothing is derived yet."""
        plan = Plan(
            read, self.composed, self.params, self.filters, self.settings, self.reads, self.format, self.cache_seconds
        )
        object.__setattr__(plan, "derived", self.derived)
        return plan


class PlanMemory:
    """Plans by who asks what: the very token, the very snapshot, the same query.

    Both are immutable objects, and a change of either is another object: a new deployment, secret or setting, a token
    that was verified again. So who may no longer read finds nothing here, and a refusal is not remembered. A plan holds
    its token and its snapshot, so that no other object can have their ids while it is here.
    """

    def __init__(self, characters: int = MAX_CHARACTERS) -> None:
        self._plans: LRUCache[tuple[object, ...], tuple[Plan, int]] = LRUCache(characters, lambda entry: entry[1])
        self._newest: dict[tuple[str, str], int] = {}  # workspace and environment -> its snapshot's id

    def find(self, read: Read) -> Plan | None:
        query = read.query.key
        found = self._plans.get(_key(read, query)) if query is not None else None
        return found[0].again(read) if found is not None else None

    def keep(self, plan: Plan) -> None:
        read, query = plan.read, plan.read.query.key
        if query is None or (size := _characters(plan, query)) > _OF_ONE:
            return
        workspace = read.snapshot.workspace
        place, snapshot = (workspace.id, workspace.environment), id(read.snapshot)
        if self._newest.setdefault(place, snapshot) != snapshot:  # the old one is not kept alive
            self._plans.clear()
            self._newest = {place: snapshot}
        bare = plan.again(Read(read.snapshot, read.security, read.query))  # without what is this request's own
        self._plans[_key(read, query)] = bare, size


def _key(read: Read, query: tuple[object, ...]) -> tuple[object, ...]:
    return id(read.security), id(read.snapshot), query


def _characters(plan: Plan, query: tuple[object, ...]) -> int:
    """About what it takes in memory: what was sent, what is bound, what goes to the engine and the URL made of it."""
    bound = sum(len(value) if isinstance(value, str) else len(repr(value)) for value in plan.params.values())
    filters = sum(len(table) + len(text) for table, text in plan.filters.items())
    return _OF_AN_ENTRY + 2 * len(plan.composed.sql) + _length(query) + 3 * bound + 6 * filters


def _length(value: object) -> int:
    return sum(map(_length, value)) if isinstance(value, tuple) else len(str(value))

"""What will run, once everything about a read is decided: `Planner.plan` makes it, the cache's key is over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipit.engine.client import ParamValue
from pipit.query.compose import Composed
from pipit.query.formats import Format
from pipit.query.limits import SettingsDict
from pipit.query.queries import Read


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

"""What will run, once everything about a read is decided: `Reader.plan` makes it, the cache's key is over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipit.engine.client import ParamValue
from pipit.query.compose import Composed
from pipit.query.formats import Format
from pipit.query.limits import SettingsDict


@dataclass(frozen=True, slots=True)
class Plan:
    """The exact statement, its bound values, filters and settings. `--show-sql` prints it."""

    composed: Composed
    params: Mapping[str, ParamValue]
    filters: Mapping[str, str]
    settings: SettingsDict
    reads: frozenset[str]
    format: Format
    cache_seconds: int = 0  # how long the answer may be kept; 0: not at all
    tenants_text: bool = False  # a tenant wrote the statement: `tenant_sql.py`

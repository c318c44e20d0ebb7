"""One request of events, as a proof sends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipit.access.context import FixedValue
from pipit.audit.prove.rows import Row


@dataclass(frozen=True, slots=True)
class Append:
    """Events for one data source in one request. `tenant`: whose JWT sends them, with these `fixed_values`; empty: a
    token of the workspace does."""

    table: str
    tenant: str
    rows: tuple[Row, ...]
    fixed: Mapping[str, FixedValue] = field(default_factory=dict)

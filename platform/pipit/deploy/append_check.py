"""Whether a tenant's token may append to a data source: it must fix every column that decides whose a row is.

Here and in every table that is filled from here, through views at once and through copies later (`append_needs.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from cachetools import LRUCache

from pipit.access.context import FixedValue, SecurityContext
from pipit.catalog.snapshot import Snapshot, Table
from pipit.deploy.append_needs import Need, needs_of
from pipit.deploy.fillers import OriginsMemory
from pipit.engine.client import Engine
from pipit.errors import Forbidden, Reason

_REMEMBERED = 256  # deployments


class AppendCheck:
    """What appends need, per deployment. Shared by all requests."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: LRUCache[tuple[str, str], Mapping[str, tuple[Need, ...]]] = LRUCache(_REMEMBERED)
        self._origins = OriginsMemory()
        self._looking = asyncio.Lock()

    async def check(
        self, snapshot: Snapshot, table: Table, security: SecurityContext, fixed: Mapping[str, FixedValue]
    ) -> None:
        """A tenant's token fixes every column that decides whose a row is, here and in all that is filled from here.

        Raises Forbidden, naming the columns; Unavailable where the engine must be asked first and is away.
        """
        if not security.is_tenant:
            return
        if table.policy is not None:
            _check_own(table, security, fixed)
        if snapshot.workspace.settings.unfixed_appends:
            return
        for need in (await self.needs(snapshot)).get(table.name, ()):
            policy = snapshot.tables[need.target].policy
            if policy is not None and need.column in policy.columns_for(security):
                _check_need(table, need, fixed)

    async def needs(self, snapshot: Snapshot) -> Mapping[str, tuple[Need, ...]]:
        """Data source -> what a token that appends to it has to fix, beyond its own policy."""
        key = (snapshot.workspace.database_id, snapshot.edition)
        if key not in self._known:
            async with self._looking:
                if key not in self._known:
                    self._known[key] = await needs_of(self._engine, snapshot, self._origins)
        return self._known[key]


def _check_own(table: Table, security: SecurityContext, fixed: Mapping[str, FixedValue]) -> None:
    assert table.policy is not None
    missing = sorted(table.policy.columns_for(security) - fixed.keys())
    if missing or not fixed:
        named = f" for {_listed(missing)}" if missing else ""
        raise Forbidden(
            f"A JWT that appends to '{table.name}' must set 'fixed_values'{named}: the data source has a row policy",
            hint="Without them its holder could write another tenant's rows. Fix the columns that the policy reads.",
            reason=Reason.FIXED_VALUES_MISSING,
            subject=table.name,
        )


def _check_need(table: Table, need: Need, fixed: Mapping[str, FixedValue]) -> None:
    missing = sorted(need.columns - fixed.keys())
    if need.why:
        raise Forbidden(
            f"A JWT cannot append to '{table.name}': {need.through} fills '{need.target}', which has a row policy, and "
            f"no 'fixed_values' decide its '{need.column}': {need.why}",
            hint="Its holder could write another tenant's rows. Append with a token of the workspace, or let the view "
            f"make '{need.column}' of columns of '{table.name}' alone. `pipit audit` shows all such ways.",
            reason=Reason.APPEND_NOT_CONFINED,
            subject=table.name,
        )
    if missing:
        raise Forbidden(
            f"A JWT that appends to '{table.name}' must set 'fixed_values' for {_listed(missing)}: through "
            f"{need.through} they become '{need.column}' of '{need.target}', which has a row policy",
            hint="Without them its holder could write another tenant's rows. `pipit audit` shows all such ways.",
            reason=Reason.FIXED_VALUES_MISSING,
            subject=table.name,
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)

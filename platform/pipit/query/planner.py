"""From a read to its plan: resolve -> render -> secure -> limit. The one place where filters are applied (rule 4).

Nothing is run or made for a plan. The engine is only asked what the statement is (`examine.py`), and sees no row of any
table meanwhile. The same read of the same snapshot has the same plan.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipit.engine.client import Engine
from pipit.errors import Forbidden, Reason
from pipit.query import tenant_sql
from pipit.query.barriers import NO_BARRIERS, Barriers, Used, barriers_for
from pipit.query.compose import Composed, Composer
from pipit.query.disclosure import quietly
from pipit.query.examine import Examined, Examiner, check_confined, check_strict
from pipit.query.formats import Format
from pipit.query.limits import STRICT, WHOLE_COLUMNS, Limits, settings_for, tenant_sql_settings
from pipit.query.plan import Plan
from pipit.query.queries import Composing, Read
from pipit.query.secure import check_filters, check_scopes, filter_setting, filters_for, narrowed
from pipit.templates import Binder


@dataclass(frozen=True, slots=True)
class Draft:
    """A read's statement with the values that it binds, before the engine has seen it."""

    read: Read
    composed: Composed
    format: Format
    binder: Binder

    @property
    def reads_service_tables(self) -> bool:
        return not self.read.snapshot.service_tables.isdisjoint(self.composed.tables)


class Planner:
    """Remembers what it learned about each text. Keeps nothing of any one read."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._limits = limits
        self._composer = Composer()
        self._examiner = Examiner(engine)

    def draft(self, read: Read, barriers: Barriers = NO_BARRIERS) -> Draft:
        """Without the engine: whether the token may ask this, and the statement. Raises what a client should see."""
        snapshot, security = read.snapshot, read.security
        if security.workspace_id != snapshot.workspace.id:
            raise Forbidden("The token belongs to another workspace", reason=Reason.TOKEN_ELSEWHERE)
        if security.environment != snapshot.workspace.environment:
            raise Forbidden("The token belongs to another environment", reason=Reason.TOKEN_ELSEWHERE)
        if not read.is_tenants_sql:
            check_scopes(snapshot, security)
        binder = Binder()
        composed, format = read.query.compose(Composing(snapshot, security, self._composer, binder, barriers))
        return Draft(read, composed, format, binder)

    async def plan(self, draft: Draft, *, behind_barriers: bool = False) -> Plan:
        """Examines and secures it. `behind_barriers`: its tables stand behind security barriers (`sql/barrier.py`)."""
        if draft.read.is_tenants_sql:
            return await self._plan_tenants_text(draft)
        examined = await self._examine(draft)
        if behind_barriers:
            read = draft.read
            draft = self.draft(read, barriers_for(read.snapshot, draft.composed.tables, examined.columns))
            examined = await self._examine(draft)
        return self._secured(draft, examined)

    async def _examine(self, draft: Draft) -> Examined:
        with quietly(draft.binder.params):
            return await self._examiner.examine(draft.read.snapshot, draft.composed, draft.binder)

    def _secured(self, draft: Draft, examined: Examined) -> Plan:
        read, composed = draft.read, draft.composed
        snapshot, security, query = read.snapshot, read.security, read.query
        reads = examined.tables | composed.tables
        filters = filters_for(snapshot, security, reads)
        check_filters(snapshot, security, reads, filters)
        settings = settings_for(self._limits, query.purpose)
        settings |= composed.settings
        settings |= query.settings
        # Confined by a filter or by parameters that the token fixes: statistics would count others' rows.
        confined = query.is_confined(security)
        if confined:
            check_confined(examined)
        if filters or confined:
            settings |= STRICT
            if not reads.isdisjoint(snapshot.mixed_columns):
                settings |= WHOLE_COLUMNS
        if not query.purpose.writes:
            settings["readonly"] = 1
        if filters:
            check_strict(examined)
        if applied := narrowed(filters, query.narrowed):
            settings["additional_table_filters"] = filter_setting(applied)
        keep = query.cache_seconds(snapshot, composed)
        return Plan(read, composed, draft.binder.params, filters, settings, reads, draft.format, keep)

    async def _plan_tenants_text(self, draft: Draft) -> Plan:
        """What the token may read is decided before the engine sees the text; what the text may do is decided after."""
        read, composed = draft.read, draft.composed
        snapshot, security = read.snapshot, read.security
        filters = tenant_sql.filters(snapshot, security, composed)
        limits = tenant_sql_settings(self._limits.tenant_sql, filtered=bool(filters))
        columns = tenant_sql.columns_of(snapshot, composed)
        used: Used | None = None
        if not composed.tables.isdisjoint(snapshot.mixed_columns):
            used = (await self._examiner.examine_tenants(snapshot, composed, columns, limits)).columns
        composed = self.draft(read, barriers_for(snapshot, composed.tables, used)).composed
        examined = await self._examiner.examine_tenants(snapshot, composed, columns, limits, behind_barrier=True)
        reads = examined.tables | composed.tables
        check_filters(snapshot, security, reads, filters)
        settings = limits | dict(read.query.settings) | {"readonly": 1}
        if filters:
            settings["additional_table_filters"] = filter_setting(filters)
        return Plan(read, composed, {}, filters, settings, reads, draft.format)

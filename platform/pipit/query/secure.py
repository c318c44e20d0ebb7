"""Which row filter stands on which table of a query, for one token: the one place where filters are applied (rule 4).

Three checks are always true:

(a) a tenant's read of a table whose rows derive from a filtered one, and which has no filter of its own, is refused,
    unless its author says `ROW_POLICY none REASON '...'`;
(b) every policed table that the engine says the query reads is in its filter map;
(c) `examine.py`: the text was examined on the engine's own tree before it runs.

In a workspace that requires policies, a tenant's read of a table that says nothing about tenants is refused too.

Filters of one table are combined with AND. They go to the engine as `additional_table_filters`, keyed by full
physical name, as text printed by the one literal printer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from pipit.access.context import SecurityContext
from pipit.access.filters import jwt_filter
from pipit.access.policy import combine
from pipit.catalog.services import SERVICES
from pipit.catalog.snapshot import Snapshot, Table, TableTarget, staging_of
from pipit.errors import ReadRefused, Reason
from pipit.query.compose import SYSTEM_TABLES
from pipit.sql.literals import quote_string
from pipit.sql.mixed import settled


def filters_for(snapshot: Snapshot, security: SecurityContext, tables: Iterable[str]) -> dict[str, str]:
    """Physical table (`database.table`) -> the condition that this token's reads of it carry.

    Raises ReadRefused where check (a) fails, Forbidden where the token lacks a key that a policy needs.
    """
    check_database(snapshot, tables)
    if not security.is_tenant:
        return {}
    known = snapshot.physical_tables
    filters: dict[str, str] = {}
    for physical in tables:
        target = known.get(physical)
        if target is None:
            continue  # system.one and its like
        condition = _filter_of(snapshot, security, target)
        if condition:
            mixed = snapshot.mixed_columns.get(physical)
            filters[physical] = settled(condition, mixed) if mixed else condition
    return filters


def check_database(snapshot: Snapshot, tables: Iterable[str]) -> None:
    """Every table is one of this snapshot: of its workspace and environment, and of the deployment that it is.

    What is remembered of a statement is remembered under its place. Should a statement of another place ever come out
    of a memory, its tables would be unknown here, and nothing would filter them.
    """
    for physical in tables:
        if physical not in snapshot.physical_tables and physical not in SYSTEM_TABLES:
            raise ReadRefused("The query reads a table of another database, so it does not run")


def check_services(snapshot: Snapshot, security: SecurityContext) -> None:
    """A row of a service data source tells what other tenants asked: no token that makes its holder a tenant reads it.

    Nor does any JWT where the workspace has row policies: there every JWT is a tenant's, whatever it carries.
    """
    scoped = any(scope.filter or scope.fixed_params or scope.fixed_values for scope in security.scopes)
    policed = any(table.policy is not None for table in snapshot.tables.values())
    if security.is_tenant and (policed or scoped or security.context):
        raise ReadRefused(
            "A tenant's token cannot read the workspace's log (tinybird.*)",
            hint="Use a token of the workspace.",
            reason=Reason.SERVICE_TABLE_REFUSED,
        )


def check_chosen(snapshot: Snapshot, security: SecurityContext, chosen: Collection[str]) -> None:
    """In a project with row policies, which tables a tenant's request reads is its author's to say.

    `chosen`: the data sources and pipes that only the request named. A deploy refuses a parameter that stands in
    `table(...)` itself; what becomes a name on a longer way (`{% set t = x %}`, a loop, a method) is seen here.
    """
    if chosen and security.is_tenant and any(table.policy is not None for table in snapshot.tables.values()):
        raise ReadRefused(
            "A parameter of the request chooses a table, in a project with row policies",
            hint="The pipe's author names the tables: {% if x == 'a' %} a {% else %} b {% end %}.",
            reason=Reason.TABLE_CHOSEN,
        )


def check_scopes(snapshot: Snapshot, security: SecurityContext) -> None:
    """A filter that no data source carries must not be a filter that is missing.

    A scope may name a data source that was renamed, is in another case or has a version in its name: the token's
    issuer meant to confine it, so it reads nothing until the two agree again.
    """
    for scope in security.scopes:
        if scope.type == "DATASOURCES:READ" and scope.filter and scope.resource not in snapshot.tables:
            raise ReadRefused(
                f"The token filters the data source '{scope.resource[:200]}', which does not exist",
                hint="Name the data source in 'resource' exactly as it is deployed.",
                reason=Reason.FILTER_INVALID,
                subject=scope.resource,
            )


def is_policed(security: SecurityContext, table: Table) -> bool:
    """Whether this token's reads of the table must carry a filter."""
    return security.is_tenant and (table.policy is not None or bool(_scope_filters(security, table)))


def check_filters(
    snapshot: Snapshot, security: SecurityContext, tables: Iterable[str], filters: Mapping[str, str]
) -> None:
    """Check (b): against the catalog and the engine's list of tables, whatever made the map."""
    if not security.is_tenant:
        return
    known = snapshot.physical_tables
    for physical in tables:
        target = known.get(physical)
        if target is not None and is_policed(security, target.table) and not filters.get(physical):
            raise ReadRefused(
                f"The row policy of '{target.table.name}' cannot be applied to this query, so it does not run"
            )


def narrowed(filters: Mapping[str, str], conditions: Mapping[str, str]) -> Mapping[str, str]:
    """The filters, with conditions that let fewer rows through, and never one that a filter hides."""
    if not conditions:
        return filters
    both = {table: combine([filters[table], text]) for table, text in conditions.items() if table in filters}
    return {**filters, **conditions, **both}


def filter_setting(filters: Mapping[str, str]) -> str:
    """The value of `additional_table_filters`.

    A table whose rows are replaced while a query is being planned has the other name by then, and the engine looks for
    the filter of that one (measured on chDB 4.4: it read all rows). So each filter stands under both names.
    """
    both = {f"{database}.{name}": text for table, text in filters.items() for database, name in _names(table)}
    inner = ", ".join(f"{quote_string(table)}: {quote_string(text)}" for table, text in sorted(both.items()))
    return "{" + inner + "}"


def _names(table: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """`database.table`, and the table that may change places with it."""
    database, _, name = table.partition(".")
    return (database, name), (database, staging_of(name))


def _scope_filters(security: SecurityContext, table: Table) -> list[str]:
    return [s.filter for s in security.scopes_for("DATASOURCES:READ", table.name) if s.filter]


def _filter_of(snapshot: Snapshot, security: SecurityContext, target: TableTarget) -> str:
    table = target.table
    if table.name in SERVICES:
        check_services(snapshot, security)
        return ""
    if target.quarantine:
        # Bad rows are not parsed, so no condition over their columns can be trusted.
        _check_stated(snapshot, table)
        if is_policed(security, table) or _has_policed_source(snapshot, security, table):
            raise ReadRefused(
                f"'{table.name}_quarantine' holds rows of a table with a row policy; tenants cannot read it",
                reason=Reason.QUARANTINE_REFUSED,
                subject=table.name,
            )
        return ""
    _check_stated(snapshot, table)
    conditions = [jwt_filter(text) for text in _scope_filters(security, table)]
    if table.policy is not None:
        conditions.append(table.policy.filter_for(security))
    if conditions:
        return combine(conditions)
    if table.sources & SERVICES.keys():
        check_services(snapshot, security)
    stated = table.datasource.row_policy is not None  # and it is `none REASON`: for every tenant, as its author says
    source = "" if stated else _has_policed_source(snapshot, security, table)
    if source:
        raise ReadRefused(
            f"'{table.name}' is made from '{source}', which has a row policy, and has none of its own",
            hint=f"Add a ROW_POLICY to {table.datasource.file}.",
            reason=Reason.POLICY_MISSING,
            subject=table.name,
        )
    return ""


def _check_stated(snapshot: Snapshot, table: Table) -> None:
    if snapshot.workspace.settings.require_policies and table.datasource.row_policy is None:
        raise ReadRefused(
            f"'{table.name}' has no ROW_POLICY, and the workspace requires them",
            hint=f"Add a ROW_POLICY to {table.datasource.file}, or `ROW_POLICY none REASON '...'`.",
            reason=Reason.POLICY_REQUIRED,
            subject=table.name,
        )


def _has_policed_source(snapshot: Snapshot, security: SecurityContext, table: Table) -> str:
    for name in sorted(table.sources):
        if name in snapshot.tables and is_policed(security, snapshot.tables[name]):
            return name
    return ""

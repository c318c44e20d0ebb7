"""Tenant SQL: a JWT's own SELECT on /v0/sql, off unless the workspace turns it on (`settings.tenant_sql`).

It reads the data sources that the token's DATASOURCES:READ scopes name, and nothing else: no pipe, no quarantine, no
table of the engine's. Each carries a filter, of its ROW_POLICY or of the scope, or says `ROW_POLICY none REASON`.
The filter comes before everything else in the engine (`FILTER_FIRST`): no index, partition, PREWHERE, projection or
count of rows may meet a row that it hides, so that no condition of the tenant's can ask for it (attack E01).

What a tenant is told: which right its token lacks (403), by names that it sent; for everything else one text (400,
`Reader.open`). Nothing is remembered of a tenant's query: who asked the same before is nobody's business.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipit.access import grants
from pipit.access.context import SecurityContext
from pipit.access.filters import columns_of_filter
from pipit.catalog.snapshot import Snapshot, Table, TableTarget
from pipit.datafiles import key_items
from pipit.errors import Forbidden, ReadRefused, Reason, SqlError
from pipit.query.barriers import NO_BARRIERS, Barriers
from pipit.query.compose import Composed
from pipit.query.formats import Format, split_format
from pipit.query.limits import MAX_SQL_BYTES
from pipit.query.secure import check_scopes, filters_for
from pipit.sql.allowed import TENANT_FORMATS
from pipit.sql.references import find_tables, rename, single_statement
from pipit.sql.tenant import check_tenant_text, has_final


def require(snapshot: Snapshot, security: SecurityContext) -> None:
    """Raises Forbidden unless the workspace has tenant SQL and the token may read a data source at all."""
    if not snapshot.workspace.settings.tenant_sql:
        raise Forbidden(
            "A JWT cannot use /v0/sql: only workspace tokens may send SQL",
            hint="JWTs read endpoints. The workspace may turn on the setting tenant_sql.",
            reason=Reason.SQL_NOT_FOR_TENANTS,
        )
    if not any(scope.type == "DATASOURCES:READ" for scope in security.scopes):
        raise Forbidden(
            f"The token '{security.name}' has no DATASOURCES:READ",
            hint="SQL of a JWT reads the data sources that such scopes name.", reason=Reason.SCOPE_MISSING,
        )


def compose(
    snapshot: Snapshot, security: SecurityContext, text: str, default: Format, barriers: Barriers = NO_BARRIERS
) -> tuple[Composed, Format]:
    """The statement over physical tables. Raises Forbidden and NotFound on rights, SqlError on the text."""
    if len(text.encode()) > MAX_SQL_BYTES:
        raise SqlError(f"It is longer than {MAX_SQL_BYTES} bytes")
    sql, format = split_format(text, default)
    if format.name not in TENANT_FORMATS:
        raise SqlError(f"The format {format.name} is not for tenants")
    sql = single_statement(sql)
    check_tenant_text(sql)
    final = has_final(sql)
    tables: dict[str, Table] = {}
    replacements: dict[int, str | tuple[str, str]] = {}
    for reference in find_tables(sql):
        named = reference.database is None and _is_named(security, reference.name)
        if reference.kind == "in" and not named:
            continue  # a column or an alias; whatever else it names is no table that the tree may have
        if reference.database is not None:
            raise SqlError("It names a database")
        grants.read_named(security, reference.name, exists=reference.name in snapshot.tables)
        table = snapshot.tables[reference.name]
        _check_guarded(security, table)
        if final:
            _check_final(security, table)
        tables[f"{table.database}.{table.physical}"] = table
        replacements[reference.start] = barriers.replacement_of(TableTarget(table), reference.kind, sql)
    names = frozenset(table.name for table in tables.values())
    return Composed(rename(sql, replacements, home=snapshot.workspace.name), frozenset(tables), {}, names), format


def filters(snapshot: Snapshot, security: SecurityContext, composed: Composed) -> Mapping[str, str]:
    """As for endpoints, before the engine sees the text. Raises Forbidden, which names no other table."""
    try:
        check_scopes(snapshot, security)
        return filters_for(snapshot, security, composed.tables)
    except ReadRefused:
        raise Forbidden(
            "A tenant cannot read a data source of this query: it says nothing about tenants, and should",
            hint="Its owner adds a ROW_POLICY to it.", reason=Reason.TENANT_SQL_REFUSED,
        ) from None


def columns_of(snapshot: Snapshot, composed: Composed) -> Mapping[str, frozenset[str]]:
    """Physical table -> the columns that it declares, of the tables that the statement may read."""
    known = snapshot.physical_tables
    return {name: frozenset(c.name for c in known[name].table.datasource.columns) for name in composed.tables}


def _is_named(security: SecurityContext, name: str) -> bool:
    return bool(security.scopes_for("DATASOURCES:READ", name))


def _filters(security: SecurityContext, table: Table) -> list[str]:
    return [scope.filter for scope in security.scopes_for("DATASOURCES:READ", table.name) if scope.filter]


def _check_guarded(security: SecurityContext, table: Table) -> None:
    if table.datasource.row_policy is None and not _filters(security, table):
        raise Forbidden(
            f"'{table.name}' has no ROW_POLICY, and the token has no filter on it",
            hint="Tenant SQL reads only what a filter confines, or what says `ROW_POLICY none REASON '...'`.",
            reason=Reason.TENANT_SQL_REFUSED,
            subject=table.name,
        )


def _check_final(security: SecurityContext, table: Table) -> None:
    """FINAL makes one row of those with the same key; of two tenants only if no key column tells them apart (D27)."""
    known = frozenset(column.name for column in table.datasource.columns)
    used = table.policy.columns_for(security) if table.policy else frozenset()
    used = used.union(*(columns_of_filter(text, known) for text in _filters(security, table)))
    key = {item.strip("` ") for item in key_items(table.datasource.engine.sorting_key)}
    if used - key:
        raise SqlError("FINAL merges rows before the filter: a column of the filter is not in the sorting key")



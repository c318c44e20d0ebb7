"""`require_policies`: which tables a tenant can reach in a project that say nothing about tenants.

A table says something with `ROW_POLICY > ...` or with `ROW_POLICY none REASON '...'`. Reached is what any endpoint
reads, through pipes, nodes and templates (every table that a template may name), quarantines included; with tenant SQL
turned on, every data source. `query/secure.py` refuses such reads all the same: what was live before stays safe.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipit.catalog.lineage import tables_read
from pipit.catalog.snapshot import Snapshot
from pipit.errors import DatafileError, Reason


def unpoliced(snapshot: Snapshot) -> Iterator[DatafileError]:
    """One error for each table that a tenant can reach and that neither has a policy nor says why not."""
    via: dict[str, str] = {}
    if snapshot.workspace.settings.tenant_sql:
        via = dict.fromkeys(snapshot.tables, "tenant SQL")
    for pipe in snapshot.pipes.values():
        if pipe.endpoint is not None:
            for name in tables_read(snapshot, pipe, pipe.endpoint):
                via.setdefault(name, f"the endpoint '{pipe.name}'")
    for name in sorted(via.keys() & snapshot.tables.keys()):  # service tables are not the project's to police
        datasource = snapshot.tables[name].datasource
        if datasource.row_policy is None:
            yield DatafileError(
                f"'{name}' has no ROW_POLICY, the workspace requires them, and {via[name]} reaches it",
                file=datasource.file,
                line=1,
                column=1,
                hint="Add a ROW_POLICY, or `ROW_POLICY none REASON '...'` if every tenant may read all of its rows.",
                reason=Reason.POLICY_REQUIRED,
                subject=name,
            )

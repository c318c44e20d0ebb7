"""Policy checks of every deploy: no table without a policy where the workspace requires them, and no condition on a
fixed parameter that a request can take away.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipit.catalog.build import node_error
from pipit.catalog.lineage import nodes_read, tables_read
from pipit.catalog.snapshot import Snapshot
from pipit.errors import DatafileError, Reason


def unpoliced_tables(snapshot: Snapshot) -> Iterator[DatafileError]:
    """`require_policies`: one error for each table that a tenant can reach and that says nothing about tenants.

    A table says something with `ROW_POLICY > ...` or with `ROW_POLICY none REASON '...'`. A tenant can reach what any
    endpoint reads, through pipes, nodes and templates (every table that a template may name), quarantines included.
    With tenant SQL turned on, that is every data source. `query/secure.py` refuses such reads all the same: a project
    that was live before the setting stays safe.
    """
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


def removable_conditions(snapshot: Snapshot) -> list[DatafileError]:
    """One error for each parameter of FIXED_PARAMS whose condition a request can take away (B17, B18).

    Its every use is in a branch that asks whether it is defined, or it has an empty default. Only the templates are
    looked at, so every deploy can ask; `pipit audit` looks at every rendering on the engine's tree and finds more.
    """
    errors: list[DatafileError] = []
    for pipe in snapshot.pipes.values():
        if not pipe.pipe.fixed_params or pipe.readable is None:
            continue
        for owner, node in nodes_read(snapshot, pipe, pipe.readable):
            for parameter in node.template.parameters if node.template else ():
                if parameter.name not in pipe.pipe.fixed_params:
                    continue
                asks = re.compile(rf"\bdefined\(\s*{re.escape(parameter.name)}\s*\)")
                if parameter.default == "":
                    why = "has an empty default"
                elif any(asks.search(guard) for guard in parameter.guards):
                    why = "is used only where it is defined"
                else:
                    continue
                place = f" of '{pipe.name}'" if owner is not pipe else ""
                errors.append(
                    node_error(
                        owner.pipe,
                        node.node,
                        f"'{parameter.name}', one of the FIXED_PARAMS{place}, {why}: without it the condition is gone",
                        line=parameter.line or 1,
                        hint=f"Write the condition plainly: ... = {{{{String({parameter.name})}}}}.",
                    )
                )
    return errors

"""FIXED_PARAMS: a condition on a parameter that decides whose rows an endpoint reads must always be there (B17, B18).

Told from the templates alone, so that every deploy can be asked; `pipit audit` looks at every rendering on the engine's
tree and says more.
"""

from __future__ import annotations

import re

from pipit.catalog.build import node_error
from pipit.catalog.lineage import nodes_read
from pipit.catalog.snapshot import Snapshot
from pipit.errors import DatafileError


def switched_off(snapshot: Snapshot) -> list[DatafileError]:
    """The declared parameters whose every use stands in a branch that asks for them, or that have an empty default."""
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

"""The data sources that a pipe reads, from its rendered texts: as good as a request's, without one.

Values that a request would bring have stand-ins, and both sides of what depends on whether they are there are tried. A
branch that asks for a certain value may stay unseen: for help and plans, never for a decision about access.
"""

from __future__ import annotations

from pipit.catalog.snapshot import CompiledPipe, Snapshot
from pipit.errors import PipitError
from pipit.query.compose import Composer
from pipit.templates import Binder


def tables_reached(snapshot: Snapshot, pipe: CompiledPipe) -> set[str]:
    """Their names, whatever the request's parameters."""
    known = snapshot.physical_tables
    found: set[str] = set()
    for defined in (False, True):
        try:
            composed = Composer().pipe(snapshot, pipe, pipe.result, {}, Binder(placeholder=True, defined=defined))
        except PipitError:
            continue
        found |= {known[table].table.name for table in composed.tables if table in known}
    return found

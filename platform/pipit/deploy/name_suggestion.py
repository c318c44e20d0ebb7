"""What the author of a file probably meant by a name that does not exist: a hint for the reader, and no decision.

Only for who deploys: the names of a workspace's resources are not every reader's.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipit.catalog.snapshot import CompiledPipe, Snapshot
from pipit.engine.codes import Code
from pipit.errors import PipitError, SqlError, UnknownResource
from pipit.sql.allowed import function_names, read_reviewed
from pipit.suggest import did_you_mean


def name_suggestion(error: PipitError, snapshot: Snapshot, pipe: CompiledPipe | None = None) -> str:
    """`Did you mean X?`, for an unknown table, function or type; else ''."""
    known: Iterable[str] = ()
    if isinstance(error, UnknownResource):
        known = {*snapshot.tables, *snapshot.pipes, *(pipe.nodes if pipe else ())}
    elif isinstance(error, SqlError) and error.engine_code == Code.UNKNOWN_FUNCTION:
        known = function_names()
    elif isinstance(error, SqlError) and error.engine_code == Code.UNKNOWN_TYPE:
        known = read_reviewed("types")
    return did_you_mean(error.subject, known) if error.subject and known else ""

"""What the author of a file probably meant by a name that does not exist: a hint for the reader, and no decision.

Only for who deploys: the names of a workspace's resources are not every reader's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pipit.catalog.snapshot import CompiledPipe, Snapshot
from pipit.engine.codes import Code
from pipit.errors import PipitError, SqlError, UnknownResource
from pipit.sql.allowed import function_names, read_reviewed
from pipit.suggest import did_you_mean

_FUNCTION = re.compile(r"[Ff]unction(?: with name)? [`']?(\w+)|Unknown (?:aggregate )?function (\w+)")
_TYPE = re.compile(r"data type family: [`']?(\w+)")
_RESOURCE = re.compile(r"Resource '([^']+)' not found")


def name_suggestion(error: PipitError, snapshot: Snapshot, pipe: CompiledPipe | None = None) -> str:
    """`Did you mean X?`, for an unknown table, function or type; else ''."""
    if isinstance(error, UnknownResource):
        nodes = pipe.nodes if pipe else ()
        return _closest(_RESOURCE, error.message, {*snapshot.tables, *snapshot.pipes, *nodes})
    if isinstance(error, SqlError) and error.engine_code == Code.UNKNOWN_FUNCTION:
        return _closest(_FUNCTION, error.message, function_names())
    if isinstance(error, SqlError) and error.engine_code == Code.UNKNOWN_TYPE:
        return _closest(_TYPE, error.message, read_reviewed("types"))
    return ""


def _closest(where: re.Pattern[str], message: str, known: Iterable[str]) -> str:
    found = where.search(message)
    name = next(filter(None, found.groups()), "") if found else ""
    return did_you_mean(name, known) if name else ""

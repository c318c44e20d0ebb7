"""Warnings about what a pipe does differently here than where it comes from (docs/differences.md).

Only what would otherwise go unseen: a statement that runs, and answers something else.
"""

from __future__ import annotations

from pipit.catalog.build import node_error
from pipit.catalog.snapshot import Snapshot
from pipit.datafiles.resources import Warning as ProjectWarning
from pipit.datafiles.resources import WarningKind
from pipit.templates import patterns

_HINT = (
    "Tinybird escapes it. To look for the text itself: positionCaseInsensitive(column, {{{{String({0})}}}}) > 0. "
    "If wildcards are meant: sql_unescape(String({0}), '%')."
)


def like_warnings(snapshot: Snapshot) -> list[ProjectWarning]:
    """Text parameters used as patterns of LIKE, where a `%` in the value is a wildcard."""
    found: list[ProjectWarning] = []
    for pipe in snapshot.pipes.values():
        for node in pipe.nodes.values():
            places = patterns(node.node.sql) if node.template else ()
            for name in dict.fromkeys(pattern.parameter for pattern in places):
                first, *more = [pattern for pattern in places if pattern.parameter == name]
                what = f"of {len(more) + 1} LIKE patterns" if more else "of a LIKE pattern"
                message = f"'{name}' is part {what}: here a % in its value is a wildcard"
                place = node_error(pipe.pipe, node.node, message, line=first.line, column=first.column)
                found.append(
                    ProjectWarning(
                        place.file, message, place.line, place.column, _HINT.format(name), kind=WarningKind.LIKE_PATTERN
                    )
                )
    return found

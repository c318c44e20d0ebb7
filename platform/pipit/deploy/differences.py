"""Warnings about what a pipe does differently here than where it comes from (docs/differences.md).

Only what would otherwise go unseen: a statement that runs, and answers something else.
"""

from __future__ import annotations

from pipit.catalog.build import node_error
from pipit.catalog.snapshot import Snapshot
from pipit.datafiles.resources import Warning as ProjectWarning
from pipit.templates import patterns


def as_patterns(snapshot: Snapshot) -> list[ProjectWarning]:
    """Text parameters used as patterns of LIKE, where a `%` in the value is a wildcard."""
    found: list[ProjectWarning] = []
    for pipe in snapshot.pipes.values():
        for node in pipe.nodes.values():
            for pattern in patterns(node.node.sql) if node.template else ():
                message = f"'{pattern.parameter}' is part of a LIKE pattern: here a % in its value is a wildcard"
                place = node_error(pipe.pipe, node.node, message, line=pattern.line, column=pattern.column)
                hint = (
                    f"Tinybird escapes it. To look for the text itself: "
                    f"positionCaseInsensitive(column, {{{{String({pattern.parameter})}}}}) > 0. "
                    f"If wildcards are meant: sql_unescape(String({pattern.parameter}), '%')."
                )
                found.append(ProjectWarning(place.file, message, place.line, place.column, hint))
    return found

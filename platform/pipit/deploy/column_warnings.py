"""What a materialized or copy node writes against the columns of its target: said at `check`, with both places.

Nothing of it stops a deploy. A value that does not fit is refused when it comes (`ingest/convert.py`); here its author
learns of it before.
"""

from __future__ import annotations

import re

from pipit.catalog.build import node_error
from pipit.catalog.snapshot import CompiledNode, CompiledPipe, Table
from pipit.datafiles.resources import Warning as ProjectWarning
from pipit.datafiles.resources import WarningKind
from pipit.ingest.match import Match
from pipit.suggest import closest

_STATES = ("AggregateFunction(", "SimpleAggregateFunction(")


def column_warnings(pipe: CompiledPipe, node: CompiledNode, target: Table, found: Match) -> list[ProjectWarning]:
    def warn(kind: WarningKind, name: str, message: str, hint: str) -> ProjectWarning:
        line, column = _place(node.node.sql, name)
        place = node_error(pipe.pipe, node.node, message, line=line, column=column, hint=hint)
        return ProjectWarning(place.file, message, place.line, place.column, hint, kind)

    given: list[ProjectWarning] = []
    for one in found.narrowed:
        there = f"in '{target.name}' ({_where(target, one.name)}) it is {one.target}"
        message = f"'{one.name}' is {one.source}, and {there}: {', '.join(one.loses)}"
        hint = f"Convert it in the query, or let '{target.name}' have {one.source}."
        given.append(warn(WarningKind.COLUMN_NARROWED, one.name, message, hint))
    lacking = [name for name, type in found.missing if _needs_value(target, name, type)]
    for name in found.unknown:
        close = closest(name, lacking)
        if close:
            hint = f"Did you mean '{close}' of '{target.name}' ({_where(target, close)})?"
        else:
            hint = f"The columns of '{target.name}' are in {target.datasource.file}."
        message = f"The query gives '{name}', which '{target.name}' does not have; it is dropped"
        given.append(warn(WarningKind.COLUMN_UNKNOWN, name, message, hint))
    if lacking:
        listed = ", ".join(f"'{name}' ({_where(target, name)})" for name in lacking)
        gets = "its column" if len(lacking) == 1 else "the columns"
        message = f"The query gives no value for {gets} {listed} of '{target.name}': every row gets the type's zero"
        given.append(warn(WarningKind.COLUMN_WITHOUT_VALUE, "", message, "Select them, or give them a DEFAULT."))
    return given


def _needs_value(target: Table, name: str, type: str) -> bool:
    """A column that is empty by accident: its default is not written down, and zero looks like a value."""
    column = next((c for c in target.datasource.columns if c.name == name), None)
    if column is None or column.default is not None or column.nullable:
        return False
    return "Nullable(" not in type[:24] and not type.startswith(_STATES)


def _where(target: Table, name: str) -> str:
    column = next((c for c in target.datasource.columns if c.name == name), None)
    place = column.position if column else None
    file = (place.file if place else "") or target.datasource.file
    return f"{file}:{place.line}:{place.column}" if place and place.line else file


def _place(sql: str, name: str) -> tuple[int, int]:
    """Line and column of what gives the column, in the node's own text; else of its first line."""
    word = rf"([`\"]?{re.escape(name)}[`\"]?)(?!\w)"
    found = re.search(rf"(?i:\bas)\s+{word}", sql) or re.search(rf"(?<!\w){word}", sql) if name else None
    if found:
        start = found.start(1)
        return sql.count("\n", 0, start) + 1, start - sql.rfind("\n", 0, start)
    first = next((n for n, text in enumerate(sql.splitlines(), 1) if text.strip() not in ("", "%")), 1)
    return first, 1

"""A parameter that one pipe declares twice, with different types or defaults: listings show the first of them."""

from __future__ import annotations

from collections.abc import Iterator

from pipit import jsontext
from pipit.catalog.build import node_error
from pipit.catalog.snapshot import CompiledNode, CompiledPipe, Snapshot
from pipit.datafiles.resources import Warning as ProjectWarning
from pipit.datafiles.resources import WarningKind
from pipit.errors import DatafileError
from pipit.templates.parameters import Use


def parameter_conflicts(snapshot: Snapshot) -> list[ProjectWarning]:
    """One warning for each parameter and each of type and default, at the second place, which names the first."""
    found: list[ProjectWarning] = []
    for pipe in snapshot.pipes.values():
        types: dict[str, tuple[str, DatafileError]] = {}
        defaults: dict[str, tuple[str, DatafileError]] = {}
        warned: set[tuple[str, str]] = set()
        for node, use in _declarations(pipe):
            for what, known, said in (("type", types, use.type), ("default", defaults, _default(use))):
                place = node_error(pipe.pipe, node.node, "", line=use.line, column=use.column)
                first, where = known.setdefault(use.name, (said, place)) if said else ("", place)
                if said and first != said and (use.name, what) not in warned:
                    warned.add((use.name, what))
                    found.append(_warning(use.name, what, said, place, first, where))
    return found


def _declarations(pipe: CompiledPipe) -> Iterator[tuple[CompiledNode, Use]]:
    for node in pipe.nodes.values():
        for use in node.template.uses if node.template else ():
            if use.declares:
                yield node, use


def _default(use: Use) -> str:
    return "" if use.default is None else jsontext.text(use.default, default=str)


def _warning(name: str, what: str, said: str, place: DatafileError, first: str, where: DatafileError) -> ProjectWarning:
    message = (
        f"The parameter '{name}' has the {what} {said} here and {first} at {where.file}:{where.line}:{where.column}: "
        "listings and OpenAPI show the first"
    )
    return ProjectWarning(
        place.file, message, place.line, place.column, f"Give it one {what}.", kind=WarningKind.PARAMETER_CONFLICT
    )

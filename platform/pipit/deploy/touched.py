"""What of a project has to be tried again, where the rest stands as it was tried when it went live.

A pipe is tried where it, or anything that it may read, is new or changed or gone. A template may print names, so each
word of it counts as a name: rather once too often than missed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipit import __version__
from pipit.catalog.lineage import computes_names, references, tables_read
from pipit.catalog.snapshot import CompiledPipe, Snapshot
from pipit.datafiles.resources import versioned
from pipit.deploy.compare import Comparison
from pipit.engine.client import Engine


@dataclass(frozen=True, slots=True)
class Touched:
    """Names of pipes, and of the data sources that they need or that changed. `changed`: those of them that did."""

    pipes: frozenset[str]
    tables: frozenset[str]
    changed: frozenset[str]


async def stamp(engine: Engine) -> str:
    """What tried a deployment: another version of Pipit or of the engine may say something else."""
    (row,) = await engine.rows("SELECT version() AS version")
    return f"{__version__} {row['version']}"


def touched(project: Snapshot, comparison: Comparison) -> Touched:
    datasources, pipes = comparison.datasources, comparison.pipes
    tables = {*datasources.new, *datasources.changed, *datasources.deleted}
    found = {*pipes.new, *pipes.changed, *pipes.deleted}
    read = {name: _names(project, pipe) for name, pipe in project.pipes.items()}
    wanted = _with_stems([*tables, *found, *_filled(project, found)])
    while reached := {name for name, names in read.items() if name not in found and names & wanted}:
        found |= reached
        wanted |= _with_stems([*reached, *_filled(project, reached)])
    if tables:
        found |= {name for name, pipe in project.pipes.items() if _computes(project, pipe)}
    kept = found & project.pipes.keys()
    needed = {table for name in kept for table in _needed(project, project.pipes[name])}
    known = project.tables.keys()
    return Touched(frozenset(kept), frozenset((tables | needed) & known), frozenset(tables & known))


def _filled(project: Snapshot, pipes: Iterable[str]) -> set[str]:
    """The targets of their views: their tables may be made anew, and all that is filled from them."""
    known = [project.pipes[name] for name in pipes if name in project.pipes]
    return {node.node.datasource for pipe in known for node in pipe.nodes.values()} - {""}


def _names(project: Snapshot, pipe: CompiledPipe) -> set[str]:
    found = {reference.name for node in pipe.nodes.values() for reference in references(node)}
    found |= {f"{r.database}.{r.name}" for node in pipe.nodes.values() for r in references(node) if r.database}
    for node in pipe.nodes.values():
        found |= {node.node.datasource, node.node.target_datasource}
    return _with_stems(found) - {""}


def _with_stems(names: Iterable[str]) -> set[str]:
    """`events__v3` and `events` may mean one another, and a quarantine is its table's."""
    found = set(names)
    found |= {name.removesuffix("_quarantine") for name in found}
    return found | {written[0] for name in found if (written := versioned(name))}


def _computes(project: Snapshot, pipe: CompiledPipe) -> bool:
    return any(computes_names(project, pipe, node) for node in pipe.nodes.values())


def _needed(project: Snapshot, pipe: CompiledPipe) -> set[str]:
    found: set[str] = set()
    for node in pipe.nodes.values():
        found |= tables_read(project, pipe, node)
        found |= {node.node.datasource, node.node.target_datasource} - {""}
    return found


"""The views and copies through which rows come into tables with a policy, and what their columns are made of.

Read from the engine's own resolved tree of each (`sql/origins.py`), for every text that a copy may have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from math import prod

from cachetools import LRUCache

from pipit.catalog.lineage import computes_names, nodes_read, tables_read
from pipit.catalog.snapshot import CompiledNode, CompiledPipe, Snapshot, Table
from pipit.datafiles.resources import NodeType
from pipit.engine.client import Engine
from pipit.errors import PipitError, Unavailable
from pipit.jobs import schedule
from pipit.query.compose import Composed, Composer
from pipit.query.examine import Examiner
from pipit.sql.origins import Origins, origins_of
from pipit.templates import Binder, variants

_REMEMBERED = 2_000  # texts
_MOST_TEXTS = 32  # of one copy; of more of them nothing is said


@dataclass(frozen=True, slots=True)
class Filler:
    """A view or copy that writes rows into `target`. `origins`: one for each text that it may have; None: not known."""

    key: str
    file: str
    target: Table
    reads: frozenset[str]
    origins: tuple[Origins, ...] | None


class _Functions:
    """Those of the engine, asked when a text is looked at, and not before."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._deterministic: frozenset[str] | None = None

    async def deterministic(self) -> frozenset[str]:
        if self._deterministic is None:
            rows = await self._engine.rows("SELECT name FROM system.functions WHERE deterministic = 1")
            self._deterministic = frozenset(str(row["name"]) for row in rows)
        return self._deterministic


class OriginsMemory:
    """What the columns of a text are made of, for as long as its tables are what they were: the next deployment has
    most of them as the last one had them. For one event loop."""

    def __init__(self) -> None:
        self._known: LRUCache[tuple[object, ...], Origins | None] = LRUCache(_REMEMBERED)

    async def origins(
        self, snapshot: Snapshot, composed: Composed, binder: Binder, examiner: Examiner, functions: _Functions
    ) -> Origins | None:
        """Raises as `Examiner.resolved` does; that is not remembered."""
        key = _key(snapshot, composed, binder)
        if key in self._known:
            return self._known[key]
        tree = await examiner.resolved(snapshot, composed, binder)
        found = self._known[key] = origins_of(tree, await functions.deterministic())
        return found


def _key(snapshot: Snapshot, composed: Composed, binder: Binder) -> tuple[object, ...]:
    """Two texts of one key have one tree: the same words, values and settings over tables of the same columns."""
    known = snapshot.physical_tables
    tables = [(name, found.table) for name in sorted(composed.tables) if (found := known.get(name)) is not None]
    return (
        snapshot.workspace.database_id,
        composed.sql,
        tuple(sorted(composed.settings.items())),
        repr(sorted(binder.params.items())),
        tuple((name, table.datasource.text, table.hidden) for name, table in tables),
    )


async def fillers_of(engine: Engine, snapshot: Snapshot, memory: OriginsMemory | None = None) -> list[Filler]:
    """Those that lead to a table with a policy, directly or through others. Raises Unavailable."""
    wanted = _leading_to_policies(snapshot)
    if not wanted:
        return []
    composer, examiner, memory = Composer(), Examiner(engine), memory or OriginsMemory()
    functions = _Functions(engine)
    fillers: list[Filler] = []
    for pipe, node, target in wanted:
        found = await _origins(snapshot, pipe, node, composer, examiner, memory, functions)
        reads = tables_read(snapshot, pipe, node)
        fillers.append(Filler(f"{pipe.name}.{node.name}", pipe.pipe.file, target, reads, found))
    return fillers


def _leading_to_policies(snapshot: Snapshot) -> list[tuple[CompiledPipe, CompiledNode, Table]]:
    """The views and copies through which rows may come into a table with a policy."""
    waiting = [
        (pipe, node, snapshot.tables[target])
        for pipe in snapshot.pipes.values()
        for node in pipe.nodes.values()
        if (target := _target(node)) in snapshot.tables
    ]
    reached = {name for name, table in snapshot.tables.items() if table.policy is not None}
    found: list[tuple[CompiledPipe, CompiledNode, Table]] = []
    while True:
        now = [one for one in waiting if one[2].name in reached]
        if not now:
            return found
        found += now
        waiting = [one for one in waiting if one[2].name not in reached]
        for pipe, node, _ in now:
            reached |= tables_read(snapshot, pipe, node)


def _target(node: CompiledNode) -> str:
    if node.node.type is NodeType.MATERIALIZED:
        return node.node.datasource
    return node.node.target_datasource if node.node.type is NodeType.COPY else ""


async def _origins(
    snapshot: Snapshot,
    pipe: CompiledPipe,
    node: CompiledNode,
    composer: Composer,
    examiner: Examiner,
    memory: OriginsMemory,
    functions: _Functions,
) -> tuple[Origins, ...] | None:
    """Of the one text of a view; of each text that a copy may have, without and with its parameters."""
    binders: tuple[bool | None, ...] = (None,)
    texts: Sequence[Snapshot] | None = (snapshot,)
    values = {}
    if node.node.type is NodeType.COPY:
        texts = _texts(snapshot, pipe, node)
        binders = (False, True)
        values = {"job_timestamp": schedule.text_of(datetime.now(UTC))}
    if texts is None:
        return None
    found: dict[tuple[object, ...], Origins] = {}
    for text, defined in product(texts, binders):
        binder = Binder() if defined is None else Binder(placeholder=True, defined=defined)
        owner = text.pipes[pipe.name]
        try:
            composed = composer.pipe(text, owner, owner.nodes[node.name], values, binder)
            key = (composed.sql, tuple(sorted(composed.settings.items())))
            if key in found:
                continue
            origins = await memory.origins(text, composed, binder, examiner, functions)
        except Unavailable:
            raise
        except PipitError:
            return None
        if origins is None:
            return None
        found[key] = origins
    return tuple(found.values())


def _texts(snapshot: Snapshot, pipe: CompiledPipe, node: CompiledNode) -> list[Snapshot] | None:
    """The snapshot once for each choice of branches in the templates that the node reads, whatever their conditions:
    a run may be sent any values. None where the texts cannot all be told."""
    if computes_names(snapshot, pipe, node):
        return None
    read = [(owner, one, one.template) for owner, one in nodes_read(snapshot, pipe, node)]
    choices: list[list[tuple[str, CompiledNode]]] = []
    for owner, one, template in read:
        if template is None:
            continue
        found = variants(template, _MOST_TEXTS)
        if found is None:
            return None
        choices.append([(owner.name, replace(one, template=text)) for text in found])
        if prod(len(choice) for choice in choices) > _MOST_TEXTS:
            return None
    return [_with(snapshot, chosen) for chosen in product(*choices)]


def _with(snapshot: Snapshot, nodes: Sequence[tuple[str, CompiledNode]]) -> Snapshot:
    pipes = dict(snapshot.pipes)
    for name, node in nodes:
        pipes[name] = replace(pipes[name], nodes={**pipes[name].nodes, node.name: node})
    return replace(snapshot, pipes=pipes)

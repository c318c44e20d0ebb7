"""Fills the target of a materialized node from the rows of its source: what a deploy does for a new one, on demand.

Promises that each row is counted once: whatever feeds the source waits meanwhile (events stay in their segments), so a
row is there before the populate or goes through the view after it. Only rows that the target has already, from the view
itself, come twice, unless `truncate` asks for a target that starts anew; readers see its old rows until the new ones
are all there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from pipit.catalog.snapshot import Snapshot, Table
from pipit.datafiles.resources import NodeType
from pipit.deploy.views import View, match_of, trigger, views_of
from pipit.engine.client import Engine
from pipit.errors import BadRequest, NotFound
from pipit.ingest import Ingest
from pipit.jobs import Job, Work, copies
from pipit.query.compose import Composer
from pipit.query.secure import filter_setting
from pipit.sql.expressions import ExpressionError, check_condition
from pipit.sql.identifiers import quote

_RANDOM_RANGE = 2**32  # of the engine's rand()


@dataclass(frozen=True, slots=True)
class Populate:
    """`source` is the data source whose inserts fire the view; `condition` is over its columns, empty for all rows.

    `waiting` are the tables whose writers wait meanwhile, in the order of their names, as a deploy takes them: two that
    wait for each other's would wait for ever.
    """

    view: View
    source: Table
    waiting: tuple[Table, ...]
    condition: str
    truncate: bool


def view_of(snapshot: Snapshot, pipe: str, node: str) -> View:
    """The materialized node of a pipe. Raises NotFound, BadRequest."""
    found = snapshot.pipes.get(pipe)
    if found is None:
        raise NotFound(f"Pipe '{pipe[:200]}' not found")
    compiled = found.nodes.get(node) or next(
        (n for n in found.nodes.values() if snapshot.workspace.resource_id(f"node/{pipe}", n.name) == node), None
    )
    if compiled is None:
        raise NotFound(f"The pipe '{pipe}' has no node '{node[:200]}'")
    if compiled.node.type is not NodeType.MATERIALIZED:
        raise BadRequest(f"The node '{compiled.name}' is not materialized", hint="It has no data source to be filled.")
    return views_of(snapshot, Composer(), pipes=[found])[f"{pipe}.{compiled.name}"]


async def prepare(
    engine: Engine, snapshot: Snapshot, view: View, *, truncate: bool = False, subset: float = 1.0, condition: str = ""
) -> Populate:
    """Raises BadRequest where the condition is none, before anything is done."""
    source = snapshot.tables.get(trigger(snapshot, view))
    if source is None:
        raise BadRequest(f"The node '{view.node.name}' reads no data source, so there is nothing to fill it from")
    conditions: list[str] = []
    if condition:
        await _check(engine, source, condition)
        conditions.append(f"({condition})")
    if subset < 1:
        conditions.append(f"rand() < {int(subset * _RANDOM_RANGE)}")
    names = {source.name, *source.sources} - {view.target.name} | ({view.target.name} if truncate else set())
    waiting = tuple(snapshot.tables[name] for name in sorted(names) if name in snapshot.tables)
    return Populate(view, source, waiting, " AND ".join(conditions), truncate)


async def work(
    engine: Engine,
    ingest: Ingest,
    snapshot: Snapshot,
    view: View,
    *,
    truncate: bool = False,
    subset: float = 1.0,
    condition: str = "",
) -> Work:
    """What a job does. One that starts its target anew is all or nothing."""
    prepared = await prepare(engine, snapshot, view, truncate=truncate, subset=subset, condition=condition)
    reads_target = f"{view.target.database}.{view.target.physical}" in view.tables
    return Work(lambda: run(engine, ingest, prepared), repeatable=truncate and not reads_target)


def work_again(engine: Engine, ingest: Ingest) -> Callable[[Snapshot, Job], Awaitable[Work]]:
    """For `Jobs`: the work of a job that waited when the server stopped, from what it was asked with."""

    async def made(snapshot: Snapshot, job: Job) -> Work:
        asked = {name: str(value) for name, value in job.parameters.items()}
        view = view_of(snapshot, job.pipe, job.node)
        return await work(
            engine,
            ingest,
            snapshot,
            view,
            truncate=asked.get("truncate", "").lower() in ("true", "1"),
            subset=float(asked.get("populate_subset") or 1),
            condition=asked.get("populate_condition", "").strip(),
        )

    return made


async def run(engine: Engine, ingest: Ingest, populate: Populate) -> copies.Written:
    """To the end; cancelled, it may leave rows behind in the target, unless it was to start anew."""
    view, target = populate.view, populate.view.target
    columns = await match_of(engine, view)
    filters = {f"{populate.source.database}.{populate.source.physical}": populate.condition}
    settings = {"additional_table_filters": filter_setting(filters)} if populate.condition else {}
    async with AsyncExitStack() as stack:
        if populate.truncate:
            await stack.enter_async_context(copies.turn_of(target))
        for table in populate.waiting:
            await stack.enter_async_context(ingest.paused(table.database, table.physical))
        select = columns.select(view.sql, view.settings)
        if populate.truncate:
            return await copies.replace(engine, None, target, columns.columns, select, {}, settings=settings)
        return await copies.insert(engine, target, target.physical, columns.columns, select, {}, settings=settings)


async def _check(engine: Engine, source: Table, condition: str) -> None:
    try:
        check_condition(condition)
    except ExpressionError as error:
        raise BadRequest(
            f"populate_condition: {error.message}",
            hint=f"Write one condition over the columns of '{source.name}', such as date >= '2026-01-01'.",
        ) from None
    where = f"{quote(source.database)}.{quote(source.physical)}"
    await engine.query(f"SELECT 1 FROM {where} WHERE ({condition}) LIMIT 0", settings={"readonly": 1})

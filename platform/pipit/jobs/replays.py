"""Replays the quarantine of a data source: rows that read well by now go into the table, and leave the quarantine. Each
generation of the table has a quarantine of its own, and is replayed from that.

It goes by batches (`ingest/replay.py`). The batch that was under way when something cut a replay off is ended first by
the next one, whether it is the same job after a restart or another.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from pipit.catalog.snapshot import Snapshot, Table, Workspace
from pipit.engine.client import Engine
from pipit.errors import (
    BadRequest,
    Conflict,
    NotFound,
    PipitError,
    QueryTimeout,
    Reason,
    Unavailable,
    UnprocessableWrite,
)
from pipit.ingest.files.pieces import LoadTarget
from pipit.ingest.parse import is_filled_by_view
from pipit.ingest.replay import (
    BatchStore,
    Kind,
    Left,
    Quarantine,
    copy_out,
    form_of,
    quarantine_of,
    settled,
    store_batch,
)
from pipit.jobs.job import REPLAY, Job
from pipit.jobs.kept import Generation, KeptTables
from pipit.jobs.kinds import JobOutcome, Work
from pipit.jobs.loads import missing_in, patiently
from pipit.query.read import Written
from pipit.sql.literals import quote_string
from pipit.tables import Mode, rows


class ReplayJobs:
    """The job kind."""

    name = REPLAY
    noun = "replay"
    lane = "files"
    alone = False

    def __init__(self, engine: Engine, kept: KeptTables, root: Path) -> None:
        """`root`: a folder that the engine reads files of."""
        self._engine = engine
        self._kept = kept
        self._root = root

    async def prepare(self, snapshot: Snapshot, job: Job) -> Work:
        """Raises NotFound, and BadRequest for what no row is put into."""
        table = snapshot.tables.get(job.datasource)
        if table is None:
            raise NotFound(f"The data source '{job.datasource}' was deleted", reason=Reason.DATASOURCE_NOT_FOUND)
        if is_filled_by_view(table.datasource.columns):
            raise BadRequest(
                f"The data source '{table.name}' is filled by a materialized view, not by rows of its own",
                reason=Reason.NOT_APPENDABLE,
                subject=table.name,
            )

        async def run() -> Written:
            return await self._run(snapshot.workspace, table.name)

        return Work(run, repeatable=True)

    async def clear(self, job: Job) -> None:
        """The batch that was under way stays, for the next replay."""

    async def _run(self, workspace: Workspace, name: str) -> JobOutcome:
        failed: dict[int, PipitError] = {}
        outcomes: list[JobOutcome] = []
        async with self._kept.acquire(workspace, name, Mode.ALTER) as generations:
            # In this moment nothing is inserted: what is there is all there is.
            found = [await quarantine_of(self._engine, _into(one.table)) for one in generations]
            quarantines = {one.into.table: await settled(self._engine, one) for one in found}
        async with self._kept.acquire(workspace, name, Mode.APPEND) as generations:
            for one in generations:
                try:
                    outcomes.append(await self._replay(one, quarantines.get(one.table.physical)))
                except PipitError as error:
                    if one.is_live or isinstance(error, Unavailable | QueryTimeout):
                        raise
                    failed[one.deployment] = error
        live = outcomes[0]
        return JobOutcome(live.rows, live.bytes, {**live.result, **missing_in(failed)})

    async def _replay(self, one: Generation, quarantine: Quarantine | None) -> JobOutcome:
        if quarantine is None:
            raise Conflict(
                f"'{one.table.name}' got another table meanwhile", hint="Try again.", reason=Reason.TABLE_CHANGED
            )
        into = quarantine.into
        store = BatchStore(self._root, into)
        replayed = 0
        id = await self._identity(into)
        left = await asyncio.to_thread(store.left)
        if left is not None and left.table != id:
            await asyncio.to_thread(store.end)
            raise BadRequest(
                f"'{one.table.name}' was changed while a replay of its quarantine was cut off",
                hint="A part of the rows may be stored, and still be in the quarantine. Delete them there, "
                "and ask for the replay again.",
                reason=Reason.TABLE_CHANGED,
                subject=one.table.name,
            )
        if left is not None:
            replayed += await self._batch(quarantine, left, store)
        for found in await self._engine.rows(quarantine.kinds()):
            kind = Kind(bool(found["lines"]), tuple(found["given"]))
            replayed += await self._all(quarantine, kind, store, id)
        stay = await self._engine.rows(f"SELECT count() AS n FROM {quarantine.place}")
        return JobOutcome(replayed, 0, {"replayed_rows": replayed, "quarantine_rows": int(stay[0]["n"])})

    async def _all(self, quarantine: Quarantine, kind: Kind, store: BatchStore, table: str) -> int:
        replayed, after = 0, ""
        while True:
            left, after = await copy_out(self._engine, quarantine, kind, after, store, table)
            if left is None:
                return replayed
            replayed += await self._batch(quarantine, left, store)

    async def _batch(self, quarantine: Quarantine, left: Left, store: BatchStore) -> int:
        """Raises UnprocessableWrite where the rows are stored and a view failed on them."""
        into = quarantine.into
        done, hashes = await patiently(lambda: store_batch(self._engine, quarantine, left, store))
        if hashes:
            listed = ", ".join(map(quote_string, hashes))
            condition = f"{quarantine.hash} IN ({listed})"
            if quarantine.before:
                condition += f" AND toUnixTimestamp(insertion_date) <= {quarantine.before}"
            if await rows.mutation(self._engine, into.database, into.quarantine, left.piece) is None:
                await rows.delete(self._engine, into.database, into.quarantine, condition, left.piece)
            await rows.ended(self._engine, into.database, into.quarantine, left.piece)
        await asyncio.to_thread(store.end)
        if done.failure is not None:
            raise UnprocessableWrite(done.failure.message, hint=done.failure.hint, detail=done.failure.detail)
        return done.rows

    async def _identity(self, into: LoadTarget) -> str:
        found = await self._engine.rows(
            "SELECT toString(uuid) AS id FROM system.tables "
            "WHERE database = {database:String} AND name = {table:String}",
            {"database": into.database, "table": into.table},
        )
        return f"{found[0]['id']} {form_of(into.columns)}" if found else ""


def _into(table: Table) -> LoadTarget:
    return LoadTarget(table.database, table.physical, table.quarantine, table.name, table.datasource.columns)

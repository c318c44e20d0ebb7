"""A file's rows into a data source: appended, or in the place of all rows, or of those that a condition names; in every
generation of its table.

The file lies on the disk, whole, before its job begins (`ingest/files`). What a crash cuts off goes on at the next
start: each piece has a token of its own, and what is done is written down, so each row is there once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from msgspec.structs import replace as changed

from pipit.catalog.snapshot import Snapshot, Table, Workspace, staging_of
from pipit.datafiles.resources import NodeType
from pipit.engine.client import Engine
from pipit.errors import BadRequest, NotFound, PipitError, QueryTimeout, Reason, Unavailable, UnprocessableWrite
from pipit.ingest.defaults import checked_defaults, words_of
from pipit.ingest.files import pieces
from pipit.ingest.files.arrive import CSV, PARQUET, arrive
from pipit.ingest.files.cut import FilePiece
from pipit.ingest.files.pieces import LoadTarget, PieceSource
from pipit.ingest.files.remote import AllowedHosts, fetched
from pipit.ingest.files.shadow import Shadow
from pipit.ingest.files.store import Done, FileStore, Load, Tally, with_file
from pipit.ingest.parse import fixed_elsewhere, is_filled_by_view
from pipit.jobs import conditions
from pipit.jobs.job import IMPORT, MISSING_IN, Job
from pipit.jobs.kept import Generation, KeptTables, refused_by
from pipit.jobs.kinds import JobOutcome, Work
from pipit.query.read import Written
from pipit.sql.identifiers import quote
from pipit.tables import Mode, staging
from pipit.tables.quarantine import add_place_columns

log = logging.getLogger("pipit.jobs")

APPEND, REPLACE = "append", "replace"
SKIP = "skip_incompatible_partition_key"
_PIECES_AT_ONCE = 2  # of all loads: each takes a few hundred MB of the engine's memory
_PATIENCE_SECONDS = 600.0  # with an engine that is away, or short of something
_TIMEOUTS = 3
_WHOLE = "whole"  # in the place of a piece's name: all of them are done

T = TypeVar("T")
Needs = Callable[[Snapshot, Table], Awaitable[Collection[str]]]


@dataclass(frozen=True, slots=True)
class _Replacement:
    """`fed`: tables whose rows come from the replaced one through views, and are replaced along. `left`: the names of
    those that are not."""

    condition: str
    fed: tuple[Table, ...]
    left: tuple[str, ...]


_Stored = tuple[Tally, dict[str, object]]  # and what else the job shows


class LoadJobs:
    """The job kind. What is to be loaded lies in the store, under the job's id."""

    name = IMPORT
    noun = "load"
    lane = "files"
    alone = False

    def __init__(
        self, engine: Engine, kept: KeptTables, store: FileStore, allowed: AllowedHosts, most: int, needs: Needs
    ) -> None:
        """`allowed`: where files are fetched from, of at most so many bytes. `needs`: the columns that a tenant's token
        has to fix in a table."""
        self._needs = needs
        self._allowed = allowed
        self._most = most
        self._engine = engine
        self._kept = kept
        self._store = store
        self._places = asyncio.Semaphore(_PIECES_AT_ONCE)

    async def prepare(self, snapshot: Snapshot, job: Job) -> Work:
        """Raises NotFound."""
        table = snapshot.tables.get(job.datasource)
        if table is None:
            raise NotFound(f"The data source '{job.datasource}' was deleted", reason=Reason.DATASOURCE_NOT_FOUND)
        if is_filled_by_view(table.datasource.columns):
            raise BadRequest(
                f"The data source '{table.name}' is filled by a materialized view, not by files",
                hint="Load the file into the data source that the view reads.",
                reason=Reason.NOT_APPENDABLE,
                subject=table.name,
            )
        load = await asyncio.to_thread(self._store.get, job.id)
        if load is None:
            raise BadRequest("The file is not there any more", reason=Reason.BODY_INVALID)

        workspace = snapshot.workspace
        if job.mode == REPLACE:
            for one in self._kept.of(workspace, table.name):
                try:
                    await self._replacement(one, load, job)
                except PipitError as error:
                    raise error if one.is_live else refused_by(one, error) from None

        async def run() -> Written:
            here = await self._arrived(load, table)
            if job.mode == REPLACE:
                tally, more = await patiently(lambda: self._replace_each(workspace, here, table.name, job))
            else:
                tally, more = await patiently(lambda: self._append(workspace, here, table.name))
            return JobOutcome(tally.rows, here.bytes, {**shown(tally), **more})

        return Work(run, repeatable=True)

    async def clear(self, job: Job) -> None:
        await asyncio.to_thread(self._store.remove, job.id)

    async def _arrived(self, load: Load, table: Table) -> Load:
        """With its file here. One that is cut off while it is fetched is fetched anew."""
        if not load.url:
            return load
        folder = await asyncio.to_thread(self._store.empty, load.id)
        arrived = await arrive(
            fetched(load.url, self._allowed),
            folder,
            load.format,
            columns=[column.name for column in table.datasource.columns if column.type],
            parameters=load.parameters,
            limit=self._most,
        )
        here = with_file(load, arrived)
        await asyncio.to_thread(self._store.put, here)
        return here

    async def append(self, workspace: Workspace, load: Load, table: Table) -> Tally:
        """The rows of a file that lies in the store, once however often it is called.

        Raises Unavailable and QueryTimeout, after which it is called again; Conflict, BadRequest, SqlError and
        UnprocessableWrite.
        """
        tally, more = await self._append(workspace, load, table.name)
        if more:
            log.warning("'%s' lacks rows of %s: %s", table.name, load.file, more)
        return tally

    async def _append(self, workspace: Workspace, load: Load, name: str) -> _Stored:
        """Into every generation, each piece under its own token."""
        done = await asyncio.to_thread(self._store.done, load.id)
        whole = next((line for line in done if line.piece == _WHOLE), None)
        if whole is not None:
            return whole.tally, {}
        begun = {table for one in done if not one.piece for table in (one.table, *one.tables) if table}
        async with self._kept.acquire(workspace, name, Mode.APPEND) as generations:
            uuids: list[str] = []
            for one in generations:
                await self._engine.command(add_place_columns(one.table.database, one.table.quarantine))
                uuids.append(await self._uuid(_into(one.table, one.table.physical)))
            if begun and uuids[0] not in begun:
                raise BadRequest(
                    f"'{name}' was made anew while the load was cut off",
                    hint="A part of the file's rows may be there. See what it has before you send the file again.",
                    reason=Reason.TABLE_CHANGED,
                    subject=name,
                )
            if not begun:
                await asyncio.to_thread(self._store.note, load.id, Done(tables=tuple(uuids)))
            tallies: list[Tally] = []
            failed: dict[int, PipitError] = {}
            for one, uuid in zip(generations, uuids, strict=True):
                into = _into(one.table, one.table.physical)
                # What an earlier version wrote down was of the live table.
                mine = [d for d in done if d.table == uuid or (not d.table and d.piece and one.is_live)]
                try:
                    if begun and uuid not in begun:
                        raise BadRequest("Its table was made while the load was cut off", reason=Reason.TABLE_CHANGED)
                    here = load if one.is_live else await self._for_other(load, one, generations[0].table)
                    tallies.append(await self._store_pieces(here, into, mine, noted=uuid))
                except (Unavailable, QueryTimeout):
                    raise
                except PipitError as error:
                    failed[one.deployment] = error
            if generations[0].deployment in failed:  # the others have what can be stored
                raise failed[generations[0].deployment]
            await asyncio.to_thread(self._store.note, load.id, Done(_WHOLE, tallies[0]))
            return tallies[0], missing_in(failed)

    async def _for_other(self, load: Load, one: Generation, live: Table) -> Load:
        """With the names of cells that the live table gives them, and what the token fixes in the other table. Raises
        BadRequest where it does not fix whose the rows are."""
        if load.format == CSV and not load.names:
            names = [column.name for column in live.datasource.columns if column.type]
            load = changed(load, names=pieces.positional(names, load.fixed, load.width))
        if not load.fixed:
            return load
        needs: set[str] = set()
        for snapshot in one.snapshots:
            needs |= set(await self._needs(snapshot, one.table))
        own, refusal = fixed_elsewhere(one.table.datasource.columns, load.fixed, sorted(needs))
        if refusal:
            raise BadRequest(refusal, reason=Reason.FIXED_VALUES_MISSING)
        return changed(load, fixed=own)

    def _fed(self, snapshot: Snapshot, table: Table, used: Collection[str] = ()) -> tuple[list[Table], list[str]]:
        """The tables whose rows come from this one through views, and are replaced along; and the names of those that
        are not. `used`: the columns that a condition reads."""
        nodes = [node.node for pipe in snapshot.pipes.values() for node in pipe.nodes.values()]
        targets = {node.datasource for node in nodes if node.type is NodeType.MATERIALIZED}
        behind = [t for t in snapshot.tables.values() if table.name in t.sources and t.name in targets]
        fed: list[Table] = []
        left: list[str] = []
        for other in behind:
            alone = other.sources <= {table.name, *(o.name for o in behind)}
            keys = f"{other.datasource.engine.partition_key} {other.datasource.engine.sorting_key}"
            if alone and set(used) <= words_of(keys):
                fed.append(other)
            else:
                left.append(other.name)
        return fed, left

    async def _replacement(self, one: Generation, load: Load, job: Job) -> _Replacement:
        """Of one generation, with what views of all deployments that have it fill from it. Raises BadRequest and
        SqlError where the condition is none, or where a view's target cannot go along."""
        table = one.table
        condition = ""
        if load.condition:
            condition = await conditions.checked(self._engine, table, load.condition, "replace_condition")
        columns = {column.name for column in table.datasource.columns}
        used = words_of(condition) & columns if condition else frozenset()
        fed: dict[str, Table] = {}
        left: set[str] = set()
        for snapshot in one.snapshots:
            more, without = self._fed(snapshot, table, used)
            fed |= {other.physical: other for other in more}
            left |= set(without)
        if left and condition and not _is_true(job.parameters.get(SKIP, "")):
            raise BadRequest(
                f"The rows of {', '.join(repr(name) for name in sorted(left))} come from '{table.name}' and cannot be "
                "replaced along with it",
                hint="A condition goes on into what views fill only where its columns are in that table's sorting or "
                f"partition key, and all its rows come from '{table.name}'. {SKIP}=true leaves it as it is.",
                reason=Reason.NOT_APPENDABLE,
                subject=table.name,
            )
        return _Replacement(condition, tuple(fed.values()), tuple(sorted(left)))

    async def _replace_each(self, workspace: Workspace, load: Load, name: str, job: Job) -> _Stored:
        """In every generation, the live one first."""

        def along(snapshot: Snapshot, table: Table) -> Iterable[Table]:
            return self._fed(snapshot, table)[0]

        found: list[_Stored] = []
        failed: dict[int, PipitError] = {}
        async with self._kept.acquire(workspace, name, Mode.REPLACE, along=along) as generations:
            asked = [await self._replacement(one, load, job) for one in generations]
            for one, replacement in zip(generations, asked, strict=True):
                try:
                    here = load if one.is_live else await self._for_other(load, one, generations[0].table)
                    found.append(await self._replace(here, one.table, replacement))
                except (Unavailable, QueryTimeout):
                    raise
                except PipitError as error:
                    if one.is_live:
                        raise
                    failed[one.deployment] = error
        tally, more = found[0]
        return tally, {**more, **missing_in(failed)}

    async def _replace(self, load: Load, table: Table, asked: _Replacement) -> _Stored:
        """The file's rows in the place of all, or of those of the condition, in one step for readers."""
        live = _into(table, table.physical)
        more: dict[str, object] = {"not_replaced": list(asked.left)} if asked.left else {}
        shadow = Shadow(self._engine, table.database)
        replaced = (table, *asked.fed)
        await self._engine.command(add_place_columns(table.database, table.quarantine))
        for one in await asyncio.to_thread(self._store.done, load.id):
            if one.table == await self._uuid(live):
                return one.tally, more  # it was cut off after the tables had changed places

        async def write(staging: str) -> Tally:
            beside = _into(table, staging)
            await shadow.drop()
            await shadow.cast(table.physical, {t.physical for t in asked.fed})
            tally = await self._store_pieces(load, beside, [])
            await shadow.end_views()
            done = Done(tally=tally, table=await self._uuid(beside))
            await asyncio.to_thread(self._store.note, load.id, done)
            return tally

        @contextlib.asynccontextmanager
        async def altering() -> AsyncIterator[None]:
            async with self._kept.held([other.key for other in replaced]):
                if asked.condition:
                    for kept in (table, *(t for t in asked.fed if t.physical in shadow.targets)):
                        await self._keep_others(kept, asked.condition)
                # The targets first: cut off behind them, the whole is done again, since the table is the old one.
                if await staging.alike(self._engine, table, staging_of(table.physical)):
                    await shadow.exchange()
                yield

        try:
            return await staging.replace(self._engine, table, write, altering), more
        finally:
            await shadow.drop()

    async def _keep_others(self, table: Table, condition: str) -> None:
        """The rows that are not replaced, into the table beside."""
        place = f"{quote(table.database)}.{quote(staging_of(table.physical))}"
        # All columns of the table, also those that are hidden.
        await self._engine.command(
            f"INSERT INTO {place} SELECT * FROM {quote(table.database)}.{quote(table.physical)} "
            f"WHERE NOT ifNull(toBool({condition}), false)",
            settings={"max_partitions_per_insert_block": 0, "materialized_views_ignore_errors": 0},
        )

    async def _store_pieces(self, load: Load, into: LoadTarget, done: Iterable[Done], *, noted: str = "") -> Tally:
        """All pieces that are not done. `noted`: the table of which what is done is written down."""
        ended = {one.piece: one.tally for one in done if one.piece}
        failed: list[UnprocessableWrite] = []

        async def one(name: str, work: Callable[[], Awaitable[Tally]]) -> None:
            async with self._places:
                try:
                    ended[name] = await patiently(work)
                except UnprocessableWrite as error:
                    failed.append(error)
                    return
            if noted:
                await asyncio.to_thread(self._store.note, load.id, Done(name, ended[name], noted))

        folder = self._store.folder(load.id)
        todo: list[tuple[str, Callable[[], Awaitable[Tally]]]] = []
        for source in await self._sources(load, into):
            todo.append((source.piece.name, self._piece(load, source, into)))
        todo.append(("aside", lambda: pieces.store_set_aside(self._engine, load, folder, into)))
        try:
            async with asyncio.TaskGroup() as group:
                for name, work in todo:
                    if name not in ended:
                        group.create_task(one(name, work))
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        if failed:
            raise failed[0]
        return sum(ended.values(), Tally())

    def _piece(self, load: Load, source: PieceSource, into: LoadTarget) -> Callable[[], Awaitable[Tally]]:
        return lambda: pieces.store(self._engine, load, source, into)

    async def _sources(self, load: Load, into: LoadTarget) -> list[PieceSource]:
        defaults = await checked_defaults(self._engine, into.database, into.table)
        types: dict[str, str] = {}
        if load.format == PARQUET and not self._engine.embedded:
            raise BadRequest("Files of Parquet need the built-in engine", reason=Reason.FORMAT_UNSUPPORTED)
        if load.format == PARQUET and load.pieces:
            cut, types = await pieces.parquet_pieces(self._engine, self._store.folder(load.id) / load.pieces[0].name)
            load = _with_pieces(load, cut)
        return pieces.sources(load, self._store.folder(load.id), into, defaults, types)

    async def _uuid(self, into: LoadTarget) -> str:
        rows = await self._engine.rows(
            "SELECT toString(uuid) AS id FROM system.tables "
            "WHERE database = {database:String} AND name = {table:String}",
            {"database": into.database, "table": into.table},
        )
        return str(rows[0]["id"]) if rows else ""


def _is_true(text: object) -> bool:
    return str(text).lower() in ("true", "1")


def shown(tally: Tally) -> dict[str, object]:
    """What the API says of a load."""
    return {
        "successful_rows": tally.rows,
        "quarantine_rows": tally.bad,
        "invalid_lines": tally.invalid,
        **({"left_out_rows": tally.left_out} if tally.left_out else {}),
    }


def missing_in(failed: Mapping[int, PipitError]) -> dict[str, object]:
    """What a job shows of deployments that are kept and do not have what it wrote."""
    return {MISSING_IN: {str(number): error.message for number, error in failed.items()}} if failed else {}


def _into(table: Table, physical: str) -> LoadTarget:
    return LoadTarget(table.database, physical, table.quarantine, table.name, table.datasource.columns)


def _with_pieces(load: Load, cut: tuple[FilePiece, ...]) -> Load:
    return changed(load, pieces=cut)


async def patiently(work: Callable[[], Awaitable[T]]) -> T:
    """For work that may be done again: what of it is stored already is known by its tokens."""
    until, pause, timeouts = time.monotonic() + _PATIENCE_SECONDS, 0.2, 0
    while True:
        try:
            return await work()
        except QueryTimeout:
            timeouts += 1
            if timeouts >= _TIMEOUTS:
                raise
        except Unavailable:
            if time.monotonic() > until:
                raise
        await asyncio.sleep(pause)
        pause = min(pause * 2, 5.0)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one that says most: an error of Pipit's before any other."""
    found = list(errors.exceptions)
    return next((e for e in found if isinstance(e, PipitError)), found[0])

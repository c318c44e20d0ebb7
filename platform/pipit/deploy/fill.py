"""New generations of tables, as the engine makes them: created, filled beside, and then given their rows.

Rows are made in a table beside the new one, from an image of the old ones, and are linked into it when all of them are
there. So views of the new table see none of them (they were filled from them as well), events that come meanwhile go
through these views as ever, and a fill that is cut off leaves nothing in any table that somebody reads. An image holds
the parts of one moment, as links, and is never merged.

Each chunk (`chunks.py`) is written into a table of its own, which gets its name once all of it is there; in the end
they are linked together. So what is done stands in the engine as tables: a chunk that was cut off is begun again, in an
empty table, and one that is done is never done twice. What is to be done is a `Filling`, in the deployment's row. Until
`attach` it can be gone on with after a crash of any process. `undo`, and what drops, can be repeated.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

from pipit.catalog.snapshot import Table
from pipit.deploy.apply import drop
from pipit.deploy.chunks import Chunk, Part, Size, can_be_cut, cut
from pipit.deploy.generations import CHUNK, MAKING, frozen_of, side_of
from pipit.deploy.plan import How, Plan, Rebuild
from pipit.deploy.progress import Filled, Progress
from pipit.engine.client import Engine, Settings
from pipit.errors import DatafileError, PipitError, ProjectError, Reason, SqlError, Unavailable
from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string
from pipit.tables.ddl import create_table
from pipit.tables.ddl_check import checked
from pipit.tables.quarantine import create_quarantine

log = logging.getLogger("pipit.deploy")

Result = TypeVar("Result")
Pause = Callable[[float], Awaitable[None]]

# Of a chunk at most: short where readers come first, else as long as keeps all processors at work.
SHORT, LONG = Size(500_000, 256 * 2**20), Size(4_000_000, 2 * 2**30)
# A fill may go into any number of partitions. Its rows are all new: none is another's repetition.
_FILL: Settings = {"max_partitions_per_insert_block": 0, "insert_deduplicate": 0}
_ONE_THREAD: Settings = {"max_threads": 1, "max_insert_threads": 1}
# No part is merged: the chunks of a table are ranges of its parts.
_STILL = (
    "max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1, "
    "max_number_of_merges_with_ttl_in_pool = 0"
)
_FINAL = re.compile(r"\bFINAL\b", re.IGNORECASE)
_GROUPING = ("AggregatingMergeTree", "SummingMergeTree")
_TRIES = 5  # of one statement on which the engine goes away
_LOOK_SECONDS = 0.1


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """`select` gives `columns`. `source`: the table whose rows it turns into them; "": it is made in one piece."""

    columns: tuple[str, ...]
    select: str
    source: str = ""


class Filling(msgspec.Struct, frozen=True, kw_only=True):
    """Of one table. `link`: the image whose parts are linked, where the engine takes them as they are."""

    name: str
    file: str
    physical: str
    rows: int
    statements: tuple[Statement, ...] = ()
    link: str = ""
    groups: bool = False
    quarantine: bool = False


class Fillings(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done for a deployment, in this order. `old`: the tables into which no statement inserts meanwhile.
    `images`: what is dropped afterwards. `waits`: it is not to go live by itself. `chunk`: rows, and bytes, at most."""

    tables: tuple[Filling, ...] = ()
    old: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    waits: bool = False
    unthrottled: bool = False
    chunk: tuple[int, int] = (SHORT.rows, SHORT.bytes)

    def text(self) -> str:
        return msgspec.json.encode(self).decode()


def fillings_from(text: str) -> Fillings:
    return msgspec.json.decode(text, type=Fillings)


def _name(database: str, table: str) -> str:
    return f"{quote(database)}.{quote(table)}"


def holds_rows(table: Table) -> bool:
    return table.datasource.engine.name != "Null"


# ---- before, and while the writers wait


async def create(engine: Engine, rebuild: Rebuild) -> None:
    """The new table and its quarantine. Nothing of them is there, or what a deploy left."""
    table = rebuild.table
    await undo(engine, rebuild)
    await engine.command(await checked(engine, create_table(table.datasource, table.database, table.physical)))
    await engine.command(create_quarantine(table.datasource, table.database, table.quarantine))
    if not holds_rows(table):  # what is filled from it finds nothing there
        await _like(engine, table.database, side_of(table.physical), table.physical, has_parts=False)


def images_of(plan: Plan) -> dict[str, Table]:
    """The images that the fills read, by physical name, each with the table whose database it is in."""
    found = {image.table.physical: image.table for image in plan.frozen}
    for rebuild in plan.rebuilds:
        old = rebuild.old
        if old is not None:
            found[old.quarantine] = old
            if rebuild.how is How.COPY and holds_rows(rebuild.table):
                found[old.physical] = old
    return found


async def make_images(engine: Engine, plan: Plan) -> None:
    """Empty ones."""
    for physical, table in images_of(plan).items():
        has_parts = holds_rows(table) or physical == table.quarantine
        await _like(engine, table.database, frozen_of(physical), physical, has_parts=has_parts)


async def freeze(engine: Engine, plan: Plan) -> None:
    """The old rows into their images, of one moment: nothing is inserted into any of these tables now."""
    for physical, table in images_of(plan).items():
        if holds_rows(table) or physical == table.quarantine:
            await _attach(engine, table.database, physical, frozen_of(physical))


async def _like(engine: Engine, database: str, made: str, table: str, *, has_parts: bool = True) -> None:
    """An empty table as that one, whose parts stay as they are."""
    await drop(engine, database, made)
    await engine.command(f"CREATE TABLE {_name(database, made)} AS {_name(database, table)}")
    if has_parts:
        await engine.command(f"ALTER TABLE {_name(database, made)} MODIFY SETTING {_STILL}")


async def fillings_of(engine: Engine, plan: Plan, *, waits: bool, unthrottled: bool) -> Fillings:
    """What is to be done for a plan whose tables and images have been created."""
    found: list[Filling] = []
    made: list[str] = []
    for rebuild in plan.rebuilds:
        table, old = rebuild.table, rebuild.old
        made.append(side_of(table.physical))
        if holds_rows(table):
            found.append(_filling_of(rebuild))
        if old is not None:
            made.append(side_of(table.quarantine))
            found.append(await _of_quarantine(engine, old, table))
    most = LONG if unthrottled else SHORT
    return Fillings(
        tables=tuple(found),
        old=tuple(rebuild.old.physical for rebuild in plan.rebuilds if rebuild.old is not None),
        images=(*map(frozen_of, images_of(plan)), *made),
        waits=waits,
        unthrottled=unthrottled,
        chunk=(most.rows, most.bytes),
    )


def _filling_of(rebuild: Rebuild) -> Filling:
    table, old = rebuild.table, rebuild.old
    source = table.datasource
    statements = tuple(
        Statement(columns=one.match.columns, select=one.match.select(one.sql, one.settings), source=one.source)
        for one in rebuild.selects
    )
    link = ""
    if rebuild.how is How.COPY and old is not None and holds_rows(old):
        link = frozen_of(old.physical)
        columns = tuple(column.name for column in source.columns)
        statements = (_all_of(table.database, link, columns),)
    return Filling(
        name=table.name,
        file=source.file,
        physical=table.physical,
        rows=rebuild.size.rows,
        statements=statements,
        link=link,
        groups=rebuild.how is How.VIEWS and source.engine.name in _GROUPING,
    )


async def _of_quarantine(engine: Engine, old: Table, new: Table) -> Filling:
    """The rows that were refused before stay to be seen: what the new quarantine has no column for is in no row."""
    rows = await engine.rows(
        "SELECT name FROM system.columns WHERE database = {d:String} AND table = {new:String} AND name IN "
        "(SELECT name FROM system.columns WHERE database = {d:String} AND table = {old:String}) ORDER BY position",
        {"d": new.database, "new": new.quarantine, "old": old.quarantine},
    )
    statement = _all_of(new.database, frozen_of(old.quarantine), tuple(str(row["name"]) for row in rows))
    return Filling(
        name=new.name,
        file=new.datasource.file,
        physical=new.quarantine,
        rows=0,
        statements=(statement,),
        quarantine=True,
    )


def _all_of(database: str, source: str, columns: tuple[str, ...]) -> Statement:
    select = f"SELECT {', '.join(map(quote, columns))} FROM {_name(database, source)}"
    return Statement(columns=columns, select=select, source=source)


# ---- filling


class Filler:
    """Makes the rows of one deployment's tables beside them. Whatever of it is done already stays done."""

    def __init__(
        self, engine: Engine, database: str, fillings: Fillings, progress: Progress, pause: Pause
    ) -> None:
        """`pause` is awaited after each chunk, with the seconds that it took."""
        self._engine = engine
        self._database = database
        self._fillings = fillings
        self._progress = progress
        self._pause = pause
        self._settings: Settings = {**_FILL, **_ONE_THREAD}
        if fillings.unthrottled:
            cores = os.cpu_count() or 1
            self._settings = {**_FILL, "max_threads": cores, "max_insert_threads": cores}

    async def run(self) -> None:
        """Raises ProjectError where a value does not fit after all."""
        there = await self._tables()
        shown = [one for one in self._fillings.tables if not one.quarantine]
        for one in shown:
            done = one.rows if side_of(one.physical) in there else 0
            self._progress.tables[one.name] = Filled(done, one.rows)
            self._progress.before += done
        for one in self._fillings.tables:
            if side_of(one.physical) not in there:
                await self._fill(one)

    async def _fill(self, filling: Filling) -> None:
        beside = side_of(filling.physical)
        if filling.link and await self._links(filling):
            self._progress.tables[filling.name] = Filled(filling.rows, filling.rows)
            return
        there = await self._tables()
        chunks = [(one, chunk) for one in filling.statements for chunk in await self._cut(filling, one)]
        progress = Filled(0, sum(chunk.rows for _, chunk in chunks))
        if not filling.quarantine:
            self._progress.tables[filling.name] = progress
        names = [f"{CHUNK}{n}_{chunk.key}_{filling.physical}" for n, (_, chunk) in enumerate(chunks)]
        if len(names) == 1:
            names = [beside]
        for name, (statement, chunk) in zip(names, chunks, strict=True):
            if name in there:
                self._progress.before += chunk.rows
            else:
                started = time.monotonic()
                await self.again(lambda s=statement, c=chunk, n=name: self._make(filling, s, c, n))  # type: ignore[misc]
                if not self._fillings.unthrottled:
                    await self._pause(time.monotonic() - started)
            progress.done += chunk.rows
        for statement in filling.statements:
            await self._check_still(filling, statement, [chunk for one, chunk in chunks if one is statement])
        await self.again(lambda: self._together(filling, names))
        for name in names:
            if name != beside:
                await self.again(lambda name=name: drop(self._engine, self._database, name))  # type: ignore[misc]

    async def _links(self, filling: Filling) -> bool:
        try:
            await self.again(lambda: self._together(filling, [filling.link]))
        except Unavailable:
            raise
        except SqlError as error:  # another order of columns, for one
            log.info("the rows of '%s' are copied, as they cannot be linked: %s", filling.name, error.message)
            return False
        return True

    async def _make(self, filling: Filling, statement: Statement, chunk: Chunk, name: str) -> None:
        """A chunk's own table. It has this name once it is whole."""
        engine, database = self._engine, self._database
        if name in await self._tables():  # the answer to the last step was lost
            return
        making = MAKING + filling.physical
        await _like(engine, database, making, filling.physical)
        settings = dict(self._settings)
        if chunk.where:
            source = f"{database}.{statement.source}"
            settings["additional_table_filters"] = f"{{{quote_string(source)}: {quote_string(chunk.where)}}}"
        columns = ", ".join(map(quote, statement.columns))
        insert = f"INSERT INTO {_name(database, making)} ({columns}) {statement.select}"
        try:
            await engine.command(insert, settings=settings)
        except Unavailable:
            raise
        except PipitError as error:
            raise _failed(filling, error) from None
        await engine.command(f"RENAME TABLE {_name(database, making)} TO {_name(database, name)}")

    async def _together(self, filling: Filling, names: Sequence[str]) -> None:
        """All rows of these tables in the one beside the new one. It has its name once it is whole."""
        engine, database, beside = self._engine, self._database, side_of(filling.physical)
        if beside in await self._tables():
            return
        making = MAKING + filling.physical
        await _like(engine, database, making, filling.physical)
        for name in names:
            await _attach(engine, database, name, making)
        await engine.command(f"RENAME TABLE {_name(database, making)} TO {_name(database, beside)}")

    async def _cut(self, filling: Filling, statement: Statement) -> list[Chunk]:
        whole = [Chunk(filling.rows)]
        source = statement.source
        # A table that is read a second time, say in a subquery, is to be read whole there. FINAL reads all parts.
        if not source or statement.select.count(quote(source)) != 1 or _FINAL.search(statement.select):
            return whole
        explain = f"EXPLAIN PLAN json = 1 {statement.select}"
        plan = await self.again(lambda: self._engine.query(explain, format="TSVRaw"))
        if not can_be_cut(plan.decode("utf-8", "replace"), groups=filling.groups):
            return whole
        return cut(await self._parts(source), Size(*self._fillings.chunk))

    async def _parts(self, table: str) -> list[Part]:
        rows = await self.again(
            lambda: self._engine.rows(
                "SELECT name, rows, data_uncompressed_bytes AS bytes FROM system.parts "
                "WHERE database = {d:String} AND table = {t:String} AND active AND rows > 0",
                {"d": self._database, "t": table},
            )
        )
        return [Part(str(row["name"]), int(row["rows"]), int(row["bytes"])) for row in rows]

    async def _check_still(self, filling: Filling, statement: Statement, chunks: Sequence[Chunk]) -> None:
        """That the parts are those which were cut: else rows may be missing, or there twice."""
        if any(chunk.where for chunk in chunks):
            now = cut(await self._parts(statement.source), Size(*self._fillings.chunk))
            if now != list(chunks):
                raise _failed(filling, SqlError("the parts of its image changed while it was filled"))

    async def _tables(self) -> set[str]:
        rows = await self.again(
            lambda: self._engine.rows(
                "SELECT name FROM system.tables WHERE database = {d:String}", {"d": self._database}
            )
        )
        return {str(row["name"]) for row in rows}

    async def again(self, step: Callable[[], Awaitable[Result]]) -> Result:
        """A step that can be repeated, for as long as it takes the engine to come back, unless it goes away on it again
        and again."""
        for _ in range(_TRIES - 1):
            try:
                return await step()
            except Unavailable as error:
                log.warning("the engine went away while a table was filled; it goes on after: %s", error.message)
            await asyncio.sleep(_LOOK_SECONDS)
            while not self._engine.available:
                await asyncio.sleep(_LOOK_SECONDS)
        return await step()


def _failed(filling: Filling, error: PipitError) -> ProjectError:
    """The engine's own words may quote a row; only who deploys reads them."""
    found = DatafileError(
        f"The rows of '{filling.name}' cannot be made anew: {error.message}",
        file=filling.file,
        hint="Nothing was changed. Say in a FORWARD_QUERY what becomes of the rows that are there.",
        reason=Reason.VALUES_DO_NOT_FIT,
        subject=filling.name,
    )
    return ProjectError([found])


async def attach(engine: Engine, database: str, fillings: Fillings) -> None:
    """All rows into the new tables. What is cut off here cannot be gone on with: nobody knows which are there."""
    for filling in fillings.tables:
        await _attach(engine, database, side_of(filling.physical), filling.physical)


async def _attach(engine: Engine, database: str, source: str, target: str) -> None:
    await engine.command(f"ALTER TABLE {_name(database, target)} ATTACH PARTITION ALL FROM {_name(database, source)}")


async def tidy(engine: Engine, database: str, images: Iterable[str]) -> None:
    """What was only needed for the fill."""
    for image in images:
        await drop(engine, database, image)


async def drop_begun(engine: Engine, database: str, physical: str) -> None:
    """What there is of the chunks of a table."""
    rows = await engine.rows(
        "SELECT name FROM system.tables WHERE database = {d:String} AND (name = {making:String} OR "
        "startsWith(name, {chunk:String}) AND endsWith(name, {table:String}))",
        {"d": database, "making": MAKING + physical, "chunk": CHUNK, "table": f"_{physical}"},
    )
    for row in rows:
        await drop(engine, database, str(row["name"]))


async def undo(engine: Engine, rebuild: Rebuild) -> None:
    table = rebuild.table
    for name in (table.physical, table.quarantine):
        await drop_begun(engine, table.database, name)
        await drop(engine, table.database, side_of(name))
        await drop(engine, table.database, name)

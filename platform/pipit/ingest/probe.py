"""A segment's rows in memory, and what takes them, copied without its data: the table, and each of its views with all
that is behind.

The rows are parsed once, into a table in memory, each with its number in the segment: they are stored from there, and
asked about. Whether a row is refused is asked of the copies, so nothing is stored while it is looked for, and no
message of the engine's decides: a question is one small insert from memory into a copy. Where parsing throws on a row,
the lines are kept in memory instead, and each question parses those that it asks about. What is made stays a while for
the next segment (`watch`), the rows do not. What a kill left is dropped at the next start, or before the writer of the
table does anything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipit.engine.client import Engine
from pipit.engine.codes import Code
from pipit.errors import PipitError, SqlError
from pipit.ingest.limits import KEPT_STAGES, MAX_INSERT_ROWS, MAX_PARTITIONS_OF_VIEWS
from pipit.ingest.parse import NUMBER, Reader
from pipit.ingest.segment import Frame, Segment
from pipit.ingest.watch import Copies, Kept, Taker
from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string
from pipit.sql.references import find_tables, rename
from pipit.tables import TableKey

# No row is to blame: disk, memory, files, the engine's own state, and what stands in the statement and not in the rows.
NOT_THE_ROWS = frozenset(
    {
        Code.CANNOT_READ_FROM_FILE_DESCRIPTOR,
        Code.CANNOT_WRITE_TO_FILE_DESCRIPTOR,
        Code.CANNOT_OPEN_FILE,
        Code.MEMORY_LIMIT_EXCEEDED,
        Code.NOT_ENOUGH_SPACE,
        Code.TOO_MANY_PARTS,
        Code.STD_EXCEPTION,
    }
)
_UUID = re.compile(r" \([0-9a-f]{8}-[0-9a-f-]{27}\)")
_COPY_SETTINGS = {
    "fsync_after_insert": 0,
    "fsync_part_directory": 0,
    "non_replicated_deduplication_window": 0,
    "parts_to_delay_insert": 1_000_000,
    "parts_to_throw_insert": 1_000_000,
}
_PLAIN_KEY = re.compile(r"[\w`, ]*")  # names of columns
_PREFIX = "probe"  # of no form that a project could name
_numbers = itertools.count(1)  # no name comes again: what is left of a search is in nobody's way
_SAMPLE_PARTS, _SAMPLE_ROWS = 8, 4  # rows of the table that show whether a view takes any


class Empty(Exception):
    """The copy holds no row: either none reads well, or the engine was started again since, and has lost it."""


@dataclass(slots=True)
class Probe:
    engine: Engine
    segment: Segment
    reader: Reader
    settings: Mapping[str, str | int]  # of the segment's inserts
    kept: Kept
    between: Callable[[], Awaitable[None]] | None = None  # before each question: others need not wait for the answers
    staged: bool = False
    parsing: float = 0.0  # seconds that it took
    as_lines: bool = False  # the copy holds lines, not rows: reading these throws on one of them, as in a default
    _stage: str = ""
    _ready: str = ""  # rows for `feed`
    _copies: Copies = field(default_factory=Copies)  # those that go with it
    _known: Mapping[str, Mapping[str, Any]] | None = None

    @property
    def _database(self) -> str:
        return self.segment.header.database

    @property
    def _landing(self) -> str:
        return self.segment.header.table

    def _place(self, name: str) -> str:
        return f"{quote(self._database)}.{quote(name)}"

    def _name(self, of: str, copies: Copies | None = None, *, view: bool = False) -> str:
        name = f"{_PREFIX}{next(_numbers)}_{self._landing}"
        (self._copies if copies is None else copies).add(name, of, view=view)
        return name

    async def stage(self) -> None:
        """Parses the segment: the rows that read well, with their numbers. From a file without frames: the engine may
        number lines before it leaves out those that are no rows.
        """
        if self.staged:
            return
        path = self.segment.scratch("probe")
        began = time.monotonic()
        try:
            if await asyncio.to_thread(self._write_rows, path) != self.segment.rows:
                raise SqlError("A segment does not hold the rows that were written to it")
            reader = replace(self.reader, frame="")
            try:
                await self._parse(path, reader.numbered_rows(), reader.names)
            except SqlError as error:
                if error.engine_code in NOT_THE_ROWS:
                    raise
                await self._parse(path, reader.numbered_lines(), reader.line)
                self.as_lines = True
        finally:
            path.unlink(missing_ok=True)
        self.staged, self.parsing = True, time.monotonic() - began

    def _write_rows(self, path: Path) -> int:
        """The segment without its frames; how many rows that are."""
        pieces, rows = self.segment.pieces()
        with path.open("wb") as file:
            file.writelines(pieces)
        return rows

    async def _parse(self, path: Path, select: str, names: str) -> None:
        form = self._form_of(names)
        free = self.kept.take_stage(form)
        self._stage = free or self._name("rows")
        self._copies.stages[self._stage] = form
        stage = self._place(self._stage)
        if free:
            self._copies.add(free, "rows")
        elif known := self.kept.columns.get(form):  # to look at the SELECT costs as much as to parse some rows
            await self.engine.command(f"CREATE TABLE {stage} ({known}) ENGINE = Memory")
        else:
            made = select.replace("{source}", f"null({quote_string(self.reader.structure)})")
            await self.engine.command(f"CREATE TABLE {stage} ENGINE = Memory EMPTY AS {made}")
            await self._learn_columns(form)
        await self.engine.insert_file(
            f"{stage} ({names}, {NUMBER})",
            select,
            path,
            format=self.reader.format,
            structure=self.reader.structure,
            settings={
                **self._settings,
                "max_threads": 1,  # rows keep their order, and so their numbers
                # In one piece: the engine's token of an insert holds the number of the first piece with a row in it.
                "max_block_size": MAX_INSERT_ROWS,
                "input_format_parallel_parsing": 0,
                "insert_null_as_default": 0,  # a value that is NULL here is one for the table
            },
        )

    def _form_of(self, names: str) -> str:
        """The same whatever a token fixes columns to, and whichever topic it is: the types are the same."""
        reader = self.reader
        columns = [(f.column, f.path is None) for f in reader.fields]
        defaults = [(d.column, d.type) for d in reader.defaults]
        return repr((columns, sorted(reader.others.items()), defaults, reader.format, names))

    async def _learn_columns(self, form: str) -> None:
        columns = await self.engine.rows(
            "SELECT name, type FROM system.columns WHERE database = {database:String} AND table = {table:String} "
            "ORDER BY position",
            {"database": self._database, "table": self._stage},
        )
        while len(self.kept.columns) >= KEPT_STAGES:
            self.kept.columns.pop(next(iter(self.kept.columns)))
        self.kept.columns[form] = ", ".join(f"{quote(c['name'])} {c['type']}" for c in columns)

    @property
    def _settings(self) -> Mapping[str, str | int]:
        return {**self.settings, "max_partitions_per_insert_block": 0}

    async def views(self) -> AsyncIterator[Taker]:
        """Each of the table's views, while it is asked; not one that cannot even be copied."""
        known = await self._tables()
        for view in self._views(self._landing, known):
            taker = await self._taker((view,), known)
            if taker is not None:
                yield taker

    async def look(self) -> None:
        """Learns what the table feeds, before it is needed."""
        await self._tables()

    async def all_views(self) -> Taker | None:
        """All of them at once, those that can be copied; None where there is none."""
        known = await self._tables()
        views = tuple(self._views(self._landing, known))
        return await self._taker(views, known) if views else None

    async def _taker(self, views: tuple[str, ...], known: Mapping[str, Mapping[str, Any]]) -> Taker | None:
        """Stays with the table while nothing of what it is a copy of changes."""
        if views in self.kept.takers:
            return self.kept.takers[views]
        copies = Copies()
        try:
            front = await self._without_rows(self._landing, copies)
            attached = 0
            for view in views:
                try:
                    await self._attach(view, self._landing, front, known, copies)
                    attached += 1
                except SqlError as error:
                    if error.engine_code in NOT_THE_ROWS:
                        raise
        finally:
            self.kept.copies.take(copies)
        only = views[0] if len(views) == 1 else ""
        self.kept.takers[views] = Taker(front, shown(only), only) if attached else None
        return self.kept.takers[views]

    async def itself(self) -> Taker:
        return Taker(await self._clone(self._landing))

    async def is_broken(self, taker: Taker) -> bool:
        """Whether it refuses even an insert without rows."""
        return await self._refuses(taker.table, "WHERE 0") is not None

    async def refuses(self, taker: Taker, start: int, stop: int, without: str = "") -> SqlError | None:
        """Why it does not take the rows from `start` to before `stop` (those that read well, and not `without`)."""
        return await self._refuses(taker.table, _between(start, stop) + without)

    async def insert(self, into: str, without: str, settings: Mapping[str, str | int]) -> None:
        """The rows that read well, but for those `without`. Raises Empty."""
        there = f" AND (SELECT throwIf(count() = 0) FROM {self._place(self._stage)}) = 0"
        rows = self._rows(_between(0, self.segment.rows) + without + there)
        try:
            await self.engine.command(f"INSERT INTO {into} ({self.reader.names}) {rows}", settings=settings)
        except SqlError as error:
            if error.engine_code == Code.FUNCTION_THROW_IF_VALUE_IS_NON_ZERO and not await self.count(
                0, self.segment.rows
            ):
                raise Empty from None
            raise

    def _rows(self, where: str) -> str:
        stage = self._place(self._stage)
        if not self.as_lines:
            return f"SELECT {self.reader.names} FROM {stage} {where}"
        read = replace(self.reader, frame="", lines="{source}").good_rows(strict=False)
        return read.replace("{source}", f"(SELECT {self.reader.line} FROM {stage} {where})")

    @property
    def prepared(self) -> bool:
        return bool(self._ready)

    async def prepare(self, view: str, without: str, *, again: bool = False) -> bool:
        """Whether the view can be fed directly, and its answer to the rows hangs on nothing else; these are then ready.
        Its target must take or refuse a block as a whole, and feed no other view.
        """
        if not again and not self._is_simple(view, await self._tables()):
            return False
        with contextlib.suppress(SqlError):
            ready = self._name(self._landing)
            await self.engine.command(
                f"CREATE TABLE {self._place(ready)} AS {self._place(self._landing)} ENGINE = Memory"
            )
            await self.insert(self._place(ready), without, self._settings)
            self._ready = ready
        return bool(self._ready)

    def _is_simple(self, view: str, known: Mapping[str, Mapping[str, Any]]) -> bool:
        target = target_of(known[view]["created"]) if view in known else None
        if target is None or target not in known or known[target]["views"] or not _is_plain(known[target]):
            return False
        return all(self._is(r.database, r.name, self._landing) for r in find_tables(known[view]["as_select"]))

    async def feed(self, view: str, token: str) -> SqlError | None:
        """Puts what the view makes of the prepared rows into its target, under a token of its own."""
        known = await self._tables()
        if view not in known:
            return None  # it was deleted since
        target = target_of(known[view]["created"])
        assert target is not None
        columns = await self.engine.rows(
            "SELECT name FROM system.columns WHERE database = {database:String} AND table = {view:String} AND name IN "
            "(SELECT name FROM system.columns WHERE database = {database:String} AND table = {target:String} "
            "AND default_kind NOT IN ('MATERIALIZED', 'ALIAS')) ORDER BY position",
            {"database": self._database, "view": view, "target": target},
        )
        names = ", ".join(quote(column["name"]) for column in columns)
        select = known[view]["as_select"]
        read = {r.start: self._place(self._ready) for r in find_tables(select)}
        try:
            await self.engine.command(
                f"INSERT INTO {self._place(target)} ({names}) SELECT {names} FROM ({rename(select, read)})",
                settings={
                    **self.settings,
                    "max_partitions_per_insert_block": MAX_PARTITIONS_OF_VIEWS,
                    "insert_deduplication_token": token,
                },
            )
        except SqlError as error:
            return error
        return None

    async def good(self, without: str = "") -> list[int]:
        """How many rows of each request read well, but for those `without`."""
        starts = ", ".join(map(str, self.segment.starts))
        counted = await self.engine.rows(
            f"SELECT roundDown({NUMBER}, [{starts}]) AS start, count() AS n FROM {self._place(self._stage)} "
            f"{_between(0, self.segment.rows)}{without} GROUP BY start"
        )
        of = {int(row["start"]): int(row["n"]) for row in counted}
        return [of.get(start, 0) if frame.rows else 0 for start, frame in self._started()]

    def _started(self) -> Iterator[tuple[int, Frame]]:
        return zip(self.segment.starts, self.segment.frames, strict=True)

    async def count(self, start: int, stop: int, without: str = "") -> int:
        """How many rows a question asks for."""
        counted = await self.engine.rows(
            f"SELECT count() AS n FROM {self._place(self._stage)} {_between(start, stop)}{without}"
        )
        return int(counted[0]["n"])

    async def works(self, taker: Taker) -> bool:
        """Whether the view takes rows that the table has now: then one that it refuses is a bad row, not a bad view."""
        parts = await self.engine.rows(
            "SELECT name FROM system.parts WHERE active AND rows > 0 AND database = {database:String} AND "
            "table = {table:String} ORDER BY rows DESC, name LIMIT {most:UInt8}",
            {"database": self._database, "table": self._landing, "most": _SAMPLE_PARTS},
        )
        for part in parts:
            of_part = f"WHERE _part = {quote_string(part['name'])} LIMIT {_SAMPLE_ROWS}"
            if await self._refuses(taker.table, of_part, source=self._place(self._landing)) is None:
                return True
        return False

    async def _refuses(self, table: str, where: str, source: str = "") -> SqlError | None:
        if self.between is not None:
            await self.between()
        names = self.reader.names
        try:
            await self.engine.command(
                f"INSERT INTO {self._place(table)} ({names}) "
                + (f"SELECT {names} FROM {source} {where}" if source else self._rows(where)),
                settings=self._settings,
            )
        except SqlError as error:
            if error.engine_code in NOT_THE_ROWS or (
                error.engine_code == Code.UNKNOWN_TABLE and not await self._is_whole()
            ):
                raise
            return error.retold(self._as_written(error.message))
        return None

    async def _is_whole(self) -> bool:
        """Whether none of the copies is gone: then it is not the view that lacks a table."""
        names = sorted({*self.kept.copies.names, *self._copies.names})
        found = await self.engine.rows(
            "SELECT count() AS n FROM system.tables WHERE database = {database:String} "
            "AND name IN {names:Array(String)}",
            {"database": self._database, "names": names},
        )
        self.kept.lost = self.kept.lost or int(found[0]["n"]) < len(names)
        return int(found[0]["n"]) == len(names)

    async def close(self) -> None:
        """What it made is dropped, or stays with the table for the next search."""
        # One whose rows did not all come may still get some of them: it is not used again.
        if self._stage and self.staged and self.kept.takes_stage(self._copies.stages[self._stage]):
            try:
                await self.engine.command(f"TRUNCATE TABLE {self._place(self._stage)}")
            except PipitError:
                pass
            else:
                self.kept.keep_stage(self._copies, self._stage)
        await self.kept.drop(self.engine, self._database, self._copies)
        self.kept.searches -= 1
        if not (self.kept.stay or self.kept.searches):
            await self.kept.clear(self.engine, self._database)

    def _as_written(self, message: str) -> str:
        names = {**self.kept.copies.names, **self._copies.names}
        for name in sorted(names, key=len, reverse=True):
            message = message.replace(name, names[name])
        return _UUID.sub("", message)

    async def _tables(self) -> Mapping[str, Mapping[str, Any]]:
        """As they are when it is asked first. Copies of what was otherwise before are not asked. Where they are as they
        were when the copies were made, only the table and what it feeds.
        """
        if self._known is None:
            if self.kept.reach:
                known = await self._asked_of("AND name IN {names:Array(String)}", names=self.kept.reach)
                if "\n".join(self._form(known).values()) == self.kept.form:
                    self._known = known
                    return known
            known = await self._asked_of("")
            form = self._form(known)
            self._known = known
            await self.kept.follow(self.engine, self._database, "\n".join(form.values()), form)
        return self._known

    async def _asked_of(self, which: str, **params: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        rows = await self.engine.rows(
            "SELECT name, as_select, create_table_query AS created, dependencies_table AS views, partition_key AS "
            f"partition, sorting_key AS sorting FROM system.tables WHERE database = {{database:String}} {which}",
            {"database": self._database, **params},
        )
        return {row["name"]: row for row in rows}

    def _form(self, known: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Of the table and all that it feeds, however far: what made each and which views it has, by name."""
        found: dict[str, str] = {}
        todo = [self._landing]
        while todo:
            name = todo.pop()
            if name in found or name not in known:
                continue
            found[name] = f"{known[name]['created']} -> {known[name]['views']}"
            todo += self._views(name, known)
            target = target_of(known[name]["created"])
            todo += [target] if target else []
        return {name: found[name] for name in sorted(found)}

    async def _clone(self, name: str, copies: Copies | None = None) -> str:
        copy = self._name(name, copies)
        await self.engine.command(f"CREATE TABLE {self._place(copy)} AS {self._place(name)}")
        with contextlib.suppress(SqlError):  # not a MergeTree
            settings = ", ".join(f"{k} = {v}" for k, v in _COPY_SETTINGS.items())
            await self.engine.command(f"ALTER TABLE {self._place(copy)} MODIFY SETTING {settings}")
        return copy

    async def _without_rows(self, name: str, copies: Copies) -> str:
        """A copy that takes what the table takes and keeps nothing: for what a view reads."""
        copy = self._name(name, copies)
        await self.engine.command(f"CREATE TABLE {self._place(copy)} AS {self._place(name)} ENGINE = Null")
        return copy

    async def _attach(
        self, view: str, source: str, front: str, known: Mapping[str, Mapping[str, Any]], copies: Copies
    ) -> None:
        """A copy of the view, from the copy of its source into one of its target, with the views behind that."""
        target = target_of(known[view]["created"])
        if target is None:
            raise SqlError(f"The view {view} has no target")
        # Where a key is an expression it may throw, and is asked; a part costs more than the rest of the question.
        plain = _has_plain_keys(known.get(target, {}))
        into = await (self._without_rows(target, copies) if plain else self._clone(target, copies))
        for behind in self._views(target, known):
            await self._attach(behind, target, into, known, copies)
        select = known[view]["as_select"]
        # The engine puts the inserted rows into every place that names the source.
        read = {r.start: self._place(front) for r in find_tables(select) if self._is(r.database, r.name, source)}
        await self.engine.command(
            f"CREATE MATERIALIZED VIEW {self._place(self._name(view, copies, view=True))} TO {self._place(into)} "
            f"AS {rename(select, read)}"
        )

    def _views(self, source: str, known: Mapping[str, Mapping[str, Any]]) -> list[str]:
        return [view for view in known.get(source, {}).get("views", ()) if view in known]

    def _is(self, database: str | None, name: str, source: str) -> bool:
        return name == source and database in (None, self._database)


async def drop(engine: Engine, tables: Collection[TableKey]) -> None:
    """All copies that were made for searches of these tables."""
    rows = await engine.rows(
        "SELECT database, name, replaceRegexpOne(name, {form:String}, '') AS table FROM system.tables "
        "WHERE has({databases:Array(String)}, database) AND match(name, {form:String}) "
        "ORDER BY engine = 'MaterializedView' DESC",
        {"databases": sorted({database for database, _ in tables}), "form": f"^{_PREFIX}[0-9]+_"},
    )
    left = [f"{quote(r['database'])}.{quote(r['name'])}" for r in rows if (r["database"], r["table"]) in tables]
    if left:
        await engine.command(f"DROP TABLE IF EXISTS {', '.join(left)} SYNC")


def _has_plain_keys(table: Mapping[str, Any]) -> bool:
    return all(_PLAIN_KEY.fullmatch(table.get(key, "(")) for key in ("partition", "sorting"))


def _is_plain(table: Mapping[str, Any]) -> bool:
    """Nothing of it is computed while its parts are written, one after the other."""
    return _has_plain_keys(table) and not re.search(r"\b(TTL|INDEX|PROJECTION)\b", table["created"])


def _between(start: int, stop: int) -> str:
    return f"WHERE {NUMBER} >= {start} AND {NUMBER} < {stop}"


@contextlib.asynccontextmanager
async def opened(
    engine: Engine,
    segment: Segment,
    reader: Reader,
    settings: Mapping[str, str | int],
    kept: Kept,
    between: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[Probe]:
    probe = Probe(engine, segment, reader, settings, kept, between)
    kept.searches += 1
    try:
        yield probe
    finally:
        closed = asyncio.create_task(probe.close())
        try:
            await asyncio.shield(closed)
        except asyncio.CancelledError:
            await closed
            raise


# Its names are plain (catalog): the engine prints them without quotes, or with.
_TARGET = re.compile(r" TO (?:`?\w+`?\.)?`?(\w+)`? ")


def target_of(created: str) -> str | None:
    """The table that a materialized view writes to, from the statement that made it."""
    found = _TARGET.search(created)
    return found[1] if found else None


def shown(view: str) -> str:
    """The name of a view as people know it: `m1_pipe__node` is `pipe.node`, if that can be told."""
    stem = re.sub(r"^m[0-9]+_", "", view)
    return stem.replace("__", ".") if stem.count("__") == 1 else stem

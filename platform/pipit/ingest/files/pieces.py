"""One piece of a file into its tables, once however often it is tried: one insert of one block, under its own token.

As with segments of events (`ingest/load.py`): the first attempt reads the piece once and raises on a bad row before
anything is written; when it fails, what the engine counts decides and not what it says. Bad rows go to the quarantine
with their place in the file, the rest into the table and its views. Where that fails too, the rows that the table or a
view refuses are looked for (`isolate.py`), written down, and go to the quarantine with the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pipit.datafiles.resources import Column
from pipit.engine.client import Engine
from pipit.engine.codes import Code
from pipit.errors import NotFound, QueryTimeout, Reason, SqlError, Unavailable, UnprocessableWrite
from pipit.ingest import disk, isolate, limits, parse
from pipit.ingest.files import readers
from pipit.ingest.files.arrive import CSV, NDJSON
from pipit.ingest.files.cut import ASIDE, PIECE_BYTES, PIECE_ROWS, FilePiece
from pipit.ingest.files.probe import FileProbe
from pipit.ingest.files.readers import FileReader
from pipit.ingest.files.store import Load, Tally
from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string

VIEW_FAILED = "The rows were stored, but a materialized view failed on them"
_LATER = frozenset({Code.CANNOT_READ_FROM_FILE_DESCRIPTOR, Code.CANNOT_WRITE_TO_FILE_DESCRIPTOR, Code.CANNOT_OPEN_FILE})
INSERT_SETTINGS: Mapping[str, str | int] = {
    **limits.insert_settings(),
    "max_partitions_per_insert_block": limits.MAX_PARTITIONS_OF_VIEWS,
    # The token of an insert holds the number of the first block that is read: blocks keep their order.
    "parallelize_output_from_storages": 0,
    "optimize_count_from_files": 0,
}
_ONE_AFTER_THE_OTHER: Mapping[str, str | int] = {"max_threads": 1}
_IN_ORDER: Mapping[str, str | int] = {"input_format_parquet_preserve_order": 1}


@dataclass(frozen=True, slots=True)
class LoadTarget:
    """Where rows go. `table` may stand beside the data source's own, which `name` is for people."""

    database: str
    table: str
    quarantine: str
    name: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class PieceSource:
    """A piece as the engine reads it. `part`: of a file of Parquet, which rows (first, number)."""

    path: Path
    piece: FilePiece
    format: str
    structure: str
    reader: FileReader
    settings: Mapping[str, str | int]
    part: tuple[int, int] | None = None
    has_lists: bool = False

    def select(self, sql: str) -> str:
        if self.part is None:
            return sql
        first, number = self.part
        return sql.replace("{source}", f"(SELECT * FROM {{source}} LIMIT {number} OFFSET {first})")


def sources(
    load: Load, folder: Path, into: LoadTarget, defaults: Sequence[Any], types: Mapping[str, str]
) -> list[PieceSource]:
    """The pieces in order. `types`: of the columns of a file of Parquet.

    Raises BadRequest where the table cannot be filled from such a file.
    """
    if load.format == NDJSON:
        reader = readers.line_reader(into.columns, load.fixed, defaults, load.condition)
        return [PieceSource(folder / p.name, p, parse.FORMAT, parse.STRUCTURE, reader, {}) for p in load.pieces]
    if load.format == CSV:
        return [_csv(load, folder, into, defaults, piece) for piece in load.pieces]
    parquet, structure = readers.parquet_reader(into.columns, load.fixed, defaults, load.condition, types=types)
    return [
        PieceSource(folder / "000000", p, "Parquet", structure, parquet, _IN_ORDER, (p.first - 1, p.rows))
        for p in load.pieces
    ]


def _csv(load: Load, folder: Path, into: LoadTarget, defaults: Sequence[Any], piece: FilePiece) -> PieceSource:
    names = load.names or positional([c.name for c in into.columns if c.type], load.fixed, load.width)
    reader = readers.csv_reader(
        into.columns,
        load.fixed,
        defaults,
        load.condition,
        names=names,
        delimiter=load.delimiter,
        multiline=piece.multiline,
    )
    settings: Mapping[str, str | int] = {
        "format_csv_delimiter": load.delimiter,
        "format_csv_null_representation": f"\x1e{load.id}",  # of no cell: NULL is a cell that is not there
        "input_format_csv_allow_variable_number_of_columns": 1,
        "input_format_csv_empty_as_default": 0,
        "input_format_csv_detect_header": 0,
        "input_format_csv_allow_whitespace_or_tab_as_delimiter": int(load.delimiter == "\t"),
    }
    return PieceSource(folder / piece.name, piece, "CSV", readers.csv_structure(len(names)), reader, settings)


def positional(columns: Sequence[str], fixed: Mapping[str, Any], width: int) -> tuple[str, ...]:
    """The columns that cells are for, where the file does not say it. Those that the token fixes may be left out."""
    open_ones = [name for name in columns if name not in fixed]
    return tuple(open_ones if width == len(open_ones) else columns)


async def parquet_pieces(engine: Engine, path: Path) -> tuple[tuple[FilePiece, ...], dict[str, str]]:
    """Ranges of rows, and the types of the columns. Raises SqlError for what is not Parquet."""
    found = await engine.select_file(
        "SELECT num_rows AS rows, total_uncompressed_size AS size FROM {source}",
        path,
        format="ParquetMetadata",
        structure="num_rows UInt64, total_uncompressed_size UInt64",
    )
    described = await engine.rows(f"DESCRIBE file({quote_string(str(path))}, 'Parquet')") if engine.embedded else []
    rows, size = int(found[0]["rows"]), int(found[0]["size"])
    each = max(1, min(PIECE_ROWS, PIECE_BYTES * 2 * max(rows, 1) // max(size, 1)))
    pieces = tuple(
        FilePiece(
            f"{n:06d}", n * each + 1, size * min(each, rows - n * each) // max(rows, 1), min(each, rows - n * each)
        )
        for n in range(-(-rows // each))
    )
    return pieces, {str(row["name"]): " ".join(str(row["type"]).split()) for row in described}


async def store(engine: Engine, load: Load, source: PieceSource, into: LoadTarget) -> Tally:
    """After any error, try it again. Raises Unavailable, QueryTimeout, NotFound, SqlError and UnprocessableWrite."""
    settings = {**INSERT_SETTINGS, **source.settings}
    if any("JSON" in column.type for column in into.columns) and await asyncio.to_thread(_holds_lists, source):
        settings |= limits.JSON_LIST_SETTINGS
    work = PieceWork(engine, load, source, into, settings)
    known = await asyncio.to_thread(work.known_refused)
    if not source.piece.rows:
        return Tally()
    if not known and await work.insert(strict=True) is None and not source.reader.kept:
        return Tally(rows=source.piece.rows)
    found = await work.tally()
    if found.bad:
        await work.quarantine(source.reader.quarantined(load.id, load.file, source.piece), "bad")
    if found.rows:
        known = await work.insert_good(known)
    if known:
        reader = source.reader
        await work.quarantine(reader.quarantined(load.id, load.file, source.piece, known), "refused")
    return replace_rows(found, found.rows - len(known), found.bad + len(known))


def replace_rows(tally: Tally, rows: int, bad: int) -> Tally:
    return Tally(rows - tally.left_out, bad, tally.invalid, tally.left_out)


async def store_set_aside(engine: Engine, load: Load, folder: Path, into: LoadTarget) -> Tally:
    """The lines that could not even be given to the engine as what they are."""
    if not load.set_aside:
        return Tally()
    columns = "c__error_column, c__error, c__import_id, insertion_date, c__record, c__file, c__line"
    file = f"if(file = '', {readers.literal(load.file)}, file)"
    select = f"SELECT [''], [reason], {quote_string(load.id)}, now(), text, {file}, line FROM {{source}}"
    await engine.insert_file(
        f"{quote(into.database)}.{quote(into.quarantine)} ({columns})",
        select,
        folder / ASIDE,
        format="JSONEachRow",
        structure="line UInt64, reason String, text String, file String",
        settings={**INSERT_SETTINGS, "insert_deduplication_token": f"{load.id}-aside", "max_threads": 1},
    )
    return Tally(bad=load.set_aside, invalid=load.set_aside)


@dataclass(frozen=True, slots=True)
class PieceWork:
    engine: Engine
    load: Load
    source: PieceSource
    into: LoadTarget
    settings: Mapping[str, str | int]

    @property
    def token(self) -> str:
        return f"{self.load.id}-{self.source.piece.name}"

    async def insert(self, *, strict: bool, without: Mapping[int, str] | None = None, **more: int) -> SqlError | None:
        """The failure, if there is one."""
        select = self.source.reader.wanted(strict=strict, without=without or ())
        one_thread = _ONE_AFTER_THE_OTHER if without else {}
        try:
            await self._put(self.into.table, self.source.reader.names, select, self.token, {**one_thread, **more})
        except SqlError as error:
            return error
        return None

    async def insert_good(self, known: dict[int, str]) -> dict[int, str]:
        """Puts them in; returns those that were refused."""
        while True:
            failure = await self.insert(strict=False, without=known)
            if failure is None:
                return known
            _raise_if_short_of_means(failure)
            if not await self._exists():
                raise NotFound(f"The data source '{self.into.name}' was deleted", reason=Reason.DATASOURCE_NOT_FOUND)
            refused = await self._find_refused(known)
            if not refused:
                break
            known = {**known, **refused}
            await asyncio.to_thread(self._note_refused, known)
        of_table = await self.insert(strict=False, without=known, materialized_views_ignore_errors=1)
        if of_table is not None:
            raise of_table
        hint = "Do not send them again: the view is fed by a populate when it works again."
        raise UnprocessableWrite(VIEW_FAILED, hint=hint, detail=failure.message[:300])

    async def tally(self) -> Tally:
        """`rows`: those that read well."""
        (found,) = await self.select(self.source.reader.tally())
        left = 0
        if self.source.reader.kept:
            (out,) = await self.select(self.source.reader.left_out())
            left = int(out["n"])
        total, bad = int(found["total"]), int(found["bad"])
        return Tally(total - bad, bad, int(found["invalid"]), left)

    async def quarantine(self, select: str, what: str) -> None:
        names = self.source.reader.quarantine_columns
        try:
            await self._put(self.into.quarantine, names, select, f"{self.token}-{what}", _ONE_AFTER_THE_OTHER)
        except SqlError as error:
            _raise_if_short_of_means(error)
            raise

    async def refused_beforehand(self, known: dict[int, str]) -> dict[int, str]:
        """Those that the table or a view refuses, with what is known, before anything is stored. A view that takes no
        row at all refuses each of them."""
        while found := await self._find_refused(known, works=True):
            known = {**known, **found}
            await asyncio.to_thread(self._note_refused, known)
        return known

    async def _find_refused(self, known: Mapping[int, str], *, works: bool = False) -> dict[int, str]:
        async with FileProbe.opened(self) as copies:
            before = [(n, n + 1, "") for n in known]
            found = await isolate.find(copies, before, [(0, copies.rows)], works=works)
            # A stretch of rows that were not told apart is left out as a whole.
            return {n: reason for a, b, reason in found for n in range(a, b)}

    async def _exists(self) -> bool:
        rows = await self.engine.rows(
            "SELECT count() AS n FROM system.tables WHERE database = {database:String} AND name = {table:String}",
            {"database": self.into.database, "table": self.into.table},
        )
        return int(rows[0]["n"]) > 0

    async def _put(self, table: str, names: str, select: str, token: str, settings: Mapping[str, str | int]) -> None:
        await self.engine.insert_file(
            f"{quote(self.into.database)}.{quote(table)} ({names})",
            self.source.select(select),
            self.source.path,
            format=self.source.format,
            structure=self.source.structure,
            settings={**self.settings, **settings, "insert_deduplication_token": token},
        )

    async def select(self, select: str) -> list[dict[str, Any]]:
        kept = {k: v for k, v in self.settings.items() if k in limits.STATEMENT_SETTINGS}
        return await self.engine.select_file(
            self.source.select(select),
            self.source.path,
            format=self.source.format,
            structure=self.source.structure,
            settings={**kept, **self.source.settings, "optimize_count_from_files": 0},
        )

    @property
    def _refused_path(self) -> Path:
        """Each table has its own: what its views refuse is in no other one's."""
        return self.source.path.parent / f"{self.source.piece.name}.{self.into.table}.refused"

    def known_refused(self) -> dict[int, str]:
        of_any = self.source.path.parent / f"{self.source.piece.name}.refused"  # of an earlier version
        for path in (self._refused_path, of_any):
            with contextlib.suppress(FileNotFoundError):
                return msgspec.json.decode(path.read_bytes(), type=dict[int, str])
        return {}

    def _note_refused(self, refused: dict[int, str]) -> None:
        fresh = self._refused_path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(refused))
            disk.sync(file)
        fresh.replace(self._refused_path)
        disk.sync_folder(fresh.parent)


def _holds_lists(source: PieceSource) -> bool:
    if source.part is not None:
        return True
    with source.path.open("rb") as file:
        while block := file.read(1 << 20):
            if b"[" in block or b"\\u005" in block:
                return True
    return False


def _raise_if_short_of_means(error: SqlError) -> None:
    """Not the rows and not a view: the same insert may work later."""
    if error.engine_code in _LATER:
        raise Unavailable(
            "The engine cannot store rows now",
            retry_after=5,
            detail=error.message[:300],
            reason=Reason.ENGINE_UNAVAILABLE,
        ) from None
    if error.engine_code in (Code.MEMORY_LIMIT_EXCEEDED, Code.STD_EXCEPTION):
        raise QueryTimeout("The engine could not store the rows", detail=error.message[:300]) from None
    if error.engine_code == Code.TOO_MANY_PARTS:
        raise Unavailable("The table is behind with its merges", retry_after=5, reason=Reason.ENGINE_BUSY) from None

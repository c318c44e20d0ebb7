"""Rows of a quarantine into their table, once each: what is wrong with them may have been mended meanwhile.

A row is read as the quarantine shows it: a value that stands there is the value, also where a token fixed it and the
line says something else. Rows that it shows whole become lines of their columns again; of rows whose line was kept
(`c__record`) the line is read, and what the quarantine shows otherwise wins. So no row gets values that its sender
could not have given it. What could not be taken apart at all stays, as do rows whose token did not fix what it had to,
and rows that a view refused, which the table may have.

A batch of rows is copied into a file before anything of it is stored (`BatchStore`): it is inserted as one block under
the file's own token, then its good rows leave the quarantine. What cuts that off, a later attempt ends: the token says
whether the rows are stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import shutil
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import msgspec

from pipit.datafiles.resources import Column
from pipit.engine.client import Engine
from pipit.errors import UnprocessableWrite
from pipit.ingest import cast, disk, isolate, limits, parse, values
from pipit.ingest.defaults import CheckedDefault, checked_defaults
from pipit.ingest.fault import INVALID_JSON
from pipit.ingest.field import LINE, Field
from pipit.ingest.files.cut import FilePiece
from pipit.ingest.files.pieces import INSERT_SETTINGS, LoadTarget, PieceSource, PieceWork
from pipit.ingest.files.readers import FileReader
from pipit.ingest.files.store import KEPT, Load
from pipit.ingest.isolate import NOT_TOLD_APART
from pipit.ingest.parse import BAD, NUMBER, Reader
from pipit.ingest.types import Type, strip
from pipit.ingest.types import parse as type_of
from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string
from pipit.tables.quarantine import OWN_COLUMNS

FORMAT = "RowBinary"
BATCH_ROWS = 5_000  # their hashes stand in the statement that takes them out of the quarantine
BATCH_BYTES = 32 << 20
_HASH, _TEXTS = "_pipit_hash", "_pipit_texts"
STRUCTURE = f"{_HASH} String, {LINE} String, {_TEXTS} Map(String, String)"
# What the reason of a row that stays begins with. One that a view refused may be in the table, and would be twice.
STAYS = (INVALID_JSON, parse.TOKEN_REFUSED, values.LOST, isolate.VIEW)


class ReplayReader(FileReader):
    """SQL over a file of `STRUCTURE`."""

    @property
    def bad(self) -> str:
        return f"{super().bad} OR NOT ({self._whole})"

    def accepted(self, without: Sequence[int]) -> str:
        """The hashes of the rows that read well, without those of these numbers."""
        listed = f" AND {NUMBER} NOT IN ({', '.join(map(str, without))})" if without else ""
        checked = f"{self._with()}SELECT {_HASH}, {self.bad} AS {BAD}, {NUMBER} FROM {self._rows(numbered=True)}"
        return f"SELECT DISTINCT {_HASH} AS hash FROM ({checked}) WHERE NOT {BAD}{listed}"


class _Kept(Field):
    """A column of a kept line: what the quarantine shows of it wins."""

    @property
    def has(self) -> str:
        return f"mapContains({_TEXTS}, {quote_string(self.column.name)})"

    @property
    def kept(self) -> str:
        return f"{_TEXTS}[{quote_string(self.column.name)}]"

    @property
    def differs(self) -> str:
        return f"({self.has} AND ifNull({self.text} != {self.kept}, true))"

    @property
    def is_whole(self) -> bool:
        """Its text cannot stand for the value: a row where they differ is not read."""
        return self.compound or strip(self.type)[0].name in ("Dynamic", "Variant")

    @property
    def p(self) -> str | None:
        named = super().p
        if named is None or not strip(self.type)[0].name.startswith("Decimal"):
            return named
        own = cast.prepared(strip(self.type)[0], self.x)
        return f"if({self.differs}, {own}, {named.removesuffix(f' AS _pipit_p{self.number}')}) AS _pipit_p{self.number}"

    @property
    def bad(self) -> str:
        bad = super().bad
        return f"({bad} OR {self.differs})" if self.is_whole else bad

    @property
    def _doubts(self) -> str:
        doubts = super()._doubts
        return doubts if doubts == "false" else f"(NOT {self.differs} AND {doubts})"


@dataclass(frozen=True, slots=True)
class Kind:
    """Rows that are read in one way. `lines`: theirs were kept. `given`: columns without a path that they have."""

    lines: bool
    given: tuple[str, ...]


class Left(msgspec.Struct, frozen=True):
    """What a batch is, beside its file: all that an attempt after a crash needs."""

    piece: str
    lines: bool
    given: tuple[str, ...]
    table: str  # its name for good (UUID), and how its columns are read: else other rows would be good ones


@dataclass(frozen=True, slots=True)
class Replayed:
    rows: int = 0
    failure: UnprocessableWrite | None = None  # the rows are stored, and a view failed on them


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The table, as its rows are copied out of it. `before`: rows that came later are not looked at."""

    into: LoadTarget
    columns: tuple[str, ...]  # of the quarantine table, in order
    before: int = 0

    @property
    def place(self) -> str:
        return f"{quote(self.into.database)}.{quote(self.into.quarantine)}"

    @property
    def hash(self) -> str:
        """Of all that stands in a row. Rows that are the same in everything have the same fate."""
        return f"hex(sipHash128(toJSONString(tuple({', '.join(map(quote, self.columns))}))))"

    @property
    def shown(self) -> list[Column]:
        """The table's columns that the quarantine shows."""
        there = set(self.columns)
        return [c for c in self.into.columns if c.type and c.name in there and c.name not in OWN_COLUMNS]

    @property
    def _without_path(self) -> list[str]:
        paths = any(c.jsonpath for c in self.into.columns)
        return [c.name for c in self.shown if paths and not c.jsonpath]

    @property
    def given(self) -> str:
        found = [f"if(isNull({quote(name)}), '', {quote_string(name)})" for name in self._without_path]
        return f"arrayFilter(_pipit_n -> _pipit_n != '', [{', '.join(found)}]::Array(String))"

    @property
    def readable(self) -> str:
        """Whether a row is looked at."""
        begins = "|".join(map(re.escape, STAYS))
        stays = f"match(_pipit_r, {quote_string(f'^(one of [0-9]+ {NOT_TOLD_APART})?({begins})')})"
        return f"toUnixTimestamp(insertion_date) <= {self.before} AND NOT arrayExists(_pipit_r -> {stays}, c__error)"

    def kinds(self) -> str:
        ways = f"isNotNull(c__record) AS lines, {self.given} AS given"
        return f"SELECT DISTINCT {ways} FROM {self.place} WHERE {self.readable}"

    def of(self, kind: Kind) -> str:
        names = ", ".join(map(quote_string, kind.given))
        lines = "isNotNull" if kind.lines else "isNull"
        return f"{self.readable} AND {lines}(c__record) AND {self.given} = [{names}]::Array(String)"

    def hashes(self, kind: Kind, after: str) -> str:
        """The next ones, with the size of their rows."""
        columns = ", ".join(map(quote, self.columns))
        return (
            f"SELECT {self.hash} AS hash, sum(byteSize(tuple({columns}))) AS size FROM {self.place} "
            f"WHERE {self.of(kind)} GROUP BY hash HAVING hash > {quote_string(after)} ORDER BY hash LIMIT {BATCH_ROWS}"
        )

    def copied(self, kind: Kind, after: str, last: str) -> str:
        """Those rows, for the file."""
        texts = [f"({quote_string(c.name)}, {quote(c.name)})" for c in self.shown]
        known = (
            "CAST(arrayMap(_pipit_t -> (_pipit_t.1, assumeNotNull(_pipit_t.2)), "
            f"arrayFilter(_pipit_t -> isNotNull(_pipit_t.2), [{', '.join(texts)}])), 'Map(String, String)')"
        )
        line = "assumeNotNull(c__record)" if kind.lines else self._rebuilt(kind)
        read = f"{self.hash} AS {_HASH}, {line} AS {LINE}, {known} AS {_TEXTS}"
        batch = f"{_HASH} > {quote_string(after)} AND {_HASH} <= {quote_string(last)}"
        rows = f"SELECT {read} FROM {self.place} WHERE {self.of(kind)}"
        return f"SELECT * FROM ({rows}) WHERE {batch} ORDER BY {_HASH}"

    def _rebuilt(self, kind: Kind) -> str:
        """A JSON object of a row's columns, each under its own name."""
        members = []
        for column in self._read(kind):
            name = quote(column.name)
            # Where one text can be a JSON string or another value, it was the other: else the line was kept.
            type, _ = strip(type_of(column.type))
            doubt = cast.text_doubt(type, f"assumeNotNull({name})")
            if cast.is_compound(type) or type.name in ("Dynamic", "Variant", "JSON", "Object"):
                doubt = "true"
            value = f"toJSONString(assumeNotNull({name}))"
            if doubt:
                value = f"if({doubt} AND isValidJSON(assumeNotNull({name})), assumeNotNull({name}), {value})"
            key = quote_string(msgspec.json.encode(column.name).decode() + ":")
            members.append(f"if(isNull({name}), '', concat({key}, {value}))")
        listed = f"arrayFilter(_pipit_m -> _pipit_m != '', [{', '.join(members)}]::Array(String))"
        return f"concat('{{', arrayStringConcat({listed}, ','), '}}')"

    def _read(self, kind: Kind) -> list[Column]:
        paths = any(c.jsonpath for c in self.into.columns)
        return [c for c in self.shown if not paths or c.jsonpath or c.name in kind.given]

    def reader(self, kind: Kind, defaults: Sequence[CheckedDefault]) -> ReplayReader:
        found = self._of_lines(kind, defaults) if kind.lines else self._of_columns(kind, defaults)
        parts: dict[str, Any] = {part.name: getattr(found, part.name) for part in fields(Reader)}
        return ReplayReader(**{**parts, "carried": (_HASH, _TEXTS), "format": FORMAT, "structure": STRUCTURE})

    def _of_columns(self, kind: Kind, defaults: Sequence[CheckedDefault]) -> Reader:
        read = {c.name for c in self._read(kind)}
        paths = any(c.jsonpath for c in self.into.columns)
        columns = [
            replace(c, jsonpath=f"$['{_escaped(c.name)}']" if c.name in read or (paths and c.jsonpath) else None)
            if paths
            else c
            for c in self.into.columns
        ]
        return parse.reader(columns, {}, "", defaults)

    def _of_lines(self, kind: Kind, defaults: Sequence[CheckedDefault]) -> Reader:
        found = parse.reader(self.into.columns, {}, "", defaults)
        read: list[Field] = []
        for f in found.fields:
            kept = _Kept(**{part.name: getattr(f, part.name) for part in fields(Field)})
            if not kept.is_whole:
                kept = replace(kept, source=f"if({kept.differs}, {kept.kept}, {kept.source})")
            read.append(kept)
        for column in self.into.columns:
            if column.name in kind.given:
                x = _value_of(f"{_TEXTS}[{quote_string(column.name)}]", type_of(column.type))
                read.append(Field(Column(column.name, column.type), type_of(column.type), None, x))
        return parse.assembled(read, self.into.columns, kind.given, defaults, row_type=found.row_type)


def _value_of(text: str, type: Type) -> str:
    """What the JSON of a column holds, from the text that the quarantine shows."""
    wide = quote_string(cast.wide(type))
    return f"JSONExtract({text}, {wide})" if cast.is_compound(type) else f"CAST({text}, {wide})"


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace("'", "\\'")


async def quarantine_of(engine: Engine, into: LoadTarget) -> Quarantine:
    rows = await engine.rows(
        "SELECT name FROM system.columns WHERE database = {database:String} AND table = {table:String} "
        "ORDER BY position",
        {"database": into.database, "table": into.quarantine},
    )
    return Quarantine(into, tuple(str(row["name"]) for row in rows))


async def settled(engine: Engine, quarantine: Quarantine) -> Quarantine:
    """With the moment up to which all rows are there and no more will come. Nothing is inserted meanwhile: the caller
    holds the lock."""
    while True:
        (row,) = await engine.rows(
            "SELECT toUnixTimestamp(max(insertion_date)) AS last, toUnixTimestamp(now()) AS now "
            f"FROM {quarantine.place}"
        )
        if int(row["now"]) > int(row["last"]):
            return replace(quarantine, before=int(row["last"]))
        await asyncio.sleep(0.1)


def form_of(columns: Sequence[Column]) -> str:
    """Tells how rows are read."""
    listed = [(c.name, c.type, c.jsonpath, c.default) for c in columns]
    return hashlib.blake2b(msgspec.json.encode(listed), digest_size=8).hexdigest()


class BatchStore:
    """The one batch of a table that is under way: a folder that outlives the job. Its methods block."""

    def __init__(self, root: Path, into: LoadTarget) -> None:
        self.id = f"{KEPT}{uuid.uuid5(uuid.NAMESPACE_OID, f'{into.database} {into.table}')}"
        self.folder = root.absolute() / self.id

    def begin(self) -> Path:
        """A file for the next batch."""
        self.folder.parent.mkdir(mode=0o700, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        for path in self.folder.iterdir():
            path.unlink()
        return self.folder / secrets.token_hex(8)

    def put(self, left: Left) -> None:
        """From now on it counts."""
        with (self.folder / left.piece).open("rb+") as file:
            disk.sync(file)
        fresh = self.folder / f"{_LEFT}.new"
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(left))
            disk.sync(file)
        fresh.replace(self.folder / _LEFT)
        disk.sync_folder(self.folder)
        disk.sync_folder(self.folder.parent)

    def left(self) -> Left | None:
        try:
            return msgspec.json.decode((self.folder / _LEFT).read_bytes(), type=Left)
        except FileNotFoundError:
            return None

    def end(self) -> None:
        (self.folder / _LEFT).unlink(missing_ok=True)  # first: without it the others mean nothing
        shutil.rmtree(self.folder, ignore_errors=True)


_LEFT = "left.json"


async def copy_out(
    engine: Engine, quarantine: Quarantine, kind: Kind, after: str, store: BatchStore, table: str
) -> tuple[Left | None, str]:
    """The next batch of this kind, in its file, and its last hash; None where there are no more."""
    found = await engine.rows(quarantine.hashes(kind, after), settings=_READING)
    if not found:
        return None, after
    size, last = 0, ""
    for row in found:
        if last and size + int(row["size"]) > BATCH_BYTES:
            break
        size, last = size + int(row["size"]), str(row["hash"])
    path = await asyncio.to_thread(store.begin)
    select = quarantine.copied(kind, after, last)
    async with engine.stream(select, settings=_READING, format=FORMAT) as blocks:
        await _write(path, blocks)
    left = Left(path.name, kind.lines, kind.given, table)
    await asyncio.to_thread(store.put, left)
    return left, last


async def _write(path: Path, blocks: AsyncIterator[bytes]) -> None:
    with path.open("wb") as file:
        async for block in blocks:
            file.write(block)


async def store_batch(
    engine: Engine, quarantine: Quarantine, left: Left, store: BatchStore
) -> tuple[Replayed, list[str]]:
    """Puts the good rows of a batch into the table; their hashes. After any error, try it again."""
    into = quarantine.into
    defaults = await checked_defaults(engine, into.database, into.table)
    reader = quarantine.reader(Kind(left.lines, left.given), defaults)
    source = PieceSource(store.folder / left.piece, FilePiece(left.piece, 1, 0), FORMAT, STRUCTURE, reader, {})
    settings: Mapping[str, str | int] = {**INSERT_SETTINGS, "max_threads": 1}
    if any("JSON" in column.type for column in into.columns):
        settings = {**settings, **limits.JSON_LIST_SETTINGS}
    work = PieceWork(engine, Load(store.id, "", ""), source, into, settings)
    known = await asyncio.to_thread(work.known_refused)
    tally = await work.tally()
    failure = None
    if tally.rows:
        known = await work.refused_beforehand(known)
    if tally.rows > len(known):
        try:
            known = await work.insert_good(known)
        except UnprocessableWrite as error:
            failure = error
    rows = await work.select(reader.accepted(sorted(known)))
    return Replayed(tally.rows - len(known), failure), [str(row["hash"]) for row in rows]


_READING: Mapping[str, str | int] = {"readonly": 1, "max_query_size": 32 << 20, "max_ast_elements": 2_000_000}

"""Cuts into the tables that are live: the table is looked up for each cut, and stays the same for all of its attempts.

Beside the cut's file stands what its insert needs (`.meta`), so that a process that makes the cut again after a crash
inserts it as before. It stays until the topic's position is past the cut: no table is made anew from one that may have
some of its rows, and would take them again (`Ingest.expect`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from pipit.catalog.catalog import Catalog
from pipit.connectors.reader import CutOf
from pipit.connectors.source import Source
from pipit.errors import NotFound, Reason
from pipit.ingest import Ingest, load, records, target_of
from pipit.ingest.records import Cut, Form
from pipit.ingest.segment import NOTES

META = ".meta"


class _Kept(msgspec.Struct):
    table: str
    rows: int
    meta: dict[str, Any]


class TableSink:
    def __init__(self, catalog: Catalog, ingest: Ingest, folder: Path) -> None:
        """`folder`: of files that the engine may read."""
        self._catalog, self._ingest, self._folder = catalog, ingest, folder
        for path in folder.glob(f"*/*/*{META}"):  # of a process before this one
            try:
                kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
            except msgspec.DecodeError:  # it was killed before anything was inserted
                path.unlink()
            else:
                ingest.expect((path.parts[-3], kept.table), path.name.removesuffix(META))

    async def store(self, cut: CutOf, rows: Sequence[bytes]) -> int:
        path = self._path(cut.source, cut.identity)
        made = await asyncio.to_thread(self._written, path, cut, rows)
        try:
            bad = await self._ingest.insert(made)
        except NotFound:
            await self._end(path)  # the table is gone: the next attempt is for the one that is live
            raise
        return bad

    async def done(self, cut: CutOf) -> None:
        await self._end(self._path(cut.source, cut.identity))

    def unfinished(self, source: Source) -> set[str]:
        folder = self._folder / source.database / source.name
        return {path.name.removesuffix(META) for path in folder.glob(f"*{META}")}

    async def drop(self, source: Source, identities: Collection[str]) -> None:
        for identity in identities:
            await self._end(self._path(source, identity))

    def _path(self, source: Source, identity: str) -> Path:
        return self._folder / source.database / source.name / f"{identity}{records.SUFFIX}"

    async def _end(self, path: Path) -> None:
        await asyncio.to_thread(_remove, path)
        self._ingest.forget(path.name.removesuffix(records.SUFFIX))

    def _written(self, path: Path, cut: CutOf, rows: Sequence[bytes]) -> Cut:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = path.with_suffix(META)
        found: _Kept | None = None
        if kept.exists():
            try:
                found = msgspec.json.decode(kept.read_bytes(), type=_Kept)
            except msgspec.DecodeError:
                found = None
        if found is None or found.rows != len(rows):
            found = self._now(cut, len(rows))
            path.with_suffix(NOTES).unlink(missing_ok=True)
            fresh = kept.with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(found))
            fresh.replace(kept)
        return records.write(path, cut.source.database, found.table, found.meta, cut.identity, rows)

    def _now(self, cut: CutOf, rows: int) -> _Kept:
        table = self._catalog.snapshot(cut.source.workspace).tables.get(cut.source.name)
        if table is None:
            raise NotFound("The data source was deleted", reason=Reason.DATASOURCE_NOT_FOUND)
        target = target_of(table)
        meta = load.meta(target.columns, target.quarantine_table, target.partition_key)
        meta["records"] = asdict(Form(cut.source.topic, cut.partition, cut.source.raw))
        return _Kept(target.table, rows, meta)


def _remove(path: Path) -> None:
    for suffix in (records.SUFFIX, META, NOTES):
        path.with_suffix(suffix).unlink(missing_ok=True)

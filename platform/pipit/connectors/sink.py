"""Cuts into the tables that are live: the table is looked up for each cut, and stays the same for all of its attempts.

Beside the cut's file stands what its insert needs (`.meta`), so that a process that makes the cut again after a crash
inserts it as before, whatever was deployed meanwhile. Neither has to be kept: without them the cut is made anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from pipit.catalog.catalog import Catalog
from pipit.connectors.reader import CutOf
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

    async def store(self, cut: CutOf, rows: Sequence[bytes]) -> int:
        path = self._folder / cut.source.database / cut.source.name / f"{cut.identity}{records.SUFFIX}"
        made = await asyncio.to_thread(self._written, path, cut, rows)
        try:
            bad = await self._ingest.insert(made)
        except NotFound:
            await asyncio.to_thread(_remove, path)  # the table is gone: the next attempt is for the one that is live
            raise
        await asyncio.to_thread(_remove, path)
        return bad

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
        meta = load.meta(target.columns, target.quarantine_table, target.partition_key, {})
        meta["records"] = asdict(Form(cut.source.topic, cut.partition, cut.source.raw))
        return _Kept(target.table, rows, meta)


def _remove(path: Path) -> None:
    for suffix in (records.SUFFIX, META, NOTES):
        path.with_suffix(suffix).unlink(missing_ok=True)

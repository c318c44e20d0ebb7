"""The copies that tell which rows of a piece the table or a view refuses (`ingest/probe.py`), filled from the piece."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipit.ingest.parse import NUMBER
from pipit.ingest.probe import Probe
from pipit.ingest.segment import Frame, Header, Segment
from pipit.ingest.watch import Watch
from pipit.sql.literals import quote_string

if TYPE_CHECKING:
    from pipit.ingest.files.pieces import PieceWork


@dataclass(slots=True)
class FileProbe(Probe):
    """For it a piece is a segment with one request."""

    work: PieceWork | None = None
    rows: int = field(default=0)  # the number behind the last row's

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, work: PieceWork) -> AsyncIterator[FileProbe]:
        into, watch = work.into, Watch()
        segment = Segment(work.source.path, "", Header(into.database, into.table, 0.0, {}))
        copies = cls(work.engine, segment, work.source.reader, work.settings, watch.kept, work=work)
        watch.kept.searches += 1
        try:
            await copies.stage()
            yield copies
        finally:
            await copies.close()
            await watch.end(work.engine, into.database)

    async def stage(self) -> None:
        if self.staged or self.work is None:
            return
        source = self.work.source
        select = source.select(source.reader.numbered_rows())
        self._stage = self._name("rows")
        self._copies.stages[self._stage] = select
        stage = self._place(self._stage)
        made = select.replace("{source}", f"null({quote_string(source.structure)})")
        await self.engine.command(f"CREATE TABLE {stage} ENGINE = Memory EMPTY AS {made}")
        await self.engine.insert_file(
            f"{stage} ({source.reader.names}, {NUMBER})",
            select,
            source.path,
            format=source.format,
            structure=source.structure,
            settings={**self._settings, "max_threads": 1, "insert_null_as_default": 0},
        )
        (found,) = await self.engine.rows(f"SELECT max({NUMBER}) + 1 AS n FROM {stage}")
        self.rows = int(found["n"])
        self.segment.frames.append(Frame(0, self.rows, 0))
        self.segment.rows = self.rows
        self.staged = True

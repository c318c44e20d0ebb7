"""What is remembered of a table for a while after rows of it were refused: who sent them, and the copies (`probe`) that
the next search needs too. Where one of these senders is in a segment again, it is looked at before anything of it is
stored: what the others sent is then stored as ever, and nobody waits for the search of single rows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipit.engine.client import Engine
from pipit.errors import PipitError
from pipit.ingest import limits
from pipit.ingest.segment import Segment
from pipit.sql.identifiers import quote


@dataclass(frozen=True, slots=True)
class Taker:
    """`table` is the copy that rows are put into. `view` is the name of the view that is asked, '' for the table or for
    all views.
    """

    table: str
    view: str = ""
    name: str = ""  # of the view, as the engine knows it


@dataclass(slots=True)
class Copies:
    """Tables in the engine. `names`: what each is a copy of. `stages`: by which SQL those with rows are filled."""

    names: dict[str, str] = field(default_factory=dict)
    views: set[str] = field(default_factory=set)
    stages: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, of: str, *, view: bool = False) -> None:
        self.names[name] = of
        if view:
            self.views.add(name)

    def take(self, other: Copies) -> None:
        self.names |= other.names
        self.views |= other.views


@dataclass(slots=True)
class Kept:
    """Copies that stay from one search to the next. `lost`: some may be left that are not known here, or gone.
    `searches`: how many use them now, one while the other lets it go on.
    """

    stay: bool = False
    searches: int = 0
    lost: bool = False
    form: str = ""
    takers: dict[tuple[str, ...], Taker | None] = field(default_factory=dict)  # by the views that are asked
    stages: dict[str, str] = field(default_factory=dict)  # free ones, by the SQL that reads them
    copies: Copies = field(default_factory=Copies)

    async def follow(self, engine: Engine, database: str, form: str) -> None:
        """Forgets what is a copy of something else than what there is now."""
        if form != self.form:
            await self.clear(engine, database)
            self.form = form

    def take_stage(self, select: str) -> str:
        """A free one, '' if there is none."""
        stage = self.stages.pop(select, "")
        self.copies.names.pop(stage, None)
        return stage

    def takes_stage(self, select: str) -> bool:
        return self.stay and select not in self.stages and len(self.stages) < limits.KEPT_STAGES

    def keep_stage(self, copies: Copies, stage: str) -> None:
        self.stages[copies.stages.pop(stage)] = stage
        self.copies.add(stage, copies.names.pop(stage))

    async def clear(self, engine: Engine, database: str) -> None:
        copies, self.copies, self.takers, self.stages, self.form = self.copies, Copies(), {}, {}, ""
        await self.drop(engine, database, copies)

    async def drop(self, engine: Engine, database: str, copies: Copies) -> None:
        if not copies.names:
            return
        ordered = sorted(copies.names, key=lambda name: name not in copies.views)
        listed = ", ".join(f"{quote(database)}.{quote(name)}" for name in ordered)
        try:
            await engine.command(f"DROP TABLE IF EXISTS {listed} SYNC")
        except PipitError:
            self.lost = True
        except asyncio.CancelledError:
            self.copies.take(copies)
            raise


@dataclass(slots=True)
class Watch:
    kept: Kept = field(default_factory=Kept)
    _until: dict[str, float] = field(default_factory=dict)  # by sender

    def note(self, senders: Iterable[str]) -> None:
        """Rows of theirs were refused, or perhaps."""
        until = time.monotonic() + limits.WATCH_SECONDS
        for sender in senders:
            self._until.pop(sender, None)
            self._until[sender] = until
            self.kept.stay = True
        while len(self._until) > limits.WATCHED_SENDERS:
            self._until.pop(next(iter(self._until)))

    def suspects(self, segment: Segment) -> list[int]:
        """The requests of such senders."""
        now = time.monotonic()
        return [n for n, sender in enumerate(segment.senders) if self._until.get(sender, 0.0) > now]

    @property
    def left(self) -> float | None:
        """Seconds until nobody is watched any more; None where the copies are gone already."""
        if not self.kept.stay:
            return None
        return max(0.0, max(self._until.values(), default=0.0) - time.monotonic())

    async def end(self, engine: Engine, database: str) -> None:
        self.kept.stay = False
        self._until.clear()
        await self.kept.clear(engine, database)

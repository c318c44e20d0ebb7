"""What is remembered of a table for a while after it was written to: copies of what it feeds (`probe`), an empty table
that the next segment is parsed into, and who sent rows that were refused: these are asked about first.
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
    """Tables in the engine. `names`: what each is a copy of. `stages`: the form of those for rows."""

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
    reach: tuple[str, ...] = ()  # the tables and views that `form` is made of
    takers: dict[tuple[str, ...], Taker | None] = field(default_factory=dict)  # by the views that are asked
    stages: dict[str, str] = field(default_factory=dict)  # free ones for rows, by form: which columns, read how
    columns: dict[str, str] = field(default_factory=dict)  # of such a table, by form
    copies: Copies = field(default_factory=Copies)

    async def follow(self, engine: Engine, database: str, form: str, reach: Iterable[str]) -> None:
        """Forgets what is a copy of something else than what there is now."""
        if form != self.form:
            await self.clear(engine, database)
            self.form, self.reach = form, tuple(reach)

    def take_stage(self, form: str) -> str:
        """A free one, '' if there is none."""
        stage = self.stages.pop(form, "")
        self.copies.names.pop(stage, None)
        return stage

    def takes_stage(self, form: str) -> bool:
        return self.stay and form not in self.stages and len(self.stages) < limits.KEPT_STAGES

    def keep_stage(self, copies: Copies, stage: str) -> None:
        self.stages[copies.stages.pop(stage)] = stage
        self.copies.add(stage, copies.names.pop(stage))

    async def clear(self, engine: Engine, database: str) -> None:
        copies, self.copies, self.takers, self.stages, self.form = self.copies, Copies(), {}, {}, ""
        self.reach, self.columns = (), {}
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
    _used: float = 0.0  # until when the copies stay though nobody is watched

    def use(self) -> None:
        """The copies stay for the next segment, if it comes soon."""
        self._used = time.monotonic() + limits.WATCH_SECONDS
        self.kept.stay = True

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
        """Seconds until nobody is watched any more and the copies go; None where they are gone already."""
        if not self.kept.stay:
            return None
        return max(0.0, max(self._until.values(), default=0.0) - time.monotonic(), self._used - time.monotonic())

    async def end(self, engine: Engine, database: str) -> None:
        self.kept.stay = False
        self._until.clear()
        await self.kept.clear(engine, database)

"""Where a job's rows go: the table, and how its columns match those of the job's query."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from pipit.catalog.snapshot import Table
from pipit.engine.client import Engine, Settings
from pipit.ingest import limits
from pipit.ingest.match import Match, matched
from pipit.jobs.job import Job
from pipit.query.disclosure import quietly
from pipit.query.plan import Plan
from pipit.query.read import Reader, Written
from pipit.sql.identifiers import quote
from pipit.tables import Locks

# What a job parses as JSON are rows of many tenants.
_JSON: Settings = {**limits.JSON_SETTINGS, **limits.JSON_LIST_SETTINGS}


@dataclass(frozen=True, slots=True)
class Into:
    """A table, and which of its columns a statement gives. It is the `Destination` of `Reader.write`."""

    table: Table
    physical: str
    match: Match

    @property
    def settings(self) -> Settings:
        return _JSON

    def insert(self, sql: str, settings: Mapping[str, str]) -> str:
        return self.match.insert(f"{quote(self.table.database)}.{quote(self.physical)}", sql, settings)


async def match_of(engine: Engine, plan: Plan, target: Table) -> Match:
    """The columns of what is planned against those of the table that it is to fill."""
    with quietly(plan.params):
        return await matched(
            engine,
            plan.composed.sql,
            plan.params,
            database=target.database,
            table=target.physical,
            name=target.name,
            settings=plan.composed.settings,
            hidden=target.hidden,
        )


class FillsTables:
    """What kinds of jobs have in common whose rows go into a table."""

    def __init__(self, engine: Engine, locks: Locks, reader: Reader) -> None:
        self._engine = engine
        self._locks = locks
        self._reader = reader

    async def clear(self, job: Job) -> None:
        """It keeps nothing."""

    def _writer(self, plan: Plan, target: Table, match: Match) -> Callable[[str], Awaitable[Written]]:
        """Writes what is planned into the target, or into the table of this name that has the target's columns."""

        async def write(physical: str) -> Written:
            return await self._reader.write(plan, Into(target, physical, match))

        return write

"""The tables of the service data sources, made when they are first written to or read.

They belong to a database and not to a deployment: a deploy neither makes nor drops them, and their names are not those
of a deployment's objects, so nothing cleans them up. Safe to repeat, and at the same time.
"""

from __future__ import annotations

from pipit.catalog.services import SERVICES, physical_name, quarantine_name
from pipit.engine.client import Engine
from pipit.tables.ddl import create_table
from pipit.tables.quarantine import create_quarantine


class ServiceTables:
    """Remembers where they stand: no database's name is ever used twice (`Catalog`)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._made: set[str] = set()

    async def make(self, database: str) -> None:
        """Raises what the engine raises."""
        if database not in self._made:
            await make_services(self._engine, database)
            self._made.add(database)


async def make_services(engine: Engine, database: str) -> None:
    for service in SERVICES.values():
        await engine.command(create_table(service, database, physical_name(service)))
        await engine.command(create_quarantine(service, database, quarantine_name(service)))

"""The tables of the service data sources, made when they are first written to or read.

They belong to a database, not to a deployment. A deploy neither makes nor drops them, and their names differ from those
of a deployment's objects, so the clean-up after a deploy leaves them alone. Making them again does no harm.
"""

from __future__ import annotations

from pipit.catalog.services import COMPUTED, SERVICES, physical_name, quarantine_name
from pipit.engine.client import Engine
from pipit.sql.identifiers import quote
from pipit.tables.ddl import create_table
from pipit.tables.quarantine import create_quarantine


class ServiceTables:
    """Remembers the databases that have them. That is safe: `Catalog` uses no database name twice."""

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
        if service.name in COMPUTED:
            continue
        await engine.command(create_table(service, database, physical_name(service)))
        await engine.command(create_quarantine(service, database, quarantine_name(service)))
    for name, (source, select) in COMPUTED.items():
        place = f"{quote(database)}.{quote(physical_name(SERVICES[name]))}"
        table = f"{quote(database)}.{quote(physical_name(source))}"
        await engine.command(f"CREATE VIEW IF NOT EXISTS {place} AS {select.format(table=table)}")

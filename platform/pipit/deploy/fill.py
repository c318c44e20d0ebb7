"""New generations of tables, as the engine makes them: created, filled beside, and then given their rows.

Rows are made in a table beside the new one, from an image of the old ones, and are linked into it when all of them are
there. So views of the new table see none of them (they were filled from them as well), events that come meanwhile go
through these views as ever, and a fill that is cut off leaves nothing in any table that somebody reads. What an image
holds does not change: links to the parts of that moment. `undo`, and what drops, can be repeated.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from pipit.catalog.snapshot import Table
from pipit.deploy.apply import drop
from pipit.deploy.generations import frozen_of, side_of
from pipit.deploy.plan import Frozen, How, Plan, Rebuild
from pipit.engine.client import Engine, Settings
from pipit.errors import DatafileError, PipitError, ProjectError, Reason, SqlError, Unavailable
from pipit.sql.identifiers import quote
from pipit.tables.ddl import create_table
from pipit.tables.ddl_check import checked
from pipit.tables.quarantine import create_quarantine

log = logging.getLogger("pipit.deploy")

# A fill may go into any number of partitions, and leaves the other processor to readers.
_FILL: Settings = {"max_partitions_per_insert_block": 0, "max_threads": 1, "max_insert_threads": 1}


def _name(database: str, table: str) -> str:
    return f"{quote(database)}.{quote(table)}"


async def create(engine: Engine, rebuild: Rebuild) -> None:
    """The new table, its quarantine, and the table beside it. Nothing of them is there, or what a deploy left."""
    table = rebuild.table
    await undo(engine, rebuild)
    await engine.command(await checked(engine, create_table(table.datasource, table.database, table.physical)))
    await engine.command(create_quarantine(table.datasource, table.database, table.quarantine))
    if holds_rows(rebuild):
        made, beside = _name(table.database, table.physical), _name(table.database, side_of(table.physical))
        await engine.command(f"CREATE TABLE {beside} AS {made}")


def holds_rows(rebuild: Rebuild) -> bool:
    return rebuild.table.datasource.engine.name != "Null"


async def freeze(engine: Engine, frozen: Iterable[Frozen], rebuilds: Iterable[Rebuild]) -> None:
    """The images of the old rows, of one moment: nothing is inserted into any of these tables now."""
    for image in frozen:
        if image.table.datasource.engine.name != "Null":
            await _image(engine, image.table.database, image.table.physical, image.image)
    for rebuild in rebuilds:
        old = rebuild.old
        if old is None:
            continue
        await _image(engine, old.database, old.quarantine, frozen_of(old.quarantine))
        if rebuild.how is How.COPY and old.datasource.engine.name != "Null" and holds_rows(rebuild):
            await _image(engine, old.database, old.physical, frozen_of(old.physical))


async def _image(engine: Engine, database: str, table: str, image: str) -> None:
    await drop(engine, database, image)
    await engine.command(f"CREATE TABLE {_name(database, image)} AS {_name(database, table)}")
    await engine.command(f"ALTER TABLE {_name(database, image)} ATTACH PARTITION ALL FROM {_name(database, table)}")


async def fill(engine: Engine, plan: Plan) -> None:
    """Gives the new generations their rows. Raises ProjectError where a value does not fit after all."""
    for rebuild in plan.rebuilds:
        if holds_rows(rebuild):
            await _fill(engine, rebuild)
    for rebuild in plan.rebuilds:
        table = rebuild.table
        if holds_rows(rebuild):
            await _attach(engine, table.database, side_of(table.physical), table.physical)
        if rebuild.old is not None:
            await _quarantined(engine, rebuild.old, table)


async def _fill(engine: Engine, rebuild: Rebuild) -> None:
    table = rebuild.table
    beside = side_of(table.physical)
    if rebuild.how is How.COPY:
        assert rebuild.old is not None
        if rebuild.old.datasource.engine.name == "Null":
            return
        image = frozen_of(rebuild.old.physical)
        try:
            await _attach(engine, table.database, image, beside)
            return
        except Unavailable:
            raise
        except SqlError as error:  # another order of columns, for one
            log.info("the rows of '%s' are copied, as they cannot be linked: %s", table.name, error.message)
        columns = ", ".join(quote(column.name) for column in table.datasource.columns)
        into, source = _name(table.database, beside), _name(table.database, image)
        await engine.command(f"INSERT INTO {into} ({columns}) SELECT {columns} FROM {source}", settings=_FILL)
        return
    for select in rebuild.selects:
        into = _name(table.database, beside)
        try:
            await engine.command(select.match.insert(into, select.sql, select.settings), settings=_FILL)
        except Unavailable:
            raise
        except PipitError as error:
            raise _failed(rebuild, error) from None


def _failed(rebuild: Rebuild, error: PipitError) -> ProjectError:
    """The engine's own words may quote a row; only who deploys reads them."""
    datasource = rebuild.table.datasource
    found = DatafileError(
        f"The rows of '{datasource.name}' cannot be made anew: {error.message}",
        file=datasource.file,
        hint="Nothing was changed. Say in a FORWARD_QUERY what becomes of the rows that are there.",
        reason=Reason.VALUES_DO_NOT_FIT,
        subject=datasource.name,
    )
    return ProjectError([found])


async def _attach(engine: Engine, database: str, source: str, target: str) -> None:
    await engine.command(f"ALTER TABLE {_name(database, target)} ATTACH PARTITION ALL FROM {_name(database, source)}")


async def _quarantined(engine: Engine, old: Table, new: Table) -> None:
    """The rows that were refused before stay to be seen: what the new quarantine has no column for is in no row."""
    image = frozen_of(old.quarantine)
    rows = await engine.rows(
        "SELECT name FROM system.columns WHERE database = {d:String} AND table = {new:String} AND name IN "
        "(SELECT name FROM system.columns WHERE database = {d:String} AND table = {old:String}) ORDER BY position",
        {"d": new.database, "new": new.quarantine, "old": image},
    )
    columns = ", ".join(quote(str(row["name"])) for row in rows)
    into, source = _name(new.database, new.quarantine), _name(new.database, image)
    await engine.command(f"INSERT INTO {into} ({columns}) SELECT {columns} FROM {source}", settings=_FILL)


async def tidy(engine: Engine, plan: Plan) -> None:
    """What was only needed for the fill."""
    for image in plan.frozen:
        await drop(engine, image.table.database, image.image)
    for rebuild in plan.rebuilds:
        table, old = rebuild.table, rebuild.old
        await drop(engine, table.database, side_of(table.physical))
        if old is not None:
            for name in (old.physical, old.quarantine):
                await drop(engine, old.database, frozen_of(name))


async def undo(engine: Engine, rebuild: Rebuild) -> None:
    table = rebuild.table
    for name in (table.physical, table.quarantine, side_of(table.physical)):
        await drop(engine, table.database, name)

"""A condition over the rows of one data source, from a request: checked before it stands in any statement."""

from __future__ import annotations

from pipit.catalog.snapshot import Table
from pipit.engine.client import Engine
from pipit.errors import BadRequest, Reason
from pipit.sql.expressions import ExpressionError, check_condition
from pipit.sql.identifiers import quote


async def checked(engine: Engine, table: Table, condition: str, parameter: str, *, quarantine: bool = False) -> str:
    """One expression over this table's columns, of reviewed functions, that reads nothing else.

    Raises BadRequest, and SqlError where the engine does not take it.
    """
    text = condition.strip()
    if not text:
        raise BadRequest(
            f"The parameter '{parameter}' is missing",
            hint="Truncate the data source to delete all its rows.",
            reason=Reason.PARAMETER_MISSING,
            subject=parameter,
        )
    try:
        check_condition(text)
    except ExpressionError as error:
        raise BadRequest(
            f"{parameter}: {error.message}",
            hint=f"Write one condition over the columns of '{table.name}', such as date >= '2026-01-01'.",
            reason=Reason.PARAMETER_INVALID,
            subject=parameter,
        ) from None
    where = f"{quote(table.database)}.{quote(table.quarantine if quarantine else table.physical)}"
    await engine.query(f"SELECT 1 FROM {where} WHERE ({text}) LIMIT 0", settings={"readonly": 1})
    return text

"""DEFAULT expressions whose value their own column cannot hold: the engine would store another one in silence.

An expression that needs no other column is evaluated once, and its value goes the way of every other
(`ingest/convert.py`). One that reads columns is left to the rows that come.
"""

from __future__ import annotations

from pipit.datafiles.resources import Column, DataSource
from pipit.engine.client import Engine
from pipit.engine.codes import Code
from pipit.errors import DatafileError, SqlError
from pipit.ingest.convert import conversion
from pipit.sql.literals import quote_string

_READS_COLUMNS = frozenset({Code.UNKNOWN_IDENTIFIER, Code.BAD_ARGUMENTS})
_OUT_OF_RANGE = "does not fit"


async def wrong_defaults(engine: Engine, datasource: DataSource) -> list[DatafileError]:
    """The expressions have passed `ddl.problems`."""
    found: list[DatafileError] = []
    for column in datasource.columns:
        if column.default is None or not column.type or "AggregateFunction(" in column.type:
            continue
        if why := await _why_not(engine, column):
            place = column.position
            found.append(
                DatafileError(
                    f"The DEFAULT of '{column.name}' is no value of {column.type}: {why}",
                    file=place.file or datasource.file,
                    line=place.line or 1,
                    column=place.column or 1,
                    hint=f"Write a value that {column.type} can hold, or leave DEFAULT out.",
                )
            )
    return found


async def _why_not(engine: Engine, column: Column) -> str:
    """Empty where nothing is wrong, or nothing can be said."""
    settings = {"readonly": 1}
    expression = f"({column.default})"
    try:
        (row,) = await engine.rows(f"SELECT toTypeName({expression}) AS type", settings=settings)
    except SqlError:
        return ""  # it reads other columns, or the engine says at the table what is wrong with it
    type = str(row["type"])
    if type == "String" and column.type.startswith(("Bool", "Enum")):
        value = "x"  # more words than an event may have
    else:
        value = conversion(type, column.type, "x", _OUT_OF_RANGE).sql
    typed = quote_string(column.type)
    try:
        await engine.rows(
            f"SELECT toString(CAST({value}, {typed})) AS v FROM (SELECT {expression} AS x)", settings=settings
        )
    except SqlError as error:
        if error.engine_code == Code.FUNCTION_THROW_IF_VALUE_IS_NON_ZERO:
            return f"{column.default} does not fit" if len(column.default or "") <= 80 else "it does not fit"
        return "" if error.engine_code in _READS_COLUMNS else error.message
    return ""

"""DEFAULT expressions whose value their own column cannot hold: the engine would store another one in silence.

An expression that is the same for every row is evaluated once, and its value goes the way of every other
(`ingest/convert.py`). One of a clock or of chance is evaluated often. What depends on the row is looked at when the row
comes (`ingest/defaults.py`), and its author learns of it before.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipit.catalog.snapshot import Table
from pipit.datafiles.resources import Column, DataSource
from pipit.datafiles.resources import Warning as ProjectWarning
from pipit.engine.client import Engine
from pipit.engine.codes import Code
from pipit.errors import DatafileError, ProjectError, SqlError
from pipit.ingest.convert import conversion
from pipit.ingest.defaults import CheckedDefault, checked_defaults, unsteady_defaults
from pipit.sql.identifiers import quote
from pipit.sql.lexer import LexerKind, identifier_name, significant, tokenize
from pipit.sql.literals import quote_string
from pipit.suggest import closest

_READS_COLUMNS = frozenset({Code.UNKNOWN_IDENTIFIER, Code.BAD_ARGUMENTS})
_OUT_OF_RANGE = "does not fit"
_DRAWS = 100_000  # of a default of chance


async def wrong_defaults(engine: Engine, datasource: DataSource) -> list[DatafileError]:
    """The expressions have passed `ddl.problems`."""
    found: list[DatafileError] = []
    unsteady = await unsteady_defaults(engine, {c.name: c.default for c in datasource.columns if c.default is not None})
    for column in datasource.columns:
        if column.default is None or not column.type or "AggregateFunction(" in column.type:
            continue
        if why := await _why_not(engine, column, _DRAWS if column.name in unsteady else 1):
            message = f"The DEFAULT of '{column.name}' is no value of {column.type}: {why}"
            hint = f"Write a value that {column.type} can hold, or leave DEFAULT out."
            if column.name in unsteady:
                hint = "It has to fit whenever it is computed. Where cutting is meant, write it: toInt32(rand())."
            found.append(_error(datasource, column, message, hint))
    return found


def _error(datasource: DataSource, column: Column, message: str, hint: str) -> DatafileError:
    place = column.position
    return DatafileError(
        message, file=place.file or datasource.file, line=place.line or 1, column=place.column or 1, hint=hint
    )


async def unreadable_defaults(engine: Engine, datasource: DataSource) -> list[DatafileError]:
    """Those that name what is no column, for a table that the engine refused for such a name."""
    names = [c.name for c in datasource.columns]
    structure = ", ".join(f"{quote(c.name)} {c.type}" for c in datasource.columns if c.type)
    untyped = "".join(f", ({c.default}) AS {quote(c.name)}" for c in datasource.columns if not c.type)
    found: list[DatafileError] = []
    for column in datasource.columns:
        if column.default is None:
            continue
        rows = f"SELECT *{untyped} FROM null({quote_string(structure)})" if structure else "SELECT 1"
        try:
            await engine.rows(f"DESCRIBE (SELECT ({column.default}) FROM ({rows}))", settings={"readonly": 1})
        except SqlError as error:
            if error.engine_code not in _READS_COLUMNS:
                continue
            unknown = [word for word in _bare_words(column.default) if word not in names]
            what = f"'{unknown[0]}', which is no column" if unknown else "what is no column"
            close = closest(unknown[0], names) if unknown else ""
            hint = f"Did you mean '{close}'?" if close else f"The columns are {', '.join(names)[:200]}."
            found.append(_error(datasource, column, f"The DEFAULT of '{column.name}' reads {what}", hint))
    return found


def _bare_words(expression: str) -> list[str]:
    """Names in it that are no functions."""
    tokens = list(significant(tokenize(expression)))
    kinds = (LexerKind.WORD, LexerKind.QUOTED_IDENTIFIER)
    following = [*tokens[1:], None]
    return [
        identifier_name(token)
        for token, after in zip(tokens, following, strict=True)
        if token.kind in kinds and (after is None or after.text != "(")
    ]


def doubtful_defaults(datasource: DataSource, defaults: Sequence[CheckedDefault]) -> list[ProjectWarning]:
    """Of the table's `defaults`, which may give values that do not fit."""
    columns = {c.name: c for c in datasource.columns}
    found: list[ProjectWarning] = []
    for default in defaults:
        column = columns[default.column]
        place = column.position
        message = (
            f"The DEFAULT of '{column.name}' is {default.source}, and the column is {default.type}: "
            f"{', '.join(default.loses)}"
        )
        hint = f"Convert it in the DEFAULT, or let '{column.name}' be {default.source}."
        file = place.file or datasource.file
        found.append(ProjectWarning(file, message, place.line or 1, place.column or 1, hint))
    return found


async def check_rows(engine: Engine, table: Table, column: Column) -> None:
    """Whether the default of a new column fits for the rows that are there: the engine computes it whenever they are
    read, and cuts what does not fit. Raises ProjectError."""
    where = f"{quote(table.database)}.{quote(table.physical)}"
    defaults = await checked_defaults(engine, table.database, table.physical)
    for default in (d for d in defaults if d.column == column.name and d.bad != "false"):
        (row,) = await engine.rows(
            f"SELECT countIf({default.bad}) AS unfit, count() AS all FROM (SELECT {default.named} FROM {where})"
        )
        if int(row["unfit"]):
            message = (
                f"The DEFAULT of the new column '{column.name}' does not fit for {row['unfit']} of the {row['all']} "
                f"rows that are there: it is {default.source}, and the column is {default.type}"
            )
            hint = f"Let '{column.name}' be {default.source}, or convert it in the DEFAULT."
            raise ProjectError([_error(table.datasource, column, message, hint)])


async def _why_not(engine: Engine, column: Column, draws: int) -> str:
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
            f"SELECT max(toString(CAST({value}, {typed}))) AS v "
            f"FROM (SELECT {expression} AS x FROM numbers({draws}))",
            settings=settings,
        )
    except SqlError as error:
        if error.engine_code == Code.FUNCTION_THROW_IF_VALUE_IS_NON_ZERO:
            return f"{column.default} does not fit" if len(column.default or "") <= 80 else "it does not fit"
        return "" if error.engine_code in _READS_COLUMNS else error.message
    return ""

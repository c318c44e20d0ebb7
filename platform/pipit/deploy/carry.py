"""What becomes of the rows that are there when their table gets a new generation: a SELECT over the old ones, checked.

It is the data source's FORWARD_QUERY, or, without one, its columns as they are. Every value goes through the checked
conversions (`ingest/convert.py`), and none is rounded: where one does not fit, the deployer is told how many, some of
them, and the FORWARD_QUERY to write. The statement is the project's own SQL: it is composed, examined and confined as
that of a pipe is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pipit.catalog.snapshot import Snapshot, Table
from pipit.datafiles.resources import Column, DataSource
from pipit.deploy.plan import Refusal
from pipit.engine.client import Engine, Settings
from pipit.errors import DatafileError, PipitError, Reason, SqlError, Unavailable
from pipit.ingest.convert import ELEMENTS, conversion, type_of
from pipit.ingest.match import Match, Narrowed, matched
from pipit.ingest.types import strip
from pipit.query.compose import Composed, Composer
from pipit.query.examine import Examiner
from pipit.sql.identifiers import quote
from pipit.sql.lexer import LexerKind, significant, tokenize
from pipit.sql.references import single_statement, trailing_clauses
from pipit.tables.ddl import create_table, position_of, problems
from pipit.tables.ddl_check import checked
from pipit.tables.scratch import scratch_database
from pipit.templates import Binder

_SAMPLES = 3
_SAMPLE_LENGTH = 60
_HINT = "A SELECT that gives the new columns from the old ones, such as SELECT id, toString(code) AS code."


@dataclass(frozen=True, slots=True)
class Carry:
    """`match`: what the new table takes of the statement that `select_of` makes. `defaulted`: the columns that get
    their defaults, since the statement does not give them."""

    datasource: DataSource
    match: Match
    defaulted: tuple[str, ...] = ()

    @property
    def is_forward(self) -> bool:
        return bool(self.datasource.forward_query)


@dataclass(slots=True)
class Carries:
    found: dict[str, Carry] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)


def select_of(live: Snapshot, datasource: DataSource) -> Composed:
    """The statement over the rows that are there, wherever the names of `live` say that they are. Raises SqlError."""
    name = datasource.name
    if datasource.forward_query:
        text = single_statement(datasource.forward_query)
        if not _has_from(text):
            text = f"{text}\nFROM {'.'.join(map(quote, name.split('.')))} AS {quote(name.rpartition('.')[2])}"
    else:
        table = live.tables[name]
        new = {column.name for column in datasource.columns}
        both = [quote(c.name) for c in table.datasource.columns if c.name in new]
        text = f"SELECT {', '.join(both) or 'NULL AS `_none`'} FROM {'.'.join(map(quote, name.split('.')))}"
    return Composer().sql(live, text, {}, Binder())


async def carries(engine: Engine, live: Snapshot, new: Iterable[DataSource]) -> Carries:
    """For each of these data sources, which are live and get new tables. Raises Unavailable."""
    result = Carries()
    wanted = list(new)
    if not wanted:
        return result
    async with scratch_database(engine) as database:
        for number, datasource in enumerate(wanted):
            try:
                await _carry(engine, live, datasource, database, f"t{number}", result)
            except Unavailable:
                raise
            except PipitError as error:
                if datasource.forward_query:
                    result.refusals.append(_refused(datasource, f"FORWARD_QUERY: {error.message}", error.hint or _HINT))
                else:  # what is wrong with the new table, its validation says
                    result.refusals.append(_refused(datasource, error.message, error.hint))
    return result


async def _carry(
    engine: Engine, live: Snapshot, datasource: DataSource, database: str, table: str, result: Carries
) -> None:
    if problems(datasource):  # the validation says them
        return
    try:
        await engine.command(await checked(engine, create_table(datasource, database, table)))
    except Unavailable:
        raise
    except PipitError:
        return
    old = live.tables[datasource.name]
    if datasource.forward_query and trailing_clauses(single_statement(datasource.forward_query)):
        raise SqlError("it is not a SELECT", hint=_HINT)
    composed = select_of(live, datasource)
    await Examiner(engine).examine(live, composed, Binder())
    match = await matched(
        engine,
        composed.sql,
        database=database,
        table=table,
        name=datasource.name,
        settings=composed.settings,
    )
    if datasource.forward_query and match.unknown:
        unknown = match.unknown[0]
        message = f"FORWARD_QUERY gives '{unknown}', which is no column of '{datasource.name}'"
        result.refusals.append(_refused(datasource, message, "Leave it out, or add the column to the SCHEMA."))
        return
    (counted,) = await engine.rows(f"SELECT count() AS n FROM {_quoted(old)}")
    rows = int(counted["n"])
    columns = {column.name: column for column in datasource.columns}
    missing = [name for name, _ in match.missing]
    without = [columns[name] for name in missing if name in columns and not _has_value(columns[name])]
    if rows and without:
        result.refusals += [_no_value(datasource, column, rows) for column in without]
        return
    if rows:
        result.refusals += await _unfit(engine, datasource, composed, match, old)
    result.found[datasource.name] = Carry(datasource, match, tuple(missing))


def _has_value(column: Column) -> bool:
    """For rows that do not give it."""
    return column.jsonpath is None or column.nullable or column.default is not None


def _quoted(table: Table) -> str:
    return f"{quote(table.database)}.{quote(table.physical)}"


async def _unfit(
    engine: Engine, datasource: DataSource, composed: Composed, match: Match, old: Table
) -> list[Refusal]:
    """The columns of which a value does not fit, or would be rounded, each with the count and some of the values."""
    columns = {column.name: column for column in datasource.columns}
    asked = [one for one in match.narrowed if one.name in columns]
    if not asked:
        return []
    tests = [f"{_lost(one, columns[one.name])} AS _pipit_lost_{n}" for n, one in enumerate(asked)]
    counts = [
        f"countIf(_pipit_lost_{n}) AS n{n}, arrayMap(_pipit_x -> leftUTF8(_pipit_x, {_SAMPLE_LENGTH}), "
        f"groupUniqArrayIf({_SAMPLES})(ifNull(toString({quote(one.name)}), 'NULL'), _pipit_lost_{n})) AS s{n}"
        for n, one in enumerate(asked)
    ]
    sql = f"SELECT {', '.join(counts)} FROM (SELECT *, {', '.join(tests)} FROM ({composed.sql}))"
    settings: Settings = {**composed.settings, "readonly": 1, "short_circuit_function_evaluation": "force_enable"}
    (row,) = await engine.rows(sql, settings=settings)
    found: list[Refusal] = []
    for n, one in enumerate(asked):
        if int(row[f"n{n}"]):
            found.append(_does_not_fit(datasource, one, int(row[f"n{n}"]), row[f"s{n}"], old))
    return found


def _lost(narrowed: Narrowed, column: Column) -> str:
    """Whether the value of a row does not come through as it is. Raises nothing."""
    if ELEMENTS in narrowed.loses:
        return "1"
    x = quote(narrowed.name)
    to = conversion(narrowed.source, narrowed.target, x, "", null_is_default=column.default is not None)
    inner, source = strip(type_of(narrowed.target))[0], strip(type_of(narrowed.source))[0]
    value = f"CAST({to.value}, 'Nullable({inner.text})')".replace("'Nullable(", "'Nullable(")
    back = f"accurateCastOrNull({value}, '{_escaped(source.text)}')"
    return f"if({to.bad}, 1, ifNull(isNotNull({x}) AND {back} != {x}, 1))"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _does_not_fit(datasource: DataSource, one: Narrowed, count: int, samples: object, old: Table) -> Refusal:
    listed = ", ".join(map(str, samples)) if isinstance(samples, list) else str(samples)
    others = ", ".join(c.name for c in datasource.columns if c.name != one.name and _is_of(c, old))
    message = (
        f"{count:,} row{'' if count == 1 else 's'} of '{datasource.name}' hold a value of '{one.name}' that does not "
        f"fit into {one.target}, such as: {listed}"
    )
    query = f"SELECT {others + ', ' if others else ''}accurateCastOrDefault({one.name}, '{one.target}') AS {one.name}"
    hint = f"Say what becomes of them, in the data source's file, such as: FORWARD_QUERY > {query}"
    at = next(c for c in datasource.columns if c.name == one.name).position
    error = DatafileError(
        message,
        file=at.file or datasource.file,
        line=at.line,
        column=at.column,
        hint=hint,
        reason=Reason.VALUES_DO_NOT_FIT,
        subject=datasource.name,
    )
    return Refusal(Reason.VALUES_DO_NOT_FIT, datasource.name, error)


def _is_of(column: Column, table: Table) -> bool:
    return any(c.name == column.name for c in table.datasource.columns)


def _no_value(datasource: DataSource, column: Column, rows: int) -> Refusal:
    at = column.position
    error = DatafileError(
        f"The new column '{column.name}' has no value for the rows that are there ({rows:,})",
        file=at.file or datasource.file,
        line=at.line,
        column=at.column,
        hint=f"Make it Nullable({column.type}), give it a DEFAULT, or say what it is in a FORWARD_QUERY.",
        reason=Reason.NO_VALUE_FOR_ROWS,
        subject=datasource.name,
    )
    return Refusal(Reason.NO_VALUE_FOR_ROWS, datasource.name, error)


def _refused(datasource: DataSource, message: str, hint: str) -> Refusal:
    place = position_of(datasource, "FORWARD_QUERY" if datasource.forward_query else "SCHEMA")
    error = DatafileError(
        message,
        file=place.file or datasource.file,
        line=place.line or 1,
        column=place.column or 1,
        hint=hint,
        subject=datasource.name,
    )
    return Refusal(error.reason, datasource.name, error)


def _has_from(sql: str) -> bool:
    """Whether the outermost SELECT says what it reads."""
    depth = 0
    for token in significant(tokenize(sql)):
        if token.text in ("(", "["):
            depth += 1
        elif token.text in (")", "]"):
            depth -= 1
        elif depth == 0 and token.kind is LexerKind.WORD and token.text.upper() == "FROM":
            return True
    return False

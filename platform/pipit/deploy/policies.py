"""Tries each ROW_POLICY in the engine before anything is deployed: over the table itself, and over rows.

Over the table, as a read would carry it: a bad column must not wait for the first read. Over rows, because only values
show what the engine converts: a text that it would read as a number, a date or an address is refused here, where the
condition's own text cannot show it (inside of a function, a Tuple or a Map). Measured on chDB 4.2: a constant is
converted to what it meets, the same text under `materialize()` never is, and IN with constants fails on the value.
"""

from __future__ import annotations

from pipit.access.policy import Policy
from pipit.catalog.snapshot import Snapshot, Table, mixed_columns
from pipit.engine import Engine
from pipit.engine.codes import Code
from pipit.errors import DatafileError, PipitError, Reason, SqlError, Unavailable
from pipit.query.secure import filter_setting
from pipit.sql.identifiers import quote
from pipit.sql.literals import quote_string
from pipit.sql.mixed import settled
from pipit.tables.scratch import logical

# ILLEGAL_TYPE_OF_ARGUMENT, TYPE_MISMATCH, NO_COMMON_TYPE: a text stands where the engine has something else.
_CONVERTED = frozenset({Code.ILLEGAL_TYPE_OF_ARGUMENT, Code.TYPE_MISMATCH, Code.NO_COMMON_TYPE})
# CANNOT_PARSE_TEXT, _NUMBER, _DATE, _DATETIME, _UUID and kin: the text was already on its way to another type.
_PARSED = frozenset(
    {
        Code.CANNOT_PARSE_TEXT,
        Code.CANNOT_PARSE_INPUT_ASSERTION_FAILED,
        Code.CANNOT_PARSE_DATE,
        Code.CANNOT_PARSE_DATETIME,
        Code.CANNOT_PARSE_NUMBER,
        Code.CANNOT_PARSE_UUID,
        Code.CANNOT_PARSE_IPV4,
        Code.CANNOT_PARSE_IPV6,
    }
)
_MESSAGE = "the engine would read a text of the context as another type, maybe as another value"
_HINT = "Give the value the column's own type, {{UInt64(context.key)}} and the like, or compare CAST(column AS String)."
_AS_TEXT = ("UUID", "IPv4", "IPv6")  # a text is one address at most, and what is none is refused


async def try_policies(engine: Engine, snapshot: Snapshot, skipped: set[str]) -> list[DatafileError]:
    """What is wrong with the policies of the snapshot's tables, which are in the engine but for those `skipped`."""
    errors: list[DatafileError] = []
    for table in snapshot.tables.values():
        if table.policy is None or table.name in skipped:
            continue
        try:
            await _try_on_table(engine, table, table.policy)
        except Unavailable:
            raise
        except PipitError as error:
            hint = _HINT if isinstance(error, SqlError) and error.engine_code in _CONVERTED | _PARSED else ""
            errors.append(_error(table, logical(error.message, snapshot), hint))
            continue
        if await _converts(engine, table, table.policy):
            errors.append(_error(table, _MESSAGE, _HINT))
    return errors


async def _try_on_table(engine: Engine, table: Table, policy: Policy) -> None:
    name = f"{table.database}.{table.physical}"
    filters = filter_setting({name: settled(policy.example(), mixed_columns(table.datasource))})
    settings: dict[str, str | int | float] = {"readonly": 1, "additional_table_filters": filters}
    statement = f"SELECT 1 FROM {quote(table.database)}.{quote(table.physical)}"
    await engine.query(statement, settings=settings, format="Null")


async def _converts(engine: Engine, table: Table, policy: Policy) -> bool:
    types = {column.name: column.type for column in table.datasource.columns if column.name in policy.columns}
    if not types or policy.example() == policy.example(converted=False):
        return False
    for given in (False, True):
        condition = settled(policy.example(converted=given), mixed_columns(table.datasource))
        columns = types if given else {name: _as_text(type) for name, type in types.items()}
        structure = quote_string(", ".join(f"{quote(name)} {type}" for name, type in columns.items()))
        rows = f"(SELECT * FROM generateRandom({structure}, 1, 8, 4) LIMIT 20)"
        try:
            await engine.query(f"SELECT count() FROM {rows} WHERE {condition}", settings={"readonly": 1}, format="Null")
        except SqlError as error:
            if error.engine_code in _CONVERTED:
                return True
    return False


def _as_text(type: str) -> str:
    for name in _AS_TEXT:
        type = type.replace(name, "String")
    return type


def _error(table: Table, message: str, hint: str = "") -> DatafileError:
    place = table.datasource.row_policy.position if table.datasource.row_policy else None
    return DatafileError(
        f"ROW_POLICY: {message}",
        file=(place.file if place else "") or table.datasource.file,
        line=place.line if place else 1,
        column=place.column if place else 1,
        hint=hint,
        reason=Reason.POLICY_INVALID,
        subject=table.name,
    )

"""Where a context value may stand in a policy, and which values: none may meet another tenant's rows (attack A26)."""

from __future__ import annotations

import pytest

from pipit.access.context import SecurityContext, TokenKind
from pipit.access.policy import Policy
from pipit.datafiles.resources import Column, DataSource, RowPolicy
from pipit.errors import DatafileError, Forbidden, ProjectError
from serving import Workspace

COLUMNS = (
    Column("s", "String"),
    Column("n", "UInt64"),
    Column("a", "Array(String)"),
    Column("e", "Enum8('a' = 1, 'b' = 2)"),
    Column("m", "Map(String, UInt64)"),
    Column("t", "Tuple(String, UInt64)"),
    Column("dec", "Decimal(9, 2)"),
    Column("u", "UUID"),
    Column("day", "Date"),
    Column("at", "DateTime"),
    Column("ms", "DateTime64(3)"),
    Column("us", "DateTime64(6, 'UTC')"),
    Column("maybe", "LowCardinality(Nullable(String))"),
)


def policy(condition: str) -> Policy:
    return Policy.compile(DataSource("events", "events.datasource", COLUMNS, row_policy=RowPolicy(condition)))


def tenant(value: object) -> SecurityContext:
    return SecurityContext("w", TokenKind.JWT, "acme", (), {"x": value})  # type: ignore[dict-item]


MISPLACED = {
    "s LIKE {{String(context.x)}}": "beside LIKE",
    "s ILIKE {{String(context.x)}}": "beside ILIKE",
    "s NOT LIKE {{String(context.x)}}": "beside LIKE",
    "s REGEXP {{String(context.x)}}": "beside REGEXP",
    "match(s, {{String(context.x)}})": "match()",
    "startsWith(s, {{String(context.x)}})": "startsWith()",
    "position(s, {{String(context.x)}}) > 0": "position()",
    "n = toUInt8({{UInt64(context.x)}})": "toUInt8()",
    "n = toUInt64OrZero({{String(context.x)}})": "toUInt64OrZero()",
    "s = concat({{String(context.x)}}, s)": "concat()",
    "s = {{String(context.x)}} || s": "beside ||",
    "n + {{UInt64(context.x)}} = 3": "beside +",
    "n = - {{UInt64(context.x)}}": "beside -",
    "n % {{UInt64(context.x)}} = 0": "beside %",
    "m[{{String(context.x)}}] = 1": "m[]",
    "lower(m[lower({{String(context.x)}})]) = 1": "m[]",
    "e = {{String(context.x)}}": "an Enum",
    "e IN {{Array(context.x)}}": "an Enum",
    "(s, e) = ('a', {{String(context.x)}})": "an Enum",
    "n = {{String(context.x)}}": "a number, with a text",
}


@pytest.mark.parametrize(("condition", "why"), MISPLACED.items(), ids=MISPLACED.keys())
def test_a_value_stands_where_it_is_compared_as_what_it_is(condition: str, why: str) -> None:
    with pytest.raises(DatafileError) as caught:
        policy(condition)
    assert why in caught.value.message
    assert caught.value.hint


TAKEN = [
    "s = {{String(context.x)}}",
    "{{String(context.x)}} = s OR s = 'public'",
    "lower(s) = lower({{String(context.x)}})",
    "s IN {{Array(context.x)}} AND n > 5",
    "s IN ({{String(context.x)}}, 'shared')",
    "has(a, {{String(context.x)}})",
    "arrayExists(one -> one = {{String(context.x)}}, a)",
    "n BETWEEN {{UInt64(context.x)}} AND {{UInt64(context.y)}}",
    "toString(e) = {{String(context.x)}}",
    "CAST(e AS String) = {{String(context.x)}}",
    "e::String = {{String(context.x)}}",
    "(s, n) = ({{String(context.x)}}, {{UInt64(context.y)}})",
    "(s, n) IN (({{String(context.x)}}, {{UInt64(context.y)}}))",
    "if(n = 1, s, s) = {{String(context.x)}}",
    "u = {{String(context.x)}}",
    "maybe = {{String(context.x)}}",
    "coalesce(maybe, s) = {{String(context.x)}}",
    "dec = {{Int64(context.x)}}",
    "ms >= {{DateTime64(context.x)}} AND at < {{DateTime(context.y)}} AND day = {{Date(context.z)}}",
    "CASE WHEN n = 1 THEN s = {{String(context.x)}} ELSE s = 'q' END",
    "m['n'] = {{UInt64(context.x)}}",
    "t.1 = {{String(context.x)}}",
]


@pytest.mark.parametrize("condition", TAKEN)
@pytest.mark.anyio
async def test_an_honest_policy_deploys(workspace: Workspace, condition: str) -> None:
    await workspace.deploy(project(condition))


CONVERTED = [
    "equals(n, {{String(context.x)}})",
    "n BETWEEN {{String(context.x)}} AND {{String(context.y)}}",
    "(s, n) = ('a', {{String(context.x)}})",
    "(s, n) IN (('a', {{String(context.x)}}))",
    "m['n'] = {{String(context.x)}}",
    "t.2 = {{String(context.x)}}",
    "t = ('a', {{String(context.x)}})",
    "(n + 1) = {{String(context.x)}}",
    "plus(n, 1) IN {{Array(context.x)}}",
    "CASE WHEN n = 1 THEN n = ({{String(context.x)}}) ELSE n + 1 = {{String(context.x)}} END",
    "if(n = 1, dec, dec) = {{String(context.x)}}",
    "day = {{String(context.x)}}",
    "at >= {{String(context.x)}}",
    "ms IN {{Array(context.x)}}",
]


def project(condition: str) -> dict[str, str]:
    columns = ",\n".join(f"    `{c.name}` {c.type} `json:$.{c.name}`" for c in COLUMNS)
    return {"datasources/events.datasource": f"SCHEMA >\n{columns}\n\nROW_POLICY >\n    {condition}\n"}


@pytest.mark.parametrize("condition", CONVERTED)
@pytest.mark.anyio
async def test_a_text_that_the_engine_converts_is_found_at_deploy(workspace: Workspace, condition: str) -> None:
    """What its text cannot show: '18446744073709551658' inside of a function is the UInt64 42."""
    with pytest.raises(ProjectError) as caught:
        await workspace.deploy(project(condition))
    (error,) = caught.value.errors
    assert "ROW_POLICY" in error.message or "a number, with a text" in error.message
    assert (error.file, error.line) == ("datasources/events.datasource", 16 + 1)
    assert error.hint and "pipitcheck" not in str(error)


@pytest.mark.parametrize(
    ("condition", "hint"),
    [
        ("day = {{DateTime(context.x)}}", "own type"),
        ("at = {{DateTime64(context.x)}}", "own type"),
        ("s = {{DateTime(context.x)}}", "own type"),
        ("day = {{DateTime64(context.x)}}", "own type"),
    ],
)
def test_a_date_stands_beside_a_column_that_holds_it(condition: str, hint: str) -> None:
    with pytest.raises(DatafileError, match="the engine would cut it") as caught:
        policy(condition)
    assert hint in caught.value.hint


VALUES = [
    # the condition, values that are taken with what is printed, values that are refused
    ("day = {{Date(context.x)}}", {"1970-01-01": "'1970-01-01'"}, ["1969-12-31", "2149-06-07", "2024-1-01", "2024-01-01x"]),
    (
        "at = {{DateTime(context.x)}}",
        {"2024-01-01T10:00:00": "'2024-01-01 10:00:00'", "2106-02-07 06:28:15": "'2106-02-07 06:28:15'"},
        ["2106-02-07 06:28:16", "1969-12-31 23:59:59", "2024-01-01 10:00:00.5", "2024-01-01", "2024-01-01 10:00:00Z"],
    ),
    (
        "ms = {{DateTime64(context.x)}}",
        {"2024-01-01 10:00:00.123": "'2024-01-01 10:00:00.123'", "2024-01-01 10:00:00.500000": "'2024-01-01 10:00:00.5'"},
        ["2024-01-01 10:00:00.1234", "1899-12-31 23:59:59.000", "2262-04-11 00:00:00.000", "2024-01-01 10:00:00.1234567890"],
    ),
    ("us = {{DateTime64(context.x)}}", {"2024-01-01 10:00:00.123456": "'2024-01-01 10:00:00.123456'"}, []),
    ("n = {{Float64(context.x)}}", {2**53: "9007199254740992.0"}, [2**53 + 1, "9007199254740993", "9007199254740993.0", "9007199254740993e0", "1e999", 10**400]),
    ("n = {{Float32(context.x)}}", {2**24: "CAST('16777216.0', 'Float32')"}, [2**24 + 1, "16777217", 10**39]),
]


@pytest.mark.parametrize(("condition", "taken", "refused"), VALUES, ids=[v[0] for v in VALUES])
def test_a_value_that_would_become_another_one_is_refused(
    condition: str, taken: dict[object, str], refused: list[object]
) -> None:
    compiled = policy(condition)
    name = condition.partition(" ")[0]
    for value, printed in taken.items():
        assert " ".join(compiled.filter_for(tenant(value)).split()) == f"({name} = {printed})"
    for value in refused:
        with pytest.raises(Forbidden, match="'x' is not a value of type"):
            compiled.filter_for(tenant(value))

"""The clock that stands still: every call of it, and nothing that only looks like one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pipit.engine import Engine
from pipit.errors import BadRequest
from pipit.testing.clock import parse_moment, stop_clock

MOMENT = datetime(2024, 1, 31, 12, 0, 0, tzinfo=UTC)


def stopped(sql: str) -> str:
    return stop_clock({"p.pipe": sql}, MOMENT).files["p.pipe"]


@pytest.mark.parametrize(
    ("call", "value"),
    [
        ("now()", "2024-01-31 12:00:00"),
        ("NOW ( )", "2024-01-31 12:00:00"),
        ("now('Asia/Tokyo')", "2024-01-31 21:00:00"),
        ("now64()", "2024-01-31 12:00:00.000"),
        ("now64(6, 'Asia/Tokyo')", "2024-01-31 21:00:00.000000"),
        ("today()", "2024-01-31"),
        ("yesterday()", "2024-01-30"),
        ("today() - 1", "2024-01-30"),
        ("toStartOfMonth(now())", "2024-01-01"),
    ],
)
@pytest.mark.anyio
async def test_each_call_gives_the_moment(engine: Engine, call: str, value: str) -> None:
    rows = await engine.rows(
        f"SELECT toString({stopped(call)}) AS v, toTypeName({stopped(call)}) AS s, toTypeName({call}) AS t"
    )
    assert rows[0]["v"] == value
    assert rows[0]["s"].startswith(rows[0]["t"].partition("(")[0])


@pytest.mark.parametrize(
    "text", ["'now()'", "-- now()", "t.now()", "now", "nowish()", "today(x)", "`now`()", "x AS today"]
)
def test_nothing_else_changes(text: str) -> None:
    found = stop_clock({"p.pipe": text, "notes.txt": "now()"}, MOMENT)
    assert found.files == {"p.pipe": text, "notes.txt": "now()"}
    assert found.replaced == 0


def test_calls_in_templates_and_defaults() -> None:
    files = {
        "a.pipe": "NODE n\nSQL >\n    %\n    SELECT {{Int32(a, 1)}} WHERE d > now() - INTERVAL {{Int32(n, 7)}} DAY\n",
        "b.datasource": "SCHEMA >\n    `t` DateTime `json:$.t` DEFAULT now()\n",
    }
    found = stop_clock(files, MOMENT)
    assert found.replaced == 2
    assert "d > toDateTime(1706702400) - INTERVAL {{Int32(n, 7)}} DAY" in found.files["a.pipe"]
    assert "DEFAULT toDateTime(1706702400)" in found.files["b.datasource"]


@pytest.mark.parametrize("text", ["2024-01-31T12:00:00Z", "2024-01-31 12:00", "2024-01-31 13:00:00+01:00"])
def test_how_a_moment_is_written(text: str) -> None:
    assert parse_moment(text) == MOMENT


def test_a_moment_that_is_none() -> None:
    with pytest.raises(BadRequest, match="is not a time"):
        parse_moment("noon")


def test_an_apostrophe_in_prose_does_not_hide_the_calls() -> None:
    text = "DESCRIPTION It's now()\n# isn't\nNODE n\nDESCRIPTION >\n    it's\nSQL >\n    SELECT today()\n"
    assert stop_clock({"p.pipe": text}, MOMENT).replaced == 1

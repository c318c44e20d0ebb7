"""A DEFAULT that gives a value which its column cannot hold: the row is refused as other bad rows, and nothing is cut."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pipit.datafiles.resources import Column
from pipit.engine import Engine

from .test_isolate import together
from .test_service import lines, make_place

pytestmark = pytest.mark.anyio


def column(name: str, type: str, default: str = "", *, path: bool = True) -> Column:
    each = "[:]" if type.startswith("Array") else ""
    return Column(name, type, f"$.{name}{each}" if path else None, default or None)


ID = column("id", "UInt32")
# Columns; values that fit, and what is stored for them; values that do not.
CASES: list[tuple[list[Column], list[tuple[dict[str, Any], Any]], list[dict[str, Any]]]] = [
    ([column("x2", "Int64"), column("c", "Int8", "x2")], [({"x2": 100}, 100), ({"x2": 300, "c": 5}, 5)], [{"x2": 300}]),
    (
        [column("x2", "Int64"), column("c", "Int8", "x2", path=False)],
        [({"x2": -128}, -128), ({"x2": 7, "c": 300}, 7)],
        [{"x2": 300}, {"x2": -129}],
    ),
    (
        [column("x2", "Int64"), column("c", "Nullable(Int8)", "x2")],
        [({"x2": 100}, 100), ({"x2": 300, "c": None}, None), ({"x2": 300, "c": 1}, 1)],
        [{"x2": 300}],
    ),
    ([column("x2", "Int64"), column("c", "LowCardinality(UInt8)", "x2 * 2")], [({"x2": 5}, 10)], [{"x2": 128}]),
    (
        [column("ts", "DateTime('UTC')"), column("c", "UInt16", "toYYYYMM(ts)", path=False)],
        [],
        [{"ts": "2026-11-27 10:00:00"}],
    ),
    (
        [column("ts", "DateTime('UTC')"), column("c", "UInt32", "toYYYYMM(ts)", path=False)],
        [({"ts": "2026-11-27 10:00:00"}, 202611)],
        [],
    ),
    (
        [column("ts", "DateTime64(3, 'UTC')"), column("c", "DateTime('UTC')", "ts")],
        [({"ts": "2026-11-27 10:00:00.5"}, "2026-11-27 10:00:00")],
        [{"ts": "2200-01-01 00:00:00"}],
    ),
    (
        [column("d", "Decimal(12, 4)"), column("c", "Decimal(5, 2)", "d")],
        [({"d": "1.2350"}, 1.24), ({"d": "999.9949"}, 999.99), ({"d": "-1.2350"}, -1.24)],
        [{"d": "1000"}, {"d": "999.9950"}],
    ),
    ([column("f", "Float64"), column("c", "Int32", "f", path=False)], [({"f": 3.0}, 3)], [{"f": 1.9}, {"f": 1e12}]),
    (
        [column("s", "String"), column("c", "UInt8", "s", path=False)],
        [({"s": "7"}, 7)],
        [{"s": "300"}, {"s": "seven"}],
    ),
    (
        [column("x2", "Int64"), column("c", "Array(UInt8)", "[x2]")],
        [({"x2": 5}, [5]), ({"x2": 500, "c": [1]}, [1]), ({"x2": 500, "c": []}, [])],
        [{"x2": 300}],
    ),
    (
        [column("x2", "Int64"), column("c", "Map(String, Int8)", "map('a', x2)")],
        [({"x2": 5}, {"a": 5}), ({"x2": 500, "c": {"b": 1}}, {"b": 1})],
        [{"x2": 300}],
    ),
    (
        [column("x2", "Int64"), column("c", "Tuple(a UInt8, b String)", "tuple(x2, 'z')")],
        [({"x2": 5}, {"a": 5, "b": "z"})],
        [{"x2": 300}],
    ),
    # A default that reads a default; the one in between does not come with the event.
    (
        [column("x2", "Int64"), column("k", "Int64", "x2 * 3", path=False), column("c", "UInt8", "k + 1", path=False)],
        [({"x2": 5}, 16)],
        [{"x2": 100}],
    ),
    (
        [column("x2", "Int64", "299"), column("c", "Int8", "x2 - 200")],
        [({}, 99), ({"x2": 201}, 1)],
        [{"x2": 500}],
    ),
    ([column("x2", "Int64"), column("k", "Int8", "x2"), column("c", "Int16", "k")], [({"x2": 5}, 5)], [{"x2": 300}]),
    # One that throws by itself: the rows are told apart by trying.
    (
        [column("s", "String"), column("c", "UInt8", "toInt64(s)", path=False)],
        [({"s": "7"}, 7)],
        [{"s": "300"}, {"s": "seven"}],
    ),
    (
        [column("s", "String"), column("c", "Nullable(UInt8)", "toInt64(s)")],
        [({"s": "7"}, 7), ({"s": "400", "c": 3}, 3)],
        [{"s": "300"}, {"s": "seven"}],
    ),
]


@pytest.mark.parametrize(("columns", "good", "bad"), CASES)
async def test_a_default_that_does_not_fit_is_refused_and_others_are_stored(
    engine: Engine,
    tmp_path: Path,
    columns: list[Column],
    good: list[tuple[dict[str, Any], Any]],
    bad: list[dict[str, Any]],
) -> None:
    place = await make_place(engine, tmp_path, columns=(ID, *columns))
    async with place.ingest() as ingest:
        mine = [{"id": n, **row} for n, (row, _) in enumerate(good)]
        theirs = [{"id": 100 + n, **row} for n, row in enumerate(bad)]
        requests = [some for some in (mine, theirs, [*theirs, *mine]) if some]
        told, _ = await asyncio.wait_for(together(place, ingest, *requests), 60)
    assert sum(one.successful_rows for one in told) == 2 * len(good)
    assert sum(one.quarantined_rows for one in told) == 2 * len(bad)
    rows = await engine.rows(f"SELECT DISTINCT id, c FROM `{place.database}`.d1_events ORDER BY id")
    assert [row["c"] for row in rows] == [value for _, value in good]
    reasons = await engine.rows(f"SELECT c__error AS why, c__record AS line FROM `{place.database}`.q1_events")
    assert len(reasons) == 2 * len(bad) and all(len(row["why"]) == 1 for row in reasons)


async def test_the_quarantine_says_what_did_not_fit(engine: Engine, tmp_path: Path) -> None:
    place = await make_place(engine, tmp_path, columns=(ID, column("x2", "Int64"), column("c", "Int8", "x2 * 2")))
    async with place.ingest() as ingest:
        await ingest.append(place.target, lines({"id": 1, "x2": 150}), wait=True)
    (row,) = await engine.rows(f"SELECT c__error_column AS name, c__error AS why FROM `{place.database}`.q1_events")
    assert row == {"name": ["c"], "why": ["value '300', the DEFAULT of column 'c', is not Int8"]}


@pytest.mark.parametrize(
    ("columns", "stored"),
    [
        # What a default reads need not come with the event.
        ([column("k", "String", path=False), column("c", "Array(String)", "[k, 'x']")], ["", "x"]),
        ([column("k", "String", "'k'", path=False), column("c", "Array(String)", "[k]")], ["k"]),
        ([column("k", "UInt8", path=False), column("c", "Nullable(UInt8)", "k + 1")], 1),
        ([column("k", "Nullable(UInt8)", path=False), column("c", "Nullable(UInt8)", "k")], None),
        (
            [column("k", "Enum8('a' = 1, 'b' = 2)", path=False), column("c", "Map(String, UInt8)", "map(k, 1)")],
            {"a": 1},
        ),
        (
            [
                column("k", "Array(UInt8)", "[j]", path=False),
                column("j", "UInt8", "7", path=False),
                column("c", "Array(UInt8)", "k"),
            ],
            [7],
        ),
        (
            [
                column("k", "AggregateFunction(sum, UInt8)", path=False),
                column("c", "Nullable(UInt64)", "finalizeAggregation(k)"),
            ],
            0,
        ),
    ],
)
async def test_a_default_may_read_a_column_without_a_jsonpath(
    engine: Engine, tmp_path: Path, columns: list[Column], stored: Any
) -> None:
    place = await make_place(engine, tmp_path, columns=(ID, *columns))
    async with place.ingest() as ingest:
        told = await asyncio.wait_for(ingest.append(place.target, lines({"id": 1}), wait=True), 30)
    assert (told.successful_rows, told.quarantined_rows) == (1, 0)
    (row,) = await engine.rows(f"SELECT c FROM `{place.database}`.d1_events")
    assert row["c"] == stored


async def test_two_defaults_of_chance_agree(engine: Engine, tmp_path: Path) -> None:
    columns = (ID, column("k", "UInt64", "rand64()", path=False), column("c", "Array(UInt64)", "[k]"))
    place = await make_place(engine, tmp_path, columns=columns)
    async with place.ingest() as ingest:
        await ingest.append(place.target, lines(*({"id": n} for n in range(20))), wait=True)
    sql = f"SELECT countIf(c = [k]) AS n, uniqExact(k) AS different FROM `{place.database}`.d1_events"
    assert await engine.rows(sql) == [{"n": 20, "different": 20}]


@pytest.mark.parametrize(
    ("default", "fits"),
    [("rand() % 200 + 10", True), ("toYYYYMM(now())", False), ("rand() % 10 + 300", False), ("rand() % 2 + n", False)],
)
async def test_a_default_of_chance_or_a_clock(engine: Engine, tmp_path: Path, default: str, fits: bool) -> None:
    columns = (ID, column("n", "UInt16"), column("c", "UInt8", default, path=False))
    place = await make_place(engine, tmp_path, columns=columns)
    async with place.ingest() as ingest:
        rows = [{"id": n, "n": 300} for n in range(20)]
        told = await asyncio.wait_for(ingest.append(place.target, lines(*rows), wait=True), 60)
    assert (told.successful_rows, told.quarantined_rows) == ((20, 0) if fits else (0, 20))
    assert (await place.count(), await place.count("q1_events")) == ((20, 0) if fits else (0, 20))


async def test_partitions_over_columns_that_only_have_a_default(engine: Engine, tmp_path: Path) -> None:
    columns = (ID, column("n", "UInt32"), column("day", "UInt32", "n % 300", path=False))
    place = await make_place(engine, tmp_path, "day", columns)
    async with place.ingest() as ingest:
        told = await ingest.append(place.target, lines(*({"id": n, "n": n} for n in range(600))), wait=True)
    assert (told.successful_rows, await place.count()) == (600, 600)

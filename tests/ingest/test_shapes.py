"""Values of another shape than the column's: refused with a reason and kept, never cut, emptied or guessed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ingest.sheet import Sheet, c
from pipit.datafiles.resources import Column
from pipit.engine import Engine
from pipit.errors import BadRequest
from pipit.ingest import Ingest, Target, parse
from pipit.tables import Locks

pytestmark = pytest.mark.anyio


@pytest.fixture
async def sheet(engine: Engine, tmp_path: Path) -> AsyncIterator[Sheet]:
    yield Sheet(engine, tmp_path)


ITEM = "an item of the array is no object, or has no value there. While accessing jsonpath '$.items[:].name'"

# type, items, what is stored (None: refused)
ITEMS: list[tuple[str, str, Any]] = [
    ("Array(String)", "[]", []),
    ("Array(String)", '[{"name": "a"}, {"name": "b"}]', ["a", "b"]),
    ("Array(String)", '[{"nam": "lost1"}, {"nam": "lost2"}]', None),
    ("Array(String)", '["lost3"]', None),
    ("Array(String)", "[{}, {}]", None),
    ("Array(String)", "[null]", None),
    ("Array(String)", '[["pos"]]', None),
    ("Array(String)", '[{"name": "a"},\t\r ["pos"]]', None),
    ("Array(String)", '[{"name": "a"}, {}]', None),
    ("Array(String)", '[{"name": "a"}, {"name": null}]', None),
    ("Array(Nullable(String))", "[]", []),
    ("Array(Nullable(String))", '[{"name": "a"}, {}, {"name": null}]', ["a", None, None]),
    ("Array(Nullable(String))", "[{}, {}]", [None, None]),
    ("Array(Nullable(String))", '[null, {"nam": 1}]', [None, None]),
    ("Array(Nullable(String))", '["lost3"]', None),
    ("Array(Nullable(String))", '[{"name": "a"}, 5]', None),
    ("Array(Nullable(String))", '[["pos"]]', None),
    ("Array(LowCardinality(Nullable(String)))", "[{}]", [None]),
    ("Array(Array(String))", '[{"name": ["a"]}, {"name": []}]', [["a"], []]),
    ("Array(Array(String))", '[{"name": ["a"]}, {}]', None),
    ("Array(Array(String))", '[{"name": "a"}]', None),
    ("Array(Array(String))", '[{"name": ["a"]}, {"name": 5}]', None),
    ("Array(Tuple(a String))", '[{"name": {"a": "x"}}]', [{"a": "x"}]),
    ("Array(Tuple(a String))", '[{"name": ["x", "lost"]}]', None),
]


@pytest.mark.parametrize("others", [False, True], ids=["alone", "with-others"])
@pytest.mark.parametrize(("type", "items", "stored"), ITEMS, ids=[f"{t}<-{i}" for t, i, _ in ITEMS])
async def test_what_the_items_lack_is_never_an_empty_array(
    sheet: Sheet, type: str, items: str, stored: Any, others: bool
) -> None:
    columns = [c("id", "UInt32"), c("names", type, "$.items[:].name")]
    if others:
        columns.append(c("kinds", "Array(Nullable(String))", "$.items[:].kind"))
    line = f'{{"id": 1, "items": {items}}}'
    good, bad = await sheet.read(columns, [line])
    if stored is None:
        assert good == []
        assert "names" in bad[0]["c__error_column"]
        assert ITEM in bad[0]["c__error"]
        assert bad[0]["c__record"] == line
    else:
        assert bad == []
        assert good[0]["names"] == stored
        if others:
            assert good[0]["kinds"] == [None] * len(stored)


async def test_items_are_read_through_objects_only(sheet: Sheet) -> None:
    columns = [c("n", "Array(Nullable(UInt8))", "$.items[:].a.b")]
    lines = [
        {"items": [{"a": {"b": 1}}, {"a": {}}, {"a": None}, {}]},
        {"items": [{"a": {"b": 1}}, {"a": [2]}]},
        {"items": [{"a": "text"}]},
        {"items": [{"a": {"b": 300}}]},
    ]
    good, bad = await sheet.read(columns, lines)
    assert good == [{"n": [1, None, None, None]}]
    assert [row["c__record"] for row in bad[:2]] == [json.dumps(line) for line in lines[1:3]]
    assert bad[2]["c__error"] == ["value '[\"300\"]' on column 'n' is not Array(Nullable(UInt8))"]
    assert bad[2]["c__record"] == json.dumps(lines[3])


async def test_a_missing_array_of_items_follows_the_column(sheet: Sheet) -> None:
    columns = [c("names", "Array(Nullable(String))", "$.items[:].name", "['none']")]
    lines: list[Any] = [{}, {"items": None}, {"items": []}, {"items": [{}]}, {"items": 5}, {"items": {"name": "x"}}]
    good, bad = await sheet.read(columns, lines)
    assert [row["names"] for row in good] == [["none"], ["none"], [], [None]]
    assert [row["c__error_column"] for row in bad] == [["names"]] * 2


async def test_the_quarantine_keeps_the_line_of_a_shape_error(sheet: Sheet) -> None:
    columns = [c("c", "Nullable(String)", "$.a.b.c"), c("n", "Nullable(UInt8)")]
    lines = [
        '{"a":{"b":["keepme"]}}',
        '{"a":{"b":{"c":"x"}},"n":300}',
        '{"a" \r:\r [ "keepme" ] }',
        '{"\\u0061":["k"]}',
    ]
    good, bad = await sheet.read(columns, lines)
    assert good == []
    assert [row["c__record"] for row in bad] == [lines[0], None, lines[2], lines[3]]


NESTED: list[tuple[str, str, Any]] = [
    ("Array(Array(UInt8))", "[5]", None),
    ("Array(Array(UInt8))", "[[1], 5]", None),
    ("Array(Array(UInt8))", "[[1], null]", None),
    ("Array(Array(UInt8))", "[[1], []]", [[1], []]),
    ("Array(Array(Array(UInt8)))", "[[[1], 5]]", None),
    ("Map(String, Array(UInt8))", '{"a": 5}', None),
    ("Map(String, Array(UInt8))", '{"a": [1], "b": null}', None),
    ("Map(String, Array(UInt8))", '{"a": []}', {"a": []}),
    ("Map(String, Map(String, UInt8))", '{"a": [1]}', None),
    ("Tuple(UInt8, String)", '[1, "z", 3]', None),
    ("Tuple(UInt8, String)", "[1]", None),
    ("Tuple(UInt8, String)", '{"x": 1, "y": "z"}', None),
    ("Tuple(a UInt8, b String)", '[1, "z"]', {"a": 1, "b": "z"}),
    ("Tuple(a UInt8, b String)", '[1, "z", 3]', None),
    ("Tuple(a UInt8, b Nullable(String))", '{"a": 1, "c": 2}', {"a": 1, "b": None}),
    ("Tuple(a UInt8, b Array(UInt8))", '{"a": 1, "b": 5}', None),
    ("Tuple(a UInt8, b Array(UInt8))", '{"a": 1}', None),
    ("Tuple(a UInt8, b Array(UInt8))", '{"a": 1, "b": []}', {"a": 1, "b": []}),
    ("Tuple(a UInt8, b Tuple(UInt8, UInt8))", '{"a": 1, "b": [1, 2, 3]}', None),
    ("Array(Tuple(UInt8, UInt8))", "[[1, 2], [1, 2, 3]]", None),
    ("Array(Tuple(UInt8, UInt8))", "[[1, 2], [3, 4]]", [[1, 2], [3, 4]]),
    ("Array(Tuple(a UInt8, b UInt8))", '[{"a": 1, "b": 2}]', [{"a": 1, "b": 2}]),
    ("Point", "[1.5, 2, 3]", None),
    ("Ring", "[[1.5, 2], [3, 4]]", [[1.5, 2], [3, 4]]),
]


@pytest.mark.parametrize(("type", "sent", "stored"), NESTED, ids=[f"{t}<-{v}" for t, v, _ in NESTED])
async def test_a_shape_fits_at_every_depth(sheet: Sheet, type: str, sent: str, stored: Any) -> None:
    good, bad = await sheet.read([c("v", type)], [f'{{"v": {sent}}}'])
    if stored is None:
        assert good == []
        assert bad[0]["c__error_column"] == ["v"]
    else:
        assert bad == []
        assert good[0]["v"] == stored


NUMBERS: list[tuple[str, str, Any]] = [
    ("Int32", "1.00000000000000000001", None),
    ("Int8", "-3.00000000000000000001", None),
    ("Int32", "1.000000000", 1),
    ("Int32", "0.00000000000000000000", 0),
    ("UInt32", "4294967294.00000001", None),
    ("Int64", "12345678901.0000001", None),
    ("Int64", "12345678901.0", 12345678901),
    ("Nullable(Int64)", "1.00000000000000000001", None),
    ("UInt256", "1.00000000000000000001", None),
    ("Int32", "1.5e1", 15),
]


@pytest.mark.parametrize(("type", "sent", "stored"), NUMBERS, ids=[f"{t}<-{v}" for t, v, _ in NUMBERS])
async def test_an_integer_has_no_fraction_that_a_double_hides(sheet: Sheet, type: str, sent: str, stored: Any) -> None:
    line = f'{{"n": {sent}}}'
    good, bad = await sheet.read([c("n", type)], [line])
    if stored is None:
        assert good == []
        assert bad[0]["c__error_column"] == ["n"]
        assert bad[0]["c__record"] == line
    else:
        assert [int(row["n"]) for row in good] == [stored]


async def test_another_number_of_that_name_does_not_matter(sheet: Sheet) -> None:
    good, _ = await sheet.read([c("n", "Int32")], ['{"o": {"n": 2.00000000000000000001}, "n": 1}'])
    assert good == [{"n": 1}]


OFFSETS: list[tuple[str, str | None]] = [
    ("+14:00", "2023-12-31 10:00:00"),
    ("-12:00", "2024-01-01 12:00:00"),
    ("+0530", "2023-12-31 18:30:00"),
    (" +13:45", "2023-12-31 10:15:00"),
    ("-11:59", "2024-01-01 11:59:00"),
    ("+00", "2024-01-01 00:00:00"),
    ("+14:01", None),
    ("+15:00", None),
    ("-12:30", None),
    ("-13", None),
    ("+01:60", None),
    ("+99:99", None),
]


@pytest.mark.parametrize("type", ["DateTime('UTC')", "DateTime64(0, 'UTC')"])
async def test_offsets_are_those_that_exist(sheet: Sheet, type: str) -> None:
    lines = [f'{{"at": "2024-01-01 00:00:00{offset}"}}' for offset, _ in OFFSETS]
    good, bad = await sheet.read([c("at", type)], lines)
    assert [row["at"] for row in good] == [stored for _, stored in OFFSETS if stored]
    assert len(bad) == sum(stored is None for _, stored in OFFSETS)


@pytest.mark.parametrize("type", ["DateTime('Europe/Berlin')", "DateTime64(3, 'Europe/Berlin')"])
async def test_a_time_that_the_zone_skips_is_refused(sheet: Sheet, type: str) -> None:
    sent = [
        "2024-03-31 02:30:00", "2024-03-31T02:00", "2024-03-31 02:59:59.5", "2024-03-31 01:59:59", "2024-03-31 03:00:00",
        "2024-03-31T02:30:00Z", "2024-10-27 02:30:00", "2017-01-01 00:59:60", "2024-03-31",
    ]  # fmt: skip
    good, bad = await sheet.read([c("at", type)], [{"at": text} for text in sent])
    assert [row["at"] for row in bad] == sent[:3]
    assert [row["at"][:19] for row in good] == [
        "2024-03-31 01:59:59", "2024-03-31 03:00:00", "2024-03-31 04:30:00", "2024-10-27 02:30:00", "2017-01-01 01:00:00",
        "2024-03-31 00:00:00",
    ]  # fmt: skip


async def test_a_map_keeps_both_pairs_of_a_key_and_reads_the_first(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "x.segment"
    path.write_bytes(b'{"m": {"a": 1, "a": 2}}\n')
    rows = parse.reader([c("m", "Map(String, UInt8)")]).good_rows(strict=True)
    sql = f"SELECT m['a'] AS first, mapValues(m) AS held FROM ({rows})"
    assert await engine.select_file(sql, path, format=parse.FORMAT, structure=parse.STRUCTURE) == [
        {"first": 1, "held": [1, 2]}
    ]


VIEW_TARGET = (Column("day", "Date"), Column("users", "AggregateFunction(uniq, String)"))


def test_a_table_that_only_a_view_fills_is_no_problem() -> None:
    assert parse.problems(VIEW_TARGET) == []
    with_path = [c("day", "Date"), c("users", "AggregateFunction(uniq, String)")]
    assert [problem.split(":")[0] for problem in parse.problems(with_path)] == ["column users"]


@pytest.mark.parametrize("fixed", [{}, {"day": "2024-01-01"}], ids=["plain", "fixed"])
async def test_events_cannot_fill_what_a_view_fills(engine: Engine, tmp_path: Path, fixed: dict[str, Any]) -> None:
    ingest = Ingest(engine, tmp_path, Locks())
    await ingest.start()
    try:
        target = Target("pipit_nowhere", "d1_daily", "q1_daily", VIEW_TARGET, name="daily")
        with pytest.raises(BadRequest, match="'daily' is filled by a materialized view"):
            await ingest.append(target, b'{"day": "2024-01-01"}\n', fixed_values=fixed)
    finally:
        await ingest.close()
    assert ingest.pending(target.database, target.table).rows == 0

"""Rows that read well and that the table does not take: they stop nobody, and are kept with the reason."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipit.datafiles.resources import Column, DataSource
from pipit.engine import Engine
from pipit.errors import UnprocessableWrite
from pipit.ingest import Ingest, Target, isolate, limits, load
from pipit.ingest.log import Log
from pipit.ingest.probe import Probe
from pipit.tables.quarantine import create_quarantine
from waiting import until

from .test_service import SETTINGS, Place, lines, make_place

pytestmark = pytest.mark.anyio

COLUMNS = (Column("x", "String", "$.x"), Column("n", "UInt8", "$.n", "0"))
DEFAULT = "y UInt8 DEFAULT toUInt8(x)"


async def make(engine: Engine, folder: Path, more: str = "", partition: str = "tuple()") -> Place:
    database = f"pipit_isolate_{folder.name[-40:]}"
    target = Target(database, "d1_events", "q1_events", COLUMNS, "" if partition == "tuple()" else partition)
    place = Place(engine, folder, database, target)
    await engine.command(f"DROP DATABASE IF EXISTS `{database}`")
    await engine.command(f"CREATE DATABASE `{database}`")
    await place.command(
        f"CREATE TABLE DB.d1_events (x String, n UInt8{', ' + more if more else ''}) ENGINE = MergeTree "
        f"PARTITION BY {partition} ORDER BY x SETTINGS {SETTINGS}"
    )
    await engine.command(create_quarantine(DataSource("events", "", COLUMNS), database, "q1_events"))
    return place


async def values(place: Place, table: str = "d1_events") -> list[str]:
    return [r["x"] for r in await place.engine.rows(f"SELECT x FROM `{place.database}`.{table} ORDER BY x")]


async def tables(place: Place) -> set[str]:
    rows = await place.engine.rows(f"SELECT name FROM system.tables WHERE database = '{place.database}'")
    return {r["name"] for r in rows}


@pytest.mark.parametrize(
    ("more", "partition", "bad", "reason"),
    [
        (DEFAULT, "tuple()", "a{source}'\\", "Cannot parse string 'a(source)"),
        ("", "intDiv(10, length(x) - 1)", "1", "Division by zero"),
        ("CONSTRAINT lucky CHECK x != '13'", "tuple()", "13", "Constraint `lucky`"),
    ],
)
async def test_a_row_that_the_table_refuses_is_quarantined_and_the_others_stored(
    engine: Engine, tmp_path: Path, more: str, partition: str, bad: str, reason: str
) -> None:
    place = await make(engine, tmp_path, more, partition)
    bodies: list[list[Any]] = [
        [{"x": "20"}, {"x": bad, "n": 5}, {"x": "21"}, {"x": "22", "n": 999}],
        [{"x": "23"}, {"x": "24"}],
        ["no json", {"x": bad}],
        [{"x": "25"}],
    ]
    async with place.ingest() as ingest:
        async with place.paused():
            waiting = [asyncio.create_task(ingest.append(place.target, lines(*b), wait=True)) for b in bodies]
            await until(lambda: ingest.pending(place.database, "d1_events").rows >= 9)
            kept = {path: path.read_bytes() for path in place.files()}
        results = await asyncio.gather(*waiting)
        assert [(r.successful_rows, r.quarantined_rows, r.loaded) for r in results] == [
            (2, 2, True),
            (2, 0, True),
            (0, 2, True),
            (1, 0, True),
        ]
        assert (await ingest.append(place.target, lines({"x": "26"}), wait=True)).loaded
    expected = ["20", "21", "23", "24", "25", "26"]
    assert await values(place) == expected
    refused = await place.engine.rows(
        f"SELECT x, n, c__error_column, c__error FROM `{place.database}`.q1_events WHERE x = {{x:String}} ORDER BY n",
        {"x": bad},
    )
    assert [(r["x"], r["n"], r["c__error_column"]) for r in refused] == [(bad, "5", [""]), (bad, None, [""])]
    assert all(reason in r["c__error"][0] for r in refused)
    assert await place.count("q1_events") == 4
    assert await tables(place) == {"d1_events", "q1_events"}
    for path, content in kept.items():  # as if it had died right before the file was removed
        path.write_bytes(content)
    async with place.ingest() as ingest:
        assert await ingest.drain(place.database, "d1_events")
    assert (await values(place), await place.count("q1_events")) == (expected, 4)
    assert [p for p in place.folder.glob("segments/*/*/*") if p.is_file()] == []


async def test_what_was_refused_stays_refused_on_a_replay_though_the_table_would_take_it_now(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = await make(engine, tmp_path, DEFAULT)
    async with place.ingest() as ingest:
        async with place.paused():
            await ingest.append(place.target, lines({"x": "1"}, {"x": "bad"}))
            (path,) = place.files()
            kept = path.read_bytes()
        with monkeypatch.context() as patched:  # the notes outlive the segment, as in a crash before its removal
            patched.setattr("pipit.ingest.log.Log.remove", lambda log, taken: log._forget(taken))
            assert await ingest.drain(place.database, "d1_events")
    assert path.with_suffix(".notes").exists()
    assert path.read_bytes() == kept
    await place.command("ALTER TABLE DB.d1_events MODIFY COLUMN y DEFAULT toUInt8OrZero(x)")
    async with place.ingest() as ingest:
        assert await ingest.drain(place.database, "d1_events")
    assert (await values(place), await values(place, "q1_events")) == (["1"], ["bad"])


async def test_a_request_with_too_many_refused_rows_is_refused_as_a_whole_and_alone(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TRIES_TO_FIND_ROWS", 4)
    place = await make(engine, tmp_path, DEFAULT)
    many = [{"x": "bad" if n % 2 else str(n)} for n in range(40)] + ["no json"]
    async with place.ingest() as ingest:
        async with place.paused():
            waiting = [
                asyncio.create_task(ingest.append(place.target, lines(*rows), wait=True))
                for rows in ([{"x": "100"}], many, [{"x": "101"}])
            ]
            await until(lambda: ingest.pending(place.database, "d1_events").rows >= 43)
        one, mixed, two = await asyncio.gather(*waiting)
    assert (one.successful_rows, mixed.successful_rows, mixed.quarantined_rows, two.successful_rows) == (1, 0, 41, 1)
    assert await values(place) == ["100", "101"]
    assert await place.count("q1_events") == 41


async def test_a_view_that_fails_beside_a_row_that_the_table_refuses(engine: Engine, tmp_path: Path) -> None:
    place = await make(engine, tmp_path, DEFAULT)
    await place.command(f"CREATE TABLE DB.d1_view (x String) ENGINE = MergeTree ORDER BY x SETTINGS {SETTINGS}")
    view = "CREATE MATERIALIZED VIEW DB.m1_view TO DB.d1_view AS SELECT x FROM DB.d1_events"
    await place.command(f"{view} WHERE throwIf(n < 9) = 0")
    async with place.ingest() as ingest:
        with pytest.raises(UnprocessableWrite):
            await ingest.append(place.target, lines({"x": "1", "n": 1}, {"x": "bad"}, {"x": "2"}), wait=True)
        assert (await values(place), await values(place, "q1_events")) == (["1", "2"], ["bad"])
        async with place.paused():
            await place.command("DROP TABLE DB.m1_view SYNC")
            await place.command(view)
        assert await ingest.drain(place.database, "d1_events")
    assert (await values(place), await values(place, "d1_view")) == (["1", "2"], ["1", "2"])
    assert await place.count("q1_events") == 1


async def test_a_view_over_more_partitions_than_the_table(engine: Engine, tmp_path: Path) -> None:
    place = await make(engine, tmp_path)
    await place.command(
        f"CREATE TABLE DB.d1_view (x String) ENGINE = MergeTree PARTITION BY x ORDER BY x SETTINGS {SETTINGS}"
    )
    await place.command("CREATE MATERIALIZED VIEW DB.m1_view TO DB.d1_view AS SELECT x FROM DB.d1_events")
    body = lines(*({"x": str(n)} for n in range(150)))
    async with place.ingest() as ingest:
        async with place.paused():
            await ingest.append(place.target, body)
            (path,) = place.files()
            kept = path.read_bytes()
        assert await ingest.drain(place.database, "d1_events")
    assert (await place.count(), await place.count("d1_view")) == (150, 150)
    path.write_bytes(kept)
    async with place.ingest() as ingest:
        assert await ingest.drain(place.database, "d1_events")
    assert (await place.count(), await place.count("d1_view")) == (150, 150)


@pytest.mark.parametrize("full", ["d1_events", "d1_view"])
async def test_a_full_disk_is_nobodys_fault_and_is_waited_for(engine: Engine, tmp_path: Path, full: str) -> None:
    place = await make(engine, tmp_path)
    await place.command(f"CREATE TABLE DB.d1_view (x String) ENGINE = MergeTree ORDER BY x SETTINGS {SETTINGS}")
    await place.command("CREATE MATERIALIZED VIEW DB.m1_view TO DB.d1_view AS SELECT x FROM DB.d1_events")
    limit = "min_free_disk_bytes_to_perform_insert"  # the engine's error is the one of a full disk
    await place.command(f"ALTER TABLE DB.{full} MODIFY SETTING {limit} = 1000000000000000000")
    async with place.ingest(wait_seconds=0.5) as ingest:
        result = await ingest.append(place.target, lines({"x": "1"}, "no json"), wait=True)
        assert not result.loaded  # a 202 and no 422: nothing is wrong with the rows or the view
        await place.command(f"ALTER TABLE DB.{full} RESET SETTING {limit}")
        assert await ingest.drain(place.database, "d1_events")
    counts = [await place.count(table) for table in ("d1_events", "d1_view", "q1_events")]
    assert counts == [1, 1, 1]


VIEW = "CREATE MATERIALIZED VIEW DB.m1_of__x TO DB.d1_view AS SELECT x FROM DB.d1_events WHERE if(n = 13, toUInt8(x), 1) = 1"


async def make_viewed(engine: Engine, folder: Path, *views: str, data: str = "") -> Place:
    """`data`: the type of one more column, of which nothing is sent unless a test does."""
    place = await make(engine, folder, f"data {data}" if data else "")
    if data:
        place.target = replace(place.target, columns=(*COLUMNS, Column("data", data, "$.data", "'{}'")))
        await engine.command(f"DROP TABLE `{place.database}`.q1_events")
        await engine.command(create_quarantine(DataSource("events", "", place.target.columns), place.database, "q1_events"))
    await place.command(f"CREATE TABLE DB.d1_view (x String) ENGINE = MergeTree ORDER BY x SETTINGS {SETTINGS}")
    for view in views:
        await place.command(view)
    return place


async def together(place: Place, ingest: Ingest, *bodies: list[Any]) -> tuple[list[Any], dict[Path, bytes]]:
    """The requests in one segment: what each is told, or what it raises; and the segment as it was."""
    async with place.paused():
        waiting = [asyncio.create_task(ingest.append(place.target, lines(*b), wait=True)) for b in bodies]
        await until(lambda: ingest.pending(place.database, "d1_events").rows >= sum(map(len, bodies)))
        kept = {path: path.read_bytes() for path in place.files()}
        assert len(kept) == 1
    return await asyncio.gather(*waiting, return_exceptions=True), kept


async def test_a_row_that_a_view_refuses_keeps_nobody_elses_rows_out_of_it(engine: Engine, tmp_path: Path) -> None:
    """K30: two requests of one sender and one bad row of another in one segment; and a bad row within a body."""
    place = await make_viewed(engine, tmp_path, VIEW)
    first = [{"x": f"a{n}"} for n in range(100)]
    second = [{"x": f"b{n}"} for n in range(100)]
    mixed: list[Any] = [{"x": "c1"}, {"x": "SECRET", "n": 13}, "no json", {"x": "c2"}]
    async with place.ingest() as ingest:
        told, kept = await together(place, ingest, first, [{"x": "B", "n": 13}], second, mixed)
        assert [(r.successful_rows, r.quarantined_rows, r.loaded) for r in told] == [
            (100, 0, True),
            (0, 1, True),
            (100, 0, True),
            (2, 2, True),
        ]
    good = sorted([r["x"] for r in (*first, *second)] + ["c1", "c2"])
    assert await values(place, "d1_view") == good
    assert sorted(set(await values(place)) - {"B", "SECRET"}) == good
    refused = await place.engine.rows(
        f"SELECT x, n, c__error[1] AS why FROM `{place.database}`.q1_events WHERE x IS NOT NULL ORDER BY x"
    )
    assert [(r["x"], r["n"]) for r in refused] == [("B", "13"), ("SECRET", "13")]
    for row in refused:
        assert row["why"].startswith("the materialized view 'of.x' does not take the row: ")
        assert row["x"] in row["why"]  # its own
    everything = [await place.count(table) for table in ("d1_events", "d1_view", "q1_events")]
    for path, content in kept.items():  # as if it had died right before the file was removed
        path.write_bytes(content)
    async with place.ingest() as ingest:
        assert await ingest.drain(place.database, "d1_events")
    assert [await place.count(table) for table in ("d1_events", "d1_view", "q1_events")] == everything
    assert {name for name in await tables(place) if name.startswith("probe")} == set()


async def test_a_lone_bad_row_is_isolated_if_the_view_takes_what_the_table_has(engine: Engine, tmp_path: Path) -> None:
    place = await make_viewed(engine, tmp_path, VIEW)
    async with place.ingest() as ingest:
        assert (await ingest.append(place.target, lines({"x": "1"}), wait=True)).successful_rows == 1
        bad = await ingest.append(place.target, lines({"x": "B2", "n": 13}), wait=True)
        assert (bad.successful_rows, bad.quarantined_rows, bad.loaded) == (0, 1, True)
        assert place.files() == []
    assert (await values(place, "d1_view"), await values(place, "q1_events")) == (["1"], ["B2"])


async def test_a_view_that_takes_nothing_is_broken_and_no_row_is_to_blame(engine: Engine, tmp_path: Path) -> None:
    """K31: rows wait for it, of everybody; a bad row of another view does not."""
    place = await make_viewed(engine, tmp_path, VIEW)
    await place.command(f"CREATE TABLE DB.d1_two (x String) ENGINE = MergeTree ORDER BY x SETTINGS {SETTINGS}")
    two = "CREATE MATERIALIZED VIEW DB.m1_two TO DB.d1_two AS SELECT x FROM DB.d1_events"
    async with place.ingest() as ingest:
        assert (await ingest.append(place.target, lines({"x": "0"}), wait=True)).loaded
        await place.command(f"{two} WHERE throwIf(x != '') = 0")
        told, _ = await together(place, ingest, [{"x": "1"}, {"x": "2"}], [{"x": "B3", "n": 13}], [{"x": "4"}])
        assert all(isinstance(one, UnprocessableWrite) for one in told)
        assert await values(place, "d1_view") == ["0", "1", "2", "4"]
        assert (await values(place, "d1_two"), await values(place, "q1_events")) == ([], ["B3"])
        assert len(place.files()) == 1
        async with place.paused():
            await place.command("DROP TABLE DB.m1_two SYNC")
            await place.command(f"{two} WHERE throwIf(x = '2') = 0")
        assert await ingest.drain(place.database, "d1_events")
    assert await values(place, "d1_two") == ["1", "4"]  # and its own bad row was found then
    assert await values(place, "d1_view") == ["0", "1", "2", "4"]
    assert await values(place, "q1_events") == ["2", "B3"]


async def test_views_behind_views_and_their_targets_refuse_rows_too(engine: Engine, tmp_path: Path) -> None:
    place = await make(engine, tmp_path)
    for name, more in (("one", ""), ("two", ", CONSTRAINT fine CHECK total != 7")):
        await place.command(
            f"CREATE TABLE DB.d1_{name} (x String, total UInt64{more}) ENGINE = SummingMergeTree ORDER BY x "
            f"SETTINGS {SETTINGS}"
        )
    await place.command(
        "CREATE MATERIALIZED VIEW DB.m1_one TO DB.d1_one AS SELECT e.x AS x, sum(e.n) AS total FROM DB.d1_events AS e "
        "GROUP BY x"
    )
    await place.command("CREATE MATERIALIZED VIEW DB.m1_two TO DB.d1_two AS SELECT x, total FROM DB.d1_one")
    async with place.ingest() as ingest:
        told, _ = await together(
            place, ingest, [{"x": "a", "n": 3}, {"x": "a", "n": 3}], [{"x": "b", "n": 7}], [{"x": "c", "n": 1}]
        )
        assert [(r.successful_rows, r.quarantined_rows) for r in told] == [(2, 0), (0, 1), (1, 0)]
    for table in ("d1_one", "d1_two"):
        rows = await engine.rows(
            f"SELECT x, sum(total) AS n FROM `{place.database}`.{table} WHERE x != 'b' GROUP BY x ORDER BY x"
        )
        assert [(r["x"], r["n"]) for r in rows] == [("a", 6), ("c", 1)]
    assert await place.count("d1_two") == 2


async def test_a_bad_row_of_a_view_in_a_segment_over_many_partitions(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_PARTITIONS", 10)
    place = await make(engine, tmp_path, partition="x")
    await place.command(f"CREATE TABLE DB.d1_view (x String) ENGINE = MergeTree ORDER BY x SETTINGS {SETTINGS}")
    await place.command(VIEW)
    many = [{"x": f"{n:02}"} for n in range(35)]
    async with place.ingest() as ingest:
        told, _ = await together(place, ingest, many, [{"x": "bad", "n": 13}])
        assert [(r.successful_rows, r.quarantined_rows) for r in told] == [(35, 0), (0, 1)]
    assert await values(place, "d1_view") == [r["x"] for r in many]
    assert await values(place, "q1_events") == ["bad"]


async def test_the_others_are_answered_before_single_rows_of_a_request_are_looked_for(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K30: however long that takes, and wherever the process ends meanwhile."""
    place = await make_viewed(engine, tmp_path, VIEW)
    find, go, looking = isolate.find, asyncio.Event(), asyncio.Event()

    async def slow(*args: Any, **more: Any) -> Any:
        looking.set()
        await go.wait()
        return await find(*args, **more)

    monkeypatch.setattr(isolate, "find", slow)
    bodies: list[list[Any]] = [
        [{"x": "a1"}, {"x": "a2"}],
        [{"x": "c1"}, {"x": "bad", "n": 13}, "no json", {"x": "c2"}],
        [{"x": "b1"}, "no json"],
        [{"x": "worse", "n": 13}],
    ]
    async with place.ingest() as ingest:
        async with place.paused():
            waiting, sent = [], 0
            for body in bodies:
                waiting.append(asyncio.create_task(ingest.append(place.target, lines(*body), wait=True)))
                sent += len(body)
                await until(lambda sent=sent: ingest.pending(place.database, "d1_events").rows >= sent)
        await looking.wait()
        told = await asyncio.gather(waiting[0], waiting[2])
        assert [(r.successful_rows, r.quarantined_rows, r.loaded) for r in told] == [(2, 0, True), (1, 1, True)]
        assert await values(place, "d1_view") == ["a1", "a2", "b1"]
        assert not waiting[1].done() and not waiting[3].done()
        kept = {path: path.read_bytes() for path in place.folder.glob("segments/*/*/*") if path.is_file()}
        assert any(path.suffix == ".notes" for path in kept)
        go.set()
        told = await asyncio.gather(waiting[1], waiting[3])
        assert [(r.successful_rows, r.quarantined_rows, r.loaded) for r in told] == [(2, 2, True), (0, 1, True)]
    for _ in range(2):
        for table in ("d1_view", "d1_events"):  # the table has no row that its view does not take: it was asked before
            assert await values(place, table) == ["a1", "a2", "b1", "c1", "c2"]
        assert await place.count("q1_events") == 4
        for path, content in kept.items():  # as if it had died while it looked
            path.write_bytes(content)
        async with place.ingest() as ingest:
            assert await ingest.drain(place.database, "d1_events")
    assert {name for name in await tables(place) if name.startswith("probe")} == set()


async def test_rows_at_the_end_of_a_segment_that_is_read_in_pieces_are_stored_once(
    engine: Engine, tmp_path: Path
) -> None:
    place = await make_viewed(engine, tmp_path, VIEW)
    many = [{"x": f"{n:05}"} for n in range(limits.ONE_PIECE_ROWS + 5)]
    async with place.ingest() as ingest:
        told, _ = await together(place, ingest, many, [{"x": "a"}, {"x": "bad", "n": 13}, {"x": "b"}])
        assert [(r.successful_rows, r.quarantined_rows) for r in told] == [(len(many), 0), (2, 1)]
    assert (await place.count(), await place.count("d1_view")) == (len(many) + 2, len(many) + 2)


@pytest.mark.parametrize("written", [True, False])
async def test_copies_that_a_kill_left_are_dropped_by_the_next_start(
    engine: Engine, tmp_path: Path, written: bool
) -> None:
    """Also where the table is not written to any more. Those of a table of another data directory are not."""
    place = await make_viewed(engine, tmp_path, VIEW)
    async with place.ingest() as ingest:
        assert (await ingest.append(place.target, lines({"x": "0"}), wait=True)).loaded
    await place.command("CREATE TABLE DB.probe7_d1_events AS DB.d1_events ENGINE = Null")
    await place.command("CREATE TABLE DB.probe8_d1_others AS DB.d1_events ENGINE = Null")
    await place.command(f"{VIEW.replace('m1_of__x', 'probe9_d1_events').replace('FROM DB.d1_', 'FROM DB.probe7_d1_')}")
    async with place.ingest() as ingest:
        if written:
            assert (await ingest.append(place.target, lines({"x": "1"}), wait=True)).loaded
    assert {name for name in await tables(place) if name.startswith("probe")} == {"probe8_d1_others"}


@pytest.mark.parametrize(
    ("columns", "bad", "taken"),
    [
        # A default that reads another column's: it sees that one's default.
        ((("s", "String", "'abc'"), ("c", "Array(String)", "[s]")), {}, ["abc"]),
        ((("s", "String", "'abc'"), ("c", "Array(String)", "[concat(s, 'x')]")), {}, ["abcx"]),
        ((("u", "UInt16", "7"), ("c", "Array(UInt16)", "[u]")), {}, [7]),
        ((("u", "UInt16", "7"), ("s", "UInt16", "`u` + 1"), ("c", "Array(UInt16)", "[s, `u`]")), {}, [8, 7]),
        ((("s", "String", "'abc'"), ("c", "Nullable(String)", "upper(s)")), {}, "ABC"),
        ((("s", "String", "'abc'"), ("c", "Map(String, UInt8)", "map(s, 1)")), {}, {"abc": 1}),
        # A default that throws while the rows are read.
        ((("s", "String", "'4'"), ("c", "Array(UInt8)", "[toUInt8(s)]")), {}, [4]),
        ((("s", "String", "'4'"), ("c", "Array(UInt8)", "[toUInt8(s)]")), {"s": "bad"}, None),
        ((("s", "String", ""), ("c", "Array(UInt8)", "[toUInt8(s)]")), {"s": "bad"}, None),
        ((("s", "String", ""), ("c", "Nullable(UInt8)", "toUInt8(s)")), {"s": "bad"}, None),
        ((("s", "Nullable(String)", ""), ("c", "Array(String)", "[s]")), {}, None),
    ],
)
async def test_a_default_that_reads_another_column_withholds_nobody_elses_rows(
    engine: Engine, tmp_path: Path, columns: Any, bad: dict[str, Any], taken: Any
) -> None:
    schema = (Column("id", "UInt32", "$.i"), *(Column(n, t, _path(n, t), d or None) for n, t, d in columns))
    place = await make_place(engine, tmp_path, columns=schema)
    async with place.ingest() as ingest:
        good = [{"i": n, "s": "4", "u": 4} for n in range(50)]
        mixed: list[Any] = [{"i": 901, "s": "5", "u": 5}, {"i": 902, **bad}, {"i": "none", **bad}, "no json"]
        told, _ = await asyncio.wait_for(together(place, ingest, good, [{"i": 900, **bad}], mixed), 60)
    one = int(taken is not None)
    assert [(r.successful_rows, r.quarantined_rows, r.loaded) for r in told] == [
        (50, 0, True),
        (one, 1 - one, True),
        (1 + one, 3 - one, True),
    ]
    rows = await engine.rows(f"SELECT c FROM `{place.database}`.d1_events WHERE id IN (900, 902)")
    assert [r["c"] for r in rows] == [taken] * 2 * one
    assert (await place.count(), await place.count("q1_events")) == (51 + 2 * one, 4 - 2 * one)
    assert {name for name in await tables(place) if name.startswith("probe")} == set()


async def test_a_default_that_throws_and_a_view_that_refuses(engine: Engine, tmp_path: Path) -> None:
    schema = (
        Column("id", "UInt32", "$.i"),
        Column("s", "String", "$.s"),
        Column("c", "Array(UInt8)", "$.c[:]", "[toUInt8(s)]"),
    )
    place = await make_place(engine, tmp_path, columns=schema)
    await place.command(f"CREATE TABLE DB.d1_view (id UInt32) ENGINE = MergeTree ORDER BY id SETTINGS {SETTINGS}")
    view = (
        "CREATE MATERIALIZED VIEW DB.m1_of__x TO DB.d1_view AS SELECT id FROM DB.d1_events WHERE throwIf(id = 13) = 0"
    )
    await place.command(view)
    async with place.ingest() as ingest:
        told, _ = await asyncio.wait_for(
            together(place, ingest, [{"i": 1, "s": "1"}], [{"i": 2, "s": "bad"}], [{"i": 13, "s": "1"}]), 60
        )
    assert [(r.successful_rows, r.quarantined_rows) for r in told] == [(1, 0), (0, 1), (0, 1)]
    reasons = await engine.rows(f"SELECT id, c__error[1] AS why FROM `{place.database}`.q1_events ORDER BY toUInt8(id)")
    assert [(r["id"], r["why"].split(" does not take")[0]) for r in reasons] == [
        ("2", "the table"),
        ("13", "the materialized view 'of.x'"),
    ]
    assert await place.count("d1_view") == 1


def _path(name: str, type: str) -> str:
    return f"$.{name}[:]" if type.startswith("Array") else f"$.{name}"


async def make_with_many_views(engine: Engine, folder: Path, data: str = "") -> Place:
    """Two views, one with a join, and a view behind one of them."""
    place = await make_viewed(engine, folder, VIEW, data=data)
    for statement in (
        "CREATE TABLE DB.d1_rates (x String, rate UInt8) ENGINE = MergeTree ORDER BY x",
        "INSERT INTO DB.d1_rates VALUES ('a1', 5)",
        f"CREATE TABLE DB.d1_rated (x String, rate UInt8) ENGINE = MergeTree ORDER BY x SETTINGS {SETTINGS}",
        f"CREATE TABLE DB.d1_last (x String) ENGINE = MergeTree ORDER BY x SETTINGS {SETTINGS}",
        "CREATE MATERIALIZED VIEW DB.m1_rated TO DB.d1_rated AS SELECT e.x AS x, r.rate AS rate FROM DB.d1_events AS e "
        "LEFT JOIN DB.d1_rates AS r ON r.x = e.x",
        "CREATE MATERIALIZED VIEW DB.m1_last TO DB.d1_last AS SELECT x FROM DB.d1_rated WHERE throwIf(x = 'last') = 0",
    ):
        await place.command(statement)
    return place


async def watched(place: Place, ingest: Ingest) -> None:
    """Its sender had a row refused."""
    told, _ = await together(place, ingest, [{"x": "0"}], [{"x": "bad0", "n": 13}])
    assert [(r.successful_rows, r.quarantined_rows) for r in told] == [(1, 0), (0, 1)]


async def test_the_others_are_answered_first_whatever_views_the_table_has(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K30: once rows of a sender were refused, also where there are several views, joins and views of views."""
    place = await make_with_many_views(engine, tmp_path)
    find, go, looking = isolate.find, asyncio.Event(), asyncio.Event()

    async def slow(*args: Any, **more: Any) -> Any:
        looking.set()
        await go.wait()
        return await find(*args, **more)

    bodies: list[list[Any]] = [
        [{"x": "a1"}, {"x": "a2"}],
        [{"x": "c1"}, {"x": "bad", "n": 13}, "no json", {"x": "last"}, {"x": "c2"}],
        [{"x": "b1"}, "no json"],
        [{"x": "worse", "n": 13}],
    ]
    good = ["0", "a1", "a2", "b1", "c1", "c2"]
    async with place.ingest() as ingest:
        await watched(place, ingest)
        monkeypatch.setattr(isolate, "find", slow)
        async with place.paused():
            waiting = []
            for number, body in enumerate(bodies, 1):
                waiting.append(asyncio.create_task(ingest.append(place.target, lines(*body), wait=True)))
                while ingest.pending(place.database, "d1_events").rows < sum(map(len, bodies[:number])):
                    await asyncio.sleep(0.01)
        await looking.wait()
        told = await asyncio.gather(waiting[0], waiting[2])
        assert [(r.successful_rows, r.quarantined_rows, r.loaded) for r in told] == [(2, 0, True), (1, 1, True)]
        for table in ("d1_view", "d1_rated", "d1_last"):
            assert set(await values(place, table)) - {"bad0"} == {"0", "a1", "a2", "b1"}
        assert not waiting[1].done() and not waiting[3].done()
        kept = {path: path.read_bytes() for path in place.folder.glob("segments/*/*/*") if path.is_file()}
        assert any(path.suffix == ".notes" for path in kept)
        go.set()
        told = await asyncio.gather(waiting[1], waiting[3])
        assert [(r.successful_rows, r.quarantined_rows, r.loaded) for r in told] == [(2, 3, True), (0, 1, True)]
    for _ in range(2):
        for table in ("d1_events", "d1_view", "d1_rated", "d1_last"):
            assert [x for x in await values(place, table) if x != "bad0"] == good
        assert await place.count("q1_events") == 6
        for path, content in kept.items():  # as if it had died while it looked
            path.write_bytes(content)
        async with place.ingest() as ingest:
            assert await ingest.drain(place.database, "d1_events")
    assert {name for name in await tables(place) if name.startswith("probe")} == set()


async def test_requests_that_fit_alone_and_not_together_are_stored_one_after_the_other(
    engine: Engine, tmp_path: Path
) -> None:
    place = await make_with_many_views(engine, tmp_path)
    await place.command(
        f"CREATE TABLE DB.d1_sums (x String, total UInt16) ENGINE = SummingMergeTree ORDER BY x SETTINGS {SETTINGS}"
    )
    await place.command(
        "CREATE MATERIALIZED VIEW DB.m1_sums TO DB.d1_sums AS SELECT x, sum(n) AS total FROM DB.d1_events GROUP BY x "
        "HAVING throwIf(total > 255) = 0"
    )
    async with place.ingest() as ingest:
        await watched(place, ingest)
        told, _ = await together(
            place,
            ingest,
            [{"x": "s", "n": 200}],
            [{"x": "s", "n": 100}],
            [{"x": "bad", "n": 13}],
            [{"x": "s", "n": 99}],
        )
        assert [(r.successful_rows, r.quarantined_rows) for r in told] == [(1, 0), (1, 0), (0, 1), (1, 0)]
    sums = await engine.rows(f"SELECT sum(total) AS n FROM `{place.database}`.d1_sums WHERE x = 's'")
    assert [row["n"] for row in sums] == [399]
    assert [x for x in await values(place) if x != "bad0"] == ["0", "s", "s", "s"]


async def test_other_segments_go_on_while_single_rows_are_looked_for(engine: Engine, tmp_path: Path) -> None:
    """K30: a flood of bad rows keeps nobody else waiting until the last of them is found."""
    place = await make_viewed(engine, tmp_path, VIEW)
    many = [{"x": f"bad{n}", "n": 13} if n % 2 else {"x": f"{n:03}"} for n in range(80)]
    async with place.ingest(wait_seconds=60) as ingest:
        await watched(place, ingest)
        other = asyncio.create_task(ingest.append(place.target, lines(*many), wait=True))
        while not ingest.pending(place.database, "d1_events").rows:
            await asyncio.sleep(0.01)
        for number in range(5):
            one = await ingest.append(place.target, lines({"x": f"a{number}"}), wait=True)
            assert (one.successful_rows, one.loaded, other.done()) == (1, True, False)
        told = await other
        assert (told.successful_rows, told.quarantined_rows) == (40, 40)
    assert len(await values(place, "d1_view")) == 46


async def test_a_copy_that_is_gone_is_no_reason_to_refuse_a_row(engine: Engine, tmp_path: Path) -> None:
    place = await make_viewed(engine, tmp_path, VIEW)
    async with place.ingest() as ingest:
        await watched(place, ingest)
        copies = [name for name in await tables(place) if name.startswith("probe")]
        assert copies
        for name in copies:
            await place.command(f"DROP TABLE IF EXISTS DB.{name} SYNC")
        told = await ingest.append(place.target, lines({"x": "a"}, {"x": "bad", "n": 13}), wait=True)
        assert (told.successful_rows, told.quarantined_rows, told.loaded) == (1, 1, True)
    assert await values(place, "d1_view") == ["0", "a"]


@pytest.mark.parametrize("data", ["", "JSON", "Dynamic"])
async def test_the_first_bad_rows_of_anybody_keep_nobody_waiting_until_single_rows_are_found(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str
) -> None:
    """K30: nobody sent a bad row before, all have one token, and the table has several views, joins and views of views."""
    place = await make_with_many_views(engine, tmp_path, data)
    find, go, looking = isolate.find, asyncio.Event(), asyncio.Event()

    async def slow(*args: Any, **more: Any) -> Any:
        looking.set()
        await go.wait()
        return await find(*args, **more)

    monkeypatch.setattr(isolate, "find", slow)
    bodies: list[list[Any]] = [
        [{"x": "a1"}],
        [{"x": "c1"}, {"x": "bad", "n": 13}, "no json"],
        [{"x": "b1"}, "no json"],
        *([{"x": f"d{n}"}] for n in range(20)),
        [{"x": "last"}],
    ]
    others = ["a1", "b1", *sorted(f"d{n}" for n in range(20))]
    async with place.ingest() as ingest:
        async with place.paused():
            waiting, sent = [], 0
            for body in bodies:
                waiting.append(asyncio.create_task(ingest.append(place.target, lines(*body), wait=True)))
                sent += len(body)
                await until(lambda sent=sent: ingest.pending(place.database, "d1_events").rows >= sent)
        await looking.wait()
        told = await asyncio.gather(waiting[0], *waiting[2:-1])
        assert [(r.successful_rows, r.loaded) for r in told] == [(1, True)] * 22
        for table in ("d1_events", "d1_view", "d1_rated", "d1_last"):
            assert await values(place, table) == others
        assert not waiting[1].done() and not waiting[-1].done()
        kept = {path: path.read_bytes() for path in place.folder.glob("segments/*/*/*") if path.is_file()}
        go.set()
        told = await asyncio.gather(waiting[1], waiting[-1])
        assert [(r.successful_rows, r.quarantined_rows) for r in told] == [(1, 2), (0, 1)]
    for _ in range(2):
        for table in ("d1_events", "d1_view", "d1_rated", "d1_last"):
            assert await values(place, table) == sorted(["c1", *others])
        assert await place.count("q1_events") == 4
        for path, content in kept.items():  # as if it had died while it looked
            path.write_bytes(content)
        async with place.ingest() as ingest:
            assert await ingest.drain(place.database, "d1_events")
    assert {name for name in await tables(place) if name.startswith("probe")} == set()


async def test_who_sent_no_bad_row_does_not_wait_for_the_quarantine(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = await make_viewed(engine, tmp_path, VIEW)
    go, insert = asyncio.Event(), load._quarantine

    async def slow(*args: Any) -> None:
        await go.wait()
        await insert(*args)

    monkeypatch.setattr(load, "_quarantine", slow)
    async with place.ingest() as ingest:
        async with place.paused():
            good = asyncio.create_task(ingest.append(place.target, lines({"x": "1"}), wait=True))
            bad = asyncio.create_task(ingest.append(place.target, lines({"x": "2"}, {"x": 3, "n": 999}), wait=True))
            await until(lambda: ingest.pending(place.database, "d1_events").rows >= 3)
        assert (await good).loaded and not bad.done()
        assert await values(place, "d1_view") == ["1", "2"]
        go.set()
        assert (await bad).quarantined_rows == 1
    assert await place.count("q1_events") == 1


async def test_a_large_segment_whose_first_rows_are_left_out_is_stored_once(engine: Engine, tmp_path: Path) -> None:
    """Its token means the same whichever rows are left out, though the engine reads such a file in pieces."""
    place = await make_viewed(engine, tmp_path, VIEW)
    bad = [{"x": "bad", "n": 13} for _ in range(limits.ONE_PIECE_ROWS + 5)]
    good = [{"x": f"{n:05}"} for n in range(9)]
    async with place.ingest(wait_seconds=60) as ingest:
        assert (await ingest.append(place.target, lines({"x": "0"}), wait=True)).loaded
        told, kept = await together(place, ingest, bad, good)
        assert [r.quarantined_rows for r in told] == [len(bad), 0]
    stored, viewed = await values(place), await values(place, "d1_view")
    assert stored == viewed == sorted(["0", *(r["x"] for r in good)])
    assert await place.count("q1_events") == len(bad)
    for path, content in kept.items():  # as if it had died right before the file was removed, and the notes with it
        path.write_bytes(content)
    async with place.ingest() as ingest:
        assert await ingest.drain(place.database, "d1_events")
    assert await values(place, "d1_view") == viewed
    assert [x for x in await values(place) if x != "bad"] == viewed


@pytest.mark.parametrize("several", [True, False])
async def test_rows_that_the_engine_lost_from_memory_are_not_taken_for_stored(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, several: bool
) -> None:
    """It was killed and started again between two statements: what it holds in memory is empty then."""
    place = await make_viewed(engine, tmp_path, VIEW)
    insert, lost = Probe.insert, 0

    async def after_a_restart(probe: Probe, into: str, without: str, settings: Any) -> None:
        nonlocal lost
        lost += 1
        if lost == 1:
            await place.command(f"TRUNCATE TABLE DB.{probe._stage}")
        await insert(probe, into, without, settings)

    async with place.ingest() as ingest:
        await watched(place, ingest)
        monkeypatch.setattr(Probe, "insert", after_a_restart)
        bodies: list[list[Any]] = [[{"x": "a"}, "no json"], [{"x": "b"}], [{"x": "bad", "n": 13}]]
        told, _ = await together(place, ingest, *(bodies if several else bodies[:1]))
        assert lost > 1 or not several
        assert [(r.successful_rows, r.quarantined_rows) for r in told] == [(1, 1), (1, 0), (0, 1)][: len(told)]
    expected = ["0", "a", "b"] if several else ["0", "a"]
    assert await values(place, "d1_view") == expected
    assert [x for x in await values(place) if not x.startswith("bad")] == expected


async def test_a_view_that_came_since_is_asked_too(engine: Engine, tmp_path: Path) -> None:
    """Also where nobody said that the table changes."""
    place = await make_viewed(engine, tmp_path, VIEW)
    async with place.ingest() as ingest:
        await watched(place, ingest)
        await place.command(f"CREATE TABLE DB.d1_two (x String) ENGINE = MergeTree ORDER BY x SETTINGS {SETTINGS}")
        await place.command(
            "CREATE MATERIALIZED VIEW DB.m1_two TO DB.d1_two AS SELECT x FROM DB.d1_events WHERE throwIf(x = '2') = 0"
        )
        told, _ = await together(place, ingest, [{"x": "1"}], [{"x": "2"}], [{"x": "bad", "n": 13}])
        assert [(r.successful_rows, r.quarantined_rows) for r in told] == [(1, 0), (0, 1), (0, 1)]
    assert (await values(place, "d1_view"), await values(place, "d1_two")) == (["0", "1"], ["1"])


async def test_tenants_whose_tokens_fix_columns_take_one_table_in_memory_in_turn(engine: Engine, tmp_path: Path) -> None:
    """And none sees the other's rows."""
    place = await make_viewed(engine, tmp_path, VIEW)
    async with place.ingest() as ingest:
        for number in range(20):
            body = lines({"x": "forged", "n": 100 + number}, {"n": "bad"})
            told = await ingest.append(place.target, body, wait=True, fixed_values={"x": f"t{number:02}"})
            assert (told.successful_rows, told.quarantined_rows) == (1, 1)
        (name,) = [name for name in await tables(place) if name.startswith("probe")]
        assert await place.count(name) == 0
    rows = await engine.rows(f"SELECT x, n FROM `{place.database}`.d1_events ORDER BY x")
    assert [(r["x"], r["n"]) for r in rows] == [(f"t{n:02}", 100 + n) for n in range(20)]


@pytest.mark.parametrize("kind", ["type", "view"])
async def test_what_refused_rows_cost_does_not_hold_up_the_next_segment(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """An open segment waits the longer, the longer the last insert took: of its good rows, and nothing else."""
    place = await make_viewed(engine, tmp_path, VIEW)
    where, name = (load, "_quarantine") if kind == "type" else (Probe, "_refuses")
    step, running, since, spent = getattr(where, name), 0, 0.0, 0.0

    async def slow(*args: Any, **more: Any) -> Any:
        nonlocal running, since, spent
        since = since if running else time.monotonic()
        running += 1
        try:
            await asyncio.sleep(0.3)
            return await step(*args, **more)
        finally:
            running -= 1
            spent += 0.0 if running else time.monotonic() - since

    bad = {"x": "b", "n": 999} if kind == "type" else {"x": "b", "n": 13}
    async with place.ingest(log=Log(tmp_path / "segments", seal_seconds=3600)) as ingest:
        await ingest.append(place.target, lines({"x": "0"}), wait=True)
        monkeypatch.setattr(where, name, slow)
        for _ in range(2):  # its sender is not known yet, and then it is
            spent, began = 0.0, time.monotonic()
            async with place.paused():
                waiting = [
                    asyncio.create_task(ingest.append(place.target, lines(row), wait=True, scope=row["x"]))
                    for row in ({"x": "a"}, bad)
                ]
                await until(lambda: ingest.pending(place.database, "d1_events").rows >= 2)
            assert [answer.quarantined_rows for answer in await asyncio.gather(*waiting)] == [0, 1]
            assert await ingest.drain(place.database, "d1_events")
            others = time.monotonic() - began - spent
            pause = ingest._log._table(place.target.key).pause
            assert spent > 0 and pause <= max(limits.SEAL_SECONDS_LEAST, limits.SEAL_INSERTS * others)

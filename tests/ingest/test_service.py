"""From `append` to the tables, on the real engine."""

from __future__ import annotations

import asyncio
import json
import uuid
import zlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipit.datafiles.resources import Column, DataSource
from pipit.engine import Engine
from pipit.errors import BadRequest, Conflict, NotFound, QueryTimeout, TooLarge, Unavailable, UnprocessableWrite
from pipit.ingest import Ingest, Target, limits, load, writer
from pipit.ingest.log import Log
from pipit.tables import Locks, Mode
from pipit.tables.quarantine import create_quarantine
from pipit.tables.settings import table_settings
from waiting import until

pytestmark = pytest.mark.anyio

COLUMNS = (
    Column("id", "UInt32", "$.id"),
    Column("small", "UInt8", "$.small", "7"),
    Column("n", "Nullable(Int32)", "$.n"),
    Column("at", "DateTime('UTC')", "$.at", "'2024-01-01 00:00:00'"),
    Column("day", "Date", "$.day", "'2024-01-01'"),
    Column("name", "LowCardinality(String)", "$.user.name", "'nobody'"),
)
SETTINGS = ", ".join(f"{k} = {v}" for k, v in table_settings().items())


class Place:
    """A database of its own with one data source, and the ingestion into it."""

    def __init__(self, engine: Engine, folder: Path, database: str, target: Target) -> None:
        self.engine, self.folder, self.database, self.target = engine, folder, database, target
        self.locks = Locks()

    @asynccontextmanager
    async def ingest(self, **options: Any) -> AsyncIterator[Ingest]:
        ingest = Ingest(self.engine, self.folder, self.locks, **options)
        await ingest.start()
        try:
            yield ingest
        finally:
            await ingest.close()

    def paused(self) -> AbstractAsyncContextManager[None]:
        """Nothing is inserted into the table inside, as while a deploy changes it."""
        return self.locks.acquire([(self.database, "d1_events")], Mode.ALTER)

    async def count(self, table: str = "d1_events", what: str = "count()") -> int:
        (row,) = await self.engine.rows(f"SELECT {what} AS n FROM `{self.database}`.`{table}`")
        return int(row["n"])

    async def command(self, sql: str) -> None:
        await self.engine.command(sql.replace("DB.", f"`{self.database}`."))

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("segments/*/*/*.segment"))


async def make_place(
    engine: Engine,
    folder: Path,
    partition: str = "",
    columns: tuple[Column, ...] = COLUMNS,
    settings: str = SETTINGS,
) -> Place:
    database = f"pipit_{uuid.uuid4().hex[:12]}"
    target = Target(database, "d1_events", "q1_events", columns, partition)
    place = Place(engine, folder, database, target)
    definitions = ", ".join(f"`{c.name}` {c.type}" + (f" DEFAULT {c.default}" if c.default else "") for c in columns)
    await engine.command(f"CREATE DATABASE `{database}`")
    await place.command(
        f"CREATE TABLE DB.d1_events ({definitions}) ENGINE = MergeTree PARTITION BY ({partition or 'tuple()'}) "
        f"ORDER BY id SETTINGS {settings}"
    )
    await engine.command(create_quarantine(DataSource("events", "", columns), database, "q1_events"))
    return place


@pytest.fixture
async def place(engine: Engine, tmp_path: Path) -> AsyncIterator[Place]:
    yield await make_place(engine, tmp_path)


def lines(*rows: Any) -> bytes:
    return b"".join((row if isinstance(row, str) else json.dumps(row)).encode() + b"\n" for row in rows)


MUST_SHOW = [
    ({"id": 1, "small": 300}, "value '300' on column 'small' is not UInt8"),
    (
        '{"id": 2, "n": 340282366920938463463374607431768211461}',
        "value '340282366920938463463374607431768211461' on column 'n' is not Int32",
    ),
    ({"id": 3, "n": "text"}, "value 'text' on column 'n' is not Int32"),
    ({"id": 4, "n": "true"}, "value 'true' on column 'n' is not Int32"),
    ({"id": 5, "at": "2200-01-01"}, "value '2200-01-01' on column 'at' is not DateTime('UTC')"),
    ({"id": 6, "day": "2024-13-45"}, "value '2024-13-45' on column 'day' is not Date"),
    (
        {"n": 1},
        "Strict type checking failed. Object does not have column 'id', you should send a value or recreate the table "
        "with a Nullable column type. While accessing jsonpath '$.id'",
    ),
    (
        '{"id": 8, "n"',
        "invalid JSON: the line is not a JSON object: it ends before an object or a list is closed",
    ),
]


async def test_bad_rows_are_quarantined_with_their_reasons_and_good_ones_stored(place: Place) -> None:
    good = [{"id": 100 + n, "small": n, "n": None, "user": {"name": "x"}} for n in range(5)]
    body = lines(good[0], good[1], *(row for row, _ in MUST_SHOW), *good[2:])
    async with place.ingest() as ingest:
        result = await ingest.append(place.target, body, wait=True)
    assert (result.successful_rows, result.quarantined_rows, result.loaded) == (5, 8, True)
    rows = await place.engine.rows(f"SELECT c__error FROM `{place.database}`.q1_events")
    assert sorted(row["c__error"][0] for row in rows) == sorted(reason for _, reason in MUST_SHOW)
    stored = await place.engine.rows(f"SELECT id, small, n, name, day FROM `{place.database}`.d1_events ORDER BY id")
    assert stored == [{"id": 100 + n, "small": n, "n": None, "name": "x", "day": "2024-01-01"} for n in range(5)]
    assert await place.count("q1_events", 'countIf(c__record = \'{"id": 8, "n"\')') == 1
    assert place.files() == []


async def test_clean_rows_go_in_with_their_defaults_and_nothing_is_left(place: Place) -> None:
    async with place.ingest() as ingest:
        result = await ingest.append(place.target, lines({"id": 1}, {"id": 2, "name": None}), wait=True)
        assert (result.successful_rows, result.quarantined_rows) == (2, 0)
        assert await place.count(what="countIf(small = 7 AND name = 'nobody' AND day = '2024-01-01')") == 2
        assert await place.count("q1_events") == 0
        assert place.files() == []
        assert ingest.pending(place.database, "d1_events").bytes == 0


async def test_without_wait_the_rows_follow_by_themselves(place: Place) -> None:
    async with place.ingest() as ingest:
        result = await ingest.append(place.target, lines({"id": 1}, "broken"))
        assert (result.successful_rows, result.quarantined_rows, result.loaded) == (2, 0, False)
        assert ingest.pending(place.database, "d1_events").rows == 2
        assert await ingest.drain(place.database, "d1_events")
        assert (await place.count(), await place.count("q1_events")) == (1, 1)


async def test_each_request_is_told_of_its_own_rows(place: Place) -> None:
    """Sixty requests share segments; each has another mixture."""
    bodies = [lines(*[{"id": n}] * (n % 5 + 1), *[{"id": "x"}] * (n % 3)) for n in range(60)]
    async with place.ingest() as ingest:
        results = await asyncio.gather(*(ingest.append(place.target, body, wait=True) for body in bodies))
        assert ingest._log.syncs < 30
    assert [(r.successful_rows, r.quarantined_rows) for r in results] == [(n % 5 + 1, n % 3) for n in range(60)]
    assert await place.count() == sum(n % 5 + 1 for n in range(60))
    assert await place.count("q1_events") == sum(n % 3 for n in range(60))


async def test_json_bodies_are_one_object_or_an_array(place: Place) -> None:
    async with place.ingest() as ingest:
        one = await ingest.append(place.target, b'{\n  "id": 1\n}', format="json", wait=True)
        many = await ingest.append(place.target, b'[{"id": 2}, {"id":\n3}, {"id": "x"}]', format="json", wait=True)
        with pytest.raises(BadRequest):
            await ingest.append(place.target, b'[{"id": 2}', format="json", wait=True)
    assert [one.successful_rows, many.successful_rows, many.quarantined_rows] == [1, 2, 1]
    assert await place.count() == 3


async def test_fixed_values_of_the_token_are_stored_whatever_the_body_says(place: Place) -> None:
    async with place.ingest() as ingest:
        calls = [
            ingest.append(place.target, body, wait=True, fixed_values={"name": name})
            for name, body in (
                ("A", b'{"id": 1, "user": {"name": "B"}, "user": {"name": "C"}}'),
                ("B", b'{"id": 2, "user": {"name": "A"}}'),
            )
        ]
        await asyncio.gather(*calls, ingest.append(place.target, b'{"id": 3, "user": {"name": "D"}}', wait=True))
        with pytest.raises(BadRequest, match="'tenant'"):
            await ingest.append(place.target, b'{"id": 4}', fixed_values={"tenant": "A"})
    rows = await place.engine.rows(f"SELECT id, name FROM `{place.database}`.d1_events ORDER BY id")
    assert rows == [{"id": 1, "name": "A"}, {"id": 2, "name": "B"}, {"id": 3, "name": "D"}]


async def test_tenants_that_fix_the_same_columns_are_loaded_together(place: Place) -> None:
    many = 400
    async with place.ingest() as ingest:
        async with place.paused():
            for tenants in (range(many // 2), range(many // 2, many)):
                await asyncio.gather(
                    *(
                        ingest.append(
                            place.target,
                            lines({"id": 2 * n, "user": {"name": "x"}}, {"id": 2 * n + 1}, {"id": "bad"}),
                            fixed_values={"name": f"t{n} \x1f'\\\n{{source}}", "small": n % 2 == 0},
                        )
                        for n in tenants
                    )
                )
            pending = ingest.pending(*place.target.key)
            assert (pending.rows, pending.segments <= 2) == (3 * many, True)
        assert await ingest.drain(*place.target.key)
    rows = await place.engine.rows(f"SELECT id, name, small FROM `{place.database}`.d1_events ORDER BY id")
    assert rows == [
        {"id": n, "name": f"t{n // 2} \x1f'\\\n{{source}}", "small": int(n // 2 % 2 == 0)} for n in range(2 * many)
    ]
    assert await place.count("q1_events", "uniqExact(name)") == many


async def test_a_segment_of_an_earlier_version_has_its_values_in_its_header(place: Place) -> None:
    target = place.target
    meta = load.meta(target.columns, target.quarantine_table, target.partition_key)
    del meta["fixes"]
    header = {"database": target.database, "table": target.table, "created": 0.0}
    nonce, payload = "0f" * 16, lines({"id": 1, "user": {"name": "B"}}, {"id": 2}, {"id": "x"})
    frame = {"n": len(payload), "r": 3, "c": zlib.crc32(payload), "k": "", "d": ""}
    whole = b""
    for content in (header | {"meta": meta | {"fixed": {"name": "it's A"}}, "pipit": 1}, frame):
        text = json.dumps(content, separators=(",", ":")).encode()
        whole += b"\x1e%s %08x %s\n" % (nonce.encode(), zlib.crc32(text), text)
    path = place.folder / "segments" / target.database / target.table / "00000000000000000001-0f0f0f0f.segment"
    path.parent.mkdir(parents=True)
    path.write_bytes(whole + payload)
    async with place.ingest() as ingest:
        assert await ingest.drain(*target.key)
    rows = await place.engine.rows(f"SELECT id, name FROM `{place.database}`.d1_events ORDER BY id")
    assert rows == [{"id": 1, "name": "it's A"}, {"id": 2, "name": "it's A"}]
    assert await place.count("q1_events") == 1


async def test_a_key_counts_once(place: Place) -> None:
    body = lines({"id": 1}, {"id": 2}, {"id": "x"})
    async with place.ingest() as ingest:

        async def send(**options: Any) -> tuple[int, int]:
            given: dict[str, Any] = {"wait": True, "idempotency_key": "k1", "scope": "t", **options}
            result = await ingest.append(place.target, given.pop("body", body), **given)
            return result.successful_rows, result.quarantined_rows

        assert set(await asyncio.gather(*(send() for _ in range(8)))) == {(2, 1)}
        assert await send(wait=False) == (2, 1)
        with pytest.raises(Conflict, match="Idempotency-Key"):
            await send(body=lines({"id": 9}))
        assert await send(scope="another token") == (2, 1)  # a key is its sender's: this one is stored
        assert await send(idempotency_key="k2") == (2, 1)
        assert await send(fixed_values={"name": "another tenant"}) == (2, 1)
        with pytest.raises(BadRequest):
            await send(idempotency_key="")
    assert await place.count() == 8
    async with place.ingest() as ingest:
        again = await ingest.append(place.target, body, idempotency_key="k1", scope="t")
        assert (again.successful_rows, again.quarantined_rows) == (2, 1)
    assert await place.count() == 8


async def test_a_key_is_known_while_its_rows_still_wait(place: Place) -> None:
    async with place.ingest() as ingest, place.paused():
        first = await ingest.append(place.target, lines({"id": 1}), idempotency_key="k")
        second = await ingest.append(place.target, lines({"id": 1}), idempotency_key="k")
        assert first == second
        assert ingest.pending(place.database, "d1_events").rows == 1
    assert await place.count() == 1


async def test_a_key_whose_rows_were_refused_is_free_again(place: Place, tmp_path: Path) -> None:
    log = Log(tmp_path / "segments", max_pending_bytes=10)
    async with place.ingest(log=log) as ingest:
        with pytest.raises(Unavailable):
            await ingest.append(place.target, lines({"id": 1}, {"id": 2}), idempotency_key="k")
    async with place.ingest() as ingest:
        result = await ingest.append(place.target, lines({"id": 1}, {"id": 2}), idempotency_key="k", wait=True)
    assert result.successful_rows == await place.count() == 2


async def test_segments_of_a_process_that_died_are_loaded_at_the_next_start(place: Place) -> None:
    ingest = Ingest(place.engine, place.folder, place.locks)
    await ingest.start()
    async with place.paused():
        await ingest.append(place.target, lines({"id": 1}, "bad"), idempotency_key="k")
        for writer in ingest._writers.values():
            await writer.stop()
        await ingest._log.close()  # gives the lock back, as the kernel does
    assert await place.count() == 0
    async with place.ingest() as ingest:
        again = await ingest.append(place.target, lines({"id": 1}, "bad"), idempotency_key="k", wait=True)
        assert (again.successful_rows, again.quarantined_rows) == (1, 1)
    assert (await place.count(), await place.count("q1_events")) == (1, 1)


async def test_a_segment_that_is_replayed_is_counted_once_also_in_views(place: Place) -> None:
    await place.command(
        f"CREATE TABLE DB.d1_sums (name String, total UInt64) ENGINE = SummingMergeTree ORDER BY name SETTINGS {SETTINGS}"
    )
    await place.command(
        "CREATE MATERIALIZED VIEW DB.m1_sums TO DB.d1_sums AS SELECT name, count() AS total FROM DB.d1_events "
        "GROUP BY name"
    )
    body = lines(*({"id": n, "user": {"name": f"u{n % 3}"}} for n in range(30)), {"id": 300, "small": 300})
    async with place.ingest() as ingest:
        async with place.paused():
            await ingest.append(place.target, body)
            (path,) = place.files()
            kept = path.read_bytes()
        assert await ingest.drain(place.database, "d1_events")
    for _ in range(3):  # as if it had died right before the file was removed
        path.write_bytes(kept)
        async with place.ingest() as ingest:
            assert await ingest.drain(place.database, "d1_events")
        assert place.files() == []
    assert (await place.count(), await place.count("q1_events")) == (30, 1)
    assert await place.count("d1_sums", "sum(total)") == 30


async def test_a_view_that_fails_is_told_and_repaired_when_it_works_again(place: Place) -> None:
    await place.command(f"CREATE TABLE DB.d1_view (id UInt32) ENGINE = MergeTree ORDER BY id SETTINGS {SETTINGS}")
    await place.command(
        "CREATE MATERIALIZED VIEW DB.m1_view TO DB.d1_view AS SELECT id FROM DB.d1_events "
        "WHERE throwIf(id < 15, 'unlucky') = 0"
    )
    async with place.ingest() as ingest:
        with pytest.raises(UnprocessableWrite) as failed:
            await ingest.append(place.target, lines({"id": 13}, {"id": 14}, "bad"), wait=True)
        assert failed.value.status == 422
        assert "unlucky" in failed.value.detail
        assert "unlucky" not in failed.value.message + failed.value.hint
        assert len(place.files()) == 1
        async with place.paused():
            await place.command("DROP TABLE DB.m1_view SYNC")
            await place.command("CREATE MATERIALIZED VIEW DB.m1_view TO DB.d1_view AS SELECT id FROM DB.d1_events")
        assert await ingest.drain(place.database, "d1_events")
    assert place.files() == []
    assert (await place.count(), await place.count("q1_events"), await place.count("d1_view")) == (2, 1, 2)


@pytest.mark.parametrize("restart", [False, True])
async def test_a_failed_view_stops_nobody_and_its_segment_is_never_replayed_too_late(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, restart: bool
) -> None:
    """The window of the tables is 10 blocks: a replay after three inserts of 4 partitions would double row 1."""
    monkeypatch.setattr("pipit.tables.settings.DEDUPLICATION_WINDOW", 10)
    monkeypatch.setattr(limits, "MAX_BLOCKS_BEHIND_FAILED", 5)
    monkeypatch.setattr(writer, "_FAILED_FIRST", 30.0 if restart else 1.0)
    window = ", ".join(f"{k} = {v}" for k, v in table_settings().items())
    place = await make_place(engine, tmp_path, "id % 4", settings=window)
    await place.command(f"CREATE TABLE DB.d1_view (id UInt32) ENGINE = MergeTree ORDER BY id SETTINGS {window}")
    await place.command(
        "CREATE MATERIALIZED VIEW DB.m1_view TO DB.d1_view AS SELECT id FROM DB.d1_events WHERE throwIf(id = 1) = 0"
    )
    async with place.ingest() as ingest:
        with pytest.raises(UnprocessableWrite):
            await ingest.append(place.target, lines({"id": 1}, "bad"), wait=True, idempotency_key="k")
        for first in (100, 200, 300):
            body = lines(*({"id": first + n} for n in range(4)))
            assert (await ingest.append(place.target, body, wait=True)).loaded
        if not restart:
            assert await ingest.drain(place.database, "d1_events")
    if restart:
        assert len(place.files()) == 1
        async with place.ingest() as ingest:
            assert await ingest.drain(place.database, "d1_events")
            again = await ingest.append(place.target, lines({"id": 1}, "bad"), wait=True, idempotency_key="k")
            assert (again.successful_rows, again.quarantined_rows, again.loaded) == (1, 1, True)
    async with place.ingest() as ingest:  # it stays aside, and its key is remembered
        again = await ingest.append(place.target, lines({"id": 1}, "bad"), wait=True, idempotency_key="k")
        assert (again.successful_rows, again.quarantined_rows, again.loaded) == (1, 1, True)
    assert [await place.count(table) for table in ("d1_events", "d1_view", "q1_events")] == [13, 12, 1]
    (aside,) = place.folder.glob("segments/*/*/*.aside")
    assert place.files() == []
    told = [r.getMessage() for r in caplog.records if aside.name in r.getMessage()]
    assert len(told) == 1
    assert "d1_events" in told[0]
    assert "throwIf" in told[0]


async def test_views_that_work_are_fed_once_beside_one_that_fails(place: Place) -> None:
    for name, condition in (("a", "1"), ("b", "throwIf(id < 15) = 0"), ("c", "1")):
        await place.command(f"CREATE TABLE DB.d1_{name} (id UInt32) ENGINE = MergeTree ORDER BY id SETTINGS {SETTINGS}")
        await place.command(
            f"CREATE MATERIALIZED VIEW DB.m1_{name} TO DB.d1_{name} AS SELECT id FROM DB.d1_events WHERE {condition}"
        )
    async with place.ingest() as ingest:
        with pytest.raises(UnprocessableWrite):
            await ingest.append(place.target, lines({"id": 13}, {"id": 14}), wait=True)
        assert await place.count() == 2
        async with place.paused():
            await place.command("DROP TABLE DB.m1_b SYNC")
            await place.command("CREATE MATERIALIZED VIEW DB.m1_b TO DB.d1_b AS SELECT id FROM DB.d1_events")
        assert await ingest.drain(place.database, "d1_events")
    assert [await place.count(table) for table in ("d1_events", "d1_a", "d1_b", "d1_c")] == [2, 2, 2, 2]


async def test_a_segment_that_always_times_out_is_kept_for_a_person_and_stops_nobody(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hurried = {**limits.insert_settings(), "max_execution_time": 0.2}
    monkeypatch.setattr(limits, "TIMEOUTS_TO_BESIDE", 2)
    monkeypatch.setattr(limits, "TIMEOUTS_TO_ASIDE", 3)
    await place.command(f"CREATE TABLE DB.d1_view (id UInt32) ENGINE = MergeTree ORDER BY id SETTINGS {SETTINGS}")
    await place.command(
        "CREATE MATERIALIZED VIEW DB.m1_view TO DB.d1_view AS SELECT id FROM DB.d1_events "
        "WHERE id NOT IN (SELECT toUInt32(0) FROM system.one WHERE sleep(0.5) = 0)"
    )
    async with place.ingest() as ingest:
        with monkeypatch.context() as first:
            first.setattr(limits, "insert_settings", lambda: hurried)
            slow = asyncio.create_task(ingest.append(place.target, lines({"id": 13}), wait=True))
            await until(lambda: ingest.pending(place.database, "d1_events").segments)
        other = replace(place.target, name="other")  # the same table, in a segment of its own
        assert (await ingest.append(other, lines({"id": 14}), wait=True)).loaded
        assert len(place.files()) == 1  # the other one goes first, and this one is tried again
        with pytest.raises(QueryTimeout):
            await slow
        assert await ingest.drain(place.database, "d1_events")
        assert ingest.pending(place.database, "d1_events").bytes == 0
    (stuck,) = place.folder.glob("segments/*/*/*.stuck")
    assert b'{"id": 13}' in stuck.read_bytes()
    assert stuck.name in caplog.text


async def test_a_segment_is_one_part_for_each_partition(engine: Engine, tmp_path: Path) -> None:
    place = await make_place(engine, tmp_path, "toYYYYMM(day)")
    await place.command("SYSTEM STOP MERGES DB.d1_events")
    body = lines(*({"id": n, "day": f"2024-0{n % 3 + 1}-05", "user": {"name": f"u{n % 9}"}} for n in range(150_000)))
    async with place.ingest() as ingest:
        result = await ingest.append(place.target, body, wait=True)
    assert result.successful_rows == 150_000
    parts = await engine.rows(
        f"SELECT count() AS n FROM system.parts WHERE database = '{place.database}' AND table = 'd1_events' AND active"
    )
    assert parts == [{"n": 3}]


@pytest.mark.parametrize("dirty", [False, True])
async def test_more_partitions_than_one_insert_takes(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dirty: bool
) -> None:
    monkeypatch.setattr(limits, "MAX_PARTITIONS", 10)
    place = await make_place(engine, tmp_path, "toDate(at), name")
    await place.command(f"CREATE TABLE DB.d1_view (id UInt32) ENGINE = MergeTree ORDER BY id SETTINGS {SETTINGS}")
    await place.command("CREATE MATERIALIZED VIEW DB.m1_view TO DB.d1_view AS SELECT id FROM DB.d1_events")
    many = limits.MAX_PARTITIONS * 2 + 30
    rows: list[Any] = [{"id": n, "user": {"name": f"u{n % many}"}} for n in range(many * 3)]
    rows += ["bad"] if dirty else []
    async with place.ingest() as ingest:
        async with place.paused():
            await ingest.append(place.target, lines(*rows))
            (path,) = place.files()
            kept = path.read_bytes()
        assert await ingest.drain(place.database, "d1_events")
    path.write_bytes(kept)
    async with place.ingest() as ingest:
        assert await ingest.drain(place.database, "d1_events")
    assert await place.count() == await place.count("d1_view") == many * 3
    assert await place.count("q1_events") == int(dirty)


async def test_a_schema_of_hundreds_of_columns(engine: Engine, tmp_path: Path) -> None:
    kinds = ["UInt64", "DateTime('UTC')", "Decimal(18, 4)", "Array(Int32)", "Enum8('a' = 1)"]
    wide = tuple(Column(f"column_number_{n}", kinds[n % 5], f"$.group_{n % 20}.column_number_{n}") for n in range(250))
    place = await make_place(engine, tmp_path, columns=(Column("id", "UInt32", "$.id"), *wide))
    values = [1, "2024-01-01", 1.5, [1], "a"]
    row: dict[str, Any] = {"id": 1}
    for n in range(250):
        row.setdefault(f"group_{n % 20}", {})[f"column_number_{n}"] = values[n % 5]
    broken = {**row, "group_3": {}, "group_7": [1]}
    async with place.ingest(wait_seconds=240) as ingest:
        result = await ingest.append(place.target, lines(row, broken, row), wait=True)
    assert (result.successful_rows, result.quarantined_rows) == (2, 1)
    assert await place.count("q1_events", "sum(length(c__error))") >= 25


async def test_many_small_requests_with_a_bad_row_among_them(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEAL_REQUESTS", 300)
    async with place.ingest(wait_seconds=240) as ingest:
        async with place.paused():
            bodies = [b'{"id": 1}' if n % 100 else b"bad" for n in range(1000)]
            waiting = [asyncio.create_task(ingest.append(place.target, body, wait=True)) for body in bodies]
            await until(lambda: ingest.pending(place.database, "d1_events").rows >= 1000)
        results = await asyncio.gather(*waiting)
    assert [r.quarantined_rows for r in results] == [int(n % 100 == 0) for n in range(1000)]
    assert (await place.count(), await place.count("q1_events")) == (990, 10)


async def test_a_table_that_is_gone_keeps_its_file_and_stops_nobody(place: Place) -> None:
    async with place.ingest() as ingest:
        async with place.paused():
            waiting = asyncio.create_task(ingest.append(place.target, lines({"id": 1}), wait=True))
            await until(lambda: ingest.pending(place.database, "d1_events").rows)
            await place.command("DROP TABLE DB.d1_events SYNC")
        with pytest.raises(NotFound):
            await waiting
        assert ingest.pending(place.database, "d1_events").bytes == 0
    assert len(list(place.folder.glob("segments/*/*/*.orphan"))) == 1


async def test_a_wait_that_takes_too_long_is_acknowledged_as_kept(place: Place) -> None:
    async with place.ingest(wait_seconds=0.05) as ingest, place.paused():
        result = await ingest.append(place.target, lines({"id": 1}), wait=True)
        assert (result.successful_rows, result.loaded) == (1, False)
    assert await place.count() == 1


async def test_more_columns_than_the_segment_knew_take_their_defaults(place: Place) -> None:
    async with place.ingest() as ingest:
        async with place.paused():
            await ingest.append(place.target, lines({"id": 1, "extra": 5}, "bad"))
            await place.command("ALTER TABLE DB.d1_events ADD COLUMN extra UInt8 DEFAULT 3 FIRST")
            await place.command("ALTER TABLE DB.q1_events ADD COLUMN extra Nullable(String) FIRST")
            wider = replace(place.target, columns=(Column("extra", "UInt8", "$.extra", "3"), *COLUMNS))
            await ingest.append(wider, lines({"id": 2, "extra": 5}))
        assert await ingest.drain(place.database, "d1_events")
    rows = await place.engine.rows(f"SELECT id, extra FROM `{place.database}`.d1_events ORDER BY id")
    assert rows == [{"id": 1, "extra": 3}, {"id": 2, "extra": 5}]


async def test_requests_that_cannot_be_are_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async with place.ingest() as ingest:
        with pytest.raises(BadRequest, match="format"):
            await ingest.append(place.target, b"{}", format="csv")
        monkeypatch.setattr(limits, "SEAL_ROWS", 2)
        with pytest.raises(TooLarge):
            await ingest.append(place.target, b"{}\n{}\n{}\n")
    with pytest.raises(Unavailable):
        await ingest.append(place.target, b"{}")
    assert await place.count() == 0

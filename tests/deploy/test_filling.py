"""How new generations are filled: piece by piece, each piece once, whatever is cut off in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from deploy.test_generations import _EVENTS, BASE, REBUILDS, assert_holds, changed, objects, send
from pipit.catalog.catalog import Catalog
from pipit.deploy import Deployer, fill
from pipit.deploy.chunks import Part, Size, can_be_cut, cut
from pipit.deploy.views import match_of, views_of
from pipit.errors import Conflict, Unavailable
from pipit.query.compose import Composer
from serving import Workspace
from waiting import until

pytestmark = pytest.mark.anyio

FILES = REBUILDS["a FORWARD_QUERY"][0]  # its views are filled from what it makes


def test_chunks_hold_each_row_once() -> None:
    parts = [Part(f"p_{n}_{n}_0", rows, rows * 8) for n, rows in enumerate([3, 100_000, 5, 7, 20_000, 1])]
    chunks = cut(parts, Size(30_000, 2**30))
    assert sum(chunk.rows for chunk in chunks) == sum(part.rows for part in parts)
    assert max(chunk.rows for chunk in chunks) <= 30_000 + 8192
    assert cut(parts[::-1], Size(30_000, 2**30)) == chunks  # whatever the order in which the engine lists them
    big = [chunk.where for chunk in chunks if "p_1_1_0" in chunk.where]
    edges = [[int(word) for word in where.split() if word.isdecimal()] for where in big]
    assert edges[0][0] == 0 and edges[-1][1] == 100_000
    assert all(before[1] == after[0] for before, after in pairwise(edges))
    assert len({chunk.key for chunk in chunks}) == len(chunks)


def test_rows_of_many_bytes_make_short_chunks() -> None:
    assert [chunk.rows for chunk in cut([Part("a", 10, 1000)], Size(1_000_000, 200))] == [2] * 5
    assert cut([], Size(10, 10)) == []


def test_many_parts_share_chunks() -> None:
    chunks = cut([Part(f"p{n}", 1, 8) for n in range(250)], Size(1000, 2**20))
    assert [chunk.rows for chunk in chunks] == [100, 100, 50]


@pytest.mark.parametrize(
    ("query", "groups", "expected"),
    [
        ("SELECT number + 1 AS a FROM t WHERE number > 2", False, True),
        ("SELECT number, arrayJoin([1, 2]) AS a FROM (SELECT number FROM t)", False, True),
        ("SELECT count() AS a FROM t", False, False),
        ("SELECT number % 3 AS a, count() FROM t GROUP BY a", False, False),
        ("SELECT number % 3 AS a, count() FROM t GROUP BY a", True, True),
        ("SELECT a, count() FROM (SELECT number % 3 AS a, count() AS n FROM t GROUP BY a) GROUP BY a", True, False),
        ("SELECT DISTINCT number FROM t", True, False),
        ("SELECT number FROM t LIMIT 3", True, False),
        ("SELECT number FROM t LIMIT 1 BY number", True, False),
        ("SELECT number, row_number() OVER (ORDER BY number) FROM t", True, False),
        ("SELECT number FROM t UNION ALL SELECT number FROM t", True, False),
        ("SELECT t.number FROM t JOIN t AS o ON o.number = t.number", True, False),
    ],
)
async def test_what_is_made_piece_by_piece(workspace: Workspace, query: str, groups: bool, expected: bool) -> None:
    engine, database = workspace.server.engine, workspace.database
    await engine.command(f"CREATE TABLE `{database}`.t (number UInt64) ENGINE = MergeTree ORDER BY number")
    await engine.command(f"INSERT INTO `{database}`.t SELECT number FROM numbers(10)")
    plan = await engine.query(f"EXPLAIN PLAN json = 1 {query}", format="TSVRaw", database=database)
    assert can_be_cut(plan.decode(), groups=groups) is expected


def test_a_plan_that_cannot_be_read() -> None:
    assert not can_be_cut("", groups=True) and not can_be_cut("[{}]", groups=True)


class Watched:
    """The engine, whose statements are noted. `stop` says where it hangs until the caller is cancelled, or goes away."""

    def __init__(self, workspace: Workspace, stop: Callable[[str, int], bool], error: Exception | None = None) -> None:
        self._engine = workspace.server.engine
        self._stop = stop
        self._error = error
        self.chunks: list[str] = []
        self.hit = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def command(self, sql: str, *args: Any, **options: Any) -> None:
        if sql.startswith("INSERT INTO") and ".`x4_" in sql:
            filters = str((options.get("settings") or {}).get("additional_table_filters", ""))
            self.chunks.append(f"{sql.split(' ')[2]} {filters}")
        if self._stop(sql, len(self.chunks)) and not self.hit.is_set():
            self.hit.set()
            if self._error is not None:
                raise self._error
            await asyncio.Event().wait()
        await self._engine.command(sql, *args, **options)


async def deployer_of(workspace: Workspace, engine: Any) -> tuple[Catalog, Deployer]:
    """As after a start."""
    catalog = Catalog(engine, workspace.server.config.admin_token)
    await catalog.load()
    server = workspace.server
    deployer = Deployer(engine, catalog, server.ingest, server.locks, patience=20)
    return catalog, deployer


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part is a chunk, and each of more than ten rows several."""
    monkeypatch.setattr(fill, "SHORT", Size(10, 2**20))


async def test_it_is_filled_piece_by_piece(workspace: Workspace, small: None) -> None:
    await workspace.deploy(BASE)
    await send(workspace, 0, 50)
    await send(workspace, 50, 60)
    watched = Watched(workspace, lambda _sql, _n: False)
    catalog, deployer = await deployer_of(workspace, watched)
    await deployer.deploy(workspace.id, FILES)
    events = [chunk for chunk in watched.chunks if "x4_d2_events" in chunk]
    assert len(events) >= 6 and len(set(watched.chunks)) == len(watched.chunks)
    assert [chunk for chunk in watched.chunks if "x4_d2_daily" in chunk]
    await workspace.server.catalog.load()
    await assert_holds(workspace, 60)
    assert not [name for name in await objects(workspace) if name.startswith("x")]
    assert catalog.snapshot(workspace.id).deployment == 2


STOPS: dict[str, Callable[[str, int], bool]] = {
    "at the first chunk": lambda sql, n: n == 1,
    "at a later chunk": lambda sql, n: n == 4,
    "at a chunk of the last table": lambda sql, n: sql.startswith("INSERT") and "x4_d2_monthly" in sql,
    "before a chunk has its name": lambda sql, n: sql.startswith("RENAME") and n == 3,
    "while chunks are put together": lambda sql, n: sql.startswith("ALTER") and "ATTACH" in sql and "x5_1_" in sql,
    "while images are dropped": lambda sql, n: sql.startswith("DROP") and "x3_" in sql and n > 3,
}


@pytest.mark.parametrize(("stop", "promote"), [*((stop, True) for stop in STOPS), ("at a later chunk", False)])
async def test_a_start_goes_on_with_it(workspace: Workspace, small: None, stop: str, promote: bool) -> None:
    await workspace.deploy(BASE)
    await send(workspace, 0, 40)
    watched = Watched(workspace, STOPS[stop])
    _, deployer = await deployer_of(workspace, watched)
    deploying = asyncio.ensure_future(deployer.deploy(workspace.id, FILES, promote=promote))
    await watched.hit.wait()
    await deployer.close()
    with pytest.raises(Unavailable):
        await deploying
    again = Watched(workspace, lambda _sql, _n: False)
    catalog, deployer = await deployer_of(workspace, again)
    await deployer.clean_up()
    generations = await deployer.generations()
    into = {one.live[0].table: [other.table for other, _ in one.others] for one in generations[workspace.database]}
    assert into["d1_events"] == ["d2_events"]
    await deployer.resume()
    with pytest.raises(Conflict):
        await deployer.promote(workspace.id, 2)
    if promote:  # the same command again waits for it
        assert (await deployer.deploy(workspace.id, FILES)).result == "no_changes"
    else:
        await until(lambda: catalog.beside(workspace.id).staging is not None)
        await until(lambda: deployer.making(workspace.id) is None)
    # What was done is not done again, but for what was cut off.
    assert len(set(again.chunks) & set(watched.chunks)) <= 1
    await workspace.server.catalog.load()
    if not promote:
        await assert_holds(workspace, 40)
        await workspace.server.deployer.promote(workspace.id, 2)
    await assert_holds(workspace, 40)
    await send(workspace, 40, 45)
    await assert_holds(workspace, 45)
    assert not [name for name in await objects(workspace) if name.startswith("x")]


async def test_what_cannot_be_gone_on_with_has_failed(workspace: Workspace) -> None:
    """While rows are put into the new tables nobody could say which are there."""
    await workspace.deploy(BASE)
    await send(workspace, 0, 20)
    before = await objects(workspace)
    watched = Watched(workspace, lambda sql, _n: "ATTACH" in sql and "`d2_daily` ATTACH" in sql)
    _, deployer = await deployer_of(workspace, watched)
    deploying = asyncio.ensure_future(deployer.deploy(workspace.id, FILES))
    await watched.hit.wait()
    await deployer.close()
    with pytest.raises(Unavailable):
        await deploying
    catalog, deployer = await deployer_of(workspace, workspace.server.engine)
    await deployer.clean_up()
    await deployer.resume()
    assert await objects(workspace) == before
    (row,) = await catalog.state.deployments(workspace.id, ids=[2])
    assert row.details.status == "failed"
    await deployer.deploy(workspace.id, FILES)
    await workspace.server.catalog.load()
    await assert_holds(workspace, 20)


async def test_the_engine_goes_away_at_a_chunk(workspace: Workspace, small: None) -> None:
    await workspace.deploy(BASE)
    await send(workspace, 0, 40)
    watched = Watched(workspace, lambda sql, n: n == 2, Unavailable("gone"))
    _, deployer = await deployer_of(workspace, watched)
    await deployer.deploy(workspace.id, FILES)
    assert watched.hit.is_set()
    await workspace.server.catalog.load()
    await assert_holds(workspace, 40)


async def test_it_goes_on_when_its_caller_leaves(workspace: Workspace, small: None) -> None:
    await workspace.deploy(BASE)
    await send(workspace, 0, 40)
    deployer = workspace.server.deployer
    deploying = asyncio.ensure_future(workspace.deploy(FILES))
    await until(lambda: deployer.making(workspace.id) is not None)
    deploying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await deploying
    with pytest.raises(Conflict):
        await workspace.deploy(FILES)
    await until(lambda: workspace.server.catalog.snapshot(workspace.id).deployment == 2)
    await assert_holds(workspace, 40)


@pytest.mark.parametrize("again", [False, True])
async def test_it_is_discarded_while_it_is_made(workspace: Workspace, small: None, again: bool) -> None:
    """Also after a start that went on with it."""
    await workspace.deploy(BASE)
    await send(workspace, 0, 40)
    before = await objects(workspace)
    watched = Watched(workspace, lambda _sql, n: n == 3)
    catalog, deployer = await deployer_of(workspace, watched)
    deploying = asyncio.ensure_future(deployer.deploy(workspace.id, FILES))
    await watched.hit.wait()
    if again:
        await deployer.close()
        with pytest.raises(Unavailable):
            await deploying
        watched = Watched(workspace, lambda _sql, n: n == 1)
        catalog, deployer = await deployer_of(workspace, watched)
        await deployer.clean_up()
        await deployer.resume()
        await watched.hit.wait()
    await deployer.discard(workspace.id, 2)
    if not again:
        with pytest.raises(Conflict, match="discarded while it was made"):
            await deploying
    assert await objects(workspace) == before
    (row,) = await catalog.state.deployments(workspace.id, ids=[2])
    assert row.details.status == "discarded"
    await send(workspace, 40, 45)
    await deployer.deploy(workspace.id, FILES)
    await workspace.server.catalog.load()
    await assert_holds(workspace, 45)


async def test_a_query_over_all_rows_is_made_in_one_piece(workspace: Workspace, small: None) -> None:
    forward = (
        "ROW_POLICY",
        "FORWARD_QUERY >\n    SELECT max(day) AS day, customer_id, '' AS code, sum(amount) AS amount FROM events "
        "GROUP BY customer_id\n\nROW_POLICY",
    )
    await workspace.deploy(BASE)
    await send(workspace, 0, 40)
    await workspace.deploy(changed(_EVENTS, forward, ("SORTING_KEY customer_id", "SORTING_KEY customer_id, day")))
    rows = await workspace.rows("/v0/pipes/landed.json")
    assert [(row["customer_id"], row["amount"]) for row in rows] == [("a", sum(range(0, 40, 2))), ("b", sum(range(1, 40, 2)))]


async def test_a_column_more_and_a_view_that_reads_it(workspace: Workspace) -> None:
    """The live table is altered in place, and the target of its view is made anew from it."""
    await workspace.deploy(BASE)
    await send(workspace, 0, 20)
    amount = "`amount` Int64 `json:$.amount`"
    files = changed(_EVENTS, (amount, f"{amount},\n    `more` Int64 `json:$.more` DEFAULT 0"))
    view = BASE["materializations/to_daily.pipe"].replace("sum(amount) AS total", "sum(amount + more) AS total")
    outcome = await workspace.deploy(files | {"materializations/to_daily.pipe": view})
    assert {rebuild.table.name: rebuild.how.value for rebuild in outcome.plan.rebuilds} == {"daily": "views", "monthly": "views"}
    await assert_holds(workspace, 20)
    await send(workspace, 20, 25)
    await assert_holds(workspace, 25)


async def test_a_view_that_a_switch_left_is_dropped(workspace: Workspace) -> None:
    """Into a table that what is live uses: beside the live view it would count each row twice."""
    await workspace.deploy(BASE)
    view = BASE["materializations/to_daily.pipe"].replace("sum(amount) AS total", "sum(amount) AS total, 1 AS unused")
    await workspace.deploy(BASE | {"materializations/to_daily.pipe": view + "DEPLOYMENT_METHOD alter\n"}, promote=False)
    staging = workspace.server.catalog.beside(workspace.id).staging
    assert staging is not None
    before = await objects(workspace)
    made = views_of(staging.snapshot, Composer())["to_daily.roll"]
    physical, match = staging.snapshot.names.views[made.key], await match_of(workspace.server.engine, made)
    assert made.target.physical == "d1_daily" and physical not in before
    await workspace.server.engine.command(made.create(workspace.database, physical, match))
    await workspace.server.deployer.clean_up()
    assert await objects(workspace) == before
    await send(workspace, 0, 10)
    await assert_holds(workspace, 10)
    await workspace.server.deployer.promote(workspace.id, 2)
    await send(workspace, 10, 15)
    await assert_holds(workspace, 15)


async def test_progress_is_told(workspace: Workspace, small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    await workspace.deploy(BASE)
    await send(workspace, 0, 40)
    command, hit, goes_on = workspace.server.engine.command, asyncio.Event(), asyncio.Event()

    async def slow(sql: str, *args: Any, **options: Any) -> None:
        if sql.startswith("INSERT INTO") and "x4_d2_daily" in sql and not hit.is_set():
            hit.set()
            await goes_on.wait()
        await command(sql, *args, **options)

    monkeypatch.setattr(workspace.server.engine, "command", slow)
    deploying = asyncio.ensure_future(workspace.deploy(FILES))
    await hit.wait()
    found = (await workspace.get("/v1/deployments/2")).json["deployment"]
    assert (found["status"], found["state"], found["live"]) == ("creating_schema", "creating", False)
    told = found["progress"]
    assert {one["datasource"]: (one["rows"], one["of"]) for one in told["tables"]}["events"] == (40, 40)
    assert 40 <= told["rows"] < told["of"] and told["seconds_left"] >= 0
    listed = (await workspace.get("/v1/deployments?kept=true")).json["deployments"]
    assert [one["state"] for one in listed] == ["live", "creating"]
    assert len((await workspace.get("/v1/deployments")).json["deployments"]) == 1
    goes_on.set()
    await deploying
    assert "progress" not in json.dumps((await workspace.get("/v1/deployments/2")).json)

"""A deploy that is cut off half-way: it is live as a whole or not at all, and nothing that is not live feeds a table.

The engine is the real one behind `Cut`, which loses it at one statement, before or after that was carried out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from pipit.catalog.catalog import Catalog
from pipit.deploy import Deployer, Outcome
from pipit.engine import Engine
from pipit.errors import Conflict, SqlError, Unavailable
from projects import DAILY, DAILY_VIEW, EVENTS, LATEST, event
from serving import Workspace
from waiting import until

pytestmark = pytest.mark.anyio

FIRST = {"datasources/events.datasource": EVENTS, "endpoints/latest.pipe": "TOKEN old READ\n" + LATEST}
SECOND = {
    "datasources/events.datasource": EVENTS.replace(
        "    `amount`", "    `note` Nullable(String) `json:$.note`,\n    `amount`"
    ),
    "datasources/daily.datasource": DAILY,
    "materializations/daily_view.pipe": DAILY_VIEW,
    "endpoints/latest.pipe": "TOKEN fresh READ\n" + LATEST,
}


class Cut:
    """The engine, which goes away at the first statement that `at` says, and is back when `back` is set."""

    def __init__(self, engine: Engine, at: Callable[[str], bool], *, carried_out: bool, error: Exception) -> None:
        self._engine = engine
        self._at = at
        self._carried_out = carried_out
        self._error = error
        self.armed = True
        self.hit = asyncio.Event()
        self.back = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def _through(self, text: str, call: Callable[[], Any]) -> Any:
        if self.hit.is_set() and not self.back.is_set():
            raise Unavailable("away")
        if self.armed and not self.hit.is_set() and self._at(text):
            self.hit.set()
            if self._carried_out:
                await call()
            raise self._error
        return await call()

    async def command(self, sql: str, *args: Any, **options: Any) -> None:
        await self._through(sql, lambda: self._engine.command(sql, *args, **options))

    async def rows(self, sql: str, *args: Any, **options: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self._through(sql, lambda: self._engine.rows(sql, *args, **options))
        return found

    async def insert(self, table: str, rows: Any, **options: Any) -> None:
        await self._through(f"INSERT INTO {table}", lambda: self._engine.insert(table, rows, **options))


class Half:
    """A workspace with FIRST deployed, and a deployer of its own over an engine that will be cut."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    async def cut(
        self,
        at: Callable[[str], bool],
        *,
        carried_out: bool = False,
        error: Exception | None = None,
        patience: float = 0.2,
    ) -> Cut:
        """`patience`: short where the engine stays away, long where it is back at once."""
        cut = Cut(self.workspace.server.engine, at, carried_out=carried_out, error=error or Unavailable("gone"))
        cut.armed = False
        self.catalog = Catalog(cut, self.workspace.server.config.admin_token)
        await self.catalog.load()
        self.deployer = Deployer(cut, self.catalog, self.workspace.server.ingest, self.workspace.server.locks, patience=patience)
        cut.armed = True
        return cut

    async def deploy(self, files: Mapping[str, str] = SECOND) -> Outcome:
        return await self.deployer.deploy(self.workspace.id, files)

    async def ended(self) -> None:
        """Until what the deploy left to do is done."""
        await until(lambda: self.workspace.id not in self.deployer.unsettled)

    async def objects(self) -> list[str]:
        """But for what the writer of events keeps in memory for its next segment."""
        rows = await self.workspace.server.engine.rows(
            "SELECT name FROM system.tables WHERE database = {d:String} ORDER BY name", {"d": self.workspace.database}
        )
        return [r["name"] for r in rows if not r["name"].startswith("probe")]

    async def columns(self) -> list[str]:
        rows = await self.workspace.server.engine.rows(
            "SELECT name FROM system.columns WHERE database = {d:String} AND table = 'd1_events'",
            {"d": self.workspace.database},
        )
        return [r["name"] for r in rows]

    async def assert_first(self) -> None:
        assert await self.objects() == ["d1_events", "q1_events"]
        assert "note" not in await self.columns()
        await self.assert_live(1, "old")

    async def assert_second(self) -> None:
        assert await self.objects() == ["d1_daily", "d1_events", "m1_daily_view__roll", "q1_daily", "q1_events"]
        await self.assert_live(2, "fresh")

    async def assert_live(self, number: int, token: str) -> None:
        """In this process and in one that starts now."""
        restarted = Catalog(self.workspace.server.engine, self.workspace.server.config.admin_token)
        await restarted.load()
        for catalog in (self.catalog, restarted):
            assert catalog.snapshot(self.workspace.id).deployment == number
            assert {t.name for t in catalog.tokens(self.workspace.id)} == {"ingest", token}


@pytest.fixture
async def half(workspace: Workspace) -> AsyncIterator[Half]:
    await workspace.deploy(FIRST)
    await workspace.send("events", [event("a", 1)])
    yield Half(workspace)


def in_workspace(word: str) -> Callable[[str], bool]:
    return lambda sql: sql.startswith(word) and "pipitcheck" not in sql


COMMIT = "INSERT INTO `pipit`.`deployments`"
STEPS = ["CREATE TABLE", "ALTER TABLE", "CREATE MATERIALIZED VIEW", "INSERT INTO `pipit_test"]


@pytest.mark.parametrize("carried_out", [False, True])
@pytest.mark.parametrize("step", STEPS)
async def test_the_engine_goes_at_a_step(half: Half, step: str, carried_out: bool) -> None:
    cut = await half.cut(in_workspace(step), carried_out=carried_out)
    with pytest.raises(Unavailable):
        await half.deploy()
    assert cut.hit.is_set()
    # While the engine is away nothing is given up: the writers wait, and another deploy is refused.
    with pytest.raises(Conflict):
        await half.deploy()
    cut.back.set()
    await half.ended()
    await half.assert_first()
    assert (await half.deploy()).result == "success"
    await half.assert_second()


async def test_a_refusal_is_undone_at_once(half: Half) -> None:
    cut = await half.cut(in_workspace("CREATE MATERIALIZED VIEW"), error=SqlError("no"), patience=20)
    cut.back.set()
    with pytest.raises(SqlError):
        await half.deploy()
    await half.assert_first()


async def test_the_row_is_written_and_the_answer_lost(half: Half) -> None:
    cut = await half.cut(in_workspace(COMMIT), carried_out=True, patience=20)
    cut.back.set()
    assert (await half.deploy()).snapshot.deployment == 2
    await half.assert_second()


async def test_the_row_is_not_written(half: Half) -> None:
    cut = await half.cut(in_workspace(COMMIT), patience=20)
    cut.back.set()
    with pytest.raises(Unavailable):
        await half.deploy()
    await half.assert_first()
    assert (await half.deploy()).snapshot.deployment == 2
    await half.assert_second()


@pytest.mark.parametrize("written", [False, True])
async def test_nobody_knows_for_a_while(half: Half, written: bool) -> None:
    cut = await half.cut(in_workspace(COMMIT), carried_out=written)
    with pytest.raises(Unavailable, match="not known yet"):
        await half.deploy()
    # Nothing was touched: both deployments' objects are there.
    assert await half.objects() == ["d1_daily", "d1_events", "m1_daily_view__roll", "q1_daily", "q1_events"]
    with pytest.raises(Conflict):
        await half.deploy()
    cut.back.set()
    await half.ended()
    await (half.assert_second() if written else half.assert_first())


@pytest.mark.parametrize("step", ["CREATE MATERIALIZED VIEW", COMMIT])
async def test_the_caller_leaves(half: Half, step: str) -> None:
    cut = await half.cut(in_workspace(step), carried_out=True)
    deploying = asyncio.ensure_future(half.deploy())
    await cut.hit.wait()
    deploying.cancel()
    with pytest.raises((asyncio.CancelledError, Unavailable)):
        await deploying
    cut.back.set()
    await half.ended()
    # The row may have got through before the caller left: either is right, half of it is not.
    row = await half.catalog.state.deployment(half.workspace.id)
    assert row is not None
    await (half.assert_second() if row.id == 2 else half.assert_first())
    assert row.id == 1 or step == COMMIT


async def test_events_wait_for_the_end(half: Half) -> None:
    """A view that is to be taken back must not see a row: it is not in the lineage of what is live."""
    workspace = half.workspace
    cut = await half.cut(in_workspace(COMMIT))
    with pytest.raises(Unavailable):
        await half.deploy()
    assert (await workspace.send("events", [event("b", 2)], wait=False)).status == 202
    count = f"SELECT count() AS n FROM `{workspace.database}`.d1_events"
    await asyncio.sleep(0.3)
    assert await workspace.server.engine.rows(count) == [{"n": 1}]
    cut.back.set()
    await half.ended()

    async def both() -> bool:
        return await workspace.server.engine.rows(count) == [{"n": 2}]

    await until(both)
    await half.assert_first()


@pytest.mark.parametrize("written", [False, True])
async def test_the_process_ends_before_it_knows(half: Half, written: bool) -> None:
    """The next start reads the row, and drops what that does not name."""
    workspace = half.workspace
    await half.cut(in_workspace(COMMIT), carried_out=written)
    with pytest.raises(Unavailable):
        await half.deploy()
    ending = half.deployer.unsettled[workspace.id]
    ending.cancel()
    await asyncio.wait({ending})
    half.catalog = Catalog(workspace.server.engine, workspace.server.config.admin_token)
    await half.catalog.load()
    half.deployer = Deployer(workspace.server.engine, half.catalog, workspace.server.ingest, workspace.server.locks)
    await half.deployer.clean_up()
    if not written:
        assert await half.objects() == ["d1_events", "q1_events"]
        await half.assert_live(1, "old")
        await half.deploy()
    await half.assert_second()

"""What is written to a table while a job replaces its rows with what it read of it is not lost; nor is it counted twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest

from pipit.catalog.snapshot import STAGING
from pipit.tables import Mode
from projects import COUNTS, KEYED, copy_pipe, view_pipe
from serving import Workspace
from waiting import until

pytestmark = pytest.mark.anyio



def view(source: str, target: str, sql: str = "SELECT k, n FROM {}") -> str:
    return view_pipe(sql.format(source), target)


# Rows go from `first` to `middle` to `t` through views, and from `second` to `t`.
FILES = {
    "datasources/first.datasource": KEYED,
    "datasources/middle.datasource": KEYED,
    "datasources/second.datasource": KEYED,
    "datasources/t.datasource": KEYED,
    "datasources/other.datasource": KEYED,
    "pipes/v1.pipe": view("first", "middle"),
    "pipes/v2.pipe": view("middle", "t"),
    "pipes/v3.pipe": view("second", "t"),
    "copies/own.pipe": copy_pipe("SELECT k, n FROM t WHERE k != 'never'", "t", "replace"),
    "copies/whole.pipe": copy_pipe("SELECT 'whole' AS k, toInt64(1) AS n WHERE 'never' != ''", "t", "replace"),
    "copies/to_t.pipe": copy_pipe("SELECT 'new' AS k, toInt64(1) AS n", "t"),
    "copies/to_first.pipe": copy_pipe("SELECT 'new' AS k, toInt64(1) AS n", "first"),
    "copies/instead.pipe": copy_pipe("SELECT 'instead' AS k, toInt64(1) AS n", "t", "replace"),
}
FROM_VIEW = "/v0/pipes/v3/nodes/seen/population"


async def run(workspace: Workspace, path: str) -> None:
    job = await workspace.job(await workspace.post(path))
    assert job["status"] == "done", job.get("error")


async def send(workspace: Workspace, table: str, k: str = "new") -> None:
    reply = await workspace.send(table, [{"k": k, "n": 1}])
    assert reply.status == 200, reply.text


async def keys(workspace: Workspace, table: str = "t") -> list[str]:
    rows = await workspace.rows(f"/v0/sql?q={quote(f'SELECT k FROM {table} ORDER BY k FORMAT JSON')}")
    return [row["k"] for row in rows]


WRITERS: dict[str, Callable[[Workspace], Awaitable[None]]] = {
    "events": lambda workspace: send(workspace, "t"),
    "events that a view passes on": lambda workspace: send(workspace, "second"),
    "events that two views pass on": lambda workspace: send(workspace, "first"),
    "a copy": lambda workspace: run(workspace, "/v0/pipes/to_t/copy"),
    "a copy that two views pass on": lambda workspace: run(workspace, "/v0/pipes/to_first/copy"),
}


class Held:
    """A job has written its rows into a table, by default the one beside the target, and goes no further."""

    def __init__(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, into: str = STAGING) -> None:
        self.workspace = workspace
        self.written, self._goes_on = asyncio.Event(), asyncio.Event()
        self.prepared: list[str] = []
        stream = workspace.server.engine.stream

        @asynccontextmanager
        async def held(sql: str, *arguments: Any, **options: Any) -> AsyncIterator[AsyncIterator[bytes]]:
            async with stream(sql, *arguments, **options) as chunks:
                yield chunks
            if sql.startswith("INSERT") and into in sql:
                self.prepared.append(sql)
                self.written.set()
                await self._goes_on.wait()

        monkeypatch.setattr(workspace.server.engine, "stream", held)

    async def beside(self, replacing: Awaitable[None], writing: Awaitable[None]) -> None:
        """Both to the end; the second one begins when the first one has read all that it replaces."""
        first = asyncio.ensure_future(replacing)
        await until(lambda: self.written.is_set() or first.done())
        second = asyncio.ensure_future(writing)
        await until(lambda: second.done() or self._somebody_waits())
        self.go_on()
        await asyncio.gather(first, second)

    def go_on(self) -> None:
        self._goes_on.set()

    def _somebody_waits(self) -> bool:
        snapshot = self.workspace.server.catalog.snapshot(self.workspace.id)
        return any(self.workspace.server.locks.waiting(table.key) for table in snapshot.tables.values())


@pytest.mark.parametrize("writer", WRITERS)
async def test_what_is_written_while_a_copy_replaces_what_it_read_stays(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    await workspace.deploy(FILES)
    await send(workspace, "t", "old")
    held = Held(workspace, monkeypatch)
    await held.beside(run(workspace, "/v0/pipes/own/copy"), WRITERS[writer](workspace))
    assert await keys(workspace) == ["new", "old"]
    assert len(held.prepared) == 1


async def test_what_is_filled_while_a_copy_replaces_what_it_read_stays(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    await workspace.deploy(FILES)
    await send(workspace, "second", "old")
    await Held(workspace, monkeypatch).beside(run(workspace, "/v0/pipes/own/copy"), run(workspace, FROM_VIEW))
    assert await keys(workspace) == ["old", "old"]  # once from the view, once from the populate


async def test_another_replacement_waits_until_a_copy_has_replaced_what_it_read(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both prepare their rows in the one table beside the target."""
    await workspace.deploy(FILES)
    await send(workspace, "t", "old")
    held = Held(workspace, monkeypatch)
    await held.beside(run(workspace, "/v0/pipes/own/copy"), run(workspace, "/v0/pipes/instead/copy"))
    assert await keys(workspace) == ["instead"]
    assert len(held.prepared) == 2


@pytest.mark.parametrize("writer", WRITERS)
async def test_what_is_written_while_a_populate_starts_its_target_anew_stays(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    await workspace.deploy(FILES)
    await send(workspace, "second", "old")
    truncating = run(workspace, f"{FROM_VIEW}?truncate=true")
    await Held(workspace, monkeypatch).beside(truncating, WRITERS[writer](workspace))
    assert await keys(workspace) == ["new", "old"]


async def test_nothing_is_inserted_into_a_table_or_through_its_views_as_another_takes_its_place(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    await workspace.deploy(FILES)
    locks, engine = workspace.server.locks, workspace.server.engine
    tables = workspace.server.catalog.snapshot(workspace.id).tables
    seen: dict[str, tuple[Mode, ...]] = {}
    command = engine.command

    async def watched(sql: str, *arguments: Any, **options: Any) -> None:
        if sql.startswith("EXCHANGE"):
            seen.update({name: locks.held(table.key) for name, table in tables.items()})
        await command(sql, *arguments, **options)

    monkeypatch.setattr(engine, "command", watched)
    await run(workspace, "/v0/pipes/whole/copy")
    altered = dict.fromkeys(("first", "middle", "second"), (Mode.ALTER,))
    assert seen == altered | {"t": (Mode.REPLACE, Mode.ALTER), "other": ()}
    assert not any(locks.held(table.key) for table in tables.values())


async def test_a_deploy_brings_a_view_of_a_table_when_its_populate_is_done(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would fill the view from some of the rows, and the rest would go past it."""
    counted = {
        "datasources/counts.datasource": COUNTS,
        "pipes/counted.pipe": view("t", "counts", "SELECT k, count() AS c FROM {} GROUP BY k"),
    }
    await workspace.deploy(FILES)
    await send(workspace, "second", "old")
    target = workspace.server.catalog.snapshot(workspace.id).tables["t"]
    held = Held(workspace, monkeypatch, into=target.physical)
    populating = asyncio.ensure_future(run(workspace, FROM_VIEW))
    await until(lambda: held.written.is_set() or populating.done())
    deploying = asyncio.ensure_future(workspace.deploy(FILES | counted))
    await until(lambda: deploying.done() or workspace.server.locks.waiting(target.key))
    assert not deploying.done()
    held.go_on()
    await asyncio.gather(populating, deploying)
    assert await workspace.rows(f"/v0/sql?q={quote('SELECT sum(c) AS c FROM counts FORMAT JSON')}") == [{"c": 2}]

"""Two writers of the state: of those that have read the same, one writes, and the others decide again."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from pipit.catalog.state import DATABASE, DeploymentRow, EnvironmentRow, State, TableNames, now
from pipit.deploy.commit import became_live
from pipit.engine import Engine
from pipit.errors import Conflict

pytestmark = pytest.mark.anyio
WRITERS, ROUNDS = 6, 8


@pytest.fixture
async def states(engine: Engine) -> AsyncIterator[list[State]]:
    """As many servers have them, on one engine."""
    states = [State(engine) for _ in range(WRITERS)]
    await states[0].prepare()
    yield states


async def race(do: Callable[[State], Awaitable[object]], states: list[State]) -> tuple[int, int]:
    """How many did it, and how many were told that somebody else had."""
    ends = await asyncio.gather(*(do(state) for state in states), return_exceptions=True)
    lost = [end for end in ends if isinstance(end, Conflict)]
    assert all(end in lost or not isinstance(end, BaseException) for end in ends), ends
    return len(ends) - len(lost), len(lost)


async def test_one_workspace_gets_a_name(states: list[State]) -> None:
    for _ in range(ROUNDS):
        name = f"w{uuid.uuid4().hex[:12]}"
        ended = await race(lambda state, name=name: state.add_workspace(name, f"d{uuid.uuid4().hex}", "t"), states)
        assert ended == (1, WRITERS - 1)
        (row,) = [row for row in await states[0].workspaces() if row.name == name]
        await states[0].delete_workspace(row)


async def test_one_workspace_or_environment_gets_a_database(states: list[State]) -> None:
    """Also one that a deleted workspace had: what waits on the disk for it must find no other one."""
    database = f"d{uuid.uuid4().hex}"
    ended = await race(lambda state: state.add_workspace(f"w{uuid.uuid4().hex[:12]}", database, "t"), states)
    assert ended == (1, WRITERS - 1)
    (row,) = [row for row in await states[0].workspaces() if row.database == database]
    await states[0].delete_workspace(row)
    with pytest.raises(Conflict):
        await states[1].add_workspace(row.name, database, "t")
    with pytest.raises(Conflict):
        await states[1].add_environment(EnvironmentRow("w", "e", "staging", database, now()))


async def test_one_environment_gets_a_name_in_whatever_case(states: list[State]) -> None:
    for n in range(ROUNDS):
        workspace = str(uuid.uuid4())

        async def add(state: State, workspace: str = workspace) -> None:
            name = "Staging" if states.index(state) % 2 else "staging"
            await state.add_environment(EnvironmentRow(workspace, uuid.uuid4().hex, name, f"d{uuid.uuid4().hex}", now()))

        assert await race(add, states) == (1, WRITERS - 1), n
        (row,) = [row for row in await states[0].environments() if row.workspace_id == workspace]
        await states[0].delete_environment(row)


async def test_one_deployment_gets_a_number(states: list[State]) -> None:
    for n in range(ROUNDS):
        workspace = str(uuid.uuid4())

        async def commit(state: State, workspace: str = workspace) -> DeploymentRow:
            row = DeploymentRow(1, now(), {"who": str(states.index(state))}, TableNames())
            await state.commit_deployment(workspace, row)
            return row

        assert await race(commit, states) == (1, WRITERS - 1), n


async def test_an_older_deployment_does_not_follow_a_newer_one(states: list[State]) -> None:
    workspace = str(uuid.uuid4())
    first, second = (DeploymentRow(id, now(), {}, TableNames()) for id in (1, 2))
    await states[0].commit_deployment(workspace, second)
    with pytest.raises(Conflict, match="Deployment 2 went live meanwhile"):
        await states[1].commit_deployment(workspace, first)
    await states[1].commit_deployment(workspace, second)  # the same once more, when the answer was lost
    await states[0].give_up_deployment(workspace, second)
    await states[1].commit_deployment(workspace, replace(second, created_at=now()))  # the number is free again


async def test_rows_without_a_condition_are_all_kept(states: list[State]) -> None:
    workspace = str(uuid.uuid4())
    await asyncio.gather(*(state.put_secret(workspace, f"s{n}", "x") for n, state in enumerate(states)))
    assert {row.name for row in await states[0].secrets(workspace)} == {f"s{n}" for n in range(WRITERS)}


async def test_a_token_whose_row_never_came_stops_nobody(states: list[State], engine: Engine) -> None:
    """The engine records a token before the row. Who is killed between the two leaves a token of no row behind."""
    workspace = str(uuid.uuid4())
    seen = await engine.rows(f"SELECT max(version) AS version FROM {DATABASE}.secrets")
    token = f"secrets after {seen[0]['version']} (0)"
    await engine.insert(
        f"{DATABASE}.secrets", [{"workspace_id": workspace, "name": "gone"}], settings={"insert_deduplication_token": token}
    )
    await engine.command(
        f"ALTER TABLE {DATABASE}.secrets DELETE WHERE workspace_id = {{workspace:String}}",
        {"workspace": workspace},
        settings={"mutations_sync": 1},
    )
    await states[0].put_secret(workspace, "there", "x")
    assert [row.name for row in await states[1].secrets(workspace)] == ["there"]


async def test_who_lost_leaves_the_winners_deployment_live(states: list[State]) -> None:
    """It asks what became of its own row, and gives that up; the number is the other one's."""
    workspace = str(uuid.uuid4())
    theirs, ours = (DeploymentRow(1, now(), {"who": who}, TableNames()) for who in ("they", "we"))
    await states[0].commit_deployment(workspace, theirs)
    assert not await became_live(states[1], workspace, ours)
    assert await became_live(states[0], workspace, theirs)
    found = await states[1].deployment(workspace)
    assert found is not None and found.created_at == theirs.created_at

"""What survives a restart: state rows whose order does not hang on the clock, workspaces that do not break each other."""

from __future__ import annotations

import time

import pytest

from pipit.catalog.catalog import Catalog
from pipit.catalog.state import DeploymentRow, State, TableNames, TokenRow
from pipit.errors import Unavailable
from projects import LATEST, TENANTS
from serving import Workspace

pytestmark = pytest.mark.anyio

SECRET = "p.secret" + "x" * 40


def row(number: int, note: str) -> DeploymentRow:
    return DeploymentRow(number, f"2026-11-01 00:00:00.{number:06}", {"README.md": note}, TableNames())


async def restarted(workspace: Workspace) -> Catalog:
    catalog = Catalog(workspace.server.engine, workspace.server.config.admin_token)
    await catalog.load()
    return catalog


async def test_a_clock_that_was_set_back(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State(workspace.server.engine)
    await state.prepare()
    await state.commit_deployment(workspace.id, row(1, "before"))
    yesterday = time.time_ns() - 86_400 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: yesterday)
    state = State(workspace.server.engine)
    await state.prepare()
    await state.commit_deployment(workspace.id, row(2, "after"))
    assert await state.deployment(workspace.id) == row(2, "after")


async def test_a_deployment_that_was_given_up_stays_so_when_its_row_lands_late(workspace: Workspace) -> None:
    engine = workspace.server.engine
    state = State(engine)
    await state.prepare()
    await state.commit_deployment(workspace.id, row(1, "live"))
    await state.give_up_deployment(workspace.id, row(2, "late"))
    late = await engine.rows(
        "SELECT * FROM pipit.deployments WHERE workspace_id = {w:String} AND id = 1", {"w": workspace.id}
    )
    newer = await engine.rows(
        "SELECT min(version) AS v FROM pipit.deployments WHERE workspace_id = {w:String} AND id = 2",
        {"w": workspace.id},
    )
    await engine.insert("`pipit`.`deployments`", [{**late[0], "id": 2, "version": newer[0]["v"] - 1}])
    assert await state.deployment(workspace.id) == row(1, "live")
    await state.commit_deployment(workspace.id, row(2, "again"))
    assert await state.deployment(workspace.id) == row(2, "again")


async def test_tokens_are_in_the_row(workspace: Workspace) -> None:
    state = State(workspace.server.engine)
    await state.prepare()
    deployment = DeploymentRow(
        1, "2026-11-01 00:00:00.000000", {}, TableNames(), (TokenRow("id", "reader", SECRET, ("PIPES:READ:latest",)),)
    )
    await state.commit_deployment(workspace.id, deployment)
    assert await state.deployment(workspace.id) == deployment
    assert SECRET not in repr(deployment)


async def test_tokens_go_with_the_deployment_that_drops_them(workspace: Workspace) -> None:
    await workspace.deploy(TENANTS | {"endpoints/latest.pipe": "TOKEN reader READ\n" + LATEST})
    (reader,) = [t for t in workspace.server.catalog.tokens(workspace.id) if t.name == "reader"]
    assert (await workspace.get("/v0/pipes/latest.json", token=reader.token)).status == 200
    assert (await restarted(workspace)).tokens(workspace.id) == workspace.server.catalog.tokens(workspace.id)
    await workspace.deploy(TENANTS)
    assert (await workspace.get("/v0/pipes/latest.json", token=reader.token)).status == 403
    assert [t.name for t in (await restarted(workspace)).tokens(workspace.id)] == ["ingest"]


async def test_one_broken_workspace_leaves_the_others(workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    catalog = workspace.server.catalog
    broken = await catalog.create_workspace(f"{workspace.name}_broken")
    bad = DeploymentRow(1, "2026-11-01 00:00:00.000000", {"endpoints/x.pipe": "NODE n\nSQL >\n"}, TableNames())
    await catalog.state.commit_deployment(broken.id, bad)
    try:
        loaded = await restarted(workspace)
        assert loaded.snapshot(workspace.id) == catalog.snapshot(workspace.id)
        assert loaded.default.workspace.name == "default"
        with pytest.raises(Unavailable, match=broken.name):
            loaded.snapshot(broken.id)
        # Its tokens are known: the answer is 503, not that the token is wrong.
        assert broken.id in loaded.keyring.workspaces
        assert broken.id not in loaded.snapshots
        assert any(broken.name in r.getMessage() for r in caplog.records)
    finally:
        await catalog.state.commit_deployment(broken.id, row(2, "fixed"))
    assert (await restarted(workspace)).snapshot(broken.id).deployment == 2

"""Ids of resources: looked up without hashing every name again, for the snapshot at hand and no other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipit.api.objects import datasource_of, pipe_of
from pipit.catalog import snapshot as snapshots
from projects import TENANTS
from serving import Workspace

pytestmark = pytest.mark.anyio


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is hashed into ids, in order."""
    names: list[str] = []
    make = snapshots._resource_id

    def counting(workspace_id: str, kind: str, name: str) -> str:
        names.append(name)
        return make(workspace_id, kind, name)

    monkeypatch.setattr(snapshots, "_resource_id", counting)
    yield names


async def test_ids_are_made_once_for_a_snapshot(workspace: Workspace, hashed: list[str]) -> None:
    await workspace.deploy(TENANTS)
    snapshot = workspace.server.catalog.snapshot(workspace.id)
    ids = snapshot.workspace.resource_id
    latest, events = ids("pipe", "latest"), ids("datasource", "events")
    hashed.clear()
    assert (pipe_of(snapshot, latest), datasource_of(snapshot, events)) == ("latest", "events")
    once = len(hashed)
    for _ in range(5):
        assert (pipe_of(snapshot, latest), datasource_of(snapshot, events)) == ("latest", "events")
        assert (pipe_of(snapshot, events), datasource_of(snapshot, latest)) == (events, latest)
        assert pipe_of(snapshot, "t_" + "0" * 32) == "t_" + "0" * 32
    assert len(hashed) == once == len(snapshot.pipes) + len(snapshot.tables)


async def test_a_deploy_brings_new_ids(workspace: Workspace) -> None:
    await workspace.deploy({"endpoints/one.pipe": "NODE n\nSQL >\n    SELECT 1 AS a\nTYPE endpoint\n"})
    snapshot = workspace.server.catalog.snapshot(workspace.id)
    one, two = (snapshot.workspace.resource_id("pipe", name) for name in ("one", "two"))
    assert (pipe_of(snapshot, one), pipe_of(snapshot, two)) == ("one", two)
    await workspace.deploy({"endpoints/two.pipe": "NODE n\nSQL >\n    SELECT 2 AS a\nTYPE endpoint\n"})
    snapshot = workspace.server.catalog.snapshot(workspace.id)
    assert (pipe_of(snapshot, one), pipe_of(snapshot, two)) == (one, "two")


async def test_workspace_settings_are_kept_and_checked(workspace: Workspace) -> None:
    off = {"require_policies": False, "tenant_sql": False, "unfixed_appends": False}
    assert (await workspace.get("/v0/workspace/settings")).json == off
    changed = await workspace.request("PUT", "/v0/workspace/settings", json={"tenant_sql": True})
    assert changed.json == off | {"tenant_sql": True}
    assert (await workspace.server.catalog.state.settings(workspace.id)).tenant_sql
    for wrong in ({"tenant_sq": True}, {"tenant_sql": "yes"}, []):
        reply = await workspace.request("PUT", "/v0/workspace/settings", json=wrong)
        assert reply.status == 400, reply.text
    assert (await workspace.get("/v0/workspace/settings", token=workspace.tenant("x"))).status == 403

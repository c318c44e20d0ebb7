"""DELETE /v1/workspaces/<id>: a workspace goes with all that is its own, and with nothing else."""

from __future__ import annotations

import pytest

from pipit.catalog.catalog import Catalog
from pipit.errors import NotFound
from projects import ROWS, TENANTS
from serving import Workspace

pytestmark = pytest.mark.anyio


async def other_workspace(workspace: Workspace) -> Workspace:
    """One more, made over HTTP, with the project in it, an environment, a static token, a secret and rows."""
    made = await workspace.post(f"/v1/workspaces?name={workspace.name}_other", token=server_admin(workspace))
    assert made.status == 200, made.text
    other = Workspace(workspace.server, workspace.base_url, workspace.session, made.json["id"])
    await other.deploy(TENANTS)
    await workspace.server.deployer.add_environment(other.id, "eu")
    assert (await other.post("/v0/tokens?name=reader&scope=PIPES:READ:latest")).status == 200
    assert (await other.post("/v0/variables?name=key&value=secret")).status == 200
    assert (await other.send("events", ROWS)).status == 200
    return other


def server_admin(workspace: Workspace) -> str:
    return workspace.server.catalog.default.workspace.admin_token


async def databases(workspace: Workspace, like: str) -> list[str]:
    rows = await workspace.server.engine.rows(
        "SELECT name FROM system.databases WHERE startsWith(name, {like:String})", {"like": like}
    )
    return [row["name"] for row in rows]


async def test_a_deleted_workspace_is_gone_and_the_others_stay(workspace: Workspace) -> None:
    other = await other_workspace(workspace)
    admin, tenant, database = other.admin_token, other.tenant("latest", customer_id="acme"), other.database
    reader = next(t.token for t in workspace.server.catalog.credentials.tokens(other.id) if t.name == "reader")
    assert (await workspace.get("/v0/pipes/latest.json", token=tenant)).status == 200
    waiting = await other.send("events", ROWS, wait=False)
    assert waiting.status == 202

    path = f"/v1/workspaces/{other.id}?confirmation={other.name}"
    gone = await workspace.request("DELETE", path, token=server_admin(workspace))
    assert gone.status == 200 and gone.json["name"] == f"{workspace.name}_other", gone.text

    for token in (admin, tenant, reader):
        assert (await workspace.get("/v0/pipes/latest.json", token=token)).status == 403
    assert await databases(workspace, database) == []
    assert other.id not in workspace.server.catalog.keyring.workspaces
    assert (await workspace.request("DELETE", path, token=server_admin(workspace))).status == 404
    # After a restart too; and its databases' names are nobody's, for what may still lie on the disk under them.
    restarted = Catalog(workspace.server.engine, server_admin(workspace))
    await restarted.load()
    with pytest.raises(NotFound):
        restarted.snapshot(other.id)
    assert await databases(workspace, database) == []
    again = await workspace.post(f"/v1/workspaces?name={workspace.name}_other", token=server_admin(workspace))
    assert again.status == 200
    assert workspace.server.catalog.snapshot(again.json["id"]).workspace.database != database
    assert (await workspace.get("/v0/workspace")).status == 200


async def test_what_is_not_deleted(workspace: Workspace) -> None:
    path = f"/v1/workspaces/{workspace.id}"
    named = f"{path}?confirmation={workspace.name}"
    for wrong in (path, f"{path}?confirmation=yes", f"{path}?confirmation="):
        reply = await workspace.request("DELETE", wrong, token=server_admin(workspace))
        assert reply.status == 400 and workspace.name in reply.json["error"], reply.text
    assert (await workspace.request("DELETE", named)).status == 403  # its own admin manages no workspaces
    assert (await workspace.request("DELETE", named, token=workspace.tenant("x"))).status == 403
    assert (await workspace.request("DELETE", named, token=None)).status == 403
    default = workspace.server.catalog.default.workspace
    reply = await workspace.request(
        "DELETE", f"/v1/workspaces/{default.id}?confirmation=default", token=server_admin(workspace)
    )
    assert reply.status == 409, reply.text
    assert (await workspace.get("/v0/workspace")).status == 200

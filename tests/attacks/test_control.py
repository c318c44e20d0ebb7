"""Attacks J: what a token of one kind does with the routes of another, and what a deploy may be made of."""

from __future__ import annotations

import io
import uuid
import zipfile
from collections.abc import Mapping, Sequence

import aiohttp
import pytest

from pipit.api.app import app_for
from projects import ROWS, TENANTS
from serving import Reply, Workspace

pytestmark = pytest.mark.anyio


async def static_token(workspace: Workspace, *scopes: str) -> str:
    query = "".join(f"&scope={scope}" for scope in scopes)
    reply = await workspace.post(f"/v0/tokens?name=t_{scopes[0].replace(':', '_')}{query}")
    assert reply.status == 200, reply.text
    token: str = reply.json["token"]
    return token


async def send_project(workspace: Workspace, parts: Sequence[tuple[str, bytes]], *, token: str = "admin") -> Reply:
    form = aiohttp.FormData(quote_fields=False)
    for name, content in parts:
        form.add_field("data_project://", content, filename=name, content_type="text/plain")
    return await workspace.post("/v1/deploy?check=true", token=token, data=form)


PIPE = b"NODE n\nSQL >\n    SELECT 1 AS x\nTYPE endpoint\n"

# What each route needs; `admin` has all of them.
NEEDS: Mapping[tuple[str, str], str] = {
    ("GET", "/v0/pipes/latest.json"): "read latest",
    ("GET", "/v0/sql?q=SELECT+count()+FROM+events"): "read events",
    ("GET", "/v0/sql?q=SELECT+count()+FROM+latest"): "send SQL of latest",
    ("GET", "/v0/pipes/totals.json"): "read totals",
    ("POST", "/v0/events?name=events"): "append events",
    ("POST", "/v1/deploy?check=true"): "deploy",
    ("POST", "/v1/build?check=true"): "deploy",
    ("GET", "/v0/tokens"): "tokens",
    ("GET", "/v0/variables"): "admin",
    ("POST", "/v0/variables?name=x&value=y"): "admin",
    ("GET", "/v1/deployments"): "admin",
    ("GET", "/v1/deployments/live/files"): "admin",
    ("GET", "/v1/pipes/latest.pipe"): "admin",
    ("GET", "/v1/datasources/events.datasource"): "admin",
    ("POST", "/v1/explain"): "admin",
    ("GET", "/v0/workspace/settings"): "admin",
    ("PUT", "/v0/workspace/settings"): "admin",
    ("GET", "/v0/workspace/environments"): "admin",
    ("POST", "/v0/workspace/environments"): "admin",
    ("DELETE", "/v0/workspace/environments/eu"): "admin",
    ("GET", "/v0/workspace/keys"): "admin",
    ("GET", "/v0/workspace/keys/backend"): "admin",
    ("GET", "/v0/connectors"): "admin",
    ("GET", "/v0/connectors/broker"): "admin",
    ("GET", "/v0/connectors/broker.connection"): "admin",
    ("GET", "/v0/connectors/broker/preview"): "admin",
    ("POST", "/v0/connectors/broker/test"): "admin",
    ("POST", "/v0/datasources/events/stop"): "admin",
    ("POST", "/v0/datasources/events/start"): "admin",
    ("GET", "/v0/jobs"): "jobs",
    ("GET", "/v0/jobs/one"): "jobs",
    ("POST", "/v0/jobs/one/cancel"): "jobs",
    ("GET", "/v0/copies"): "jobs",
    ("POST", "/v0/pipes/latest/copy"): "jobs",
    ("POST", "/v0/pipes/latest/nodes/latest/population"): "jobs",
    ("POST", "/v1/deployments/rollback"): "deploy",
    ("POST", "/v1/deployments/7/set-live"): "deploy",
    ("DELETE", "/v1/deployments/7"): "deploy",
    ("POST", "/v1/datasources/events/append"): "append events",
    ("POST", "/v1/datasources/events/replace"): "rewrite",
    ("POST", "/v0/datasources/events/delete"): "rewrite",
    ("POST", "/v1/datasources/events/delete"): "rewrite",
    ("POST", "/v0/datasources/events/truncate"): "rewrite",
    ("POST", "/v0/datasources/events/quarantine/replay"): "rewrite",
    ("POST", "/v0/analyze"): "load any file",
    ("GET", "/v1/user/workspaces"): "server",
    ("POST", "/v1/workspaces?name=made_by_another"): "server",
}
HAS = {
    "WORKSPACE:DEPLOY": {"deploy", "jobs"},
    "PIPES:READ:latest": {"read latest", "send SQL of latest"},
    "DATASOURCES:READ:events": {"read events"},
    "DATASOURCES:APPEND:events": {"append events"},
    "TOKENS": {"tokens"},
    "WORKSPACE:READ_ALL": {"read latest", "send SQL of latest", "read events", "read totals"},
    "jwt": {"read latest"},
}


@pytest.mark.parametrize("kind", HAS)
async def test_a_token_opens_its_own_doors_only(workspace: Workspace, kind: str) -> None:
    """J01: a deploy token reads nothing, a read token deploys nothing, and so on for each kind and each route."""
    await workspace.deploy(TENANTS)
    await workspace.send("events", ROWS)
    token = workspace.tenant("latest", customer_id="a") if kind == "jwt" else await static_token(workspace, kind)
    for (method, path), need in NEEDS.items():
        if "/v1/deploy?" in path or "/v1/build?" in path:
            reply = await send_project(workspace, [("endpoints/one.pipe", PIPE)], token=token)
        else:
            reply = await workspace.request(method, path, token=token)
        # Past the door a request without rows, or for what is not there, is a 400, 404 or 409.
        expected = (200, 202, 400, 404, 409) if need in HAS[kind] else (403,)
        assert reply.status in expected, (path, reply.status, reply.text)


async def test_no_token_makes_itself_a_greater_one(workspace: Workspace) -> None:
    """J01: TOKENS manages tokens, and neither makes, sees nor changes an admin's."""
    await workspace.deploy(TENANTS)
    admin = await static_token(workspace, "ADMIN")
    token = await static_token(workspace, "TOKENS")
    assert (await workspace.post("/v0/tokens?name=mine&scope=ADMIN", token=token)).status == 403
    assert admin not in (await workspace.get("/v0/tokens", token=token)).text
    for method, path in (("GET", ""), ("PUT", "?scope=TOKENS"), ("DELETE", ""), ("POST", "/refresh")):
        reply = await workspace.request(method, f"/v0/tokens/t_ADMIN{path}", token=token)
        assert reply.status == 403, (method, reply.text)
    own = await workspace.request("PUT", "/v0/tokens/t_TOKENS?scope=ADMIN", token=token)
    assert own.status == 403 and (await workspace.get("/v0/variables", token=token)).status == 403
    spellings = ("ADMIN:", "ADMIN::", "ADMIN_USER:", "%20ADMIN", "ADMIN%20", "admin", "Admin:", "ADMIN:x", "ADMIN%00", "")
    for scope in spellings:
        for method, path in (("POST", f"?name=mine&scope={scope}"), ("PUT", f"/t_TOKENS?scope=TOKENS&scope={scope}")):
            for holder in (token, "admin"):
                reply = await workspace.request(method, f"/v0/tokens{path}", token=holder)
                assert reply.status in (400, 403), (method, path, reply.text)
    assert (await workspace.get("/v0/variables", token=token)).status == 403


@pytest.mark.parametrize(
    "name",
    [
        "../outside.pipe",
        "endpoints/../../outside.pipe",
        "/etc/outside.pipe",
        "..\\outside.pipe",
        "endpoints\\..\\..\\outside.pipe",
        "endpoints%2f..%2f..%2foutside.pipe",
        "%2e%2e/outside.pipe",
        "a%00b.pipe",
    ],
)
async def test_a_file_name_stays_in_the_project(workspace: Workspace, name: str) -> None:
    """J02: of a deploy; `tests/datafiles/test_project.py` has the links of a folder on disk."""
    # Other tests write into folders beside this server's: a name that no other test has.
    outside = f"outside_{uuid.uuid4().hex}"
    parts = [("endpoints/one.pipe", PIPE), (name.replace("outside", outside), PIPE)]
    reply = await send_project(workspace, parts)
    assert reply.status == 400 and "leaves the project" in reply.json["error"]
    assert not list(workspace.server.config.data_dir.parent.rglob(f"*{outside}*"))


async def test_one_file_has_one_text(workspace: Workspace) -> None:
    """J02: two spellings of one name would leave it to chance which policy is deployed."""
    for other in ("endpoints/one.pipe", "./endpoints/one.pipe", "endpoints//one.pipe", "endpoints%2fone.pipe"):
        reply = await send_project(workspace, [("endpoints/one.pipe", PIPE), (other, PIPE)])
        assert reply.status == 400 and "twice" in reply.json["error"]


async def test_an_archive_is_no_project_and_a_project_has_bounds(workspace: Workspace) -> None:
    """J03: nothing is ever unpacked; the number of files is bounded before any of them is parsed."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../outside.pipe", PIPE.decode())
    reply = await send_project(workspace, [("endpoints/one.zip", archive.getvalue())])
    assert reply.status == 400
    reply = await send_project(workspace, [("endpoints/one.pipe", archive.getvalue())])
    assert reply.status == 400
    many = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="data_project://"; filename="%d.pipe"\r\n\r\n\r\n' % number
        for number in range(10_001)
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    reply = await workspace.post("/v1/deploy?check=true", headers=headers, data=many + b"--x--\r\n")
    assert reply.status == 400 and "10000" in reply.text.replace(",", "")


async def test_what_is_for_development_is_not_there_without_its_flag(workspace: Workspace) -> None:
    """J05, J07: no route of the demo exists unless `serve --demo` adds it; no request switches a mode on."""
    paths = {getattr(route, "path", "") for route in app_for(workspace.server).routes}
    assert not [path for path in paths if "demo" in path or "debug" in path or "dev" in path]
    for path in (
        "/demo",
        "/demo/session.json",
        "/demo/inspect",
        "/v0/pipes?__dev__=1&debug=1",
        "/debug",
        "/redoc",
    ):
        for headers in ({}, {"X-Debug": "1", "X-Pipit-Demo": "1"}, {"Host": "localhost"}):
            reply = await workspace.get(path, token=None, headers=headers)
            assert reply.status in (403, 404), path

"""Lists that come as several values of one name, and settings of the output, on endpoints and with every token."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from serving import Reply, Workspace

pytestmark = pytest.mark.anyio

FILES = {
    "datasources/t.datasource": (
        "SCHEMA >\n    customer_id String `json:$.customer_id`,\n    id String `json:$.id`,\n    big UInt64 `json:$.big`\n\n"
        "ENGINE MergeTree\nENGINE_SORTING_KEY customer_id\n"
        "ROW_POLICY >\n    customer_id = {{String(context.customer_id)}}\n"
    ),
    "pipes/some.pipe": (
        "NODE n\nSQL >\n    %\n    SELECT id, big FROM t WHERE id IN {{Array(ids, 'String')}} AND id != {{String(never, '')}}\n"
        "    ORDER BY id\nTYPE endpoint\n"
    ),
    "pipes/around.pipe": "NODE n\nSQL >\n    SELECT * FROM some ORDER BY id\nTYPE endpoint\n",
}
ROWS = [{"customer_id": c, "id": i, "big": 2**63 + 1} for c in ("a", "b") for i in ("x", "y", "z,w")]


@pytest.fixture
async def project(workspace: Workspace) -> Workspace:
    await workspace.deploy(FILES)
    assert (await workspace.send("t", ROWS)).status == 200
    return workspace


async def tokens(project: Workspace) -> list[str]:
    made = await project.post("/v0/tokens?name=static&scope=PIPES:READ:some&scope=PIPES:READ:around")
    own = project.admin_token, made.json["token"]
    return [*own, project.tenant("some", "around", customer_id="a")]


def ids(reply: Reply) -> list[str]:
    assert reply.status == 200, reply.text
    return sorted({row["id"] for row in reply.json["data"]})


@pytest.mark.parametrize("pipe", ["some", "around"])
async def test_repeated_keys_are_a_list_with_every_token(project: Workspace, pipe: str) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    body = {"Content-Type": "application/json"}
    path = f"/v0/pipes/{pipe}.json"
    pairs = urlencode([("ids", "x"), ("ids", "z,w")])
    for token in await tokens(project):
        assert ids(await project.get(f"{path}?{pairs}", token=token)) == ["x", "z,w"]
        assert ids(await project.post(path, token=token, headers=form, data=pairs.encode())) == ["x", "z,w"]
        for text in (b'{"ids": ["x", "z,w"]}', b'{"ids": "x", "ids": ["z,w"]}'):
            assert ids(await project.post(path, token=token, headers=body, data=text)) == ["x", "z,w"]
        assert ids(await project.post(f"{path}?ids=x", token=token, headers=body, data=b'{"ids": "y"}')) == ["x", "y"]
        assert ids(await project.get(f"{path}?ids={quote(json.dumps(['x', 'z,w']))}", token=token)) == ["x", "z,w"]
        assert ids(await project.get(f"{path}?ids=x,y", token=token)) == ["x", "y"]


async def test_another_one_is_said_once_with_every_token(project: Workspace) -> None:
    for token in await tokens(project):
        reply = await project.get("/v0/pipes/some.json?ids=x&never=x&never=y", token=token)
        assert (reply.status, reply.json["code"]) == (400, "bad_request") and "'never'" in reply.json["error"]
        assert ids(await project.get("/v0/pipes/some.json?ids=x&cli_version=1&cli_version=2", token=token)) == ["x"]


async def test_a_fixed_list_stays_what_the_token_says(project: Workspace) -> None:
    """B02: however often the request says it."""
    scope = {"type": "PIPES:READ", "resource": "some", "fixed_params": {"ids": "x"}}
    token = project.jwt(scope, context={"customer_id": "a"})
    for query in ("ids=y", "ids=y&ids=z", "ids=&ids=y", f"ids={quote(json.dumps(['y']))}"):
        assert ids(await project.get(f"/v0/pipes/some.json?{query}", token=token)) == ["x"]


@pytest.mark.parametrize("way", ["query", "form", "json"])
async def test_large_numbers_may_be_texts(project: Workspace, way: str) -> None:
    name = "output_format_json_quote_64bit_integers"

    async def asked(value: Any, token: str) -> Reply:
        if way == "query":
            return await project.get(f"/v0/pipes/some.json?ids=x&{name}={value}", token=token)
        if way == "form":
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            return await project.post("/v0/pipes/some.json?ids=x", token=token, headers=kind, data=f"{name}={value}".encode())
        return await project.post("/v0/pipes/some.json?ids=x", token=token, json={name: value})

    for token in await tokens(project):
        assert {row["big"] for row in (await asked("1", token)).json["data"]} == {str(2**63 + 1)}
        assert {row["big"] for row in (await asked("0", token)).json["data"]} == {2**63 + 1}
        reply = await asked("perhaps", token)
        assert reply.status == 400 and name in reply.json["error"]
        # Nothing else that looks like a setting is one.
        for other in ("output_format_write_statistics=1", "max_execution_time=1", "readonly=0", "output_format_x=2"):
            reply = await project.get(f"/v0/pipes/some.json?ids=x&{other}", token=token)
            assert ids(reply) == ["x"]
    tenant = project.tenant("some", customer_id="a")
    reply = await project.get(f"/v0/pipes/some.json?ids=x&{name}=1&output_format_write_statistics=1", token=tenant)
    assert len(reply.json["data"]) == 1 and "statistics" not in reply.json

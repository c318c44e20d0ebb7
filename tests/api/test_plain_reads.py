"""Reads of endpoints go past most layers of the application: nobody can tell by their answers."""

from __future__ import annotations

import pytest

from projects import ROWS, TENANTS
from serving import Reply, Workspace

pytestmark = pytest.mark.anyio

_OF_ONE = {"date", "x-request-id", "access-control-allow-origin", "access-control-expose-headers", "content-length"}


@pytest.fixture
async def deployed(workspace: Workspace) -> Workspace:
    await workspace.deploy(TENANTS)
    assert (await workspace.send("events", ROWS)).status == 200
    return workspace


def said(reply: Reply) -> tuple[int, list[tuple[str, str]], str]:
    """Without what is different for any two requests, and without what a browser's script is told besides."""
    id = reply.headers["X-Request-Id"]
    headers = sorted((k.lower(), v) for k, v in reply.headers.items() if k.lower() not in _OF_ONE)
    return reply.status, headers, reply.text.partition('"statistics"')[0].replace(id, "<id>")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("latest.json?limit=2", 200),
        ("latest.csv", 200),
        ("totals.ndjson", 200),
        ("latest.json?limit=x", 400),
        ("latest.json?a=%ff", 400),
        ("latest.json?output_format_json_quote_denormals=7", 400),
        (f"latest.json?a={'x' * 9000}", 414),
        ("latest.xml", 404),
        ("nope.json", 403),
        ("la%74est.json", 200),
        ("latest%2Ejson", 200),
        ("latest%2F.json", 404),
        (".json", 403),
        ("latest.json/", 200),  # after a redirect
        ("openapi.json", 200),
        ("latest", 200),
    ],
)
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_the_answer_is_that_of_the_long_way(deployed: Workspace, path: str, status: int, encoding: str) -> None:
    token = deployed.tenant("latest", "totals", customer_id="a")
    headers = {"Accept-Encoding": encoding}
    plain = await deployed.get(f"/v0/pipes/{path}", token=token, headers=headers)
    long = await deployed.get(f"/v0/pipes/{path}", token=token, headers=headers | {"Origin": "https://elsewhere.test"})
    assert plain.status == status, plain.text
    assert said(plain) == said(long)


@pytest.mark.parametrize("token", [None, "", "no token", "two"])
async def test_a_refused_token_is_refused_alike(deployed: Workspace, token: str | None) -> None:
    path = "/v0/pipes/latest.json" + ("?token=x" if token == "two" else "")
    plain = await deployed.get(path, token=token)
    long = await deployed.get(path, token=token, headers={"Origin": "https://elsewhere.test"})
    assert said(plain) == said(long) and plain.status == (400 if token == "two" else 403)

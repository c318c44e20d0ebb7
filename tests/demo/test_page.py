"""The page's routes: what is served, with which headers, and which tokens it hands out to whom."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jwt
import pytest
from starlette.applications import Starlette
from starlette.types import Message

from pipit.access.jwt import mint as access_mint
from pipit.demo import Mint, banner, demo_routes

pytestmark = pytest.mark.anyio

KEY = "a-workspace-admin-token-of-32-bytes-or-more"


mint: Mint = partial(access_mint, "w", KEY)


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


async def get(path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Reply:
    """One request straight to the ASGI application."""
    app = Starlette(routes=demo_routes(mint))
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(k.lower().encode(), v.encode()) for k, v in ({"Host": "localhost:7181"} | dict(headers or {})).items()]
    scope: dict[str, Any] = {
        "type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
        "query_string": b"", "headers": raw, "scheme": "http", "server": ("127.0.0.1", 7181),
    }  # fmt: skip
    await app(scope, receive, send)
    start = sent[0]
    return Reply(
        start["status"],
        {k.decode(): v.decode() for k, v in start["headers"]},
        b"".join(m.get("body", b"") for m in sent[1:]),
    )


async def test_the_page_loads_nothing_from_elsewhere() -> None:
    page = await get("/demo")
    assert page.status == 200 and page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    html = page.body.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", html)
    for link in re.findall(r'<(?:script|link|img)\b[^>]*(?:src|href)="([^"]+)"', html):
        assert link.startswith("/demo/static/")
        assert (await get(link)).status == 200, link


async def test_every_module_that_a_script_imports_is_there() -> None:
    seen, waiting = set(), ["app.js"]
    while waiting:
        name = waiting.pop()
        reply = await get(f"/demo/static/{name}")
        assert reply.status == 200, name
        assert reply.headers["content-type"] == "text/javascript; charset=utf-8"
        seen.add(name)
        if not name.startswith("echarts/"):
            waiting += set(re.findall(r'from "\./([^"]+)"', reply.body.decode())) - seen
    assert "echarts/echarts.esm.min.mjs" in seen and len(seen) == 8


@pytest.mark.parametrize(
    "name", ["nothing.js", "../page.py", "..%2fpage.py", "/etc/passwd", "echarts/../../page.py", "echarts"]
)
async def test_only_the_pages_own_files_are_served(name: str) -> None:
    assert (await get(f"/demo/static/{name}")).status == 404


async def test_each_viewer_gets_a_token_of_their_own_rows() -> None:
    reply = await get("/demo/session.json")
    assert reply.status == 200 and reply.headers["cache-control"] == "no-store"
    viewers = {v["id"]: v for v in json.loads(reply.body)["viewers"]}
    assert list(viewers) == ["acme", "globex", "initech", "acme-sales"]
    for viewer in viewers.values():
        claims = jwt.decode(viewer["token"], KEY, algorithms=["HS256"])
        assert 0 < claims["exp"] - time.time() <= 3600
        assert claims["context"]["customer_id"] == viewer["customer"]
        assert {s["type"] for s in claims["scopes"]} == {"PIPES:READ"}
        assert all(s["fixed_params"]["customer_id"] == viewer["customer"] for s in claims["scopes"])
    manager = jwt.decode(viewers["acme-sales"]["token"], KEY, algorithms=["HS256"])
    assert manager["context"] == {"customer_id": "acme", "team": "sales"}
    assert "usage_for_billing" not in {s["resource"] for s in manager["scopes"]}


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_other_sites_get_no_tokens(site: str) -> None:
    reply = await get("/demo/session.json", {"Sec-Fetch-Site": site})
    assert reply.status == 403 and b"eyJ" not in reply.body


@pytest.mark.parametrize("host", ["evil.example:7181", "127.0.0.1.nip.io:7181", "localhost.evil.example", "", "[::1"])
async def test_a_name_that_points_here_gets_no_tokens(host: str) -> None:
    """Attack I14: to the browser a rebound name is same-origin with the page; only Host tells."""
    reply = await get("/demo/session.json", {"Host": host, "Sec-Fetch-Site": "same-origin"})
    assert reply.status == 403 and b"eyJ" not in reply.body


@pytest.mark.parametrize("host", ["localhost:7181", "127.0.0.1:7181", "[::1]:7181", "192.168.1.5:7181", "LOCALHOST"])
async def test_this_machines_own_names_do(host: str) -> None:
    assert (await get("/demo/session.json", {"Host": host})).status == 200


async def test_another_origin_gets_no_tokens() -> None:
    reply = await get("/demo/session.json", {"Origin": "http://localhost:3000"})
    assert reply.status == 403 and b"eyJ" not in reply.body
    assert (await get("/demo/session.json", {"Origin": "http://localhost:7181"})).status == 200


async def test_the_banner_has_two_tokens_and_the_lines_to_try() -> None:
    text = banner("http://localhost:7181", mint)
    tokens = dict(re.findall(r"^([A-Z]+)='([^']+)'$", text, re.MULTILINE))
    assert list(tokens) == ["ACME", "GLOBEX"]
    payload = tokens["ACME"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["context"] == {"customer_id": "acme"}
    lines = [line for line in text.splitlines() if line.startswith("curl ")]
    assert len(lines) == 3 and "customer_id=globex" in lines[-1] and "$ACME" in lines[-1]

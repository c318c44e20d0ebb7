"""The look inside of `pipit serve --demo` (attacks I14, J05, J07): for the admin token, on this machine, for its own page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from starlette.types import Message

from pipit.access.jwt import mint
from pipit.api.app import app_for
from pipit.demo import demo_routes
from projects import CANARY, ROWS, TENANTS
from serving import Workspace

pytestmark = pytest.mark.anyio

PAGE = {"host": "127.0.0.1:7181", "origin": "http://127.0.0.1:7181", "sec-fetch-site": "same-origin"}


class Demo:
    """Requests straight to the application of `pipit serve --demo --host HOST`."""

    def __init__(self, workspace: Workspace, *, host: str | None = "127.0.0.1") -> None:
        self.workspace = workspace
        minting = partial(mint, workspace.id, workspace.admin_token)
        self.app = app_for(workspace.server, extra_routes=demo_routes(minting, host=host) if host else [])

    async def inspect(
        self,
        *,
        token: str | None = "admin",
        tokens: tuple[str, str] | None = None,
        client: str = "127.0.0.1",
        parameters: Any = (),
        **headers: str,
    ) -> tuple[int, dict[str, str], bytes]:
        workspace = self.workspace
        sent = PAGE | {"content-type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        if token is not None:
            sent["authorization"] = f"Bearer {workspace.admin_token if token == 'admin' else token}"
        pair = tokens or (workspace.tenant("latest", customer_id="a"), workspace.tenant("latest", customer_id="b"))
        body = json.dumps({"pipe": "latest", "parameters": list(parameters), "tokens": pair}).encode()
        return await ask(self.app, "/demo/inspect", {k: v for k, v in sent.items() if v}, body, client)


async def ask(
    app: Any, path: str, headers: Mapping[str, str], body: bytes, client: str
) -> tuple[int, dict[str, str], bytes]:
    sent: list[Message] = []
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": path, "raw_path": path.encode(),
        "query_string": b"", "headers": [(k.encode(), v.encode()) for k, v in headers.items()], "scheme": "http",
        "server": ("127.0.0.1", 7181), "client": (client, 50000), "root_path": "",
    }  # fmt: skip
    await app(scope, receive, send)
    found = b"".join(m.get("body", b"") for m in sent[1:])
    return sent[0]["status"], {k.decode(): v.decode() for k, v in sent[0]["headers"]}, found


@pytest.fixture(scope="module")
async def demo(shared_workspace: Workspace) -> Demo:
    await shared_workspace.deploy(TENANTS)
    await shared_workspace.send("events", ROWS)
    return Demo(shared_workspace)


async def test_an_admin_sees_two_viewers_side_by_side(demo: Demo) -> None:
    status, headers, body = await demo.inspect(parameters=[["customer_id", "b"]])
    assert status == 200, body
    first, second = json.loads(body)["views"]
    assert first["plan"]["sql"] == second["plan"]["sql"]
    (a,), (b,) = (view["plan"]["filters"].values() for view in (first, second))
    assert "'a'" in a and "'b'" not in a and a.replace("'a'", "'b'") == b
    assert {row["customer_id"] for row in first["answer"]["data"]} == {"a"}
    assert {row["customer_id"] for row in second["answer"]["data"]} == {"b"}
    assert headers["cache-control"] == "private, no-store"


async def test_a_refusal_is_shown_and_the_workspaces_own_view(demo: Demo) -> None:
    status, _, body = await demo.inspect(tokens=(demo.workspace.tenant("latest"), ""))
    assert status == 200, body
    first, second = json.loads(body)["views"]
    assert first["refused"]["status"] == 403 and "plan" not in first and "answer" not in first
    assert second["plan"]["filters"] == {} and len(second["answer"]["data"]) == len(ROWS)


@pytest.mark.parametrize("token", [None, "nonsense", "tenant"])
async def test_j07_nobody_but_the_admin(demo: Demo, token: str | None) -> None:
    if token == "tenant":
        token = demo.workspace.tenant("latest", customer_id="a")
    status, _, body = await demo.inspect(token=token)
    assert status == 403 and str(CANARY).encode() not in body and b"SELECT" not in body


async def test_j07_another_workspaces_admin_sees_nothing_of_this_one(demo: Demo) -> None:
    other = await demo.workspace.server.catalog.create_workspace(f"{demo.workspace.name}_other")
    status, _, body = await demo.inspect(token=other.admin_token)
    assert status == 403 and str(CANARY).encode() not in body


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:3000"},
        {"origin": "https://127.0.0.1:7181"},
        {"origin": "", "sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        # DNS rebinding: all the rest is as the page's own
        {"host": "evil.example:7181", "origin": "http://evil.example:7181"},
        {"host": "127.0.0.1.nip.io:7181", "origin": "http://127.0.0.1.nip.io:7181"},
        {"host": "192.168.1.5:7181", "origin": "http://192.168.1.5:7181"},
        {"host": ""},
        # a proxy on this machine speaks for somebody elsewhere
        {"x_forwarded_for": "203.0.113.9"},
        {"forwarded": "for=203.0.113.9"},
        # K46: whatever its headers are called
        *({name: "203.0.113.9"} for name in ("cf_connecting_ip", "true_client_ip", "x_real_ip", "x_client_ip", "via")),
        *({name: "x"} for name in ("cf_ray", "cdn_loop", "x_forwarded_proto", "x_amzn_trace_id", "fly_client_ip", "x_new")),
    ],
)
async def test_i14_another_site_is_refused_even_with_the_admin_token(demo: Demo, headers: dict[str, str]) -> None:
    status, _, body = await demo.inspect(**headers)
    assert status == 403 and str(CANARY).encode() not in body and b"SELECT" not in body, body


async def test_j07_another_machine_is_refused(demo: Demo) -> None:
    status, _, body = await demo.inspect(client="203.0.113.9")
    assert status == 403 and str(CANARY).encode() not in body


async def test_a_form_of_another_site_is_not_json(demo: Demo) -> None:
    status, _, body = await demo.inspect(content_type="text/plain")
    assert status == 400 and str(CANARY).encode() not in body


@pytest.mark.parametrize("host", [None, "0.0.0.0", "192.168.1.5", "::", "pipit.example.com"])
async def test_j05_it_is_not_there_without_the_flag_or_on_another_address(demo: Demo, host: str | None) -> None:
    status, _, body = await Demo(demo.workspace, host=host).inspect()
    assert status == 404 and str(CANARY).encode() not in body


async def test_no_route_of_the_page_gives_the_admin_token_away(demo: Demo) -> None:
    """J07: what the page loads and is told, all of it, does not hold it."""
    secret = demo.workspace.admin_token.encode()
    for route in demo.app.routes:
        path = getattr(route, "path", "")
        if not path.startswith("/demo") or path == "/demo/inspect":
            continue
        _, headers, body = await ask(demo.app, path.replace("{name:path}", "app.js"), PAGE, b"", "127.0.0.1")
        assert secret not in body and secret.decode() not in str(headers), path
    _, _, body = await demo.inspect()
    assert secret not in body

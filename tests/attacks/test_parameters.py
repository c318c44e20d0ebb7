"""Attacks B: whatever a request carries, a tenant's filter and its fixed parameters stand."""

from __future__ import annotations

import json

import pytest

from pipit.errors import ProjectError
from projects import CANARY, ROWS, TENANTS, column
from serving import Workspace

pytestmark = pytest.mark.anyio

# Ways to say customer_id=b in a URL.
QUERIES = [
    "customer_id=b",
    "customer_id=a&customer_id=b",
    "customer_id=b&customer_id=a",
    "Customer_ID=b",
    "CUSTOMER_ID=b",
    "customer_id[]=b",
    "customer_id[0]=b",
    "customer_id.x=b",
    "customer_id+=b",
    "customer_id%20=b",
    "customer_id%00=b",
    "customer_id%0a=b",
    "%63ustomer_id=b",
    "customer%5Fid=b",
    "a=1;customer_id=b",
    "context=%7B%22customer_id%22%3A%22b%22%7D",
    "context.customer_id=b",
    "additional_table_filters=%7B%7D",
    "param_customer_id=b",
    "readonly=0",
    "database=system",
    "role=admin",
    "user=default",
    "query_id=1&session_id=2",
    "fixed_params=%7B%7D",
]


@pytest.fixture(scope="module")
async def tenants(shared_workspace: Workspace) -> Workspace:
    await shared_workspace.deploy(TENANTS)
    reply = await shared_workspace.send("events", ROWS)
    assert reply.json == {"successful_rows": 5, "quarantined_rows": 0}
    return shared_workspace


def only_a(body: bytes) -> None:
    assert b"canary_b" not in body and str(CANARY).encode() not in body and b'"b"' not in body


async def test_every_way_to_ask_for_another_customer(tenants: Workspace) -> None:
    """B01, B02, B03, B05, B06, B07: the token's parameter stands, and names that only look like it are unknown ones."""
    fixed = tenants.jwt(
        {"type": "PIPES:READ", "resource": "by_param", "fixed_params": {"customer_id": "a"}},
        {"type": "PIPES:READ", "resource": "latest", "fixed_params": {}},
        context={"customer_id": "a"},
    )
    plain = (await tenants.get("/v0/pipes/by_param.json", token=fixed)).body
    assert len(json.loads(plain)["data"]) == 3
    for query in QUERIES:
        for pipe in ("by_param", "latest"):
            reply = await tenants.get(f"/v0/pipes/{pipe}.json?{query}", token=fixed)
            only_a(reply.body)
            assert reply.status in (200, 400), (query, reply.text)
            if reply.status == 200:
                assert column(reply.json["data"], "customer_id") == ["a", "a", "a"], query


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Content-Type": "application/json"}, b'{"customer_id": "b"}'),
        ({"Content-Type": "application/json"}, b'{"customer_id": "a", "customer_id": "b"}'),
        ({"Content-Type": "application/json"}, b'{"customer_id": ["b"]}'),
        ({"Content-Type": "application/json"}, b'{"customer_id": {"$ne": "a"}}'),
        ({"Content-Type": "application/json"}, b'{"Customer_Id": "b"}'),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"customer_id=b"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"customer_id=a&customer_id=b"),
        (
            {"Content-Type": "multipart/form-data; boundary=x"},
            b'--x\r\nContent-Disposition: form-data; name="customer_id"\r\n\r\nb\r\n--x--\r\n',
        ),
    ],
)
async def test_bodies(tenants: Workspace, headers: dict[str, str], body: bytes) -> None:
    """B08, B09, B10, B11: what a body says, against the URL and against the token."""
    fixed = tenants.jwt(
        {"type": "PIPES:READ", "resource": "by_param", "fixed_params": {"customer_id": "a"}},
        context={"customer_id": "a"},
    )
    for query in ("", "?customer_id=b", "?customer_id=a"):
        reply = await tenants.post(f"/v0/pipes/by_param.json{query}", token=fixed, headers=headers, data=body)
        only_a(reply.body)
        assert reply.status == 200, reply.text
        assert column(reply.json["data"], "customer_id") == ["a", "a", "a"]


async def test_headers_cookies_and_methods_change_nothing(tenants: Workspace) -> None:
    """B13, B14, B15."""
    token = tenants.tenant("latest", customer_id="a")
    for headers in (
        {
            "X-Tenant-Id": "b",
            "X-Forwarded-User": "b",
            "X-ClickHouse-User": "default",
            "X-ClickHouse-Database": "system",
        },
        {"Cookie": "customer_id=b"},
        {"X-HTTP-Method-Override": "DELETE", "X-HTTP-Method": "PUT"},
    ):
        reply = await tenants.get("/v0/pipes/latest.json?_method=DELETE", token=token, headers=headers)
        assert reply.status == 200
        assert column(reply.json["data"], "customer_id") == ["a", "a", "a"]


async def test_fixed_params_must_be_fixed(tenants: Workspace) -> None:
    """B16: the pipe declares FIXED_PARAMS; a JWT that leaves it open is refused, whatever the request says."""
    token = tenants.tenant("by_param", customer_id="a")
    reply = await tenants.get("/v0/pipes/by_param.json?customer_id=a", token=token)
    assert reply.status == 403
    assert "customer_id" in reply.json["error"]


@pytest.mark.parametrize("how", ["by_param", "{{table(which, 'events')}}"])
async def test_fixed_params_must_be_fixed_by_who_reads_through_another_pipe(workspace: Workspace, how: str) -> None:
    """B16: a JWT for the outer pipe alone must not choose what the inner one wants chosen for it."""
    by_param = TENANTS["endpoints/by_param.pipe"]
    assert "FIXED_PARAMS customer_id" in by_param
    bare = {name: text.split("ROW_POLICY")[0] for name, text in TENANTS.items() if name.startswith("datasources/")}
    outer = f"NODE n\nSQL >\n    %\n    SELECT customer_id FROM {how}\nTYPE endpoint\n"
    await workspace.deploy(bare | {"endpoints/by_param.pipe": by_param, "endpoints/through.pipe": outer})
    await workspace.send("events", ROWS)
    scope = {"type": "PIPES:READ", "resource": "through"}
    for token in (workspace.jwt(scope), workspace.jwt(scope | {"fixed_params": {"customer_id": ""}})):
        reply = await workspace.get("/v0/pipes/through.json?customer_id=b&which=by_param", token=token)
        assert reply.status == 403 and "customer_id" in reply.json["error"], reply.text
    fixed = workspace.jwt(scope | {"fixed_params": {"customer_id": "a"}})
    reply = await workspace.get("/v0/pipes/through.json?customer_id=b&which=by_param", token=fixed)
    assert reply.status == 200 and set(column(reply.json["data"], "customer_id")) == {"a"}, reply.text


async def test_a_token_without_the_key_is_refused(tenants: Workspace) -> None:
    for context in ({}, {"team": "red"}, {"customer": "a"}):
        reply = await tenants.get("/v0/pipes/latest.json", token=tenants.tenant("latest", **context))
        assert reply.status == 403, reply.text
        assert "customer_id" in reply.json["error"]


@pytest.mark.parametrize("value", [None, "", [], {}, True, 0, ["a", "b"], "a,b", "a\0b", "x" * 100_000])
async def test_hostile_context_values(tenants: Workspace, value: object) -> None:
    """A23: never "no filter"."""
    reply = await tenants.get(
        "/v0/pipes/latest.json",
        token=tenants.jwt({"type": "PIPES:READ", "resource": "latest"}, context={"customer_id": value}),
    )
    only_a(reply.body)
    if reply.status == 200:
        assert reply.json["data"] == []
    else:
        assert reply.status == 403


@pytest.mark.parametrize(
    "value", ["a' OR 1=1 --", "a\\' OR 1=1 --", "{{customer_id}}", "%27", "' || '", "A", "a ", "а"]
)
async def test_claim_injection(tenants: Workspace, value: str) -> None:
    """A25, A26: bound as data; zero rows."""
    reply = await tenants.get("/v0/pipes/latest.json", token=tenants.tenant("latest", customer_id=value))
    assert reply.status == 200, reply.text
    assert reply.json["data"] == []


async def test_managers_see_their_team_only(tenants: Workspace) -> None:
    reply = await tenants.get("/v0/pipes/latest.json", token=tenants.tenant("latest", customer_id="a", team="blue"))
    assert column(reply.json["data"], "amount") == [2]


async def test_too_many_and_too_long(tenants: Workspace) -> None:
    """B23, B24."""
    token = tenants.tenant("latest", customer_id="a")
    many = "&".join(f"{i}" for i in range(1001))
    assert (await tenants.get(f"/v0/pipes/latest.json?{many}", token=token)).status == 400
    more = "&".join(f"p{i}=1" for i in range(5000))
    assert (await tenants.get(f"/v0/pipes/latest.json?{more}", token=token)).status in (414, 431)
    body = json.dumps({f"p{i}": 1 for i in range(5000)}).encode()
    json_type = {"Content-Type": "application/json"}
    assert (await tenants.post("/v0/pipes/latest.json", token=token, headers=json_type, data=body)).status == 400
    long = await tenants.get("/v0/pipes/latest.json?action=" + "x" * 9000, token=token)
    assert (long.status, long.json["code"]) == (414, "uri_too_long")
    huge = json.dumps({"action": "x" * 11_000_000}).encode()
    reply = await tenants.post("/v0/pipes/latest.json", token=token, headers=json_type, data=huge)
    assert (reply.status, reply.json["code"]) == (413, "too_large")


async def test_a_tenant_sends_no_sql_with_a_pipe(tenants: Workspace) -> None:
    """`q` over an endpoint is for workspace tokens; D32: and reads no other pipe or table either way."""
    token = tenants.tenant("latest", customer_id="a")
    for sql in ("SELECT * FROM _", "SELECT * FROM totals", "SELECT * FROM events"):
        query = sql.replace(" ", "+")
        reply = await tenants.get(f"/v0/pipes/latest.json?q={query}", token=token)
        assert reply.status == 403 and "data" not in reply.json, sql


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_scalar_that_is_sent_twice(tenants: Workspace, method: str) -> None:
    """B02, B08, B10: also of a parameter that is not fixed; two programs could take two different ones."""
    token = tenants.tenant("latest", customer_id="a")
    for query, body in (
        ("action=click&action=view", b""),
        ("action=click&action=click", b""),
        ("action=click", b'{"action": "view"}'),
        ("action=click", b'{"action": null}'),
        ("", b'{"action": "click", "action": "view"}'),
        ("", b'{"action": "click", "\\u0061ction": "view"}'),
    ):
        if bool(body) == (method == "POST"):
            headers = {"Content-Type": "application/json"}
            path = f"/v0/pipes/latest.json?{query}"
            reply = await tenants.request(method, path, token=token, headers=headers, data=body or None)
            assert (reply.status, reply.json["code"]) == (400, "bad_request"), (query, body)


async def test_an_empty_fixed_parameter_fixes_nothing(tenants: Workspace) -> None:
    """B19: `defined()` is true of an empty text, in Tinybird too."""
    scope = {"type": "PIPES:READ", "resource": "by_param", "fixed_params": {"customer_id": ""}}
    for query in ("", "?customer_id=b"):
        reply = await tenants.get(
            f"/v0/pipes/by_param.json{query}", token=tenants.jwt(scope, context={"customer_id": "a"})
        )
        assert reply.status == 403 and "customer_id" in reply.json["error"]


async def test_a_filter_that_a_request_could_switch_off(workspace: Workspace) -> None:
    """B17, B18: a guard or a default in the author's own filter. The policy does not look at parameters; and where the
    pipe declares the parameter as fixed, such a filter does not deploy, in a node or a pipe that it reads neither."""
    pipes = {
        "guarded": "SELECT customer_id FROM events WHERE 1 {% if defined(customer_id) %} AND customer_id = {{String(customer_id)}} {% end %}",
        "defaulted": "SELECT customer_id FROM events WHERE customer_id = {{String(customer_id, '')}} OR {{String(customer_id, '')}} = ''",
    }
    files = {
        f"endpoints/{name}.pipe": f"NODE n\nSQL >\n    %\n    {sql}\nTYPE endpoint\n" for name, sql in pipes.items()
    }
    await workspace.deploy(TENANTS | files)
    await workspace.send("events", ROWS)
    for name in pipes:
        for query in ("", "?customer_id=", "?customer_id=b", "?Customer_id=b", "?customer_id=a"):
            reply = await workspace.get(f"/v0/pipes/{name}.json{query}", token=workspace.tenant(name, customer_id="a"))
            only_a(reply.body)
            assert reply.status == 200 and set(column(reply.json["data"], "customer_id")) <= {"a"}
    over = "FIXED_PARAMS customer_id\n\nNODE n\nSQL >\n    SELECT * FROM {}\nTYPE endpoint\n"
    declared = {f"endpoints/{name}_fixed.pipe": "FIXED_PARAMS customer_id\n\n" + files[f"endpoints/{name}.pipe"] for name in pipes}
    declared |= {f"endpoints/over_{name}.pipe": over.format(name) for name in pipes}
    for path, text in declared.items():
        with pytest.raises(ProjectError) as refused:
            await workspace.deploy(TENANTS | files | {path: text})
        (error,) = refused.value.errors
        assert "customer_id" in error.message and "FIXED_PARAMS" in error.message and error.line
    plain = declared["endpoints/guarded_fixed.pipe"].replace("{% if defined(customer_id) %}", "").replace("{% end %}", "")
    await workspace.deploy(TENANTS | files | {"endpoints/guarded_fixed.pipe": plain})


async def test_two_scopes_for_one_pipe_never_add_up(tenants: Workspace) -> None:
    """B21: by name, by id and by both; with a scope that fixes nothing too."""
    id = (await tenants.get("/v0/pipes/by_param")).json["id"]
    for first, second in (("by_param", "by_param"), ("by_param", id), (id, "by_param")):
        for other in ({"customer_id": "b"}, {"customer_id": ["a"]}, {}):
            scopes = (
                {"type": "PIPES:READ", "resource": first, "fixed_params": {"customer_id": "a"}},
                {"type": "PIPES:READ", "resource": second, "fixed_params": other},
            )
            for token in (
                tenants.jwt(*scopes, context={"customer_id": "a"}),
                tenants.jwt(*scopes[::-1], context={"customer_id": "a"}),
            ):
                reply = await tenants.get("/v0/pipes/by_param.json?customer_id=b", token=token)
                only_a(reply.body)
                if other or first == second:
                    assert reply.status == 403, (first, second, other)
                else:  # the scope that fixes it decides
                    assert column(reply.json["data"], "customer_id") == ["a"] * 3


async def test_pipes_of_the_token_only(tenants: Workspace) -> None:
    """B22, E08: one answer for what is not there, what is not allowed, and what another workspace has."""
    other = await tenants.server.catalog.create_workspace(tenants.name + "_other")
    await tenants.server.deployer.deploy(
        other.id, {"endpoints/of_another.pipe": "NODE n\nSQL >\n    SELECT 1 AS x\nTYPE endpoint\n"}
    )
    token = tenants.tenant("latest", customer_id="a")
    names = ("totals", "nothing_here", "Latest", "latest_private", "latest.json", "of_another", "t_" + "0" * 32)
    for path in ("/v0/pipes/{}.json", "/v0/pipes/{}"):
        bodies = set()
        for name in names:
            reply = await tenants.get(path.format(name), token=token)
            if path.endswith("{}") and "." in name:
                continue  # a name and a format
            bodies.add((reply.status, reply.text.replace(name, "NAME")))
        assert len(bodies) == 1, bodies
        assert bodies.pop()[0] in (403, 404)


PATHS = [
    "/v0/pipes/latest/../totals.json",
    "/v0/pipes/latest.json/../totals.json",
    "/v0/pipes/latest%2f..%2ftotals.json",
    "/v0/pipes/%2e%2e/pipes/totals.json",
    "/v0/pipes/./totals.json",
    "/v0/pipes//totals.json",
    "/v0/pipes/latest.json%00totals.json",
    "/v0/pipes/latest%0a.json",
    "/v0/pipes/latest.json;totals.json",
]


async def test_a_path_leads_to_no_other_pipe(tenants: Workspace) -> None:
    """B22: names are compared as they are; nothing in a path is resolved, cut off or repeated."""
    token = tenants.tenant("latest", customer_id="a")
    for path in PATHS:
        reply = await tenants.get(path, token=token)
        assert reply.status in (400, 403, 404) and "data" not in reply.text, path

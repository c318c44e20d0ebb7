"""Attacks F: caches and shared state; E10, E13; J17, what the audit log keeps. Rows of B must show nowhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pytest

from pipit.access.params import RequestParams, SentParameter
from pipit.api.requests import viewer_of
from pipit.catalog.services import SERVICES, physical_name
from pipit.engine import Engine
from pipit.errors import PipitError
from pipit.query.formats import JSON
from pipit.query.queries import PipeQuery, Read
from pipit.query.read import Reader
from projects import CANARY, ROWS, TENANTS, column, event
from serving import Reply, Workspace

pytestmark = pytest.mark.anyio

KEEP = "{{cache_ttl('1h')}}"
KEPT = f"NODE e\nSQL >\n    %\n    {KEEP} SELECT customer_id, team, amount FROM events ORDER BY amount\nTYPE endpoint\n"
KEPT_BY_PARAM = (
    "FIXED_PARAMS customer_id\n\nNODE e\nSQL >\n    %\n"
    f"    {KEEP} SELECT customer_id, amount FROM events WHERE customer_id = {{{{String(customer_id)}}}} ORDER BY amount\n"
    "TYPE endpoint\n"
)
# Reads no row of anybody: all tenants get the same answer.
KEPT_OPEN = f"NODE e\nSQL >\n    %\n    {KEEP} SELECT 1 AS one\nTYPE endpoint\n"
SOMETIMES = (
    "NODE e\nSQL >\n    %\n    {% if defined(keep) %}" + KEEP + "{% set least = 100 %}{% end %}\n"
    "    SELECT customer_id, amount FROM events WHERE amount >= {{Int64(least, 0)}} ORDER BY amount\nTYPE endpoint\n"
)
PIPES = {
    "endpoints/kept.pipe": KEPT,
    "endpoints/kept_by_param.pipe": KEPT_BY_PARAM,
    "endpoints/kept_open.pipe": KEPT_OPEN,
    "endpoints/sometimes.pipe": SOMETIMES,
}
EVERY = ("kept", "kept_by_param", "kept_open", "sometimes", "latest")


class Watched:
    """The engine, and how many results were asked of it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.streams = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def stream(self, *arguments: Any, **options: Any) -> Any:
        self.streams += 1
        return self._engine.stream(*arguments, **options)


@pytest.fixture
async def project(workspace: Workspace) -> Workspace:
    await workspace.deploy(TENANTS | PIPES)
    await workspace.send("events", ROWS)
    return workspace


def who(workspace: Workspace, customer: str, **claims: Any) -> str:
    scopes: list[dict[str, Any]] = [{"type": "PIPES:READ", "resource": p} for p in EVERY if p != "kept_by_param"]
    scopes.append({"type": "PIPES:READ", "resource": "kept_by_param", "fixed_params": {"customer_id": customer}})
    return workspace.jwt(*scopes, **({"context": {"customer_id": customer}} | claims))


def of(reply: Reply) -> set[str]:
    assert reply.status == 200, reply.text
    return {row["customer_id"] for row in reply.json["data"]}


async def read(reader: Reader, workspace: Workspace, token: str, pipe: str, **params: str) -> bytes:
    security, snapshot = viewer_of(workspace.server, token)
    sent = RequestParams(tuple(SentParameter("query", k, v) for k, v in params.items()))
    async with reader.open(Read(snapshot, security, PipeQuery(pipe, sent, JSON))) as answer:
        return b"".join([chunk async for chunk in answer.chunks])


# --- F01: everything that reached SQL is in the key


@pytest.mark.parametrize("pipe", ["kept", "kept_by_param"])
async def test_f01_same_url_two_tenants(project: Workspace, pipe: str) -> None:
    for _ in range(2):  # the second time from the cache
        assert of(await project.get(f"/v0/pipes/{pipe}.json", token=who(project, "a"))) == {"a"}
        assert of(await project.get(f"/v0/pipes/{pipe}.json", token=who(project, "b"))) == {"b"}


async def test_f01_every_claim_counts(project: Workspace) -> None:
    """The team is an optional key of the policy: with it, less."""
    claims: list[tuple[dict[str, Any], list[int]]] = [
        ({"customer_id": "a"}, [1, 2, 3]),
        ({"customer_id": "a", "team": "blue"}, [2]),
        ({"customer_id": "a", "team": "red"}, [1, 3]),
    ]
    for context, amounts in claims * 2:
        reply = await project.get("/v0/pipes/kept.json", token=who(project, "", context=context))
        assert column(reply.json["data"], "amount") == amounts


async def test_f01_a_tokens_filter_counts(project: Workspace) -> None:
    for least in (1, 2, 3, 1, 2, 3):
        token = project.jwt(
            {"type": "PIPES:READ", "resource": "kept"},
            {"type": "DATASOURCES:READ", "resource": "events", "filter": f"amount >= {least}"},
            context={"customer_id": "a"},
        )
        reply = await project.get("/v0/pipes/kept.json", token=token)
        assert column(reply.json["data"], "amount")[0] == least


async def test_f01_tenant_and_workspace_share_nothing(project: Workspace) -> None:
    """The workspace's own answer has statistics; a tenant's must never."""
    assert "statistics" in (await project.get("/v0/pipes/kept.json")).json
    reply = await project.get("/v0/pipes/kept.json", token=who(project, "a"))
    assert "statistics" not in reply.json and of(reply) == {"a"}
    assert of(await project.get("/v0/pipes/kept.json")) == {"a", "b"}


async def test_f01_two_workspaces_of_the_same_project(project: Workspace) -> None:
    other_id = (await project.server.catalog.create_workspace(f"{project.name}_other")).id
    other = Workspace(project.server, project.base_url, project.session, other_id)
    await other.deploy(TENANTS | PIPES)
    await other.send("events", [event("a", 77)])
    assert column(await project.rows("/v0/pipes/kept.json", token=who(project, "a")), "amount") == [1, 2, 3]
    assert column(await other.rows("/v0/pipes/kept.json", token=who(other, "a")), "amount") == [77]


# --- F02: claims are normalised before the key is made


async def test_f02_what_a_request_says_of_a_fixed_parameter_is_not_in_the_key(project: Workspace) -> None:
    """B's answer is kept under B's value. A asks for `customer_id=b`, in every way there is."""
    assert of(await project.get("/v0/pipes/kept_by_param.json?customer_id=b", token=who(project, "b"))) == {"b"}
    token = who(project, "a")
    for query in ("?customer_id=b", "?customer_id=b&customer_id=a", "?Customer_Id=b", "?customer_id[]=b", ""):
        assert of(await project.get(f"/v0/pipes/kept_by_param.json{query}", token=token)) == {"a"}
    reply = await project.post("/v0/pipes/kept_by_param.json", token=token, json={"customer_id": "b"})
    assert of(reply) == {"a"}


async def test_f02_values_of_other_types_are_other_tenants(project: Workspace) -> None:
    await project.send("events", [event("1", 11), event("true", 12), event("1.0", 13)])
    seen = {}
    for value in ("1", 1, 1.0, True, "true", "1.0", ["1"], "1"):
        reply = await project.get("/v0/pipes/kept.json", token=who(project, "", context={"customer_id": value}))
        if reply.status == 200:
            seen[repr(value)] = of(reply)
    assert seen["'1'"] == {"1"} and seen["'true'"] == {"true"} and seen["'1.0'"] == {"1.0"}


# --- F03: nothing that a client calls a key or an id is one


async def test_f03_a_clients_ids_and_keys_do_nothing(project: Workspace) -> None:
    sent = {
        "X-Request-Id": "same",
        "X-Cache-Key": "same",
        "Idempotency-Key": "same",
        "X-ClickHouse-Query-Id": "same",
        "If-None-Match": '"same"',
        "Cache-Control": "only-if-cached",
    }
    query = "?query_id=same&cache_key=same&request_id=same&__tb__cache=1"
    for customer in ("b", "a", "b", "a"):
        reply = await project.get(f"/v0/pipes/kept.json{query}", token=who(project, customer), headers=sent)
        assert of(reply) == {customer}
        assert reply.headers["X-Request-Id"] != "same"


# --- F04: requests that wait for one run


async def test_f04_in_flight_together(project: Workspace) -> None:
    """Forty at once, from two tenants, before anything is kept: two runs, and everybody gets the own rows."""
    watched = Watched(project.server.engine)
    reader = Reader(watched)  # type: ignore[arg-type]
    customers = ["a", "b"] * 20
    bodies = await asyncio.gather(*(read(reader, project, who(project, c), "kept") for c in customers))
    for customer, body in zip(customers, bodies, strict=True):
        assert {row["customer_id"] for row in json.loads(body)["data"]} == {customer}
    assert watched.streams == 2


async def test_f04_a_leader_of_another_tenant_that_fails_or_leaves_is_not_waited_for(project: Workspace) -> None:
    token_a, token_b = who(project, "a"), who(project, "b")
    reader = Reader(project.server.engine)
    leader = asyncio.ensure_future(read(reader, project, token_b, "kept"))
    follower = asyncio.ensure_future(read(reader, project, token_a, "kept"))
    await asyncio.sleep(0)
    leader.cancel()
    assert {row["customer_id"] for row in json.loads(await follower)["data"]} == {"a"}


# --- F05: what a request does to a template, it does to itself


async def test_f05_a_request_changes_no_other_requests_template(project: Workspace) -> None:
    token = who(project, "a")
    before = await project.rows("/v0/pipes/sometimes.json", token=token)
    assert await project.rows("/v0/pipes/sometimes.json?keep=1", token=token) == []  # `least` is 100 there
    assert await project.rows("/v0/pipes/sometimes.json", token=token) == before != []
    await project.send("events", [event("a", 60), event("a", 600)])
    assert len(await project.rows("/v0/pipes/sometimes.json", token=token)) == len(before) + 2  # never kept
    assert await project.rows("/v0/pipes/sometimes.json?keep=1", token=token) == []  # kept


# --- F07: nothing of a request stays with a task or a thread


async def test_f07_interleaved_requests_of_two_tenants(project: Workspace) -> None:
    async def one(number: int) -> None:
        customer = "ab"[number % 2]
        pipe = EVERY[number % 5]
        path = f"/v0/pipes/{pipe}.json?customer_id=b&limit={number % 7 + 1}"
        reply = await project.get(path, token=who(project, customer))
        assert reply.status == 200, reply.text
        if pipe != "kept_open":
            assert of(reply) == {customer}
        if customer == "a":
            assert str(CANARY) not in reply.text and "canary_b" not in str(dict(reply.headers))

    await asyncio.gather(*(one(number) for number in range(100)))


# --- F08: refusals are not kept, and open nothing


async def test_f08_a_refusal_is_nobody_elses(project: Workspace) -> None:
    without = project.tenant("latest", customer_id="a")
    for _ in range(2):
        assert (await project.get("/v0/pipes/kept.json", token=without)).status == 403
        assert of(await project.get("/v0/pipes/kept.json", token=who(project, "a"))) == {"a"}
    # A key of the policy is missing: refused, though an answer of the same statement is kept.
    keyless = await project.get("/v0/pipes/kept.json", token=project.tenant("kept"))
    assert (keyless.status, "customer_id" in keyless.text) == (403, True)


async def test_f08_a_kept_answer_is_no_grant(project: Workspace) -> None:
    """The very token that filled the cache, out of its time."""
    assert of(await project.get("/v0/pipes/kept.json", token=who(project, "a"))) == {"a"}
    assert (await project.get("/v0/pipes/kept.json", token=who(project, "a", exp=1))).status == 403


async def test_f08_an_error_of_the_engine_is_not_kept(project: Workspace) -> None:
    pipe = (
        f"NODE e\nSQL >\n    %\n    {KEEP} SELECT intDiv(6, count()) AS n FROM events WHERE amount = 5\nTYPE endpoint\n"
    )
    await project.deploy(TENANTS | PIPES | {"endpoints/divides.pipe": pipe})
    assert (await project.get("/v0/pipes/divides.json")).status == 400
    await project.send("events", [event("a", 5)])
    assert await project.rows("/v0/pipes/divides.json") == [{"n": 6}]


# --- F09, E10: headers


async def test_f09_shared_caches_on_the_way_are_told_to_keep_nothing(project: Workspace) -> None:
    for _ in range(2):
        reply = await project.get("/v0/pipes/kept.json", token=who(project, "a"))
        assert reply.headers["Cache-Control"].split(",")[0] == "private"
        assert "Authorization" in reply.headers["Vary"]


async def test_e10_headers_do_not_tell_a_hit_from_a_miss(project: Workspace) -> None:
    def told(reply: Reply) -> Mapping[str, str]:
        return {k.lower(): v for k, v in reply.headers.items() if k.lower() not in ("x-request-id", "date")}

    token = who(project, "a")
    miss, hit = [await project.get("/v0/pipes/kept.json", token=token) for _ in range(2)]
    assert told(miss) == told(hit) and miss.body == hit.body
    assert not told(miss).keys() & {"etag", "last-modified", "age", "expires", "x-cache", "server-timing"}


async def test_e10_no_tenant_can_tell_what_another_asked(project: Workspace) -> None:
    """Not even of an endpoint that says the same to all: a run is for one tenant."""
    watched = Watched(project.server.engine)
    reader = Reader(watched)  # type: ignore[arg-type]
    open_to = {"type": "PIPES:READ", "resource": "kept_open"}
    tokens = [
        who(project, "a"),
        who(project, "b"),
        project.jwt(open_to, name="one", context={}),
        project.jwt(open_to, name="two", context={}),
        project.jwt(open_to | {"fixed_params": {"x": "1"}}),
        project.jwt(open_to | {"fixed_params": {"x": "2"}}),
    ]
    for number, token in enumerate(tokens, 1):
        await read(reader, project, token, "kept_open")
        await read(reader, project, token, "kept_open")
        assert watched.streams == number


# --- F11, E13: the engine's own caches


async def test_f11_the_engines_query_cache_is_off(project: Workspace) -> None:
    security, snapshot = viewer_of(project.server, who(project, "a"))
    plan = await project.server.reader.plan(Read(snapshot, security, PipeQuery("latest", RequestParams(()), JSON)))
    assert plan.settings["use_query_cache"] == 0
    before = await project.rows("/v0/pipes/latest.json", token=who(project, "a"))
    await project.send("events", [event("a", 60)])
    assert len(await project.rows("/v0/pipes/latest.json", token=who(project, "a"))) == len(before) + 1
    for setting in ("use_query_cache = 1", "use_query_cache = 1, query_cache_share_between_users = 1"):
        reply = await project.get(f"/v0/sql?q={quote(f'SELECT 1 SETTINGS {setting}')}")
        assert reply.status == 400, reply.text
        pipe = f"NODE e\nSQL >\n    SELECT 1 AS x SETTINGS {setting}\nTYPE endpoint\n"
        with pytest.raises(PipitError):
            await project.deploy(TENANTS | PIPES | {"endpoints/caches.pipe": pipe})


async def test_e13_the_query_condition_cache_carries_nothing_over(project: Workspace) -> None:
    """The engine remembers per condition which granules have no match; under another filter that is another truth."""
    condition = "NODE e\nSQL >\n    SELECT customer_id, amount FROM events WHERE amount % 1000 = 999 ORDER BY amount\nTYPE endpoint\n"
    await project.deploy(TENANTS | PIPES | {"endpoints/rare.pipe": condition})
    await project.send("events", [event("a", 999), event("b", 1999)])
    for customer in "abab":
        rows = await project.rows("/v0/pipes/rare.json", token=project.tenant("rare", customer_id=customer))
        assert column(rows, "customer_id") == [customer]
    security, snapshot = viewer_of(project.server, project.tenant("rare", customer_id="a"))
    plan = await project.server.reader.plan(Read(snapshot, security, PipeQuery("rare", RequestParams(()), JSON)))
    assert plan.settings["use_query_condition_cache"] == 0
    reply = await project.get(f"/v0/sql?q={quote('SELECT 1 SETTINGS use_query_condition_cache = 1')}")
    assert reply.status == 400


# --- J17: what the audit log keeps


async def test_j17_no_token_no_sql_no_row_of_anybody(project: Workspace) -> None:
    pipe = (
        "NODE e\nSQL >\n    %\n    SELECT intDiv(amount, toInt64(team = {{String(team, 'none')}})) AS n,"
        " 'canary_in_sql' AS c FROM events\nTYPE endpoint\n"
    )
    await project.deploy(TENANTS | PIPES | {"endpoints/fails.pipe": pipe})
    token = who(project, "a")
    fails = project.tenant("fails", customer_id="a")
    secret = "canary_of_a_secret"
    casts = "SELECT toInt64(team) AS canary_in_sql FROM events WHERE customer_id = 'b' AND team != 'red'"
    asked = [
        await project.get(f"/v0/pipes/latest.json?token={token}&password={secret}", token=None),
        await project.get(f"/v0/pipes/latest.json?limit=1&Api-Key={secret}&note={token}", token=token),
        await project.post(
            "/v0/pipes/latest.json", token=token, json={"authorization": f"Bearer {secret}", "limit": 1}
        ),
        await project.get(f"/v0/pipes/latest.json?limit=zz&limit_token={secret}", token=token),
        await project.get("/v0/pipes/fails.json", token=fails),
        await project.get("/v0/pipes/fails.json"),
        await project.get(
            f"/v0/sql?q={quote('SELECT team, throwIf(amount > 900) FROM events')}&token={project.admin_token}",
            token=None,
        ),
        await project.get(f"/v0/sql?q={quote(casts)}"),
        await project.post("/v0/sql", data=b"SELECT 'canary_in_sql' FROM nowhere"),
        await project.get(f"/v0/pipes/latest.json?token={token}"),  # two tokens: a 400 that belongs to nobody
    ]
    assert [r.status for r in asked] == [200, 200, 200, 400, 400, 400, 400, 400, 400, 400], [r.text for r in asked]
    text = "".join([json.dumps(await kept(project, name)) for name in SERVICES])
    assert '"pipe_name": "fails"' in text and "(ILLEGAL_DIVISION)" in text
    for canary in (
        token,
        token[:40],
        fails[:40],
        project.admin_token,
        secret,
        "canary_in_sql",
        str(CANARY),
        "canary_b",
    ):
        assert canary not in text


async def test_j17_a_tenant_does_not_read_it(project: Workspace) -> None:
    reads = "NODE e\nSQL >\n    SELECT token_name, parameters FROM tinybird.pipe_stats_rt\nTYPE endpoint\n"
    await project.deploy(TENANTS | PIPES | {"endpoints/stats.pipe": reads})
    await project.get("/v0/pipes/latest.json?action=canary_b_action", token=who(project, "b"))
    assert (await project.get("/v0/pipes/stats.json")).status == 200
    for token in (
        project.tenant("stats", customer_id="a"),
        project.tenant("stats"),  # nothing says whose it is, but the workspace has policies
        project.jwt({"type": "PIPES:READ", "resource": "stats", "fixed_params": {"x": "1"}}),
    ):
        reply = await project.get("/v0/pipes/stats.json", token=token)
        assert (reply.status, reply.json["code"]) == (403, "read_refused"), reply.text
    for name in SERVICES:
        scope = {"type": "DATASOURCES:READ", "resource": name}
        sql = await project.get(f"/v0/sql?q={quote(f'SELECT * FROM {name}')}", token=project.jwt(scope))
        assert sql.status in (400, 403) and "canary" not in sql.text


async def test_j17_without_policies_a_tenants_claims_are_enough_to_refuse(workspace: Workspace) -> None:
    reads = "NODE e\nSQL >\n    SELECT token_name FROM tinybird.pipe_stats_rt\nTYPE endpoint\n"
    await workspace.deploy({"endpoints/stats.pipe": reads})
    scope = {"type": "PIPES:READ", "resource": "stats"}
    assert (await workspace.get("/v0/pipes/stats.json", token=workspace.jwt(scope))).status == 200
    for token in (
        workspace.jwt(scope, context={"customer_id": "a"}),
        workspace.jwt(scope | {"fixed_params": {"customer_id": "a"}}),
    ):
        assert (await workspace.get("/v0/pipes/stats.json", token=token)).status == 403


async def kept(workspace: Workspace, name: str) -> list[dict[str, Any]]:
    """All rows of a service data source, once everything until now is in it."""
    await workspace.server.read_log.flush()
    await workspace.server.ingest.drain(workspace.database, physical_name(SERVICES[name]))
    return await workspace.rows(f"/v0/sql?q={quote(f'SELECT * FROM {name} FORMAT JSON')}")

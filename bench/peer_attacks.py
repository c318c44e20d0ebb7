"""The attacks that all three services of `peers.py` get, derived from tests/attacks. Each is a function of a service.

`a request`: what a holder of tenant a's token may send to an endpoint that is right. `a token`: what somebody may send
as one. `an endpoint`: SQL that looks innocent to its author and a reviewer, and reads around a filter; the same SQL is
published by all three, in `by_hand` with the tenant's condition wherever there is a column to put it on.

An attack runs in two worlds, one with tenant b's rows and one without. It leaks if a byte of b is in an answer, or if
an answer, its status and its headers differ between the worlds: then it tells something of b. Ids of requests, dates
and elapsed times are left out, and so is the engine's count of rows and bytes read, which has an attack of its own. A
token attack must also be refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import quote

from peer_services import CANARY, A, B, Endpoint, Reply, Service
from peer_world import LATEST, all_days, profiles

Run = Callable[[Service], Awaitable[list[Reply]]]


class NotApplicable(Exception):
    """The service has nothing that could be attacked so."""


class Refused(Exception):
    """The service does not publish the endpoint: nothing to attack."""


@dataclass(frozen=True)
class Attack:
    kind: str
    name: str
    cases: str  # of the catalogue of attacks
    run: Run
    must_refuse: bool = False
    statistics: bool = False  # the engine's count of what it read is looked at, too


ATTACKS: list[Attack] = []
REQUEST, TOKEN, ENDPOINT = "a request", "a token", "an endpoint"


def attack(kind: str, name: str, cases: str, *, statistics: bool = False) -> Callable[[Run], Run]:
    def add(run: Run) -> Run:
        ATTACKS.append(Attack(kind, name, cases, run, kind == TOKEN, statistics))
        return run

    return add


def requests(name: str, cases: str, *queries: str) -> None:
    """An attack made of query strings after a good request of `latest`."""

    async def run(service: Service) -> list[Reply]:
        return [await latest(service, query if "without=" in query else f"without=none&{query}") for query in queries]

    attack(REQUEST, name, cases)(run)


async def latest(service: Service, query: str = "without=none", token: str | None = None, **options: object) -> Reply:
    path = f"{service.path(LATEST.name)}?{query}"
    return await service.ask(path, service.token() if token is None else token, **options)


# ---- requests

requests("the tenant's column as a parameter", "B01", f"customer_id={B}", f"tenant={B}", f"c={B}")
requests("twice, in both orders", "B02", f"customer_id={A}&customer_id={B}", f"customer_id={B}&customer_id={A}")
requests("another case", "B03", f"Customer_Id={B}", f"CUSTOMER_ID={B}")
requests("as a list or an object", "B05", f"customer_id[]={B}", f"customer_id[0]={B}", f"customer_id.x={B}")
requests("a suffix on the name", "B06", f"customer_id+={B}", f"customer_id%00={B}", f"customer_id%0a={B}")
requests("; as a separator", "B07", f"x=1;customer_id={B}")
requests(
    "the engine's own parameters and settings",
    "D17, D23",
    f"param_customer_id={B}",
    "additional_table_filters={}",
    "readonly=0&database=system&role=default&user=default",
    "query=" + quote("SELECT * FROM events"),
)
requests(
    "SQL in a value",
    "C11, C13",
    *(
        f"without={quote(value)}"
        for value in ("' OR 1=1 --", "\\' OR 1=1 --", "x\\", "x') OR (1=1", "{{1}}", "'/*", "x' UNION ALL SELECT 1")
    ),
)


@attack(REQUEST, "the tenant in a JSON or form body", "B08, B09, B10")
async def _(service: Service) -> list[Reply]:
    twice = f'{{"customer_id": "{A}", "customer_id": "{B}"}}'
    return [
        await latest(service, method="POST", json={"customer_id": B}),
        await latest(service, method="POST", data={"customer_id": B}),
        await latest(service, method="POST", data=twice.encode(), headers=[("Content-Type", "application/json")]),
    ]


@attack(REQUEST, "headers and cookies", "B13, B14, B15")
async def _(service: Service) -> list[Reply]:
    headers = [
        ("X-Tenant-Id", B),
        ("X-Forwarded-User", B),
        ("X-ClickHouse-Database", "system"),
        ("X-ClickHouse-User", "default"),
        ("Cookie", f"customer_id={B}"),
        ("X-HTTP-Method-Override", "PUT"),
    ]
    return [await latest(service, headers=headers)]


@attack(REQUEST, "the count of rows and bytes read", "E05", statistics=True)
async def _(service: Service) -> list[Reply]:
    return [await latest(service)]


@attack(REQUEST, "a cached answer of another tenant", "F01")
async def _(service: Service) -> list[Reply]:
    if service.name != "Pipit":
        raise NotApplicable
    sql = "%\n{{cache_ttl('1m')}}\nSELECT id, action, amount FROM events ORDER BY id LIMIT 100"
    await publish(service, Endpoint("cached", "", "", pipe=sql))
    await service.ask(service.path("cached"), service.token(B, endpoints=["cached"]))
    return [await service.ask(service.path("cached"), service.token(endpoints=["cached"]))]


@attack(REQUEST, "SQL of one's own", "D01")
async def _(service: Service) -> list[Reply]:
    if service.name != "Pipit":
        raise NotApplicable
    token = service.token(scopes=[{"type": "DATASOURCES:READ", "resource": "events"}])
    return [await service.ask(f"/v0/sql?q={quote('SELECT * FROM events FORMAT JSON')}", token)]


@attack(REQUEST, "rows that could not be parsed (quarantine)", "G17")
async def _(service: Service) -> list[Reply]:
    if service.name != "Pipit":
        raise NotApplicable
    return await published(service, Endpoint("bad", "SELECT * FROM events_quarantine", ""))


@attack(REQUEST, "lists of tables, endpoints and workspaces", "J06, E11")
async def _(service: Service) -> list[Reply]:
    paths = ["/docs", "/openapi.json", "/v0/pipes", "/v0/datasources", "/v1/workspace", "/v0/tokens", "/metrics", "/"]
    return [await service.ask(path, service.token()) for path in paths]


# ---- tokens


def token(name: str, cases: str, *make: Callable[[Service], str]) -> None:
    async def run(service: Service) -> list[Reply]:
        return [await latest(service, token=one(service)) for one in make]

    attack(TOKEN, name, cases)(run)


token("no tenant in it", "A24", lambda s: s.token(None))
token(
    "a tenant that is no text",
    "A23",
    *(lambda s, v=value: s.token(v) for value in ("", [], {}, True, 0, [A, B], {"$ne": ""})),  # type: ignore[misc]
)
token("alg none", "A01, A02", lambda s: s.token(B, algorithm="none"), lambda s: f"{s.token(B).rpartition('.')[0]}.")
token("another key", "A15", lambda s: s.token(B, key="another-signing-key-of-32-bytes-or-more"))
token("another algorithm", "A03", lambda s: s.token(B, algorithm="HS384", key=48 * "k"))
token("expired by a second", "A10", lambda s: s.token(A, seconds=-1))
token("without an end", "A11", lambda s: s.token(A, exp=None))
token("not yet good", "A13", lambda s: s.token(A, nbf=4_000_000_000))
token("an end that is no number", "A12", lambda s: s.token(A, exp="never"))
token("a signature that was cut", "A21", lambda s: s.token(A)[:-4])
token("none at all", "I09", lambda s: "")


@attack(REQUEST, "another token beside one's own", "A17")
async def _(service: Service) -> list[Reply]:
    forged = service.token(B, key="another-signing-key-of-32-bytes-or-more")
    header = ("Authorization", f"Bearer {forged}")
    return [await latest(service, f"without=none&token={forged}"), await latest(service, headers=[header])]


@attack(REQUEST, "a tenant's name that is SQL", "A25, A26")
async def _(service: Service) -> list[Reply]:
    """Names are chosen by who signs up; the backend signs what it finds."""
    names = ("a' OR 1=1 --", "a\\' OR 1=1 --", "\\", "b ", "B", "а", "') OR 1 OR ('", "a}, 'x': '1", "%27 OR 1=1")
    return [await latest(service, token=service.token(name)) for name in names]


# ---- endpoints


async def publish(service: Service, endpoint: Endpoint) -> None:
    if why := await service.publish(endpoint):
        raise Refused(why)


async def published(service: Service, endpoint: Endpoint, *queries: str) -> list[Reply]:
    await publish(service, endpoint)
    token = service.token(endpoints=[endpoint.name])
    return [await service.ask(f"{service.path(endpoint.name)}?{query}", token) for query in queries or ("",)]


def endpoint(name: str, cases: str, made: Endpoint, *queries: str) -> None:
    async def run(service: Service) -> list[Reply]:
        return await published(service, made, *queries)

    attack(ENDPOINT, name, cases)(run)


MINE = "customer_id = {customer_id:String}"
endpoint(
    "a view's target with the tenant's column",
    "D10",
    Endpoint("daily_sums", "SELECT sum(total) AS n FROM daily", f"SELECT sum(total) AS n FROM daily WHERE {MINE}"),
)
endpoint(
    "a view's target without the tenant's column",
    "D10, J13",
    Endpoint("all_sums", "SELECT sum(total) AS n FROM all_days", "SELECT sum(total) AS n FROM all_days", all_days()),
)
endpoint(
    "a dictionary",
    "D08",
    Endpoint(
        "label",
        "SELECT dictGet('<database>.labels', 'label', {id:UInt64}) AS label",
        "SELECT if(dictGet('<database>.labels', 'customer_id', {id:UInt64}) = {customer_id:String}, "
        "dictGet('<database>.labels', 'label', {id:UInt64}), '') AS label",
    ),
    "id=100",
)
endpoint(
    "merge()",
    "D09",
    Endpoint(
        "merged",
        "SELECT count() AS n, max(amount) AS m FROM merge('<database>', 'events$')",
        f"SELECT count() AS n, max(amount) AS m FROM merge('<database>', 'events$') WHERE {MINE}",
    ),
)
endpoint(
    "settings inside the query",
    "D17",
    Endpoint(
        "inner_settings",
        "SELECT count() AS n FROM (SELECT * FROM events SETTINGS additional_table_filters = {})",
        f"SELECT count() AS n FROM (SELECT * FROM events WHERE {MINE} SETTINGS additional_table_filters = {{}})",
    ),
)
endpoint(
    "UNION ALL",
    "D02",
    Endpoint(
        "united",
        "SELECT id, amount FROM events WHERE amount < 0 UNION ALL SELECT account, amount FROM ledger LIMIT 10",
        f"SELECT id, amount FROM events WHERE {MINE} AND amount < 0 UNION ALL "
        f"SELECT account, amount FROM ledger WHERE {MINE} LIMIT 10",
    ),
)
endpoint(
    "the other side of a join",
    "D05",
    Endpoint(
        "joined",
        "SELECT e.id AS id, max(l.amount) AS m FROM events AS e CROSS JOIN ledger AS l GROUP BY id ORDER BY id LIMIT 5",
        f"SELECT e.id AS id, max(l.amount) AS m FROM (SELECT * FROM events WHERE {MINE}) AS e CROSS JOIN "
        f"(SELECT * FROM ledger WHERE {MINE}) AS l GROUP BY id ORDER BY id LIMIT 5",
    ),
)
endpoint(
    "IN with a subquery",
    "D06",
    Endpoint(
        "included",
        "SELECT number AS n FROM numbers(200) WHERE number IN (SELECT id FROM events)",
        f"SELECT number AS n FROM numbers(200) WHERE number IN (SELECT id FROM events WHERE {MINE})",
    ),
)
endpoint(
    "a scalar subquery: the share of all",
    "D07",
    Endpoint(
        "share",
        "SELECT sum(amount) / (SELECT sum(amount) FROM events) AS share FROM events",
        f"SELECT sum(amount) / (SELECT sum(amount) FROM events WHERE {MINE}) AS share FROM events WHERE {MINE}",
    ),
)
endpoint(
    "FINAL",
    "D27",
    Endpoint(
        "final_sums",
        "SELECT sum(total) AS n FROM daily FINAL",
        f"SELECT sum(total) AS n FROM daily FINAL WHERE {MINE}",
    ),
)
endpoint(
    "rows of two tenants under one key of a ReplacingMergeTree",
    "D27",
    Endpoint(
        "profile",
        "SELECT count() AS n FROM profiles FINAL",
        f"SELECT count() AS n FROM profiles FINAL WHERE {MINE}",
        profiles(),
    ),
)
endpoint(
    "a division by a hidden row's value",
    "E01",
    Endpoint(
        "divided",
        "SELECT count() AS n FROM events WHERE intDiv(1000, amount - {x:Int64}) >= 0",
        f"SELECT count() AS n FROM events WHERE {MINE} AND intDiv(1000, amount - {{x:Int64}}) >= 0",
    ),
    f"x={CANARY}",
)
endpoint(
    "a division by a key in the index",
    "E01",
    Endpoint(
        "divided_key",
        "SELECT count() AS n FROM (SELECT * FROM events) WHERE intDiv(1, customer_id != {who:String}) >= 0",
        f"SELECT count() AS n FROM (SELECT * FROM events WHERE {MINE}) "
        "WHERE intDiv(1, customer_id != {who:String}) >= 0",
    ),
    f"who={B}",
)
endpoint(
    "a cast that fails on a hidden row",
    "E02, E04",
    Endpoint(
        "whole_labels",
        "SELECT count() AS n FROM events WHERE toUInt32(label) > 0",
        f"SELECT count() AS n FROM events WHERE {MINE} AND toUInt32(label) > 0",
    ),
)
endpoint(
    "throwIf",
    "E02",
    Endpoint(
        "thrown",
        "SELECT count() AS n FROM events PREWHERE throwIf(amount = {x:Int64}) = 0",
        f"SELECT count() AS n FROM events PREWHERE throwIf(amount = {{x:Int64}}) = 0 WHERE {MINE}",
    ),
    f"x={CANARY}",
)
endpoint(
    "numbers of rows",
    "E05",
    Endpoint(
        "first_rows",
        "SELECT rowNumberInAllBlocks() AS n, account FROM ledger",
        f"SELECT rowNumberInAllBlocks() AS n, account FROM ledger WHERE {MINE}",
    ),
)
endpoint(
    "columns that tell how rows lie",
    "D12",
    Endpoint(
        "offsets",
        "SELECT max(_part_offset) AS n, any(_part_granule_offset) AS g FROM ledger",
        f"SELECT max(_part_offset) AS n, any(_part_granule_offset) AS g FROM ledger WHERE {MINE}",
    ),
)
endpoint(
    "the index as a table",
    "D12",
    Endpoint("marks", *["SELECT max(account) AS m, count() AS n FROM mergeTreeIndex('<database>', 'ledger')"] * 2),
)
endpoint(
    "the engine's own tables",
    "D21",
    Endpoint(
        "sizes",
        *["SELECT sum(rows) AS n FROM system.parts WHERE database = '<database>' AND table LIKE '%events'"] * 2,
    ),
)
endpoint(
    "a filter that an absent parameter switches off",
    "B17, B18",
    Endpoint(
        "guarded",
        "SELECT max(amount) AS m FROM events WHERE ({who:String} = '' OR customer_id = {who:String})",
        f"SELECT max(amount) AS m FROM events WHERE {MINE} AND ({{who:String}} = '' OR customer_id = {{who:String}})",
        pipe="%\nSELECT max(amount) AS m FROM events\n"
        "{% if defined(who) %} WHERE customer_id = {{String(who)}} {% end %}",
    ),
    "who=",
    f"who={B}",
    "who=x",
)

"""G03, G04: what a browser or a device writes is the columns of its token, whatever its body says.

`fixed_values` of a JWT (or of an identity provider's claims) stand in every row: scalars, arrays, nested paths, columns
of every type. A value that the column cannot take is refused at once: rows that could never be loaded would wait
before everybody's.
"""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from pipit.ingest import segment
from pipit.tables import Mode
from serving import Workspace
from signing import jwks, pair

pytestmark = pytest.mark.anyio

TABLE = """
SCHEMA >
    `id` Int32 `json:$.id`,
    `customer_id` String `json:$.customer_id`,
    `teams` Array(String) `json:$.teams[:]`,
    `names` Array(LowCardinality(String)) `json:$.items[:].name`,
    `seats` Array(Int32) `json:$.seats[:]`,
    `maybe` LowCardinality(Nullable(String)) `json:$.maybe`,
    `nested` String `json:$.tenant.id`,
    `number` Nullable(Int64) `json:$.number`,
    `flag` Bool `json:$.flag`,
    `price` Decimal(10, 2) `json:$.price`,
    `object` JSON `json:$.object`,
    `labels` Map(String, String) `json:$.labels`,
    `pair` Tuple(a String, b Int32) `json:$.pair`,
    `state` String DEFAULT 'new'

ENGINE MergeTree
ENGINE_SORTING_KEY id

ROW_POLICY >
    customer_id = {{String(context.customer_id)}}
"""
BODY: dict[str, Any] = {
    "id": 1,
    "customer_id": "B",
    "teams": ["B"],
    "items": [{"name": "B"}],
    "seats": [2],
    "maybe": "B",
    "tenant": {"id": "B"},
    "number": 2,
    "flag": False,
    "price": "2.50",
    "object": {"a": "B"},
    "labels": {"k": "B"},
    "pair": {"a": "B", "b": 2},
    "state": "B",
}
A = {"customer_id": "A"}


def claims(**fixed: Any) -> dict[str, Any]:
    return {"type": "DATASOURCES:APPEND", "resource": "rows", "fixed_values": A | fixed}


async def rows(workspace: Workspace, column: str) -> list[Any]:
    found = await workspace.rows(f"/v0/sql?q=SELECT+{column}+AS+v+FROM+rows+ORDER+BY+id+FORMAT+JSON")
    return [row["v"] for row in found]


@pytest.fixture
async def table(workspace: Workspace) -> Workspace:
    await workspace.deploy({"datasources/rows.datasource": TABLE})
    return workspace


async def test_g03_g04_the_token_wins_over_the_body(table: Workspace) -> None:
    fixed: dict[str, Any] = {
        "customer_id": "A",
        "teams": ["A", "it's {source}\\"],
        "names": ["A"],
        "seats": [1, -1],
        "maybe": "A",
        "nested": "A",
        "number": 1,
        "flag": True,
        "price": 1.5,
        "object": '{"a": "A"}',
        "state": "A",
    }
    token = table.jwt(claims(**fixed))
    text = json.dumps(BODY)
    twice = text[:-1] + ', "customer_id": "B", "teams": ["B"], "cust\\u006fmer_id": "C"}'
    bare = '{"id": 3, "labels": {}, "pair": {"a": "x", "b": 1}, "tenant": "B", "items": "B", "teams": "B", "flag": "B"}'
    body = "\n".join((text, twice.replace('"id": 1', '"id": 2', 1), bare)).encode()
    reply = await table.post("/v0/events?name=rows&wait=true", token=token, data=body)
    assert (reply.status, reply.json) == (200, {"successful_rows": 3, "quarantined_rows": 0}), reply.text
    for column, value in fixed.items():
        wanted = {"object": {"a": "A"}}.get(column, value)
        assert await rows(table, column) == [wanted] * 3, column


@pytest.mark.parametrize(
    ("column", "value", "status"),
    [
        ("teams", "A", 400),
        ("seats", 5, 400),
        ("maybe", ["A"], 400),
        ("labels", '{"k": "A"}', 400),
        ("labels", "A", 400),
        ("pair", "('A', 1)", 400),
        ("missing", "A", 400),
        ("labels", {"k": "A"}, 403),
        ("teams", [["A"]], 403),
        ("teams", ["A", 1], 403),
        ("teams", ["A", None], 403),
        ("teams", ["x"] * 1001, 403),
        ("nested", None, 403),
    ],
)
async def test_what_a_column_cannot_be_fixed_to_is_refused_and_stops_nobody(
    table: Workspace, column: str, value: Any, status: int
) -> None:
    token = table.jwt(claims(**{column: value}))
    reply = await table.post("/v0/events?name=rows", token=token, data=json.dumps(BODY).encode())
    assert reply.status == status, reply.text
    assert column in reply.json["error"]
    good = table.jwt(claims())
    reply = await table.post("/v0/events?name=rows&wait=true", token=good, data=json.dumps(BODY).encode())
    assert (reply.status, reply.json["successful_rows"]) == (200, 1)
    assert await rows(table, "customer_id") == ["A"]


@pytest.mark.parametrize(("column", "value"), [("number", "x"), ("id", 5.5), ("seats", ["x"]), ("price", "much")])
async def test_a_value_of_another_type_lands_in_the_quarantine(table: Workspace, column: str, value: Any) -> None:
    token = table.jwt(claims(**{column: value}))
    reply = await table.post("/v0/events?name=rows&wait=true", token=token, data=json.dumps(BODY).encode())
    assert (reply.status, reply.json) == (200, {"successful_rows": 0, "quarantined_rows": 1}), reply.text
    (bad,) = await table.rows("/v0/sql?q=SELECT+c__error_column+FROM+rows_quarantine+FORMAT+JSON")
    assert bad["c__error_column"] == [column]


async def test_g03_a_token_that_fixes_too_little_is_refused(table: Workspace) -> None:
    for fixed in ({}, {"nested": "A"}, {"customer_ID": "A"}):
        token = table.jwt({"type": "DATASOURCES:APPEND", "resource": "rows", "fixed_values": fixed})
        reply = await table.post("/v0/events?name=rows", token=token, data=json.dumps(BODY).encode())
        assert reply.status in (400, 403), reply.text
        assert "customer_id" in reply.json["error"] or "customer_ID" in reply.json["error"]


async def test_g03_a_device_signs_in_with_its_own_provider(table: Workspace) -> None:
    key, iss = pair("EdDSA"), f"https://devices.example.com/{table.id}"
    put = await table.request(
        "PUT",
        "/v0/workspace/keys/devices",
        json={
            "issuer": iss,
            "audience": "ingest",
            "jwks": jwks(key),
            "scopes": [{"type": "DATASOURCES:APPEND", "resource": "rows", "fixed_values": {"nested": "device"}}],
            "fixed_values": {"customer_id": "org", "teams": "teams"},
        },
    )
    assert put.status == 200, put.text
    token = {"iss": iss, "aud": "ingest", "sub": "d-1", "exp": int(time.time()) + 60, "org": "A", "teams": ["A"]}
    reply = await table.post("/v0/events?name=rows&wait=true", token=key.sign(token), data=json.dumps(BODY).encode())
    assert (reply.status, reply.json["successful_rows"]) == (200, 1), reply.text
    for column, value in (("customer_id", "A"), ("teams", ["A"]), ("nested", "device")):
        assert await rows(table, column) == [value]
    del token["org"]
    reply = await table.post("/v0/events?name=rows", token=key.sign(token), data=b"{}")
    assert (reply.status, "org" in reply.json["error"]) == (403, True)
    await table.request("DELETE", "/v0/workspace/keys/devices")


NONCE = "0f" * 16  # of the segment: here the attacker knows it


def hostile(other: str, first: int) -> list[bytes]:
    """Lines that name another tenant, each in its own way. The number of each is in `id`, or nowhere."""
    theirs = f'\x1f{NONCE} "{other}"\x1f'
    frame = f'\x1e{NONCE} 00000000 {{"n":20,"r":1,"c":0,"f":{{"customer_id":"{other}"}}}}'
    whole = json.dumps(BODY | {"customer_id": other})
    texts = [
        whole,
        whole[:-1] + f', "customer_id": "{other}", "cust\\u006fmer_id": "{other}", "_pipit_fixed": ["{other}"]}}',
        f"{theirs}{whole}",
        f"{theirs}{theirs}{whole}",
        f'"{other}"\x1f{whole}',
        f"\x1f{whole}",
        f"{whole}{theirs}{whole}",
        f"{frame}",
        f"{frame}\r{whole}",
        whole.replace('"new"', '"\\u001f"') + f"\r{theirs}{whole}",
        whole[:-1] + f', "x": "\\u001f{other}\\u001f", "y": "\\u001e{NONCE} "}}',
        whole[:-1] + f', "x": "\x00{theirs}"}}',
        f"\x00{theirs}{whole}",
        whole[: len(whole) // 2],
        whole[:-1] + f', "deep": {{"customer_id": "{other}", "deep": [{{"customer_id": "{other}"}}]}}}}',
        json.dumps(BODY | {"customer_id": {"customer_id": other}}),
        json.dumps(BODY | {"customer_id": [other]}),
        f"[{whole}]",
        f"{whole}\x0b{whole}",
        f"{whole}\u2028{theirs}{whole}",
        f"{whole}\x85{whole}",
        "{}",
    ]
    return [
        text.replace('"id": 1', f'"id": {first + n}').replace("\n", "").encode() + b"\n" for n, text in enumerate(texts)
    ]


async def test_g03_tenants_in_one_segment_keep_their_own_values(
    table: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K90: whatever stands in a body, also if it were the mark that no client knows."""
    monkeypatch.setattr(segment, "secrets", SimpleNamespace(token_hex=lambda size: NONCE))
    key = table.server.catalog.snapshot(table.id).tables["rows"].key
    tenants = {"A": 1_000, "B": 2_000, "C": 3_000}
    async with table.server.locks.acquire([key], Mode.ALTER):
        for tenant, first in tenants.items():
            token = table.jwt(claims(customer_id=tenant))
            other = "B" if tenant == "A" else "A"
            body = b"".join(hostile(other, first))
            reply = await table.post("/v0/events?name=rows", token=token, data=body)
            assert (reply.status, reply.json["successful_rows"]) == (202, body.count(b"\n")), reply.text
        assert table.server.ingest.pending(*key).segments <= 2
    assert await table.server.ingest.drain(*key)
    found = await table.rows("/v0/sql?q=SELECT+id,customer_id+FROM+rows+FORMAT+JSON")
    refused = await table.rows("/v0/sql?q=SELECT+id,customer_id+FROM+rows_quarantine+FORMAT+JSON")
    assert len(found) + len(refused) == len(tenants) * len(hostile("A", 0))
    owners = {(number // 1_000, tenant) for tenant, number in tenants.items()}
    assert {(row["id"] // 1_000, row["customer_id"]) for row in found} == owners
    assert {
        (int(row["id"]) // 1_000, row["customer_id"]) for row in refused if row["id"] and row["customer_id"]
    } <= owners

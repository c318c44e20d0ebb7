"""Rows in quarantine: seen by reason, and replayed once what was wrong is mended."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from pipit.ingest import parse, replay
from serving import Workspace

pytestmark = pytest.mark.anyio


def schema(type: str, more: str = "") -> str:
    return (
        f"SCHEMA >\n    tenant String `json:$.tenant`,\n    n {type} `json:$.n`{more}\n\nENGINE MergeTree\n"
        "ENGINE_SORTING_KEY tuple()\n"
        + ("FORWARD_QUERY >\n    SELECT tenant, toString(n) AS n\n" if type == "String" else "")
    )


async def rows(workspace: Workspace, sql: str) -> list[dict[str, Any]]:
    return await workspace.rows(f"/v0/sql?q={quote(sql + ' FORMAT JSON')}")


async def replayed(workspace: Workspace, name: str = "t") -> dict[str, Any]:
    reply = await workspace.post(f"/v0/datasources/{name}/quarantine/replay")
    assert reply.status == 200, reply.text
    await workspace.server.jobs.ended(reply.json["job_id"])
    job: dict[str, Any] = (await workspace.get(f"/v0/jobs/{reply.json['job_id']}")).json
    return job


def appender(workspace: Workspace, tenant: str, name: str = "t") -> str:
    scope = {"type": "DATASOURCES:APPEND", "resource": name, "fixed_values": {"tenant": tenant}}
    return workspace.jwt(scope, name=tenant)


async def send(workspace: Workspace, token: str, *lines: object, name: str = "t") -> dict[str, Any]:
    body = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines).encode()
    reply = await workspace.post(f"/v0/events?name={name}&wait=true", data=body, token=token)
    assert reply.status == 200, reply.text
    found: dict[str, Any] = reply.json
    return found


async def test_reasons_are_grouped_with_samples(workspace: Workspace) -> None:
    await workspace.deploy({"datasources/t.datasource": schema("Int8"), "datasources/u.datasource": schema("Int8")})
    await send(workspace, workspace.admin_token, *({"tenant": "a", "n": f"x{i}' on column 'y"} for i in range(5)))
    await send(workspace, workspace.admin_token, {"tenant": "a"}, "nonsense", {"tenant": "a", "n": 1})
    (listed,) = (await workspace.get("/v0/quarantine")).json["quarantine"]
    assert (listed["datasource"]["name"], listed["rows"]) == ("t", 7)
    found = (await workspace.get("/v0/datasources/t/quarantine?samples=2")).json
    assert (found["rows"], [g["rows"] for g in found["reasons"]]) == (7, [5, 1, 1])
    first = found["reasons"][0]
    assert (first["columns"], first["reasons"]) == (["n"], ["value ... on column 'n' is not Int8"])
    assert len(first["samples"]) == 2 and first["samples"][0]["tenant"] == "a"
    assert (await workspace.get("/v0/datasources/u/quarantine")).json["reasons"] == []
    assert (await workspace.get("/v0/datasources/t/quarantine?samples=many")).status == 400
    assert (await workspace.get("/v0/datasources/none/quarantine")).status == 404


async def test_no_jwt_sees_or_replays_a_quarantine(workspace: Workspace) -> None:
    await workspace.deploy({"datasources/t.datasource": schema("Int8")})
    await send(workspace, workspace.admin_token, {"tenant": "b", "n": "secret"})
    types = ("DATASOURCES:READ", "DATASOURCES:APPEND", "DATASOURCES:DROP", "DATASOURCES:CREATE", "ADMIN")
    for type in types:
        try:
            token = workspace.jwt({"type": type, "resource": "t"}, context={"tenant": "a"})
        except Exception:  # not a scope of a JWT
            continue
        for method, path in (
            ("GET", "/v0/quarantine"),
            ("GET", "/v0/datasources/t/quarantine"),
            ("POST", "/v0/datasources/t/quarantine/replay"),
        ):
            reply = await workspace.request(method, path, token=token)
            assert reply.status == 403, (type, path, reply.text)
            assert "secret" not in reply.text
    assert len(await rows(workspace, "SELECT * FROM t_quarantine")) == 1


async def test_rows_that_their_token_may_not_put_there_stay(workspace: Workspace) -> None:
    """K89: the row names its tenant itself, since the token fixed another column."""
    await workspace.deploy({"datasources/t.datasource": schema("String").partition("FORWARD")[0]})
    table = workspace.server.catalog.snapshot(workspace.id).tables["t"]
    kept, reason = parse.fixed_elsewhere(table.datasource.columns, {"n": "1"}, ["tenant"])
    assert kept and reason
    where = f"`{table.database}`.`{table.quarantine}`"
    row = {"tenant": "b", "n": "1", "c__error_column": [""], "insertion_date": 1}
    await workspace.server.engine.insert(where, [{**row, "c__error": [reason]}, {**row, "c__error": ["mended"]}])
    job = await replayed(workspace)
    assert (job["replayed_rows"], job["quarantine_rows"]) == (1, 1), job
    (stays,) = await rows(workspace, "SELECT c__error FROM t_quarantine")
    assert stays["c__error"] == [reason]


async def test_what_is_mended_goes_into_the_table_once_with_its_fixed_values(workspace: Workspace) -> None:
    """K89."""
    await workspace.deploy({"datasources/t.datasource": schema("Int8")})
    a, b = appender(workspace, "a"), appender(workspace, "b")
    # In the line of the last ones stands another tenant; of two of them the line is kept.
    await send(workspace, a, {"n": 300}, {"n": 1}, {"tenant": "b", "n": 400}, {"tenant": "b", "n": "true"})
    await send(workspace, b, {"n": 500}, {"tenant": "a", "n": 1.0}, "nonsense")
    await send(workspace, b, '{"tenant": "a", "n": 1.00000000000000000001}')
    before = await rows(workspace, "SELECT * FROM t_quarantine")
    assert any(row["c__record"] and row["tenant"] for row in before), "a line was kept beside its fixed value"
    await workspace.deploy({"datasources/t.datasource": schema("String")})
    job = await replayed(workspace)
    assert (job["status"], job["kind"]) == ("done", "replay_quarantine"), job
    found = [(row["tenant"], row["n"]) for row in await rows(workspace, "SELECT tenant, n FROM t ORDER BY tenant, n")]
    assert found == [("a", "1"), ("a", "300"), ("a", "400"), ("a", "true"), ("b", "1"), ("b", "1"), ("b", "500")]
    stay = await rows(workspace, "SELECT * FROM t_quarantine")
    assert len(stay) == job["quarantine_rows"] == len(before) - job["replayed_rows"]
    assert [row["c__record"] for row in stay] == ["nonsense"]
    number = (await rows(workspace, "SELECT count() AS n FROM t"))[0]["n"]
    again = await replayed(workspace)
    assert (again["replayed_rows"], again["quarantine_rows"]) == (0, 1)
    assert (await rows(workspace, "SELECT count() AS n FROM t"))[0]["n"] == number


async def test_a_replay_that_is_cut_off_anywhere_is_ended_by_the_next(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    await workspace.deploy({"datasources/t.datasource": schema("Int8")})
    await send(workspace, workspace.admin_token, *({"tenant": "a", "n": 1000 + i} for i in range(9)))
    await workspace.deploy({"datasources/t.datasource": schema("String")})
    monkeypatch.setattr(replay, "BATCH_ROWS", 4)

    class Cut(Exception):
        pass

    whole = replay.store_batch
    deleted: list[bool] = []

    def cut_before(*_: object) -> Any:
        raise Cut

    async def cut_behind(*given: Any) -> Any:
        deleted.append(True)
        await whole(*given)
        raise Cut

    for cut in (cut_before, cut_behind, cut_behind):
        monkeypatch.setattr("pipit.jobs.replays.store_batch", cut)
        assert (await replayed(workspace))["status"] == "error"
    assert deleted == [True, True]
    assert len(await rows(workspace, "SELECT * FROM t_quarantine")) == 9, "stored, and not out of the quarantine yet"
    monkeypatch.setattr("pipit.jobs.replays.store_batch", whole)
    job = await replayed(workspace)
    assert (job["status"], job["replayed_rows"], job["quarantine_rows"]) == ("done", 9, 0), job
    found = [row["n"] for row in await rows(workspace, "SELECT n FROM t ORDER BY n")]
    assert found == [str(1000 + i) for i in range(9)]


async def test_every_kind_of_column_comes_back_as_it_was_sent(workspace: Workspace) -> None:
    more = (
        ",\n    bad {0} `json:$.deep.bad`,\n    u UInt64 `json:$.u`,\n    yes Bool `json:$.yes`,\n    at DateTime `json:$.at`,"
        "\n    list Array(String) `json:$.list[:]`,\n    skus Array(String) `json:$.items[:].sku`,"
        "\n    m Map(String, Int32) `json:$.m`,\n    d Decimal(38, 18) `json:$.d`,\n    o Nullable(String) `json:$.o`,"
        "\n    e String DEFAULT 'none' `json:$.e`"
    )
    line = (
        '{"tenant": "a\\"\\\\\\n\\u00e9", "n": 7, "deep": {"bad": %s}, "u": 18446744073709551615, "yes": true,'
        ' "at": 1700000000, "list": ["x", "y\\"z"], "items": [{"sku": "s1"}, {"sku": "s2"}], "m": {"k": 5},'
        ' "d": "0.123456789012345678"}'
    )
    forward = "FORWARD_QUERY >\n    SELECT tenant, n, toString(bad) AS bad, u, yes, at, list, skus, m, d, o, e\n"
    text = schema("Int8", more)
    await workspace.deploy({"datasources/t.datasource": text.format("Int8")})
    assert await send(workspace, workspace.admin_token, line % '"x"', line % "5") == {"successful_rows": 1, "quarantined_rows": 1}
    await workspace.deploy({"datasources/t.datasource": text.format("String") + forward})
    job = await replayed(workspace)
    assert (job["replayed_rows"], job["quarantine_rows"]) == (1, 0), job
    one, two = await rows(workspace, "SELECT * EXCEPT bad FROM t")
    assert one == two


async def test_what_a_view_refuses_is_in_no_table_twice(workspace: Workspace) -> None:
    view = "NODE v\nSQL >\n    SELECT tenant, toInt32(throwIf(n IN (3, 300)) + n) AS m FROM t\nTYPE materialized\nDATASOURCE seen\n"
    seen = "SCHEMA >\n    tenant String,\n    m Int32\n\nENGINE MergeTree\nENGINE_SORTING_KEY tenant\n"
    files = {"datasources/seen.datasource": seen, "pipes/v.pipe": view}
    await workspace.deploy({"datasources/t.datasource": schema("Int8"), **files})
    await send(workspace, workspace.admin_token, *({"tenant": "a", "n": n} for n in (3, 4, 300, 400)))
    assert len(await rows(workspace, "SELECT * FROM t_quarantine")) == 3
    number = (await rows(workspace, "SELECT count() AS n FROM t"))[0]["n"]  # it may have the one that the view refused
    await workspace.deploy({"datasources/t.datasource": schema("Int32"), **files})
    for replayed_rows in (1, 0):
        job = await replayed(workspace)
        assert (job["replayed_rows"], job["quarantine_rows"]) == (replayed_rows, 2), job
        assert (await rows(workspace, "SELECT count() AS n FROM t"))[0]["n"] == number + 1
        assert [row["m"] for row in await rows(workspace, "SELECT m FROM seen ORDER BY m")] == [4, 400]
    groups = (await workspace.get("/v0/datasources/t/quarantine")).json["reasons"]
    assert any("the materialized view" in group["reasons"][0] and group["samples"][0]["n"] == "3" for group in groups)


async def test_columns_that_no_line_has_come_from_the_quarantine(workspace: Workspace) -> None:
    """As a topic's records have them: they stand in no JSON."""
    await workspace.deploy({"datasources/t.datasource": schema("Int8", ",\n    h Map(String, String),\n    at DateTime")})
    table = workspace.server.catalog.snapshot(workspace.id).tables["t"]
    where = f"`{table.database}`.`{table.quarantine}`"
    row = {"h": '{"k":"v"}', "at": "2026-01-02 03:04:05", "c__error_column": ["n"], "c__error": ["mended"], "insertion_date": 1}
    kept = {"tenant": "a", "c__record": '{"tenant": "b", "n": 5}'}
    await workspace.server.engine.insert(where, [{**row, **kept}, {**row, "tenant": "c", "n": "6"}])
    job = await replayed(workspace)
    assert (job["replayed_rows"], job["quarantine_rows"]) == (2, 0), job
    found = await rows(workspace, "SELECT tenant, n, h, toString(at) AS at FROM t ORDER BY n")
    same = {"h": {"k": "v"}, "at": "2026-01-02 03:04:05"}
    assert found == [{"tenant": "a", "n": 5, **same}, {"tenant": "c", "n": 6, **same}]


async def test_a_replay_that_was_cut_off_before_the_columns_changed_is_not_ended(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other rows would be good ones now, and leave the quarantine without being stored."""
    await workspace.deploy({"datasources/t.datasource": schema("Int8")})
    await send(workspace, workspace.admin_token, {"tenant": "a", "n": 300})
    whole = replay.store_batch

    async def cut(*given: Any) -> Any:
        await whole(*given)
        raise RuntimeError("cut off")

    monkeypatch.setattr("pipit.jobs.replays.store_batch", cut)
    assert (await replayed(workspace))["status"] == "error"
    monkeypatch.setattr("pipit.jobs.replays.store_batch", whole)
    await workspace.deploy({"datasources/t.datasource": schema("Int8", ",\n    more Nullable(String) `json:$.more`")})
    job = await replayed(workspace)
    assert job["status"] == "error" and "was changed while a replay" in job["error"], job
    assert (await replayed(workspace))["status"] == "done"
    assert len(await rows(workspace, "SELECT * FROM t_quarantine")) == 1

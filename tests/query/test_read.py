"""The reader: a plan is admitted, run, counted, logged, and its bytes are those of the engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from pipit.access.context import SecurityContext, TokenKind
from pipit.access.params import RequestParams
from pipit.errors import Forbidden, NotFound, SqlError, TooLarge
from pipit.jobs.targets import Into, match_of
from pipit.query.formats import JSON, NDJSON
from pipit.query.queries import PipeQuery, Query, Read, SqlQuery, copy_query
from pipit.query.read import _bounded
from projects import DAILY, ROWS, TENANTS
from serving import Workspace

pytestmark = pytest.mark.anyio

LATEST = PipeQuery("latest", RequestParams(), NDJSON)


def read(workspace: Workspace, query: Query, security: SecurityContext | None = None) -> Read:
    admin = SecurityContext(workspace.id, TokenKind.ADMIN, "admin")
    return Read(workspace.server.catalog.snapshot(workspace.id), security or admin, query)


async def body(workspace: Workspace, query: Query) -> bytes:
    async with workspace.server.reader.open(read(workspace, query)) as answer:
        assert answer.format is not None
        return b"".join([chunk async for chunk in answer.chunks])


@pytest.fixture
async def filled(workspace: Workspace) -> Workspace:
    await workspace.deploy(TENANTS | {"datasources/copied.datasource": DAILY.replace("events Agg", "n Agg")})
    await workspace.send("events", ROWS)
    return workspace


async def test_the_bytes_are_the_engines(filled: Workspace) -> None:
    assert (await body(filled, LATEST)).count(b"\n") == len(ROWS)
    assert b'"data"' in await body(filled, PipeQuery("latest", RequestParams(), JSON))


async def test_what_fails_before_the_first_byte_raises_on_entering(filled: Workspace) -> None:
    for query, error in (
        (PipeQuery("nope", RequestParams(), JSON), NotFound),
        (SqlQuery("SELECT nope", RequestParams(), JSON), SqlError),
    ):
        with pytest.raises(error):
            async with filled.server.reader.open(read(filled, query)):
                raise AssertionError("it ran")


async def test_a_plan_runs_as_often_as_it_is_wanted(filled: Workspace) -> None:
    assert await body(filled, LATEST) == await body(filled, LATEST)


async def test_a_token_without_a_scope_starts_nothing(filled: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: Any, **__: Any) -> Any:
        raise AssertionError("the engine was asked")

    monkeypatch.setattr(filled.server.engine, "stream", asked)
    nobody = SecurityContext(filled.id, TokenKind.JWT, "t", context={"customer_id": "a"})
    with pytest.raises(Forbidden):
        async with filled.server.reader.open(read(filled, LATEST, nobody)):
            pass


async def test_rows_go_into_a_table_and_are_counted(workspace: Workspace) -> None:
    copied = "SCHEMA >\n    `customer_id` String,\n    `amount` Int64\n"
    await workspace.deploy(TENANTS | {"datasources/copied.datasource": copied})
    await workspace.send("events", ROWS)
    server, snapshot = workspace.server, workspace.server.catalog.snapshot(workspace.id)
    query = copy_query("latest", snapshot.pipes["latest"].result.name, {}, job_timestamp="2026-01-01 00:00:00")
    plan = await server.reader.prepare(read(workspace, query))
    target = snapshot.tables["copied"]
    match = await match_of(server.engine, plan, target)
    written = await server.reader.write(plan, Into(target, target.physical, match))
    assert written.rows == len(ROWS) and written.bytes > 0
    sql = SqlQuery("SELECT count() AS n FROM copied", RequestParams(), NDJSON)
    assert await body(workspace, sql) == b'{"n":%d}\n' % len(ROWS)


async def test_an_answer_is_counted_as_it_is_handed_on() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"12345"
        yield b"67890"

    assert [chunk async for chunk in _bounded(NDJSON, chunks(), 10)] == [b"12345", b"67890"]
    handed: list[bytes] = []
    with pytest.raises(TooLarge):
        async for chunk in _bounded(NDJSON, chunks(), 9):
            handed.append(chunk)
    assert handed == [b"12345"]

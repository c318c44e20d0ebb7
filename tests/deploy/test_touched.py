"""A deploy tries what changed and what reads it; all else stands as it was tried when it went live."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from deploy.changes import DAILY, EVENTS, TO_DAILY
from pipit.catalog.build import build_snapshot
from pipit.catalog.names import first_names
from pipit.catalog.snapshot import Snapshot, Workspace
from pipit.datafiles import parse_project
from pipit.deploy import DeployRefused, validate
from pipit.deploy.append_needs import needs_of
from pipit.deploy.compare import Comparison
from pipit.deploy.plan import Difference
from pipit.deploy.touched import touched
from pipit.engine.http import HttpEngine
from serving import Workspace as Served

pytestmark = pytest.mark.anyio


def endpoint(sql: str) -> str:
    lines = "\n    ".join(sql.splitlines())
    return f"NODE e\nSQL >\n    {lines}\n\nTYPE endpoint\n"


FILES = {
    "datasources/events.datasource": EVENTS,
    "datasources/daily.datasource": DAILY,
    "datasources/other__v3.datasource": DAILY,
    "materializations/to_daily.pipe": TO_DAILY,
    "endpoints/one.pipe": endpoint("SELECT amount FROM events"),
    "endpoints/two.pipe": endpoint("SELECT amount FROM one"),
    "endpoints/three.pipe": endpoint("SELECT total FROM daily"),
    "endpoints/bad.pipe": endpoint("SELECT * FROM events_quarantine"),
    "endpoints/dynamic.pipe": endpoint("%\nSELECT 1 FROM {{TABLE('dai' + 'ly')}}"),
    "endpoints/either.pipe": endpoint("%\nSELECT 1 FROM {% if defined(x) %} three {% else %} daily {% end %}"),
    "endpoints/versioned.pipe": endpoint("SELECT total FROM other"),
    "endpoints/nothing.pipe": endpoint("SELECT 1 AS x"),
}


def snapshot(files: Mapping[str, str]) -> Snapshot:
    project = parse_project(files)
    return build_snapshot(Workspace("w", "w", "w", ""), project, first_names(project.datasources))


@pytest.mark.parametrize(
    ("datasources", "pipes", "tried"),
    [
        ((), ("nothing",), {"nothing"}),
        ((), ("one",), {"one", "two"}),
        ((), ("three",), {"three", "either"}),
        (("events",), (), {"to_daily", "one", "two", "bad", "dynamic", "three", "either"}),
        (("daily",), (), {"to_daily", "three", "either", "dynamic"}),
        (("other__v3",), (), {"versioned", "dynamic"}),
    ],
)
def test_what_is_touched(datasources: tuple[str, ...], pipes: tuple[str, ...], tried: set[str]) -> None:
    changed = Comparison(Difference(changed=datasources), Difference(changed=pipes), Difference())
    found = touched(snapshot(FILES), changed)
    assert found.pipes == tried
    assert found.tables >= set(datasources) == found.changed


async def test_one_pipe_changed_is_tried_alone(workspace: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    try_node = validate._try_node

    async def recorded(snapshot: Any, pipe: Any, *args: Any, **options: Any) -> None:
        names.append(pipe.name)
        await try_node(snapshot, pipe, *args, **options)

    await workspace.deploy(FILES)
    monkeypatch.setattr(validate, "_try_node", recorded)
    changed = FILES | {"endpoints/one.pipe": endpoint("SELECT amount, kind FROM events")}
    await workspace.deploy(changed)
    assert set(names) == {"one", "two"}
    with pytest.raises(DeployRefused) as refused:
        await workspace.deploy(changed | {"endpoints/one.pipe": endpoint("SELECT kind FROM events")})
    assert [one.subject for one in refused.value.refusals] == ["two"]
    names.clear()
    await workspace.deploy(changed | {"endpoints/more.pipe": endpoint("SELECT 2 AS x")})
    assert set(names) == {"more"}


LANDING = """\
SCHEMA >
    tenant String `json:$.tenant`,
    other String `json:$.other`

ENGINE MergeTree
ENGINE_SORTING_KEY tenant
"""
ROLLUP = """\
SCHEMA >
    tenant String,
    n UInt64

ENGINE SummingMergeTree
ENGINE_SORTING_KEY tenant

ROW_POLICY tenant = {{String(context.tenant)}}
"""


def rollup(select: str) -> str:
    return f"NODE n\nSQL >\n    SELECT {select}, count() AS n FROM landing GROUP BY tenant\n\nTYPE materialized\nDATASOURCE rollup\n"


FILLED = {
    "datasources/landing.datasource": LANDING,
    "datasources/rollup.datasource": ROLLUP,
    "materializations/to_rollup.pipe": rollup("tenant"),
    "endpoints/one.pipe": endpoint("SELECT count() AS n FROM landing"),
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The statements that the engine got by `query`."""
    seen: list[str] = []
    query = HttpEngine.query

    async def recorded(self: HttpEngine, sql: str, *args: Any, **options: Any) -> bytes:
        seen.append(sql)
        return await query(self, sql, *args, **options)

    monkeypatch.setattr(HttpEngine, "query", recorded)
    yield seen


async def test_what_did_not_change_is_not_asked_again(workspace: Served, asked: list[str]) -> None:
    await workspace.deploy(FILLED)
    await workspace.deploy(FILLED)
    asked.clear()
    assert (await workspace.deploy(FILLED)).result == "no_changes"
    assert asked == []
    await workspace.deploy(FILLED | {"endpoints/one.pipe": endpoint("SELECT count() + 1 AS n FROM landing")})
    assert [sql for sql in asked if "EXPLAIN" in sql and "count() + 1" in sql]
    assert not [sql for sql in asked if "GROUP BY tenant" in sql or "rollup" in sql or "generateRandom" in sql]


async def test_what_appends_need_follows_each_change(workspace: Served) -> None:
    versions: list[Mapping[str, str]] = [
        FILLED,
        FILLED | {"endpoints/one.pipe": endpoint("SELECT 1 AS n")},
        FILLED | {"materializations/to_rollup.pipe": rollup("other AS tenant")},
        FILLED,
        FILLED | {"datasources/landing.datasource": LANDING.replace("other String", "other LowCardinality(String)")},
        FILLED | {"datasources/rollup.datasource": ROLLUP.partition("ROW_POLICY")[0]},
    ]
    found: list[set[str]] = []
    for files in versions:
        await workspace.deploy(files, allow_destructive=True, allow_weaker=True)
        live = workspace.server.catalog.snapshot(workspace.id)
        needs = await workspace.server.deployer.appends.needs(live)
        assert needs == await needs_of(workspace.server.engine, live)
        found.append({column for need in needs.get("landing", ()) for column in need.columns})
    assert found == [{"tenant"}, {"tenant"}, {"other"}, {"tenant"}, {"tenant"}, set()]

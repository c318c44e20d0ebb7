"""Environments follow their workspace: each deploy whole or not at all, one that misses a deploy catches up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.test_halfway import Cut
from pipit.access.tokens import make_token
from pipit.catalog.catalog import Catalog
from pipit.catalog.state import DeploymentRow
from pipit.datafiles import parse_project
from pipit.deploy import Deployer, EnvironmentOutcome
from pipit.errors import BadRequest, Conflict, NotFound, ProjectError, SqlError, Unavailable
from pipit.server import Config, open_server
from projects import DAILY_POLICY, DAILY_VIEW, EVENTS, LATEST, TENANTS, event
from serving import Workspace
from waiting import until

pytestmark = pytest.mark.anyio

FIRST = {"datasources/events.datasource": EVENTS, "endpoints/latest.pipe": LATEST}
NOTE = EVENTS.replace("    `amount`", "    `note` Nullable(String) `json:$.note`,\n    `amount`")
SECOND = {
    "datasources/events.datasource": NOTE,
    "datasources/daily.datasource": DAILY_POLICY,
    "materializations/daily_view.pipe": DAILY_VIEW,
    "endpoints/latest.pipe": LATEST,
}
OBJECTS = ["d1_daily", "d1_events", "m1_daily_view__roll", "q1_daily", "q1_events"]


def results(outcomes: tuple[EnvironmentOutcome, ...]) -> dict[str, tuple[str, int]]:
    return {o.name: (o.result, o.deployment) for o in outcomes}


async def objects(workspace: Workspace, environment: str) -> list[str]:
    place = workspace.server.catalog.snapshot(workspace.id, environment).workspace
    rows = await workspace.server.engine.rows(
        "SELECT name FROM system.tables WHERE database = {d:String} ORDER BY name", {"d": place.database}
    )
    return [r["name"] for r in rows if r["name"][0] in "dqm"]


async def admin_of(workspace: Workspace, environment: str) -> str:
    row = await workspace.server.catalog.credentials.create(
        workspace.id, f"admin {environment}", ["ADMIN"], environment=environment
    )
    return row.token


@asynccontextmanager
async def cut(
    workspace: Workspace, at: Any, *, error: Exception, carried_out: bool = False, patience: float = 0.2
) -> AsyncIterator[Any]:
    """Another server's catalog and deployer, over an engine that fails once where `at` says."""
    engine: Any = Cut(workspace.server.engine, at, carried_out=carried_out, error=error)
    engine.armed = False
    catalog = Catalog(engine, workspace.server.config.admin_token)
    await catalog.load()
    deployer = Deployer(engine, catalog, workspace.server.ingest, workspace.server.locks, patience=patience)
    engine.armed = True
    yield engine, catalog, deployer


async def restarted(workspace: Workspace) -> tuple[Catalog, Deployer]:
    """As a server that starts: what is left behind is dropped, what lags behind is brought up to date."""
    catalog = Catalog(workspace.server.engine, workspace.server.config.admin_token)
    await catalog.load()
    deployer = Deployer(workspace.server.engine, catalog, workspace.server.ingest, workspace.server.locks)
    await deployer.clean_up()
    return catalog, deployer


async def test_a_new_environment_has_what_is_live(workspace: Workspace) -> None:
    deployer = workspace.server.deployer
    early = await deployer.add_environment(workspace.id, "early")
    assert early == EnvironmentOutcome("early", "no_changes", 0)  # nothing is live yet
    outcome = await workspace.deploy(SECOND)
    assert results(outcome.environments) == {"early": ("success", 1)}
    assert await deployer.add_environment(workspace.id, "late") == EnvironmentOutcome("late", "success", 1)
    for name in ("early", "late"):
        assert await objects(workspace, name) == OBJECTS
        token = await admin_of(workspace, name)
        reply = await workspace.request(
            "POST", "/v0/events?name=events&wait=true", token=token, json=event("a", 1, note=name)
        )
        assert reply.status == 200, reply.text
        counted = "/v0/sql?q=SELECT%20countMerge(events)%20AS%20n%20FROM%20daily%20FORMAT%20JSON"
        assert await workspace.rows(counted, token=token) == [{"n": 1}]
    # What is compiled is there once.
    catalog = workspace.server.catalog
    own, late = catalog.snapshot(workspace.id), catalog.snapshot(workspace.id, "late")
    assert late.pipes is own.pipes and late.project is own.project
    assert late.tables["events"].policy is own.tables["events"].policy


async def test_names(workspace: Workspace) -> None:
    deployer = workspace.server.deployer
    for bad in ("", "a b", "1st", "a-b", "a.b", "`", "a" * 41, "FROM"):
        with pytest.raises(BadRequest):
            await deployer.add_environment(workspace.id, bad)
    await deployer.add_environment(workspace.id, "a" * 40)
    with pytest.raises(Conflict):
        await deployer.add_environment(workspace.id, "a" * 40)
    await deployer.remove_environment(workspace.id, "a" * 40)
    with pytest.raises(NotFound):
        await deployer.remove_environment(workspace.id, "a" * 40)
    assert workspace.server.catalog.environments(workspace.id) == ()


async def test_ten_environments_and_a_restart(workspace: Workspace) -> None:
    names = [f"e{n}" for n in range(10)]
    await workspace.deploy(FIRST)
    await asyncio.gather(*(add_patiently(workspace, name) for name in names))
    outcome = await workspace.deploy(SECOND)
    assert results(outcome.environments) == dict.fromkeys(names, ("success", 2))
    again = await workspace.deploy(SECOND)
    assert again.result == "no_changes"
    assert results(again.environments) == dict.fromkeys(names, ("no_changes", 2))
    loaded = Catalog(workspace.server.engine, workspace.server.config.admin_token)
    await loaded.load()
    for name in names:
        assert loaded.snapshot(workspace.id, name) == workspace.server.catalog.snapshot(workspace.id, name)
        assert loaded.snapshot(workspace.id, name).pipes is loaded.snapshot(workspace.id).pipes
        assert await objects(workspace, name) == OBJECTS


async def add_patiently(workspace: Workspace, name: str) -> None:
    """One change of a workspace at a time: the others are told to try again."""

    async def added() -> bool:
        try:
            return (await workspace.server.deployer.add_environment(workspace.id, name)).result == "success"
        except Conflict:
            return False

    await until(added)


STEPS = ["CREATE TABLE", "ALTER TABLE", "CREATE MATERIALIZED VIEW", "INSERT INTO `pipit`.`deployments`"]


@pytest.mark.parametrize("step", STEPS)
async def test_one_fails_and_catches_up(workspace: Workspace, step: str) -> None:
    await workspace.deploy(FIRST)
    for name in ("good", "bad"):
        await workspace.server.deployer.add_environment(workspace.id, name)
    database = workspace.server.catalog.snapshot(workspace.id, "bad").workspace.database
    commits = 0

    def at(sql: str) -> bool:
        nonlocal commits
        if step.startswith("INSERT"):  # its row does not say whose it is: the workspace's comes first
            commits += sql.startswith(step)
            return commits == 2
        return sql.startswith(step) and f"`{database}`" in sql

    async with cut(workspace, at, error=SqlError("no room"), patience=20) as (engine, catalog, deployer):
        engine.back.set()
        outcome = await deployer.deploy(workspace.id, SECOND)
        found = results(outcome.environments)
        failed = next(name for name, (result, _) in found.items() if result == "failed")
        assert outcome.result == "success"
        assert found[failed] == ("failed", 1) and set(found.values()) == {("failed", 1), ("success", 2)}
        assert [o.error for o in outcome.environments if o.name == failed] == ["no room"]
        assert catalog.snapshot(workspace.id, failed).deployment == 1
        assert await objects(workspace, failed) == ["d1_events", "q1_events"]
        # A deploy that changes nothing brings it up to date.
        again = await deployer.deploy(workspace.id, SECOND)
        assert again.result == "no_changes"
        assert results(again.environments)[failed] == ("success", 2)
        assert await objects(workspace, failed) == OBJECTS
        assert catalog.snapshot(workspace.id, failed).pipes is catalog.snapshot(workspace.id).pipes


async def test_data_that_does_not_fit_keeps_one_behind(workspace: Workspace) -> None:
    """Only one environment's table has a value that the new column cannot hold."""
    await workspace.deploy(SECOND)
    narrow = SECOND["datasources/events.datasource"].replace("`amount` Int64", "`amount` Int8")
    narrowed = SECOND | {"datasources/events.datasource": narrow}
    for name in ("empty", "filled"):
        await workspace.server.deployer.add_environment(workspace.id, name)
    token = await admin_of(workspace, "filled")
    await workspace.post("/v0/events?name=events&wait=true", token=token, json=event("a", 700))
    planned = await workspace.deploy(narrowed, check=True)
    assert results(planned.environments) == {"empty": ("success", 1), "filled": ("failed", 1)}
    outcome = await workspace.deploy(narrowed)
    assert results(outcome.environments) == {"empty": ("success", 2), "filled": ("failed", 1)}
    assert [one.error for one in planned.environments] == [one.error for one in outcome.environments]
    (error,) = [o.error for o in outcome.environments if o.error]
    assert "datasources/events.datasource:" in error and "'amount' that does not fit into Int8" in error
    # It is whole, and served, as it was.
    assert [r["amount"] for r in await workspace.rows("/v0/pipes/latest.json", token=token)] == [700]
    outcome = await workspace.deploy(SECOND)
    assert results(outcome.environments) == {"empty": ("success", 3), "filled": ("success", 3)}


async def test_a_crash_between_the_workspace_and_its_environments(workspace: Workspace) -> None:
    await workspace.deploy(FIRST)
    for name in ("one", "two"):
        await workspace.server.deployer.add_environment(workspace.id, name)
    token = await admin_of(workspace, "one")
    await workspace.post("/v0/events?name=events&wait=true", token=token, json=event("a", 7))
    database = workspace.server.catalog.snapshot(workspace.id, "one").workspace.database
    async with cut(
        workspace, lambda sql: sql.startswith("CREATE MATERIALIZED") and f"`{database}`" in sql, error=Unavailable("x")
    ) as (_, _, deployer):
        outcome = await deployer.deploy(workspace.id, SECOND)  # the process ends here: the engine never comes back
        assert results(outcome.environments)["one"] == ("failed", 1)
        for ending in list(deployer.unsettled.values()):
            ending.cancel()
            await asyncio.wait({ending})
    assert "d1_daily" in await objects(workspace, "one")  # half of the deploy
    catalog, deployer = await restarted(workspace)
    assert await objects(workspace, "one") == ["d1_events", "q1_events"]
    assert catalog.snapshot(workspace.id).deployment == 2
    assert catalog.snapshot(workspace.id, "one").deployment == 1
    await deployer.catch_up()
    for name in ("one", "two"):
        assert catalog.snapshot(workspace.id, name).deployment == 2
        assert await objects(workspace, name) == OBJECTS
    # Its row is in the view's target: once, from the fill.
    rows = await workspace.server.engine.rows(f"SELECT countMerge(events) AS n FROM `{database}`.d1_daily")
    assert rows == [{"n": 1}]


async def test_a_server_that_starts_brings_them_up_to_date(tmp_path: Path) -> None:
    """The process before it ended right after the workspace's own row was written."""
    config = Config(tmp_path / "data", make_token(owner="tests"))
    async with open_server(config) as server:
        id = server.catalog.default.workspace.id
        await server.deployer.deploy(id, FIRST)
        await server.deployer.add_environment(id, "one")
        own = server.catalog.snapshot(id)
        project = parse_project(FIRST | {"endpoints/more.pipe": LATEST})
        await server.catalog.commit(id, DeploymentRow(2, own.created_at, project.files, own.names), project)
        assert server.catalog.snapshot(id, "one").deployment == 1
    async with open_server(config) as server:
        assert server.catalog.snapshot(id, "one").deployment == 2
        assert set(server.catalog.snapshot(id, "one").pipes) == {"latest", "more"}


async def test_a_lost_answer_is_settled(workspace: Workspace) -> None:
    """The engine wrote the environment's row, and went away before it said so."""
    await workspace.deploy(FIRST)
    await workspace.server.deployer.add_environment(workspace.id, "one")
    commits = 0

    def at(sql: str) -> bool:
        nonlocal commits
        commits += sql.startswith(STEPS[-1])
        return commits == 2

    async with cut(workspace, at, error=Unavailable("gone"), carried_out=True) as (engine, catalog, deployer):
        outcome = await deployer.deploy(workspace.id, SECOND)
        assert results(outcome.environments) == {"one": ("failed", 1)}
        with pytest.raises(Conflict):  # nobody knows yet what is live there
            await deployer.deploy(workspace.id, SECOND)
        engine.back.set()
        await until(lambda: not deployer.unsettled)
        assert catalog.snapshot(workspace.id, "one").deployment == 2
        assert await objects(workspace, "one") == OBJECTS
        assert results((await deployer.deploy(workspace.id, SECOND)).environments) == {"one": ("no_changes", 2)}


async def test_what_would_happen(workspace: Workspace) -> None:
    await workspace.deploy(FIRST)
    await workspace.server.deployer.add_environment(workspace.id, "one")
    outcome = await workspace.deploy(SECOND, check=True)
    assert results(outcome.environments) == {"one": ("success", 1)}
    assert await objects(workspace, "one") == ["d1_events", "q1_events"]
    assert workspace.server.catalog.snapshot(workspace.id, "one").deployment == 1
    assert results((await workspace.deploy(FIRST, check=True)).environments) == {"one": ("no_changes", 1)}


async def test_a_refused_deploy_touches_no_environment(workspace: Workspace) -> None:
    await workspace.deploy(FIRST)
    await workspace.server.deployer.add_environment(workspace.id, "one")
    with pytest.raises(ProjectError):
        await workspace.deploy(SECOND | {"endpoints/bad.pipe": "NODE n\nSQL >\n    SELECT * FROM nowhere\n"})
    assert workspace.server.catalog.snapshot(workspace.id, "one").deployment == 1
    assert await objects(workspace, "one") == ["d1_events", "q1_events"]


async def test_secrets_and_settings_are_the_workspace_s(workspace: Workspace) -> None:
    pipe = "NODE n\nSQL >\n    %\n    SELECT {{tb_secret('region')}} AS region\nTYPE endpoint\n"
    catalog = workspace.server.catalog
    await catalog.put_secret(workspace.id, "region", "north")
    await workspace.deploy(FIRST | {"endpoints/region.pipe": pipe})
    await workspace.server.deployer.add_environment(workspace.id, "one")
    token = await admin_of(workspace, "one")
    assert await workspace.rows("/v0/pipes/region.json", token=token) == [{"region": "north"}]
    await catalog.put_secret(workspace.id, "region", "south")
    assert await workspace.rows("/v0/pipes/region.json", token=token) == [{"region": "south"}]
    assert (await workspace.request("PUT", "/v0/workspace/settings", json={"tenant_sql": True})).status == 200
    assert catalog.snapshot(workspace.id, "one").workspace.settings.tenant_sql


async def test_over_http(workspace: Workspace) -> None:
    await workspace.deploy(FIRST)
    made = await workspace.post("/v0/workspace/environments?name=acme")
    assert made.status == 200, made.text
    assert {k: made.json[k] for k in ("name", "result", "deployment", "status")} == {
        "name": "acme",
        "result": "success",
        "deployment": "1",
        "status": "live",
    }
    assert (await workspace.post("/v0/workspace/environments", json={"name": "acme"})).status == 409
    assert (await workspace.post("/v0/workspace/environments", json={"name": "a b"})).status == 400
    listed = await workspace.get("/v0/workspace/environments")
    assert [(e["name"], e["status"]) for e in listed.json["environments"]] == [("acme", "live")]
    deployed = await send_project(workspace, SECOND)
    assert deployed["deployment"]["environments"] == [{"name": "acme", "result": "success", "deployment": "2"}]
    kept = await workspace.request("DELETE", "/v0/workspace/environments/acme")
    assert kept.status == 400 and "confirm=true" in kept.json["hint"]
    assert (await workspace.request("DELETE", "/v0/workspace/environments/nobody?confirm=true")).status == 404
    database = listed.json["environments"][0]["database"]
    assert (await workspace.request("DELETE", "/v0/workspace/environments/acme?confirm=true")).json == {"ok": True}
    assert (await workspace.get("/v0/workspace/environments")).json == {"environments": []}
    found = await workspace.server.engine.rows(
        "SELECT name FROM system.databases WHERE name = {d:String}", {"d": database}
    )
    assert found == []


async def send_project(workspace: Workspace, files: Mapping[str, str]) -> Any:
    import aiohttp

    form = aiohttp.FormData()
    for name, text in files.items():
        form.add_field("data_project://", text.encode(), filename=name, content_type="text/plain")
    reply = await workspace.post("/v1/deploy?auto_promote=true", data=form)
    assert reply.status == 200, reply.text
    return reply.json


async def test_a_deletion_that_a_crash_cut_off(workspace: Workspace) -> None:
    """No token opens it from the moment its row says so; the next start drops what is left."""
    await workspace.deploy(FIRST)
    await workspace.server.deployer.add_environment(workspace.id, "one")
    place = workspace.server.catalog.snapshot(workspace.id, "one").workspace
    await workspace.server.catalog.delete_environment(workspace.id, "one")
    catalog, deployer = await restarted(workspace)
    assert catalog.environments(workspace.id) == ()
    rows = await workspace.server.engine.rows(
        "SELECT name FROM system.databases WHERE name = {d:String}", {"d": place.database}
    )
    assert rows == []
    await deployer.catch_up()


async def test_an_environment_that_cannot_be_read(workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    await workspace.deploy(TENANTS)
    for name in ("one", "two"):
        await workspace.server.deployer.add_environment(workspace.id, name)
    state, place = workspace.server.catalog.state, workspace.server.catalog.snapshot(workspace.id, "one").workspace
    good = await state.deployment(place.database_id)
    assert good is not None
    await state.commit_deployment(place.database_id, replace(good, files={"endpoints/x.pipe": "NODE n\nSQL >\n"}))
    try:
        with caplog.at_level(logging.ERROR):
            catalog, deployer = await restarted(workspace)
        assert "'one'" in caplog.text
        with pytest.raises(Unavailable):
            catalog.snapshot(workspace.id, "one")
        assert catalog.snapshot(workspace.id, "two").deployment == 1
        outcome = await deployer.deploy(workspace.id, TENANTS)
        assert results(outcome.environments) == {"one": ("failed", 0), "two": ("no_changes", 1)}
    finally:
        await state.commit_deployment(place.database_id, good)
    assert (await restarted(workspace))[0].snapshot(workspace.id, "one").deployment == 1


async def test_a_database_goes_though_tables_are_made_in_it(workspace: Workspace) -> None:
    """The logs make their tables when they first write, perhaps just then."""
    server = workspace.server
    made = await server.catalog.create_workspace(f"{server.catalog.snapshot(workspace.id).workspace.name}_going")

    async def make() -> None:
        for number in range(60):
            with suppress(SqlError):  # the database is gone
                await server.engine.command(
                    f"CREATE TABLE `{made.database}`.t{number} (a Int8) ENGINE = MergeTree ORDER BY a"
                )

    making = asyncio.create_task(make())
    await asyncio.sleep(0)
    await server.deployer.remove_workspace(made.id)
    await making
    assert not await server.engine.rows(f"SELECT name FROM system.databases WHERE name = '{made.database}'")

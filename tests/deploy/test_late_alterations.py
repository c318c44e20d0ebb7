"""What is altered only once a deployment is live, and a crash that comes before: the next start finishes it."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.changes import DAILY, EVENTS
from pipit.deploy import execute
from pipit.deploy.alterations import ModifyColumn, ModifyTtl
from serving import Workspace

pytestmark = pytest.mark.anyio

FILES = {"datasources/events.datasource": EVENTS, "datasources/daily.datasource": DAILY}
CHANGED = {
    "datasources/events.datasource": EVENTS.replace("90 YEAR", "80 YEAR"),
    "datasources/daily.datasource": DAILY.replace("customer_id String", "customer_id LowCardinality(String)"),
}


async def definition(workspace: Workspace, name: str) -> str:
    table = workspace.server.catalog.snapshot(workspace.id).tables[name]
    (row,) = await workspace.server.engine.rows(
        "SELECT create_table_query AS made FROM system.tables WHERE database = {d:String} AND name = {t:String}",
        {"d": table.database, "t": table.physical},
    )
    return str(row["made"])


async def test_a_crash_before_it_is_made_good_at_the_next_start(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    await workspace.deploy(FILES)
    apply = execute.apply

    async def killed(engine: Any, operation: Any) -> None:
        if not isinstance(operation, ModifyTtl | ModifyColumn):
            await apply(engine, operation)

    with monkeypatch.context() as patch:
        patch.setattr(execute, "apply", killed)
        await workspace.deploy(CHANGED)
    assert "toIntervalYear(90)" in await definition(workspace, "events")
    assert "LowCardinality" not in await definition(workspace, "daily")
    for _ in range(2):
        await workspace.server.deployer.clean_up()
        assert "toIntervalYear(80)" in await definition(workspace, "events")
        assert "LowCardinality(String)" in await definition(workspace, "daily")
    again = await workspace.deploy(CHANGED)
    assert again.result == "no_changes"


async def test_what_is_late_is_done_after_the_row(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A LowCardinality column needs barriers that only a deployment which knows of it puts up."""
    await workspace.deploy(FILES)
    apply, live = execute.apply, []

    async def looked_at(engine: Any, operation: Any) -> None:
        if isinstance(operation, ModifyTtl | ModifyColumn):
            live.append(workspace.server.catalog.snapshot(workspace.id).deployment)
        await apply(engine, operation)

    monkeypatch.setattr(execute, "apply", looked_at)
    await workspace.deploy(CHANGED)
    assert live == [2, 2]
    await workspace.deploy(FILES)
    assert live == [2, 2, 2, 3]  # the column loses its words before, the TTL is set after

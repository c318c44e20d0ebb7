"""The plan is what is applied: `check` answers what the deploy then does, for every kind of change (`changes.py`)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from deploy.changes import BASE, CHANGES, LEAN, Change
from pipit.api.deployments import deployment_object
from pipit.datafiles.vocabulary import DATASOURCE, IMPORTS, KAFKA_BROKER, KAFKA_SOURCE, POSTGRES_SOURCE
from pipit.deploy import Outcome
from pipit.deploy.alterations import (
    AddColumn,
    AddIndex,
    DropIndex,
    ModifyColumn,
    ModifySettings,
    ModifyTtl,
    statements,
)
from pipit.deploy.describe import operation_object
from pipit.deploy.execute import Executor
from pipit.deploy.plan import (
    CreateTable,
    CreateView,
    DeployRefused,
    DropView,
    Fill,
    Operation,
    Plan,
)
from serving import Workspace

pytestmark = pytest.mark.anyio

EVENT = {"at": "2026-01-02 03:04:05", "customer_id": "a", "kind": "k", "amount": 5}
STATE = {"id": 1, "v": 1, "w": 1, "s": 1, "t": 1, "d": 0, "e": 0}


def said(operation: Operation) -> str:
    """`fill daily from events 3`, from the operation as JSON."""
    found = operation_object(operation)
    kind, resource = found["operation"], found.get("resource", "")
    match kind:
        case "add_column" | "modify_column" | "hide_column":
            return f"{kind} {resource}.{found['column']}"
        case "add_index" | "drop_index":
            return f"{kind} {resource}.{found['index']}"
        case "create_view" | "drop_view":
            return f"{kind} {resource} {found['cause']}"
        case "fill":
            return f"fill {resource} from {found['source']} {found['rows']}"
        case "drop_table":
            return f"drop_table {resource} {found['rows']}"
        case "rebuild":
            return f"rebuild {resource} {found['from']}"
        case _:
            return f"{kind} {resource}".strip()


def answer(outcome: Outcome | DeployRefused) -> list[str]:
    if isinstance(outcome, DeployRefused):
        assert all(refusal.error.message and refusal.subject for refusal in outcome.refusals)
        return [f"refused: {', '.join(refusal.reason for refusal in outcome.refusals)}"]
    if outcome.result == "no_changes":
        assert not outcome.plan.operations
        return ["no changes"]
    return [said(operation) for operation in outcome.plan.operations]


async def asked(
    workspace: Workspace, change: Change, *, check: bool, base: Mapping[str, str] = BASE
) -> Outcome | DeployRefused:
    try:
        return await workspace.deploy(change.project(base), check=check, **change.options)
    except DeployRefused as refused:
        return refused


class Statements:
    """What the engine is told to change in one database."""

    _FORMS = (
        ("create", re.compile(r"CREATE (?:TABLE IF NOT EXISTS|MATERIALIZED VIEW) `\w+`\.`(\w+)`")),
        ("add to", re.compile(r"ALTER TABLE `\w+`\.`(\w+)` ADD COLUMN")),
        ("take from", re.compile(r"ALTER TABLE `\w+`\.`(\w+)` DROP COLUMN")),
        ("alter", re.compile(r"ALTER TABLE `\w+`\.`(\w+)` (?:MODIFY|REMOVE|RESET|MATERIALIZE|ADD INDEX|DROP INDEX)")),
        ("insert into", re.compile(r"INSERT INTO `\w+`\.`(\w+)`")),
        ("drop", re.compile(r"DROP TABLE IF EXISTS `\w+`\.`(\w+)`")),
        ("link into", re.compile(r"ALTER TABLE `\w+`\.`(\w+)` ATTACH PARTITION")),
        ("create", re.compile(r"CREATE TABLE `\w+`\.`(\w+)` AS")),
    )

    def __init__(self, workspace: Workspace, patch: pytest.MonkeyPatch) -> None:
        self.found: list[str] = []
        command = workspace.server.engine.command

        async def recorded(sql: str, *args: Any, **options: Any) -> None:
            if sql.partition("`")[2].startswith(f"{workspace.database}`."):
                form = next(((name, m[1]) for name, pattern in self._FORMS if (m := pattern.match(sql))), None)
                if form is not None and not form[1].startswith("probe"):  # copies that events keep for a while
                    self.found.append(" ".join(form))
            await command(sql, *args, **options)

        patch.setattr(workspace.server.engine, "command", recorded)


def told(operations: Sequence[Operation]) -> list[str]:
    """The statements that carry these operations out, in order."""
    found: list[str] = []
    for operation in operations:
        match operation:
            case CreateTable(table):
                found += [f"create {table.physical}", f"create {table.quarantine}"]
            case AddColumn(table):
                both = (table.physical, table.quarantine)
                found += [f"take from {name}" for name in both] + [f"add to {name}" for name in both]
            case ModifyColumn(table) | DropIndex(table) | ModifyTtl(table) | ModifySettings(table):
                found += [f"alter {table.physical}"] * len(statements(operation, "`t`"))
            case AddIndex(table):
                found += [f"alter {table.physical}"] * (len(statements(operation, "`t`")) + 1)
            case CreateView(_, physical):
                found.append(f"create {physical}")
            case Fill(view):
                found.append(f"insert into {view.target.physical}")
            case DropView(_, _, physical):
                found.append(f"drop {physical}")
    return found


async def live(workspace: Workspace, *, rows: bool, base: Mapping[str, str] = BASE) -> None:
    await workspace.deploy(base)
    if rows:
        days = [EVENT | {"at": f"2026-01-{day} 03:04:05"} for day in ("02", "03", "04")]
        reply = await workspace.send("events", days)  # at once: the counts do not depend on merges
        assert reply.json == {"successful_rows": 3, "quarantined_rows": 0}
        for name in ("replacing", "summing", "collapsing", "versioned"):
            if f"datasources/{name}.datasource" in base:
                assert (await workspace.send(name, [STATE])).status == 200


def cases(kind: str, *, rows: bool) -> dict[str, Change]:
    """Of the changes: those of which nothing comes ("none"), those that one row makes live ("row"), and the others."""

    def of(expected: list[str]) -> str:
        if expected[0].startswith(("refused", "no changes")):
            return "none"
        return "row" if expected == ["go_live"] else "objects"

    return {name: change for name, change in CHANGES.items() if of(change.expected(rows=rows)) == kind}


def test_the_table_has_every_directive() -> None:
    """A directive of a data source that is not in the table is one of which nobody has said what its change does."""
    ignored = {"SCHEMA", "INDEXES", "SOURCE"}  # the first two have several entries of their own
    inert = KAFKA_SOURCE | KAFKA_BROKER | IMPORTS | POSTGRES_SOURCE
    listed = {word for name in CHANGES for word in name.split()} | ignored | inert
    assert listed >= DATASOURCE


@pytest.mark.parametrize("rows", [False, True], ids=["empty", "rows"])
async def test_what_changes_nothing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, rows: bool) -> None:
    """The plan's answer, and then the deploy's: the same refusals for the same reasons, and no statement."""
    await live(workspace, rows=rows)
    before = workspace.server.catalog.snapshot(workspace.id)
    statements = Statements(workspace, monkeypatch)
    wrong: dict[str, object] = {}
    for name, change in cases("none", rows=rows).items():
        planned = await asked(workspace, change, check=True)
        deployed = await asked(workspace, change, check=False)
        if isinstance(planned, DeployRefused) and isinstance(deployed, DeployRefused):
            assert planned.body() == deployed.body(), name
        if not answer(planned) == answer(deployed) == change.expected(rows=rows):
            wrong[name] = (change.expected(rows=rows), planned, answer(planned), answer(deployed))
    assert not wrong
    assert not statements.found and workspace.server.catalog.snapshot(workspace.id) is before


@pytest.mark.parametrize("rows", [False, True], ids=["empty", "rows"])
async def test_what_one_row_makes_live(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, rows: bool) -> None:
    """One change after the other, each from what the last one made: no statement changes an object."""
    await live(workspace, rows=rows)
    statements = Statements(workspace, monkeypatch)
    wrong: dict[str, object] = {}
    for number, (name, change) in enumerate(cases("row", rows=rows).items(), 2):
        planned = await asked(workspace, change, check=True)
        deployed = await asked(workspace, change, check=False)
        if not answer(planned) == answer(deployed) == ["go_live"]:
            wrong[name] = (planned, answer(planned), answer(deployed))
        assert workspace.server.catalog.snapshot(workspace.id).deployment == number, name
    assert not wrong and not statements.found


def changes_of_objects() -> list[Any]:
    """Each over rows, and over empty tables where that makes another plan; the others of the empty ones take long."""
    found = []
    for rows in (True, False):
        for name, change in cases("objects", rows=rows).items():
            again = not rows and change.expected(rows=False) == change.expected(rows=True)
            found.append(pytest.param(name, rows, id=f"{name}, {rows}", marks=pytest.mark.long if again else ()))
    return found


@pytest.mark.parametrize(("name", "rows"), changes_of_objects())
async def test_what_is_planned_is_done(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, name: str, rows: bool
) -> None:
    """The plan's operations, the deploy's, and the statements that the engine got."""
    change = CHANGES[name]
    await live(workspace, rows=rows, base=LEAN)
    planned = await asked(workspace, change, check=True, base=LEAN)
    assert isinstance(planned, Outcome), planned
    assert answer(planned) == change.expected(rows=rows)
    statements = Statements(workspace, monkeypatch)
    deployed = await asked(workspace, change, check=False, base=LEAN)
    assert isinstance(deployed, Outcome), deployed
    assert said_by(planned.plan) == said_by(deployed.plan)
    if planned.plan.rebuilds:
        there = {name for table in planned.plan.waiting for name in (table.physical, table.quarantine)}
        assert not [one for one in statements.found if one.rpartition(" ")[2] in there]
    else:
        assert statements.found == told(planned.plan.operations)
    assert deployed.snapshot.deployment == 2


def said_by(plan: Plan) -> tuple[object, ...]:
    """All that it says, but for the moment at which it was made."""
    operations = [operation_object(operation) for operation in plan.operations]
    waiting = [table.physical for table in plan.waiting]
    return operations, waiting, plan.snapshot.names, plan.datasources, plan.pipes, plan.connections


@pytest.mark.parametrize(
    ("name", "done"),
    [
        ("a view and its target", "fill weekly from events 1"),
        ("a view into a live target", "refused: loses_history"),
    ],
)
async def test_rows_that_come_after_the_plan(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, name: str, done: str
) -> None:
    """Once the writers wait the plan is made again: what is carried out is true of the rows that are there."""
    await live(workspace, rows=False, base=LEAN)
    execute = Executor.execute

    async def late(*args: Any, **options: Any) -> Any:
        assert (await workspace.send("events", [EVENT])).status == 200
        return await execute(*args, **options)

    monkeypatch.setattr(Executor, "execute", late)
    statements = Statements(workspace, monkeypatch)
    deployed = await asked(workspace, CHANGES[name], check=False, base=LEAN)
    assert done in answer(deployed)
    found = [one for one in statements.found if one != "insert into d1_events"]  # the event
    if isinstance(deployed, Outcome):
        assert found == told(deployed.plan.operations)
    else:
        assert not found
        assert (await workspace.send("events", [EVENT])).status == 200  # the writers go on


async def test_what_people_read(workspace: Workspace) -> None:
    """`pipit plan` shows what happens inside each resource, with the rows that are there."""
    await live(workspace, rows=True, base=LEAN)
    change = CHANGES["a view and a column that it reads"]
    gone = {"datasources/replacing.datasource"}
    files = {path: text for path, text in change.project(LEAN).items() if path not in gone}
    planned = deployment_object(await workspace.deploy(files, check=True, allow_destructive=True))
    assert [(item["resource"], item["change"]) for item in planned["changes"]] == [
        ("events", "new column n Int64"),
        ("to_weekly", "new materialized view"),
        ("weekly", "filled from the 3 rows of events"),
        ("replacing", "deleted with its 1 row"),
    ]
    fill = next(item for item in planned["operations"] if item["operation"] == "fill")
    size = fill.pop("bytes")
    assert size > 0
    assert (fill.pop("seconds"), fill.pop("notice")) == (0.0, "writers of events wait meanwhile")
    assert fill == {"operation": "fill", "resource": "weekly", "view": "to_weekly.roll", "source": "events", "rows": 3}


@pytest.mark.parametrize(
    "name",
    ["a chain of which the second target skips the fill", "a view that turns to a table that is filled, by alter"],
)
async def test_a_fill_does_not_go_through_views_that_keep_history(workspace: Workspace, name: str) -> None:
    """The table that they read is filled before they are made; rows that come later are counted once."""
    await live(workspace, rows=True, base=LEAN)

    async def totals(*tables: str) -> list[int]:
        found = []
        for table in tables:
            sql = f"SELECT sum(total) AS n FROM {table} FORMAT JSON".replace(" ", "%20")
            found += [int(row["n"]) for row in await workspace.rows(f"/v0/sql?q={sql}")]
        return found

    last = "yearly" if "chain" in name else "monthly"
    before = 0 if last == "yearly" else 15
    await workspace.deploy(CHANGES[name].project(LEAN))
    assert await totals("weekly", last) == [15, before]
    assert (await workspace.send("events", [EVENT])).status == 200
    assert await totals("weekly", last) == [20, before + 5]

"""A text runs only after it was examined on the engine's own tree: what it reads, what it calls, what it would tell."""

from __future__ import annotations

import pytest

from pipit.catalog.snapshot import Snapshot
from pipit.errors import PipitError, ReadRefused, Reason, SqlError
from pipit.query.compose import Composed, Composer
from pipit.query.examine import Examined, Examiner, _tells_of_others, check_confined, check_strict
from pipit.templates import Binder
from projects import TENANTS
from serving import Workspace

pytestmark = pytest.mark.anyio


@pytest.fixture
async def snapshot(workspace: Workspace) -> Snapshot:
    await workspace.deploy(TENANTS)
    return workspace.server.catalog.snapshot(workspace.id)


def composed(snapshot: Snapshot, sql: str) -> Composed:
    return Composer().sql(snapshot, sql, {}, Binder())


async def test_the_engine_says_what_is_read(workspace: Workspace, snapshot: Snapshot) -> None:
    examiner = Examiner(workspace.server.engine)
    found = await examiner.examine(snapshot, composed(snapshot, "SELECT * FROM events JOIN totals USING customer_id"), Binder())
    tables = {f"{workspace.database}.{snapshot.tables[name].physical}" for name in ("events", "daily")}
    assert (found.tables, found.tells_of_others, found.of_blocks) == (tables, "", "")


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT * FROM url('http://127.0.0.1', 'CSV', 'a String')", Reason.TABLE_FUNCTION_REFUSED),
        ("SELECT * FROM numbers(3) UNION ALL SELECT number FROM file('x', 'CSV', 'number UInt64')", Reason.TABLE_FUNCTION_REFUSED),
        ("SELECT dictGet('d', 'v', 1)", Reason.OBJECT_REFUSED),
        ("SELECT hostName()", Reason.FUNCTION_REFUSED),
        ("SELECT amount FROM events SETTINGS readonly = 0", Reason.SETTING_REFUSED),
        ("SELECT amount FROM events INTO OUTFILE 'x'", Reason.CLAUSE_REFUSED),
    ],
)
async def test_what_is_not_on_a_list_is_refused_each_time(
    workspace: Workspace, snapshot: Snapshot, sql: str, reason: Reason
) -> None:
    examiner = Examiner(workspace.server.engine)
    for _ in range(2):  # a refusal is not remembered
        with pytest.raises(PipitError) as caught:
            await examiner.examine(snapshot, composed(snapshot, sql), Binder())
        assert caught.value.reason is reason


async def test_a_text_that_passed_is_remembered_for_its_place_deployment_and_settings(
    workspace: Workspace, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    examiner = Examiner(workspace.server.engine)
    asked: list[str] = []
    ask = Examiner._ask_engine

    async def counted(self: Examiner, snapshot: Snapshot, composed: Composed, binder: Binder) -> Examined:
        if self is examiner:  # a deploy has one of its own
            asked.append(composed.sql)
        return await ask(self, snapshot, composed, binder)

    monkeypatch.setattr(Examiner, "_ask_engine", counted)
    one, other = composed(snapshot, "SELECT 1"), composed(snapshot, "SELECT 2")
    sped = composed(snapshot, "SELECT 1 SETTINGS max_threads = 1")
    for statement in (one, one, other, sped, one):
        await examiner.examine(snapshot, statement, Binder())
    assert len(asked) == 3
    await workspace.deploy(TENANTS | {"datasources/more.datasource": "SCHEMA >\n    a String\n"})
    await examiner.examine(workspace.server.catalog.snapshot(workspace.id), one, Binder())
    assert len(asked) == 4


async def test_a_scalar_subquery_sees_no_row_while_it_is_examined(workspace: Workspace, snapshot: Snapshot) -> None:
    sql = "SELECT 1 WHERE 1 = (SELECT throwIf(count() > 0) + 1 FROM events)"
    await workspace.send("events", [{"timestamp": "2026-01-01 00:00:00", "customer_id": "a", "amount": 1}])
    found = await Examiner(workspace.server.engine).examine(snapshot, composed(snapshot, sql), Binder())
    assert "throwIf" in found.tells_of_others


async def test_an_error_says_where_in_the_text_it_is(workspace: Workspace, snapshot: Snapshot) -> None:
    with pytest.raises(SqlError) as caught:
        await Examiner(workspace.server.engine).examine(snapshot, composed(snapshot, "SELECT nope FROM events"), Binder())
    assert "EXPLAIN" not in caught.value.message


@pytest.mark.parametrize(
    ("sql", "functions", "what"),
    [
        ("SELECT throwIf(1)", {"throwIf"}, "throwIf"),
        ("SELECT runningDifference(a)", {"runningDifference"}, "runningDifference"),
        ("SELECT contingencyIf(a, b, c)", {"contingencyIf"}, "contingencyIf"),
        ("SELECT a FROM t PREWHERE a", set(), "PREWHERE"),
        ("SELECT _part FROM t", set(), "_part"),
        ("SELECT `_partition_id` FROM t", set(), "_partition_id"),
        ("SELECT a FROM t SAMPLE 100", set(), "SAMPLE"),
        ("SELECT a FROM t SAMPLE 1/10", set(), ""),
        ("SELECT 'PREWHERE', '_part', parted FROM t", {"sum"}, ""),
    ],
)
def test_what_would_tell_of_hidden_rows(sql: str, functions: set[str], what: str) -> None:
    found = _tells_of_others(sql, frozenset(functions))
    assert what in found and bool(found) == bool(what)


def test_what_tells_is_refused_under_a_filter_only() -> None:
    check_strict(Examined(frozenset(), of_blocks="neighbor"))
    check_confined(Examined(frozenset(), tells_of_others="PREWHERE"))
    with pytest.raises(ReadRefused):
        check_strict(Examined(frozenset(), tells_of_others="PREWHERE"))
    with pytest.raises(ReadRefused):
        check_confined(Examined(frozenset(), of_blocks="neighbor"))

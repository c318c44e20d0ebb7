"""Composing statements: names, CTEs, settings, caches. No engine: what is composed is examined elsewhere."""

from __future__ import annotations

import pytest

from pipit.catalog.build import build_snapshot
from pipit.catalog.snapshot import Snapshot
from pipit.catalog.state import TableNames
from pipit.errors import SqlError
from pipit.query import compose
from pipit.query.compose import Composed, Composer
from pipit.templates import Binder
from projects import TENANTS, WORKSPACE, endpoint, snapshot_of


def composed(
    snapshot: Snapshot,
    pipe: str = "one",
    *,
    composer: Composer | None = None,
    over: str | None = None,
    **values: str,
) -> Composed:
    found = snapshot.pipes[pipe]
    assert found.endpoint
    return (composer or Composer()).pipe(snapshot, found, found.endpoint, values, Binder(), over=over)


def test_a_table_keeps_its_name_for_its_columns() -> None:
    made = composed(snapshot_of(endpoint("SELECT events.amount, e.team FROM events JOIN events AS e USING amount")))
    assert made.sql == (
        "SELECT events.amount, e.team FROM `pipit_shop`.`d1_events` AS `events` "
        "JOIN `pipit_shop`.`d1_events` AS e USING amount"
    )
    assert made.tables == {"pipit_shop.d1_events"}
    assert made.names == {"events"}


@pytest.mark.parametrize(
    ("written", "table"),
    [
        ("events", "d1_events"),
        ("shop.events", "d1_events"),
        ("`events`", "d1_events"),
        ("events__v3", "d1_events"),
        ("events_quarantine", "q1_events"),
    ],
)
def test_what_a_name_means(written: str, table: str) -> None:
    assert composed(snapshot_of(endpoint(f"SELECT 1 FROM {written}"))).tables == {f"pipit_shop.{table}"}


@pytest.mark.parametrize(
    "written", ["Events", "other.events", "pipit_shop.d1_events", "d1_events", "system.tables", "x"]
)
def test_what_is_no_resource(written: str) -> None:
    with pytest.raises(SqlError, match="not found"):
        composed(snapshot_of(endpoint(f"SELECT 1 FROM {written}")))


def test_a_cte_hides_a_table_and_a_column_is_no_table() -> None:
    made = composed(snapshot_of(endpoint("WITH events AS (SELECT 1 AS x) SELECT x FROM events WHERE x IN x")))
    assert made.tables == frozenset() and "d1_events" not in made.sql


def test_nodes_and_pipes_become_ctes_once() -> None:
    made = composed(snapshot_of(endpoint("SELECT * FROM latest UNION ALL SELECT * FROM latest")))
    assert made.sql.count("`pipit_shop`.`d1_events`") == 1
    assert made.tables == {"pipit_shop.d1_events"}
    assert made.names == {"latest"}


def test_names_of_ctes_are_unambiguous() -> None:
    """Pipe `a` node `b__c` and pipe `a__b` node `c` are two nodes."""
    changes = {
        "pipes/a.pipe": "NODE b__c\nSQL >\n    SELECT 1 AS x\n",
        "pipes/a__b.pipe": "NODE c\nSQL >\n    SELECT 2 AS x\n",
    }
    made = composed(snapshot_of(changes | endpoint("SELECT * FROM a UNION ALL SELECT * FROM a__b")))
    assert "SELECT 1 AS x" in made.sql and "SELECT 2 AS x" in made.sql
    names = [line.split(" AS (")[0].removeprefix("WITH ") for line in made.sql.splitlines() if line.endswith(" AS (")]
    assert len(set(names)) == 2


def test_settings_are_hoisted_and_belong_to_the_statement() -> None:
    """Two texts that differ in SETTINGS only share what is remembered, not their settings."""
    changes = endpoint("SELECT * FROM latest SETTINGS join_use_nulls = 1", name="one") | endpoint(
        "SELECT * FROM latest SETTINGS join_use_nulls = 0", name="two"
    )
    snapshot, composer = snapshot_of(changes), Composer()
    one, two = composed(snapshot, "one", composer=composer), composed(snapshot, "two", composer=composer)
    assert one.sql == two.sql and "SETTINGS" not in one.sql
    assert (one.settings["join_use_nulls"], two.settings["join_use_nulls"]) == ("1", "0")


@pytest.mark.parametrize("setting", ["additional_table_filters = {}", "readonly = 0", "max_execution_time = 0"])
def test_settings_off_the_list(setting: str) -> None:
    with pytest.raises(SqlError, match=r"not allowed|must be a number"):
        composed(snapshot_of(endpoint(f"SELECT * FROM events SETTINGS {setting}")))


def test_a_template_is_rendered_for_each_request_and_its_text_does_not_depend_on_values() -> None:
    snapshot, composer = snapshot_of(), Composer()
    texts = {
        composed(snapshot, "latest", composer=composer, action=a, limit=n).sql for a, n in (("x", "1"), ("y'", "2"))
    }
    assert len(texts) == 1
    assert composed(snapshot, "latest", composer=composer).sql not in texts


def test_a_circle_through_templates_ends() -> None:
    changes = endpoint("%\n    SELECT * FROM {{table(t, 'events')}}", name="one") | endpoint(
        "%\n    SELECT * FROM one", name="two"
    )
    bare = {path: TENANTS[path].split("ROW_POLICY")[0] for path in TENANTS if path.endswith(".datasource")}
    with pytest.raises(SqlError, match="Recursive"):
        composed(snapshot_of(changes | bare), "one", t="two")


def test_over_means_the_pipe() -> None:
    made = composed(snapshot_of(), "totals", over="SELECT count() FROM _ AS t WHERE customer_id != '_'")
    assert made.tables == {"pipit_shop.d1_daily"} and made.names == {"totals"}
    assert made.sql.endswith("WHERE customer_id != '_'")


def test_another_deployment_is_composed_anew() -> None:
    composer = Composer()
    old = composed(snapshot_of(endpoint("SELECT x FROM node_less"), deployment=1), "latest", composer=composer)
    project = snapshot_of(deployment=2)
    names = TableNames(
        datasources={n: f"d2_{n}" for n in project.tables}, quarantines={n: f"q2_{n}" for n in project.tables}
    )
    newer = build_snapshot(WORKSPACE, project.project, names, deployment=2)
    new = composed(newer, "latest", composer=composer)
    assert old.tables == {"pipit_shop.d1_events"} and new.tables == {"pipit_shop.d2_events"}


def test_the_caches_are_bounded_by_size_not_by_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """One JWT that sends long values into an unaliased column must not fill the memory."""
    monkeypatch.setattr(compose, "CACHE_CHARACTERS", 256 * 1000)
    snapshot, composer = snapshot_of(endpoint("%\n    SELECT {{String(s)}} FROM latest")), Composer()
    for number in range(600):
        composed(snapshot, composer=composer, s=f"{number}" + "x" * 700)
    assert composer._prepared.currsize <= 256 * 1000 and composer._joined.currsize <= 256 * 1000
    before = composer._prepared.currsize
    composed(snapshot, composer=composer, s="y" * 5000)
    assert composer._prepared.currsize == before

"""Whose rows reach a node, and what a table is made from: read from the project's text, or remembered."""

from __future__ import annotations

import pytest

from pipit.catalog.lineage import (
    computes_names,
    dependencies,
    derived,
    fixed_params,
    leftmost_table,
    lists,
    nodes_read,
    tables_read,
    written_with,
)
from pipit.catalog.snapshot import Snapshot
from projects import DAILY, endpoint, snapshot_of

COPY = "NODE c\nSQL >\n    SELECT today() AS day, customer_id, countState() AS events FROM latest GROUP BY customer_id\nTYPE copy\nTARGET_DATASOURCE copied\n"
COPIED = {"datasources/copied.datasource": DAILY, "copies/c.pipe": COPY}


def read(snapshot: Snapshot, pipe: str = "one") -> frozenset[str]:
    found = snapshot.pipes[pipe]
    return tables_read(snapshot, found, found.result)


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT 1", set()),
        ("SELECT * FROM events", {"events"}),
        ("SELECT * FROM shop.events", {"events"}),
        ("SELECT * FROM latest", {"events"}),  # a pipe, and its nodes
        ("SELECT * FROM events JOIN totals USING customer_id", {"events", "daily"}),
        ("WITH events AS (SELECT 1) SELECT * FROM events", set()),  # a CTE is no table
        ("SELECT * FROM events_quarantine", {"events"}),
        ("%\n    SELECT * FROM {% if x %} events {% else %} daily {% end %}", {"events", "daily"}),  # every branch
        ("%\n    SELECT * FROM {{TABLE('ev' + 'ents')}}", {"events", "daily"}),  # a computed name may be any
    ],
)
def test_the_tables_whose_rows_reach_a_node(sql: str, tables: set[str]) -> None:
    assert read(snapshot_of(endpoint(sql))) == tables


def test_the_nodes_that_a_pipe_reads_have_their_pipes() -> None:
    snapshot = snapshot_of()
    pipe = snapshot.pipes["chained"]
    found = {(owner.name, node.name) for owner, node in nodes_read(snapshot, pipe, pipe.result)}
    assert found == {("chained", "endpoint"), ("latest", "endpoint"), ("latest", "filtered")}


def test_only_templates_compute_names() -> None:
    snapshot = snapshot_of(endpoint("%\n    SELECT {{columns('a')}} FROM events") | endpoint("SELECT 1", name="two"))
    one, two = snapshot.pipes["one"], snapshot.pipes["two"]
    assert computes_names(snapshot, one, one.result)
    assert not computes_names(snapshot, two, two.result)


def test_what_is_filled_is_made_from_what_its_pipe_reads_all_the_way_up() -> None:
    snapshot = snapshot_of(COPIED | endpoint("SELECT * FROM copied"))
    assert derived(snapshot) == {"events": set(), "daily": {"events"}, "copied": {"events"}}


def test_what_fed_a_table_once_counts_though_its_view_is_gone() -> None:
    gone = {"materializations/daily_view.pipe": "NODE n\nSQL >\n    SELECT 1\n"}
    assert derived(snapshot_of(gone))["daily"] == set()
    assert derived(snapshot_of(gone, sources={"d1_daily": ["deleted", "events"]}))["daily"] == {"deleted", "events"}


def test_who_reads_a_pipe_through_another_fixes_its_parameters() -> None:
    snapshot = snapshot_of(endpoint("SELECT * FROM by_param", extra="FIXED_PARAMS team\n"))
    assert fixed_params(snapshot, snapshot.pipes["one"]) == ("team", "customer_id")


def test_lists_of_a_pipe_that_is_read_are_lists() -> None:
    sql = "%\n    SELECT * FROM events WHERE amount IN {{Array(ids, 'Int64', '1')}}"
    snapshot = snapshot_of(endpoint(sql) | endpoint("SELECT * FROM one", name="two"))
    assert lists(snapshot, snapshot.pipes["two"]) == {"ids"}


def test_nothing_is_written_to_a_target_while_its_sources_rest() -> None:
    snapshot = snapshot_of()
    assert {table.name for table in written_with(snapshot, snapshot.tables["daily"])} == {"daily", "events"}
    assert {table.name for table in written_with(snapshot, snapshot.tables["events"])} == {"events"}


def test_dependencies_are_the_names_as_they_are_written() -> None:
    snapshot = snapshot_of(endpoint("SELECT * FROM latest JOIN shop.events USING amount JOIN latest AS l USING team"))
    pipe = snapshot.pipes["one"]
    assert dependencies(snapshot, pipe, pipe.result) == ["latest", "events"]


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("SELECT * FROM pipit_shop.d1_events AS e, pipit_shop.d1_daily", "events"),
        ("SELECT * FROM pipit_shop.q1_events", ""),
        ("SELECT 1", ""),
    ],
)
def test_the_table_whose_inserts_fire_a_view(sql: str, name: str) -> None:
    assert leftmost_table(snapshot_of(), sql) == name

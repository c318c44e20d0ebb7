"""Which filter stands on which table: decided from the snapshot and the token alone, so no engine is needed."""

from __future__ import annotations

import pytest

from pipit.access.context import Scope, SecurityContext, TokenKind
from pipit.catalog.services import PIPE_STATS_RT, physical_name
from pipit.catalog.snapshot import staging_of
from pipit.catalog.state import WorkspaceSettings
from pipit.errors import Forbidden, ReadRefused, Reason
from pipit.query.secure import (
    check_chosen,
    check_filters,
    check_scopes,
    filter_setting,
    filters_for,
    narrowed,
)
from projects import DAILY, EVENTS, snapshot_of

EVENTS_TABLE, DAILY_TABLE = "pipit_shop.d1_events", "pipit_shop.d1_daily"
QUARANTINE = "pipit_shop.q1_events"
BARE = EVENTS.split("ROW_POLICY >")[0]
ADMIN = SecurityContext("id", TokenKind.ADMIN, "admin")


def tenant(*scopes: Scope, **context: str) -> SecurityContext:
    return SecurityContext("id", TokenKind.JWT, "t", scopes=scopes, context=context)


A = tenant(customer_id="a")


def test_a_policy_becomes_a_filter_of_the_physical_table() -> None:
    filters = filters_for(snapshot_of(), A, [EVENTS_TABLE, DAILY_TABLE, "system.one"])
    assert set(filters) == {EVENTS_TABLE, DAILY_TABLE}
    assert all("customer_id = " in text and "'a'" in text for text in filters.values())


def test_an_admin_has_none() -> None:
    assert filters_for(snapshot_of(), ADMIN, [EVENTS_TABLE]) == {}


def test_a_token_without_the_key_reads_nothing() -> None:
    with pytest.raises(Forbidden):
        filters_for(snapshot_of(), tenant(), [EVENTS_TABLE])


def test_a_scope_s_filter_and_the_policy_both_hold() -> None:
    narrow = tenant(Scope("DATASOURCES:READ", "events", filter="amount > 1"), customer_id="a")
    (condition,) = filters_for(snapshot_of(), narrow, [EVENTS_TABLE]).values()
    assert "(amount > 1) AND (" in condition and "'a'" in condition


def test_a_filter_of_the_token_counts_where_there_is_no_policy() -> None:
    narrow = tenant(Scope("DATASOURCES:READ", "events", filter="amount > 1"))
    snapshot = snapshot_of({"datasources/events.datasource": BARE, "datasources/daily.datasource": DAILY})
    assert filters_for(snapshot, narrow, [EVENTS_TABLE]) == {EVENTS_TABLE: "(amount > 1)"}


@pytest.mark.parametrize("table", ["pipit_other.d1_events", "pipit_shop.d0_events", "system.tables"])
@pytest.mark.parametrize("security", [A, ADMIN])
def test_a_table_of_another_place_is_refused(table: str, security: SecurityContext) -> None:
    with pytest.raises(ReadRefused):
        filters_for(snapshot_of(), security, [table])


def refused(files: dict[str, str], security: SecurityContext, table: str, **more: object) -> Reason:
    with pytest.raises(ReadRefused) as caught:
        filters_for(snapshot_of(files, **more), security, [table])  # type: ignore[arg-type]
    return caught.value.reason


def test_what_is_made_from_a_policed_table_needs_a_policy_of_its_own() -> None:
    assert refused({"datasources/daily.datasource": DAILY}, A, DAILY_TABLE) is Reason.POLICY_MISSING


def test_what_a_table_was_made_from_once_counts() -> None:
    files = {
        "datasources/daily.datasource": DAILY,
        "materializations/daily_view.pipe": "NODE n\nSQL >\n    SELECT 1\n",
    }
    assert refused(files, A, DAILY_TABLE, sources={"d1_daily": ["events"]}) is Reason.POLICY_MISSING
    assert filters_for(snapshot_of(files), A, [DAILY_TABLE]) == {}


def test_none_with_a_reason_is_for_every_tenant() -> None:
    files = {"datasources/daily.datasource": DAILY + "\nROW_POLICY none REASON 'counts of all'\n"}
    assert filters_for(snapshot_of(files), A, [DAILY_TABLE]) == {}


def test_a_quarantine_is_for_its_owner() -> None:
    assert refused({}, A, QUARANTINE) is Reason.QUARANTINE_REFUSED
    assert filters_for(snapshot_of(), ADMIN, [QUARANTINE]) == {}


def test_where_policies_are_required_a_table_without_one_is_refused() -> None:
    required = WorkspaceSettings(require_policies=True)
    files = {"datasources/events.datasource": BARE, "datasources/daily.datasource": DAILY}
    assert refused(files, A, EVENTS_TABLE, settings=required) is Reason.POLICY_REQUIRED


def test_the_log_of_reads_is_not_for_tenants() -> None:
    log = f"pipit_shop.{physical_name(PIPE_STATS_RT)}"
    assert refused({}, A, log) is Reason.SERVICE_TABLE_REFUSED
    assert filters_for(snapshot_of(), ADMIN, [log]) == {}


def test_a_filter_on_nothing_is_not_no_filter() -> None:
    check_scopes(snapshot_of(), tenant(Scope("DATASOURCES:READ", "events", filter="1")))
    with pytest.raises(ReadRefused):
        check_scopes(snapshot_of(), tenant(Scope("DATASOURCES:READ", "Events", filter="1")))


def test_a_request_chooses_no_table_where_there_are_policies() -> None:
    check_chosen(snapshot_of(), A, [])
    check_chosen(snapshot_of(), ADMIN, ["events"])
    with pytest.raises(ReadRefused):
        check_chosen(snapshot_of(), A, ["events"])


def test_a_policed_table_without_its_filter_stops_the_read() -> None:
    snapshot = snapshot_of()
    check_filters(snapshot, A, [EVENTS_TABLE], {EVENTS_TABLE: "1"})
    check_filters(snapshot, ADMIN, [EVENTS_TABLE], {})
    for filters in ({}, {DAILY_TABLE: "1"}, {EVENTS_TABLE: ""}):
        with pytest.raises(ReadRefused):
            check_filters(snapshot, A, [EVENTS_TABLE], filters)


def test_a_condition_of_a_job_never_widens_a_filter() -> None:
    held = {"d.events": "customer_id = 'a'"}
    assert narrowed(held, {}) == held
    assert narrowed(held, {"d.events": "1", "d.other": "n > 0"}) == {
        "d.events": "(customer_id = 'a') AND (1)",
        "d.other": "n > 0",
    }


def test_each_filter_stands_under_the_name_that_the_table_may_change_to() -> None:
    text = filter_setting({"d.events": "x = 'it\\'s'"})
    assert text.count("x = ") == 2
    assert "'d.events'" in text and f"'d.{staging_of('events')}'" in text

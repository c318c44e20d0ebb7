"""The sample events: what the data sources of the demo project expect, the same every time, and like life."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

from pipit.demo.events import CUSTOMERS, HISTORY_DAYS, Event, Trickle, contracts, history, text_of

NOW = datetime(2026, 11, 18, 15, 30, tzinfo=UTC)  # a Wednesday

Time = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}$")]
Name = Annotated[str, Meta(min_length=1)]


class Session(msgspec.Struct, forbid_unknown_fields=True):
    id: Name
    platform: Name


class EventRow(msgspec.Struct, forbid_unknown_fields=True):
    """`datasources/events.datasource`, its jsonpaths as fields."""

    timestamp: Time
    customer_id: Name
    team: Name
    user_id: Name
    session: Session
    plan: Name
    feature: Name
    action: Name
    status: Annotated[int, Meta(ge=100, lt=600)]
    latency_ms: Annotated[float, Meta(gt=0)]


class ContractRow(msgspec.Struct, forbid_unknown_fields=True):
    customer_id: Name
    plan: Name
    seats: Annotated[int, Meta(gt=0)]
    base_price_cents: Annotated[int, Meta(gt=0)]
    included_events: Annotated[int, Meta(gt=0)]
    cents_per_extra_thousand: Annotated[int, Meta(gt=0)]
    updated_at: str


def all_of(since: datetime, until: datetime) -> list[Event]:
    return [event for day in history(since, until) for event in day]


def test_rows_have_the_types_of_the_data_source() -> None:
    events = all_of(NOW - timedelta(days=2), NOW)
    rows = msgspec.json.decode(msgspec.json.encode(events), type=list[EventRow])
    assert len(rows) > 1_000
    teams = {c.id: {t.name for t in c.teams} for c in CUSTOMERS}
    assert all(row.team in teams[row.customer_id] for row in rows)
    assert all(row.user_id.endswith(f"@{row.customer_id}.example") for row in rows)


def test_contracts_have_one_row_for_each_customer() -> None:
    rows = msgspec.json.decode(msgspec.json.encode(contracts()), type=list[ContractRow])
    assert [row.customer_id for row in rows] == [c.id for c in CUSTOMERS]


def test_the_same_days_have_the_same_events() -> None:
    assert all_of(NOW - timedelta(days=1), NOW) == all_of(NOW - timedelta(days=1), NOW)


def test_a_range_is_cut_at_both_ends_and_its_parts_make_the_whole() -> None:
    start, middle = NOW - timedelta(days=1), NOW - timedelta(hours=5)
    whole = all_of(start, NOW)
    assert [*all_of(start, middle), *all_of(middle, NOW)] == whole
    times = [str(event["timestamp"]) for event in whole]
    assert times == sorted(times)
    assert text_of(start) < times[0] and times[-1] <= text_of(NOW)
    assert all_of(NOW, NOW) == []


def test_the_whole_history_is_big_enough_to_look_at() -> None:
    events = all_of(NOW - timedelta(days=HISTORY_DAYS), NOW)
    assert 150_000 < len(events) < 300_000
    volume = Counter(event["customer_id"] for event in events)
    assert volume["acme"] > volume["globex"] > volume["initech"] > 5_000
    # Fewer people work at the weekend: 2026-11-14 was a Saturday, 2026-11-17 a Tuesday.
    people = {
        day: len({e["user_id"] for e in events if str(e["timestamp"]).startswith(day)})
        for day in ("2026-11-14", "2026-11-17")
    }
    assert people["2026-11-14"] < people["2026-11-17"] / 2


def test_one_customer_had_a_bad_day() -> None:
    bad = (NOW - timedelta(days=9)).date().isoformat()
    failures: Counter[str] = Counter()
    for event in all_of(NOW - timedelta(days=12), NOW):
        if event["customer_id"] == "globex" and isinstance(event["status"], int) and event["status"] >= 500:
            failures[str(event["timestamp"])[:10]] += 1
    assert failures.most_common(1)[0][0] == bad


def test_live_events_are_of_people_who_are_there_now() -> None:
    trickle = Trickle(seed=7)
    events = [trickle.next(NOW + timedelta(seconds=n)) for n in range(500)]
    rows = msgspec.json.decode(msgspec.json.encode(events), type=list[EventRow])
    assert {row.customer_id for row in rows} == {c.id for c in CUSTOMERS}
    assert [row.timestamp for row in rows] == sorted(row.timestamp for row in rows)
    # A session stays one person's, and starts where sessions start.
    owners: dict[str, str] = {}
    for row in rows:
        if row.session.id not in owners:
            assert row.action in ("sign_in", "api_call")
        assert owners.setdefault(row.session.id, row.user_id) == row.user_id
    active = {row.user_id for row in rows}
    recent = {event["user_id"] for event in all_of(NOW - timedelta(days=7), NOW)}
    assert len(active & recent) > len(active) / 2

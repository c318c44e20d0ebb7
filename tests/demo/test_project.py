"""The demo project against the engine: what each endpoint says is what the sent events say, for each viewer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path
from typing import Any

import pytest

from pipit.demo.events import CUSTOMERS, Event, contracts, history
from pipit.demo.page import VIEWERS, DemoViewer
from serving import Workspace

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
DAYS = 3


@dataclass(frozen=True)
class Demo:
    """The deployed project with a few days of events in it."""

    workspace: Workspace
    events: list[Event]

    def token(self, viewer: DemoViewer) -> str:
        scopes = [
            {"type": s.type, "resource": s.resource, "fixed_params": dict(s.fixed_params)} for s in viewer.scopes
        ]
        return self.workspace.jwt(*scopes, context=viewer.context)

    async def read(self, viewer: DemoViewer, path: str) -> list[dict[str, Any]]:
        return await self.workspace.rows(f"/v0/pipes/{path}", token=self.token(viewer))

    def of(self, viewer: DemoViewer) -> list[Event]:
        customer, team = viewer.customer, viewer.team
        return [e for e in self.events if e["customer_id"] == customer and team in ("", e["team"])]


@pytest.fixture(scope="module")
async def demo(shared_workspace: Workspace) -> Demo:
    workspace = shared_workspace
    files = {
        str(path.relative_to(ROOT)): path.read_text()
        for folder in ("datasources", "pipes", "connectors")
        for path in sorted((ROOT / folder).iterdir())
    }
    await workspace.deploy(files)
    until = datetime.now(UTC)
    events = [e for day in history(until - timedelta(days=DAYS), until) for e in day]
    batches = [("contracts", contracts())]
    batches += [("events", events[n : n + 3000]) for n in range(0, len(events), 3000)]
    for name, rows in batches:
        reply = await workspace.send(name, rows)
        assert reply.json == {"successful_rows": len(rows), "quarantined_rows": 0}, reply.text
    return Demo(workspace, events)


@pytest.fixture(params=VIEWERS, ids=lambda v: v.id)
def viewer(request: pytest.FixtureRequest) -> DemoViewer:
    assert isinstance(request.param, DemoViewer)
    return request.param


async def test_top_features_counts_the_viewers_events(demo: Demo, viewer: DemoViewer) -> None:
    rows = await demo.read(viewer, "top_features.json?limit=100")
    own = Counter(str(e["feature"]) for e in demo.of(viewer))
    assert {r["feature"]: r["events"] for r in rows} == own
    assert [r["events"] for r in rows] == sorted(own.values(), reverse=True)
    assert sum(r["share"] for r in rows) == pytest.approx(100, abs=1)
    failed = sum(1 for e in demo.of(viewer) if e["status"] in (500, 503))
    assert sum(r["errors"] for r in rows) == failed


async def test_errors_by_feature_counts_the_failures(demo: Demo, viewer: DemoViewer) -> None:
    rows = await demo.read(viewer, "errors_by_feature.json")
    own = Counter(str(e["feature"]) for e in demo.of(viewer) if e["status"] in (500, 503))
    assert {r["feature"]: r["failed"] for r in rows if r["failed"]} == own
    assert [r["error_rate"] for r in rows] == sorted((r["error_rate"] for r in rows), reverse=True)
    many = await demo.read(viewer, "errors_by_feature.json?min_requests=1000000")
    assert many == []


async def test_active_users_counts_people_by_day(demo: Demo, viewer: DemoViewer) -> None:
    rows = await demo.read(viewer, "active_users.json")
    people: dict[str, set[object]] = {}
    for e in demo.of(viewer):
        people.setdefault(str(e["timestamp"])[:10], set()).add(e["user_id"])
    assert {r["day"]: r["daily"] for r in rows} == {day: len(ids) for day, ids in people.items()}
    everybody = {e["user_id"] for e in demo.of(viewer)}
    assert rows[-1]["weekly"] == rows[-1]["monthly"] == len(everybody)


async def test_latency_has_the_percentiles_of_the_hours_and_of_the_days(demo: Demo, viewer: DemoViewer) -> None:
    for granularity, width in (("day", 10), ("hour", 13)):
        rows = await demo.read(viewer, f"latency_percentiles.json?granularity={granularity}")
        own = Counter(str(e["timestamp"])[:width] for e in demo.of(viewer))
        assert {r["time"][:width]: r["requests"] for r in rows} == own
        assert all(0 < r["p50"] <= r["p95"] <= r["p99"] for r in rows)


async def test_the_funnel_counts_sessions_in_order(demo: Demo, viewer: DemoViewer) -> None:
    rows = await demo.read(viewer, "funnel.json?steps=sign_in,open_dashboard,create_report")
    reached = Counter[int]()
    steps = ["sign_in", "open_dashboard", "create_report"]
    done: dict[object, int] = {}
    for e in demo.of(viewer):  # in order of time
        session = e["session"]
        assert isinstance(session, dict)
        at = done.setdefault(session["id"], 0)
        if at < len(steps) and e["action"] == steps[at]:
            done[session["id"]] = at + 1
    for last in done.values():
        for step in range(1, last + 1):
            reached[step] += 1
    assert [r["action"] for r in rows] == steps
    assert {r["step"]: r["sessions"] for r in rows} == reached
    assert rows[0]["percent_of_first"] == 100


async def test_retention_counts_everybody_once(demo: Demo, viewer: DemoViewer) -> None:
    rows = await demo.read(viewer, "retention.json")
    newcomers = sum(r["users"] for r in rows if r["week"] == 0)
    assert newcomers == len({e["user_id"] for e in demo.of(viewer)})
    assert all(r["users"] <= r["cohort_size"] and 0 < r["percent"] <= 100 for r in rows)


async def test_teams_and_the_feed_show_the_viewers_rows(demo: Demo, viewer: DemoViewer) -> None:
    teams = await demo.read(viewer, "teams.json")
    assert {r["name"]: r["uses"] for r in teams} == Counter(str(e["team"]) for e in demo.of(viewer))
    feed = await demo.read(viewer, "recent_activity.json?limit=5")
    assert [r["timestamp"] for r in feed] == [e["timestamp"] for e in demo.of(viewer)[:-6:-1]]


async def test_the_bill_is_what_the_contract_says(demo: Demo) -> None:
    for viewer, customer in zip(VIEWERS, CUSTOMERS, strict=False):
        rows = await demo.read(viewer, "usage_for_billing.json")
        used = Counter(str(e["timestamp"])[:7] for e in demo.of(viewer))
        assert {r["month"][:7]: r["events"] for r in rows} == used
        for row in rows:
            extra = max(row["events"] - customer.included_events, 0)
            cents = customer.base_price_cents + ceil(extra / 1000) * customer.cents_per_extra_thousand
            assert row["customer_id"] == customer.id and row["plan"] == customer.plan
            assert row["total"] == pytest.approx(cents / 100)


async def test_a_manager_may_not_read_the_bill(demo: Demo) -> None:
    manager = next(v for v in VIEWERS if v.team)
    reply = await demo.workspace.get("/v0/pipes/usage_for_billing.json", token=demo.token(manager))
    assert reply.status == 403


async def test_a_token_without_a_customer_reads_nothing(demo: Demo) -> None:
    for pipe in ("top_features", "funnel", "usage_for_billing"):
        for context in ({}, {"team": "sales"}):
            token = demo.workspace.tenant(pipe, **context)
            reply = await demo.workspace.get(f"/v0/pipes/{pipe}.json", token=token)
            assert reply.status == 403, (pipe, context, reply.text)


async def test_asking_for_another_customer_changes_nothing(demo: Demo, viewer: DemoViewer) -> None:
    token = demo.token(viewer)
    path = "/v0/pipes/top_features.json"
    own = (await demo.workspace.get(path, token=token)).json["data"]
    for query in (
        "customer_id=initech", "customer_id=acme&customer_id=globex", "CUSTOMER_ID=globex",
        "customer%5Fid=globex", "customer_id[]=globex", "team=research",
    ):  # fmt: skip
        reply = await demo.workspace.get(f"{path}?{query}", token=token)
        if query.startswith("team") and not viewer.team:
            assert reply.json["data"] == [] or viewer.customer == "globex"  # a parameter like any other
        else:
            assert (reply.status, reply.json.get("data")) == (200, own), query
    for body in ({"data": "customer_id=globex"}, {"json": {"customer_id": "globex"}}):
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if "data" in body else {}
        reply = await demo.workspace.post(path, token=token, headers=headers, **body)
        assert (reply.status, reply.json.get("data")) == (200, own), body


async def test_the_policy_holds_without_fixed_parameters(demo: Demo) -> None:
    """The page's tokens also fix customer_id; the tables' policy alone gives nobody else's rows either."""
    token = demo.workspace.tenant("top_features", customer_id="acme")
    rows = await demo.workspace.rows("/v0/pipes/top_features.json?customer_id=globex", token=token)
    assert rows == []


async def test_the_workspace_itself_may_ask_for_each_customer(demo: Demo) -> None:
    rows = await demo.workspace.rows("/v0/pipes/teams.json?customer_id=globex")
    assert {r["name"] for r in rows} == {t.name for c in CUSTOMERS if c.id == "globex" for t in c.teams}


async def test_a_granularity_that_is_not_offered_is_said(demo: Demo) -> None:
    reply = await demo.workspace.get("/v0/pipes/latency_percentiles.json?granularity=week")
    assert (reply.status, reply.json["error"]) == (400, "granularity is hour or day")

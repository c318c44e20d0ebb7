"""Small projects that tests deploy. `TENANTS`: one policed table, a rollup, endpoints of every kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pipit.catalog.build import build_snapshot
from pipit.catalog.snapshot import Snapshot, Workspace
from pipit.catalog.state import TableNames, WorkspaceSettings
from pipit.datafiles import parse_project

EVENTS = """
TOKEN ingest APPEND

SCHEMA >
    `timestamp` DateTime `json:$.timestamp`,
    `customer_id` String `json:$.customer_id`,
    `team` String `json:$.team`,
    `action` LowCardinality(String) `json:$.action`,
    `amount` Int64 `json:$.amount`

ENGINE MergeTree
ENGINE_PARTITION_KEY toYYYYMM(timestamp)
ENGINE_SORTING_KEY customer_id, timestamp

ROW_POLICY >
    customer_id = {{String(context.customer_id)}}
    {% if defined(context.team) %} AND team = {{String(context.team)}} {% end %}
ROW_POLICY_OPTIONAL team
"""

DAILY = """
SCHEMA >
    day Date,
    customer_id String,
    events AggregateFunction(count)

ENGINE AggregatingMergeTree
ENGINE_SORTING_KEY customer_id, day
"""

DAILY_POLICY = DAILY + "\nROW_POLICY customer_id = {{String(context.customer_id)}}\n"

DAILY_VIEW = """
NODE roll
SQL >
    SELECT toDate(timestamp) AS day, customer_id, countState() AS events
    FROM events
    GROUP BY day, customer_id
TYPE materialized
DATASOURCE daily
"""

LATEST = """
DESCRIPTION The newest events

NODE filtered
SQL >
    %
    SELECT * FROM events
    WHERE 1
    {% if defined(action) %} AND action = {{String(action, description='Only these')}} {% end %}

NODE endpoint
SQL >
    %
    SELECT customer_id, team, action, amount FROM filtered
    ORDER BY amount
    LIMIT {{Int32(limit, 100)}}
TYPE endpoint
"""

# A Tinybird project's way: the tenant is a parameter, fixed by the token.
BY_PARAM = """
FIXED_PARAMS customer_id

NODE endpoint
SQL >
    %
    SELECT customer_id, amount FROM events
    WHERE customer_id = {{String(customer_id)}}
    ORDER BY amount
TYPE endpoint
"""

TOTALS = """
NODE endpoint
SQL >
    SELECT customer_id, countMerge(events) AS events FROM daily GROUP BY customer_id ORDER BY customer_id
TYPE endpoint
"""

CHAINED = """
NODE endpoint
SQL >
    SELECT action, sum(amount) AS total FROM latest GROUP BY action ORDER BY action
TYPE endpoint
"""

TENANTS: dict[str, str] = {
    "datasources/events.datasource": EVENTS,
    "datasources/daily.datasource": DAILY_POLICY,
    "materializations/daily_view.pipe": DAILY_VIEW,
    "endpoints/latest.pipe": LATEST,
    "endpoints/by_param.pipe": BY_PARAM,
    "endpoints/totals.pipe": TOTALS,
    "endpoints/chained.pipe": CHAINED,
}


WORKSPACE = Workspace("id", "shop", "pipit_shop", "k" * 40)


def snapshot_of(
    changes: Mapping[str, str] | None = None,
    *,
    deployment: int = 1,
    settings: WorkspaceSettings | None = None,
    sources: Mapping[str, list[str]] | None = None,
) -> Snapshot:
    """`TENANTS` with these changes, as it would be deployed: no engine, so nothing of it runs.

    `sources`: what fed a table once, by its physical name (`d1_events`).
    """
    project = parse_project(TENANTS | dict(changes or {}))
    names = TableNames(
        datasources={name: f"d1_{name}" for name in project.datasources},
        quarantines={name: f"q1_{name}" for name in project.datasources},
        sources=dict(sources or {}),
    )
    workspace = replace(WORKSPACE, settings=settings or WorkspaceSettings())
    return build_snapshot(workspace, project, names, deployment=deployment)


def endpoint(text: str, *, name: str = "one", extra: str = "") -> dict[str, str]:
    return {f"endpoints/{name}.pipe": f"{extra}NODE ep_{name}\nSQL >\n    {text}\nTYPE endpoint\n"}


# A table of keys and numbers, and the counts of its keys, which a view fills.
KEYED_COLUMNS = "SCHEMA >\n    k String `json:$.k`,\n    n Int64 `json:$.n`"
KEYED = f"{KEYED_COLUMNS}\n\nENGINE MergeTree\nENGINE_SORTING_KEY k\n"
COUNTS = "SCHEMA >\n    k String,\n    c UInt64\n\nENGINE SummingMergeTree\nENGINE_SORTING_KEY k\n"


def copy_pipe(sql: str, target: str, mode: str = "append", schedule: str = "@on-demand") -> str:
    head = f"NODE copied\nSQL >\n    {sql}\nTYPE copy\nTARGET_DATASOURCE {target}\n"
    return f"{head}COPY_MODE {mode}\nCOPY_SCHEDULE {schedule}\n"


def view_pipe(sql: str, target: str) -> str:
    return f"NODE seen\nSQL >\n    {sql}\nTYPE materialized\nDATASOURCE {target}\n"


def event(customer: str, amount: int, *, team: str = "red", action: str = "click", **extra: Any) -> dict[str, Any]:
    return {
        "timestamp": "2026-11-01 10:00:00",
        "customer_id": customer,
        "team": team,
        "action": action,
        "amount": amount,
        **extra,
    }


# A's amounts are below 100; every row of B carries the canary 987654321.
CANARY = 987654321
ROWS: list[dict[str, Any]] = [
    event("a", 1),
    event("a", 2, team="blue"),
    event("a", 3, action="view"),
    event("b", CANARY, action="canary_b_action", team="canary_b_team"),
    event("b", CANARY + 1, team="red"),
]


def column(rows: Iterable[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]

"""The rows, tables and endpoints that the three services of `peers.py` share. Tenant a has a few rows, b has many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from peer_services import CANARY, Endpoint

_POLICY = "\nROW_POLICY >\n    customer_id = {{String(context.customer_id)}}\n"
_B_ROWS = 20_000

# name -> (columns, engine and key)
TABLES: Mapping[str, tuple[Mapping[str, str], str, str]] = {
    "events": (
        {"customer_id": "String", "id": "UInt32", "day": "Date", "action": "String"}
        | {"label": "String", "amount": "Int64"},
        "MergeTree",
        "customer_id, id",
    ),
    "ledger": ({"account": "UInt32", "customer_id": "String", "amount": "Int64"}, "MergeTree", "account"),
    "daily": ({"customer_id": "String", "day": "Date", "total": "Int64"}, "SummingMergeTree", "customer_id, day"),
}
# Two tenants' rows can have the same key.
_PROFILES = ({"user_id": "UInt32", "customer_id": "String", "version": "UInt32"}, "ReplacingMergeTree", "user_id")
# Filled from events, and without the tenant's column: the rows of all of them in one.
_ALL_DAYS = ({"day": "Date", "total": "Int64"}, "SummingMergeTree", "day")
_DAILY_SQL = "SELECT customer_id, day, sum(amount) AS total FROM {events} GROUP BY customer_id, day"
_ALL_DAYS_SQL = "SELECT day, sum(amount) AS total FROM {events} GROUP BY day"

LATEST = Endpoint(
    "latest",
    "SELECT id, action, amount FROM events WHERE action != {without:String} ORDER BY id LIMIT 100",
    "SELECT id, action, amount FROM events WHERE customer_id = {customer_id:String} AND action != {without:String} "
    "ORDER BY id LIMIT 100",
    pipe="%\nSELECT id, action, amount FROM events WHERE action != {{String(without, 'none')}} ORDER BY id LIMIT 100",
)
# For the load: one that answers from its cache, and one whose responses are old after a second.
CACHED = (
    LATEST,
    replace(LATEST, name="latest_cached", cache=3600),
    replace(LATEST, name="latest_shared", cache=1),
)


def project() -> dict[str, str]:
    """Pipit's: a policy on every table with the tenant's column."""
    files = {f"datasources/{name}.datasource": _datasource(*table) + _POLICY for name, table in TABLES.items()}
    return files | {"materializations/by_day.pipe": _materialized(_DAILY_SQL, "daily")}


def all_days() -> dict[str, str]:
    """Pipit's files for the table that has every tenant's rows in one, which has no column to filter by."""
    return {
        "datasources/all_days.datasource": _datasource(*_ALL_DAYS),
        "materializations/by_all.pipe": _materialized(_ALL_DAYS_SQL, "all_days"),
    }


def profiles() -> dict[str, str]:
    return {"datasources/profiles.datasource": _datasource(*_PROFILES) + _POLICY}


def ddl(database: str) -> list[str]:
    """The peers': the same tables, and what stands beside tables in a ClickHouse that has grown."""
    made = [f"CREATE DATABASE `{database}`"]
    for name, (columns, engine, key) in {**TABLES, "all_days": _ALL_DAYS, "profiles": _PROFILES}.items():
        listed = ", ".join(f"{column} {type}" for column, type in columns.items())
        made.append(f"CREATE TABLE `{database}`.{name} ({listed}) ENGINE = {engine} ORDER BY ({key})")
    events = f"`{database}`.events"
    for name, sql, target in (("by_day", _DAILY_SQL, "daily"), ("by_all", _ALL_DAYS_SQL, "all_days")):
        made.append(
            f"CREATE MATERIALIZED VIEW `{database}`.{name} TO `{database}`.{target} AS {sql.format(events=events)}"
        )
    made.append(
        f"CREATE DICTIONARY `{database}`.labels (id UInt32, label String, customer_id String) PRIMARY KEY id "
        f"SOURCE(CLICKHOUSE(QUERY 'SELECT id, label, customer_id FROM {database}.events')) LAYOUT(HASHED()) LIFETIME(0)"
    )
    return made


def rows(names: Mapping[str, str], *, with_b: bool) -> list[str]:
    """INSERTs, the views fill the rest. b's events lie in the same part as a's."""
    events, ledger, profiles = names["events"], names["ledger"], names.get("profiles")
    b_values = f"'b', 100 + number, '2026-01-01', 'canary_b', 'canary_b', {CANARY}"
    b_events = f"UNION ALL SELECT {b_values} FROM numbers({_B_ROWS})"
    b_ledger = f"UNION ALL SELECT if(number < 4, 1, 70) + number, 'b', {CANARY} FROM numbers({_B_ROWS})"
    made = [
        f"INSERT INTO {events} SELECT 'a' AS customer_id, number + 1 AS id, toDate('2026-01-01') AS day, "
        f"'view' AS action, toString(number + 1) AS label, toInt64(number + 1) AS amount FROM numbers(3) "
        f"{b_events if with_b else ''}",
        f"INSERT INTO {ledger} SELECT toUInt32(6) AS account, 'a' AS customer_id, toInt64(1) AS amount "
        f"{b_ledger if with_b else ''}",
    ]
    for customer, version in (("a", 1), ("b", 2)) if profiles else ():
        if customer == "a" or with_b:
            made.append(f"INSERT INTO {profiles} SELECT 1, '{customer}', {version}")
    return made


def _datasource(columns: Mapping[str, str], engine: str, key: str) -> str:
    listed = ",\n".join(f"    `{name}` {type} `json:$.{name}`" for name, type in columns.items())
    return f"SCHEMA >\n{listed}\n\nENGINE {engine}\nENGINE_SORTING_KEY {key}\n"


def _materialized(sql: str, target: str) -> str:
    return f"NODE roll\nSQL >\n    {sql.format(events='events')}\nTYPE materialized\nDATASOURCE {target}\n"

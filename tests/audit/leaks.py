"""Copies of the demo project with one leak planted in each, and how to take out the defence that would stop it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pipit.audit.prove.harness import ProofHarness, World
from pipit.datafiles import read_project
from pipit.deploy.validate import Findings, validate
from pipit.query import compose, examine, planner, read, secure
from pipit.query.plan import Plan
from pipit.query.planner import Draft, Planner
from pipit.sql.identifiers import quote

ROOT = Path(__file__).parents[2]
_KEPT = ("datasources/", "pipes/rollup_usage.pipe", "pipes/usage_in_range.pipe", "pipes/teams.pipe")

Patch = pytest.MonkeyPatch


def demo() -> dict[str, str]:
    """The demo project's data sources, its rollup and what stands on it."""
    return {path: text for path, text in read_project(ROOT).items() if path.startswith(_KEPT)}


def without_policies(files: dict[str, str]) -> dict[str, str]:
    found = {}
    for path, text in files.items():
        kept = text.split("\n# Who may see")[0].split("\n# A table that is filled")[0].split("\nROW_POLICY")[0]
        found[path] = kept + "\n" if path.endswith(".datasource") else text
    return found


def endpoint(sql: str) -> str:
    return f"NODE endpoint\nSQL >\n    {sql.strip()}\n\nTYPE endpoint\n"


@dataclass(frozen=True)
class Leak:
    """`take_out` removes the product's defence; None: there is none to remove, only the proof can find it."""

    name: str
    files: dict[str, str]
    endpoint: str = "planted"
    take_out: Callable[[Patch], None] | None = None
    kinds: tuple[str, ...] = ("rows",)
    refused: str = ""  # what the product says with its defence in place


def _pipe(sql: str) -> dict[str, str]:
    return demo() | {"pipes/planted.pipe": endpoint(sql)}


def _open(name: str, sql: str) -> dict[str, str]:
    return without_policies(demo()) | {f"pipes/{name}.pipe": endpoint(sql)}


def _view() -> dict[str, str]:
    files = _pipe("SELECT feature, sum(events) AS uses FROM usage_hourly GROUP BY feature ORDER BY feature")
    view = files["pipes/rollup_usage.pipe"]
    # The hour's rows of a team go to whoever comes first.
    view = view.replace("        customer_id,\n", "        any(events.customer_id) AS customer_id,\n")
    files["pipes/rollup_usage.pipe"] = view.replace("GROUP BY hour, customer_id, team", "GROUP BY hour, team")
    return files


def _target() -> dict[str, str]:
    files = _pipe("SELECT feature, sum(events) AS uses FROM usage_hourly GROUP BY feature ORDER BY feature")
    target = "datasources/usage_hourly.datasource"
    files[target] = without_policies({target: files[target]})[target]
    return files


def _no_lineage(patch: Patch) -> None:
    patch.setattr(secure, "_has_policed_source", lambda *_: "")


def _no_examination(patch: Patch) -> None:
    patch.setattr(examine, "check_text", lambda sql: None)
    patch.setattr(examine, "_check", lambda reads, composed: None)


def _any_table_function(patch: Patch) -> None:
    _no_examination(patch)
    patch.setattr(compose, "ALLOWED_TABLE_FUNCTIONS", compose.ALLOWED_TABLE_FUNCTIONS | {"merge"})


def _inner_settings(patch: Patch) -> None:
    """The setting is not refused, and the read is not read-only."""
    _no_examination(patch)
    plan = Planner.plan

    async def writable(self: Planner, draft: Draft, **options: Any) -> Plan:
        found = await plan(self, draft, **options)
        return replace(found, settings={k: v for k, v in found.settings.items() if k != "readonly"})

    patch.setattr(Planner, "plan", writable)


def _dictionary(patch: Patch) -> None:
    """A dictionary over a policed table, in each of the proof's workspaces."""
    _no_examination(patch)

    async def no_findings(*args: Any, **options: Any) -> Findings:
        return replace(await validate(*args, **options), errors=())

    patch.setattr("pipit.deploy.deployer.validate", no_findings)
    deploy = ProofHarness.deploy

    async def with_dictionary(self: ProofHarness, name: str, files: Any) -> tuple[World, dict[str, str], dict[str, str]]:
        world, left, refused = await deploy(self, name, files)
        table = world.snapshot.tables["contracts"]
        await self.engine.command(
            f"CREATE DICTIONARY {quote(table.database)}.seats (plan String, seats UInt32) PRIMARY KEY plan "
            f"SOURCE(CLICKHOUSE(QUERY 'SELECT plan, max(seats) AS seats FROM {table.database}.{table.physical} "
            "GROUP BY plan')) LAYOUT(COMPLEX_KEY_HASHED()) LIFETIME(0)"
        )
        load = world.load

        async def reloading(rows: Any) -> None:
            await load(rows)
            await self.engine.command(f"SYSTEM RELOAD DICTIONARY {quote(table.database)}.seats")

        patch.setattr(world, "load", reloading)
        return world, left, refused

    patch.setattr(ProofHarness, "deploy", with_dictionary)


def _one_key(patch: Patch) -> None:
    """The cache forgets who asks."""
    patch.setattr(read, "key_of", lambda plan: f"{plan.read.snapshot.workspace.id} {plan.read.query.name}".encode())


def _statistics(patch: Patch) -> None:
    patch.setattr(planner, "STRICT", {})


_ALL = "{% if not defined(everything) %} WHERE customer_id = {{String(customer_id)}} {% end %}"

LEAKS = (
    Leak("view", _view()),
    Leak("target", _target(), take_out=_no_lineage, refused="made from"),
    Leak(
        "dictionary",
        _pipe("SELECT DISTINCT plan, dictGetOrDefault('seats', 'seats', toString(plan), 0) AS seats FROM events"),
        take_out=_dictionary,
        refused="dictGetOrDefault",
    ),
    Leak(
        "merge",
        _pipe("SELECT feature, count() AS uses FROM merge('^d1_events$') GROUP BY feature ORDER BY feature"),
        take_out=_any_table_function,
        refused="table function 'merge' is not allowed",
    ),
    Leak(
        "inner settings",
        _pipe("SELECT count() AS n FROM (SELECT * FROM events SETTINGS additional_table_filters = {'nothing': '1'})"),
        take_out=_inner_settings,
        refused="additional_table_filters",
    ),
    Leak(
        "cache key",
        _pipe("%\n    {{cache_ttl('1h')}} SELECT feature, count() AS n FROM events GROUP BY feature ORDER BY feature"),
        take_out=_one_key,
    ),
    Leak(
        "side statistics",
        _pipe("SELECT feature, count() AS uses FROM events GROUP BY feature ORDER BY feature"),
        take_out=_statistics,
        kinds=("counts",),
    ),
)
# Nothing but the SQL of an endpoint, where tokens fix a parameter: no defence could be there.
OPEN = (
    Leak(
        "guarded filter",
        _open("guarded_filter", f"%\n    SELECT count() AS n FROM events {_ALL}"),
        endpoint="guarded_filter",
    ),
    Leak(
        "default value",
        _open(
            "default_value",
            "%\n    SELECT count() AS n FROM events WHERE {{String(customer, 'all')}} IN ('all', customer_id)",
        ),
        endpoint="default_value",
    ),
    Leak(
        "union",
        _open(
            "united",
            "%\n    SELECT count() AS n FROM (SELECT * FROM events WHERE customer_id = {{String(customer_id)}} "
            "UNION ALL SELECT * FROM events WHERE status >= 500)",
        ),
        endpoint="united",
    ),
    Leak(
        "wrong table's column",
        _open(
            "wrong_tables_column",
            "%\n    SELECT e.feature AS feature, count() AS n FROM events AS e "
            "INNER JOIN contracts AS c ON c.plan = e.plan WHERE c.customer_id = {{String(customer_id)}} "
            "GROUP BY feature ORDER BY feature",
        ),
        endpoint="wrong_tables_column",
    ),
    Leak(
        "share of all",
        _open(
            "share_of_all",
            "%\n    SELECT round(count() / (SELECT count() FROM events), 3) AS share FROM events "
            "WHERE customer_id = {{String(customer_id)}}",
        ),
        endpoint="share_of_all",
    ),
)

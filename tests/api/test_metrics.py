"""/metrics: who may read it, that it counts, and that no tenant stands in it. The dashboard and the page name what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from pages import DOCS, tables
from serving import Workspace

pytestmark = pytest.mark.anyio

TABLE = "SCHEMA >\n    tenant String `json:$.tenant`,\n    n Int8 `json:$.n`\n\nENGINE MergeTree\nENGINE_SORTING_KEY tenant\n"
PIPE = "NODE n\nSQL >\n    %\n    SELECT count() AS n FROM t WHERE tenant = {{String(tenant, '')}}\nTYPE endpoint\n"
TOKEN = "metrics-" + "0123456789abcdef" * 4


@pytest.fixture
def opened(workspace: Workspace) -> Iterator[str]:
    object.__setattr__(workspace.server.config, "metrics_token", TOKEN)
    yield TOKEN
    object.__setattr__(workspace.server.config, "metrics_token", "")


async def scraped(workspace: Workspace) -> dict[str, list[Any]]:
    reply = await workspace.get("/metrics", token=TOKEN)
    assert reply.status == 200, reply.text
    assert reply.headers["Content-Type"].startswith("text/plain")
    found: dict[str, list[Any]] = {}
    for family in text_string_to_metric_families(reply.text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


def value(found: dict[str, list[Any]], name: str, **labels: str) -> float:
    return sum(s.value for s in found.get(name, []) if labels.items() <= s.labels.items())


async def test_only_who_runs_the_server_reads_them(workspace: Workspace, opened: str) -> None:
    default = workspace.server.catalog.default.workspace.admin_token
    assert (await workspace.get("/metrics", token=default)).status == 200
    tenant = workspace.jwt({"type": "ADMIN", "resource": ""}, context={"tenant": "a"})
    for token in (None, "admin", tenant, "", "nonsense", TOKEN[:-1]):
        assert (await workspace.get("/metrics", token=token)).status == 403, token
    for path in ("/v0/pipes", "/v0/datasources", "/v0/sql?q=SELECT%201"):
        assert (await workspace.get(path, token=TOKEN)).status == 403, "it opens nothing else"
    object.__setattr__(workspace.server.config, "metrics_token", "")
    for token in (TOKEN, ""):
        assert (await workspace.get("/metrics", token=token)).status == 403


async def test_reads_events_and_jobs_are_counted_without_a_tenants_name(workspace: Workspace, opened: str) -> None:
    await workspace.deploy({"datasources/t.datasource": TABLE, "pipes/p.pipe": PIPE})
    here = {"workspace": workspace.name}
    scope = {"type": "PIPES:READ", "resource": "p", "fixed_params": {"tenant": "canary-tenant"}}
    token = workspace.jwt(scope, name="canary-name", context={"tenant": "canary-context"})
    await workspace.send("t", [{"tenant": "canary-row", "n": 1}, {"tenant": "canary-row", "n": "x"}])
    assert (await workspace.get("/v0/pipes/p.json", token=token)).status == 200
    assert (await workspace.get("/v0/pipes/p.json?limit=canary-value", token=token)).status in (200, 400)
    assert (await workspace.get("/v0/pipes/canary-pipe.json")).status == 404
    reply = await workspace.post("/v0/datasources/t/quarantine/replay")
    await workspace.server.jobs.ended(reply.json["job_id"])
    found = await scraped(workspace)
    assert value(found, "pipit_reads_total", pipe="p", status="200", **here) >= 1
    assert value(found, "pipit_reads_total", pipe="other", status="404", **here) == 1
    assert value(found, "pipit_read_duration_seconds_count", pipe="p", **here) >= 1
    assert value(found, "pipit_ingest_rows_total", datasource="t", **here) == 2
    assert value(found, "pipit_ingest_inserted_rows_total", datasource="t", **here) == 1
    assert value(found, "pipit_ingest_quarantined_rows_total", datasource="t", **here) == 1
    assert value(found, "pipit_jobs_total", kind="replay_quarantine", status="done", **here) == 1
    assert (value(found, "pipit_engine_up"), value(found, "pipit_engine_restarts_total")) == (1, 0)
    assert value(found, "process_resident_memory_bytes") > 0
    again = await scraped(workspace)
    assert value(again, "pipit_ingest_rows_total", datasource="t", **here) == 2, "a second scrape takes nothing away"
    assert "canary" not in (await workspace.get("/metrics", token=TOKEN)).text


async def test_the_page_the_dashboard_and_the_alerts_name_what_there_is(workspace: Workspace, opened: str) -> None:
    text = (await workspace.get("/metrics", token=TOKEN)).text
    named = re.compile(r"\b(?:pipit|process)_[a-z_]+")
    families = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    samples = families | {f"{name}_bucket" for name in families}
    for file in ("grafana.json", "alerts.yaml"):
        path = DOCS / "deploy" / file
        used = set(named.findall(path.read_text()))
        assert used and used <= samples, used - samples
    (table,) = tables(DOCS / "metrics.md")
    ours = {name for name in families if name.startswith("pipit_") and not name.endswith("_created")}
    assert set(table.names()) == ours
    panels = json.loads((DOCS / "deploy" / "grafana.json").read_text())["panels"]
    assert all(target["expr"] for panel in panels for target in panel["targets"])
    (group,) = yaml.safe_load((DOCS / "deploy" / "alerts.yaml").read_text())["groups"]
    assert all(rule["expr"] and rule["annotations"]["summary"] for rule in group["rules"])

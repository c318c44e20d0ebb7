"""Pages of the docs, run as they stand: their `sh` blocks in order, on a server of their own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

from pages import DOCS, blocks, run_blocks

SERVE = """
pipit init shop
cd shop
pipit serve > serve.log 2>&1 &
curl --silent --retry 60 --retry-delay 1 --retry-connrefused http://localhost:7181/v0/health
pipit datasource append events fixtures/events.ndjson
ADMIN=$(cat .pipit/admin_token)
"""


def test_http(tmp_path: Path) -> None:
    _, reads, events, sql = run_blocks([SERVE, *blocks(DOCS / "reference" / "http.md", "sh")], tmp_path)
    first, at = json.JSONDecoder().raw_decode(reads)
    assert [row["feature"] for row in first["data"]] == re.findall(r'"feature":"(\w+)"', reads[at:]) != []
    assert re.search(r'"features"\s+\d+\s*$', reads)
    assert '{"successful_rows":1,"quarantined_rows":0}' in events and '{"successful_rows":0,"quarantined_rows":1}' in events
    counted, at = json.JSONDecoder().raw_decode(sql)
    assert int(counted["data"][0]["events"]) > int(sql[at:]) > 0


def test_testing(tmp_path: Path) -> None:
    page = DOCS / "testing.md"
    *before, clock = blocks(page, "sh")
    quality = "cat > tests/quality.yaml <<'YAML'\n" + "".join(blocks(page, "yaml")) + "YAML\n"
    *_, ran, still = run_blocks([*before, quality + clock], tmp_path)
    shown = re.findall(r"^    (ok .+)$", page.read_text(), re.MULTILINE)
    assert shown and all(line in ran for line in shown) and f"{len(shown)} passed" in ran
    written = (tmp_path / "shop" / "tests" / "daily_usage.yaml").read_text()
    assert written.count('{"day":') > 1 and "FAIL" not in ran
    suites = ElementTree.parse(tmp_path / "shop" / "report.xml").getroot()
    assert [suite.get("tests") for suite in suites] == ["2", "4"]
    assert "The clock stands at 2026-03-10 12:00:00 UTC" in still and f"{len(shown) + 2} passed" in still


def test_ask_as_a_tenant(tmp_path: Path) -> None:
    """The cases that the page shows, on a project that they fit."""
    files = {
        "orders.datasource": "SCHEMA >\n    `customer_id` String `json:$.customer_id`,\n    `team` String `json:$.team`\n\n"
        "ENGINE MergeTree\nENGINE_SORTING_KEY customer_id\n\n"
        "ROW_POLICY >\n    customer_id = {{String(context.customer_id)}}\n"
        "    {% if defined(context.team) %} AND team = {{String(context.team)}} {% end %}\n\nROW_POLICY_OPTIONAL team\n",
        "orders_of.pipe": "NODE n\nSQL >\n    SELECT customer_id, count() AS orders FROM orders\n    GROUP BY customer_id\n"
        "    ORDER BY customer_id\n\nTYPE endpoint\n",
        "fixtures/orders.ndjson": '{"customer_id":"acme","team":"sales"}\n' * 2 + '{"customer_id":"globex","team":"x"}\n',
        "tests/orders_of.yaml": "".join(blocks(DOCS / "testing.md", "yaml as")),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (ran,) = run_blocks(["pipit test"], tmp_path)
    assert "5 passed" in ran and "warning" not in ran, ran


def test_copies_and_jobs(tmp_path: Path) -> None:
    _, ran, paused, asked = run_blocks(blocks(DOCS / "copies-and-jobs.md", "sh"), tmp_path)
    rows = re.findall(r'^"(\w+)",(\d+)$', ran, re.MULTILINE)
    assert rows and "reports" not in dict(rows) and "done" in ran
    assert "paused" in paused and "count_uses" in paused
    assert '"status":"done"' in asked

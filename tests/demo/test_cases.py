"""The demo project's own cases (`tests/*.yaml`, in the dialect's form) on its fixtures, byte for byte.

The fixtures are dated in 2035, so that no time window and no TTL lets them go.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving import Workspace

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
CASES = {
    f"{path.stem}-{case['name']}": (path.stem, case)
    for path in sorted((ROOT / "tests").glob("*.yaml"))
    for case in yaml.safe_load(path.read_text())
}


@pytest.fixture(scope="module")
async def workspace_with_fixtures(shared_workspace: Workspace) -> Workspace:
    workspace = shared_workspace
    files = {
        str(path.relative_to(ROOT)): path.read_text()
        for folder in ("datasources", "pipes", "connectors")
        for path in sorted((ROOT / folder).iterdir())
    }
    await workspace.deploy(files)
    for path in sorted((ROOT / "fixtures").glob("*.ndjson")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        reply = await workspace.send(path.stem, rows)
        assert reply.json == {"successful_rows": len(rows), "quarantined_rows": 0}, reply.text
    return workspace


def test_every_endpoint_has_cases() -> None:
    endpoints = {p.stem for p in (ROOT / "pipes").glob("*.pipe") if "TYPE endpoint" in p.read_text()}
    assert len(endpoints) >= 6
    assert {pipe for pipe, _ in CASES.values()} == endpoints


@pytest.mark.parametrize("name", CASES)
async def test_case(name: str, workspace_with_fixtures: Workspace) -> None:
    pipe, case = CASES[name]
    expected: dict[str, Any] = {"status": case.get("expected_http_status", 200), "text": case["expected_result"]}
    workspace = workspace_with_fixtures
    token = workspace.tenant(pipe, **case["as"]) if "as" in case else workspace.admin_token
    reply = await workspace.get(f"/v0/pipes/{pipe}.ndjson?{case.get('parameters', '')}", token=token)
    text = reply.text if reply.status == 200 else reply.json["error"]
    assert {"status": reply.status, "text": text} == expected

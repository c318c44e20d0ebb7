"""A data directory that an earlier version wrote opens, serves the same answers, and goes on taking events.

Each folder of `WRITTEN` is one: what `write.py` left with that version's code. Its server was killed while events
that it had acknowledged were still in segments.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from upgrade.write import CUSTOMERS, Server, answers, event, lines, tenant

WRITTEN = [Path(__file__).parent / "0.1.0-f551e60"]


class Upgraded:
    """A copy of what one version left, to start servers on."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.project = folder / "project"
        self.data = folder / "data"
        self.kept: dict[str, Any] = json.loads((source / "answers.json").read_text())
        shutil.copytree(source / "project", self.project)
        with tarfile.open(source / "data.tar.gz") as archive:
            archive.extractall(folder, filter="data")
        self.servers: list[Server] = []

    def start(self) -> Server:
        self.servers.append(Server(self.project, self.data))
        return self.servers[-1]


@pytest.fixture(params=WRITTEN, ids=lambda path: path.name)
def upgraded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Upgraded]:
    found = Upgraded(request.param, tmp_path)
    yield found
    for server in found.servers:
        server.stop()


def test_it_opens_serves_and_goes_on(upgraded: Upgraded) -> None:
    kept = upgraded.kept
    server = upgraded.start()
    # The acknowledged events of the killed server, once each.
    before = server.count("events")
    expected = len(kept["answers"]["admin latest.json"]) + 5
    server.wait_for(lambda: server.count("events") == expected, f"{expected} events, {before} at first")
    now = answers(server)
    users = [row["user_id"] for row in now["globex latest.json"] if row["timestamp"].startswith("2035-03-02")]
    assert users == [f"u{n}" for n in range(5)]
    for asked, rows in kept["answers"].items():
        if "latest" in asked:
            assert [row for row in now[asked] if not row["timestamp"].startswith("2035-03-02")] == rows, asked
        elif "usage_all" not in asked:
            assert now[asked] == rows, asked
    for customer in CUSTOMERS:
        added = 5 if customer == "globex" else 0
        was, is_now = (sum(row["events"] for row in a[f"{customer} usage_all.json"]) for a in (kept["answers"], now))
        assert is_now == was + added, customer

    # Tokens, secrets, the environment, jobs and the quarantine are what they were.
    assert sorted(token["name"] for token in server.ask("GET", "/v0/tokens")["tokens"]) == kept["tokens"]
    assert server.ask("GET", "/v0/pipes/latest.json", token=kept["reader"])["rows"] == expected
    assert server.ask("GET", "/v0/variables/a_secret")["name"] == "a_secret"
    assert server.ask("GET", f"/v0/jobs/{kept['job']}")["status"] == "done"
    assert server.count("events_quarantine") == kept["quarantined"]

    # It goes on: events of the workspace and of the environment, views, copies.
    server.ask("POST", "/v0/events?name=events&wait=true", lines(event("acme", "new", 1, day=3)))
    sent = lines(event("initech", "peter", 1, day=3))
    server.ask("POST", "/v0/events?name=events&wait=true", sent, token=kept["initech_ingest"])
    server.ask("POST", "/v0/events?name=readings&wait=true", lines({"customer_id": "acme", "value": 7}))
    job = server.ask("POST", "/v0/pipes/count_uses/copy")["job"]["job_id"]
    server.wait_for(lambda: server.ask("GET", f"/v0/jobs/{job}")["status"] == "done", "the copy is done")
    check_what_was_added(server, now)
    server.stop()

    # And again, as any data directory of this version.
    check_what_was_added(upgraded.start(), now)


def test_its_secrets_are_encrypted_by_a_key_that_is_new(upgraded: Upgraded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPIT_SECRETS_KEY", "the key of the tests")
    for _ in range(2):
        server = upgraded.start()
        assert server.ask("GET", "/v0/variables/a_secret")["name"] == "a_secret"
        assert sorted(token["name"] for token in server.ask("GET", "/v0/tokens")["tokens"]) == upgraded.kept["tokens"]
        assert server.ask("GET", "/v0/pipes/latest.json", token=upgraded.kept["reader"])["rows"]
        server.stop()
    held = [path for path in upgraded.data.rglob("*") if path.is_file() and b"a_secret\x04kept" in path.read_bytes()]
    tokens = [path for path in upgraded.data.rglob("*") if path.is_file() and upgraded.kept["reader"].encode() in path.read_bytes()]
    assert (held, tokens) == ([], [])


def check_what_was_added(server: Server, before: dict[str, Any]) -> None:
    def users(customer: str, **claims: Any) -> list[str]:
        data = server.ask("GET", "/v0/pipes/latest.json", token=tenant(server, customer, **claims))["data"]
        return [row["user_id"] for row in data if row["timestamp"].startswith("2035-03-03")]

    assert (users("acme"), users("globex"), users("initech", environment="initech")) == (["new"], [], ["peter"])
    now = answers(server)
    used = {name: sum(row["events"] for row in a["acme usage_all.json"]) for name, a in (("was", before), ("is", now))}
    assert used["is"] == used["was"] + 1
    assert [row["value"] for row in now["acme narrow_all.json"]] == [5, 7]
    assert [row["value"] for row in now["globex narrow_all.json"]] == [6]
    copied = {row["feature"]: int(row["uses"]) for row in now["globex uses_counted.json"]}
    assert copied["reports"] == sum(row["feature"] == "reports" for row in now["globex latest.json"])

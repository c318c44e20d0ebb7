"""Writes a data directory with the code that is installed, for later versions to open (`test_upgrade.py`).

    PYTHONPATH=tests .venv/bin/python tests/upgrade/write.py tests/upgrade/NAME

NAME becomes a folder with the demo project as it was, the data directory (`data.tar.gz`), and what the server answered
before it was killed (`answers.json`). It is made once for a version, with that version's code, and never changed.
The server is killed while events that it acknowledged are still in segments, so a later version has to replay them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ports import free_port

ROOT = Path(__file__).parents[2]
FOLDERS = ("datasources", "pipes", "connectors", "fixtures")

COPY_TARGET = """SCHEMA >
    `customer_id` LowCardinality(String),
    `feature` LowCardinality(String),
    `uses` UInt64

ENGINE MergeTree
ENGINE_SORTING_KEY customer_id, feature

ROW_POLICY >
    customer_id = {{String(context.customer_id)}}
"""
COPY = """NODE counted
SQL >
    SELECT customer_id, feature, count() AS uses FROM events GROUP BY customer_id, feature

TYPE copy
TARGET_DATASOURCE uses
COPY_MODE replace
COPY_SCHEDULE 0 3 1 1 *
"""
USES = """NODE endpoint
SQL >
    SELECT customer_id, feature, uses FROM uses ORDER BY customer_id, feature

TYPE endpoint
"""
LATEST = """NODE endpoint
SQL >
    SELECT timestamp, customer_id, user_id, feature FROM events ORDER BY timestamp, customer_id, user_id, feature

TYPE endpoint
"""
# A view that narrows.
READINGS = """SCHEMA >
    `customer_id` String `json:$.customer_id`,
    `value` Int64 `json:$.value`

ENGINE MergeTree
ENGINE_SORTING_KEY customer_id

ROW_POLICY >
    customer_id = {{String(context.customer_id)}}
"""
NARROW = """SCHEMA >
    `customer_id` String,
    `value` Int8

ENGINE MergeTree
ENGINE_SORTING_KEY customer_id

ROW_POLICY >
    customer_id = {{String(context.customer_id)}}
"""
NARROWED = """NODE narrowing
SQL >
    SELECT customer_id, value FROM readings

TYPE materialized
DATASOURCE narrow
"""
NARROW_ALL = """NODE endpoint
SQL >
    SELECT customer_id, value FROM narrow ORDER BY value

TYPE endpoint
"""
# Endpoints whose answers do not depend on the time of day, and the contexts that they are asked with.
ENDPOINTS = ("latest.json", "uses_counted.json", "usage_all.json", "narrow_all.json")
USAGE_ALL = """NODE endpoint
SQL >
    SELECT customer_id, feature, sum(events) AS events, uniqMerge(users) AS users
    FROM usage_hourly GROUP BY customer_id, feature ORDER BY customer_id, feature

TYPE endpoint
"""
CUSTOMERS = ("acme", "globex")


class Server:
    """`pipit serve` over a project and a data directory, in a process of its own."""

    def __init__(self, project: Path, data: Path) -> None:
        self.data = data
        self.port = free_port()
        command = [str(Path(sys.executable).with_name("pipit")), "serve", "--project", str(project)]
        command += ["--data", str(data), "--port", str(self.port)]
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the server runs
        self.process = subprocess.Popen(command, stdout=self.output, stderr=subprocess.STDOUT)
        self.wait_for(lambda: self.call("GET", "/v0/health", token="")[0] == 200, "the server is up")

    def call(self, method: str, path: str, body: bytes | None = None, *, token: str | None = None) -> tuple[int, Any]:
        """Status and JSON of the answer; (0, None) where nothing listens."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body, method=method)
        request.add_header("Authorization", f"Bearer {self.admin if token is None else token}")
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.loads(response.read() or b"{}")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"{}")
        except OSError:
            return 0, None

    def ask(self, method: str, path: str, body: bytes | None = None, *, token: str | None = None) -> Any:
        status, answer = self.call(method, path, body, token=token)
        if not 200 <= status < 300:
            raise RuntimeError(f"{method} {path}: {status} {answer}")
        return answer

    def count(self, table: str) -> int:
        answer = self.ask("GET", f"/v0/sql?q={urllib.parse.quote(f'SELECT count() AS n FROM {table} FORMAT JSON')}")
        return int(answer["data"][0]["n"])

    @property
    def admin(self) -> str:
        return (self.data / "admin_token").read_text().strip()

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end or self.process.poll() is not None:
                self.output.seek(0)
                raise TimeoutError(f"{what}: not within {seconds} s\n{self.output.read().decode(errors='replace')}")
            time.sleep(0.05)

    def kill(self) -> None:
        """All processes at once, as a machine that loses its power."""
        pids = [self.process.pid]
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            pids += [int(pid) for pid in (task / "children").read_text().split()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.output.close()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.output.close()


def event(customer: str, user: str, second: int, *, day: int = 1) -> dict[str, Any]:
    return {
        "timestamp": f"2035-03-{day:02} 09:00:{second:02}.000", "customer_id": customer, "team": "sales", "user_id": user,
        "session": {"id": "s"}, "feature": "reports", "action": "open", "latency_ms": 12.5,
    }  # fmt: skip


def lines(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def tenant(server: Server, customer: str, **claims: Any) -> str:
    """A JWT that reads the endpoints, signed as a team's backend would do it."""
    import jwt

    workspace = server.ask("GET", "/v1/workspace")["id"]
    scopes = [{"type": "PIPES:READ", "resource": name.partition(".")[0]} for name in ENDPOINTS]
    payload = {"workspace_id": workspace, "name": customer, "exp": int(time.time()) + 3600, "scopes": scopes}
    return jwt.encode({**payload, "context": {"customer_id": customer}, **claims}, server.admin, algorithm="HS256")


def answers(server: Server) -> dict[str, Any]:
    """What each customer, the environment's and the workspace's own token read, by who asks and endpoint."""
    found: dict[str, Any] = {}
    for name in ENDPOINTS:
        for customer in CUSTOMERS:
            found[f"{customer} {name}"] = server.ask("GET", f"/v0/pipes/{name}", token=tenant(server, customer))["data"]
        initech = tenant(server, "initech", environment="initech")
        found[f"initech {name}"] = server.ask("GET", f"/v0/pipes/{name}", token=initech)["data"]
        found[f"admin {name}"] = server.ask("GET", f"/v0/pipes/{name}")["data"]
    return found


def write(folder: Path) -> None:
    project = folder / "project"
    for name in FOLDERS:
        shutil.copytree(ROOT / name, project / name)
    for name, text in (("uses", COPY_TARGET), ("readings", READINGS), ("narrow", NARROW)):
        (project / f"datasources/{name}.datasource").write_text(text)
    pipes = {"count_uses": COPY, "uses_counted": USES, "latest": LATEST, "usage_all": USAGE_ALL}
    for name, text in (pipes | {"narrowed": NARROWED, "narrow_all": NARROW_ALL}).items():
        (project / f"pipes/{name}.pipe").write_text(text)
    with tempfile.TemporaryDirectory() as temporary:
        server = Server(project, Path(temporary) / "data")
        data = server.data
        server.ask("POST", "/v0/variables?name=a_secret&value=kept")
        server.ask("POST", "/v0/tokens?name=reader&scope=PIPES:READ:latest")
        pipit = str(Path(sys.executable).with_name("pipit"))
        where = ["--data", str(data)]
        subprocess.run([pipit, *where, "environment", "add", "initech"], check=True)
        made = [pipit, *where, "token", "create", "static", "initech-ingest", "--scope", "DATASOURCES:APPEND:events"]
        ingest = subprocess.run([*made, "--environment", "initech"], check=True, capture_output=True, text=True).stdout
        for name in ("contracts", "events"):
            server.ask("POST", f"/v0/events?name={name}&wait=true", (project / f"fixtures/{name}.ndjson").read_bytes())
        server.ask("POST", "/v0/events?name=events&wait=true", lines(event("initech", "bill", 1)), token=ingest.strip())
        readings = lines({"customer_id": "acme", "value": 5}, {"customer_id": "globex", "value": 6})
        server.ask("POST", "/v0/events?name=readings&wait=true", readings)
        bad = {**event("acme", "ada", 1), "status": "not a number"}
        server.ask("POST", "/v0/events?name=events&wait=true", lines(bad, event("acme", "ada", 2)))
        job = server.ask("POST", "/v0/pipes/count_uses/copy")["job"]["job_id"]
        server.wait_for(lambda: server.ask("GET", f"/v0/jobs/{job}")["status"] == "done", "the copy is done")
        kept = {
            "answers": answers(server),
            "quarantined": server.count("events_quarantine"),
            "job": job,
            "tokens": sorted(token["name"] for token in server.ask("GET", "/v0/tokens")["tokens"]),
            "reader": server.ask("GET", "/v0/tokens/reader")["token"],
            "initech_ingest": ingest.strip(),
        }
        # Acknowledged, and not inserted yet when the power goes.
        pending = lines(*(event("globex", f"u{n}", n, day=2) for n in range(5)))
        while True:
            server.ask("POST", "/v0/events?name=events", pending)
            server.kill()
            kept["pending"] = sum(1 for _ in data.glob("segments/*/*/*.segment"))
            if kept["pending"]:
                break
            raise RuntimeError("the events were inserted before the kill: try again")
        (folder / "answers.json").write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
        with tarfile.open(folder / "data.tar.gz", "w:gz") as archive:
            archive.add(data, "data")


if __name__ == "__main__":
    write(Path(sys.argv[1]).absolute())

"""A real `pipit serve` in a process of its own, for tests that kill it in part or in full."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ports import free_port
from waiting import wait_for

PIPIT = Path(sys.executable).with_name("pipit")
FILES = {
    "datasources/events.datasource": "SCHEMA >\n    id UInt64 `json:$.id`\n\nENGINE MergeTree\nENGINE_SORTING_KEY id\n",
    "datasources/totals.datasource": (
        "SCHEMA >\n    one UInt8,\n    n SimpleAggregateFunction(sum, UInt64)\n\n"
        "ENGINE AggregatingMergeTree\nENGINE_SORTING_KEY one\n"
    ),
    "pipes/roll.pipe": (
        "NODE rolled\nSQL >\n    SELECT 1 AS one, count() AS n FROM events GROUP BY one\n"
        "TYPE materialized\nDATASOURCE totals\n"
    ),
    "pipes/counts.pipe": (
        "NODE endpoint\nSQL >\n"
        "    SELECT count() AS rows, uniqExact(id) AS ids, (SELECT sum(n) FROM totals) AS rolled FROM events\n"
        "TYPE endpoint\n"
    ),
}


def children_of(pid: int) -> list[int]:
    """The processes that this one started, of which one is an engine."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


class Served:
    """One `pipit serve` process of a project and a data directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, pipit: Path = PIPIT) -> None:
        command = [str(pipit), "serve", "--project", str(self.folder / "project")]
        command += ["--data", str(self.data), "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        wait_for(lambda: self.get("/v0/health")[0] == 200, what="the server is up")

    def kill_everything(self) -> None:
        assert self.process
        children = self.children()
        for pid in (self.process.pid, *children):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), what="all processes are gone")

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process and self.process.stdout:
            self.process.stdout.close()

    def children(self) -> list[int]:
        assert self.process
        return children_of(self.process.pid)

    def request(self, path: str, body: bytes | None = None, timeout: float = 60) -> tuple[int, Any]:
        token = (self.data / "admin_token").read_text().strip() if (self.data / "admin_token").exists() else "none"
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body)
        request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"{}")
        except OSError:
            return 0, None

    def get(self, path: str) -> tuple[int, Any]:
        return self.request(path)

    def send(self, ids: range, *, wait: bool) -> int:
        body = "".join(f'{{"id": {i}}}\n' for i in ids).encode()
        status, reply = self.request(f"/v0/events?name=events&wait={'true' if wait else 'false'}", body)
        if status in (200, 202):
            assert reply["successful_rows"] == len(ids) and reply["quarantined_rows"] == 0
        return status

    def counts(self) -> dict[str, int]:
        status, reply = self.get("/v0/pipes/counts.json")
        return {k: int(v) for k, v in reply["data"][0].items()} if status == 200 else {}


@contextmanager
def served(folder: Path, files: Mapping[str, str] = FILES) -> Iterator[Served]:
    for name, text in files.items():
        path = folder / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    server = Served(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()

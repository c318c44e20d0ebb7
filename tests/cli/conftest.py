"""The real command in real processes: a `pipit serve` that tests of a module share, and a way to run the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PIPIT = Path(sys.executable).with_name("pipit")
SECONDS = 180


class Shell:
    """Runs `pipit` in a folder, without what the surrounding shell may have set."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PIPIT_")}
        self.environment = kept | {"COLUMNS": "120"} | variables

    def __call__(self, *arguments: str, input: bytes = b"", **variables: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [PIPIT, *arguments],
            cwd=self.folder,
            env=self.environment | variables,
            input=input,
            capture_output=True,
            timeout=SECONDS,
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def ok(self, *arguments: str, **options: Any) -> str:
        """The standard output of a command that must not fail."""
        done = self(*arguments, **options)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    @contextmanager
    def serving(self, *arguments: str) -> Iterator[Serving]:
        """`pipit serve` on a free port, up. Ended with SIGTERM, if the test has not ended it."""
        output = self.folder / "serve.log"
        with output.open("ab") as sink:
            process = subprocess.Popen(
                [PIPIT, "serve", "--port", "0", *arguments],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )
        served = Serving(process, self.folder / ".pipit", output)
        try:
            served.wait_for(lambda: served.file.exists() or process.poll() is not None)
            assert process.poll() is None, output.read_text()
            yield served
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    raise


class Serving:
    def __init__(self, process: subprocess.Popen[bytes], data: Path, output: Path) -> None:
        self.process = process
        self.data = data
        self.file = data / "server.json"
        self.output = output

    @property
    def url(self) -> str:
        return str(json.loads(self.file.read_text())["url"])

    def wait_for(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.05)

    def wait_for_output(self, text: str) -> None:
        self.wait_for(lambda: text in self.output.read_text())

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def get(self, path: str, token: str) -> tuple[int, dict[str, Any]]:
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


EVENTS = """\
SCHEMA >
    `at` DateTime `json:$.at`,
    `tenant` String `json:$.tenant`,
    `amount` Int32 `json:$.amount`

ENGINE MergeTree
ENGINE_SORTING_KEY tenant, at

ROW_POLICY >
    tenant = {{String(context.tenant)}}
"""
TOTALS = """\
NODE endpoint
SQL >
    %
    SELECT tenant, sum(amount) AS total
    FROM sales
    WHERE amount >= {{Int32(least, 0)}}
    {% if defined(tenant) %} AND tenant = {{String(tenant)}} {% end %}
    GROUP BY tenant
    ORDER BY tenant

TYPE endpoint
"""
PROJECT = {"datasources/sales.datasource": EVENTS, "pipes/totals.pipe": TOTALS}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)

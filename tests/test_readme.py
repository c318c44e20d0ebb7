"""The README's tutorial, run as it stands: every `sh` block in order, in an empty folder, on a free port."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()

# Runs the JavaScript of the tutorial in a page of a real browser, with the customer's token.
IN_BROWSER = """
import json, os, shutil, sys
from playwright.sync_api import sync_playwright

script, port = sys.argv[1:]
names = (os.environ.get("PIPIT_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
found = next((path for name in names if name and (path := shutil.which(name))), None)
assert found, "No Chromium. Debian: apt-get install chromium; elsewhere name one in PIPIT_CHROMIUM."
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
    page = browser.new_page()
    page.goto(f"http://localhost:{port}/version")
    data = page.evaluate("async token => {" + open(script).read() + "; return data; }", os.environ["ACME"])
    print("browser", json.dumps(data))
    browser.close()
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_the_tutorial_runs_as_it_stands(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    (tmp_path / "browser.py").write_text(IN_BROWSER)
    (javascript,) = blocks("js")
    (tmp_path / "usage.js").write_text(javascript.replace("7181", port))
    *steps, stop = (b.replace("pipit serve", f"pipit serve --port {port}") for b in blocks("sh"))
    browser = f'ACME=$ACME "{sys.executable}" ../browser.py ../usage.js {port}\n'
    script = "set -euo pipefail\n" + "".join(
        f"printf '\\n--- block {number}\\n'\n{block.replace('7181', port)}"
        for number, block in enumerate([*steps, browser, stop])
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PIPIT_") or k == "PIPIT_CHROMIUM"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    # A session of its own, so that whatever the tutorial leaves running can be ended by its group.
    running = subprocess.Popen(
        [shutil.which("bash") or "bash", "-c", script], cwd=tmp_path, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = running.communicate(timeout=180)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGTERM)
    log = tmp_path / "usage" / "serve.log"
    assert running.returncode == 0, output + (log.read_text() if log.exists() else "")

    answers = re.split(r"^--- block \d+$\n?", output, flags=re.MULTILINE)[1:]
    assert '"successful_rows":1,"quarantined_rows":0' in answers[2].replace(" ", "")
    asked, tried = (json.loads(answers[number])["data"] for number in (5, 7))
    assert asked and tried == asked, "asking for another customer changed the answer"
    python = re.findall(r"^(\w+) ([\d.]+)$", answers[6], re.MULTILINE)
    assert [(row["feature"], row["p95_ms"]) for row in asked] == [(name, float(ms)) for name, ms in python]
    assert json.loads(answers[8].split("browser", 1)[1]) == asked

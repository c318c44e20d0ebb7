"""The README's tutorial, run as it stands: every `sh` block in order, in an empty folder, on a free port."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from pages import ROOT, blocks, run_blocks

README = ROOT / "README.md"

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
    text = open(script).read().replace("7181", port)
    data = page.evaluate("async token => {" + text + "; return data; }", os.environ["ACME"])
    print("browser", json.dumps(data))
    browser.close()
"""


def test_the_tutorial_runs_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "browser.py").write_text(IN_BROWSER)
    (javascript,) = blocks(README, "js")
    (tmp_path / "usage.js").write_text(javascript)
    *steps, stop = blocks(README, "sh")
    browser = f'ACME=$ACME "{sys.executable}" ../browser.py ../usage.js 7181\n'
    answers = run_blocks([*steps, browser, stop], tmp_path)
    assert '"successful_rows":1,"quarantined_rows":0' in answers[2].replace(" ", "")
    asked, tried = (json.loads(answers[number])["data"] for number in (5, 7))
    assert asked and tried == asked, "asking for another customer changed the answer"
    python = re.findall(r"^(\w+) ([\d.]+)$", answers[6], re.MULTILINE)
    assert [(row["feature"], row["p95_ms"]) for row in asked] == [(name, float(ms)) for name, ms in python]
    assert json.loads(answers[8].split("browser", 1)[1]) == asked

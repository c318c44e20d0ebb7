"""`make docs`: the site builds without a warning, works from the disk without a network, and a dead link fails it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from pages import DOCS

# What a newcomer looks for, and the heading that answers.
SEARCHED = {
    "pagination": "Pagination: page through an answer",
    "rename column": "Rename a column",
    "backup": "Back up and restore",
}


def build(docs: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """As `make docs` does."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(site.parent / "doctrees")]
    return subprocess.run([*command, str(docs), str(site)], capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    built = build(DOCS, folder)
    assert built.returncode == 0, built.stderr
    return folder


def test_every_page_is_there_and_in_the_navigation(site: Path) -> None:
    index = (site / "index.html").read_text()
    for page in DOCS.rglob("*.md"):
        html = page.relative_to(DOCS).with_suffix(".html").as_posix()
        assert (site / html).is_file() and (html == "index.html" or f'href="{html}"' in index), html
    tutorial = (site / "tutorial.html").read_text()
    assert 'href="policies.html"' in tutorial and 'href="docs/' not in tutorial


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loaded = re.compile(r'<(?:script|link|img|iframe)\b[^>]*(?:src|href)="(?:https?:)?//')
    for page in site.rglob("*.html"):
        assert not loaded.search(page.read_text()), page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)[\"' ]*(?:https?:)?//", sheet.read_text()), sheet.name


def test_in_a_browser_from_the_disk(site: Path) -> None:
    """Search finds, tables fit, and no request leaves the machine."""
    names = (os.environ.get("PIPIT_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    assert found, "No Chromium. Debian: apt-get install chromium; elsewhere name one in PIPIT_CHROMIUM."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1400, "height": 900}, offline=True).new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"file://{site}/index.html")
        page.get_by_placeholder("Search").fill("Idempotency-Key")
        page.keyboard.press("Enter")
        page.locator("#search-results a", has_text="HTTP").first.click()
        expect(page.get_by_role("heading", name="POST /v0/events")).to_be_visible()
        for words, heading in SEARCHED.items():
            page.goto(f"file://{site}/index.html")
            page.get_by_placeholder("Search").fill(words)
            page.keyboard.press("Enter")
            page.locator("#search-results a", has_text="How do I").first.click()
            expect(page.get_by_role("heading", name=heading)).to_be_visible()
        expect(page.locator("button.copybtn").first).to_be_attached()
        assert page.locator(".highlight-pipe .kd").count() == 3  # directives are shown as such
        too_wide = "[...document.querySelectorAll('.table-wrapper')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
        for html in sorted(site.glob("reference/*.html")):
            page.goto(f"file://{html}")
            assert page.evaluate(too_wide) == 0, html.name
        assert all(url.startswith("file://") for url in asked)
        browser.close()


@pytest.mark.parametrize("link", ["[x](no_such_page.md)", "[x](http.md#no-such-heading)"])
def test_a_dead_link_fails_the_build(tmp_path: Path, link: str) -> None:
    docs = tmp_path / "docs"
    (docs / "reference").mkdir(parents=True)
    shutil.copy(DOCS / "conf.py", docs)
    shutil.copytree(DOCS / "_site", docs / "_site")
    (docs / "index.md").write_text("# Title\n\n## Pages\n\n- [Errors](reference/errors.md)\n- [HTTP](reference/http.md)\n")
    (docs / "reference" / "http.md").write_text("# HTTP\n")
    (docs / "reference" / "errors.md").write_text(f"# Errors\n\n{link}\n")
    built = build(docs, tmp_path / "site")
    assert built.returncode != 0 and "errors.md" in built.stderr

"""The demo as a newcomer meets it: `pipit serve --demo`, the page in Chromium, and the printed curl lines.

Screenshots land in pytest's temporary folder (`demo-shots`), to be looked at.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from ports import free_port

ROOT = Path(__file__).parents[2]
REBOUND = "rebound.example"  # a web site's own name that points at this machine
CHROMIUM_ARGUMENTS = [
    "--no-sandbox", "--disable-quic", "--disable-background-networking",
    f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1",
]  # fmt: skip


@dataclass
class Served:
    """A running `pipit serve --demo`."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    shots: Path

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def until(self, what: str, check: Callable[[], bool], seconds: float = 90) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, f"pipit serve ended\n{self.said()}"
            if check():
                return
            time.sleep(0.1)
        pytest.fail(f"{what}: not within {seconds:.0f} s\n{self.said()}")

    def json(self, path: str, token: str = "") -> Any:
        request = urllib.request.Request(self.url + path)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)

    def viewer(self, name: str) -> str:
        """The token that the page would hold for this viewer."""
        return next(v["token"] for v in self.json("/demo/session.json")["viewers"] if v["id"] == name)

    def live(self) -> bool:
        """The history is in and events of this minute arrive."""
        try:
            rows = self.json("/v0/pipes/recent_activity.json?limit=1", self.viewer("acme"))["data"]
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        if not rows:
            return False
        latest = datetime.fromisoformat(rows[0]["timestamp"]).replace(tzinfo=UTC)
        return (datetime.now(UTC) - latest).total_seconds() < 30


@dataclass
class Seen:
    """What the page complained about while it was open."""

    errors: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    place = tmp_path_factory.mktemp("demo")
    project = place / "project"
    for folder in ("datasources", "pipes", "connectors"):
        shutil.copytree(ROOT / folder, project / folder)
    port = free_port()
    log = place / "serve.log"
    shots = tmp_path_factory.mktemp("demo-shots")
    command = [
        str(Path(sys.executable).with_name("pipit")), "serve", "--project", str(project),
        "--data", str(place / "data"), "--port", str(port), "--demo",
    ]  # fmt: skip
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PIPIT_")}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=place, env=clean)
    running = Served(f"http://127.0.0.1:{port}", process, log, shots)
    try:
        running.until("the demo is live", running.live)
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    candidates = (os.environ.get("PIPIT_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    found = next((path for name in candidates if name and (path := shutil.which(name))), None)
    assert found, "No Chromium. Debian: apt-get install chromium; elsewhere name one in PIPIT_CHROMIUM."
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=CHROMIUM_ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def page(browser: Browser, seen: Seen) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1280, "height": 900}, locale="en-GB")
    opened.on("pageerror", lambda error: seen.errors.append(str(error)))
    opened.on("console", lambda m: "Content Security" in m.text and seen.errors.append(m.text))
    yield opened
    opened.close()


def look(page: Page, served: Served, viewer: str) -> None:
    """Opens the page as this viewer and waits until everything is drawn."""
    page.goto(f"{served.url}/demo#{viewer}")
    page.wait_for_selector(f'body[data-drawn="{viewer}"]', timeout=30_000)
    page.wait_for_selector("#retention canvas")


def figures(page: Page) -> dict[str, str]:
    names = page.locator("#figures dt").all_inner_texts()
    return dict(zip(names, page.locator("#figures dd").all_inner_texts(), strict=True))


def total_of_bill(page: Page) -> list[str]:
    return page.locator("#billing td.strong").all_inner_texts()


def test_two_customers_see_different_numbers(page: Page, served: Served, seen: Seen) -> None:
    shown = {}
    for viewer in ("acme", "globex"):
        look(page, served, viewer)
        expect(page.locator("#claims")).to_contain_text(viewer)
        page.wait_for_timeout(600)  # the charts' entrance, so that the picture shows them whole
        page.screenshot(path=served.shots / f"{viewer}.png", full_page=True)
        shown[viewer] = figures(page), total_of_bill(page), page.locator("#teams tbody").inner_text()
    acme, globex = shown["acme"], shown["globex"]
    assert len(acme[0]) == 5
    for name in ("In 7 days", "In 30 days", "Events in 30 days"):
        assert acme[0][name] != globex[0][name]
    assert acme[1] and globex[1] and not set(acme[1]) & set(globex[1])
    assert "Finance" in acme[2] and "Finance" not in globex[2] and "Research" in globex[2]
    assert seen.errors == []


def test_the_switch_changes_the_token_and_the_numbers(page: Page, served: Served, seen: Seen) -> None:
    look(page, served, "acme")
    before, token = figures(page), page.locator("#token-raw").text_content()
    page.get_by_role("radio", name="Initech").check(force=True)
    page.wait_for_selector('body[data-drawn="initech"]')
    assert figures(page) != before
    assert page.locator("#token-raw").text_content() != token
    expect(page.locator("#claims")).to_contain_text("initech")
    assert seen.errors == []


def test_a_manager_sees_one_team_and_no_bill(page: Page, served: Served, seen: Seen) -> None:
    look(page, served, "acme-sales")
    assert page.locator("#teams tbody tr").count() == 1
    expect(page.locator("#teams tbody")).to_contain_text("Sales")
    expect(page.locator("#billing")).to_contain_text("403")
    page.screenshot(path=served.shots / "manager.png", full_page=True)
    assert seen.errors == []


@pytest.mark.parametrize("viewer", ["acme-sales", pytest.param("acme", marks=pytest.mark.long)])
def test_reading_another_customer_changes_nothing(
    page: Page, served: Served, seen: Seen, viewer: str
) -> None:
    look(page, served, viewer)
    page.get_by_role("button", name="Try to read another customer").click()
    page.wait_for_selector("#attack-result table")
    page.screenshot(path=served.shots / f"attack-{viewer}.png", full_page=True)
    verdicts = {
        row.locator("th").inner_text(): row.get_attribute("data-verdict")
        for row in page.locator("#attack-result tbody tr").all()
    }
    assert len(verdicts) == 9
    for attempt in ("In the address", "Twice", "In capitals", "Encoded", "In a form", "In JSON"):
        assert verdicts[attempt] == "same", verdicts
    assert verdicts["SQL of one's own"] == "refused"
    assert set(verdicts.values()) <= {"same", "refused"}
    assert seen.errors == []


def test_the_admin_looks_inside(page: Page, served: Served, seen: Seen) -> None:
    """Issue 4, item 9: the statement, values, filters and the two answers, for the admin token that a person types in."""
    admin = (served.log.parent / "data" / "admin_token").read_text().strip()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url + str(request.headers)))
    look(page, served, "acme")
    page.locator('[data-pipe="top_features"]').click()
    expect(page.locator("#inside-answer")).to_be_empty()
    page.fill("#inside-admin", "p.not-the-token")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator("#inside-answer")).to_contain_text("403")

    page.fill("#inside-admin", admin)
    page.fill("#inside-parameters", "limit=4&customer_id=globex")
    page.get_by_role("button", name="Show", exact=True).click()
    answer = page.locator("#inside-answer")
    expect(answer).to_contain_text("the same text for both")
    expect(answer).to_contain_text("customer_id = 'acme'")
    expect(answer).to_contain_text("customer_id = 'globex'")
    assert page.locator('#inside-answer tr[data-side="first"]').count() == 4
    assert page.locator('#inside-answer tr[data-side="second"]').count() == 4
    page.screenshot(path=served.shots / "inside.png")
    page.select_option("#inside-other", "")
    expect(answer).to_contain_text("none")

    assert page.input_value("#inside-admin") == "" and admin not in page.content()
    assert page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])") == '[{},{},""]'
    assert all("/demo/inspect" in request for request in sent if admin in request)
    page.get_by_role("button", name="Forget the admin token").click()
    expect(answer).to_be_empty()
    page.keyboard.press("Escape")
    expect(page.locator("#inside")).to_be_hidden()
    assert seen.errors == []


def test_a_name_that_points_here_is_told_and_gets_nothing(page: Page, served: Served, seen: Seen) -> None:
    """DNS rebinding (attack I14) in a real browser: another name, this machine's address."""
    admin = (served.log.parent / "data" / "admin_token").read_text().strip()
    page.goto(served.url.replace("127.0.0.1", REBOUND) + "/demo")
    expect(page.locator("#notice")).to_contain_text("does not answer to this name")
    ask = """async (token) => {
        const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token}` };
        const body = JSON.stringify({ pipe: "top_features", tokens: ["", ""] });
        const answer = await fetch("/demo/inspect", { method: "POST", headers, body });
        return [answer.status, await answer.text()];
    }"""
    status, text = page.evaluate(ask, admin)
    assert status == 403 and "does not answer to this name" in text
    assert "eyJ" not in page.content() and seen.errors == []


def test_live_events_move_the_page(page: Page, served: Served) -> None:
    look(page, served, "acme")
    first = page.locator("#feed li").first.inner_text()
    page.wait_for_function(
        "before => document.querySelector('#feed li').innerText !== before", arg=first, timeout=60_000
    )


def test_a_phone_in_the_dark(browser: Browser, served: Served) -> None:
    opened = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
    look(opened, served, "globex")
    opened.wait_for_timeout(600)
    opened.screenshot(path=served.shots / "phone-dark.png", full_page=True)
    assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    opened.close()


@pytest.mark.parametrize("width", [320, 1280, *(pytest.param(width, marks=pytest.mark.long) for width in (400, 768))])
def test_nothing_is_cut_off(browser: Browser, served: Served, width: int) -> None:
    """Every table, legend and figure is whole, on a phone as on a screen."""
    opened = browser.new_page(viewport={"width": width, "height": 900}, locale="en-GB")
    look(opened, served, "acme")
    opened.wait_for_selector("#beside table")
    opened.screenshot(path=served.shots / f"width-{width}.png", full_page=True)
    assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    cut = """() => [...document.querySelectorAll(".table, .table td, .table th, .keys, .keys li, .figures dd")]
        .filter((e) => e.offsetParent && !e.closest("details") && !e.closest("thead") && e.scrollWidth > e.clientWidth + 1)
        .map((e) => `${e.closest("[id]")?.id} ${e.className} ${e.innerText}`)"""
    assert opened.evaluate(cut) == []
    inside = """() => [...document.querySelectorAll(".keys li")].every((e) => {
        const [own, card] = [e.getBoundingClientRect(), e.closest("article").getBoundingClientRect()];
        return own.width > 0 && own.left >= card.left && own.right <= card.right;
    })"""
    assert opened.evaluate(inside) and opened.locator(".keys li").count() == 6
    expect(opened.locator("#billing tbody tr").first.locator("td.strong")).to_be_visible()
    opened.close()


def test_the_customers_stand_side_by_side(page: Page, served: Served, seen: Seen) -> None:
    look(page, served, "acme")
    page.wait_for_selector("#beside table")
    assert page.locator("#beside thead th").all_inner_texts() == ["Acme Corp", "Globex", "Initech"]
    for row in page.locator("#beside tbody tr").all():
        name, cells = row.locator("th").inner_text(), row.locator("td").all_inner_texts()
        assert len(cells) == 3 and all(cells), name
        assert "Events" not in name or len(set(cells)) == 3, cells
    assert seen.errors == []


@pytest.mark.parametrize(
    "pipe",
    ["usage_for_billing", *(pytest.param(n, marks=pytest.mark.long) for n in ("active_users", "recent_activity", "teams"))],
)
def test_what_runs_is_in_the_projects_own_names(page: Page, served: Served, seen: Seen, pipe: str) -> None:
    look(page, served, "acme")
    page.locator(f'[data-pipe="{pipe}"]').click()
    page.fill("#inside-admin", (served.log.parent / "data" / "admin_token").read_text().strip())
    page.get_by_role("button", name="Show", exact=True).click()
    answer = page.locator("#inside-answer")
    expect(answer.locator("pre.sql")).to_contain_text("FROM")
    text = answer.inner_text()
    assert not re.search(r"\bd\d+_|pipit_default|_\d+_[a-z]", text), text
    assert "customer_id = 'acme'" in text
    assert answer.locator("pre.sql .sql-keyword").count() > 3
    assert answer.locator("pre.sql .sql-keyword", has_text=re.compile("^SELECT$")).count() >= 1
    assert seen.errors == []


def test_the_printed_lines_work(served: Served) -> None:
    """What `make demo` printed, pasted into a shell: the third answer is the first one's."""
    served.until("the lines are printed", lambda: served.said().count("curl -H") >= 3, seconds=10)
    text = served.said()
    variables = re.findall(r"^[A-Z]+='[^'\n]+'$", text, re.MULTILINE)
    # Yesterday and before do not change while we look.
    yesterday = datetime.fromtimestamp(time.time() - 86_400, UTC).date()
    lines = [
        line.replace("?limit", f"?date_to={yesterday}&limit").replace("curl ", "curl -sS ", 1)
        for line in re.findall(r"^curl .*$", text, re.MULTILINE)
    ]
    script = "\n".join([*variables, *(f"{line} | tr -d '\\n'; echo" for line in lines)])
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=180)
    own, other, attempt = (json.loads(line)["data"] for line in done.stdout.splitlines())
    assert own and other and own != other
    assert attempt == own


def test_the_page_survives_the_engine(page: Page, served: Served, seen: Seen) -> None:
    """kill -9 of the engine: the page says so, and goes on by itself. Last, since it is rough."""
    look(page, served, "acme")
    before = int(figures(page)["Events in 30 days"].replace(",", ""))
    for viewer in ("globex", "initech", "acme"):
        children = subprocess.run(["pgrep", "-P", str(served.process.pid)], capture_output=True, text=True)
        for child in children.stdout.split():
            os.kill(int(child), signal.SIGKILL)
        page.goto(f"{served.url}/demo#{viewer}")  # asks at once, while the engine is away
        with contextlib.suppress(PlaywrightTimeout):
            page.wait_for_selector('#state[data-state="trouble"]', timeout=3_000)
            break
    else:
        pytest.fail("the engine was back before the page noticed, three times")
    expect(page.locator("#notice")).to_contain_text("starting again")
    page.screenshot(path=served.shots / "engine-away.png")
    page.wait_for_selector('#state[data-state="live"]', timeout=20_000)
    look(page, served, "acme")
    expect(page.locator("#notice")).to_be_hidden()
    assert int(figures(page)["Events in 30 days"].replace(",", "")) >= before
    assert seen.errors == []

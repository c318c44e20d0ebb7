"""CONTRIBUTING.md and docs/contributing/ against the code: what they name is there, and the picture is today's."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import packages
import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs/contributing").glob("*.md"))]
# Files that a recipe makes up.
_INVENTED = {"api/things.py"}
# Documents that are cited must be in the repository.
_ELSEWHERE = re.compile(
    r"\b(?:DESIGN|ENGINE|FAULTS|ATTACKS|STYLE|CLIENTS|SERVICES|CORPUS|tinybird)\.md\b|\bdesign section|\(design,"
)


def test_the_picture_is_drawn_from_the_code() -> None:
    assert packages.PICTURE.read_text() == packages.picture(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(r"`([\w./-]+/|[\w./-]+\.(?:py|md|toml|txt|svg))`", text))
    named |= set(re.findall(r"\btests/[\w/]+\.py\b", text))
    missing = {
        name
        for name in named - _INVENTED
        if not (ROOT / name).exists()
        and not (ROOT / "platform/pipit" / name).exists()
        and not (ROOT / "platform/pipit/datafiles" / name).exists()
        and not list((ROOT / "docs").rglob(name))
    }
    assert not missing, f"{page.name} names files that are not there: put their new paths in"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_make_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)\b(?=[` \n])", "\n".join(re.findall(r"`+[^`]+`+", page.read_text()))))
    assert not named - targets, f"{page.name} names targets that the Makefile has not: correct the page"


def test_no_line_cites_a_document_that_is_not_in_the_repository() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    cited = [
        f"{name}:{number}"
        for name in files
        if name.endswith((".py", ".md", ".toml", ".js", ".yaml", "Makefile")) and name != "tests/docs/test_contributing.py"
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1)
        if _ELSEWHERE.search(line)
    ]
    assert not cited, "the document is not in the repository: describe the thing itself"

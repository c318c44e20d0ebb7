"""A page of the docs as a program: its `sh` blocks run in order, as they stand, in an empty folder, on a free port.

And as what can be held against the code: its sections, the rows of its tables, the datafiles that it shows.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from ports import free_port

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_DATAFILE = re.compile(r"^```(datasource|pipe|connection|incl) (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Table:
    """One table of a page: its header's cells, and its rows' cells as Markdown."""

    section: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def names(self) -> list[str]:
        """What the first cells hold as code, in order."""
        return [name for row in self.rows for name in code(row[0])]


def code(markdown: str) -> list[str]:
    """The code spans of a text."""
    return [found[2].strip() for found in _CODE.finditer(markdown)]


def same(documented: Iterable[str], known: Iterable[str], where: Path | str) -> None:
    """The documentation lists what the code knows, each once; else it says what to do."""
    listed, expected = Counter(iter(documented)), Counter(iter(known))
    if listed != expected:
        place = where.relative_to(ROOT) if isinstance(where, Path) else where
        add, remove = sorted((expected - listed).elements()), sorted((listed - expected).elements())
        steps = [f"add to it: {', '.join(add)}"] * bool(add) + [f"take out of it: {', '.join(remove)}"] * bool(remove)
        pytest.fail(f"{place} and the code differ: {'; '.join(steps)}", pytrace=False)


def section(page: Path, heading: str) -> str:
    """The text below a heading (`## Functions`), up to the next one of its level or above."""
    level = len(heading.split(" ", 1)[0])
    found = re.search(
        rf"^{re.escape(heading)}$\n(.*?)(?=^#{{1,{level}}} |\Z)", page.read_text(), re.DOTALL | re.MULTILINE
    )
    assert found, f"{page.name} has no section {heading}"
    return found[1]


def tables(page: Path, heading: str = "") -> list[Table]:
    """The tables of a page, or of one of its sections, in order."""
    text = section(page, heading) if heading else page.read_text()
    found: list[Table] = []
    title = ""
    rows: list[tuple[str, ...]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            title = line
        if line.startswith("|"):
            rows.append(tuple(cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]))
        elif rows:
            found.append(Table(title, rows[0], tuple(rows[2:])))
            rows = []
    return found


def datafiles(page: Path) -> dict[str, str]:
    """The files that a page shows: blocks such as "```pipe endpoints/top", by their path."""
    return {f"{path}.{kind}": text for kind, path, text in _DATAFILE.findall(page.read_text())}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def run_blocks(steps: Sequence[str], folder: Path) -> list[str]:
    """What each step printed. One bash runs them all; where they say 7181 they get a port that is free."""
    port = str(free_port())
    script = "set -euo pipefail\n" + "".join(
        f"printf '\\n--- block {number}\\n'\n{step}" for number, step in enumerate(steps)
    ).replace("pipit serve", f"pipit serve --port {port}").replace("7181", port)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PIPIT_") or k == "PIPIT_CHROMIUM"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    # A session of its own, so that whatever the page leaves running can be ended by its group.
    running = subprocess.Popen(
        [shutil.which("bash") or "bash", "-c", script],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = running.communicate(timeout=180)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGTERM)
    logs = [log.read_text() for log in folder.glob("**/serve.log")]
    assert running.returncode == 0, "\n".join([output, *logs])
    return re.split(r"^--- block \d+$\n?", output, flags=re.MULTILINE)[1:]

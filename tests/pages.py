"""A page of the docs as a program: its `sh` blocks run in order, as they stand, in an empty folder, on a free port."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def run_blocks(steps: Sequence[str], folder: Path) -> list[str]:
    """What each step printed. One bash runs them all; where they say 7181 they get a port that is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
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

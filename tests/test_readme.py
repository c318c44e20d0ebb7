"""The README's tutorial, run as it stands: every `sh` block in order, in an empty folder, on a free port."""

from __future__ import annotations

import contextlib
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


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_the_tutorial_runs_as_it_stands(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    steps = []
    for number, block in enumerate(blocks("sh")):
        block = block.replace("7181", port).replace("pipit serve", f"pipit serve --port {port}")
        steps += [f"echo '--- block {number}'", block]
    script = "\n".join(["set -euo pipefail", *steps])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PIPIT_")}
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
    asked, tried = answers[5], answers[7]
    assert '"feature"' in asked
    rows = [re.sub(r'"statistics":.*', "", text, flags=re.DOTALL) for text in (asked, tried)]
    assert rows[0] == rows[1], "asking for another customer changed the answer"
    assert re.search(r"^\w+ [\d.]+$", answers[6], re.MULTILINE), "the Python client prints rows"

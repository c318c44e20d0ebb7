"""`pipit audit --prove`: the proof from the command line. Needs no server; starts what it needs and leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from pipit.cli.output import err, line, note
from pipit.cli.target import run

if TYPE_CHECKING:
    from pipit.audit.prove.model import Proof, ProofOptions


class ProofFormat(StrEnum):
    TEXT = "text"
    JSON = "json"
    JUNIT = "junit"


def prove_project(
    folder: Path,
    *,
    fixed: tuple[str, ...] = (),
    rounds: int = 2,
    seed: int = 1,
    endpoints: tuple[str, ...] = (),
    format: ProofFormat = ProofFormat.TEXT,
    output: Path | None = None,
) -> int:
    """Proves a project's endpoints, prints or writes the report, and gives the exit code: 0, 1 (leak), 2 (unproved)."""
    from pipit.audit.prove.model import ProofOptions
    from pipit.audit.prove.report import to_json, to_junit, to_text
    from pipit.cli.project import read_files

    files = read_files(folder)
    options = ProofOptions(fixed=fixed, rounds=rounds, seed=seed, endpoints=endpoints, folder=folder)
    proof = run(_prove(files, options))
    write = {ProofFormat.TEXT: to_text, ProofFormat.JSON: to_json, ProofFormat.JUNIT: to_junit}[format]
    text = write(proof, str(folder))
    if output is not None:
        output.write_text(text, encoding="utf-8")
        note(_summary(proof, output))
    else:
        sys.stdout.write(text)
        sys.stdout.flush()
    return proof.exit_code


async def _prove(files: Mapping[str, str], options: ProofOptions) -> Proof:
    from pipit.audit.prove.run import prove

    task = asyncio.current_task()
    if task is not None:
        # SIGTERM ends it like Ctrl-C: the engine is stopped and its folder removed.
        with contextlib.suppress(NotImplementedError, RuntimeError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await prove(files, options, say=lambda text: line(err, (text, "dim")))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _summary(proof: Proof, output: Path) -> str:
    counts: dict[str, int] = {}
    for result in proof.results:
        counts[result.verdict.value] = counts.get(result.verdict.value, 0) + 1
    listed = ", ".join(f"{n} {verdict}" for verdict, n in counts.items()) or "no endpoint"
    return f"{listed}; the report is in {output}"

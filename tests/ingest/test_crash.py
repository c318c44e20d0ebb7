"""kill -9 of the process, or of its engine, at any time: what was acknowledged is in the table and its views,
once.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from processes import children_of

SCRIPT = Path(__file__).parent / "process.py"


class Process:
    def __init__(self, data: Path, mode: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(data), mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.kill_all()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, "the process ended"
        return line if line != "ready" else self.read()

    def rest(self) -> list[str]:
        assert self._process.stdout is not None
        return self._process.stdout.read().splitlines()

    def kill_engine(self) -> None:
        for pid in children_of(self._process.pid):
            os.kill(pid, signal.SIGKILL)

    def kill_all(self) -> None:
        children = children_of(self._process.pid)
        self._process.kill()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def finish(self) -> list[str]:
        assert self._process.stdin is not None
        self._process.stdin.close()
        lines = self.rest()
        assert self._process.wait() == 0
        return lines


def send_and_kill(folder: Path, mode: str, batches: int, *, whole: bool) -> set[int]:
    """Kills the engine, or everything, after so many batches: the first ids of the batches that were acknowledged."""
    with Process(folder, mode) as process:
        acknowledged = {int(process.read().split()[0]) for _ in range(batches)}
        if whole:
            process.kill_all()
            lines = process.rest()
        else:
            process.kill_engine()
            lines = process.finish()[:-1]
    return acknowledged | {int(line.split()[0]) for line in lines if line.count(" ") == 1}


def check(found: dict[str, Any], acknowledged: set[int]) -> None:
    """Every row of every acknowledged batch once; one of a batch that was cut off at most once."""
    assert found["drained"]
    for table in ("d1_events", "d1_view"):
        counts = found[table]
        assert set(counts.values()) <= {1}
        missing = [b for b in acknowledged if not all(str(b + n) in counts for n in range(19))]
        assert missing == []
    batches = {int(i) // 20 * 20 for i in found["d1_events"]}
    assert len(found["d1_events"]) == 19 * len(batches)
    assert found["d1_events"].keys() == found["d1_view"].keys()
    assert found["bad"] == len(batches)


@pytest.mark.parametrize("kind", ["kept", "loaded"])
def test_everything_is_killed_right_after_an_acknowledgement(tmp_path: Path, kind: str) -> None:
    acknowledged: set[int] = set()
    for _ in range(2):  # the second time the first one's rows are already there, under the same keys
        with Process(tmp_path, "send") as process:
            seen = 0
            while seen < 3:
                first, state = process.read().split()
                acknowledged.add(int(first))
                seen += state == kind
            process.kill_all()
            acknowledged |= {int(line.split()[0]) for line in process.rest() if line.count(" ") == 1}
    with Process(tmp_path, "count") as process:
        check(json.loads(process.finish()[-1]), acknowledged)


def test_the_engine_is_killed_under_load(tmp_path: Path) -> None:
    acknowledged: set[int] = set()
    with Process(tmp_path, "send") as process:
        for _ in range(2):
            loaded = 0
            while loaded < 5:  # it works, or works again
                first, state = process.read().split()
                acknowledged.add(int(first))
                loaded += state == "loaded"
            process.kill_engine()
        *lines, last = process.finish()
    acknowledged |= {int(line.split()[0]) for line in lines}
    check(json.loads(last), acknowledged)


def check_picky(found: dict[str, Any], acknowledged: set[int]) -> None:
    """The refused row of each batch is in the quarantine once, and may be where it was not refused; the others are
    everywhere once."""
    assert found["drained"]
    batches = {int(i) // 20 * 20 for i in found["d1_picky"]}
    assert acknowledged <= batches
    good = {str(b + n) for b in batches for n in range(18)}
    for table in ("d1_events", "d1_view", "d1_picky"):
        assert set(found[table].values()) == {1}
        assert {i for i in found[table] if int(i) % 20 != 18} == good
    assert not {i for i in found["d1_picky"] if int(i) % 20 == 18}
    assert found["bad"] == 2 * len(batches)


@pytest.mark.parametrize("kills", [range(1, 2), pytest.param(range(3), marks=pytest.mark.long)], ids=["once", "often"])
@pytest.mark.parametrize("whole", [True, False])
def test_kills_while_rows_that_a_view_refuses_are_told_from_the_others(
    tmp_path: Path, whole: bool, kills: range
) -> None:
    """The engine alone, or all of it, at any moment of it: every segment is taken apart."""
    acknowledged: set[int] = set()
    for kill in kills:
        acknowledged |= send_and_kill(tmp_path, "send-picky", 6 + kill, whole=whole)
    with Process(tmp_path, "count-picky") as process:
        check_picky(json.loads(process.finish()[-1]), acknowledged)


def check_only(found: dict[str, Any], acknowledged: set[int]) -> None:
    """As above, where the view refuses a row of each fourth batch."""
    assert found["drained"]
    batches = {int(i) // 20 * 20 for i in found["d1_picky"]}
    assert acknowledged <= batches
    good = {str(b + n) for b in batches for n in range(19) if (b + n) % 80 != 18}
    for table in ("d1_events", "d1_picky"):
        assert set(found[table].values()) == {1}
        assert {i for i in found[table] if int(i) % 80 != 18} == good
    assert not {i for i in found["d1_picky"] if int(i) % 80 == 18}
    assert found["bad"] == len(batches) + sum(b % 80 == 0 for b in batches)
    assert found["left"] == []


@pytest.mark.parametrize("kills", [range(1, 3), pytest.param(range(4), marks=pytest.mark.long)], ids=["twice", "often"])
@pytest.mark.parametrize("whole", [True, False])
def test_kills_between_the_others_rows_and_those_of_held_requests(tmp_path: Path, whole: bool, kills: range) -> None:
    """The others' rows are in the view first, under a token of their own."""
    acknowledged: set[int] = set()
    for kill in kills:
        acknowledged |= send_and_kill(tmp_path, "send-only", 5 + 2 * kill, whole=whole)
    with Process(tmp_path, "count-only") as process:
        check_only(json.loads(process.finish()[-1]), acknowledged)

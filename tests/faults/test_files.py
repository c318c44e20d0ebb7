"""Loads of files that are killed in the middle: a real `pipit serve`, SIGKILL, and what is there after the next start."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from processes import Served, served
from waiting import wait_for

ROWS = 2_500_000  # three pieces
BEFORE = 1_000


def file_of(first: int) -> bytes:
    """One row in a thousand is bad."""
    return b"".join(b"x\n" if n % 1000 == 999 else b"%d\n" % (first + n) for n in range(ROWS))


def begin(server: Served, mode: str) -> None:
    path = f"/v0/datasources?mode={mode}&name=events&format=csv"
    threading.Thread(target=server.request, args=(path, file_of(10_000_000)), daemon=True).start()


def has_begun(server: Served, mode: str) -> bool:
    """An append has a piece in the table, and the others not; a replacement works."""
    if mode == "replace":
        status, found = server.get("/v0/jobs")
        return status == 200 and any(job["status"] == "working" for job in found["jobs"])
    return any(len(path.read_bytes().splitlines()) > 1 for path in (server.data / "files").glob("*/done.ndjson"))


@pytest.mark.parametrize("mode", ["append", "replace"])
@pytest.mark.parametrize("engine_only", [False, True])
def test_a_load_that_is_killed_is_there_once_after_the_start(tmp_path: Path, mode: str, engine_only: bool) -> None:
    with served(tmp_path) as server:
        assert server.send(range(BEFORE), wait=True) == 200
        begin(server, mode)
        wait_for(lambda: has_begun(server, mode), what="the load has begun")
        if engine_only:
            (engine,) = server.children()
            os.kill(engine, signal.SIGKILL)
        else:
            server.kill_everything()
            assert server.process and server.process.stdout
            server.process.stdout.close()
            server.start()
        wait_for(lambda: not any((server.data / "files").iterdir()), seconds=120, what="the load has ended")
        wait_for(server.counts, what="reads work")
        _, found = server.get("/v0/jobs")
        assert [job["status"] for job in found["jobs"]] == ["done"], found
        expected = ROWS - ROWS // 1000 + (BEFORE if mode == "append" else 0)
        assert server.counts() == {"rows": expected, "ids": expected, "rolled": expected}
        _, bad = server.get("/v0/sql?q=SELECT%20count()%20AS%20n,uniqExact(c__line)%20AS%20l%20FROM%20events_quarantine%20FORMAT%20JSON")
        assert bad["data"] == [{"n": ROWS // 1000, "l": ROWS // 1000}]

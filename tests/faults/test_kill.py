"""Faults of whole processes: a real `pipit serve`, killed with SIGKILL in part or in full."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from processes import served
from waiting import wait_for


def test_engine_killed_under_load(tmp_path: Path) -> None:
    """Reads answer 503 and then work again soon by themselves; events are acknowledged all the while."""
    began = time.monotonic()
    with served(tmp_path) as server:
        first_start = time.monotonic() - began
        acknowledged: list[int] = []
        refused: list[int] = []
        stop = threading.Event()

        def load() -> None:
            start = 0
            while not stop.is_set():
                status = server.send(range(start, start + 10), wait=False)
                (acknowledged if status == 202 else refused).append(start)
                start += 10

        sender = threading.Thread(target=load)
        sender.start()
        try:
            wait_for(lambda: len(acknowledged) > 20, what="events flow")
            assert server.counts()
            (engine,) = server.children()
            os.kill(engine, signal.SIGKILL)
            before = len(acknowledged)
            wait_for(lambda: server.get("/v0/pipes/counts.json")[0] == 503, what="reads answer 503")
            took = wait_for(lambda: server.get("/v0/pipes/counts.json")[0] == 200, what="reads work again")
            assert took < 5 + 3 * first_start  # on a quick machine and on a slow one
            wait_for(lambda: len(acknowledged) > before + 20, what="events flow on")
        finally:
            stop.set()
            sender.join()
        assert not refused
        expected = 10 * len(acknowledged)
        wait_for(lambda: min(server.counts().values(), default=0) >= expected, what="all acknowledged rows are in the table")
        assert server.counts() == {"rows": expected, "ids": expected, "rolled": expected}


@pytest.mark.parametrize("wait", [False, True])
def test_everything_killed_right_after_the_answer(tmp_path: Path, wait: bool) -> None:
    """What got a 202 or a 200 is there after a restart, once, in the table and in the view's target."""
    with served(tmp_path) as server:
        sent = 0
        for _ in range(3):
            for _ in range(5):
                assert server.send(range(sent, sent + 100), wait=wait) == (200 if wait else 202)
                sent += 100
            server.kill_everything()
            assert server.process and server.process.stdout
            server.process.stdout.close()
            server.start()
        wait_for(lambda: min(server.counts().values(), default=0) >= sent, what="all rows are there")
        assert server.counts() == {"rows": sent, "ids": sent, "rolled": sent}

"""The audit log under faults: what has reached the disk is in the table afterwards, once."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any
from urllib.parse import quote

from processes import Served, served
from waiting import wait_for


def logged(server: Served, pipe: str) -> list[str]:
    """The request ids of this pipe's reads, as the admin reads them; empty while the engine is away."""
    sql = f"SELECT request_id FROM tinybird.pipe_stats_rt WHERE pipe_name = '{pipe}' FORMAT JSON"
    status, reply = server.get(f"/v0/sql?q={quote(sql)}")
    return [row["request_id"] for row in reply["data"]] if status == 200 else []


def on_disk(server: Served) -> list[Path]:
    return list((server.data / "segments").glob("*/s1_pipe_stats_rt/*.segment"))


def text_on_disk(server: Served) -> str:
    return "".join(path.read_text(errors="replace") for path in on_disk(server) if path.exists())


def refused(server: Served, number: int) -> None:
    """Reads that need no engine: their format does not exist."""
    for _ in range(number):
        status, _reply = server.get("/v0/pipes/counts.xml")
        assert status == 404


def begun(server: Served) -> Any:
    """One read of each table, so that the service's tables are there; then the engine, stopped."""
    assert server.counts()
    wait_for(lambda: len(logged(server, "counts")) >= 1, what="the log is written")
    before = len(logged(server, "counts"))
    (engine,) = server.children()
    os.kill(engine, signal.SIGSTOP)
    return before, engine


def test_engine_killed_while_rows_wait(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        before, engine = begun(server)
        refused(server, 7)
        wait_for(lambda: text_on_disk(server).count('"status_code":404') == 7, what="the rows are on the disk")
        os.kill(engine, signal.SIGKILL)
        wait_for(lambda: len(logged(server, "counts")) >= before + 7, what="the rows are in the table")
        wait_for(lambda: not on_disk(server), what="nothing waits any more")
        ids = logged(server, "counts")
        assert len(ids) == len(set(ids)) == before + 7


def test_everything_killed_and_started_again(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        before, engine = begun(server)
        refused(server, 7)
        wait_for(lambda: text_on_disk(server).count('"status_code":404') == 7, what="the rows are on the disk")
        os.kill(engine, signal.SIGCONT)
        server.kill_everything()
        assert server.process and server.process.stdout
        server.process.stdout.close()
        server.start()
        wait_for(lambda: len(logged(server, "counts")) >= before + 7, what="the rows are in the table")
        ids = logged(server, "counts")
        assert len(ids) == len(set(ids)) == before + 7


def test_a_clean_stop_leaves_no_read_behind(tmp_path: Path) -> None:
    """The last reads are written down at the end, however short before it they came."""
    with served(tmp_path) as server:
        assert server.counts()
        refused(server, 5)
        server.stop()
        server.start()
        wait_for(lambda: len(logged(server, "counts")) >= 6, what="all six are there")
        assert len(logged(server, "counts")) == 6

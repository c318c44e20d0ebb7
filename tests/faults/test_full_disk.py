"""A server on a disk without a free byte: it starts, reads answer, events are refused, and it goes on once there is room.

The disk is a tmpfs of its own, which only root may mount.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from processes import Served, served
from waiting import wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
ROWS = 1000


class Disk:
    """A small disk at `folder`."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "pipit-test", str(folder)], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")

    @property
    def filling(self) -> Path:
        return self.folder / "filling"

    def fill(self) -> None:
        """To the last byte."""
        with self.filling.open("ab", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                try:
                    while True:
                        file.write(b"\1" * size)
                except OSError:
                    pass
        found = os.statvfs(self.folder)
        assert found.f_bavail == 0

    def free(self) -> None:
        self.filling.unlink()

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk", 256)
    yield made
    made.close()


REFUSED = "The server cannot store events now: its disk refuses them"


def test_a_start_on_a_full_disk(disk: Disk) -> None:
    with served(disk.folder) as server:
        assert server.send(range(ROWS), wait=True) == 200
        assert server.get("/v0/health") == (200, {"status": "ok", "engine": True})
        server.stop()
        disk.fill()
        for starts in (1, 2):  # the first start on it must not spoil the next one
            server.start()
            engines = server.children()
            assert server.get("/v0/health") == (200, {"status": "disk_full", "engine": True})
            assert server.get("/v0/ready")[0] == 200
            assert server.counts() == {"rows": ROWS, "ids": ROWS, "rolled": ROWS}
            for wait in ("true", "false") * 3:
                status, reply = server.request(f"/v0/events?name=events&wait={wait}", b'{"id": 5}\n')
                assert (status, reply["error"]) == (503, REFUSED)
            # A change of what is deployed is refused, and what is deployed stays whole.
            assert server.request("/v0/workspace/environments?name=acme", b"")[0] == 503
            assert server.counts() == {"rows": ROWS, "ids": ROWS, "rolled": ROWS}
            assert server.children() == engines
            assert not (server.data / "server.json").exists()
            # Each start says it once, if there is room for a line, and not with every event.
            assert (server.data / "logs/pipit.log").read_text().count("events are refused until") <= starts
            said = stopped(server)
            assert said.count("cannot be written (No space left on device): reads are served") == 1
            assert "Traceback" not in said and "fault of pipit" not in said
        server.start()
        engines = server.children()
        assert server.send(range(5), wait=False) == 503
        disk.free()
        assert server.send(range(ROWS, ROWS + 5), wait=True) == 200
        assert server.get("/v0/health") == (200, {"status": "ok", "engine": True})
        assert server.counts()["ids"] == ROWS + 5
        wait_for((server.data / "server.json").exists, what="commands find the server again")
        assert server.children() == engines
        assert server.request("/v0/workspace/environments?name=acme", b"")[0] == 200


def test_acknowledged_events_wait_for_room(disk: Disk) -> None:
    with served(disk.folder) as server:
        assert server.send(range(ROWS), wait=True) == 200
        assert server.send(range(ROWS, ROWS + 50), wait=False) == 202
        server.kill_everything()
        disk.fill()
        stopped(server)
        server.start()
        assert ROWS <= server.counts()["ids"] <= ROWS + 50
        engines = server.children()
        disk.free()
        wait_for(lambda: server.counts()["ids"] == ROWS + 50, what="what was acknowledged is in the table")
        assert server.counts() == {"rows": ROWS + 50, "ids": ROWS + 50, "rolled": ROWS + 50}
        assert server.children() == engines


def test_a_new_data_directory_on_a_full_disk(disk: Disk) -> None:
    """There is nothing to serve: the start fails, and says why."""
    disk.fill()
    command = [str(Path(sys.executable).with_name("pipit")), "serve", "--data", str(disk.folder / "data"), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, cwd=disk.folder)
    assert done.returncode != 0
    assert "No space left on device" in done.stderr and "fault of pipit" not in done.stderr


def stopped(server: Served) -> str:
    """Stops it; what it said on its terminal."""
    assert server.process and server.process.stdout
    if server.process.poll() is None:
        server.process.terminate()
    return server.process.communicate(timeout=120)[0].decode()

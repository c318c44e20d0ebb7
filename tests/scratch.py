"""Where tests keep their files: in memory, where there is room, since the engine waits for the disk at each table.

A process that is killed loses nothing of what is in memory; only a machine that stops does, which no test tries.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
_ROOM = 6 << 30  # several times what a run of `make test` writes


def _available() -> int:
    """Bytes of the machine's memory that are not in use."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0


def has_room(folder: Path = MEMORY) -> bool:
    """Programs must run from it, too: containers often forbid that."""
    try:
        found = os.statvfs(folder)
        return (
            os.access(folder, os.W_OK)
            and not found.f_flag & os.ST_NOEXEC
            and found.f_bavail * found.f_frsize >= _ROOM
            and _available() >= _ROOM
        )
    except (OSError, AttributeError):  # not Linux
        return False


def use_memory() -> None:
    """For this process and those that it starts. A TMPDIR that is set already stays."""
    if "TMPDIR" not in os.environ and has_room():
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # it is looked up again

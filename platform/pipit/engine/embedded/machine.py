"""What the machine gives: memory of this process's control group or of the machine, whichever is less."""

from __future__ import annotations

import os
from pathlib import Path

_SERVER_SHARE = 0.6  # of all memory; the rest is for the API, page cache and results on their way out
_QUERY_SHARE = 0.6  # of the server's share
_SMALLEST = 512 << 20


def memory_bytes() -> int:
    """Memory that this process may use."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([total, *_cgroup_limits()])


def server_limit(total: int) -> int:
    return max(_SMALLEST, int(total * _SERVER_SHARE))


def query_limit(server: int) -> int:
    return int(server * _QUERY_SHARE)


def _cgroup_limits() -> list[int]:
    limits = []
    candidates = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    try:
        own = Path("/proc/self/cgroup").read_text()
    except OSError:
        own = ""
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            folder = Path("/sys/fs/cgroup") / path.lstrip("/")
            # A parent's limit binds too.
            candidates += [up / "memory.max" for up in (folder, *folder.parents) if "cgroup" in up.parts]
    for file in candidates:
        try:
            text = file.read_text().strip()
        except OSError:
            continue
        if text.isdigit() and 0 < int(text) < 1 << 60:
            limits.append(int(text))
    return limits

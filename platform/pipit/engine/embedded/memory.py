"""How much memory the engine may use: a share of the machine's, or of this process's control group if that is less."""

from __future__ import annotations

import os
from pathlib import Path

_SERVER_SHARE = 0.6  # of all memory; the rest is for the API, page cache and results on their way out
_QUERY_SHARE = 0.6  # of the server's share
_SMALLEST = 512 << 20
_NO_LIMIT = 1 << 60  # the first version of control groups says so with a number like this


def memory_bytes() -> int:
    """Memory that this process may use."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([total, *cgroup_limits(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))])


def server_limit(total: int) -> int:
    return max(_SMALLEST, int(total * _SERVER_SHARE))


def query_limit(server: int) -> int:
    return int(server * _QUERY_SHARE)


def cgroup_limits(root: Path, own: Path) -> list[int]:
    """The limits in force under a control group file system, for the groups that `own` names and their parents."""
    candidates = [root / "memory.max", root / "memory" / "memory.limit_in_bytes"]
    try:
        groups = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        groups = []
    for _, controllers, path in groups:
        if not controllers:
            folder = root / path.lstrip("/")
            candidates += [above / "memory.max" for above in (folder, *folder.parents) if above.is_relative_to(root)]
        elif "memory" in controllers.split(","):
            candidates.append(root / "memory" / path.lstrip("/") / "memory.limit_in_bytes")
    limits = []
    for file in candidates:
        try:
            text = file.read_text().strip()
        except OSError:
            continue
        if text.isdigit() and 0 < int(text) < _NO_LIMIT:
            limits.append(int(text))
    return limits

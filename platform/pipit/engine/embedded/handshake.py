"""What the parent and the engine process send each other at the start: one JSON line each way."""

from __future__ import annotations

import msgspec

GRACE_SECONDS = 20.0


class StartOptions(msgspec.Struct, frozen=True):
    """From the parent. Paths are absolute."""

    data: str
    user: str
    password: str
    report_fd: int  # where the report is written
    parent: int  # process id
    file_roots: list[str] = []
    settings: dict[str, str] = {}  # of every connection
    memory: int = 0  # bytes for the engine; 0: a share of the machine's
    grace: float = GRACE_SECONDS  # seconds after its time limit in which a statement must end


class StartReport(msgspec.Struct, frozen=True):
    """From the child: the port on which it serves, or why it does not."""

    port: int = 0
    error: str = ""

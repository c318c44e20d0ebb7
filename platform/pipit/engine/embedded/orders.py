"""What parent and child tell each other at start, one JSON line each way."""

from __future__ import annotations

import msgspec

GRACE_SECONDS = 20.0


class Orders(msgspec.Struct, frozen=True):
    """What the parent wants. Paths are absolute."""

    data: str
    user: str
    password: str
    answer_fd: int
    parent: int
    file_roots: list[str] = []
    settings: dict[str, str] = {}  # in force on every connection
    memory: int = 0  # bytes for the engine; 0: from the machine
    grace: float = GRACE_SECONDS  # past its limit, that a statement may take to end


class Answer(msgspec.Struct, frozen=True):
    """Where the child serves, or why it does not."""

    port: int = 0
    error: str = ""

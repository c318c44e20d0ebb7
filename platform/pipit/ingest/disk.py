"""Bytes onto the disk, whole and synced, or not at all."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

_IOV_MAX = 512


def write_all(fd: int, buffers: Sequence[bytes], offset: int) -> int:
    """Returns the length of the file after it."""
    views = deque(memoryview(b) for b in buffers)
    while views:
        some = [views[n] for n in range(min(len(views), _IOV_MAX))]
        written = os.pwritev(fd, some, offset)
        offset += written
        while views and written >= len(views[0]):
            written -= len(views.popleft())
        if written:
            views[0] = views[0][written:]
    return offset


def sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())

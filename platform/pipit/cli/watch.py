"""When a project's files change. Looks at the folders that hold datafiles, not at the data directory beside them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from watchfiles import Change, awatch

from pipit.datafiles.layout import MAX_DEPTH, SKIPPED, SUFFIXES

# A save is often several changes of files; the quiet that ends it, and how long to wait for that at most.
_QUIET_MS = 50
_LONGEST_MS = 500
_WAKE_MS = 300


async def changes(root: Path, stop: asyncio.Event) -> AsyncIterator[list[str]]:
    """The names of the files that changed, each time some did, until `stop` is set. `root` must be absolute.

    An empty list, as soon as the folders are watched: something may have changed just before.
    """
    while not stop.is_set():
        watched = folders(root)
        fresh = True
        async for batch in awatch(
            *watched,
            watch_filter=_matters,
            recursive=False,
            stop_event=stop,
            step=_QUIET_MS,
            debounce=_LONGEST_MS,
            rust_timeout=_WAKE_MS,
            yield_on_timeout=True,
            raise_interrupt=False,
        ):
            names = sorted({path.removeprefix(f"{root}{os.sep}") for _, path in batch if path.endswith(SUFFIXES)})
            if names or fresh:
                yield names
            fresh = False
            if batch and folders(root) != watched:
                break  # a folder came or went: watch the others from now on
        else:
            return


def folders(root: Path) -> list[Path]:
    """The folders that a project's files are read from."""
    found: list[Path] = []
    for here, below, _ in os.walk(root, followlinks=False):
        path = Path(here)
        found.append(path)
        depth = len(path.relative_to(root).parts)
        below[:] = sorted(
            name
            for name in below
            if depth < MAX_DEPTH
            and not name.startswith(".")
            and name not in SKIPPED
            and not (path / name / "pyvenv.cfg").exists()
        )
    return found


def _matters(change: Change, path: str) -> bool:
    """Datafiles, and folders that came or went."""
    name = os.path.basename(path)
    if name.startswith("."):
        return False
    return name.endswith(SUFFIXES) or (change is not Change.modified and "." not in name)

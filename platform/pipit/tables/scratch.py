"""The temporary database in which a project is tried. Messages must not show its names: no author wrote them."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipit.catalog.snapshot import Snapshot
from pipit.catalog.written import as_written
from pipit.engine.client import Engine
from pipit.sql.identifiers import quote

# No workspace's database can have such a name: those begin with `pipit_`.
SCRATCH_PREFIX = "pipitcheck_"
SCRATCH_NAME = re.compile(rf"{SCRATCH_PREFIX}[0-9a-f]{{16}}")
_PHYSICAL = re.compile(rf"`?{SCRATCH_NAME.pattern}`?\.`?(?:[dqms]\d+_)?")


@asynccontextmanager
async def scratch_database(engine: Engine) -> AsyncIterator[str]:
    """Creates a database and drops it afterwards. After a crash, the next start drops it."""
    name = SCRATCH_PREFIX + uuid.uuid4().hex[:16]
    await engine.command(f"CREATE DATABASE {quote(name)}")
    try:
        yield name
    finally:
        await engine.command(f"DROP DATABASE IF EXISTS {quote(name)} SYNC")


def logical(message: str, snapshot: Snapshot | None = None) -> str:
    """The engine's message with the project's names in place of physical ones, with or without their database."""
    return _PHYSICAL.sub("", as_written(message, snapshot) if snapshot else message)

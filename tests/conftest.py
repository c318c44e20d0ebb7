"""What all tests share: one event loop and one engine process for the whole run. A test takes a database of
its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import fuzz
from pipit.engine import Engine, open_engine

pytest_plugins = ["serving"]
fuzz.load_profile()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
async def engine(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """The engine: a real one, embedded, one for the run. Files of any test's `tmp_path` may be inserted."""
    data = tmp_path_factory.mktemp("engine-data")
    roots: list[Path] = [tmp_path_factory.getbasetemp()]
    async with open_engine(data, None, file_roots=roots) as opened:
        yield opened

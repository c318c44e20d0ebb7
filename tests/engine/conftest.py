"""The engine process without Pipit's client around it, and a database for each test."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from pipit.engine import Engine
from pipit.engine.embedded.supervisor import EngineAddress
from pipit.engine.http import HttpEngine
from pipit.engine.opening import EmbeddedSource


@pytest.fixture
def endpoint(engine: Engine) -> EngineAddress:
    assert isinstance(engine, HttpEngine)
    source = engine._source
    assert isinstance(source, EmbeddedSource)
    endpoint = source._supervisor.endpoint
    assert endpoint is not None
    return endpoint


@pytest.fixture
async def database(engine: Engine) -> AsyncIterator[str]:
    name = f"t_{uuid.uuid4().hex[:12]}"
    await engine.command(f"CREATE DATABASE {name}")
    yield name
    await engine.command(f"DROP DATABASE {name}")

"""What all tests share: one event loop and one engine process for the whole run. A test takes a database of
its own.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import is_hypothesis_test

import fuzz
from pipit.engine import Engine, open_engine
from scratch import use_memory
from waiting import limited

pytest_plugins = ["serving", "brokers", "streams", "stores"]
fuzz.load_profile()
use_memory()

# Some machines are told not to keep compiled modules: each of the hundreds of commands that tests run would compile all
# of Pipit again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# What a shell runs in the background ignores it, and so would the commands that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The files that take longest begin first, so that no process is left with one at the end.
LONGEST = (
    "audit/test_prove.py",
    "audit/test_prove_leaks.py",
    "deploy/test_plan.py",
    "test_bench.py",
    "demo/test_browser.py",
    "ingest/test_crash.py",
    "attacks/test_sql.py",
    "cli/test_commands.py",
    "audit/test_prove_columns.py",
    "attacks/test_checks.py",
    "deploy/test_staging.py",
    "attacks/test_templates.py",
    "attacks/test_written_through.py",
    "deploy/test_writes_meanwhile.py",
    "docs/test_pages_run.py",
    "deploy/test_generations.py",
    "deploy/test_changes.py",
    "deploy/test_halfway.py",
    "attacks/test_secrets.py",
    "datafiles/test_growth.py",
    "templates/test_limits.py",
    "templates/test_properties.py",
    "templates/test_fuzz.py",
    "ingest/test_service.py",
    "deploy/test_environments.py",
    "attacks/test_environments.py",
    "faults/test_full_disk.py",
    "faults/test_kill.py",
    "faults/test_topics.py",
    "faults/test_files.py",
    "upgrade/test_upgrade.py",
    "differential/test_dose.py",
    "engine/test_supervisor.py",
    "connectors/test_reading.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj) and not is_hypothesis_test(item.obj):
            item.obj = limited(item.obj)


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

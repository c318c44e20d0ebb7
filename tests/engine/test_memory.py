"""Memory limits come from the machine, or from the control group when that is less."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipit.engine.embedded.memory import cgroup_limits, memory_bytes, query_limit, server_limit


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_this_machine() -> None:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < memory_bytes() <= physical
    assert query_limit(server_limit(memory_bytes())) < server_limit(memory_bytes())


@pytest.mark.parametrize(
    ("files", "own", "limits"),
    [
        ({"memory.max": "max\n"}, "0::/\n", []),
        ({"memory.max": "1000\n"}, "0::/\n", [1000, 1000]),
        ({"a/memory.max": "700", "a/b/memory.max": "max"}, "0::/a/b\n", [700]),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, "4:memory:/\n", []),
        ({"memory/docker/x/memory.limit_in_bytes": "500"}, "5:cpu:/\n4:memory:/docker/x\n", [500]),
        ({}, "", []),
    ],
)
def test_control_groups(tmp_path: Path, files: dict[str, str], own: str, limits: list[int]) -> None:
    for name, text in files.items():
        write(tmp_path / "cgroup" / name, text)
    write(tmp_path / "self", own)
    assert cgroup_limits(tmp_path / "cgroup", tmp_path / "self") == limits
    assert cgroup_limits(tmp_path / "none", tmp_path / "none") == []

"""The engine's error codes: one list, by the engine's own names, and no number anywhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipit
from pipit.engine import Engine
from pipit.engine.codes import Code

SOURCE = Path(pipit.__file__).parent


@pytest.mark.anyio
async def test_every_name_is_the_engines(engine: Engine) -> None:
    rows = await engine.rows(
        "SELECT number AS code, errorCodeToName(number) AS name FROM numbers(2000) WHERE name != ''"
    )
    named = {int(row["code"]): row["name"] for row in rows}
    assert {code.value: code.name for code in Code} == {code.value: named.get(code.value) for code in Code}


def numbers(tree: ast.AST) -> Iterator[int]:
    """Lines where a number is compared with an error's code, or given as one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(isinstance(s, ast.Attribute) and s.attr == "engine_code" for s in sides):
                yield from (s.lineno for side in sides for s in ast.walk(side) if _is_code(s))
        elif isinstance(node, ast.keyword) and node.arg == "engine_code" and _is_code(node.value):
            yield node.value.lineno


def _is_code(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value != 0


def test_no_number_stands_for_a_code() -> None:
    found = [
        f"{file.relative_to(SOURCE)}:{line}"
        for file in SOURCE.rglob("*.py")
        for line in numbers(ast.parse(file.read_text()))
    ]
    assert not found

"""Draws docs/contributing/packages.svg: the packages, what each says of itself, and which imports which.

`make docs` runs it; a test fails while the picture that is committed differs from what the code says. The rows are the
layers of pyproject.toml, the words are the first sentence of each package's docstring, the lines are imports. Of an
import that others imply (a by b, b by c, so a by c) no line is drawn.
"""

from __future__ import annotations

import ast
import textwrap
import tomllib
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "platform" / "pipit"
PICTURE = ROOT / "docs" / "contributing" / "packages.svg"
_WIDTH, _BOX, _HEIGHT, _GAP, _LEFT = 1080, 300, 64, 40, 24


def layers() -> list[list[str]]:
    """The packages by row, the highest first. Rows that are planned only are left out."""
    (contract,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rows = [[name.strip().removeprefix("pipit.") for name in row.split("|")] for row in contract["layers"]]
    return [row for row in rows if not row[0].startswith("(")]


def sentence(package: str) -> str:
    """The first sentence of its docstring."""
    text = ast.get_docstring(ast.parse(_top(package).read_text())) or ""
    whole = " ".join(text.split("\n\n")[0].split()).replace("`", "")
    end = whole.find(". ")
    return whole if end < 0 else whole[: end + 1]


def imports() -> dict[str, set[str]]:
    """Which packages each imports, other than itself."""
    known = [name for row in layers() for name in row]
    return {name: set(_imported(name)) & set(known) - {name} for name in known}


def needed(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The imports that no others imply."""

    def reach(name: str) -> set[str]:
        found = set(graph[name])
        for other in graph[name]:
            found |= reach(other)
        return found

    return {
        name: {one for one in direct if not any(one in reach(other) for other in direct - {one})}
        for name, direct in graph.items()
    }


def picture() -> str:
    rows = layers()
    place: dict[str, tuple[float, float]] = {}
    for y, row in enumerate(rows):
        # Rows of one box are put to the left, the middle and the right in turn, so that lines do not run through boxes.
        step = (_WIDTH - 2 * _LEFT - _BOX) / 2
        for x, name in enumerate(row):
            column = (y % 3) if len(row) == 1 else x * (2 / (len(row) - 1))
            place[name] = (_LEFT + column * step, _LEFT + y * (_HEIGHT + _GAP))
    height = 2 * _LEFT + len(rows) * (_HEIGHT + _GAP) - _GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        'role="img" aria-label="The packages of Pipit and their imports">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for name, others in sorted(needed(imports()).items()):
        x, y = place[name]
        for other in sorted(others):
            to, below = place[other]
            start, end = (x + _BOX / 2, y + _HEIGHT), (to + _BOX / 2, below)
            bend = max(30.0, (end[1] - start[1]) / 2)
            lines.append(
                f'<path d="M{start[0]:.0f} {start[1]:.0f} C{start[0]:.0f} {start[1] + bend:.0f} '
                f'{end[0]:.0f} {end[1] - bend:.0f} {end[0]:.0f} {end[1]:.0f}" fill="none" stroke="#b9c4cf"/>'
            )
    for name, (x, y) in place.items():
        lines.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{_BOX}" height="{_HEIGHT}" rx="6" fill="#f5f7f9" stroke="#8794a3"/>'
        )
        lines.append(f'<text x="{x + 10:.0f}" y="{y + 17:.0f}" font-size="13" font-weight="bold">{name}</text>')
        for n, words in enumerate(textwrap.wrap(sentence(name), 48, max_lines=3, placeholder=" ...")):
            lines.append(
                f'<text x="{x + 10:.0f}" y="{y + 31 + 13 * n:.0f}" font-size="10.5" fill="#456">{escape(words)}</text>'
            )
    return "\n".join([*lines, "</svg>", ""])


def _top(package: str) -> Path:
    module = SOURCE / f"{package}.py"
    return module if module.exists() else SOURCE / package / "__init__.py"


def _imported(package: str) -> Iterator[str]:
    folder = SOURCE / package
    for file in sorted(folder.rglob("*.py")) if folder.is_dir() else [SOURCE / f"{package}.py"]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "pipit":
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipit."):
                yield (node.module or "").split(".")[1]
            elif isinstance(node, ast.Import):
                yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("pipit."))


if __name__ == "__main__":
    PICTURE.write_text(picture())

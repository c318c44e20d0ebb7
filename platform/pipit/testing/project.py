"""What a project's tests need of its folder besides the tests: datafiles whose rows stay, and values of its secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

_NAMED = re.compile(r"tb_(?:secret|var)\s*\(\s*[\"']([A-Za-z_][\w.\-]*)[\"']")
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][\w.\-]*)\s*=\s*(.*?)\s*\Z")
# Reads as a number and as a text. A test whose result depends on a secret names it in .env.local.
_STAND_IN = "1"

_TTL = re.compile(r"^[ \t]*ENGINE_TTL\b(?:[ \t]*>[ \t]*\n(?:[ \t]+\S.*\n?)*|.*$)", re.IGNORECASE | re.MULTILINE)


def without_ttl(files: Mapping[str, str]) -> dict[str, str]:
    """The files with their ENGINE_TTL lines empty: fixtures grow old, and nobody can expect rows that are gone."""
    kinds = (".datasource", ".incl")
    return {name: _TTL.sub("", text) if name.endswith(kinds) else text for name, text in files.items()}


def secrets_of(folder: Path, files: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The secrets that the files name, with values from `.env.local` or the environment; those that have a stand-in."""
    names = sorted({name for text in files.values() for name in _NAMED.findall(text)})
    given = _local(folder / ".env.local") | dict(os.environ)
    return {name: given.get(name, _STAND_IN) for name in names}, tuple(n for n in names if n not in given)


def _local(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    found = [_LINE.match(line) for line in lines if not line.lstrip().startswith("#")]
    return {m[1]: _unquoted(m[2]) for m in found if m}


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value

"""What the SQL of a schema makes of lines, without a table."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

from pipit.datafiles.resources import Column
from pipit.engine import Engine
from pipit.ingest import limits, parse


class Sheet:
    """A file of lines read by the SQL of a schema, without a table."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine, self._folder = engine, folder

    async def read(
        self, columns: list[Column], lines: list[Any], fixed: dict[str, Any] | None = None
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """(good rows, bad rows as the quarantine shows them)."""
        path = self._folder / f"{uuid.uuid4().hex}.segment"
        encoded = [line if isinstance(line, bytes) else _text(line).encode() for line in lines]
        path.write_bytes(b"\n".join(encoded) + b"\n")
        reader = parse.reader(columns, fixed)
        source: dict[str, Any] = {
            "path": path,
            "format": parse.FORMAT,
            "structure": parse.STRUCTURE,
            "settings": {
                **limits.STATEMENT_SETTINGS,
                "output_format_json_quote_decimals": 1,
                "output_format_json_validate_utf8": 1,
            },
        }
        good = await self._engine.select_file(reader.good_rows(strict=False), **source)
        bad = await self._engine.select_file(reader.bad_rows("i"), **source)
        counts = await self._engine.select_file(reader.counts([0]), **source)
        assert [(len(lines), len(bad))] == [(int(c["total"]), int(c["bad"])) for c in counts]
        assert len(good) + len(bad) == len(lines)
        return good, bad


def _text(line: Any) -> str:
    return line if isinstance(line, str) else json.dumps(line)


def c(name: str, type: str, path: str | None = None, default: str | None = None) -> Column:
    return Column(name, type, path or f"$.{name}", default)

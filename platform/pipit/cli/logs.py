"""Where the log goes: `logs/pipit.log` in the data directory, turned over by size, and what matters to the terminal.

A token never stands in either (attack A18). The code logs none; the filter here is the second line: it blanks
everything that looks like a token, the admin token, and any `token=` of a URL, in messages and in stack traces.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO

from pipit import jsontext
from pipit.errors import EngineStartError

_FILE_BYTES = 10 * 1024 * 1024
_FILES = 5
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_TOKENS = re.compile(
    r"\b(?:p\.eyJ[\w-]+(?:\.[\w-]+)?|eyJ[\w-]+\.eyJ[\w-]+(?:\.[\w-]*)?)|(?<=\btoken=)[^&\s'\"]+|(?<=\bBearer )\S+",
    re.IGNORECASE,
)


def log_to(
    folder: Path, *, hide: Iterable[str], to_terminal: int = logging.WARNING, lines_of_json: bool = False
) -> None:
    """Everything from INFO on into the file, from `to_terminal` on to standard error too. `hide`: secrets to blank.
    `lines_of_json`: a JSON object a line, and all of them to standard error, for what collects logs.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EngineStartError(f"{folder} cannot be made: {error.strerror}", hint="Make room on the disk.") from None
    file = _PrivateFile(folder / "pipit.log", maxBytes=_FILE_BYTES, backupCount=_FILES, encoding="utf-8")
    file.setFormatter(_Lines(hide) if lines_of_json else _Blanking(hide, _FORMAT))
    file.setLevel(logging.INFO)
    terminal = logging.StreamHandler()
    terminal.setFormatter(_Lines(hide) if lines_of_json else _Sentence(hide, "%(levelname)s %(message)s"))
    terminal.setLevel(logging.INFO if lines_of_json else to_terminal)
    logging.basicConfig(level=logging.INFO, handlers=[file, terminal], force=True)
    # Their lines below ERROR are about each connection and each change of a file.
    for name in ("uvicorn.error", "watchfiles", "asyncio", "aiohttp", "clickhouse_connect"):
        logging.getLogger(name).setLevel(logging.ERROR)


class _Blanking(logging.Formatter):
    def __init__(self, hide: Iterable[str], text: str) -> None:
        super().__init__(text)
        self._hide = tuple(hide)

    def format(self, record: logging.LogRecord) -> str:
        return self.blanked(super().format(record))

    def blanked(self, text: str) -> str:
        for secret in self._hide:
            text = text.replace(secret, "***")
        return _TOKENS.sub("***", text)


class _Lines(_Blanking):
    """A JSON object a line. Texts are blanked before they are written as JSON, which could change a secret's form."""

    def __init__(self, hide: Iterable[str]) -> None:
        super().__init__(hide, "%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        found = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": self.blanked(record.getMessage()),
        }
        if record.exc_info:
            found["exception"] = self.blanked(self.formatException(record.exc_info))
        return jsontext.text(found)


class _Sentence(_Blanking):
    """One line: the stack trace is for the file."""

    def format(self, record: logging.LogRecord) -> str:
        kept = record.exc_info, record.exc_text
        record.exc_info = record.exc_text = None
        try:
            return super().format(record)
        finally:
            record.exc_info, record.exc_text = kept


class _PrivateFile(RotatingFileHandler):
    """What the disk does not take is not logged: that is said once on standard error, not with each line."""

    _said = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)
        elif not self._said:
            self._said = True
            print(f"The log {self.baseFilename} cannot be written: {sys.exc_info()[1]}", file=sys.stderr)

    def _open(self) -> IO[str]:  # type: ignore[override]
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return open(descriptor, "a", encoding=self.encoding)

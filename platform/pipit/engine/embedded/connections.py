"""Connections to the engine in this process: each is opened for one request, and closed after it.

Opening one costs 0.15 ms, whatever the URL says: base settings and the database stand in it, since a `USE` would
cost as much again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from chdb import _chdb

from pipit.sql.identifiers import quote

_NAME = re.compile(r"[a-z_0-9]+\Z")
_VALUE = re.compile(r"[A-Za-z0-9_.,-]+\Z")  # what a connection's URL takes as it is: it knows no escapes
_DATABASE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def connect(url: str) -> Any:
    """A connection to the engine at `path?setting=value&...`; the first one of a process opens the directory."""
    return _chdb.connect(url)  # type: ignore[attr-defined]  # an extension module without stubs


class Connections:
    """May be used from any thread. `base` are the settings that every connection starts with."""

    def __init__(self, path: str, base: Mapping[str, str]) -> None:
        for name, value in base.items():
            if not _NAME.match(name) or not _VALUE.match(value):
                raise ValueError(f"not a plain setting: {name}={value!r}")
        self.base = dict(base)
        self._url = path + "?" + "&".join(f"{name}={value}" for name, value in base.items())

    def open(self, database: str = "") -> Any:
        """A connection in that database; the caller closes it. Raises the engine's RuntimeError."""
        if _DATABASE.match(database):
            return connect(f"{self._url}&database={database}")
        connection = connect(self._url)
        if database:
            try:
                connection.query("USE " + quote(database), "Null")
            except BaseException:
                connection.close()
                raise
        return connection

    def run(self, sql: str) -> None:
        """A statement without a result, on a connection of its own."""
        connection = self.open()
        try:
            connection.query(sql, "Null")
        finally:
            connection.close()

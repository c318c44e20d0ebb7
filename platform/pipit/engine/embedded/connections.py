"""Connections to the engine in this process: each is opened for one request, and closed after it.

Opening one costs 0.15 ms, whatever the URL says: settings and the database stand in it, since a `SET` and a `USE` would
cost as much again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from chdb import _chdb

from pipit.engine.codes import Code
from pipit.engine.embedded.failure import Failure
from pipit.sql.identifiers import quote

_NAME = re.compile(r"[a-z_0-9]+\Z")
_VALUE = re.compile(r"[A-Za-z0-9_.,-]+\Z")
_SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_DATABASE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# What a connection's URL takes as it is. It knows no escapes: `&` ends a value, and an empty one means 1.
_IN_URL = re.compile(r"[!-%'-~](?:[ -%'-~]*[!-%'-~])?\Z")
_NO_URL = "`"  # stands for a database that no URL can name
_REMEMBERED = 256  # requests' settings
_REMEMBERED_CHARACTERS = 16 * 1024  # of one request

_Pairs = tuple[tuple[str, str], ...]


def connect(url: str) -> Any:
    """A connection to the engine at `path?setting=value&...`; the first one of a process opens the directory."""
    return _chdb.connect(url)  # type: ignore[attr-defined]  # an extension module without stubs


class Connections:
    """May be used from any thread."""

    def __init__(self, path: str, base: Mapping[str, str], known: Mapping[str, str | None]) -> None:
        """`base`: the settings that every connection starts with. `known`: all settings of the engine, with the values
        that they have by themselves (None: not certain). A URL ignores any other name in silence, or takes it for an
        option of a client."""
        for name, value in base.items():
            if not _NAME.match(name) or not _VALUE.match(value):
                raise ValueError(f"not a plain setting: {name}={value!r}")
        self._values = {**known, **base}
        self._url = path + "?" + "&".join(f"{name}={value}" for name, value in base.items())
        self._split = lru_cache(_REMEMBERED)(self._split_anew)  # a token's settings are the same for all its reads
        self._in_url = frozenset(name for name in known if "_" in name or name == "readonly") - base.keys()

    def start(self, database: str, settings: Mapping[str, str], tag: str) -> tuple[str, dict[str, str]]:
        """The URL of a connection in this database that starts with those of the settings that a URL can carry, so that
        each means what a SET of it would mean; and the others, for a SET. `readonly` is among them if there are any, as
        their last: nothing is set behind it. What a connection has anyhow is in neither: each costs its time.

        `tag`: by which KILL QUERY finds the statement. Raises Failure.
        """
        is_small = sum(map(len, settings.values())) < _REMEMBERED_CHARACTERS
        split = self._split if is_small else self._split_anew
        if _DATABASE.match(database or "default") and _IN_URL.match(tag):
            url, others = split(database, tuple(settings.items()))
            return f"{url}&log_comment={tag}", dict(others)
        _, others = split(_NO_URL, tuple(settings.items()))
        return self._url, {"log_comment": tag, **dict(others)}

    def _split_anew(self, database: str, settings: _Pairs) -> tuple[str, _Pairs]:
        asked = dict(settings)
        asked.pop("log_comment", None)
        for name in asked:
            if not _SETTING_NAME.match(name):
                raise Failure(Code.UNKNOWN_SETTING, "Unknown setting")
        if asked.get("dialect", "clickhouse") != "clickhouse":
            raise Failure(Code.UNKNOWN_SETTING, "Other dialects are not allowed: their texts cannot be checked")
        readonly = asked.pop("readonly", None)
        if "compatibility" not in asked:  # which changes what connections have
            asked = {name: value for name, value in asked.items() if self._values.get(name) != value}
        if readonly is not None:
            asked["readonly"] = readonly
        if database and not _DATABASE.match(database):  # it needs a USE, which comes before all settings
            return self._url, tuple(asked.items())
        url = self._url
        later: list[tuple[str, str]] = []
        for name, value in asked.items():
            if name in self._in_url and _IN_URL.match(value) and not (later and name == "readonly"):
                url += f"&{name}={value}"
            else:
                later.append((name, value))
        return url, tuple(later)

    def open(self, database: str = "", url: str = "") -> Any:
        """A connection in that database, by the URL that `start` gave for it; the caller closes it.

        Raises the engine's RuntimeError.
        """
        url = url or self._url
        if _DATABASE.match(database):
            return connect(f"{url}&database={database}")
        connection = connect(url)
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

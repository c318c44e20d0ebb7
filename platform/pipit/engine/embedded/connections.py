"""Connections to the engine in this process: each is used for one request, and never given back.

Opening one costs a third of a millisecond, so a few wait ready, with the base settings already in force.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from chdb import _chdb

_READY = 16
_NAME = re.compile(r"[a-z_0-9]+\Z")
_VALUE = re.compile(r"[A-Za-z0-9_.,-]+\Z")  # what needs no escaping in a connection's URL


def connect(url: str) -> Any:
    """A connection to the engine at `path?setting=value&...`; the first one of a process opens the directory."""
    return _chdb.connect(url)  # type: ignore[attr-defined]  # an extension module without stubs


class Connections:
    """`take` may be called from any thread. `base` are the settings that every connection starts with."""

    def __init__(self, path: str, base: Mapping[str, str]) -> None:
        for name, value in base.items():
            if not _NAME.match(name) or not _VALUE.match(value):
                raise ValueError(f"not a plain setting: {name}={value!r}")
        self.base = dict(base)
        self._url = path + "?" + "&".join(f"{name}={value}" for name, value in base.items()) if base else path
        self._ready: deque[Any] = deque()
        self._filler = ThreadPoolExecutor(1, thread_name_prefix="connections")
        self._filling = threading.Lock()

    def take(self) -> Any:
        """A connection that nobody used before. The caller closes it."""
        try:
            connection = self._ready.popleft()
        except IndexError:
            connection = self.open()
        if len(self._ready) < _READY // 2 and self._filling.acquire(blocking=False):
            try:
                self._filler.submit(self._fill)
            except RuntimeError:  # stopping
                self._filling.release()
        return connection

    def open(self) -> Any:
        return connect(self._url)

    def run(self, sql: str) -> None:
        """A statement without a result, on a connection of its own."""
        connection = self.take()
        try:
            connection.query(sql, "Null")
        finally:
            connection.close()

    def _fill(self) -> None:
        try:
            while len(self._ready) < _READY:
                self._ready.append(self.open())
        finally:
            self._filling.release()

    def stop(self) -> None:
        self._filler.shutdown(wait=True, cancel_futures=True)
        while self._ready:
            self._ready.popleft().close()

"""The one wire to the engine: ClickHouse's HTTP protocol through clickhouse-connect's async client (rule 7).

`Engine` is all that the rest of Pipit knows of ClickHouse. It adds to the client: one error vocabulary
(`pipit.errors`), the engine-away state (503 at once instead of hanging), and inserts from a local file.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

ParamValue = str | int | float | bool | None | Sequence["ParamValue"]
Settings = Mapping[str, str | int | float]
Counts = Callable[[Mapping[str, int]], None]


@dataclass(slots=True)
class Statement:
    """A text with all that goes beside it, for one that is sent often. `fields`: what `binding.fields_of` makes of its
    values, settings, database and format."""

    sql: str
    fields: Mapping[str, str]
    url: str | None = None  # the engine's own: what it sends, worked out the first time


class Engine(Protocol):
    """What the rest of Pipit calls. Errors: SqlError, QueryTimeout, TooLarge, Unavailable (all of
    `pipit.errors`).
    """

    @property
    def embedded(self) -> bool:
        """True: the child process with chDB. False: a server at PIPIT_CLICKHOUSE_URL."""
        ...

    @property
    def available(self) -> bool:
        """Whether calls have a chance now; while False every one raises Unavailable at once."""
        ...

    @property
    def restarts(self) -> int:
        """How often the built-in engine was started again."""
        ...

    async def query(
        self,
        sql: str,
        params: Mapping[str, ParamValue] | None = None,
        *,
        settings: Settings | None = None,
        database: str | None = None,
        format: str | None = None,
        query_id: str | None = None,
    ) -> bytes:
        """The whole result in ClickHouse's `format` (default_format; the text has no FORMAT clause)."""
        ...

    def stream(
        self,
        sql: str | Statement,
        params: Mapping[str, ParamValue] | None = None,
        *,
        settings: Settings | None = None,
        database: str | None = None,
        format: str | None = None,
        query_id: str | None = None,
        counts: Counts | None = None,
        most: int = 0,
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The result as it comes. Leaving the context early cancels the query in the engine.

        A `Statement` holds params, settings, database and format itself, and is quicker from the second time on.

        One that is known to be larger than `most` bytes is TooLarge on entering; who takes it counts the others.

        An error before the first byte raises on entering; one after it raises from the iterator, never as
        data. `counts` is told what the engine counted until it began to answer; that is all, if it held the answer
        back (`wait_end_of_query`) or the answer was short.
        """
        ...

    async def rows(
        self,
        sql: str,
        params: Mapping[str, ParamValue] | None = None,
        *,
        settings: Settings | None = None,
        database: str | None = None,
    ) -> list[dict[str, Any]]:
        """Small control-plane reads (state tables, EXPLAIN, counts) as dicts; 64-bit integers as int."""
        ...

    async def command(
        self,
        sql: str,
        params: Mapping[str, ParamValue] | None = None,
        *,
        settings: Settings | None = None,
        database: str | None = None,
    ) -> None:
        """DDL and other statements without a result."""
        ...

    async def insert(
        self, table: str, rows: Sequence[Mapping[str, object]], *, settings: Settings | None = None
    ) -> None:
        """Control-plane rows (state, logs), as JSONEachRow. `table` is already quoted (`db`.`table`)."""
        ...

    async def insert_file(
        self,
        into: str,
        select: str,
        path: Path,
        *,
        format: str,
        structure: str,
        settings: Settings | None = None,
    ) -> None:
        """`INSERT INTO {into} {select}` where `select` holds the marker `{source}` once, as its FROM.

        Embedded it becomes `file('path', format, 'structure')`; on a server `input('structure')` and the
        file's bytes stream in the body.
        """
        ...

    async def select_file(
        self,
        select: str,
        path: Path,
        *,
        format: str,
        structure: str,
        settings: Settings | None = None,
    ) -> list[dict[str, Any]]:
        """A SELECT over a local file, same marker, as rows: for counting and explaining, not for data paths."""
        ...

    async def kill(self, query_id: str) -> None:
        """Ends a running query. Silent when there is none."""
        ...

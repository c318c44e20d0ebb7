"""Two workspaces of one engine: in one A's rows alone, in the other the same rows with those of others among them.

Read through Pipit's own reader, as an endpoint and as tenant SQL, with A's token. Of A's rows the parts, their order and
so what an answer may be are the same in both; the others' lie in the same parts and in parts of their own.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from differential import columns
from differential.calls import Check
from pipit.access.context import Scope, SecurityContext, TokenKind
from pipit.access.params import RequestParams
from pipit.catalog.snapshot import CompiledNode, CompiledPipe, Snapshot
from pipit.catalog.state import WorkspaceSettings
from pipit.errors import PipitError
from pipit.query.formats import JSON, TSV
from pipit.query.limits import REPEATABLE, Limits
from pipit.query.queries import PipeQuery, Query, Read, SqlQuery
from pipit.query.read import Reader
from pipit.server import Server
from pipit.sql.identifiers import quote

_FILES = {
    "datasources/facts.datasource": columns.FACTS,
    "datasources/keyed.datasource": columns.KEYED,
    "endpoints/tried.pipe": "NODE n\nSQL >\n    SELECT 1\nTYPE endpoint\n",
}
_TRIES = 8  # an answer that changes by itself, maybe between few, is another one at one of these
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` 200 with bytes, or an error's status with its text."""

    status: int
    body: bytes

    @property
    def shown(self) -> str:
        text = self.body.decode("utf-8", "backslashreplace")
        return f"{self.status} {text[:_SHOWN]}"


@dataclass(frozen=True, slots=True)
class Difference:
    mode: str
    text: str
    alone: Answer
    among_others: Answer


@dataclass
class World:
    """`alone` and `full`: the snapshots of the two workspaces."""

    reader: Reader
    alone: Snapshot
    full: Snapshot
    asked: int = 0
    by_chance: set[str] = field(default_factory=set)  # texts whose answer changes by itself

    async def compare(self, mode: str, text: str) -> tuple[Answer, Difference | None]:
        """A's answer over its own rows, and how it differs among those of others. `mode`: "endpoint" or "sql".

        An answer that changes by itself, as that of now() or rand(), is compared with itself (`by_chance`).
        """
        self.asked += 1
        alone, full = await asyncio.gather(self.ask(self.alone, mode, text), self.ask(self.full, mode, text))
        first = alone
        for attempt in range(_TRIES):
            full = await self.ask(self.full, mode, text) if attempt else full
            if full == alone:
                return first, None
            again = await self.ask(self.alone, mode, text)
            if again != alone:
                self.by_chance.add(text)
                return first, None
            alone = again
        return first, Difference(mode, text, alone, full)

    async def ask(self, snapshot: Snapshot, mode: str, text: str) -> Answer:
        scope = Scope("PIPES:READ", "tried") if mode == "endpoint" else None
        scopes = (scope,) if scope else tuple(Scope("DATASOURCES:READ", name) for name in ("facts", "keyed"))
        security = SecurityContext(snapshot.workspace.id, TokenKind.JWT, "a", scopes, {"customer_id": "a"})
        query: Query
        if mode == "endpoint":
            pipe = snapshot.pipes["tried"]
            node = CompiledNode(replace(pipe.nodes["n"].node, sql=text.removesuffix(" FORMAT JSON")), None)
            one = CompiledPipe(replace(pipe.pipe, nodes=(node.node,)), {"n": node})
            snapshot = replace(snapshot, pipes={"tried": one})
            query = PipeQuery("tried", RequestParams(()), JSON)
        else:
            query = SqlQuery(text, RequestParams(()), TSV)
        try:
            async with self.reader.open(Read(snapshot, security, query, "r")) as answer:
                return Answer(200, b"".join([chunk async for chunk in answer.chunks]))
        except PipitError as error:
            told = json.dumps([type(error).__name__, error.message, error.hint]).replace(snapshot.workspace.database, "-")
            return Answer(error.status, told.encode())


@asynccontextmanager
async def two_workspaces(server: Server, name: str) -> AsyncIterator[World]:
    """Both with their rows; removed afterwards."""
    reader = Reader(server.engine, Limits(steady=dict(REPEATABLE)))
    made = []
    try:
        for which in ("alone", "full"):
            workspace = await server.catalog.create_workspace(f"{name}_{which}")
            made.append(workspace.id)
            await server.deployer.deploy(workspace.id, _FILES)
            await server.catalog.put_settings(workspace.id, WorkspaceSettings(tenant_sql=True))
            await _fill(server, server.catalog.snapshot(workspace.id), with_others=which == "full")
        yield World(reader, *(server.catalog.snapshot(id) for id in made))
    finally:
        for id in made:
            await server.deployer.remove_workspace(id)


async def _fill(server: Server, snapshot: Snapshot, *, with_others: bool) -> None:
    """Parts that no merge joins: two of A's rows in each, before or behind those of others; one of others alone.

    In each of them another poison comes first, so that each type is once among those that a part knows.
    """
    parts = []
    for at in range(0, columns.ROWS, 2):
        own, behind = list(columns.rows_of_a(at, at + 2)), at % 4 == 2
        others = list(columns.rows_of_others(columns.BEFORE if behind else columns.BEHIND, at)) if with_others else []
        parts.append([*own, *others])
        if with_others and not at:
            parts.append(list(columns.rows_of_others((*columns.BEFORE, *columns.BEHIND), 1)))
    for table in ("facts", "keyed"):
        name = f"{quote(snapshot.workspace.database)}.{quote(snapshot.tables[table].physical)}"
        await server.engine.command(f"SYSTEM STOP MERGES {name}")
        for part in parts:
            rows = " UNION ALL ".join(f"SELECT {place} AS place, * FROM ({row})" for place, row in enumerate(part))
            rows = f"SELECT * EXCEPT (place) FROM ({rows}) ORDER BY place"  # the first types are those that a part knows
            if table == "keyed":
                rows = f"SELECT customer_id, n, s_word, lc_word, i64, day, toUInt64(abs(n)) AS ver FROM ({rows})"
            names = ", ".join(quote(column.name) for column in snapshot.tables[table].datasource.columns)
            settings = "async_insert = 0, max_query_size = 100000000, max_partitions_per_insert_block = 1000"
            settings += ", max_threads = 1, max_insert_threads = 1"
            await server.engine.command(f"INSERT INTO {name} ({names}) SETTINGS {settings} {rows}")


def answered_alone() -> Check:
    """What an error says of an expression over `facts` for A's rows, empty where it is answered: by an engine of this process."""
    from chdb import session

    engine = session.Session()
    engine.query("CREATE DATABASE IF NOT EXISTS tried")
    allowed = "SETTINGS allow_suspicious_low_cardinality_types = 1, allow_suspicious_variant_types = 1"
    engine.query(f"CREATE OR REPLACE TABLE tried.facts ({columns.structure()}) ENGINE = Memory {allowed}")
    rows = " UNION ALL ".join(columns.rows_of_a(0, columns.ROWS))
    engine.query(f"INSERT INTO tried.facts {rows} {allowed}")

    def check(expression: str) -> str:
        text = f"SELECT {expression} FROM tried.facts SETTINGS max_execution_time = 2, max_memory_usage = 500000000"
        try:
            engine.query(text, "Null")
        except Exception as error:  # whatever it says, it does not answer
            found = re.match(r"Code: (\d+)", str(error))
            return found[1] if found else "?"
        return ""

    return check

"""A database with a few small tables, and what the engine says that a text reads."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest

from pipit.engine import Engine
from pipit.sql.tree import EXPLAIN_RAW, EXPLAIN_RESOLVED, Reads, parse_query_tree

_NUMBERS = itertools.count(1)
TABLES = {"t": "(a Int32, s String, arr Array(Int32))", "u": "(a Int32)", "w": "(a Int32)"}


@dataclass(frozen=True)
class Tables:
    """Tables t, u and w, each once as itself (`t`) and once under the name that a catalog would give it (`d1_t`)."""

    engine: Engine
    database: str

    async def explain(
        self,
        sql: str,
        params: dict[str, str | int] | None = None,
        *,
        raw: bool = False,
        database: str | None = None,
        **settings: int,
    ) -> Reads:
        return parse_query_tree(await self.tree(sql, params, raw=raw, database=database, **settings))

    async def tree(
        self,
        sql: str,
        params: dict[str, str | int] | None = None,
        *,
        raw: bool = False,
        database: str | None = None,
        **settings: int,
    ) -> str:
        prefix = EXPLAIN_RAW if raw else EXPLAIN_RESOLVED
        answer = await self.engine.query(
            prefix + sql, params, database=database or self.database, format="TSVRaw", settings=settings
        )
        return answer.decode()


@pytest.fixture
async def tables(engine: Engine) -> Tables:
    database = f"sql_test_{next(_NUMBERS)}"
    await engine.command(f"CREATE DATABASE {database}")
    for name, columns in TABLES.items():
        for physical in (name, f"d1_{name}"):
            await engine.command(
                f"CREATE TABLE {database}.{physical} {columns} ENGINE = ReplacingMergeTree "
                "ORDER BY intHash32(a) SAMPLE BY intHash32(a)"
            )
    return Tables(engine, database)

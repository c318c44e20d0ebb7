"""What is stored of a value does not hang on the way that its segment takes: from its file, or from memory."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipit.datafiles.resources import Column
from pipit.engine import Engine
from pipit.ingest import load
from pipit.ingest.probe import Probe
from waiting import until

from .test_service import SETTINGS, Place, make_place

pytestmark = pytest.mark.anyio

TYPES = {
    "id": "Int64",
    "data": "JSON",
    "few": "JSON(max_dynamic_paths=2, max_dynamic_types=2)",
    "none": "JSON(max_dynamic_paths=0)",
    "typed": "JSON(t Int64, `u.v` String, SKIP w)",
    "list": "Array(JSON)",
    "any": "Dynamic",
    "narrow": "Dynamic(max_types=2)",
    "anys": "Array(Dynamic)",
    "map": "Map(String, Dynamic)",
    "variant": "Variant(String, Int64, Float64, Bool, DateTime64(3))",
    "raw": "String",
}
COLUMNS = tuple(Column(name, type, f"$.{name}") for name, type in TYPES.items())
OBJECTS = ("data", "few", "none", "typed")
STORED = {
    "d1_events": ", ".join(
        [f"toJSONString({c}), JSONAllPathsWithTypes({c}), JSONDynamicPathsWithTypes({c})" for c in OBJECTS]
        + [f"toString({c}), dynamicType({c}), isDynamicElementInSharedData({c})" for c in ("any", "narrow")]
        + ["id, toJSONString(list), arrayMap(x -> JSONAllPathsWithTypes(x), list), toString(anys), toString(map)"]
        + ["arrayMap(x -> dynamicType(x), anys), arrayMap(x -> dynamicType(x), mapValues(map)), variantType(variant)"]
        + [
            "toString(data.a), dynamicType(data.a), toString(data.k.:Int64), toString(data.^a), toString(data.a[].b), raw"
        ]
    ),
    "d1_parsed": "id, toJSONString(data), JSONAllPathsWithTypes(data), toJSONString(other), JSONAllPathsWithTypes(other), k",
    "d1_counted": "sum(n), arraySort(groupUniqArrayArray(paths)), arraySort(groupUniqArrayArray(kinds))",
    "q1_events": "id, data, few, any, c__error, c__error_column",
}
SCALARS = [
    None, True, False, 0, -1, 2.5, 1e300, 2**64 - 1, -(2**63), 123456789012345678901234567890,
    "", "x", "2024-01-01", "2024-01-01 10:00:00", "2.5", "[1]", '{"a":1}', "a\u0000b\n", "\U0001f388",
]  # fmt: skip


class Rows:
    def __init__(self, seed: int, *, lists: bool, wide: bool) -> None:
        self.random, self.lists, self.wide = random.Random(seed), lists, wide

    def value(self, depth: int = 0) -> Any:
        kind = self.random.random()
        if depth > 2 or kind < 0.5:
            return self.random.choice(SCALARS)
        if kind < 0.75 and self.lists:
            return [self.value(depth + 1) for _ in range(self.random.randrange(4))]
        return self.object(depth + 1)

    def object(self, depth: int = 0) -> dict[str, Any]:
        keys = ["a", "b", "k", "a.b", "K", "", *(f"z{n}" for n in range(30))]
        return {self.random.choice(keys): self.value(depth) for _ in range(self.random.randrange(6))}

    def row(self, number: int) -> bytes:
        row: dict[str, Any] = {"id": "bad" if number % 11 == 5 else number}
        row |= {name: self.object() for name in OBJECTS}
        row["typed"] |= {"t": number, "u": {"v": "s"}, "w": [1]}
        if self.wide:
            row["data"] |= {f"w{self.random.randrange(3000)}": self.value(2) for _ in range(60)}
        row |= {"any": self.value(1), "narrow": self.value(1), "raw": json.dumps(self.object())}
        row["list"] = [self.object() for _ in range(self.random.randrange(3))] if self.lists else []
        row["anys"] = [self.value(3) for _ in range(self.random.randrange(4))] if self.lists else []
        row["map"] = {key: self.value(3) for key in "xy"[: self.random.randrange(3)]}
        row["variant"] = self.random.choice([None, True, 1, 2.5, "x", "2024-01-01 10:00:00"])
        return json.dumps(row).encode() + b"\n"


async def make(engine: Engine, folder: Path) -> Place:
    """One view parses a text, one reads keys, one looks at all paths of a block; a row of number 13 is refused by one."""
    place = await make_place(engine, folder, columns=COLUMNS)
    for statement in (
        "CREATE TABLE DB.d1_parsed (id Int64, data JSON, other JSON(max_dynamic_paths=3), k String) "
        f"ENGINE = MergeTree ORDER BY id SETTINGS {SETTINGS}",
        "CREATE MATERIALIZED VIEW DB.m1_a TO DB.d1_parsed AS SELECT id, CAST(raw AS JSON) AS data, "
        "CAST(d1_events.data AS JSON(max_dynamic_paths=3)) AS other, toString(few.k) AS k FROM DB.d1_events "
        "WHERE throwIf(id = 13) = 0",
        f"CREATE TABLE DB.d1_counted (n UInt64, paths Array(String), kinds Array(String)) ENGINE = MergeTree ORDER BY n SETTINGS {SETTINGS}",
        "CREATE MATERIALIZED VIEW DB.m1_b TO DB.d1_counted AS SELECT count() AS n, "
        "arraySort(groupUniqArrayArray(JSONAllPaths(data))) AS paths, arraySort(groupUniqArray(dynamicType(any))) AS kinds "
        "FROM DB.d1_events WHERE id != 13 GROUP BY id % 2",
    ):
        await place.command(statement)
    return place


async def stored(place: Place, bodies: list[bytes]) -> dict[str, Any]:
    """What the tables have of the requests, all in one segment."""
    async with place.ingest() as ingest:
        async with place.paused():
            sent = [
                asyncio.create_task(ingest.append(place.target, b, wait=True, scope=str(n)))
                for n, b in enumerate(bodies)
            ]
            rows = b"".join(bodies).count(b"\n")
            await until(lambda: ingest.pending(place.database, "d1_events").rows >= rows)
        found: dict[str, Any] = {"told": await asyncio.gather(*sent)}
        assert await ingest.drain(place.database, "d1_events")
    for table, columns in STORED.items():
        only = (
            "WHERE id != 13" if table == "d1_events" else ""
        )  # of a refused row the table may hold what the view lacks
        found[table] = await place.engine.rows(f"SELECT {columns} FROM `{place.database}`.{table} {only} ORDER BY ALL")
    await place.engine.command(f"DROP DATABASE `{place.database}`")
    return found


@pytest.mark.parametrize(("rows", "lists", "wide"), [(12, True, False), (12, False, False), (120, True, True)])
async def test_json_from_memory_is_stored_as_from_the_file(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, lists: bool, wide: bool
) -> None:
    """Three senders, with rows of wrong types; one row of the last is refused by a view."""
    made = Rows(rows, lists=lists, wide=wide)
    good = [made.row(n) for n in range(14, 14 + rows)]
    bodies = [b"".join(good[: rows // 2]), b"".join(good[rows // 2 :]), made.row(6) + made.row(13)]
    from_memory, insert = 0, Probe.insert

    async def counted(probe: Probe, *args: Any) -> None:
        nonlocal from_memory
        await insert(probe, *args)
        from_memory += not probe.as_lines

    monkeypatch.setattr(Probe, "insert", counted)
    ways: list[Callable[[Any], bool]] = [load._may_be_read_from_copy, lambda job: False]
    found = []
    for number, way in enumerate(ways):
        monkeypatch.setattr(load, "_may_be_read_from_copy", way)
        folder = tmp_path / str(number)
        folder.mkdir()
        found.append(await stored(await make(engine, folder), bodies))
        assert from_memory >= 2  # the others' rows, then what is left of the last request
    for name in found[0]:
        assert found[0][name] == found[1][name], name

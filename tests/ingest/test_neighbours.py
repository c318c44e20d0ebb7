"""What a value becomes hangs on nothing but itself: not on the other rows of its segment, which may be others'."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest

from serving import Workspace
from waiting import until

pytestmark = pytest.mark.anyio

VALUES = [
    '"2024-01-01"', '"2024-99-99"', '"2024-01-01 10:00:00"', '"2024-01-01 10:00:00.123"', '"2024-01-01T10:00:00Z"',
    '"x"', '""', '"5"', '"2.5"', '"true"', '"[1]"', "1", "-1", "2.5", "1e3", "true", "18446744073709551615",
    "123456789012345678901234567890", "[]", "[null]", "[1,2]", "[1,2.5]", "[true]", "[true,1]", '["a"]',
    '["2024-01-01"]', '["2024-01-01","x"]', "[[1]]", "[[]]", '[{"a":1}]', '[{"a":"2024-01-01"}]', '[1,"a"]',
    '[1,{"a":1}]', "[18446744073709551615]", '{"a":1}', '{"a":[1]}', '{"a":"2024-01-01"}', '{"b":"x"}',
]  # fmt: skip
PAIRS = list(itertools.permutations(VALUES, 2))
WITHOUT_LISTS = [pair for pair in PAIRS if "[" not in "".join(pair)]
SCALARS = [value for value in VALUES if value[0] not in "[{"]

FILES = {
    "datasources/js.datasource": (
        "SCHEMA >\n    `i` Int64 `json:$.i`,\n    `data` JSON `json:$.data`,\n    `list` Array(JSON) `json:$.list` DEFAULT [],\n"
        "    `raw` String `json:$.raw`\n\nENGINE MergeTree\nENGINE_SORTING_KEY i\n"
    ),
    "datasources/parsed.datasource": (
        "SCHEMA >\n    `i` Int64,\n    `data` JSON\n\nENGINE MergeTree\nENGINE_SORTING_KEY i\n"
    ),
    "datasources/copied.datasource": (
        "SCHEMA >\n    `i` Int64,\n    `data` JSON\n\nENGINE MergeTree\nENGINE_SORTING_KEY i\n"
    ),
    "materializations/parse.pipe": (
        "NODE parsing\nSQL >\n    SELECT i, CAST(raw AS JSON) AS data FROM js\nTYPE materialized\nDATASOURCE parsed\n"
    ),
    "copies/copy_raw.pipe": (
        "NODE copying\nSQL >\n    SELECT i, CAST(raw AS JSON) AS data FROM js\n"
        "TYPE copy\nTARGET_DATASOURCE copied\nCOPY_MODE replace\n"
    ),
    "datasources/mixed.datasource": (
        "SCHEMA >\n    `i` Int64 `json:$.i`,\n    `d` Dynamic `json:$.d`,\n"
        "    `l` Array(Dynamic) `json:$.l`,\n"
        "    `v` Variant(String, Date, DateTime64(3), Int64, Float64, Bool) `json:$.v`\n\n"
        "ENGINE MergeTree\nENGINE_SORTING_KEY i\n"
    ),
}


def rows_of(pairs: Sequence[tuple[str, str]], kind: str) -> list[str]:
    """Two rows; each pair of values stands at a key of its own, one value in each row."""
    rows = []
    for number in (0, 1):
        data = "{" + ",".join(f'"k{n}":{pair[number]}' for n, pair in enumerate(pairs)) + "}"
        raw = json.dumps(data)
        if kind == "escaped":  # the same text, in which no bracket is seen
            raw = raw.replace("[", "\\u005b").replace("{", "\\u007B", 1)
        shown = "{}" if kind == "escaped" else data
        listed = f', "list": [{data}]' if kind == "lists" else ""
        rows.append(f'{{"i": {number}, "data": {shown}{listed}, "raw": {raw}}}\n')
    return rows


async def stored(workspace: Workspace, table: str, columns: str, where: int | None = None) -> list[Any]:
    condition = "" if where is None else f"WHERE i = {where}"
    sql = f"SELECT {columns} FROM {table} {condition} ORDER BY i FORMAT JSONCompact"
    reply = await workspace.post("/v0/sql", data=sql.encode())
    assert reply.status == 200, reply.text
    data: list[Any] = reply.json["data"]
    return data


async def copied(workspace: Workspace) -> None:
    job = (await workspace.post("/v0/pipes/copy_raw/copy")).json["job"]["job_id"]

    async def ended() -> str:
        state = str((await workspace.get(f"/v0/jobs/{job}")).json["status"])
        return "" if state in ("waiting", "working") else state

    assert await until(ended) == "done"


TABLES = {
    "js": "toJSONString(data), JSONAllPathsWithTypes(data), toJSONString(list), arrayMap(x -> JSONAllPathsWithTypes(x), list)",
    "parsed": "toJSONString(data), JSONAllPathsWithTypes(data)",
    "copied": "toJSONString(data), JSONAllPathsWithTypes(data)",
}


@pytest.mark.parametrize("kind", ["lists", "escaped", "without_lists"])
async def test_a_json_value_does_not_hang_on_its_neighbours(workspace: Workspace, kind: str) -> None:
    """K39: as the engine reads JSON, a text becomes a date and a list gets the type of lists at the same key of other rows."""
    await workspace.deploy(FILES)
    pairs = WITHOUT_LISTS if kind == "without_lists" else PAIRS
    for start in range(0, len(pairs), 300):
        rows = rows_of(pairs[start : start + 300], kind)
        answers = []
        for sends in ([rows[0], rows[1]], ["".join(rows)], ["".join(reversed(rows))]):
            for name in ("js", "parsed", "copied"):
                await workspace.server.engine.command(
                    f"TRUNCATE TABLE `{workspace.database}`.`{physical(workspace, name)}`"
                )
            for body in sends:
                reply = await workspace.post("/v0/events?name=js&wait=true", data=body.encode())
                assert (reply.status, reply.json["quarantined_rows"]) == (200, 0), reply.text
            await copied(workspace)
            answers.append({name: await stored(workspace, name, columns) for name, columns in TABLES.items()})
        for name in TABLES:
            assert answers[0][name] == answers[1][name] == answers[2][name], name


async def test_variant_and_dynamic_values_do_not_hang_on_their_neighbours(workspace: Workspace) -> None:
    await workspace.deploy(FILES)
    lines = [f'{{"i": {n}, "v": {value}, "d": {value}, "l": [{value}]}}\n' for n, value in enumerate(SCALARS)]
    lines += [f'{{"i": {n}, "v": null, "d": {value}, "l": [{value}]}}\n' for n, value in enumerate(VALUES, 100)]
    columns = "toString(v), variantType(v), toString(d), dynamicType(d), toString(l), arrayMap(x -> dynamicType(x), l)"
    for line in lines:
        assert (await workspace.post("/v0/events?name=mixed&wait=true", data=line.encode())).status == 200
    alone = await stored(workspace, "mixed", columns)
    for order in (lines, lines[::-1], lines[7:] + lines[:7]):
        await workspace.server.engine.command(f"TRUNCATE TABLE `{workspace.database}`.`{physical(workspace, 'mixed')}`")
        reply = await workspace.post("/v0/events?name=mixed&wait=true", data="".join(order).encode())
        assert (reply.status, reply.json["quarantined_rows"]) == (200, 0), reply.text
        assert await stored(workspace, "mixed", columns) == alone


async def test_what_a_view_decodes_does_not_hang_on_its_neighbours(workspace: Workspace) -> None:
    """No bracket is seen in the rows."""
    files = {
        "datasources/coded.datasource": (
            "SCHEMA >\n    `i` Int64 `json:$.i`,\n    `raw` String `json:$.raw`\n\n"
            "ENGINE MergeTree\nENGINE_SORTING_KEY i\n"
        ),
        "datasources/parsed.datasource": FILES["datasources/parsed.datasource"],
        "materializations/decode.pipe": (
            "NODE decoding\nSQL >\n    SELECT i, CAST(base64Decode(raw) AS JSON) AS data FROM coded\n"
            "TYPE materialized\nDATASOURCE parsed\n"
        ),
    }
    await workspace.deploy(files)
    texts = ['{"k": [[1]]}', '{"k": [null]}']
    rows = [json.dumps({"i": n, "raw": base64.b64encode(text.encode()).decode()}) for n, text in enumerate(texts)]
    reply = await workspace.post("/v0/events?name=coded&wait=true", data="\n".join(rows).encode())
    assert reply.status == 200, reply.text
    assert await stored(workspace, "parsed", "toJSONString(data)") == [['{"k":[[1]]}'], ['{"k":[null]}']]


async def test_a_text_in_a_json_column_stays_a_text(workspace: Workspace) -> None:
    await workspace.deploy(FILES)
    row = '{"i": 1, "data": {"day": "2024-01-01", "at": "2024-01-01T10:00:00.5Z"}, "raw": "{}"}'
    assert (await workspace.post("/v0/events?name=js&wait=true", data=row.encode())).status == 200
    columns = (
        "toJSONString(data), dynamicType(data.day), toDate(data.day), toYear(parseDateTimeBestEffort(data.at::String))"
    )
    assert await stored(workspace, "js", columns) == [
        ['{"at":"2024-01-01T10:00:00.5Z","day":"2024-01-01"}', "String", "2024-01-01", 2024]
    ]


def physical(workspace: Workspace, name: str) -> str:
    return workspace.server.catalog.snapshot(workspace.id).tables[name].physical

"""A `.datasource` file cannot make the engine run anything but its own table's definition.

The author is the admin of one workspace; what they would reach is other workspaces' rows, the tokens in `pipit`, the
server's files and its network. Each attack is refused with its place in the file, before anything was created.
"""

from __future__ import annotations

import pytest

from pipit.engine import Engine
from pipit.errors import BadRequest, PipitError, ProjectError
from pipit.sql.identifiers import quote
from pipit.tables.ddl import create_table
from pipit.tables.ddl_check import checked
from serving import Workspace

pytestmark = pytest.mark.anyio

BASE = """SCHEMA >
    x String,
    ts DateTime,
    y UInt64

ENGINE MergeTree
"""
KEY = "ENGINE_SORTING_KEY x\n"

# (the file, the line of the error)
FILES: dict[str, tuple[str, int]] = {
    "settings end in AS SELECT": (
        f"{BASE}{KEY}ENGINE_SETTINGS index_granularity=8192 AS SELECT concat(id,' ',admin_token) AS x FROM "
        "pipit.workspaces --\n",
        8,
    ),
    "a setting's value is a call": (f"{BASE}{KEY}ENGINE_SETTINGS index_granularity=sleep(1)\n", 8),
    "a disk": (f"{BASE}{KEY}ENGINE_SETTINGS disk=disk(type=local, path='/tmp/pipit_x/')\n", 8),
    "a storage policy": (f"{BASE}{KEY}ENGINE_SETTINGS storage_policy='default'\n", 8),
    "a read-only table": (f"{BASE}{KEY}ENGINE_SETTINGS table_readonly=1\n", 8),
    "a comment": (f"{BASE}{KEY}ENGINE_SETTINGS index_granularity=8192 /* x */\n", 8),
    "a key ends in AS SELECT": (f"{BASE}ENGINE_SORTING_KEY x) AS SELECT token AS x FROM pipit.tokens --\n", 7),
    "a key in balanced brackets": (
        f"{BASE}ENGINE_SORTING_KEY (x) SETTINGS index_granularity = 1 AS SELECT (x) FROM pipit.tokens\n",
        7,
    ),
    "a quoted bracket": (f"{BASE}ENGINE_SORTING_KEY (x, '(') SETTINGS storage_policy = (')')\n", 0),
    "a key reads a table": (f"{BASE}ENGINE_SORTING_KEY x IN pipit.tokens\n", 7),
    "a key calls in()": (f"{BASE}ENGINE_SORTING_KEY in(x, pipit.tokens)\n", 7),
    "a partition": (f"{BASE}{KEY}ENGINE_PARTITION_KEY hostName()\n", 8),
    "a primary key": (f"{BASE}{KEY}ENGINE_PRIMARY_KEY (SELECT any(token) FROM pipit.tokens)\n", 8),
    "a sampling key": (f"{BASE}{KEY}ENGINE_SAMPLING_KEY joinGet('pipit.j', 'a', x)\n", 8),
    "a TTL's subquery": (
        f"{BASE}{KEY}ENGINE_TTL ts + toIntervalDay(1) DELETE WHERE x NOT IN (SELECT token FROM pipit.tokens)\n",
        8,
    ),
    "a TTL's table": (f"{BASE}{KEY}ENGINE_TTL ts + toIntervalDay(1) DELETE WHERE x NOT IN pipit.tokens\n", 8),
    "a TTL's SET": (
        f"{BASE}{KEY}ENGINE_TTL ts + toIntervalDay(1) GROUP BY x SET y = max((SELECT any(token) FROM pipit.tokens))\n",
        8,
    ),
    "a TTL's SET without a query": (f"{BASE}{KEY}ENGINE_TTL ts + toIntervalDay(1) GROUP BY x SET y = max(y)\n", 8),
    "a TTL's disk": (f"{BASE}{KEY}ENGINE_TTL ts + toIntervalDay(1) TO DISK 'default'\n", 8),
    "a TTL's settings": (f"{BASE}{KEY}ENGINE_TTL ts + toIntervalDay(1) SETTINGS storage_policy = 'default'\n", 8),
    "a url": (f"{BASE}{KEY}ENGINE_TTL ts AS url('http://127.0.0.1:9/')\n", 8),
    "an option of a table that is imported": (
        "SCHEMA >\n    x String\n\nENGINE ReplacingMergeTree\nENGINE_SORTING_KEY x\n"
        "ENGINE_VER x) ORDER BY x AS SELECT token AS x FROM pipit.tokens --\n"
        "IMPORT_CONNECTION_NAME s3\nIMPORT_BUCKET_URI s3://bucket/*.csv\n",
        0,
    ),
    "an index": (f"{BASE}{KEY}INDEXES >\n    i (SELECT any(token) FROM pipit.tokens) TYPE minmax GRANULARITY 1\n", 8),
    "an index's call": (f"{BASE}{KEY}INDEXES >\n    i dictGet('d', 'a', x) TYPE minmax GRANULARITY 1\n", 8),
    "an index's type": (f"{BASE}{KEY}INDEXES >\n    i x TYPE set(sleep(1)) GRANULARITY 1\n", 8),
    "an index's end": (
        f"{BASE}{KEY}INDEXES >\n    i x TYPE set(1)) ENGINE = MergeTree ORDER BY x AS SELECT (x) FROM pipit.t (1)\n",
        8,
    ),
}
DEFAULTS = [
    "UInt8 DEFAULT x IN pipit_other.d1_s",
    "UInt8 DEFAULT x IN (pipit_other.d1_s)",
    "UInt8 DEFAULT x GLOBAL NOT IN d1_s",
    "UInt8 DEFAULT globalIn(x, d1_s)",
    "UInt8 DEFAULT x IN numbers(3)",
    "String DEFAULT hostName()",
    "String DEFAULT `hostName`()",
    "UInt8 DEFAULT hasColumnInTable('pipit','tokens','token')",
    "UInt8 DEFAULT sleep(1)",
    "String DEFAULT dictGet('pipit.d', 'a', 1)",
    "String DEFAULT file('/etc/passwd')",
    "String DEFAULT (SELECT any(token) FROM pipit.tokens)",
    "String DEFAULT (FROM pipit.tokens)",
    "String DEFAULT (WITH 1 AS a SELECT a)",
    "UInt8 DEFAULT exists(SELECT 1 FROM pipit.tokens)",
    "String DEFAULT {a:String}",
    "String DEFAULT '' SETTINGS (max_compress_block_size = 1)",
    "String DEFAULT 'a') ENGINE = MergeTree ORDER BY x AS SELECT ('a'",
    "DateTime64(3, hostName())",
    "FixedString((SELECT 1))",
    "AggregateFunction(flameGraph, UInt64)",
    "String CODEC(AES_128_GCM_SIV)",
    "String CODEC(ZSTD(sleep(1)))",
    "NoSuchType(UInt8)",
]
ATTACKS = FILES | {
    text: (f"SCHEMA >\n    x String,\n    ts DateTime,\n    z {text}\n\nENGINE MergeTree\n{KEY}", 4)
    for text in DEFAULTS
}


@pytest.mark.parametrize("name", ATTACKS)
async def test_a_definition_that_does_more_is_refused(
    shared_workspace: Workspace, engine: Engine, name: str
) -> None:
    """Nothing of it is made, so all of them are tried in one workspace."""
    text, line = ATTACKS[name]
    workspace = shared_workspace
    files = {"datasources/d.datasource": text}
    for check in (True, False):
        with pytest.raises(ProjectError) as caught:
            await workspace.deploy(files, check=check)
        assert caught.value.errors
        for error in caught.value.errors:
            assert error.file == "datasources/d.datasource"
            assert error.line > 0
        if line:
            assert line in [error.line for error in caught.value.errors], str(caught.value)
    tables = await engine.rows(
        "SELECT name FROM system.tables WHERE database = {database:String}", {"database": workspace.database}
    )
    assert tables == []


async def test_a_column_that_is_added_is_judged_too(workspace: Workspace, engine: Engine) -> None:
    before = f"{BASE}{KEY}"
    await workspace.deploy({"datasources/d.datasource": before})
    after = before.replace("y UInt64", "y UInt64,\n    z UInt8 DEFAULT x IN pipit.tokens")
    with pytest.raises(ProjectError) as caught:
        await workspace.deploy({"datasources/d.datasource": after})
    assert [(e.file, e.line) for e in caught.value.errors] == [("datasources/d.datasource", 5)]
    columns = await engine.rows(
        "SELECT name FROM system.columns WHERE database = {database:String} AND table = 'd1_d'",
        {"database": workspace.database},
    )
    assert [c["name"] for c in columns] == ["x", "ts", "y"]


async def test_what_a_definition_may_say(workspace: Workspace, engine: Engine) -> None:
    """Everything that is allowed, in one file: it deploys, and the engine keeps it."""
    text = """SCHEMA >
    id UUID DEFAULT generateUUIDv4(),
    `from` String DEFAULT 'a (b',
    at DateTime64(3, 'UTC') DEFAULT now64(3),
    day Date DEFAULT CAST(at AS Date),
    kind Enum8('a' = 1, 'b' = -2) DEFAULT 'a',
    n Nullable(Decimal(18, 4)),
    m Map(LowCardinality(String), Array(UInt8)),
    t Tuple(a String, `b c` Nullable(Int64)),
    j JSON(a UInt32, a.b Array(String), max_dynamic_paths=3, SKIP c, SKIP REGEXP 'x'),
    s SimpleAggregateFunction(max, UInt64),
    q AggregateFunction(quantiles(0.5, 0.9), Float64),
    c UInt64 DEFAULT if(`from` IN ('a', 'b') AND n IS NOT NULL, arraySum(x -> x + 1, [1, 2]), -1) CODEC(Delta, ZSTD(3)),
    i UInt8 DEFAULT CASE WHEN `from` LIKE 'a%' THEN 1 ELSE 2 END

ENGINE "ReplacingMergeTree"
ENGINE_PARTITION_KEY "toYYYYMM(day)"
ENGINE_SORTING_KEY "from, cityHash64(id), day"
ENGINE_PRIMARY_KEY "from, cityHash64(id)"
ENGINE_SAMPLING_KEY "cityHash64(id)"
ENGINE_TTL "day + INTERVAL 3 MONTH DELETE WHERE kind IN ('a'), toDateTime(at) + toIntervalDay(90)"
ENGINE_VER at
ENGINE_SETTINGS index_granularity=1024, ttl_only_drop_parts = 0

INDEXES >
    one lower(`from`) TYPE bloom_filter(0.01) GRANULARITY 4
    two at TYPE minmax GRANULARITY 1
    three c TYPE set(100)
    four `from` TYPE ngrambf_v1(3, 256, 2, 0) GRANULARITY 2
"""
    await workspace.deploy({"datasources/d.datasource": text})
    kept = await engine.rows(
        "SELECT engine_full, sorting_key FROM system.tables WHERE database = {database:String} AND name = 'd1_d'",
        {"database": workspace.database},
    )
    assert kept[0]["sorting_key"] == "`from`, cityHash64(id), day"
    assert "index_granularity = 1024" in kept[0]["engine_full"]
    after = text.replace("    i UInt8", "    k String DEFAULT lower('K') CODEC(LZ4),\n    i UInt8")
    await workspace.deploy({"datasources/d.datasource": after})


# --- the DDL check alone: whatever the first layer lets through

STATEMENTS = [
    "CREATE TABLE a.b (x String) ENGINE = MergeTree ORDER BY x AS SELECT token AS x FROM pipit.tokens",
    "CREATE TABLE a.b (x String) ENGINE = MergeTree ORDER BY x SETTINGS index_granularity = 1 AS SELECT 1 AS x",
    "CREATE TABLE a.b (x String) ENGINE = MergeTree ORDER BY x EMPTY AS SELECT 1 AS x",
    "CREATE TABLE a.b AS pipit.tokens",
    "CREATE TABLE a.b CLONE AS pipit.tokens",
    "CREATE TABLE a.b AS url('http://127.0.0.1:9/')",
    "CREATE TABLE a.b (x String DEFAULT (SELECT 1)) ENGINE = MergeTree ORDER BY x",
    "CREATE TABLE a.b (x UInt8 DEFAULT (FROM pipit.tokens)) ENGINE = MergeTree ORDER BY x",
    "CREATE TABLE a.b (x UInt8 DEFAULT y IN pipit.tokens) ENGINE = MergeTree ORDER BY x",
    "CREATE TABLE a.b (x UInt8 DEFAULT in(`y\n       Literal 1`, pipit.tokens)) ENGINE = MergeTree ORDER BY x",
    "CREATE TABLE a.b (x UInt8 DEFAULT in(`y\\n       Literal 1`, pipit.tokens)) ENGINE = MergeTree ORDER BY x",
    "CREATE TABLE a.b (x UInt8 DEFAULT y IN numbers(3)) ENGINE = MergeTree ORDER BY x",
    "CREATE TABLE a.b (x UInt8 DEFAULT `hostName`()) ENGINE = MergeTree ORDER BY x",
    "CREATE TABLE a.b (x UInt8 MATERIALIZED hostName()) ENGINE = MergeTree ORDER BY x",
    "CREATE TABLE a.b (x UInt8 DEFAULT minmax(sleep(1))) ENGINE = MergeTree ORDER BY x",
    "CREATE TABLE a.b (x UInt8 DEFAULT set(1)) ENGINE = MergeTree ORDER BY x",
    "CREATE TABLE a.b (x UInt8 DEFAULT CODEC(sleep(1))) ENGINE = MergeTree ORDER BY x",
    "CREATE TABLE a.b (x UInt8 CODEC(AES_128_GCM_SIV)) ENGINE = MergeTree ORDER BY x",
    "CREATE TABLE a.b (x UInt8 DEFAULT 1 SETTINGS (max_compress_block_size = 1)) ENGINE = MergeTree ORDER BY x",
    "CREATE TABLE a.b (x UInt8, PROJECTION p (SELECT x ORDER BY x)) ENGINE = MergeTree ORDER BY x",
    "CREATE TABLE a.b (x UInt8, CONSTRAINT c CHECK x IN z) ENGINE = MergeTree ORDER BY x",
    "CREATE TABLE a.b (x UInt8, INDEX i x TYPE hypothesis) ENGINE = MergeTree ORDER BY x",
    "CREATE TABLE a.b (x UInt8) ENGINE = Merge('pipit', '.*')",
    "CREATE TABLE a.b (x UInt8) ENGINE = MergeTree ORDER BY x TTL x GROUP BY x SET y = max(y)",
    "CREATE TABLE a.b (x UInt8) ENGINE = MergeTree ORDER BY x TTL x TO DISK 'd'",
    "CREATE TABLE a.b (x UInt8) ENGINE = MergeTree ORDER BY x SETTINGS disk = disk(type=local, path='/')",
    "CREATE TABLE a.b (x UInt8) ENGINE = MergeTree ORDER BY x SETTINGS storage_policy = 'x'",
    "CREATE TABLE a.b (x UInt8) ENGINE = MergeTree ORDER BY x -- a",
    "CREATE TABLE a.b (x UInt8) ENGINE = MergeTree ORDER BY x; DROP TABLE pipit.tokens",
    "CREATE TABLE a.b (x UInt8) ENGINE = MergeTree ORDER BY x COMMENT 'x'",
    "CREATE VIEW a.b AS SELECT 1",
    "CREATE DICTIONARY a.b (x UInt8) PRIMARY KEY x SOURCE(CLICKHOUSE(TABLE 'tokens' DB 'pipit')) LAYOUT(FLAT()) LIFETIME(1)",
    "ALTER TABLE a.b ADD COLUMN x UInt8 DEFAULT (SELECT 1)",
    "ALTER TABLE a.b ADD COLUMN x UInt8, DROP COLUMN y",
    "ALTER TABLE a.b ADD COLUMN x UInt8 FIRST, ATTACH PARTITION ID '1' FROM pipit.tokens",
    "ALTER TABLE a.b ATTACH PARTITION ID '1' FROM pipit.tokens",
    "ALTER TABLE a.b MODIFY COLUMN x UInt8 DEFAULT (SELECT 1)",
    "ALTER TABLE a.b MODIFY COLUMN x UInt8 DEFAULT joinGet('pipit.j', 'a', x)",
    "ALTER TABLE a.b MODIFY COLUMN x UInt8, DROP COLUMN y",
    "ALTER TABLE a.b ADD INDEX i (SELECT 1) TYPE minmax",
    "ALTER TABLE a.b ADD INDEX i x TYPE hypothesis",
    "ALTER TABLE a.b MODIFY TTL x TO DISK 'd'",
    "ALTER TABLE a.b MODIFY TTL x DELETE WHERE y IN pipit.tokens",
    "ALTER TABLE a.b MODIFY TTL x GROUP BY x SET y = max(y)",
    "ALTER TABLE a.b MODIFY SETTING storage_policy = 'x'",
    "ALTER TABLE a.b MODIFY SETTING index_granularity = 1, disk = 'x'",
    "ALTER TABLE a.b MODIFY SETTING index_granularity = 1 SETTINGS x = 1",
    "ALTER TABLE a.b MODIFY ORDER BY x",
    "ALTER TABLE a.b MODIFY QUERY SELECT 1",
    "ALTER TABLE a.b DROP COLUMN x",
    "ALTER TABLE a.b DROP PARTITION 1",
    "ALTER TABLE a.b RENAME COLUMN x TO y",
    "ALTER TABLE a.b ADD PROJECTION p (SELECT x ORDER BY x)",
    "ALTER TABLE a.b UPDATE x = 1 WHERE 1",
    "ALTER TABLE a.b DELETE WHERE x IN pipit.tokens",
    "SELECT 1",
    "INSERT INTO a.b SELECT 1",
    "DROP TABLE pipit.tokens",
]


@pytest.mark.parametrize("statement", STATEMENTS)
async def test_the_gate_refuses(engine: Engine, statement: str) -> None:
    with pytest.raises(PipitError) as caught:
        await checked(engine, statement)
    assert caught.value.status == 400


async def test_the_gate_stands_without_the_first_layer(workspace: Workspace, engine: Engine) -> None:
    """A definition whose pieces nobody judged: the statement is refused as a whole, by the engine's tree."""
    from pipit.datafiles import parse_project

    for name, (text, _) in FILES.items():
        try:
            project = parse_project({"datasources/d.datasource": text})
        except ProjectError:
            continue
        statement = create_table(project.datasources["d"], workspace.database, "d1_d")
        with pytest.raises(PipitError):
            await checked(engine, statement)
        assert quote(workspace.database) in statement, name


async def test_the_gate_lets_through(engine: Engine) -> None:
    for statement in (
        "CREATE TABLE IF NOT EXISTS a.b (`x` String, INDEX i (x) TYPE text(tokenizer = ngrams(3))) ENGINE = MergeTree() "
        "ORDER BY tuple() TTL x + INTERVAL 1 DAY SETTINGS index_granularity = 1",
        "CREATE TABLE a.b (`x` String) ENGINE = Null",
        "ALTER TABLE a.b ADD COLUMN x Array(String) DEFAULT (['a']) CODEC(ZSTD(1)) AFTER `y`",
        "ALTER TABLE a.b MODIFY COLUMN x Array(LowCardinality(String)) DEFAULT (['a']) CODEC(ZSTD(1))",
        "ALTER TABLE a.b MODIFY COLUMN x REMOVE DEFAULT",
        "ALTER TABLE a.b MATERIALIZE COLUMN x",
        "ALTER TABLE a.b ADD INDEX i (x) TYPE set(10) GRANULARITY 1",
        "ALTER TABLE a.b DROP INDEX IF EXISTS `i`",
        "ALTER TABLE a.b MATERIALIZE INDEX `i`",
        "ALTER TABLE a.b MODIFY TTL x + INTERVAL 1 DAY",
        "ALTER TABLE a.b REMOVE TTL",
        "ALTER TABLE a.b MODIFY SETTING index_granularity = 1, merge_with_ttl_timeout = 2",
        "ALTER TABLE a.b RESET SETTING index_granularity",
    ):
        assert await checked(engine, statement) == statement
    with pytest.raises(BadRequest):
        await checked(engine, "CREATE TABLE a.b (x String) ENGINE = Memory")

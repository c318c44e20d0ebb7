"""`.datasource` files that are right: what each line becomes."""

from __future__ import annotations

import pytest

from pipit.datafiles import parse_datasource, parse_project
from pipit.datafiles.connection import read_connection
from pipit.datafiles.datasource import read_datasource
from pipit.datafiles.resources import Column, DataSource, Index, Position, RowPolicy, TokenGrant
from pipit.datafiles.source import ParseReport
from pipit.errors import ProjectError


def source(text: str, file: str = "datasources/events.datasource") -> DataSource:
    return parse_datasource(text, file=file)


def columns(schema: str) -> list[tuple[str, str, str | None, str | None, str | None]]:
    parsed = source("SCHEMA >\n" + schema).columns
    return [(c.name, c.type, c.jsonpath, c.default, c.codec) for c in parsed]


FULL = """\
# made by hand
DESCRIPTION >
    Two lines

      of text
TOKEN "app" APPEND
TOKEN two words READ
TAGS "a, b"

SCHEMA >
    `ts` DateTime64(3, 'UTC') `json:$.ts` CODEC(Delta, ZSTD(1)),
    `tenant` LowCardinality(String) `json:$.tenant`, -- who
    `tags` Array(String) `json:$.tags[:]` DEFAULT ['a,b', 'c'],
    `kind` Enum8('a' = 1, 'b,)' = 2) DEFAULT 'a',

ENGINE "MergeTree"
ENGINE_PARTITION_KEY "toYYYYMM(ts)" # by month
ENGINE_SORTING_KEY tenant, ts
ENGINE_TTL "ts + toIntervalDay(30)"
ENGINE_SETTINGS index_granularity=4096, ttl_only_drop_parts = 1

INDEXES >
    INDEX by_kind kind TYPE set(100) GRANULARITY 4
    words lower(tenant) TYPE tokenbf_v1(512, 3, 0)

ROW_POLICY >
    tenant = {{String(context.tenant)}}
    {% if defined(context.team) %} AND tags[1] = {{String(context.team)}} {% end %}
ROW_POLICY_OPTIONAL team

SHARED_WITH >
    one,
    two
FORWARD_QUERY >
    SELECT *
BACKFILL skip
"""


def test_every_part_of_a_datasource() -> None:
    events = source(FULL)
    assert events.name == "events"
    assert events.description == "Two lines\n\n  of text"
    assert events.tokens == (TokenGrant("app", "APPEND"), TokenGrant("two words", "READ"))
    assert events.tags == ("a", "b")
    assert events.columns == (
        Column("ts", "DateTime64(3, 'UTC')", "$.ts", None, "CODEC(Delta, ZSTD(1))", Position(11, 5)),
        Column("tenant", "LowCardinality(String)", "$.tenant", None, None, Position(12, 5)),
        Column("tags", "Array(String)", "$.tags[:]", "['a,b', 'c']", None, Position(13, 5)),
        Column("kind", "Enum8('a' = 1, 'b,)' = 2)", None, "'a'", None, Position(14, 5)),
    )
    engine = events.engine
    assert (engine.name, engine.sorting_key, engine.partition_key) == ("MergeTree", "tenant, ts", "toYYYYMM(ts)")
    assert engine.ttl == "ts + toIntervalDay(30)"
    assert engine.settings == {"index_granularity": "4096", "ttl_only_drop_parts": "1"}
    assert events.indexes == (
        Index("by_kind", "kind", "set(100)", 4),
        Index("words", "lower(tenant)", "tokenbf_v1(512, 3, 0)", None),
    )
    assert events.row_policy == RowPolicy(
        "tenant = {{String(context.tenant)}}\n"
        "{% if defined(context.team) %} AND tags[1] = {{String(context.team)}} {% end %}",
        frozenset({"team"}),
        Position(27, 5),
    )
    assert events.shared_with == ("one", "two")
    assert events.forward_query == "SELECT *"
    assert events.backfill_skip
    assert events.text == FULL


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ("    a String", [("a", "String", None, None, None)]),
        ("    a String, b Int32,", [("a", "String", None, None, None), ("b", "Int32", None, None, None)]),
        ("    1st-name.x String", [("1st-name.x", "String", None, None, None)]),
        ("    `with space` String", [("with space", "String", None, None, None)]),
        ("    a DEFAULT now()", [("a", "", None, "now()", None)]),
        ("    a Nullable(String) DEFAULT NULL", [("a", "Nullable(String)", None, None, None)]),
        ("    a String DEFAULT '' `json:$.a`", [("a", "String", "$.a", "''", None)]),
        ("    a String CODEC( ZSTD(3) ) DEFAULT 'x'", [("a", "String", None, "'x'", "CODEC( ZSTD(3) )")]),
        ("    a default 1", [("a", "", None, "1", None)]),
        (
            "    a Tuple(\n        x Int32, -- one\n        y Array(Tuple(z String))\n    ) `json:$.a`",
            [("a", "Tuple(x Int32, y Array(Tuple(z String)))", "$.a", None, None)],
        ),
        ("    a Nested(Int Int32, Boolean String)", [("a", "Nested(Int Int32, Boolean String)", None, None, None)]),
        ("    a DateTime64 (6)", [("a", "DateTime64(6)", None, None, None)]),
        ("    a String DEFAULT 'it''s, \\'so\\''", [("a", "String", None, "'it''s, \\'so\\''", None)]),
        (
            "    a UInt8 DEFAULT if(b = 'x', 1, 2),\n# a comment, isn't it\n    b String",
            [("a", "UInt8", None, "if(b = 'x', 1, 2)", None), ("b", "String", None, None, None)],
        ),
        ("    index Int32", [("index", "Int32", None, None, None)]),
        ("    type String,\n    ttl UInt8", [("type", "String", None, None, None), ("ttl", "UInt8", None, None, None)]),
        ("    a AggregateFunction(count)", [("a", "AggregateFunction(count)", None, None, None)]),
        ("    a String `json:$['a.b'].c[0]`", [("a", "String", "$['a.b'].c[0]", None, None)]),
        ("    a JSON `json:$`", [("a", "JSON", "$", None, None)]),
    ],
)
def test_columns(schema: str, expected: list[tuple[str, str, str | None, str | None, str | None]]) -> None:
    assert columns(schema) == expected


def test_words_are_read_in_any_case_and_quotes_come_off() -> None:
    parsed = source("schema >\n  a String\nengine 'mergetree'\nengine_sorting_key \"a\"\ndescription x # c\n")
    assert (parsed.engine.name, parsed.engine.sorting_key, parsed.description) == ("MergeTree", "a", "x")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ENGINE_SORTING_KEY a, b", "a, b"),
        ('ENGINE_SORTING_KEY "a, b"', "a, b"),
        ('ENGINE_SORTING_KEY "a", "b"', "a, b"),
        ("ENGINE_SORTING_KEY toStartOfHour(a, 'UTC'), b", "toStartOfHour(a, 'UTC'), b"),
        ("ENGINE_SORTING_KEY if(b = 'x', 1, 2)", "if(b = 'x', 1, 2)"),
        ('ENGINE_SORTING_KEY ""', ""),
        ("ENGINE_SORTING_KEY tuple()", "tuple()"),
    ],
)
def test_expressions_keep_the_quotes_that_are_sqls(line: str, expected: str) -> None:
    assert source(f"SCHEMA >\n    a DateTime,\n    b String\n{line}\n").engine.sorting_key == expected


def test_a_policy_in_one_line() -> None:
    text = "SCHEMA >\n    a String\nROW_POLICY a = {{String(context.a)}} AND a != '# no comment' # a comment\n"
    policy = source(text).row_policy
    assert policy is not None
    assert policy.condition == "a = {{String(context.a)}} AND a != '# no comment'"


def test_a_second_policy_is_an_error_and_does_not_replace_the_first() -> None:
    from pipit.errors import ProjectError

    with pytest.raises(ProjectError, match="ROW_POLICY is given twice"):
        source("SCHEMA >\n    a String\nROW_POLICY a = 'x'\nROW_POLICY 1\n")


def test_an_unindented_line_of_a_known_word_ends_a_block_and_others_do_not() -> None:
    parsed = source("SCHEMA >\n    a String,\nb String\n    , c String\nENGINE Null\n")
    assert [column.name for column in parsed.columns] == ["a", "b", "c"]
    assert parsed.engine.name == "Null"


def test_windows_line_ends_and_a_byte_order_mark() -> None:
    parsed = source("\ufeffSCHEMA >\r\n    a String,\r\n    b Int32\r\nENGINE MergeTree\r\n")
    assert [(c.name, c.position) for c in parsed.columns] == [("a", Position(2, 5)), ("b", Position(3, 5))]


def test_a_kafka_data_source_has_its_implicit_columns_once() -> None:
    text = (
        "SCHEMA >\n    a String `json:$.a`,\n    `__value` String\n"
        "KAFKA_CONNECTION_NAME k\nKAFKA_TOPIC t\nKAFKA_GROUP_ID g\nKAFKA_STORE_HEADERS true\n"
        "ENGINE_PARTITION_KEY toYYYYMM(__timestamp)\nENGINE_SORTING_KEY __timestamp\n"
    )
    parsed = source(text)
    assert [c.name for c in parsed.columns] == [
        "a",
        "__value",
        "__topic",
        "__partition",
        "__offset",
        "__timestamp",
        "__key",
        "__headers",
    ]
    assert next(c.name for c in parsed.columns if not c.position.line) == "__topic"


def test_a_dynamodb_data_source_has_its_implicit_columns_once() -> None:
    text = (
        "SCHEMA >\n    pk String `json:$.pk`,\n    `_record` String `json:$.NewImage`\n"
        "ENGINE ReplacingMergeTree\nENGINE_PARTITION_KEY toYYYYMM(_timestamp)\nENGINE_SORTING_KEY pk\n"
        "ENGINE_VER _timestamp\nENGINE_IS_DELETED _is_deleted\n"
        "IMPORT_SERVICE dynamodb\nIMPORT_CONNECTION_NAME c\nIMPORT_TABLE_ARN arn:aws:dynamodb:eu:1:table/t\n"
        "IMPORT_EXPORT_BUCKET b\n"
    )
    names = ["pk", "_record", "_old_record", "_timestamp", "_event_name", "_event_type", "_is_deleted"]
    assert [c.name for c in source(text).columns] == names
    assert source(text).columns[1].jsonpath == "$.NewImage"


def test_values_that_the_dialect_takes_are_not_refused() -> None:
    settings = (
        "KAFKA_CONNECTION_NAME k\nKAFKA_TOPIC t\nKAFKA_GROUP_ID g\nKAFKA_AUTO_OFFSET_RESET {}\n"
        "KAFKA_STORE_RAW_VALUE {}\nKAFKA_STORE_HEADERS {}\n"
    )
    text = "SCHEMA >\n    a String\n" + settings.format("smallest", "yes", "0")
    found = parse_project({"a.datasource": text})
    assert not [w for w in found.warnings if "no value" in w.message]
    kafka = found.datasources["a"].kafka
    assert [kafka[f"KAFKA_{n}"] for n in ("AUTO_OFFSET_RESET", "STORE_RAW_VALUE", "STORE_HEADERS")] == [
        "earliest",
        "True",
        "False",
    ]
    found = parse_project({"a.datasource": "SCHEMA >\n    a String\n" + settings.format("never", "maybe", "True")})
    assert [w.message for w in found.warnings if "no value" in w.message] == [
        "'never' is no value of KAFKA_AUTO_OFFSET_RESET that we know: it counts as latest",
        "'maybe' is no value of KAFKA_STORE_RAW_VALUE that we know: it counts as False",
    ]


def test_what_comes_later_deploys_inert_with_a_warning() -> None:
    text = "SCHEMA >\n    a String\nPG_CONNECTION_NAME c\nPG_TABLE t\nVERSION 3\n"
    project = parse_project({"a.datasource": text, "c.connection": "TYPE dynamodb\nDYNAMODB_ARN a\nDYNAMODB_REGION eu\n"})
    assert [(w.file, w.line) for w in project.warnings] == [
        ("a.datasource", 5),
        ("a.datasource", 3),
        ("c.connection", 1),
    ]
    assert project.warnings[1].message.startswith("deploys inert: ")


IMPORT = "SCHEMA >\n    a String\nIMPORT_CONNECTION_NAME c\nIMPORT_BUCKET_URI s3://bucket/*.csv\nIMPORT_SCHEDULE @auto\n"


def test_a_bucket_is_checked() -> None:
    def told(more: str, connection: str = "TYPE s3\nS3_REGION eu\nS3_ACCESS_KEY k\nS3_SECRET s\n") -> list[tuple[str, int]]:
        source, store = ParseReport("a.datasource", IMPORT + more), ParseReport("c.connection", connection)
        read_datasource(source, "a")
        read_connection(store, "c")
        found = [one for report in (source, store) for one in (*report.errors, *report.warnings)]
        return [(one.message, one.line or 0) for one in found if "given twice" not in one.message]

    assert told("IMPORT_SCHEDULE 0 * * * *\nIMPORT_FROM_TIMESTAMP 2026-01-31T00:00:00Z\n") == []
    assert told("IMPORT_SCHEDULE @daily\n") == [
        ("Invalid import schedule '@daily'. Only ['@auto', '@on-demand', '@once'] values are allowed", 6)
    ]
    assert told("IMPORT_BUCKET_URI s3://bucket/{a\n") == [("Invalid bucket URI 's3://bucket/{a': a brace is not closed", 6)]
    assert told("IMPORT_FROM_TIMESTAMP yesterday\n") == [("'yesterday' is no time", 6)]
    assert told("", "TYPE s3\nS3_REGION eu\nS3_ARN arn\n") == [
        ("Nothing can connect through it: S3_ARN is not supported yet", 3)
    ]
    assert told("", "TYPE s3\nS3_REGION e/u\nS3_ENDPOINT ftp://x\nS3_ACCESS_KEY k\nS3_SECRET s\n") == [
        ("'ftp://x' is no endpoint", 3),
        ("'e/u' is no region", 2),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ROW_POLICY none REASON 'countries, for all'", "countries, for all"),
        ('ROW_POLICY NONE reason "it\'s   public # really"', "it's public # really"),
        ("ROW_POLICY >\n    none REASON 'countries,\n    for all'", "countries, for all"),
    ],
)
def test_a_policy_of_none_has_a_reason(line: str, reason: str) -> None:
    policy = source(f"SCHEMA >\n    a String\n\nENGINE MergeTree\n{line}\n").row_policy
    assert policy is not None and (policy.reason, policy.filters, policy.condition) == (reason, False, "")


@pytest.mark.parametrize("line", ["none", "NONE REASON", "none REASON ''", "none 'why'", "none REASON '  '", "none REASON a b"])
def test_a_policy_of_none_without_a_reason_is_an_error_with_its_place(line: str) -> None:
    text = f"SCHEMA >\n    a String\n\nENGINE MergeTree\nROW_POLICY {line}\n"
    with pytest.raises(ProjectError) as caught:
        source(text)
    (error,) = caught.value.errors
    assert "needs a REASON" in error.message and (error.line, error.column) == (5, 12)


def test_a_column_may_be_called_none() -> None:
    policy = source("SCHEMA >\n    none String\n\nENGINE MergeTree\nROW_POLICY none = {{String(context.a)}}\n").row_policy
    assert policy is not None and policy.filters


def test_the_version_of_a_replacing_table_may_have_its_longer_name() -> None:
    text = "SCHEMA >\n    id Int32,\n    v UInt64\n\nENGINE ReplacingMergeTree\nENGINE_SORTING_KEY id\nENGINE_VERSION v\n"
    project = parse_project({"d.datasource": text})
    engine = project.datasources["d"].engine
    assert (engine.ver, engine.version) == ("v", "")
    (warning,) = project.warnings
    assert "ENGINE_VER" in warning.message and warning.line == 7


@pytest.mark.parametrize("name", ["``", '" "', "`\u2028`", "\u2028", "\x1c"])
def test_a_name_of_nothing_but_space_is_none(name: str) -> None:
    """With quotes or without: what is taken is printed with quotes, and must be read again."""
    with pytest.raises(ProjectError, match="no name"):
        parse_project({"t.datasource": f"SCHEMA >\n    a Int8,\n    {name} String\n"})


def test_a_type_has_the_engines_own_name() -> None:
    text = "SCHEMA >\n    `a` bigint,\n    `b` Array(LowCardinality (VarChar)),\n    `c` json(k INT),\n    `d` text DEFAULT null\n"
    assert [c.type for c in source(text).columns] == [
        "Int64", "Array(LowCardinality(String))", "JSON(k Int32)", "Nullable(String)",
    ]  # fmt: skip

"""`.pipe` and `.connection` files that are right: what each line becomes."""

from __future__ import annotations

import pytest

from pipit.datafiles import parse_connection, parse_pipe
from pipit.datafiles.resources import NodeType, Pipe, Position, TokenGrant
from pipit.errors import ProjectError


def pipe(text: str, file: str = "pipes/top.pipe") -> Pipe:
    return parse_pipe(text, file=file)


def test_every_part_of_an_endpoint() -> None:
    top = pipe(
        "DESCRIPTION What is used most\n"
        'TOKEN "read it" READ\n'
        "TAGS a,b\n"
        "FIXED_PARAMS customer_id, team\n"
        "CACHE 60\n"
        "\n"
        "NODE first\n"
        "DESCRIPTION >\n"
        "    the rows\n"
        "SQL >\n"
        "    %\n"
        "    SELECT *\n"
        "      FROM events -- here\n"
        "UNION ALL\n"
        "    SELECT 2\n"
        "\n"
        "NODE last\n"
        "SQL >\n"
        "\n"
        "    SELECT count() FROM first\n"
        "type Endpoint\n"
    )
    assert (top.name, top.description, top.tags, top.cache) == ("top", "What is used most", ("a", "b"), 60)
    assert top.tokens == (TokenGrant("read it", "READ"),)
    assert top.fixed_params == ("customer_id", "team")
    first, last = top.nodes
    assert first.sql == "    %\n    SELECT *\n      FROM events -- here\nUNION ALL\n    SELECT 2"
    assert first.is_template
    assert first.description == "the rows"
    assert first.position == Position(7, 1)
    assert last.sql == "SELECT count() FROM first"
    assert last.sql_position == Position(20, 5)
    assert last.type is NodeType.ENDPOINT
    assert top.endpoint is last


def test_a_pipe_without_types_is_published_in_endpoints_or_with_a_token() -> None:
    text = "NODE a\nSQL >\n    SELECT 1\nNODE b\nSQL >\n    SELECT 2\n"
    published = pipe(text, "endpoints/old.pipe").endpoint
    assert published is not None
    assert published.name == "b"
    assert pipe(text, "pipes/old.pipe").endpoint is None
    with_token = pipe("TOKEN reader READ\n" + text, "pipes/old.pipe").endpoint
    assert with_token is not None and with_token.name == "b"
    materialized = text + "TYPE materialized\nDATASOURCE x\n"
    assert pipe(materialized, "endpoints/old.pipe").endpoint is None


def test_the_other_types_of_nodes() -> None:
    base = "NODE n\nSQL >\n    SELECT 1\n"
    view = pipe(base + "TYPE materialized\nDATASOURCE target\nDEPLOYMENT_METHOD alter\n").nodes[0]
    assert (view.type, view.datasource, view.deployment_method) == (NodeType.MATERIALIZED, "target", "alter")
    copy = pipe(
        base + "TYPE COPY\nTARGET_DATASOURCE t\nCOPY_SCHEDULE '*/5 0-6 * JAN MON,TUE'\nCOPY_MODE replace\n"
    ).nodes[0]
    assert (copy.target_datasource, copy.copy_schedule, copy.copy_mode) == ("t", "*/5 0-6 * JAN MON,TUE", "replace")
    assert pipe(base + "TYPE copy\nTARGET_DATASOURCE t\n").nodes[0].copy_schedule == "@on-demand"
    sink = pipe(
        base + "TYPE sink\nEXPORT_CONNECTION_NAME c\nEXPORT_SCHEDULE @on-demand\nEXPORT_BUCKET_URI s3://bucket/x\n"
        'EXPORT_FILE_TEMPLATE "data/{customer}/part_{4}"\nEXPORT_FORMAT NDJSON\n'
    ).nodes[0]
    assert sink.exports["EXPORT_FILE_TEMPLATE"] == "data/{customer}/part_{4}"
    assert sink.exports["EXPORT_FORMAT"] == "ndjson"


def test_sql_may_stand_unindented_with_words_that_are_directives_elsewhere() -> None:
    text = "NODE n\nSQL >\n%\nSELECT\nsource,\nschema AS x\nFROM t\nSETTINGS max_threads = 1\n\nTYPE endpoint\n"
    node = pipe(text).nodes[0]
    assert node.sql == "%\nSELECT\nsource,\nschema AS x\nFROM t\nSETTINGS max_threads = 1"
    assert node.type is NodeType.ENDPOINT


def test_an_indented_directive_stays_in_the_block_and_is_warned_of() -> None:
    from pipit.datafiles import parse_project

    project = parse_project({"a.pipe": "NODE n\nSQL >\n    SELECT 1\n    TYPE endpoint\n"})
    assert project.pipes["a"].nodes[0].sql == "SELECT 1\nTYPE endpoint"
    assert project.pipes["a"].endpoint is None
    # The other warning is that the pipe has no endpoint.
    assert [(w.line, w.column) for w in project.warnings if w.line] == [(4, 5)]
    assert "belongs to the SQL block" in project.warnings[0].message


def test_classic_engines_in_a_materialized_node_are_a_warning() -> None:
    from pipit.datafiles import parse_project

    text = 'NODE n\nSQL >\n    SELECT 1\nTYPE materialized\nDATASOURCE t\nENGINE "MergeTree"\nENGINE_SORTING_KEY a\n'
    project = parse_project({"a.pipe": text, "t.datasource": "SCHEMA >\n    a String\n"})
    assert ["ENGINE in a pipe is Classic" in w.message for w in project.warnings] == [True]
    assert project.pipes["a"].nodes[0].engine is None


def test_classic_engines_are_kept_for_a_target_that_has_no_file() -> None:
    from pipit.datafiles import parse_project

    base = "NODE n\nSQL >\n    SELECT 1 AS a\nTYPE materialized\nDATASOURCE {}\n"
    project = parse_project({"a.pipe": base.format("t") + "ENGINE SummingMergeTree\nENGINE_SORTING_KEY a\n"})
    engine = project.pipes["a"].nodes[0].engine
    assert engine is not None
    assert (engine.name, engine.sorting_key, engine.position) == ("SummingMergeTree", "a", Position(6, 1))
    for target, lines, message in (
        ("t", "ENGINE Join\n", "Engine Join is not supported"),
        ("t", "ENGINE AggregatingMergeTree\n", "AggregatingMergeTree without ENGINE_SORTING_KEY makes one row"),
        ("select", "ENGINE MergeTree\n", "'select' cannot be the name of a resource"),
        ("a", "ENGINE MergeTree\n", "'a' is a pipe, and DATASOURCE needs a data source"),
    ):
        with pytest.raises(ProjectError, match=message):
            parse_project({"a.pipe": base.format(target) + lines})


@pytest.mark.parametrize(
    ("line", "word", "value", "warned"),
    [
        ("EXPORT_STRATEGY replace", "EXPORT_STRATEGY", "truncate", True),
        ("EXPORT_STRATEGY append", "EXPORT_STRATEGY", "new", True),
        ("EXPORT_STRATEGY @new", "EXPORT_STRATEGY", "@new", False),
        ("EXPORT_WRITE_STRATEGY overwrite", "EXPORT_WRITE_STRATEGY", "new", True),
        ("EXPORT_WRITE_STRATEGY @truncate", "EXPORT_WRITE_STRATEGY", "truncate", False),
        ("EXPORT_FORMAT jsonl", "EXPORT_FORMAT", "ndjson", False),
    ],
)
def test_strategies_of_a_sink_that_the_dialect_takes(line: str, word: str, value: str, warned: bool) -> None:
    from pipit.datafiles import parse_project

    text = "NODE n\nSQL >\n    SELECT 1\nTYPE sink\nEXPORT_CONNECTION_NAME c\nEXPORT_SCHEDULE @once\n"
    text += f"EXPORT_BUCKET_URI s3://bucket/x\nEXPORT_FILE_TEMPLATE f\n{line}\n"
    project = parse_project({"a.pipe": text})
    assert project.pipes["a"].nodes[0].exports[word] == value
    assert any("that we know" in w.message and w.line == 9 for w in project.warnings) is warned


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("DESCRIPTION nothing\n", "The pipe has no node"),
        ("NODE n\n", "Node 'n' has no SQL"),
        ("NODE n\nSQL >\n\n", "Node 'n' has no SQL"),
        ("NODE 1n\nSQL >\n    SELECT 1\n", "Invalid node name '1n'"),
        ("NODE n\nSQL >\n    SELECT 1\nNODE n\nSQL >\n    SELECT 2\n", "Duplicate node 'n', first in line 1"),
        ("NODE n\nSQL >\n    SELECT 1\nSQL >\n    SELECT 2\n", "SQL is given twice in node 'n', first in line 2"),
        ("CACHE soon\nNODE n\nSQL >\n    SELECT 1\n", "CACHE needs a number of seconds"),
        ("FIXED_PARAMS a b\nNODE n\nSQL >\n    SELECT 1\n", "'a b' is not the name of a parameter"),
    ],
)
def test_what_a_pipe_may_not_be(text: str, message: str) -> None:
    with pytest.raises(ProjectError) as caught:
        pipe(text)
    assert [error.message for error in caught.value.errors] == [message]


def test_a_connection_keeps_its_settings_and_its_secrets_unread() -> None:
    text = (
        "TYPE kafka\n"
        "KAFKA_BOOTSTRAP_SERVERS 'a:9092,b:9092'\n"
        'KAFKA_KEY {{ tb_secret("key") }}\n'
        "KAFKA_SECRET ab#c\\d # the end\n"
        "KAFKA_SASL_MECHANISM scram-sha-256\n"
        "KAFKA_SSL_CA_PEM >\n"
        "    -----BEGIN CERTIFICATE-----\n"
        "    abc\n"
    )
    kafka = parse_connection(text, file="connections/k.connection")
    assert (kafka.name, kafka.type) == ("k", "kafka")
    assert kafka.settings == {
        "KAFKA_BOOTSTRAP_SERVERS": "a:9092,b:9092",
        "KAFKA_KEY": '{{ tb_secret("key") }}',
        "KAFKA_SECRET": "ab#c\\d",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
        "KAFKA_SSL_CA_PEM": "-----BEGIN CERTIFICATE-----\nabc",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("KAFKA_KEY x\n", "TYPE is mandatory"),
        ("TYPE ftp\n", "Invalid connection type 'ftp'"),
        ("TYPE s3\nS3_REGION eu\n", "required ones are missing: ['S3_ACCESS_KEY', 'S3_SECRET']"),
        ("TYPE s3\nS3_REGION eu\nS3_ARN x\nKAFKA_KEY y\n", "KAFKA_KEY is not a setting of a s3 connection"),
        ("TYPE kafka\nKAFKA_BOOTSTRAP_SERVERS a\nKAFKA_SASL_MECHANISM MD5\n", "Invalid value 'MD5'"),
    ],
)
def test_what_a_connection_may_not_be(text: str, message: str) -> None:
    with pytest.raises(ProjectError) as caught:
        parse_connection(text, file="c.connection")
    assert message in caught.value.errors[0].message

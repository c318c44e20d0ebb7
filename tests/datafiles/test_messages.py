"""The dialect's golden messages, verbatim, each with its place: scripts and people search for these texts."""

from __future__ import annotations

import pytest

from pipit.datafiles import parse_project, render_secrets
from pipit.errors import DatafileError, ProjectError

SCHEMA = "SCHEMA >\n    `a` String\n"
NODE = "NODE n\nSQL >\n    SELECT 1\n"


def errors_of(file: str, text: str, **others: str) -> list[DatafileError]:
    files = {name.replace("__", "."): content for name, content in others.items()}
    with pytest.raises(ProjectError) as caught:
        parse_project({**files, file: text})
    return list(caught.value.errors)


def only_error(file: str, text: str, **others: str) -> DatafileError:
    errors = errors_of(file, text, **others)
    assert len(errors) == 1, [str(error) for error in errors]
    return errors[0]


@pytest.mark.parametrize(
    ("file", "text", "message", "line", "column"),
    [
        ("x.datasource", "FOO bar\n" + SCHEMA, "FOO is not a valid option in datasource files.", 1, 1),
        ("x.pipe", "-- hello\n" + NODE, "-- is not a valid option in pipe files.", 1, 1),
        ("x.pipe", NODE + "ENGINE MergeTree\n", "ENGINE is not a valid option in pipe files.", 4, 1),
        (
            "x.connection",
            "TYPE kafka\nKAFKA_BOOTSTRAP_SERVERS a:9092\nTOPIC x\n",
            "TOPIC is not a valid option in connection files.",
            3,
            1,
        ),
        ("x.datasource", SCHEMA + "ENGINE >\n    MergeTree\n", "ENGINE does not support multiline arguments", 3, 1),
        ("x.pipe", "NODE n\nSQL SELECT 1\nSQL >\n    SELECT 1\n", "SQL must be multiline", 2, 1),
        (
            "x.pipe",
            "DESCRIPTION d\n  SQL >\n    SELECT 1\n" + NODE,
            "SQL must be called after a NODE command at 2:3.",
            2,
            3,
        ),
        ("x.pipe", "INCLUDE a.incl\n" + NODE, "The file 'a.incl' does not exist in the project", 1, 9),
        (
            "x.datasource",
            SCHEMA + "SETTINGS a=1\n",
            "SETTINGS option is not allowed, use ENGINE_SETTINGS instead.",
            3,
            1,
        ),
        ("x.datasource", "DESCRIPTION nothing\n", "SCHEMA is mandatory", 0, 0),
        (
            "x.datasource",
            "TOKEN t FOO\n" + SCHEMA,
            "Invalid permission: FOO. Only READ and APPEND are supported",
            1,
            9,
        ),
        (
            "x.pipe",
            'TOKEN "t" APPEND\n' + NODE,
            "Invalid permission APPEND for token t. Only READ is allowed for pipes",
            1,
            11,
        ),
        (
            "x.pipe",
            NODE + "TYPE endpoint\n" + NODE.replace("n\n", "m\n", 1) + "TYPE endpoint\n",
            "Multiple non-standard nodes in pipe. There can only be one",
            5,
            1,
        ),
        (
            "x.pipe",
            NODE + "TYPE foo\n",
            "Invalid node ''n'' of type (foo). Allowed node types: {copy, materialized, sink, endpoint}",
            4,
            6,
        ),
        (
            "x.datasource",
            SCHEMA + "KAFKA_CONNECTION_NAME c\n",
            "Some Kafka params have been provided, but the following required ones are missing: "
            "['KAFKA_TOPIC', 'KAFKA_GROUP_ID']",
            3,
            1,
        ),
        (
            "x.connection",
            "TYPE kafka\n",
            "Some connection params have been provided, but the following required ones are missing: "
            "['KAFKA_BOOTSTRAP_SERVERS']",
            1,
            1,
        ),
        (
            "x.pipe",
            NODE + "TYPE copy\n",
            "Some copy node params have been provided, but the following required ones are missing: "
            "['TARGET_DATASOURCE']",
            4,
            1,
        ),
        (
            "x.pipe",
            NODE + "TYPE materialized\n",
            "Some materialized node params have been provided, but the following required ones are missing: "
            "['DATASOURCE']",
            4,
            1,
        ),
        (
            "x.datasource",
            SCHEMA + "IMPORT_CONNECTION_NAME c\nIMPORT_BUCKET_URI s3://bucket/*.csv\nIMPORT_SCHEDULE @daily\n",
            "Invalid import schedule '@daily'. Only ['@auto', '@on-demand', '@once'] values are allowed",
            5,
            17,
        ),
    ],
)
def test_golden_message(file: str, text: str, message: str, line: int, column: int) -> None:
    error = only_error(file, text)
    assert (error.message, error.line, error.column) == (message, line, column)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("COPY_SCHEDULE @daily", "COPY node schedule must be @on-demand or a valid cron expression."),
        ("COPY_SCHEDULE 61 * * * *", "COPY node schedule must be @on-demand or a valid cron expression."),
        ('COPY_SCHEDULE {{ tb_secret("s") }}', "Secrets are not allowed in schedules"),
        ("COPY_MODE upsert", "COPY node mode must be append or replace"),
    ],
)
def test_copy_messages(line: str, message: str) -> None:
    text = NODE + f"TYPE copy\nTARGET_DATASOURCE target\n{line}\n"
    assert only_error("x.pipe", text, target__datasource=SCHEMA).message == message


def test_sink_messages() -> None:
    found = [error.message for error in errors_of("x.pipe", NODE + "TYPE sink\nEXPORT_SCHEDULE @once\n")]
    assert "Sink node 'n' is missing required parameter 'export_connection_name'" in found


@pytest.mark.parametrize(
    ("column", "message", "hint"),
    [
        ("`a` String NOT NULL", "NOT NULL column syntax not supported", "not nullable by default"),
        ("`a` String NULL", "NULL column syntax not supported", "use Nullable(...)"),
        ("`a` String MATERIALIZED 1", "MATERIALIZED columns are not supported", ""),
        ("`a` String ALIAS b", "ALIAS columns are not supported", ""),
        ("`a` DateTime TTL a + toIntervalDay(1)", "column TTL is not supported", ""),
        ("`a` DateTime64", "DateTime64 type without precision is not supported", "use DateTime64(3) instead"),
        ("`a` Nullable(DateTime64)", "DateTime64 type without precision is not supported", ""),
        ("`a` Int", "Precision is mandatory for Int types", "Int8, Int16, Int32, Int64, Int128, Int256"),
        ("`a` Array(UInt)", "Precision is mandatory for UInt types", "UInt8"),
        ("`a` Boolean", "Boolean type is not supported", "use Bool or UInt8"),
        ("INDEX i a TYPE minmax GRANULARITY 1", "INDEX is not allowed inside SCHEMA", "INDEXES"),
        ("`a`", "Column name and either type or DEFAULT are required", ""),
        ("`a` String `json:$.a[:]`", "gives an array, and column 'a' is String", "Array(String)"),
        ("`a` Int32 `json:$`", "gives the whole record", "String"),
        ("`a` String `json:a`", "a JSON path starts with $", ""),
        ("`a` Array(Array(String)) `json:$.a[:].b[:]`", "only one [:] is possible", ""),
        ("`a` String `b` String", "A comma is missing before this column", ""),
        ("`a` Array(String", "The bracket is not closed", ""),
        ("`a String", "The quote is not closed in this line", ""),
    ],
)
def test_rejected_columns(column: str, message: str, hint: str) -> None:
    error = only_error("x.datasource", f"SCHEMA >\n    {column}\n")
    assert message in error.message
    assert hint in error.hint
    assert error.line == 2


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("ENGINE Memory", "Engine Memory is not supported, supported engines include: MergeTree, Repl"),
        ("ENGINE ReplacingMergeTree", "Missing required option 'sorting_key'"),
        ('ENGINE ReplacingMergeTree\nENGINE_SORTING_KEY "tuple()"', "Missing required option 'sorting_key'"),
        ("ENGINE CollapsingMergeTree\nENGINE_SORTING_KEY a", "Missing required option 'sign'"),
        (
            "ENGINE CollapsingMergeTree\nENGINE_SORTING_KEY a\nENGINE_SIGN x",
            "Invalid value 'x' for parameter 'engine_sign', reason: 'x' column is not present in schema",
        ),
        ("ENGINE ReplacingMergeTree\nENGINE_SORTING_KEY a\nENGINE_VER a", "'a' column is in the sorting key"),
        ("ENGINE_SORTING_KEY a, count()", "aggregate function 'count' is not allowed in a key"),
        ("ENGINE_SORTING_KEY state", "'state' column is an AggregateFunction"),
        ("ENGINE_SORTING_KEY nowhere", "'nowhere' column is not present in schema"),
        ("ENGINE_SETTINGS index_granularity", "'index_granularity' is not a setting"),
        ("ENGINE_SIGN a", "ENGINE_SIGN is not an option of MergeTree"),
    ],
)
def test_engine_messages(engine: str, message: str) -> None:
    text = "SCHEMA >\n    a String,\n    state AggregateFunction(uniq, String)\n" + engine + "\n"
    assert message in only_error("x.datasource", text).message


def test_all_errors_of_all_files_at_once() -> None:
    with pytest.raises(ProjectError) as caught:
        parse_project(
            {
                "a.datasource": "SCHEMA >\n    `a` Boolean,\n    `b` Int,\n    `c` String NULL,\n    d DateTime64\nENGINE Foo\n",
                "b.pipe": "TOKEN t APPEND\nNODE n\nSQL >\n    SELECT 1\nTYPE foo\nNOPE\n",
            }
        )
    places = [(error.file, error.line) for error in caught.value.errors]
    assert places == [
        ("a.datasource", 2),
        ("a.datasource", 3),
        ("a.datasource", 4),
        ("a.datasource", 5),
        ("a.datasource", 6),
        ("b.pipe", 1),
        ("b.pipe", 5),
        ("b.pipe", 6),
    ]
    assert str(caught.value.errors[0]) == "a.datasource:2:9: Boolean type is not supported"


def test_excerpt_points_at_the_place() -> None:
    error = only_error("x.datasource", "SCHEMA >\n    `a` String,\n    `b` Boolean,\n    `c` String\n")
    assert error.excerpt.split("\n") == [
        "1 | SCHEMA >",
        "2 |     `a` String,",
        "3 |     `b` Boolean,",
        "  |         ^",
        "4 |     `c` String",
    ]


def test_excerpt_of_a_long_line_is_cut_around_the_caret() -> None:
    error = only_error("x.datasource", "SCHEMA >\n    " + "`a` String, " + " " * 5000 + "`b` Boolean\n")
    shown, caret = error.excerpt.split("\n")[1:3]
    assert len(shown) < 130
    assert shown[caret.index("^") :].startswith("Boolean")


def test_a_misspelt_directive_gets_a_suggestion() -> None:
    assert "ENGINE_SORTING_KEY" in only_error("x.datasource", "ENGINE_SORTING_KEYS a\n" + SCHEMA).hint
    assert ".datasource" in only_error("x.pipe", "SCHEMA >\n    a String\n" + NODE).hint


@pytest.mark.parametrize(
    ("file", "text", "message", "hint"),
    [
        ("x.pipe", "NODE n\nSQL SELECT 1\nSQL >\n    SELECT 1\n", "SQL must be multiline", "Use > to start a multiline SQL block."),
        ("x.datasource", SCHEMA + "FORWARD_QUERY SELECT a\n", "FORWARD_QUERY must be multiline", "Use > to start"),
        ("x.datasource", SCHEMA + "INDEXES i a TYPE minmax\n", "INDEXES must be multiline", "Use > to start"),
        ("x.datasource", SCHEMA + "BACKFILL all\n", "Invalid value 'all' for BACKFILL", "BACKFILL skip"),
        ("x.datasource", SCHEMA + "SHARED_WITH ,\n", "SHARED_WITH needs at least one workspace", "SHARED_WITH name"),
        ("x.datasource", SCHEMA + "TAGS >\n    a\n", "TAGS does not support multiline arguments", "same line"),
        ("x.pipe", NODE + "NODE m\nTYPE >\n    endpoint\nSQL >\n    SELECT 1\n", "TYPE does not support multiline arguments", "same line"),
        ("x.connection", "TYPE s3\nS3_REGION >\n    eu\nS3_REGION eu\nS3_ARN a\n", "S3_REGION does not support multiline arguments", "same line"),
        ("x.datasource", "-- hello\n" + SCHEMA, "-- is not a valid option in datasource files.", "A comment starts with #."),
        ("x.connection", "-- hello\nTYPE s3\nS3_REGION eu\nS3_ARN a\n", "-- is not a valid option in connection files.", "starts with #"),
        ("x.pipe", "SETTINGS a=1\n" + NODE, "SETTINGS is not a valid option in pipe files.", ""),
        ("x.datasource", SCHEMA + "SQL >\n    SELECT 1\n", "SQL is not a valid option in datasource files.", "SQL belongs in .pipe files."),
        (
            "x.datasource",
            SCHEMA + "IMPORT_CONNECTION_NAME c\n",
            "Some import params have been provided, but the following required ones are missing: "
            "['IMPORT_BUCKET_URI', 'IMPORT_SCHEDULE']",
            "",
        ),
        (
            "x.datasource",
            SCHEMA + "PG_TABLE t\n",
            "Some Postgres params have been provided, but the following required ones are missing: ['PG_CONNECTION_NAME']",
            "",
        ),
        ("x.datasource", "INCLUDE a.incl\n" + SCHEMA, "The file 'a.incl' does not exist in the project", ""),
        ("x.datasource", SCHEMA + "INDEXES >\n    i a TYPE hypothesis GRANULARITY 1\n", "Index type 'hypothesis' is not supported", ""),
        (
            "x.connection",
            "TYPE kafka\nKAFKA_BOOTSTRAP_SERVERS a\nKAFKA_KEY_AVRO_DESERIALIZATION schema\n",
            "KAFKA_KEY_AVRO_DESERIALIZATION is not supported",
            "KAFKA_KEY_FORMAT avro",
        ),
        ("x.connection", "TYPE mysql\n", "Invalid connection type 'mysql'", "kafka, s3, gcs, dynamodb, postgres"),
        (
            "x.connection",
            "TYPE s3\nS3_ARN a\n",
            "Some connection params have been provided, but the following required ones are missing: ['S3_REGION']",
            "S3_REGION",
        ),
        ("x.connection", "TYPE s3\nS3_REGION eu\nS3_ARN a\nPG_HOST h\n", "PG_HOST is not a setting of a s3 connection", ""),
        ("x.connection", "TYPE kafka\nKAFKA_BOOTSTRAP_SERVERS a\nKAFKA_SECURITY_PROTOCOL TLS\n", "Invalid value 'TLS' for KAFKA_SECURITY_PROTOCOL", "SASL_SSL, SASL_PLAINTEXT"),
        ("x.pipe", NODE + "NODE n\nSQL >\n    SELECT 1\n", "Duplicate node 'n', first in line 1", "another name"),
        ("x.pipe", "DESCRIPTION d\n", "The pipe has no node", "NODE name"),
        ("x.pipe", "NODE\nSQL >\n    SELECT 1\n", "NODE needs a name", ""),
        ("x.pipe", "NODE n\nTYPE endpoint\n", "Node 'n' has no SQL", "SQL >"),
        ("x.pipe", "CACHE soon\n" + NODE, "CACHE needs a number of seconds", "CACHE 60"),
    ],
)  # fmt: skip
def test_message_and_hint(file: str, text: str, message: str, hint: str) -> None:
    error = only_error(file, text)
    assert message in error.message and hint in error.hint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("EXPORT_SCHEDULE @once\n", "Sink node 'n' is missing required parameter 'export_connection_name'"),
        ("EXPORT_CONNECTION_NAME c\n", "Sink node 'n' is missing required parameter 'export_schedule'"),
        ("EXPORT_SCHEDULE @once\n", "Sink node 'n' is missing required parameter 'export_bucket_uri'"),
        ("EXPORT_BUCKET_URI s3://b\n", "Sink node 'n' is missing required parameter 'export_file_template'"),
        ("EXPORT_SCHEDULE daily\n", "Sink node schedule must be @on-demand, @once or a valid cron expression."),
        ('EXPORT_SCHEDULE {{ tb_secret("s") }}\n', "Secrets are not allowed in schedules"),
        ("EXPORT_FORMAT xml\n", "Invalid value 'xml' for EXPORT_FORMAT"),
    ],
)
def test_messages_of_sinks(settings: str, message: str) -> None:
    found = errors_of("x.pipe", NODE + "TYPE sink\n" + settings)
    assert message in [error.message for error in found]


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("a Array(Boolean)", "Boolean type is not supported", "use Bool or UInt8"),
        ("a Int", "Precision is mandatory for Int types", "Int8, Int16, Int32, Int64, Int128, Int256"),
        ("a UInt", "Precision is mandatory for UInt types", "UInt8, UInt16, UInt32, UInt64, UInt128, UInt256"),
        ("a DateTime64('UTC')", "DateTime64 type without precision is not supported", "use DateTime64(3) instead"),
        ("a String, a Int8", "Duplicate column 'a'", ""),
        ("PROJECTION p (SELECT a)", "PROJECTION is not allowed inside SCHEMA", ""),
        ("a String EPHEMERAL", "EPHEMERAL columns are not supported", "DEFAULT"),
        ("a String DEFAULT", "DEFAULT needs an expression", "DEFAULT now()"),
        ("a String CODEC", "CODEC needs its methods in parentheses", "CODEC(ZSTD(1))"),
        ("`\\x80` String", "The column's name is not valid text", ""),
    ],
)
def test_messages_of_columns(line: str, message: str, hint: str) -> None:
    error = only_error("x.datasource", f"SCHEMA >\n    {line}\n")
    assert error.message == message and hint in error.hint and error.line == 2


def test_a_word_in_any_case_and_a_comment_beside_a_value() -> None:
    project = parse_project({"x.datasource": "description hi # c\n# a line\nschema >\n    a String -- b\n"})
    assert project.datasources["x"].description == "hi"


def test_an_unindented_unknown_word_belongs_to_the_block_above_it() -> None:
    assert only_error("x.datasource", SCHEMA + "FOO bar\n").line == 3
    pipe = parse_project({"x.pipe": NODE + "UNION ALL SELECT 2\nFOO bar\n"}).pipes["x"]
    assert pipe.nodes[0].sql.endswith("UNION ALL SELECT 2\nFOO bar")


def test_a_secret_that_is_not_there() -> None:
    with pytest.raises(ProjectError) as caught:
        render_secrets('TYPE kafka\nKAFKA_KEY {{ tb_secret("X") }}\n', {}, file="k.connection")
    assert caught.value.errors[0].message == (
        "Cannot access secret 'X'. Check the secret exists in the Workspace and the token has the required scope."
    )


def test_an_empty_secret_is_an_empty_value() -> None:
    assert 'KAFKA_KEY ""' in render_secrets('TYPE kafka\nKAFKA_KEY {{ tb_secret("X") }}\n', {"X": ""}, file="k.connection")


def test_what_is_classic_is_read_and_said() -> None:
    project = parse_project(
        {
            "x.datasource": "VERSION 1\nTOKEN t CREATE\n" + SCHEMA + "KAFKA_KEY_AVRO_DESERIALIZATION ''\n",
            "p.pipe": "VERSION 2\nCACHE 60\n" + NODE + "TYPE materialized\nDATASOURCE x\nENGINE MergeTree\n",
        }
    )
    said = [warning.message for warning in project.warnings]
    assert sum("VERSION is deprecated and ignored" in message for message in said) == 2
    assert any("TOKEN ... CREATE is Classic" in message for message in said)
    assert any("ENGINE in a pipe is Classic" in message for message in said)
    assert project.pipes["p"].cache == 60


@pytest.mark.parametrize(
    ("written", "word", "at"),
    [
        ("TOKEN one READ READ", "READ", 11),
        ("TOKEN read pipes token READ", "token", 18),
        ("TOKEN one APPEND READ", "APPEND", 11),
        ("TOKEN a b read READ", "read", 11),
        ("TOKEN one CREATE READ", "CREATE", 11),
    ],
)
def test_a_permission_inside_of_a_tokens_name_is_pointed_at(written: str, word: str, at: int) -> None:
    project = parse_project({"x.pipe": f"{written}\nNODE n\nSQL >\n    SELECT 1\nTYPE endpoint\n"})
    (warning,) = [w for w in project.warnings if "token's name" in w.message]
    assert (warning.line, warning.column) == (1, at) and warning.message.startswith(f"'{word}' stands inside")


@pytest.mark.parametrize("written", ["TOKEN one READ", 'TOKEN "one READ" READ', "TOKEN my own reader READ", "TOKEN read READ"])
def test_names_of_tokens_that_are_no_question(written: str) -> None:
    project = parse_project({"x.pipe": f"{written}\nNODE n\nSQL >\n    SELECT 1\nTYPE endpoint\n"})
    assert not [w for w in project.warnings if "token's name" in w.message]


@pytest.mark.parametrize("engine", ["Join", '"Join"', "Set", "Buffer"])
def test_an_engine_that_there_is_not_is_one_error_whatever_its_options_are(engine: str) -> None:
    options = 'ENGINE_JOIN_STRICTNESS "ANY"\nENGINE_JOIN_TYPE "LEFT"\nENGINE_KEY_COLUMNS "a"\n'
    error = only_error("x.datasource", f"SCHEMA >\n    a String\n\nENGINE {engine}\n{options}")
    assert error.message.startswith("Engine ") and ("LEFT ANY JOIN" in error.hint) == ("Join" in engine)


def test_an_unknown_option_of_an_engine_that_is_nearly_one_is_an_error() -> None:
    report = "SCHEMA >\n    a String\n\nENGINE MergeTre\nENGINE_SORTNG_KEY a\n"
    with pytest.raises(ProjectError) as caught:
        parse_project({"x.datasource": report})
    assert [e.message.split()[0] for e in caught.value.errors] == ["Engine", "ENGINE_SORTNG_KEY"]


@pytest.mark.parametrize(
    ("engine", "hint"),
    [
        ("ReplacingMergetre", "Did you mean ReplacingMergeTree?"),
        ("ReplacingMergTree", "Did you mean ReplacingMergeTree?"),
        ("CollapsingMegreTree", "Did you mean CollapsingMergeTree?"),
        ("Distributed", ""),
        ("Foo", ""),
    ],
)
@pytest.mark.parametrize("options", ["ENGINE_VER b", "ENGINE_SIGN b", "ENGINE_VERSION b", "ENGINE_COLUMNS b", ""])
def test_an_engine_that_is_misspelt_is_one_error(engine: str, hint: str, options: str) -> None:
    fits = {"ReplacingMergeTree": ("ENGINE_VER b", "ENGINE_VERSION b", ""), "CollapsingMergeTree": ("ENGINE_SIGN b",)}
    meant = hint.removeprefix("Did you mean ").removesuffix("?")
    if options not in fits.get(meant, (options,)):
        return  # an option of another engine is an error of its own
    text = f"SCHEMA >\n    `a` String,\n    `b` Int8\n\nENGINE {engine}\nENGINE_SORTING_KEY a\n{options}\n"
    error = only_error("x.datasource", text)
    assert error.message.startswith(f"Engine {engine} is not supported") and error.hint == hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("select", "SELECT is a word of SQL: after FROM or JOIN it would not be read as a name. Rename it, for example to "
         "select_data, here and where it is read."),
        ("default", "'default' is a database or a name that the server keeps for itself. Rename it, for example to default_data, "
         "here and where it is read."),
        ("a-b", "A name has letters of a to z, digits and _, and no '-'. Rename it, for example to a_b, here and where it is "
         "read."),
        ("2nd", "A name begins with a letter or _, not with a digit. Rename it, for example to _2nd, here and where it is read."),
    ],
)  # fmt: skip
def test_a_name_that_cannot_be_says_why_and_what_to_do(name: str, hint: str) -> None:
    error = only_error(f"{name}.datasource", "SCHEMA >\n    `a` String\n")
    assert error.message == f"'{name}' cannot be the name of a resource" and error.hint == hint


@pytest.mark.parametrize("engine", ['"Join"', "Join", "Memory", "Kafka('a')", "NoSuchEngine"])
def test_the_options_of_a_refused_engine_are_no_errors_of_their_own(engine: str) -> None:
    options = 'ENGINE_JOIN_STRICTNESS "ANY"\nENGINE_JOIN_TYPE "LEFT"\nENGINE_KEY_COLUMNS "id"\nENGINE_SORTING_KEYS a\n'
    error = only_error("x.datasource", SCHEMA + f"ENGINE {engine}\n{options}")
    assert "is not supported, supported engines include" in error.message
    known = errors_of("x.datasource", SCHEMA + "ENGINE MergeTree\n" + options)
    assert len(known) == 4


@pytest.mark.parametrize("word", ["codec", "ttl", "comment"])
@pytest.mark.parametrize("default", ["{}", "{} + 1", "1 + {}", "{}, `c` String", "[{}]", "lower({})"])
def test_a_default_may_read_a_column_that_is_called_as_a_clause(word: str, default: str) -> None:
    text = f"SCHEMA >\n    `{word}` UInt8,\n    `d` UInt8 DEFAULT {default.format(word)}\n"
    column = parse_project({"x.datasource": text}).datasources["x"].columns[1]
    assert column.default == default.format(word).partition(", ")[0]


def test_a_clause_behind_a_default_is_one() -> None:
    text = "SCHEMA >\n    `a` UInt8,\n    `d` UInt8 DEFAULT a + 1 CODEC(ZSTD(1))\n"
    column = parse_project({"x.datasource": text}).datasources["x"].columns[1]
    assert (column.default, column.codec) == ("a + 1", "CODEC(ZSTD(1))")

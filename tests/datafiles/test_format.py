"""`pipit fmt`'s printer: what is printed says the same, stays as it is when printed again, and keeps its comments."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import examples
from pipit.datafiles import format_text, parse_connection, parse_datasource, parse_pipe
from pipit.datafiles.vocabulary import OPTIONS
from pipit.errors import ProjectError

ROOT = Path(__file__).parents[2]
PARSERS = {".datasource": parse_datasource, ".pipe": parse_pipe, ".connection": parse_connection}

# One line each: what may follow the word. A tuple's last item is a block's lines; `None` for a directive made elsewhere.
DATASOURCE = {
    "DESCRIPTION": ["text # comment", '"quoted text"', ("A block", "", "    - deeper", "- not")],
    "TOKEN": ["t READ", '"a token" APPEND', "t  READ  # who reads"],
    "TAGS": ["a, b", '"a, b"'],
    "ENGINE": ['"ReplacingMergeTree"', "ReplacingMergeTree # why"],
    "ENGINE_SORTING_KEY": ['"a, b"', "a, cityHash64(b)", "tuple(a, 'x # y')"],
    "ENGINE_PARTITION_KEY": ['"toYYYYMM(c)"', "toYYYYMM(c)"],
    "ENGINE_PRIMARY_KEY": ["a", '"a"'],
    "ENGINE_SAMPLING_KEY": ["cityHash64(b)"],
    "ENGINE_TTL": ["c + toIntervalDay(90)", "\"c + INTERVAL 1 DAY\""],
    "ENGINE_VER": ["d"],
    "ENGINE_IS_DELETED": ["e", '"e"'],
    "ENGINE_SETTINGS": ["index_granularity=32", '"index_granularity=32, ttl_only_drop_parts=1"'],
    "INDEXES": [("i a TYPE set(100) GRANULARITY 2", "-- why", "INDEX j lower(b) TYPE bloom_filter(0.01)")],
    "SHARED_WITH": ["w1, w2", ("w1,", "w2"), ("w1", "w2")],
    "FORWARD_QUERY": [("SELECT", "    a, -- kept", "    b", "FROM x")],
    "BACKFILL": ["skip", "skip # old rows"],
    "VERSION": ["3"],
    "SOURCE": ["x"],
    "ROW_POLICY": ["a = {{Int32(context.a)}}", ("b = {{String(context.b)}}", "{% if defined(context.c) %} AND a = 1 {% end %}")],
    "ROW_POLICY_OPTIONAL": ["c", "c, d"],
    "KAFKA_CONNECTION_NAME": ["k"],
    "KAFKA_TOPIC": ["topic", '{{ tb_secret("topic", "x # y") }}'],
    "KAFKA_GROUP_ID": ["group"],
    "KAFKA_AUTO_OFFSET_RESET": ["earliest", "LATEST"],
    "KAFKA_STORE_RAW_VALUE": ["True", "1"],
    "KAFKA_STORE_HEADERS": ["False"],
    "KAFKA_KEY_FORMAT": ["avro"],
    "KAFKA_VALUE_FORMAT": ["json_without_schema"],
    "KAFKA_TARGET_PARTITIONS": ["auto"],
    "KAFKA_STORE_BINARY_HEADERS": ["True"],
    "KAFKA_KEY_AVRO_DESERIALIZATION": ["''"],
    "KAFKA_BOOTSTRAP_SERVERS": ["a:9092"],
    "KAFKA_KEY": ["k"],
    "KAFKA_SECRET": ["'s # s'"],
    "KAFKA_SECURITY_PROTOCOL": ["PLAINTEXT"],
    "KAFKA_SASL_MECHANISM": ["PLAIN"],
    "KAFKA_SCHEMA_REGISTRY_URL": ["https://host"],
    "KAFKA_SSL_CA_PEM": [("-----BEGIN CERTIFICATE-----", "abc=", "-----END CERTIFICATE-----")],
    "IMPORT_CONNECTION_NAME": ["s"],
    "IMPORT_BUCKET_URI": ["s3://bucket/*.csv", "'s3://bucket/a b.csv'"],
    "IMPORT_SCHEDULE": ["@auto"],
    "IMPORT_FORMAT": ["CSV"],
    "IMPORT_FROM_TIMESTAMP": ["2024-01-01T00:00:00Z"],
    "IMPORT_QUERY": ["SELECT 1", ("SELECT", "    1")],
    "IMPORT_TABLE_ARN": ["arn:x"],
    "IMPORT_EXPORT_BUCKET": ["b"],
    "IMPORT_SERVICE": ["s3"],
    "IMPORT_STRATEGY": ["append"],
    "IMPORT_EXTERNAL_DATASOURCE": ["x"],
    "PG_CONNECTION_NAME": ["p"],
    "PG_TABLE": ["public.t"],
}  # fmt: skip
OTHER_ENGINES = {
    "ENGINE_SIGN": "ENGINE CollapsingMergeTree\nENGINE_SORTING_KEY a\nengine_sign   e\n",
    "ENGINE_VERSION": "ENGINE VersionedCollapsingMergeTree\nENGINE_SORTING_KEY a\nENGINE_SIGN e\nENGINE_VERSION `d`\n",
    "ENGINE_COLUMNS": "ENGINE SummingMergeTree\nENGINE_SORTING_KEY a\nENGINE_COLUMNS 'd, e'\n",
}
CONNECTIONS = {
    "kafka": {
        "KAFKA_BOOTSTRAP_SERVERS": ["a:9092,b:9092", '"a:9092"'],
        "KAFKA_KEY": ['{{ tb_secret("k") }}'],
        "KAFKA_SECRET": ["'s # s'", "a#b"],
        "KAFKA_SECURITY_PROTOCOL": ["sasl_ssl", "PLAINTEXT # here"],
        "KAFKA_SASL_MECHANISM": ["SCRAM-SHA-256"],
        "KAFKA_SASL_OAUTHBEARER_METHOD": ["AWS"],
        "KAFKA_SASL_OAUTHBEARER_AWS_REGION": ["eu"],
        "KAFKA_SASL_OAUTHBEARER_AWS_ROLE_ARN": ["arn"],
        "KAFKA_SASL_OAUTHBEARER_AWS_EXTERNAL_ID": ["id"],
        "KAFKA_SCHEMA_REGISTRY_URL": ["https://u:p@host"],
        "KAFKA_SSL_CA_PEM": [("-----BEGIN CERTIFICATE-----", "abc=", "-----END CERTIFICATE-----")],
        "KAFKA_KEY_AVRO_DESERIALIZATION": ['""'],
    },
    "s3": {
        "S3_REGION": ["eu"],
        "S3_ARN": ["arn:x"],
        "S3_ACCESS_KEY": ["k"],
        "S3_SECRET": ["'s'"],
        "S3_ENDPOINT": ["https://store.example:9000"],
        "S3_PATH_STYLE": ["True", "False"],
    },
    "gcs": {
        "GCS_SERVICE_ACCOUNT_CREDENTIALS_JSON": ['{"a": "b # c"}', ("{", '  "a": 1', "}")],
        "GCS_HMAC_ACCESS_ID": ["a"],
        "GCS_HMAC_SECRET": ["b"],
        "GCS_ACCESS_ID": ["c"],
        "GCS_SECRET": ["d"],
    },
    "dynamodb": {"DYNAMODB_ARN": ["arn"], "DYNAMODB_REGION": ["eu"]},
    "postgres": {
        "PG_HOST": ["h"],
        "PG_PORT": ["5432"],
        "PG_DATABASE": ["d"],
        "PG_USER": ["u"],
        "PG_PASSWORD": ['"p\\"q"'],
        "PG_SSL_MODE": ["require"],
    },
}
SQL = [
    ("SELECT 1",),
    ("%", "SELECT {{String(a, 'x')}} -- said", "    /* kept", "  # as it is */", "FROM x"),
    ("SELECT 'a   b'", "", "", "UNION ALL", "        SELECT 'TYPE endpoint'"),
    ("%", "", "{% if defined(a) %}", "  SELECT 1", "{% else %}", "\tSELECT 2", "{% end %}"),
]
OF_A_PIPE = {
    "DESCRIPTION": DATASOURCE["DESCRIPTION"],
    "TOKEN": ["t READ", '"a b" read'],
    "TAGS": ["a,b"],
    "VERSION": ["1"],
    "FIXED_PARAMS": ["a", "a, b # both"],
    "CACHE": ["60"],
}
TYPES = {
    "endpoint": {},
    "standard": {},
    "materialized": {"DATASOURCE": ["target"], "DEPLOYMENT_METHOD": ["alter", "ALTER"]},
    "copy": {
        "TARGET_DATASOURCE": ["target"],
        "COPY_SCHEDULE": ["0 * * * *", '"0 * * * *"', "@on-demand"],
        "COPY_MODE": ["append", "REPLACE"],
        "ON_DEMAND_COMPUTE": ["x"],
    },
    "sink": {
        "EXPORT_CONNECTION_NAME": ["c"],
        "EXPORT_SCHEDULE": ["@once"],
        "EXPORT_KAFKA_TOPIC": ["t"],
        "EXPORT_BUCKET_URI": ["s3://bucket/x"],
        "EXPORT_FILE_TEMPLATE": ["{date, DateTime}", '"f_{x}"'],
        "EXPORT_FORMAT": ["CSV"],
        "EXPORT_COMPRESSION": ["gz"],
        "EXPORT_STRATEGY": ["@new"],
        "EXPORT_WRITE_STRATEGY": ["truncate"],
        "EXPORT_SERVICE": ["s3"],
    },
}
TYPES_OF_COLUMNS = ["Int32", "String", "DateTime", "UInt64", "UInt8", "Nullable(String)", "LowCardinality( String )"]
TYPES_OF_COLUMNS += ["Array(\n  Tuple(x Int32, -- first\n  y String))", "Enum8('a, b' = 1, 'it''s' = 2)", "JSON"]
DEFAULTS = ["1", "now()", "'a, b'", "concat('`json:', ')')", "if(a = 1,\n  2, -- or\n 3)", "'it\\'s'", "NULL"]
CODECS = ["CODEC(ZSTD(1))", "CODEC( Delta, LZ4 )"]
PATHS = ["$.a", "$.a.b['c d']", "$.list[0]"]
NAMES = ["user-id", "`with space`", '"double"', "9lives", "a.b", "sélection", "`it``s`", "`back\\\\slash`", "DEFAULT_"]

spaces = st.sampled_from(["", "\n", "\n\n\n", "# a comment\n", "\n# one\n# two\n\n", "  # moved\n", "\t\n"])
indents = st.sampled_from(["    ", "\t", "  ", "        ", " \t "])


@st.composite
def directive(draw: st.DrawFn, word: str, forms: list[str | tuple[str, ...]]) -> str:
    form = draw(st.sampled_from(forms))
    word = draw(st.sampled_from([word, word, word.lower(), word.capitalize()]))
    end = draw(st.sampled_from(["\n", "   \n", "\r\n"]))
    before = draw(spaces)
    if isinstance(form, str):
        return f"{before}{word}{draw(st.sampled_from([' ', '   ', chr(9)]))}{form}{end}"
    indent = draw(indents)
    comment = draw(st.sampled_from(["", "", "# in a block\n"]))
    lines = "".join(f"{indent}{row}{end}" if row else end for row in form)
    return f"{before}{word}{draw(st.sampled_from([' >', '  > ', '>', ' > # c']))}\n{draw(spaces).lstrip(' ')}{lines}{comment}"


@st.composite
def column(draw: st.DrawFn, name: str, type: str | None) -> str:
    type = type or draw(st.sampled_from(TYPES_OF_COLUMNS))
    parts = [type]
    if draw(st.booleans()):
        parts.append(f"`json:{draw(st.sampled_from(PATHS))}`")
    if draw(st.booleans()):
        # These cannot be Nullable, so a NULL of them is an error.
        defaults = [one for one in DEFAULTS if one != "NULL" or not type.startswith(("Array", "Map", "Tuple", "JSON"))]
        parts.append(f"{draw(st.sampled_from(['DEFAULT', 'default']))} {draw(st.sampled_from(defaults))}")
    if draw(st.booleans()):
        parts.append(draw(st.sampled_from(CODECS)))
    gap = st.sampled_from([" ", "  ", "\n      ", " -- inside\n    "])
    return name + "".join(draw(gap) + part for part in draw(st.permutations(parts)))


@st.composite
def schema(draw: st.DrawFn) -> str:
    names = [("a", "Int32"), ("`b`", "UInt64"), ("c", "DateTime"), ("d", "UInt32"), ("e", "Int8")]
    columns = [draw(column(name, type)) for name, type in names]
    columns += [draw(column(name, None)) for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))]
    between = st.sampled_from([",\n    ", ", ", ", -- beside\n  ", "\n    , ", ",\n    -- alone\n    # hash\n    ", ",\n# far left\n  "])
    text = columns[0] + "".join(draw(between) + one for one in columns[1:])
    head = draw(st.sampled_from(["SCHEMA >\n    ", "schema>\n  ", "SCHEMA >\n  -- first\n  "]))
    return head + text + draw(st.sampled_from(["\n", ",\n", " -- last\n", "\n  -- gone Int8,\n", "\n# below\n"]))


@st.composite
def datasources(draw: st.DrawFn) -> str:
    words = draw(st.lists(st.sampled_from(sorted(DATASOURCE)), unique=True))
    if {"ENGINE_VER", "ENGINE_IS_DELETED", "ENGINE"} & set(words):
        words += [word for word in ("ENGINE", "ENGINE_SORTING_KEY", "ENGINE_VER") if word not in words]
    together = [("KAFKA_CONNECTION_NAME", "KAFKA_TOPIC", "KAFKA_GROUP_ID"), ("PG_CONNECTION_NAME", "PG_TABLE"), ("ROW_POLICY",)]
    together.append(("IMPORT_CONNECTION_NAME", "IMPORT_BUCKET_URI", "IMPORT_SCHEDULE"))
    for group in together:
        if any(word.startswith(group[0].split("_")[0] + "_") for word in words):
            words += [word for word in group if word not in words]
    other = draw(st.sampled_from(["", *OTHER_ENGINES.values()]))
    if other:
        words = [word for word in words if not word.startswith("ENGINE")]
    pieces = [draw(directive(word, DATASOURCE[word])) for word in words] + [draw(schema()), other]
    return "".join(draw(st.permutations(pieces))) + draw(spaces)


@st.composite
def pipes(draw: st.DrawFn) -> str:
    words = draw(st.lists(st.sampled_from(sorted(OF_A_PIPE)), unique=True))
    text = "".join(draw(directive(word, OF_A_PIPE[word])) for word in words)
    special = draw(st.sampled_from(sorted(TYPES)))
    for number in range(draw(st.integers(1, 3))):
        text += draw(directive("NODE", [f"n{number}", f'"n{number}" # why']))
        pieces = [draw(directive("SQL", list(SQL)))]
        if draw(st.booleans()):
            pieces.append(draw(directive("DESCRIPTION", DATASOURCE["DESCRIPTION"])))
        if number == 0:
            pieces.append(draw(directive("TYPE", [special, special.upper()])))
            pieces += [draw(directive(word, forms)) for word, forms in TYPES[special].items()]
        text += "".join(draw(st.permutations(pieces)))
    return text + draw(spaces)


@st.composite
def connections(draw: st.DrawFn) -> str:
    kind = draw(st.sampled_from(sorted(CONNECTIONS)))
    pieces = [draw(directive(word, forms)) for word, forms in CONNECTIONS[kind].items()]
    pieces += [draw(directive("TYPE", [kind, kind.upper()])), draw(directive("DESCRIPTION", DATASOURCE["DESCRIPTION"]))]
    return "".join(draw(st.permutations(pieces))) + draw(spaces)


def test_a_value_that_reads_like_an_unknown_directive_is_none() -> None:
    """With an INCLUDE a file may be incomplete, and what follows from that is no reason to leave it as it is."""
    text = "INCLUDE x.incl\nSCHEMA >\n    `a` UInt8\n\nENGINE MergeTree\nENGINE_SORTING_KEY a\nBACKFILL 'is not a valid option'\n"
    assert format_text(text, file="a.datasource")


def test_the_generated_files_use_every_directive() -> None:
    assert {"SCHEMA", *DATASOURCE, *OTHER_ENGINES} == OPTIONS["datasource"]
    settings_of_nodes = set().union(*TYPES.values())
    assert {"NODE", "SQL", "TYPE", *OF_A_PIPE, *settings_of_nodes} == OPTIONS["pipe"]
    assert {"TYPE", "DESCRIPTION"}.union(*CONNECTIONS.values()) == OPTIONS["connection"]


def said(file: str, text: str) -> str:
    """What the file says, without places and texts."""
    resource = PARSERS[Path(file).suffix](text, file=file)
    return re.sub(r"Position\([^)]*\)|\btext=('([^'\\]|\\.)*'|\"([^\"\\]|\\.)*\")", "", repr(resource))


def comments(text: str) -> list[str]:
    return sorted(found.strip() for found in re.findall(r"(?:^[ \t]*#|--).*$", text, re.MULTILINE))


def check(file: str, text: str) -> None:
    printed = format_text(text, file=file)
    assert said(file, printed) == said(file, text)
    assert format_text(printed, file=file) == printed
    assert comments(printed) == comments(text)
    assert not re.search(r"\n\n\n(?! )|\r", printed)
    assert all(row == row.rstrip() for row in printed.split("\n"))


@settings(max_examples=examples(300))
@given(datasources())
def test_any_data_source(text: str) -> None:
    check("x.datasource", text)


@settings(max_examples=examples(200))
@given(pipes())
def test_any_pipe(text: str) -> None:
    check("x.pipe", text)


@settings(max_examples=examples(100))
@given(connections())
def test_any_connection(text: str) -> None:
    check("x.connection", text)


def demo_files() -> list[Path]:
    folders = ("datasources", "pipes", "connectors", "platform/pipit/cli/templates")
    return sorted(p for folder in folders for p in (ROOT / folder).rglob("*") if p.suffix in PARSERS)


@pytest.mark.parametrize("path", demo_files(), ids=lambda path: path.name)
def test_our_own_projects_are_formatted(path: Path) -> None:
    text = path.read_text()
    check(path.name, text)
    assert format_text(text, file=path.name) == text


FORMS = [
    pytest.param(
        "x.datasource",
        "description hi\nschema >\n  a String `json:$.a`, b  Int32 DEFAULT 1 `json:$.b`, -- both\n\n  -- c Int8\n",
        "DESCRIPTION hi\nSCHEMA >\n    `a` String `json:$.a`,\n    `b` Int32 `json:$.b` DEFAULT 1 -- both\n    -- c Int8\n",
        id="columns",
    ),
    pytest.param(
        "x.datasource",
        "SCHEMA > -- here\n# far\n    a Array( -- one\n  String), -- two\n\n    -- three\n    b Int8\n# The engine\nENGINE MergeTree",
        "SCHEMA >\n    -- here\n# far\n    -- one\n    `a` Array(String), -- two\n    -- three\n    `b` Int8\n\n"
        "# The engine\nENGINE MergeTree\n",
        id="comments",
    ),
    pytest.param(
        "x.pipe",
        "\ufeffNODE n\r\nSQL>\r\n\r\n  %\r\n     SELECT 1   \r\n\r\n\r\n# end\r\nTYPE endpoint\r\n\r\n\r\nNODE m\r\nSQL > SELECT 1\r\n    + 1\r\n",
        "NODE n\nSQL >\n    %\n       SELECT 1\n\n# end\nTYPE endpoint\n\nNODE m\nSQL >\n    SELECT 1\n    + 1\n",
        id="sql",
    ),
    pytest.param(
        "x.pipe",
        "INCLUDE   \"a.incl\"  key=value\nNODE n\nSQL >\n SELECT 1\nINCLUDE b.incl\n",
        "INCLUDE   \"a.incl\"  key=value\n\nNODE n\nSQL >\n    SELECT 1\n\nINCLUDE b.incl\n",
        id="include",
    ),
    pytest.param("x.connection", "INCLUDE k.incl\ntype  kafka", "INCLUDE k.incl\nTYPE kafka\n", id="an included rest"),
]


@pytest.mark.parametrize(("file", "text", "printed"), FORMS)
def test_forms(file: str, text: str, printed: str) -> None:
    assert format_text(text, file=file) == printed
    assert format_text(printed, file=file) == printed


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("x.datasource", "SCHEMA >\n  a Boolean\n"),
        ("x.pipe", "NODE n\nSQL SELECT 1\n"),
        ("x.connection", "TYPE kafka\n"),
        ("x.datasource", "INCLUDE x.incl\nSCHEMA >\n  a String, b Boolean\n"),
    ],
)
def test_what_cannot_be_read_is_an_error(file: str, text: str) -> None:
    with pytest.raises(ProjectError) as caught:
        format_text(text, file=file)
    assert caught.value.errors[0].line

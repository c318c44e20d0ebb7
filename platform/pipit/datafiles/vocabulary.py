"""The words that may start a line: which file kind knows them, and which may open a block with `>`.

The lists are closed: an unknown word is an error, never ignored. `ROW_POLICY`, `ROW_POLICY_OPTIONAL` and
`FIXED_PARAMS` are Pipit's own.
"""

from __future__ import annotations

from typing import Literal

Kind = Literal["datasource", "pipe", "connection"]

ENGINES = (
    "MergeTree",
    "ReplacingMergeTree",
    "SummingMergeTree",
    "AggregatingMergeTree",
    "CollapsingMergeTree",
    "VersionedCollapsingMergeTree",
    "Null",
)
ENGINE_OPTIONS = frozenset(
    {
        "ENGINE_SORTING_KEY",
        "ENGINE_PARTITION_KEY",
        "ENGINE_PRIMARY_KEY",
        "ENGINE_SAMPLING_KEY",
        "ENGINE_TTL",
        "ENGINE_VER",
        "ENGINE_IS_DELETED",
        "ENGINE_SIGN",
        "ENGINE_VERSION",
        "ENGINE_COLUMNS",
        "ENGINE_SETTINGS",
    }
)
ENGINE_WORDS = ENGINE_OPTIONS | {"ENGINE"}

KAFKA_SOURCE = frozenset(
    {
        "KAFKA_CONNECTION_NAME",
        "KAFKA_TOPIC",
        "KAFKA_GROUP_ID",
        "KAFKA_AUTO_OFFSET_RESET",
        "KAFKA_STORE_RAW_VALUE",
        "KAFKA_STORE_HEADERS",
        "KAFKA_KEY_FORMAT",
        "KAFKA_VALUE_FORMAT",
        "KAFKA_TARGET_PARTITIONS",  # Classic
        "KAFKA_STORE_BINARY_HEADERS",  # Classic
        "KAFKA_KEY_AVRO_DESERIALIZATION",  # an error that says what to write
    }
)
IMPORTS = frozenset(
    {
        "IMPORT_CONNECTION_NAME",
        "IMPORT_BUCKET_URI",
        "IMPORT_SCHEDULE",
        "IMPORT_FORMAT",
        "IMPORT_FROM_TIMESTAMP",
        "IMPORT_QUERY",
        "IMPORT_TABLE_ARN",
        "IMPORT_EXPORT_BUCKET",
        "IMPORT_SERVICE",  # Classic, as the two below
        "IMPORT_STRATEGY",
        "IMPORT_EXTERNAL_DATASOURCE",
    }
)
# Classic: how the broker is reached, mostly in an included file. The connection's own file says it now.
KAFKA_BROKER = frozenset(
    {"KAFKA_BOOTSTRAP_SERVERS", "KAFKA_KEY", "KAFKA_SECRET", "KAFKA_SECURITY_PROTOCOL", "KAFKA_SASL_MECHANISM"}
    | {"KAFKA_SCHEMA_REGISTRY_URL", "KAFKA_SSL_CA_PEM"}
)
POSTGRES_SOURCE = frozenset({"PG_CONNECTION_NAME", "PG_TABLE"})
EXPORTS = frozenset(
    {
        "EXPORT_CONNECTION_NAME",
        "EXPORT_SCHEDULE",
        "EXPORT_KAFKA_TOPIC",
        "EXPORT_BUCKET_URI",
        "EXPORT_FILE_TEMPLATE",
        "EXPORT_FORMAT",
        "EXPORT_COMPRESSION",
        "EXPORT_STRATEGY",
        "EXPORT_WRITE_STRATEGY",
        "EXPORT_SERVICE",  # Classic
    }
)

KAFKA_CONNECTION = frozenset(
    {
        "KAFKA_BOOTSTRAP_SERVERS",
        "KAFKA_KEY",
        "KAFKA_SECRET",
        "KAFKA_SECURITY_PROTOCOL",
        "KAFKA_SASL_MECHANISM",
        "KAFKA_SASL_OAUTHBEARER_METHOD",
        "KAFKA_SASL_OAUTHBEARER_AWS_REGION",
        "KAFKA_SASL_OAUTHBEARER_AWS_ROLE_ARN",
        "KAFKA_SASL_OAUTHBEARER_AWS_EXTERNAL_ID",
        "KAFKA_SCHEMA_REGISTRY_URL",
        "KAFKA_SSL_CA_PEM",
        "KAFKA_KEY_AVRO_DESERIALIZATION",
    }
)
S3_CONNECTION = frozenset({"S3_REGION", "S3_ARN", "S3_ACCESS_KEY", "S3_SECRET", "S3_ENDPOINT", "S3_PATH_STYLE"})
GCS_CONNECTION = frozenset(
    {
        "GCS_SERVICE_ACCOUNT_CREDENTIALS_JSON",
        "GCS_HMAC_ACCESS_ID",
        "GCS_HMAC_SECRET",
        "GCS_ACCESS_ID",
        "GCS_SECRET",
    }
)
DYNAMODB_CONNECTION = frozenset({"DYNAMODB_ARN", "DYNAMODB_REGION"})
POSTGRES_CONNECTION = frozenset({"PG_HOST", "PG_PORT", "PG_DATABASE", "PG_USER", "PG_PASSWORD", "PG_SSL_MODE"})
CONNECTION_SETTINGS = {
    "kafka": KAFKA_CONNECTION,
    "s3": S3_CONNECTION,
    "gcs": GCS_CONNECTION,
    "dynamodb": DYNAMODB_CONNECTION,
    "postgres": POSTGRES_CONNECTION,
}

DATASOURCE = (
    frozenset(
        {
            "SCHEMA",
            "DESCRIPTION",
            "TOKEN",
            "TAGS",
            "INDEXES",
            "SHARED_WITH",
            "FORWARD_QUERY",
            "BACKFILL",
            "VERSION",
            "SOURCE",
            "ROW_POLICY",
            "ROW_POLICY_OPTIONAL",
        }
    )
    | ENGINE_WORDS
    | KAFKA_SOURCE
    | KAFKA_BROKER
    | IMPORTS
    | POSTGRES_SOURCE
)
PIPE = (
    frozenset(
        {
            "NODE",
            "DESCRIPTION",
            "SQL",
            "TYPE",
            "TOKEN",
            "TAGS",
            "DATASOURCE",
            "DEPLOYMENT_METHOD",
            "TARGET_DATASOURCE",
            "COPY_SCHEDULE",
            "COPY_MODE",
            "ON_DEMAND_COMPUTE",
            "CACHE",
            "VERSION",
            "FIXED_PARAMS",
        }
    )
    | EXPORTS
)
CONNECTION = frozenset({"TYPE", "DESCRIPTION"}).union(*CONNECTION_SETTINGS.values())

OPTIONS: dict[Kind, frozenset[str]] = {"datasource": DATASOURCE, "pipe": PIPE, "connection": CONNECTION}
INCLUDE, SETTINGS = "INCLUDE", "SETTINGS"  # known everywhere; one is done before (`includes`), one allowed nowhere
KNOWN = DATASOURCE | PIPE | CONNECTION | {INCLUDE, SETTINGS}

BLOCKS = frozenset(
    {
        "SCHEMA",
        "DESCRIPTION",
        "SQL",
        "INDEXES",
        "SHARED_WITH",
        "FORWARD_QUERY",
        "ROW_POLICY",
        "KAFKA_SSL_CA_PEM",
        "GCS_SERVICE_ACCOUNT_CREDENTIALS_JSON",
        "IMPORT_QUERY",
    }
)
ONLY_BLOCKS = frozenset({"SCHEMA", "SQL", "INDEXES", "FORWARD_QUERY"})


def ends_block(word: str, kind: Kind) -> bool:
    """Whether an unindented line that starts with this word ends the block above it.

    Words of the file's own kind do in any case. Words of other kinds only in capitals, and SETTINGS not at all in a
    pipe: they are also words of SQL, and SQL may stand unindented.
    """
    upper = word.upper()
    if upper in OPTIONS[kind]:
        return True
    if kind == "pipe" and upper == SETTINGS:
        return False
    return word == upper and upper in KNOWN

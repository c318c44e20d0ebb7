"""What feeds a data source from outside: KAFKA_*, IMPORT_* and PG_* lines, checked for completeness and values."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pipit.datafiles import vocabulary
from pipit.datafiles.buckets import BadUri, parse_uri
from pipit.datafiles.common import choices, is_secret, one_of, plain
from pipit.datafiles.directives import Directive
from pipit.datafiles.resources import Column, WarningKind
from pipit.datafiles.schedules import is_cron
from pipit.datafiles.source import ParseReport
from pipit.errors import Reason

SCHEDULES = ("@auto", "@on-demand", "@once")
_BOOLEAN = dict.fromkeys(("true", "1", "yes", "on"), "True") | dict.fromkeys(("0", "no", "off", "false"), "False")
_KAFKA_VALUES = {  # of each the default last; the dialect takes any value
    "KAFKA_AUTO_OFFSET_RESET": {"smallest": "earliest", "largest": "latest"} | choices("earliest", "latest"),
    "KAFKA_STORE_RAW_VALUE": _BOOLEAN,
    "KAFKA_STORE_HEADERS": _BOOLEAN,
    "KAFKA_STORE_BINARY_HEADERS": _BOOLEAN,
}
# What a value or key is. Those of a registry need KAFKA_SCHEMA_REGISTRY_URL in the connection.
OF_REGISTRY = ("json_with_schema", "avro")
_KAFKA_FORMATS = {
    "KAFKA_VALUE_FORMAT": choices("json_without_schema", *OF_REGISTRY),
    "KAFKA_KEY_FORMAT": choices("string", "json_without_schema", *OF_REGISTRY),
}
_REQUIRED_KAFKA = ("KAFKA_CONNECTION_NAME", "KAFKA_TOPIC", "KAFKA_GROUP_ID")
_REQUIRED_IMPORT = ("IMPORT_CONNECTION_NAME", "IMPORT_BUCKET_URI", "IMPORT_SCHEDULE")
_REQUIRED_POSTGRES = ("PG_CONNECTION_NAME", "PG_TABLE")
_FORMATS = choices("csv", "ndjson", "parquet") | {"json": "ndjson", "jsonl": "ndjson"}


def kafka(report: ParseReport, given: Mapping[str, Directive]) -> dict[str, str]:
    found = _settings(report, given, vocabulary.KAFKA_SOURCE)
    avro = given.get("KAFKA_KEY_AVRO_DESERIALIZATION")
    if avro is not None and found.pop("KAFKA_KEY_AVRO_DESERIALIZATION", ""):  # Classic wrote it empty
        report.error("KAFKA_KEY_AVRO_DESERIALIZATION is not supported", avro.offset, "Use KAFKA_KEY_FORMAT avro.")
    missing(report, given, found, _REQUIRED_KAFKA, "Kafka")
    for name, allowed in _KAFKA_VALUES.items():
        if name in found:
            default = list(allowed.values())[-1]
            found[name] = one_of(report, given[name], found[name], allowed, otherwise=default)
    for name, allowed in _KAFKA_FORMATS.items():
        if name in found:
            found[name] = one_of(report, given[name], found[name], allowed)
    return found


def imports(report: ParseReport, given: Mapping[str, Directive]) -> dict[str, str]:
    found = _settings(report, given, vocabulary.IMPORTS)
    # Classic's connectors and the table imports have no bucket, and name their schedule by cron.
    other = {"IMPORT_SERVICE", "IMPORT_EXTERNAL_DATASOURCE", "IMPORT_QUERY", "IMPORT_TABLE_ARN"} & found.keys()
    if not other:
        missing(report, given, found, _REQUIRED_IMPORT, "import")
        _check_bucket(report, given, found)
    if "IMPORT_FORMAT" in found:
        found["IMPORT_FORMAT"] = one_of(report, given["IMPORT_FORMAT"], found["IMPORT_FORMAT"], _FORMATS)
    return found


def _check_bucket(report: ParseReport, given: Mapping[str, Directive], found: Mapping[str, str]) -> None:
    schedule = found.get("IMPORT_SCHEDULE", "")
    if schedule and not is_secret(schedule) and schedule not in SCHEDULES and not is_cron(schedule):
        report.error(
            f"Invalid import schedule '{schedule}'. Only {list(SCHEDULES)} values are allowed",
            given["IMPORT_SCHEDULE"].first,
            "Or a cron expression of five fields, in UTC.",
            reason=Reason.SCHEDULE_INVALID,
        )
    uri = found.get("IMPORT_BUCKET_URI", "")
    if uri and not is_secret(uri):
        try:
            parse_uri(uri)
        except BadUri as error:
            report.error(
                f"Invalid bucket URI '{uri[:200]}': {error}",
                given["IMPORT_BUCKET_URI"].first,
                "s3://bucket/path/*.csv",
                reason=Reason.DIRECTIVE_INVALID,
            )
    since = found.get("IMPORT_FROM_TIMESTAMP", "")
    if since and not is_secret(since):
        try:
            datetime.fromisoformat(since)
        except ValueError:
            report.error(
                f"'{since[:60]}' is no time",
                given["IMPORT_FROM_TIMESTAMP"].first,
                "2026-01-31T00:00:00Z",
                reason=Reason.DIRECTIVE_INVALID,
            )
    strategy = found.get("IMPORT_STRATEGY", "").lower()
    if strategy not in ("", "append") and not is_secret(strategy):
        report.warn(
            f"IMPORT_STRATEGY {strategy} counts as append: objects are added to the table",
            given["IMPORT_STRATEGY"].first,
            kind=WarningKind.UNKNOWN_VALUE,
        )


def postgres(report: ParseReport, given: Mapping[str, Directive]) -> dict[str, str]:
    found = _settings(report, given, vocabulary.POSTGRES_SOURCE)
    missing(report, given, found, _REQUIRED_POSTGRES, "Postgres")
    return found


def implicit_columns(kafka_settings: Mapping[str, str], import_settings: Mapping[str, str]) -> tuple[Column, ...]:
    """The columns that every Kafka or DynamoDB data source has, listed in its SCHEMA or not."""
    if import_settings.get("IMPORT_TABLE_ARN") or import_settings.get("IMPORT_SERVICE", "").lower() == "dynamodb":
        return _DYNAMODB
    if not kafka_settings:
        return ()
    columns = [
        Column("__value", "String"),
        Column("__topic", "LowCardinality(String)"),
        Column("__partition", "Int16"),
        Column("__offset", "Int64"),
        Column("__timestamp", "DateTime"),
        Column("__key", "String"),
    ]
    if "True" in (kafka_settings.get("KAFKA_STORE_HEADERS"), kafka_settings.get("KAFKA_STORE_BINARY_HEADERS")):
        columns.append(Column("__headers", "Map(String, String)"))
    return tuple(columns)


# What one change of a table is: its new and its old record as JSON, when, which kind (two names are in use), and what
# ENGINE_VER and ENGINE_IS_DELETED of a ReplacingMergeTree want.
_DYNAMODB = (
    Column("_record", "String"),
    Column("_old_record", "Nullable(String)"),
    Column("_timestamp", "DateTime64(3)"),
    Column("_event_name", "LowCardinality(String)"),
    Column("_event_type", "LowCardinality(String)"),
    Column("_is_deleted", "UInt8"),
)


def missing(
    report: ParseReport, given: Mapping[str, Directive], found: Mapping[str, str], required: tuple[str, ...], what: str
) -> None:
    """The dialect's error for settings that go together, where only some are there."""
    absent = [name for name in required if not found.get(name)]
    if found and absent:
        first = min(given[name].offset for name in found)
        report.error(
            f"Some {what} params have been provided, but the following required ones are missing: {absent}",
            first,
            reason=Reason.DIRECTIVE_MISSING,
        )


def _settings(report: ParseReport, given: Mapping[str, Directive], names: frozenset[str]) -> dict[str, str]:
    return {name: plain(report, directive) for name, directive in given.items() if name in names}

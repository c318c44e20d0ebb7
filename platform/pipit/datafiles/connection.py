"""`.connection`: directives -> `Connection`. Complete for its type, or an error; secrets stay placeholders."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pipit.datafiles import common, vocabulary
from pipit.datafiles.directives import Directive, read_directives
from pipit.datafiles.resources import Connection, WarningKind
from pipit.datafiles.secrets import check_expressions
from pipit.datafiles.source import ParseReport
from pipit.errors import Reason

_REQUIRED: dict[str, tuple[tuple[str, ...], ...]] = {  # of each group of alternatives one
    "kafka": (("KAFKA_BOOTSTRAP_SERVERS",),),
    "s3": (("S3_REGION",), ("S3_ARN", "S3_ACCESS_KEY"), ("S3_ARN", "S3_SECRET")),
    "gcs": (
        ("GCS_SERVICE_ACCOUNT_CREDENTIALS_JSON", "GCS_HMAC_ACCESS_ID", "GCS_ACCESS_ID"),
        ("GCS_SERVICE_ACCOUNT_CREDENTIALS_JSON", "GCS_HMAC_SECRET", "GCS_SECRET"),
    ),
    "dynamodb": (("DYNAMODB_ARN",), ("DYNAMODB_REGION",)),
    "postgres": (("PG_HOST",), ("PG_DATABASE",), ("PG_USER",), ("PG_PASSWORD",)),
}
_VALUES = {
    "KAFKA_SECURITY_PROTOCOL": common.choices("SASL_SSL", "SASL_PLAINTEXT", "SSL", "PLAINTEXT"),
    "KAFKA_SASL_MECHANISM": common.choices("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
    "S3_PATH_STYLE": common.choices("True", "False"),
}
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,40}\Z")
_ENDPOINT = re.compile(r"https?://[^\s/@?#]+/?\Z")
_TYPES = ", ".join(vocabulary.CONNECTION_SETTINGS)


def read_connection(report: ParseReport, name: str) -> Connection:
    """The connection of this file, as far as it can be read."""
    directives = read_directives(report, "connection")
    given = common.by_name(report, directives)
    check_expressions(report, directives)
    type_ = _type(report, given)
    settings = {
        word: common.plain(report, directive)
        for word, directive in given.items()
        if word not in ("TYPE", "DESCRIPTION", "KAFKA_KEY_AVRO_DESERIALIZATION")
    }
    avro = given.get("KAFKA_KEY_AVRO_DESERIALIZATION")
    if avro is not None and common.plain(report, avro):
        report.error(
            "KAFKA_KEY_AVRO_DESERIALIZATION is not supported",
            avro.offset,
            "Use KAFKA_KEY_FORMAT avro in the .datasource file.",
        )
    for word, allowed in _VALUES.items():
        if settings.get(word):
            settings[word] = common.one_of(report, given[word], settings[word], allowed)
    if type_:
        _check(report, type_, given, settings)
        if type_ == "kafka":
            _check_kafka(report, given, settings)
        elif type_ in ("s3", "gcs"):
            _check_store(report, type_, given, settings)
        else:
            report.warn(
                "deploys inert: nothing connects through it yet",
                given["TYPE"].offset,
                kind=WarningKind.INERT_CONNECTION,
            )
    return Connection(name, report.file, type_, settings, common.description(given.get("DESCRIPTION")), report.text)


def _type(report: ParseReport, given: Mapping[str, Directive]) -> str:
    directive = given.get("TYPE")
    if directive is None:
        report.error("TYPE is mandatory", None, f"TYPE and one of {_TYPES}.", reason=Reason.DIRECTIVE_MISSING)
        return ""
    value = common.plain(report, directive).lower()
    if value not in vocabulary.CONNECTION_SETTINGS:
        report.error(
            f"Invalid connection type '{value}'", directive.first, f"One of {_TYPES}.", reason=Reason.DIRECTIVE_INVALID
        )
        return ""
    return value


def _check_kafka(report: ParseReport, given: Mapping[str, Directive], settings: Mapping[str, str]) -> None:
    """What could never connect. Credentials may be missing in a project that nobody runs here: that is a warning."""
    certificate = settings.get("KAFKA_SSL_CA_PEM", "")
    if certificate and not common.is_secret(certificate) and "-----BEGIN" not in certificate:
        report.error(
            "KAFKA_SSL_CA_PEM is no certificate in PEM form",
            given["KAFKA_SSL_CA_PEM"].first,
            "A block from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----.",
        )
    protocol = settings.get("KAFKA_SECURITY_PROTOCOL") or "SASL_SSL"
    absent = [word for word in ("KAFKA_KEY", "KAFKA_SECRET") if not settings.get(word)]
    if protocol.startswith("SASL") and absent:
        report.warn(
            f"Nothing can connect through it: {protocol} needs {' and '.join(absent)}",
            given["TYPE"].offset,
            "Or say KAFKA_SECURITY_PROTOCOL PLAINTEXT or SSL.",
            kind=WarningKind.CANNOT_CONNECT,
        )


def _check_store(report: ParseReport, type_: str, given: Mapping[str, Directive], settings: Mapping[str, str]) -> None:
    """What could never connect is an error; a way to sign that Pipit does not have yet is a warning, since the project
    deploys elsewhere."""
    endpoint = settings.get("S3_ENDPOINT", "")
    if endpoint and not common.is_secret(endpoint) and not _ENDPOINT.match(endpoint):
        report.error(
            f"'{endpoint}' is no endpoint",
            given["S3_ENDPOINT"].first,
            "S3_ENDPOINT https://host or http://host:port, without a path.",
            reason=Reason.DIRECTIVE_INVALID,
        )
    region = settings.get("S3_REGION", "")
    if region and not common.is_secret(region) and not _REGION.match(region):
        report.error(
            f"'{region}' is no region", given["S3_REGION"].first, "eu-west-1", reason=Reason.DIRECTIVE_INVALID
        )
    needed = {"s3": ("S3_ACCESS_KEY", "S3_SECRET"), "gcs": ("GCS_HMAC_ACCESS_ID", "GCS_HMAC_SECRET")}[type_]
    other = "S3_ARN" if type_ == "s3" else "GCS_SERVICE_ACCOUNT_CREDENTIALS_JSON"
    has_key = settings.get(needed[0]) or (type_ == "gcs" and settings.get("GCS_ACCESS_ID"))
    if not has_key and settings.get(other):
        report.warn(
            f"Nothing can connect through it: {other} is not supported yet",
            given[other].offset,
            f"Use {' and '.join(needed)}.",
            kind=WarningKind.CANNOT_CONNECT,
        )


def _check(report: ParseReport, type_: str, given: Mapping[str, Directive], settings: Mapping[str, str]) -> None:
    for word in settings.keys() - vocabulary.CONNECTION_SETTINGS[type_]:
        report.error(f"{word} is not a setting of a {type_} connection", given[word].offset)
    absent = [group[-1] for group in _REQUIRED[type_] if not any(settings.get(word) for word in group)]
    if absent:
        report.error(
            f"Some connection params have been provided, but the following required ones are missing: {absent}",
            given["TYPE"].offset,
            f"A {type_} connection needs " + ", ".join(" or ".join(group) for group in _REQUIRED[type_]) + ".",
            reason=Reason.DIRECTIVE_MISSING,
        )

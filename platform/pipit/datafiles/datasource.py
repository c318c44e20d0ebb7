"""`.datasource`: directives -> `DataSource`. Errors go to the report; the result is only of use if there are none."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pipit.datafiles import common, connectors, values, vocabulary
from pipit.datafiles.columns import read_columns
from pipit.datafiles.directives import Directive, read_directives
from pipit.datafiles.engines import build_engine
from pipit.datafiles.indexes import read_indexes
from pipit.datafiles.resources import DataSource, RowPolicy, WarningKind
from pipit.datafiles.secrets import check_expressions
from pipit.datafiles.source import ParseReport
from pipit.errors import Reason

# `none` alone, or with something else than an operator after it (a column may have that name).
_NO_POLICY = re.compile(r"none\s*(?:\Z|['\"]|REASON\b)", re.IGNORECASE)
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IGNORED = {
    "VERSION": "VERSION is deprecated and ignored",
    "SOURCE": "SOURCE is a Classic directive and ignored",
}


def read_datasource(report: ParseReport, name: str, vendor: str = "") -> DataSource:
    """The data source of this file, as far as it can be read."""
    directives = read_directives(report, "datasource")
    given = common.by_name(report, directives)
    schema = given.get("SCHEMA")
    columns = read_columns(report, schema.start, schema.end) if schema else ()
    if schema is None:
        report.error(
            "SCHEMA is mandatory",
            None,
            "SCHEMA >, and the columns in the lines below it, indented.",
            reason=Reason.DIRECTIVE_MISSING,
        )
    elif not columns and not report.errors:
        report.error(
            "SCHEMA is mandatory",
            schema.offset,
            "The block has no column: `name` Type",
            reason=Reason.DIRECTIVE_MISSING,
        )
    check_expressions(report, directives)
    kafka = connectors.kafka(report, given)
    imports = connectors.imports(report, given)
    postgres = connectors.postgres(report, given)
    listed = {column.name for column in columns}
    if columns:
        implicit = connectors.implicit_columns(kafka, imports)
        columns += tuple(column for column in implicit if column.name not in listed)
    engine_given = {word: given[word] for word in given.keys() & vocabulary.ENGINE_WORDS}
    # A schema that could not be read would make every key that names its columns an error of its own.
    unread = bool(report.errors) or bool(imports) or bool(postgres)
    engine = build_engine(report, engine_given, columns, implicit=unread)
    source = DataSource(
        name=name,
        file=report.file,
        columns=columns,
        engine=engine,
        description=common.description(given.get("DESCRIPTION")),
        tokens=common.tokens(report, directives, "datasource"),
        tags=common.names_list(report, given.get("TAGS")),
        indexes=read_indexes(report, given["INDEXES"].start, given["INDEXES"].end) if "INDEXES" in given else (),
        row_policy=_row_policy(report, given),
        shared_with=common.names_list(report, given.get("SHARED_WITH"), lines=True),
        forward_query=given["FORWARD_QUERY"].text if "FORWARD_QUERY" in given else "",
        backfill_skip=_backfill(report, given.get("BACKFILL")),
        kafka=kafka,
        imports=imports,
        postgres=postgres,
        vendor=vendor,
        version=_version(report, given.get("VERSION")),
        text=report.text,
        parts=report.parts,
    )
    if "SHARED_WITH" in given and not source.shared_with:
        report.error(
            "SHARED_WITH needs at least one workspace",
            given["SHARED_WITH"].offset,
            "SHARED_WITH name, name",
            reason=Reason.DIRECTIVE_INVALID,
        )
    _warn(report, given, source)
    return source


def _policy_error(report: ParseReport, message: str, at: int, hint: str) -> None:
    report.error(message, at, hint, reason=Reason.POLICY_INVALID)


def _row_policy(report: ParseReport, given: Mapping[str, Directive]) -> RowPolicy | None:
    policy, optional = given.get("ROW_POLICY"), given.get("ROW_POLICY_OPTIONAL")
    keys = common.names_list(report, optional)
    for key in keys:
        if optional is not None and not _KEY.fullmatch(key):
            _policy_error(
                report, f"'{key}' is not a key of a token's context", optional.first, "ROW_POLICY_OPTIONAL team, region"
            )
    if policy is None:
        if optional is not None:
            _policy_error(
                report,
                "ROW_POLICY_OPTIONAL needs a ROW_POLICY",
                optional.offset,
                "ROW_POLICY > and the condition below it.",
            )
        return None
    if optional is not None and not keys:
        _policy_error(report, "ROW_POLICY_OPTIONAL needs a key", optional.offset, "ROW_POLICY_OPTIONAL team, region")
    if _NO_POLICY.match(policy.text):
        return _no_policy(report, policy, optional)
    condition = policy.text if policy.block else values.expression(policy.text)
    if not condition.strip():
        _policy_error(
                report, "ROW_POLICY needs a condition",
            policy.offset,
            "customer_id = {{String(context.customer_id)}}",
        )
    return RowPolicy(condition, frozenset(keys), report.position(policy.first))


def _no_policy(report: ParseReport, policy: Directive, optional: Directive | None) -> RowPolicy:
    """`none REASON '...'`: a statement of the author's, so that it never happens by leaving something out."""
    found = values.words(policy.text) or []
    spoken = [word for word, _ in found]
    reason = " ".join(spoken[2].split()) if len(spoken) == 3 and spoken[1].upper() == "REASON" else ""
    if not reason:
        _policy_error(
                report, "ROW_POLICY none needs a REASON: it lets every tenant read all rows of this table",
            policy.first,
            "ROW_POLICY none REASON 'a list of countries, the same for everybody'",
        )
    if optional is not None:
        _policy_error(
            report, "ROW_POLICY none has no keys, so none can be optional", optional.offset, "Drop this line."
        )
    return RowPolicy("", frozenset(), report.position(policy.first), reason or "?")


def _version(report: ParseReport, directive: Directive | None) -> int | None:
    value = common.plain(report, directive)
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None


def _backfill(report: ParseReport, directive: Directive | None) -> bool:
    value = common.plain(report, directive)
    if directive is not None and value.lower() != "skip":
        report.error(
            f"Invalid value '{value}' for BACKFILL",
            directive.first,
            "Only BACKFILL skip is possible.",
            reason=Reason.DIRECTIVE_INVALID,
        )
    return value.lower() == "skip"


def _warn(report: ParseReport, given: Mapping[str, Directive], source: DataSource) -> None:
    for word in sorted(given.keys() & vocabulary.KAFKA_BROKER):
        report.warn(
            f"{word} in a data source is Classic and ignored: the connection's own file says how to reach the broker",
            given[word].offset,
            "Move it into a .connection file, with TYPE kafka.", kind=WarningKind.CLASSIC_BROKER,
        )
    for word, message in _IGNORED.items():
        if word in given:
            report.warn(
                message,
                given[word].offset,
                "Leave it out: git knows the versions of a file.",
                kind=WarningKind.VERSION_IGNORED,
            )
    inert = {
        "IMPORT_CONNECTION_NAME": (
            {} if source.imports.get("IMPORT_BUCKET_URI") else source.imports,
            "the table is there, and nothing is imported into it yet",
            WarningKind.INERT_IMPORT,
        ),
        "PG_CONNECTION_NAME": (
            source.postgres,
            "the table is there, and nothing is read from Postgres yet",
            WarningKind.INERT_POSTGRES,
        ),
        "SHARED_WITH": (
            source.shared_with,
            "the data source is not shared with other workspaces yet",
            WarningKind.INERT_SHARING,
        ),
    }
    for word, (used, what, kind) in inert.items():
        if used:
            report.warn(f"deploys inert: {what}", given[word].offset if word in given else None, kind=kind)

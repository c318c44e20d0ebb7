"""`.pipe`: directives -> `Pipe` with its nodes. Errors go to the report; the result is only of use if there are none.

A pipe without any typed node is published by its last node, as Classic projects have it, if the file stands in a
folder `endpoints/` or grants a token READ: there is nothing else that the token could read. Any other such pipe is
for other pipes to read and has no endpoint.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from pipit.datafiles import common, vocabulary
from pipit.datafiles.buckets import BadUri, split_uri
from pipit.datafiles.directives import Directive, read_directives
from pipit.datafiles.engines import MERGING, build_engine, key_items
from pipit.datafiles.exports import COMPRESSIONS, BadTemplate, parse_template
from pipit.datafiles.resources import Node, NodeType, Pipe, TableEngine, WarningKind
from pipit.datafiles.schedules import is_cron
from pipit.datafiles.source import ParseReport
from pipit.errors import Reason
from pipit.suggest import did_you_mean

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OF_A_PIPE = frozenset({"TOKEN", "TAGS", "VERSION", "FIXED_PARAMS", "CACHE"})
_OF_A_NODE = {
    NodeType.MATERIALIZED: frozenset({"DATASOURCE", "DEPLOYMENT_METHOD"}),
    NodeType.COPY: frozenset({"TARGET_DATASOURCE", "COPY_SCHEDULE", "COPY_MODE", "ON_DEMAND_COMPUTE"}),
    NodeType.SINK: vocabulary.EXPORTS,
}
_EXPORT_FORMATS = common.choices("csv", "ndjson", "parquet") | {"json": "ndjson", "jsonl": "ndjson"}
# The dialect takes any strategy, and projects say what `tb sink run --mode` takes.
_STRATEGIES = {"append": "new", "replace": "truncate"}
_EXPORT_STRATEGIES = {
    "EXPORT_WRITE_STRATEGY": common.choices("new", "truncate") | {"@new": "new", "@truncate": "truncate"},
    "EXPORT_STRATEGY": common.choices("@new", "@truncate", "new", "truncate"),
}
_INERT = "deploys inert: nothing is exported yet"


def read_pipe(report: ParseReport, name: str, *, has_file: Callable[[str], bool] = lambda name: False) -> Pipe:
    """The pipe of this file, as far as it can be read. `has_file`: whether a data source of this name has a file."""
    directives = read_directives(report, "pipe")
    head, sections = _sections(report, directives)
    # TOKEN, TAGS and the like are the pipe's wherever they stand: they end a node's SQL block, no more.
    of_pipe = head + [d for section in sections for d in section if d.name in _OF_A_PIPE]
    given = common.by_name(report, of_pipe, "this pipe")
    nodes: list[Node] = []
    for section in sections:
        node = _node(report, section, has_file)
        if node is not None:
            nodes.append(node)
    _check_nodes(report, nodes, bool(sections))
    if "VERSION" in given:
        report.warn(
            "VERSION is deprecated and ignored",
            given["VERSION"].offset,
            "Leave it out: git knows the versions of a file.", kind=WarningKind.VERSION_IGNORED,
        )
    pipe = Pipe(
        name=name,
        file=report.file,
        nodes=tuple(nodes),
        description=common.description(given.get("DESCRIPTION")),
        tokens=common.tokens(report, of_pipe, "pipe"),
        tags=common.names_list(report, given.get("TAGS")),
        fixed_params=_fixed_params(report, given.get("FIXED_PARAMS")),
        cache=_cache(report, given.get("CACHE")),
        text=report.text,
        parts=report.parts,
    )
    return _published(pipe)


def _sections(report: ParseReport, directives: Sequence[Directive]) -> tuple[list[Directive], list[list[Directive]]]:
    """The directives before the first NODE, and those of each node, its NODE first."""
    head: list[Directive] = []
    sections: list[list[Directive]] = []
    for directive in directives:
        if directive.name == "NODE":
            sections.append([directive])
        elif sections:
            sections[-1].append(directive)
        elif directive.name in _OF_A_PIPE or directive.name == "DESCRIPTION":
            head.append(directive)
        else:
            place = report.position(directive.offset)
            report.error(
                f"{directive.name} must be called after a NODE command at {place.line}:{place.column}.",
                directive.offset,
                "NODE name starts a node.",
            )
    return head, sections


def _node(report: ParseReport, section: Sequence[Directive], has_file: Callable[[str], bool]) -> Node | None:
    opening, *rest = section
    name = common.plain(report, opening)
    if not _NAME.fullmatch(name):
        message = f"Invalid node name '{name}'" if name else "NODE needs a name"
        report.error(message, opening.first, "Letters, digits and _, not starting with a digit.")
    given = common.by_name(report, (d for d in rest if d.name not in _OF_A_PIPE), f"node '{name}'")
    sql = given.get("SQL")
    if sql is None or not sql.text.strip():
        place = opening if sql is None else sql
        report.error(
            f"Node '{name}' has no SQL",
            place.offset,
            "SQL >, and the statement in the lines below it.",
            reason=Reason.DIRECTIVE_MISSING,
        )
    type_ = _type(report, name, given.get("TYPE"))
    if type_ is None:
        return None
    _check_settings(report, name, type_, given)
    node = Node(
        name=name,
        sql=sql.text if sql else "",
        type=type_,
        description=common.description(given.get("DESCRIPTION")),
        position=report.position(opening.offset),
        sql_position=report.position(sql.first if sql else opening.offset),
    )
    if type_ is NodeType.MATERIALIZED:
        return _materialized(report, node, given, has_file)
    if type_ is NodeType.COPY:
        return _copy(report, node, given)
    if type_ is NodeType.SINK:
        return _sink(report, node, given)
    return node


def _type(report: ParseReport, name: str, directive: Directive | None) -> NodeType | None:
    value = common.plain(report, directive)
    if directive is None:
        return NodeType.STANDARD
    try:
        return NodeType(value.lower())
    except ValueError:
        report.error(
            f"Invalid node ''{name}'' of type ({value}). Allowed node types: {{copy, materialized, sink, endpoint}}",
            directive.first,
            did_you_mean(value, NodeType),
            reason=Reason.DIRECTIVE_INVALID,
        )
        return None


def _check_settings(report: ParseReport, name: str, type_: NodeType, given: Mapping[str, Directive]) -> None:
    """Settings of another type of node would be ignored: say so."""
    for word, directive in given.items():
        if word in vocabulary.ENGINE_WORDS:
            if type_ is not NodeType.MATERIALIZED:
                report.error(
                    f"{word} is not a valid option in pipe files.",
                    directive.offset,
                    "It belongs in .datasource files.",
                    reason=Reason.DIRECTIVE_UNKNOWN,
                    subject=word,
                )
            continue
        owner = next((owner for owner, words in _OF_A_NODE.items() if word in words), type_)
        if owner is not type_:
            report.warn(
                f"{word} is ignored: node '{name}' is not of TYPE {owner}",
                directive.offset,
                f"Add TYPE {owner}.",
                kind=WarningKind.OTHER_TYPE_IGNORED,
            )


def _materialized(
    report: ParseReport, node: Node, given: Mapping[str, Directive], has_file: Callable[[str], bool]
) -> Node:
    target = common.plain(report, given.get("DATASOURCE"))
    _require(report, given, {"DATASOURCE": target}, "materialized node")
    method = common.plain(report, given.get("DEPLOYMENT_METHOD"))
    if method:
        method = common.one_of(report, given["DEPLOYMENT_METHOD"], method, common.choices("alter"))
    return replace(node, datasource=target, deployment_method=method, engine=_engine(report, target, given, has_file))


def _engine(
    report: ParseReport, target: str, given: Mapping[str, Directive], has_file: Callable[[str], bool]
) -> TableEngine | None:
    """Classic's way to make the target: its engine in the pipe, its columns those of the node."""
    words = {word: directive for word, directive in given.items() if word in vocabulary.ENGINE_WORDS}
    if not words:
        return None
    first = min(directive.offset for directive in words.values())
    if has_file(target):
        report.warn(
            "ENGINE in a pipe is Classic and ignored: the target's own .datasource file says its engine",
            first,
            kind=WarningKind.CLASSIC_IGNORED,
        )
        return None
    engine = build_engine(report, words, (), implicit=True)
    if engine.name in MERGING and not key_items(engine.sorting_key):
        message = f"{engine.name} without ENGINE_SORTING_KEY makes one row of all rows"
        report.error(message, first, "Add ENGINE_SORTING_KEY with the columns that the node groups by.")
    return replace(engine, position=report.position(first))


def _copy(report: ParseReport, node: Node, given: Mapping[str, Directive]) -> Node:
    target = common.plain(report, given.get("TARGET_DATASOURCE"))
    _require(report, given, {"TARGET_DATASOURCE": target}, "copy node")
    schedule = common.plain(report, given.get("COPY_SCHEDULE")) or node.copy_schedule
    if schedule != "@on-demand" and not is_cron(schedule):
        at = given["COPY_SCHEDULE"].first
        if common.is_secret(schedule):
            report.error("Secrets are not allowed in schedules", at, reason=Reason.SCHEDULE_INVALID)
        else:
            report.error(
                "COPY node schedule must be @on-demand or a valid cron expression.",
                at,
                "0 * * * *, in UTC",
                reason=Reason.SCHEDULE_INVALID,
            )
    mode = (common.plain(report, given.get("COPY_MODE")) or node.copy_mode).lower()
    if mode not in ("append", "replace"):
        report.error(
            "COPY node mode must be append or replace", given["COPY_MODE"].first, reason=Reason.DIRECTIVE_INVALID
        )
    return replace(node, target_datasource=target, copy_schedule=schedule, copy_mode=mode)


def _sink(report: ParseReport, node: Node, given: Mapping[str, Directive]) -> Node:
    exports = {word: common.plain(report, directive) for word, directive in given.items() if word in vocabulary.EXPORTS}
    at = given["TYPE"].offset
    required = ["EXPORT_CONNECTION_NAME", "EXPORT_SCHEDULE"]
    if not exports.get("EXPORT_KAFKA_TOPIC"):
        required += ["EXPORT_BUCKET_URI", "EXPORT_FILE_TEMPLATE"]
    for word in required:
        if not exports.get(word):
            report.error(
                f"Sink node '{node.name}' is missing required parameter '{word.lower()}'",
                at,
                reason=Reason.DIRECTIVE_MISSING,
            )
    if exports.get("EXPORT_FORMAT"):
        word = "EXPORT_FORMAT"
        exports[word] = common.one_of(report, given[word], exports[word], _EXPORT_FORMATS)
    for word, allowed in _EXPORT_STRATEGIES.items():
        if exports.get(word):
            meant = _STRATEGIES.get(exports[word].lower(), "new")
            exports[word] = common.one_of(report, given[word], exports[word], allowed, otherwise=meant)
    schedule = exports.get("EXPORT_SCHEDULE", "")
    if common.is_secret(schedule):
        report.error(
            "Secrets are not allowed in schedules", given["EXPORT_SCHEDULE"].first, reason=Reason.SCHEDULE_INVALID
        )
    elif schedule and schedule not in ("@on-demand", "@once") and not is_cron(schedule):
        report.error(
            "Sink node schedule must be @on-demand, @once or a valid cron expression.",
            given["EXPORT_SCHEDULE"].first,
            "0 * * * *, in UTC",
            reason=Reason.SCHEDULE_INVALID,
        )
    if exports.get("EXPORT_KAFKA_TOPIC"):
        report.warn(_INERT, at, kind=WarningKind.INERT_SINK)
    else:
        _check_files(report, given, exports)
    return replace(node, exports=exports)


def _check_files(report: ParseReport, given: Mapping[str, Directive], exports: Mapping[str, str]) -> None:
    def wrong(word: str, what: str, hint: str) -> None:
        message = f"Invalid value '{exports[word][:200]}' for {word}: {what}"
        report.error(message, given[word].first, hint, reason=Reason.DIRECTIVE_INVALID)

    def is_given(word: str) -> bool:
        return bool(exports.get(word)) and not common.is_secret(exports[word])

    if is_given("EXPORT_BUCKET_URI"):
        try:
            split_uri(exports["EXPORT_BUCKET_URI"])
        except BadUri as error:
            wrong("EXPORT_BUCKET_URI", str(error), "s3://bucket/path")
    if is_given("EXPORT_FILE_TEMPLATE"):
        try:
            parse_template(exports["EXPORT_FILE_TEMPLATE"])
        except BadTemplate as error:
            wrong("EXPORT_FILE_TEMPLATE", str(error), "{customer}/{day, '%Y-%m-%d'}/part_{4}")
    allowed = COMPRESSIONS.get(exports.get("EXPORT_FORMAT") or "csv", ())
    compression = exports.get("EXPORT_COMPRESSION", "").lower()
    if allowed and is_given("EXPORT_COMPRESSION") and compression not in (*allowed, "gzip"):
        wrong("EXPORT_COMPRESSION", "not one of this format", f"One of {', '.join(allowed)}.")
    if exports.get("EXPORT_SCHEDULE") == "@once":
        report.warn(
            "@once does not run by itself: it counts as @on-demand",
            given["EXPORT_SCHEDULE"].first,
            "`pipit sink run`",
            kind=WarningKind.UNKNOWN_VALUE,
        )


def _require(report: ParseReport, given: Mapping[str, Directive], required: Mapping[str, str], what: str) -> None:
    absent = [word for word, value in required.items() if not value]
    if absent:
        report.error(
            f"Some {what} params have been provided, but the following required ones are missing: {absent}",
            given["TYPE"].offset,
            reason=Reason.DIRECTIVE_MISSING,
        )


def _check_nodes(report: ParseReport, nodes: Sequence[Node], any_section: bool) -> None:
    if not any_section:
        report.error(
            "The pipe has no node", None, "NODE name, and SQL > with its statement.", reason=Reason.DIRECTIVE_MISSING
        )
    seen: dict[str, Node] = {}
    for node in nodes:
        if node.name and node.name in seen:
            at = report.offset(node.position)
            first = seen[node.name].position
            report.error(
                f"Duplicate node '{node.name}', first in {first}",
                at,
                "Give one of them another name.",
                reason=Reason.NAME_TAKEN,
            )
        seen.setdefault(node.name, node)
    special = [node for node in nodes if node.type is not NodeType.STANDARD]
    if len(special) > 1:
        at = report.offset(special[1].position)
        report.error("Multiple non-standard nodes in pipe. There can only be one", at, "Make a pipe of its own for it.")


def _fixed_params(report: ParseReport, directive: Directive | None) -> tuple[str, ...]:
    names = common.names_list(report, directive)
    if directive is not None and not names:
        report.error(
            "FIXED_PARAMS needs a parameter",
            directive.offset,
            "FIXED_PARAMS customer_id, region",
            reason=Reason.DIRECTIVE_INVALID,
        )
    for name in names:
        if directive is not None and not _NAME.fullmatch(name):
            report.error(
                f"'{name}' is not the name of a parameter", directive.first, "FIXED_PARAMS customer_id, region"
            )
    return names


def _cache(report: ParseReport, directive: Directive | None) -> int | None:
    if directive is None:
        return None
    value = common.plain(report, directive)
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        report.error("CACHE needs a number of seconds", directive.first, "CACHE 60", reason=Reason.DIRECTIVE_INVALID)
        return None
    return int(value)


def _published(pipe: Pipe) -> Pipe:
    """Classic's implicit endpoint: see the module's text."""
    typed = any(node.type is not NodeType.STANDARD for node in pipe.nodes)
    meant = bool(pipe.tokens) or "endpoints" in PurePosixPath(pipe.file).parts[:-1]
    if typed or not pipe.nodes or not meant:
        return pipe
    return replace(pipe, nodes=(*pipe.nodes[:-1], replace(pipe.nodes[-1], type=NodeType.ENDPOINT)))

"""A project's files -> `Project`, or one `ProjectError` with everything that is wrong in all of them.

The checks across files are here: names, targets, connections. A file that could not be read still counts as there,
so that one slip in a data source is not also an error of every pipe that names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TypeVar

from cachetools import LRUCache

from pipit.datafiles.common import is_secret
from pipit.datafiles.connection import read_connection
from pipit.datafiles.connectors import OF_REGISTRY
from pipit.datafiles.datasource import read_datasource
from pipit.datafiles.includes import Includes
from pipit.datafiles.pipe import read_pipe
from pipit.datafiles.published import callable_pipes, is_classic, published
from pipit.datafiles.resources import Connection, DataSource, Node, NodeType, Pipe, Project, WarningKind, versioned
from pipit.datafiles.source import ParseReport
from pipit.errors import ProjectError, Reason
from pipit.sql.identifiers import is_resource_name, name_problem

KINDS = (".datasource", ".connection", ".pipe")  # pipes last: they are read knowing which data sources have files
_SERVICES = ("tinybird", "organization")  # what only the service itself puts before a dot
_SHARED_HINT = "vendor/<workspace>/<name>.datasource: both of letters, digits and _, and no word of SQL."


def parse_datasource(text: str, *, file: str) -> DataSource:
    """One `.datasource` file. Raises ProjectError with all its errors."""
    report = Includes().report(file, text)
    source = read_datasource(report, _name(file), _vendor(file))
    _raise([report])
    return source


def parse_pipe(text: str, *, file: str) -> Pipe:
    """One `.pipe` file. Raises ProjectError with all its errors."""
    report = Includes().report(file, text)
    pipe = read_pipe(report, _name(file))
    _raise([report])
    return pipe


def parse_connection(text: str, *, file: str) -> Connection:
    """One `.connection` file. Raises ProjectError with all its errors."""
    report = ParseReport(file, text)
    connection = read_connection(report, _name(file))
    _raise([report])
    return connection


def parse_project(files: Mapping[str, str]) -> Project:
    """All files of a project, relative path -> text. `.incl` files are read where they are included; files of other
    kinds are kept, and not looked at."""
    project = _Reading(files)
    for kind in KINDS:
        for file in sorted(files):
            if PurePosixPath(file).suffix == kind:
                project.add(file, files[file])
    project.check()
    reports = [project.reports[file] for file in sorted(project.reports)]
    _raise(reports)
    return Project(
        datasources=project.datasources,
        pipes=project.pipes,
        connections=project.connections,
        warnings=tuple(dict.fromkeys(warning for report in reports for warning in report.warnings)),
        files=dict(files),
    )


# Most files of a deploy are those of the deploy before. Those are remembered that read well by themselves: without
# errors, warnings and other files.
_CHARACTERS = 64 * 1024 * 1024
_read: LRUCache[tuple[str, str], DataSource | Pipe] = LRUCache(_CHARACTERS, lambda one: 20 * (len(one.text) + 50))
_Resource = TypeVar("_Resource", DataSource, Pipe)


def _read_before(report: ParseReport, kind: type[_Resource]) -> _Resource | None:
    found = None if report.parts or report.errors else _read.get((report.file, report.text))
    return found if isinstance(found, kind) else None


def _remembered(report: ParseReport, one: _Resource) -> _Resource:
    if not (report.parts or report.errors or report.warnings):
        with suppress(ValueError):  # larger than all that is remembered
            _read[report.file, report.text] = one
    return one


class _Reading:
    """A project while its files are read."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files
        self._includes = Includes(files)
        self.reports: dict[str, ParseReport] = {}
        self.datasources: dict[str, DataSource] = {}
        self.pipes: dict[str, Pipe] = {}
        self.connections: dict[str, Connection] = {}

    def add(self, file: str, text: str) -> None:
        kind = PurePosixPath(file).suffix
        report = ParseReport(file, text) if kind == ".connection" else self._includes.report(file, text)
        self.reports[file] = report
        lacking = list(report.errors)
        self._read(report, kind)
        if lacking:
            report.errors[:] = lacking  # the others follow from what could not be included

    def _read(self, report: ParseReport, kind: str) -> None:
        file = report.file
        name, vendor = _name(file), _vendor(file)
        if vendor and kind != ".datasource":
            report.warn(
                "ignored: only .datasource files are shared, in vendor/<workspace>/", kind=WarningKind.VENDOR_IGNORED
            )
            return
        if kind == ".datasource" and (vendor or "." in name):
            self._add_shared(report, name, vendor)
            return
        if not is_resource_name(name):
            report.error(
                f"'{name}' cannot be the name of a resource", hint=name_problem(name), reason=Reason.NAME_INVALID
            )
        if kind == ".connection":
            connection = read_connection(report, name)
            if self._is_new(report, name, self.connections):
                self.connections[name] = connection
        elif kind == ".datasource":
            source = _read_before(report, DataSource) or _remembered(report, read_datasource(report, name))
            if self._is_new(report, name, self.datasources, self.pipes):
                self.datasources[name] = source
        else:
            pipe = _read_before(report, Pipe) or self._read_pipe(report, name)
            if self._is_new(report, name, self.datasources, self.pipes):
                self.pipes[name] = pipe

    def _read_pipe(self, report: ParseReport, name: str) -> Pipe:
        looked = False  # at other files

        def has_file(target: str) -> bool:
            nonlocal looked
            looked = True
            return self._known(target) is not None

        pipe = read_pipe(report, name, has_file=has_file)
        return pipe if looked else _remembered(report, pipe)

    def _add_shared(self, report: ParseReport, name: str, vendor: str) -> None:
        """A data source that another workspace shares with us: `vendor/<workspace>/.../<name>.datasource`, or Classic's
        `<workspace>.<name>.datasource`. A table of this workspace, under `<workspace>.<name>`."""
        workspace, dot, own = name.partition(".")
        if not dot:
            workspace, own = vendor, name
        whole = f"{workspace}.{own}"
        if workspace in _SERVICES:
            message = f"'{whole}' is reserved: {workspace}.* are the service data sources"
            report.error(message, hint="Take the file out.")
        elif not (is_resource_name(workspace) and is_resource_name(own)) or vendor not in ("", workspace):
            report.error(
                f"'{whole}' cannot be the name of a shared data source", hint=_SHARED_HINT, reason=Reason.NAME_INVALID
            )
        # Its tokens, and what feeds it, are the other workspace's business.
        source = replace(
            read_datasource(report, whole, workspace), tokens=(), shared_with=(), kafka={}, imports={}, postgres={}
        )
        report.warn(
            f"{whole} is shared by another workspace: here it is a table of its own, with the rows sent to it",
            kind=WarningKind.SHARED_TABLE,
        )
        if self._is_new(report, whole, self.datasources):
            self.datasources[whole] = source

    def _is_new(self, report: ParseReport, name: str, *taken: Mapping[str, DataSource | Pipe | Connection]) -> bool:
        for names in taken:
            if name in names:
                report.error(
                    f"The name '{name}' is taken by {names[name].file}",
                    hint="Data sources and pipes share one space of names, whatever folder they are in.",
                    reason=Reason.NAME_TAKEN,
                )
                return False
        return True

    def check(self) -> None:
        """What only the whole project can tell."""
        for source in self.datasources.values():
            self._check_source(source)
        for name, pipe in self.pipes.items():
            report = self.reports[pipe.file]
            self.pipes[name] = replace(pipe, nodes=tuple(self._checked(report, pipe, node) for node in pipe.nodes))
        self._publish()

    def _publish(self) -> None:
        """Pipes without TYPE: Classic's endpoints, or one warning of them all."""
        pipes = callable_pipes(self.pipes.values())
        if not pipes:
            return
        report = self.reports[pipes[0].file]
        names = ", ".join(pipe.name for pipe in pipes)
        if is_classic(self._files, self.pipes.values()):
            self.pipes.update((pipe.name, published(pipe)) for pipe in pipes)
            report.warn(
                f"Published as in Tinybird Classic, without TYPE: {names}",
                None,
                "TYPE endpoint under the node's SQL says it for good.",
                kind=WarningKind.PUBLISHED,
            )
            return
        report.warn(
            f"No endpoint answers for these pipes without TYPE, and no pipe reads them: {names}",
            None,
            "TYPE endpoint under a node's SQL publishes it. So does the folder: mkdir -p endpoints && git mv "
            f"{' '.join(pipe.file for pipe in pipes)} endpoints/",
            kind=WarningKind.NOT_PUBLISHED,
        )

    def _check_source(self, source: DataSource) -> None:
        report = self.reports[source.file]
        quarantine = f"{source.name}_quarantine"
        for other in (self.datasources.get(quarantine), self.pipes.get(quarantine)):
            if other is not None:
                self.reports[other.file].error(
                    f"The name '{quarantine}' is taken: it is where the bad rows of '{source.name}' go",
                    hint="Give it another name.",
                    reason=Reason.NAME_TAKEN,
                )
        for settings, word in (
            (source.kafka, "KAFKA_CONNECTION_NAME"),
            (source.imports, "IMPORT_CONNECTION_NAME"),
            (source.postgres, "PG_CONNECTION_NAME"),
        ):
            self._check_connection(report, settings.get(word, ""), word, 0)
        self._check_registry(report, source)
        self._check_group(report, source)

    def _check_registry(self, report: ParseReport, source: DataSource) -> None:
        connection = self.connections.get(source.kafka.get("KAFKA_CONNECTION_NAME", ""))
        for word in ("KAFKA_VALUE_FORMAT", "KAFKA_KEY_FORMAT"):
            format = source.kafka.get(word, "")
            if connection and format in OF_REGISTRY and not connection.settings.get("KAFKA_SCHEMA_REGISTRY_URL"):
                report.error(
                    f"{word} {format} needs a schema registry, and the connection '{connection.name}' names none",
                    _line_of(report, word, 0),
                    f"KAFKA_SCHEMA_REGISTRY_URL in {connection.file}.",
                )

    def _check_group(self, report: ParseReport, source: DataSource) -> None:
        """A group shares its topic's records out among its readers: two data sources would get a part each."""
        words = ("KAFKA_CONNECTION_NAME", "KAFKA_TOPIC", "KAFKA_GROUP_ID")
        mine = [source.kafka.get(word, "") for word in words]
        if not all(mine) or any(is_secret(value) for value in mine):
            return
        for other in self.datasources.values():
            if other.name < source.name and [other.kafka.get(word, "") for word in words] == mine:
                report.error(
                    f"The data source '{other.name}' reads this topic with the same KAFKA_GROUP_ID: each would get a "
                    "part of the records",
                    _line_of(report, "KAFKA_GROUP_ID", 0),
                    "Give each data source a group of its own.",
                )

    def _checked(self, report: ParseReport, pipe: Pipe, node: Node) -> Node:
        """The node with its target by its own name, where the pipe wrote it with a version."""
        at = report.offset(node.position)
        other = self.datasources.get(node.name) or self.pipes.get(node.name)
        if other is not None and other is not pipe:  # its own pipe's name means the node, inside of the pipe
            what = "data source" if isinstance(other, DataSource) else "pipe"
            report.error(
                f"Node '{node.name}' has the name of a {what}, {other.file}",
                at,
                "Give the node another name.",
                reason=Reason.NAME_TAKEN,
            )
        if node.type is NodeType.MATERIALIZED:
            return replace(node, datasource=self._target(report, node, node.datasource, "DATASOURCE", at))
        if node.type is NodeType.COPY:
            target = self._target(report, node, node.target_datasource, "TARGET_DATASOURCE", at)
            return replace(node, target_datasource=target)
        if node.type is NodeType.SINK:
            self._check_connection(report, node.exports.get("EXPORT_CONNECTION_NAME", ""), "EXPORT_CONNECTION_NAME", at)
        return node

    def _target(self, report: ParseReport, node: Node, target: str, word: str, at: int) -> str:
        known = self._known(target)
        if known is not None:
            if known.vendor:
                report.error(
                    f"'{target}' is shared by another workspace, so nothing can be written to it",
                    _line_of(report, word, at),
                    "Use a data source of this project.",
                )
            return known.name
        if not target:
            return target
        place = _line_of(report, word, at)
        if target in self.pipes:
            report.error(f"'{target}' is a pipe, and {word} needs a data source", place)
        elif node.engine is None:
            hint = f"Add a file {target}.datasource with the columns of this node."
            message = f"Data Source '{target}' does not exist"
            report.error(message, place, hint, reason=Reason.RESOURCE_NOT_FOUND, subject=target)
        elif not is_resource_name(target):
            report.error(
                f"'{target}' cannot be the name of a resource", place, name_problem(target), reason=Reason.NAME_INVALID
            )
        return target  # a deploy makes it, from the columns of the node and its engine

    def _known(self, name: str) -> DataSource | None:
        """The data source of this name. Classic's `events__v3` is events.datasource with VERSION 3, or with none."""
        if name in self.datasources:
            return self.datasources[name]
        stem, version = versioned(name) or ("", 0)
        found = self.datasources.get(stem)
        return found if found is not None and found.version in (None, version) else None

    def _check_connection(self, report: ParseReport, name: str, word: str, at: int) -> None:
        if not name or name in self.connections or is_secret(name):
            return
        place = _line_of(report, word, at)
        message = f"Connection '{name}' does not exist"
        if self.connections:
            hint = f"Add a file {name}.connection."
            report.error(message, place, hint, reason=Reason.RESOURCE_NOT_FOUND, subject=name)
        else:  # a Classic project: its connections lived outside of its files
            report.warn(
                f"{message} in this project",
                place,
                f"Add a file {name}.connection.",
                kind=WarningKind.MISSING_RESOURCE,
                subject=name,
            )


def _line_of(report: ParseReport, word: str, start: int) -> int:
    """Where the directive stands, looked for from the start of its node."""
    found = re.compile(rf"^[ \t]*({word})\b", re.IGNORECASE | re.MULTILINE).search(report.text, start)
    return found.start(1) if found else start


def _name(file: str) -> str:
    return PurePosixPath(file).stem


def _vendor(file: str) -> str:
    """The workspace of `vendor/<workspace>/...`, or nothing."""
    parts = PurePosixPath(file).parts
    return parts[1] if len(parts) > 2 and parts[0] == "vendor" else ""


def _raise(reports: Iterable[ParseReport]) -> None:
    errors = [
        error
        for report in reports
        for error in sorted(report.errors, key=lambda error: (error.file != report.file, error.line, error.column))
    ]
    if errors:  # what is wrong with an included file is told once
        raise ProjectError(list({error.identity: error for error in errors}.values()))

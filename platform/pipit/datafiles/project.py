"""A project's files -> `Project`, or one `ProjectError` with everything that is wrong in all of them.

The checks across files are here: names, targets, connections. A file that could not be read still counts as there,
so that one slip in a data source is not also an error of every pipe that names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from pipit.datafiles.common import is_secret
from pipit.datafiles.connection import read_connection
from pipit.datafiles.datasource import read_datasource
from pipit.datafiles.pipe import read_pipe
from pipit.datafiles.resources import Connection, DataSource, Node, NodeType, Pipe, Project
from pipit.datafiles.source import Report
from pipit.errors import ProjectError
from pipit.sql.identifiers import is_resource_name

KINDS = (".datasource", ".pipe", ".connection")
_NAME_HINT = "A file's name is its resource's: letters, digits and _, not starting with a digit, and no word of SQL."


def parse_datasource(text: str, *, file: str) -> DataSource:
    """One `.datasource` file. Raises ProjectError with all its errors."""
    report = Report(file, text)
    source = read_datasource(report, _name(file), _vendor(file))
    _raise([report])
    return source


def parse_pipe(text: str, *, file: str) -> Pipe:
    """One `.pipe` file. Raises ProjectError with all its errors."""
    report = Report(file, text)
    pipe = read_pipe(report, _name(file))
    _raise([report])
    return pipe


def parse_connection(text: str, *, file: str) -> Connection:
    """One `.connection` file. Raises ProjectError with all its errors."""
    report = Report(file, text)
    connection = read_connection(report, _name(file))
    _raise([report])
    return connection


def parse_project(files: Mapping[str, str]) -> Project:
    """All files of a project, relative path -> text. Files of other kinds are kept, and not looked at."""
    project = _Reading()
    for file in sorted(files):
        if PurePosixPath(file).suffix in KINDS:
            project.add(file, files[file])
    project.check()
    _raise(project.reports.values())
    return Project(
        datasources=project.datasources,
        pipes=project.pipes,
        connections=project.connections,
        vendored=project.vendored,
        warnings=tuple(warning for report in project.reports.values() for warning in report.warnings),
        files=dict(files),
    )


class _Reading:
    """A project while its files are read."""

    def __init__(self) -> None:
        self.reports: dict[str, Report] = {}
        self.datasources: dict[str, DataSource] = {}
        self.pipes: dict[str, Pipe] = {}
        self.connections: dict[str, Connection] = {}
        self.vendored: dict[str, DataSource] = {}

    def add(self, file: str, text: str) -> None:
        report = self.reports[file] = Report(file, text)
        name, kind, vendor = _name(file), PurePosixPath(file).suffix, _vendor(file)
        if vendor:
            self._add_vendored(report, name, kind, vendor)
            return
        if not is_resource_name(name):
            report.error(f"'{name}' cannot be the name of a resource", hint=_NAME_HINT)
        if kind == ".connection":
            connection = read_connection(report, name)
            if self._is_new(report, name, self.connections):
                self.connections[name] = connection
        elif kind == ".datasource":
            source = read_datasource(report, name)
            if self._is_new(report, name, self.datasources, self.pipes):
                self.datasources[name] = source
        else:
            pipe = read_pipe(report, name)
            if self._is_new(report, name, self.datasources, self.pipes):
                self.pipes[name] = pipe

    def _add_vendored(self, report: Report, name: str, kind: str, vendor: str) -> None:
        """A data source that another workspace shares with us: its shape, under `<workspace>.<name>`."""
        if kind != ".datasource":
            report.warn("ignored: only .datasource files are shared, in vendor/<workspace>/")
            return
        source = read_datasource(report, name, vendor)
        report.warn(f"deploys inert: {vendor}.{name} is shared by another workspace, and cannot be read yet")
        if self._is_new(report, f"{vendor}.{name}", self.vendored):
            self.vendored[f"{vendor}.{name}"] = source

    def _is_new(self, report: Report, name: str, *taken: Mapping[str, DataSource | Pipe | Connection]) -> bool:
        for names in taken:
            if name in names:
                report.error(
                    f"The name '{name}' is taken by {names[name].file}",
                    hint="Data sources and pipes share one space of names, whatever folder they are in.",
                )
                return False
        return True

    def check(self) -> None:
        """What only the whole project can tell."""
        for source in self.datasources.values():
            self._check_source(source)
        for pipe in self.pipes.values():
            report = self.reports[pipe.file]
            for node in pipe.nodes:
                self._check_node(report, node)

    def _check_source(self, source: DataSource) -> None:
        report = self.reports[source.file]
        quarantine = f"{source.name}_quarantine"
        for other in (self.datasources.get(quarantine), self.pipes.get(quarantine)):
            if other is not None:
                self.reports[other.file].error(
                    f"The name '{quarantine}' is taken: it is where the bad rows of '{source.name}' go",
                    hint="Give it another name.",
                )
        for settings, word in (
            (source.kafka, "KAFKA_CONNECTION_NAME"),
            (source.imports, "IMPORT_CONNECTION_NAME"),
            (source.postgres, "PG_CONNECTION_NAME"),
        ):
            self._check_connection(report, settings.get(word, ""), word, 0)

    def _check_node(self, report: Report, node: Node) -> None:
        at = report.line_start(node.position.line) + node.position.column - 1
        other = self.datasources.get(node.name) or self.pipes.get(node.name)
        if other is not None:
            what = "data source" if isinstance(other, DataSource) else "pipe"
            report.error(
                f"Node '{node.name}' has the name of a {what}, {other.file}", at, "Give the node another name."
            )
        if node.type is NodeType.MATERIALIZED:
            self._check_target(report, node.datasource, "DATASOURCE", at)
        elif node.type is NodeType.COPY:
            self._check_target(report, node.target_datasource, "TARGET_DATASOURCE", at)
        elif node.type is NodeType.SINK:
            self._check_connection(report, node.exports.get("EXPORT_CONNECTION_NAME", ""), "EXPORT_CONNECTION_NAME", at)

    def _check_target(self, report: Report, target: str, word: str, at: int) -> None:
        if not target or target in self.datasources:
            return
        if target in self.pipes:
            report.error(f"'{target}' is a pipe, and {word} needs a data source", _line_of(report, word, at))
            return
        report.error(
            f"Data Source '{target}' does not exist",
            _line_of(report, word, at),
            f"Add a file {target}.datasource with the columns of this node.",
        )

    def _check_connection(self, report: Report, name: str, word: str, at: int) -> None:
        if not name or name in self.connections or is_secret(name):
            return
        place = _line_of(report, word, at)
        message = f"Connection '{name}' does not exist"
        if self.connections:
            report.error(message, place, f"Add a file {name}.connection.")
        else:  # a Classic project: its connections lived outside of its files
            report.warn(f"{message} in this project", place, f"Add a file {name}.connection.")


def _line_of(report: Report, word: str, start: int) -> int:
    """Where the directive stands, looked for from the start of its node."""
    found = re.compile(rf"^[ \t]*({word})\b", re.IGNORECASE | re.MULTILINE).search(report.text, start)
    return found.start(1) if found else start


def _name(file: str) -> str:
    return PurePosixPath(file).stem


def _vendor(file: str) -> str:
    """The workspace of `vendor/<workspace>/...`, or nothing."""
    parts = PurePosixPath(file).parts
    return parts[1] if len(parts) > 2 and parts[0] == "vendor" else ""


def _raise(reports: Iterable[Report]) -> None:
    errors = [
        error for report in reports for error in sorted(report.errors, key=lambda error: (error.line, error.column))
    ]
    if errors:
        raise ProjectError(errors)

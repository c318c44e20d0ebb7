"""`{{ tb_secret("name"[, "default"]) }}` in `.datasource` and `.connection` files.

Two ways to fill them in, at deploy time only, so that a changed secret takes a deploy:

- `with_secrets(project, secrets)` replaces the placeholders in the parsed values. Nothing is parsed again, so a value
  can hold quotes, `#` or line ends and still be only a value; the texts of the project keep their placeholders.
- `render_secrets(text, secrets, file=...)` replaces them in a file's text. The value is written so that the parser
  reads it back as it is; one of several lines is possible only where it stands alone in its line.

Without secrets, as in `pipit check`, a file parses as it is: the placeholder is the value (`common.is_secret`), and
checks of that value wait. A ROW_POLICY takes no secrets: its `{{ }}` are the policy's own. No error here quotes a
secret's value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from pipit.datafiles.directives import Directive, read_directives
from pipit.datafiles.resources import Connection, DataSource, Project, TableEngine
from pipit.datafiles.source import ParseReport
from pipit.datafiles.vocabulary import ENGINE_WORDS, Kind
from pipit.errors import ProjectError, Reason

_STRING = r"""(?:'([^'\\\n]*)'|"([^"\\\n]*)")"""
_SECRET = re.compile(r"\{\{\s*tb_secret\(\s*" + _STRING + r"\s*(?:,\s*" + _STRING + r"\s*)?\)\s*\}\}")
_OPENING = re.compile(r"\{\{|\{%")
_SECRET_HINT = '{{ tb_secret("name") }}, or {{ tb_secret("name", "default") }}'


def check_expressions(report: ParseReport, directives: Iterable[Directive]) -> None:
    """Notes every `{{ }}` and `{% %}` that is not a secret; in ROW_POLICY, every secret."""
    for directive in directives:
        value = report.text[directive.start : directive.end]
        if directive.name == "ROW_POLICY":
            found = _SECRET.search(value)
            if found:
                report.error(
                    "A ROW_POLICY cannot use secrets",
                    directive.start + found.start(),
                    "Use context.<key>.",
                    reason=Reason.POLICY_INVALID,
                )
            continue
        if directive.name == "DESCRIPTION":
            continue
        i = 0
        while (opening := _OPENING.search(value, i)) is not None:
            secret = _SECRET.match(value, opening.start())
            if secret is None:
                at = directive.start + opening.start()
                report.error("Only tb_secret can be used here", at, _SECRET_HINT)
                break
            i = secret.end()


def secret_names(text: str) -> tuple[str, ...]:
    """The secrets that a text asks for and that have no default, in order, each once."""
    names = ((m[1] or m[2] or "") for m in _SECRET.finditer(text) if m[3] is None and m[4] is None)
    return tuple(dict.fromkeys(names))


def render_secrets(text: str, secrets: Mapping[str, str], *, file: str) -> str:
    """The text with its secrets in place. Raises ProjectError with every secret that is not there."""
    report = ParseReport(file, text)
    kind: Kind = "connection" if file.endswith(".connection") else "datasource"
    scratch = ParseReport(file, text)
    pieces: list[str] = []
    i = 0
    for directive in read_directives(scratch, kind):
        if directive.name in ("ROW_POLICY", "DESCRIPTION"):
            continue
        quote, read = "", directive.start
        for found in _SECRET.finditer(report.text, directive.start, directive.end):
            quote = _open_quote(report.text, read, found.start(), quote)
            read = found.end()
            value = _value(found, secrets)
            if value is None:
                report.error(_missing(found), found.start())
                continue
            written = _written(report, directive, found, value, quote)
            pieces += (report.text[i : found.start()], written)
            i = found.end()
    if report.errors:
        raise ProjectError(report.errors)
    return "".join(pieces) + report.text[i:]


def with_secrets(project: Project, secrets: Mapping[str, str]) -> Project:
    """The project with its secrets in place. Raises ProjectError with every secret that is not there."""
    reports: dict[str, ParseReport] = {}

    def filled(resource: DataSource | Connection, value: str) -> str:
        parts = resource.parts if isinstance(resource, DataSource) else ()
        report = reports.setdefault(resource.file, ParseReport(resource.file, resource.text, parts))

        def one(found: re.Match[str]) -> str:
            secret = _value(found, secrets)
            if secret is None and not report.full:
                at = report.text.find(found[0])
                report.error(_missing(found), at if at >= 0 else None)
            return secret or ""

        return _SECRET.sub(one, value) if "{{" in value else value

    def mapping(resource: DataSource | Connection, given: Mapping[str, str]) -> dict[str, str]:
        return {name: filled(resource, value) for name, value in given.items()}

    def engine(source: DataSource) -> TableEngine:
        def expression(value: str) -> str:
            return filled(source, value)

        return replace(
            source.engine,
            sorting_key=expression(source.engine.sorting_key),
            partition_key=expression(source.engine.partition_key),
            primary_key=expression(source.engine.primary_key),
            sampling_key=expression(source.engine.sampling_key),
            ttl=expression(source.engine.ttl),
        )

    datasources = {
        name: replace(
            source,
            engine=engine(source),
            kafka=mapping(source, source.kafka),
            imports=mapping(source, source.imports),
            postgres=mapping(source, source.postgres),
        )
        for name, source in project.datasources.items()
    }
    connections = {
        name: replace(connection, settings=mapping(connection, connection.settings))
        for name, connection in project.connections.items()
    }
    errors = [error for report in reports.values() for error in report.errors]
    if errors:
        raise ProjectError(errors)
    return replace(project, datasources=datasources, connections=connections)


def _value(found: re.Match[str], secrets: Mapping[str, str]) -> str | None:
    name = found[1] if found[1] is not None else found[2]
    default = found[3] if found[3] is not None else found[4]
    return secrets.get(name, default)


def _missing(found: re.Match[str]) -> str:
    name = found[1] if found[1] is not None else found[2]
    return (
        f"Cannot access secret '{name}'. Check the secret exists in the Workspace and the token has the required scope."
    )


def _written(report: ParseReport, directive: Directive, found: re.Match[str], value: str, quote: str) -> str:
    """The value as the parser reads it back, where this placeholder stands: in a `quote`, or in none."""
    lines = value.replace("\r\n", "\n").rstrip("\n").split("\n")
    if directive.block:
        start = max(directive.start, report.text.rfind("\n", directive.start, found.start()) + 1)
        row = report.text[start : found.start()]
        if len(lines) > 1 and row.strip():
            report.error("A secret of several lines must stand alone in its line", found.start())
            return ""
        # Indented, no line of a secret can end the block.
        return ("    " if not row else "") + ("\n" + (row or "    ")).join(lines)
    if len(lines) > 1:
        hint = f"Write {directive.name} > and the secret in the line below it."
        report.error("A secret of several lines needs a block", found.start(), hint)
        return ""
    if directive.name in ENGINE_WORDS:
        return lines[0]  # part of an expression, whose quotes are SQL's
    escaped = lines[0].replace("\\", "\\\\").replace('"', '\\"')
    if quote == "'":
        if "'" in value:
            report.error("A secret with an apostrophe cannot stand in single quotes", found.start())
        return lines[0]
    return escaped if quote else f'"{escaped}"'


def _open_quote(text: str, start: int, end: int, quote: str) -> str:
    """The quote that is open at `end`, if one is, where `quote` was at `start`."""
    i = start
    while i < end:
        char = text[i]
        if quote == '"' and char == "\\":
            i += 1
        elif quote and char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        i += 1
    return quote

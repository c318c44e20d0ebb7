"""The static audit of a project: which tables each endpoint reads, under which filters, in every branch.

The project is parsed, its tables made in a scratch database of a throw-away engine, and every text that a request can
make of an endpoint (`branches.py`) is examined on the engine's own tree, as a read would be. What Pipit could not
deploy is left out and said so: the rest is examined all the same, so an unchanged project of the dialect is audited.
Holds no rows and runs no endpoint; `audit.prove` does that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from msgspec import structs

from pipit.audit import findings as say
from pipit.audit import tenancy
from pipit.audit.branches import Inputs, Rendering, Renderings, inputs_of, render_all, traced
from pipit.audit.branches import others as other_values
from pipit.audit.branches import render as render_one
from pipit.audit.certificate import OPEN, POLICY, Certificate, certify
from pipit.audit.fixed import Fixed, FixedExaminer
from pipit.audit.report import AuditReport, Decider, EndpointReport, Finding, Severity, TableRead, Verdict
from pipit.catalog.build import build_snapshot
from pipit.catalog.names import first_names
from pipit.catalog.snapshot import CompiledPipe, Snapshot, Workspace
from pipit.catalog.state import WorkspaceSettings
from pipit.datafiles import parse_project
from pipit.datafiles.resources import Project
from pipit.deploy.append_needs import needs_of
from pipit.deploy.check import stand_ins
from pipit.deploy.targets import with_targets, without_target
from pipit.deploy.validate import VALUE_ERRORS, prepare
from pipit.engine.client import Engine
from pipit.errors import BadRequest, DatafileError, PipitError, ProjectError, SqlError, Unavailable
from pipit.query.compose import Composer
from pipit.query.examine import Examined, Examiner
from pipit.tables.scratch import scratch_database

_AT_ONCE = 4
_UNLISTED = "pipit_not_listed"


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """`fixed`: the parameters that tokens fix, in a project that says so nowhere."""

    fixed: tuple[str, ...] = ()
    require_policies: bool = False
    unfixed_appends: bool = False  # as in a workspace with this setting


async def examine(engine: Engine, files: Mapping[str, str], options: AuditOptions) -> AuditReport:
    """The audit. Raises Unavailable; ProjectError only where nothing at all can be read."""
    found: list[Finding] = []
    project = _parsed(files, found, strict=_is_strict(files))
    async with scratch_database(engine) as database:
        settings = WorkspaceSettings(
            require_policies=options.require_policies, unfixed_appends=options.unfixed_appends
        )
        workspace = Workspace("audit", "audit", database, "", settings=settings)
        project = await _with_targets(engine, workspace, project, found, strict=_is_strict(files))
        snapshot = _built(workspace, project, found, strict=_is_strict(files))
        tables, policies, _ = await prepare(engine, snapshot)
        found += [say.of_project(error, strict=_is_strict(files)) for error in tables]
        found += [replace(say.of_project(error, strict=True), code="policy_fails") for error in policies]
        _check_names(snapshot, options.fixed)
        audit = _Audit(engine, traced(snapshot), options)
        endpoints = await audit.run()
        needs = await needs_of(engine, snapshot)
    found += audit.found
    found += say.of_tables(snapshot)
    found += say.of_fillers(snapshot)
    found += say.of_appends(snapshot, needs)
    found += say.of_definers(snapshot)
    if options.require_policies:
        found += say.of_required(snapshot)
    return AuditReport(
        tuple(endpoints),
        _in_order(found),
        _certificate(snapshot, endpoints, options),
        tenancy.has_policies(snapshot),
        snapshot.project,
        options.fixed,
    )


def _check_names(snapshot: Snapshot, fixed: Iterable[str]) -> None:
    known = {parameter.name for pipe in snapshot.pipes.values() for parameter in pipe.parameters}
    for name in fixed:
        if name not in known:
            raise BadRequest(
                f"No pipe takes the parameter '{name}'", hint="Name one as it stands in the pipes: --fixed customer_id."
            )


def _is_strict(files: Mapping[str, str]) -> bool:
    """Whether the project speaks of tenants at all, in words that the dialect does not have."""
    return any("ROW_POLICY" in text or "FIXED_PARAMS" in text for text in files.values())


def _parsed(files: Mapping[str, str], found: list[Finding], *, strict: bool) -> Project:
    """What can be parsed; each file that cannot is a finding."""
    left = dict(files)
    for _ in range(len(files) + 1):
        try:
            return parse_project(left)
        except ProjectError as error:
            found += [say.of_project(one, strict=strict) for one in error.errors]
            bad = {one.file for one in error.errors} & left.keys()
            if not bad:
                raise
            left = {name: text for name, text in left.items() if name not in bad}
    return parse_project({})


async def _with_targets(
    engine: Engine, workspace: Workspace, project: Project, found: list[Finding], *, strict: bool
) -> Project:
    """With the targets that Classic has in no file. A pipe whose target cannot be made is left out."""
    secrets = stand_ins(project)
    try:
        project, errors = await with_targets(engine, workspace, project, parse_project, secrets=secrets)
    except ProjectError as error:
        errors = tuple(error.errors)
    found += [say.of_project(error, strict=strict) for error in errors]
    left_out = {pipe.name for pipe, _ in without_target(project)}
    return replace(project, pipes={name: pipe for name, pipe in project.pipes.items() if name not in left_out})


def _built(workspace: Workspace, project: Project, found: list[Finding], *, strict: bool) -> Snapshot:
    """The snapshot of what compiles. A policy that does not leaves its table; a pipe that does not is left out."""
    secrets = stand_ins(project)
    for _ in range(len(project.datasources) + len(project.pipes) + 1):
        names = first_names(project.datasources)
        try:
            return build_snapshot(workspace, project, names, secrets=secrets)
        except ProjectError as error:
            for one in error.errors:
                finding = say.of_project(one, strict=strict)
                # All that compiling a data source looks at is its policy.
                of_policy = finding.code == "not_deployable" and one.file.endswith(".datasource")
                found.append(replace(finding, code="policy_fails") if of_policy else finding)
            project = _without(project, error.errors)
    raise ProjectError([DatafileError("Nothing of the project can be examined", file="the project")])


def _without(project: Project, errors: Iterable[DatafileError]) -> Project:
    bad = {error.file for error in errors}
    datasources = {n: replace(d, row_policy=None) if d.files & bad else d for n, d in project.datasources.items()}
    pipes = {n: p for n, p in project.pipes.items() if not p.files & bad}
    return replace(project, datasources=datasources, pipes=pipes)


def _certificate(snapshot: Snapshot, endpoints: Iterable[EndpointReport], options: AuditOptions) -> Certificate:
    certificate = certify(snapshot)
    confined = {
        one.name: {read.table: read.confined_by for read in one.tables if read.confined_by}
        for one in endpoints
        if one.verdict is Verdict.CONFINED
    }
    return structs.replace(
        certificate,
        fixed=tuple(sorted(options.fixed)),
        endpoints={
            name: structs.replace(filters, confined=confined.get(name, {}))
            for name, filters in certificate.endpoints.items()
        },
    )


def _in_order(found: Iterable[Finding]) -> tuple[Finding, ...]:
    different = dict.fromkeys(found)
    return tuple(sorted(different, key=lambda f: (f.severity is not Severity.ERROR, f.file, f.line, f.column, f.code)))


@dataclass(slots=True)
class _Endpoint:
    pipe: CompiledPipe
    inputs: Inputs
    renderings: Renderings
    reads: set[str] = field(default_factory=set)  # physical names
    telling: dict[str, None] = field(default_factory=dict)


class _Audit:
    def __init__(self, engine: Engine, snapshot: Snapshot, options: AuditOptions) -> None:
        self.engine = engine
        self.snapshot = snapshot
        self.options = options
        self.composer = Composer()
        self.examiner = Examiner(engine)
        self.slots = asyncio.Semaphore(_AT_ONCE)
        self.certificate = certify(snapshot)
        self.found: list[Finding] = []

    async def run(self) -> list[EndpointReport]:
        published = [pipe for _, pipe in sorted(self.snapshot.pipes.items()) if pipe.endpoint is not None]
        seen = [await self.look_at(pipe) for pipe in published]
        fixed = FixedExaminer(self.engine, self.snapshot, self.composer, self.slots, self.options.fixed)
        results = await fixed.examine([(one.pipe, one.inputs, one.renderings.missed) for one in seen], self.statement)
        self.found += fixed.found
        reports: list[EndpointReport] = []
        for one in seen:
            self.judge(one, results.get(one.pipe.name))
            reports.append(self.report(one, results.get(one.pipe.name)))
        return reports

    async def look_at(self, pipe: CompiledPipe) -> _Endpoint:
        inputs = inputs_of(self.snapshot, pipe)
        one = _Endpoint(pipe, inputs, render_all(self.snapshot, pipe, inputs, self.composer))
        examined = await asyncio.gather(*(self.statement(pipe, inputs, text) for text in one.renderings.texts))
        for result in examined:
            if isinstance(result, tuple):
                seen = result[0]
                one.reads |= seen.tables & self.snapshot.physical_tables.keys()
                if seen.tells_of_others:
                    one.telling[seen.tells_of_others] = None
        refused = [refusal.error for refusal in one.renderings.refusals]
        refused += [result for result in examined if isinstance(result, PipitError)]
        strict = self.is_strict(one) or tenancy.has_policies(self.snapshot)
        for error in {error.identity: error for error in refused}.values():
            # What the engine itself does not take, whatever the values, runs for nobody: a mistake, and no hole.
            if isinstance(error, SqlError) and error.engine_code:
                if error.engine_code in VALUE_ERRORS:
                    self.add(
                        "not_examined",
                        Severity.WARNING,
                        pipe,
                        f"The engine took no value that was tried: {error.message}",
                        "Give the parameters defaults or examples that work (`example='...'`).",
                    )
                elif not any(isinstance(result, tuple) for result in examined):
                    self.found.append(say.of_refusal(pipe, error, strict=False))
                continue
            self.found.append(say.of_refusal(pipe, error, strict=strict))
        return one

    async def statement(
        self, pipe: CompiledPipe, inputs: Inputs, text: Rendering
    ) -> tuple[Examined, Rendering] | PipitError:
        """What the engine says of one text, and with which values it takes it; or why it is refused."""
        async with self.slots:
            tried, error = text, None
            for values in (None, *other_values(inputs, text.values)):
                if values is not None:
                    again = render_one(self.snapshot, pipe, values, self.composer)
                    if not isinstance(again, Rendering) or again.composed.sql != text.composed.sql:
                        continue
                    tried = again
                try:
                    return await self.examiner.examine(self.snapshot, tried.composed, tried.binder), tried
                except Unavailable:
                    raise
                except SqlError as caught:
                    error = error or caught
                    if not (tried.params and caught.engine_code in VALUE_ERRORS):
                        return caught
                except PipitError as caught:
                    return caught
            assert error is not None
            return error

    def judge(self, one: _Endpoint, fixed: Fixed | None) -> None:
        strict = self.is_strict(one) or bool(fixed and fixed.tables)
        if self.policed(one):
            for what in one.telling:
                self.add(
                    "tells_of_others",
                    Severity.ERROR,
                    one.pipe,
                    f"{what} cannot be used on a table with a row policy: tenants' reads of '{one.pipe.name}' are "
                    "refused",
                    "Take it out of the pipe.",
                )
            for read in self.tables(one, None):
                if read.filter == OPEN and not read.has_tenant_rows:
                    self.add(
                        "open_table",
                        Severity.WARNING,
                        one.pipe,
                        f"'{one.pipe.name}' reads tables with a ROW_POLICY and '{read.table}', of which every tenant "
                        "sees all rows",
                        f"Give '{read.table}' a ROW_POLICY, or say so: `ROW_POLICY none REASON '...'`.",
                    )
        for physical in sorted(one.reads):
            target = self.snapshot.physical_tables[physical]
            if target.quarantine:
                self.add(
                    "quarantine",
                    Severity.ERROR if target.table.policy else Severity.WARNING,
                    one.pipe,
                    f"'{one.pipe.name}' reads the quarantine of '{target.table.name}': rows that were not parsed "
                    "cannot be filtered",
                    "Publish no quarantine: read it with the workspace's own token.",
                )
        self.identifiers(one, strict=strict)
        for branch in one.renderings.missed:
            place = say.of_branch(one.inputs.nodes, branch)
            self.found.append(
                Finding(
                    "unreached_branch",
                    Severity.WARNING,
                    place.file,
                    place.line,
                    place.column,
                    f"No try could reach the branch {place.branch}: what it reads was not examined",
                    "Take it out if nothing reaches it, or say the values: `enum=[...]`, `example=...`.",
                    one.pipe.name,
                )
            )

    def identifiers(self, one: _Endpoint, *, strict: bool) -> None:
        """Names that a request may choose freely (attack C07), tried with one that no list can hold."""
        for name, parameter in one.inputs.parameters.items():
            if not parameter.identifier:
                continue
            uses = list(say.identifier_uses(one.inputs.nodes, name))
            tables = [use for use in uses if use[0].lower() in ("table", "symbol")]
            if parameter.enum and not tables:
                continue  # of the table's own columns, those that the author names
            if not self.is_open(one, name):
                continue
            if not uses:
                continue
            function, place = (tables or uses)[0]
            self.found.append(
                say.endpoint_finding(
                    "open_identifier",
                    Severity.ERROR if strict else Severity.WARNING,
                    place,
                    f"A request chooses a name in the SQL: {function}({name}) takes whatever '{name}' says",
                    f"Say which ones: {{% if {name} in ['a', 'b'] %}} ... {{% else %}} {{{{error('...')}}}} {{% end %}}"
                    + ("" if tables else ", or enum=['a', 'b']."),
                    one.pipe,
                )
            )

    def is_open(self, one: _Endpoint, name: str) -> bool:
        bases = [dict(text.values) for text in one.renderings.texts[:2]] or [{}]
        for base in bases:
            tried = render_one(self.snapshot, one.pipe, {**base, name: _UNLISTED}, self.composer)
            if isinstance(tried, Rendering) and _UNLISTED in tried.composed.sql:
                return True
            if not isinstance(tried, Rendering | frozenset) and _UNLISTED in tried.error.names:
                return True
        return False

    def is_strict(self, one: _Endpoint) -> bool:
        return bool(one.pipe.fixed_params) or self.policed(one)

    def policed(self, one: _Endpoint) -> bool:
        """Whether it reads a table with a policy; where a text was refused, as far as its names tell."""
        reads = one.reads.union(*(text.composed.tables for text in one.renderings.texts))
        known = self.snapshot.physical_tables
        return any(known[physical].table.policy is not None for physical in reads if physical in known)

    def tables(self, one: _Endpoint, fixed: Fixed | None) -> tuple[TableRead, ...]:
        found: list[TableRead] = []
        for physical in sorted(one.reads):
            target = self.snapshot.physical_tables[physical]
            table = target.table
            filters = self.certificate.tables.get(table.name)
            found.append(
                TableRead(
                    f"{table.name}_quarantine" if target.quarantine else table.name,
                    filters.filter if filters else OPEN,
                    filters.keys if filters and filters.filter == POLICY else (),
                    tuple(filters.optional) if filters else (),
                    filters.reason if filters else "",
                    tuple(sorted(table.sources)),
                    fixed is not None and physical in fixed.tables,
                    fixed.confined.get(physical, ()) if fixed else (),
                    target.quarantine,
                )
            )
        return tuple(found)

    def report(self, one: _Endpoint, fixed: Fixed | None) -> EndpointReport:
        inputs = one.inputs
        deciders = [
            Decider(name, name in inputs.comparing, name in inputs.choosing)
            for name in inputs.parameters
            if name in inputs.comparing or name in inputs.choosing
        ]
        return EndpointReport(
            one.pipe.name,
            one.pipe.pipe.file,
            self.tables(one, fixed),
            tuple(deciders),
            fixed.names if fixed else (),
            fixed.verdict if fixed else None,
            len(one.renderings.texts),
            one.renderings.complete,
            tuple(say.of_branch(inputs.nodes, branch) for branch in one.renderings.missed),
        )

    def add(self, code: str, severity: Severity, pipe: CompiledPipe, message: str, hint: str) -> None:
        self.found.append(say.endpoint_finding(code, severity, None, message, hint, pipe))


__all__: Sequence[str] = ("AuditOptions", "examine")

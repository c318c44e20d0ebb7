"""Two states of a project's files against each other: what deploying the second over the first would do.

Needs an engine, and no server. Nobody knows the rows then: every table is taken to have some, so that nothing is
planned which rows could forbid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from msgspec import structs

from pipit.catalog.build import build_snapshot
from pipit.catalog.names import first_names, mapped
from pipit.catalog.snapshot import Snapshot, Workspace
from pipit.catalog.state import now
from pipit.datafiles import parse_project
from pipit.datafiles.resources import Project
from pipit.deploy.check import stand_ins
from pipit.deploy.compare import Allowed
from pipit.deploy.compared import compared
from pipit.deploy.plan import DeployRefused, Plan, refusals_of
from pipit.deploy.planner import Change, make_plan, unchanged
from pipit.deploy.targets import with_targets
from pipit.deploy.validate import validate
from pipit.engine.client import Engine
from pipit.errors import ProjectError
from pipit.tables.sizes import Size

_NOBODY = Workspace("plan", "plan", "pipit_plan", "")
_SOME = Size(rows=1)


async def plan_between(engine: Engine, base: Mapping[str, str], files: Mapping[str, str], allowed: Allowed) -> Plan:
    """The plan, with its refusals. Raises DeployRefused where one of both cannot be built, and Unavailable."""
    try:
        live = await _deployed(engine, base)
        project = await _project(engine, files)
        secrets = stand_ins(project)
        compiled = build_snapshot(_NOBODY, project, first_names(project.datasources), secrets=secrets)
    except ProjectError as error:
        raise DeployRefused(refusals_of(error.errors)) from None
    comparison = await compared(engine, live, project, allowed=allowed)
    if not comparison:
        return unchanged(live, project.warnings)
    findings = await validate(engine, _NOBODY, project, secrets=secrets)
    change = Change(live, compiled, comparison, findings.matches, 2, now(), (), findings.errors, findings.warnings)
    return make_plan(change, {table.physical: _SOME for table in live.tables.values()})


async def _deployed(engine: Engine, files: Mapping[str, str]) -> Snapshot:
    """As if it were live, in a database that is not there."""
    project = await _project(engine, files)
    secrets = stand_ins(project)
    findings = await validate(engine, _NOBODY, project, secrets=secrets)
    if findings.errors:
        raise ProjectError([*findings.errors])
    views = mapped("m", findings.matches, {}, set())
    selects = {key: match.text for key, match in findings.matches.items()}
    names = structs.replace(first_names(project.datasources), views=views, selects=selects)
    live = build_snapshot(_NOBODY, project, names, deployment=1, secrets=secrets)
    sources = {table.physical: sorted(table.sources) for table in live.tables.values()}
    return replace(live, names=structs.replace(names, sources=sources))


async def _project(engine: Engine, files: Mapping[str, str]) -> Project:
    project = parse_project(files)
    project, errors = await with_targets(engine, _NOBODY, project, parse_project, secrets=stand_ins(project))
    if errors:
        raise ProjectError(errors)
    return project

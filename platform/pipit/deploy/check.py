"""`pipit check`: all that is wrong with a project's files, at once, whatever else is wrong.

A file that cannot be read must not hide what is wrong in the others. So what can be read is tried without it, and what
is then said of names that only the missing files would have given is left out: it is not the reader's mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from pipit.catalog.build import compiled
from pipit.catalog.snapshot import Workspace
from pipit.datafiles import parse_project
from pipit.datafiles.resources import Project, WarningKind
from pipit.datafiles.resources import Warning as ProjectWarning
from pipit.deploy.targets import with_targets
from pipit.deploy.validate import validate
from pipit.engine.client import Engine
from pipit.errors import DatafileError, ProjectError, Reason, TemplateError

# Values of secrets are not needed to see whether a project is right. This reads as a number and as a text.
_SECRET_STAND_IN = "1"
_MOST_ROUNDS = 8  # each leaves out the files that the last one found wrong


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found, in the order of the files and of the places in them; how much there is of what."""

    errors: tuple[DatafileError, ...]
    warnings: tuple[ProjectWarning, ...]
    datasources: int = 0
    pipes: int = 0
    endpoints: int = 0


@dataclass(slots=True)
class _Found:
    errors: list[DatafileError] = field(default_factory=list)
    warnings: tuple[ProjectWarning, ...] = ()
    missing: set[str] = field(default_factory=set)  # resources whose files are wrong

    def add(self, errors: tuple[DatafileError, ...]) -> None:
        self.errors += [error for error in errors if not self.follows(error)]

    def follows(self, found: DatafileError | ProjectWarning) -> bool:
        """Whether it says that something is not there which is missing only because its file is wrong."""
        if isinstance(found, ProjectWarning):
            of_missing = found.kind is WarningKind.MISSING_RESOURCE
        else:
            of_missing = found.reason is Reason.RESOURCE_NOT_FOUND
        return of_missing and found.subject in self.missing

    def without(self, files: dict[str, str], errors: tuple[DatafileError, ...]) -> dict[str, str]:
        """The files that are not wrong."""
        self.add(errors)
        wrong = {error.file for error in errors}
        self.missing |= {PurePosixPath(file).stem for file in wrong}
        return {file: text for file, text in files.items() if file not in wrong}


async def check_files(engine: Engine, files: Mapping[str, str]) -> Checked:
    """Raises only what is no fault of the project: Unavailable."""
    found = _Found()
    kept = dict(files)
    project = Project()
    for _ in range(_MOST_ROUNDS):
        try:
            project = parse_project(kept)
            secrets = stand_ins(project)
            project, errors = await with_targets(engine, _NOBODY, project, parse_project, secrets=secrets)
            if errors:
                raise ProjectError(errors)
            findings = await validate(engine, _NOBODY, project, secrets=secrets)
        except ProjectError as error:
            kept = found.without(kept, error.errors)
            continue
        found.add(findings.errors)
        found.warnings = tuple(w for w in project.warnings + findings.warnings if not found.follows(w))
        break
    endpoints = sum(pipe.endpoint is not None for pipe in project.pipes.values())
    return Checked(
        tuple(sorted(found.errors, key=_place)),
        tuple(sorted(found.warnings, key=_place)),
        len(project.datasources),
        len(project.pipes),
        endpoints,
    )


_NOBODY = Workspace("check", "check", "pipit_check", "")


def _place(found: DatafileError | ProjectWarning) -> tuple[str, int, int]:
    return found.file, found.line, found.column


def stand_ins(project: Project) -> dict[str, str]:
    """A value for each secret that the pipes need. A template that does not compile is the validation's to report."""
    names: set[str] = set()
    for pipe in project.pipes.values():
        for node in pipe.nodes:
            with suppress(TemplateError):
                names.update(compiled(node.sql, f"{pipe.name}.{node.name}").secrets)
    return dict.fromkeys(names, _SECRET_STAND_IN)

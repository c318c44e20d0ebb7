"""Policy regressions: whether a project confines less than what is live. It then needs an explicit flag to deploy.

Compares the certificates of both (`certificate.py`), which costs no query. This is the one rule about weakening
(attack J04): whoever deploys for a person or a client gives it to `Deployer.deploy`, which asks it of what is live
then.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipit.audit.certificate import Weakening, certify, certify_project, weakenings
from pipit.catalog.snapshot import Snapshot
from pipit.datafiles.resources import DataSource, Pipe, Position, Project
from pipit.datafiles.resources import Warning as ProjectWarning
from pipit.errors import DatafileError


@dataclass(frozen=True, slots=True)
class LocatedWeakening:
    """A weakening with the place in the project to look at."""

    weakening: Weakening
    file: str
    line: int
    column: int

    def warning(self) -> ProjectWarning:
        return ProjectWarning(self.file, self.weakening.sentence, self.line, self.column, self.weakening.hint)

    def error(self) -> DatafileError:
        hint = f"{self.weakening.hint} Or deploy with --allow-weaker."
        return DatafileError(self.weakening.sentence, file=self.file, line=self.line, column=self.column, hint=hint)


def weaker_than_live(live: Snapshot, project: Project) -> tuple[LocatedWeakening, ...]:
    """What the project confines less than what is live. Raises ProjectError on a project that is no good anyway."""
    if not live.deployment:
        return ()
    found = weakenings(certify(live), certify_project(live, project))
    return tuple(locate(project, weakening) for weakening in found)


def policy_regressions(live: Snapshot, project: Project) -> list[DatafileError]:
    """Every weakening as a sentence with its place. Raises ProjectError on a project that is no good anyway."""
    return [one.error() for one in weaker_than_live(live, project)]


def locate(project: Project, weakening: Weakening) -> LocatedWeakening:
    """Where the project says what is weaker now."""
    resource: DataSource | Pipe | None = project.datasources.get(weakening.resource)
    resource = resource or project.pipes.get(weakening.resource)
    if resource is None:
        return LocatedWeakening(weakening, "the project", 0, 0)
    policy = resource.row_policy if isinstance(resource, DataSource) else None
    at = policy.position if policy else Position(1, 1)
    return LocatedWeakening(weakening, at.file or resource.file, at.line, at.column)

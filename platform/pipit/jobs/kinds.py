"""The kinds of jobs. A new kind (a sink, a load, a delete) is a class with the members of `JobKind`.

`server/` passes the kinds to `Jobs`, which knows none of them. A kind reads through `query.read`, as every reader does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipit.access.context import SecurityContext, TokenKind
from pipit.catalog.snapshot import Snapshot
from pipit.jobs.job import Job
from pipit.query.queries import Query, Read, ReadOrigin
from pipit.query.read import Written


@dataclass(frozen=True, slots=True)
class JobOutcome(Written):
    """`result`: what the job's object shows besides, by the names of the API."""

    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Work:
    """What a job does. `repeatable`: if it is stopped anywhere and run again, the result is that of one run."""

    run: Callable[[], Awaitable[Written]]
    repeatable: bool = False


class JobKind(Protocol):
    @property
    def name(self) -> str:
        """As the API, the state and the logs have it."""
        ...

    @property
    def noun(self) -> str:
        """For messages."""
        ...

    @property
    def lane(self) -> str:
        """Jobs of one lane share its places: those of another need not wait for them."""
        ...

    @property
    def alone(self) -> bool:
        """Whether one of a pipe is refused while another of it is under way."""
        ...

    async def prepare(self, snapshot: Snapshot, job: Job) -> Work:
        """Checks the job and returns its work. Raises what is wrong with it before anything is done.

        It is called when the job is requested, and again after a restart for a job that waited.
        """
        ...

    async def clear(self, job: Job) -> None:
        """The job has ended for good, however it did."""
        ...


def read_for(snapshot: Snapshot, job: Job, query: Query) -> Read:
    """A job reads as the workspace itself, under the name of the token that requested it.

    No row policy applies to that: what tenants may read of the target is decided by the target's own policy.
    """
    workspace = snapshot.workspace
    security = SecurityContext(workspace.id, TokenKind.ADMIN, job.asked_by, environment=workspace.environment)
    return Read(snapshot, security, query, request_id=job.id, origin=ReadOrigin(method=job.kind))

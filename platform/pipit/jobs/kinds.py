"""What a job does, by its kind. A new kind (a sink, a load, a delete) is a class with these members.

`server/` hands the kinds to `Jobs`, which knows none of them. A kind reads through `query.read` as all readers do.
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
    """What a job does. `repeatable`: cut off anywhere and run again, it leaves what one run leaves."""

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
        """What this job is to do, from what stands in it. Raises what is wrong with it, before anything is done.

        Called when it is asked for, and again for one that waited when the server stopped.
        """
        ...

    async def clear(self, job: Job) -> None:
        """The job has ended for good, however it did."""
        ...


def read_for(snapshot: Snapshot, job: Job, query: Query) -> Read:
    """What a job reads, it reads as the workspace itself, in the name of the token that asked for it.

    Row policies are for tenants: what one may read of the target is the target's own policy.
    """
    workspace = snapshot.workspace
    security = SecurityContext(workspace.id, TokenKind.ADMIN, job.asked_by, environment=workspace.environment)
    return Read(snapshot, security, query, request_id=job.id, origin=ReadOrigin(method=job.kind))

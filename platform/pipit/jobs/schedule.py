"""When a schedule is due: five cron fields, in UTC, by the minute (`datafiles/schedules.py` has checked the text)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError

from pipit.catalog.snapshot import CompiledNode, CompiledPipe, Snapshot
from pipit.jobs.job import SINK
from pipit.query.limits import COPY

_FORM = "%Y-%m-%d %H:%M:%S"


def copies(snapshot: Snapshot) -> Iterator[tuple[CompiledPipe, CompiledNode]]:
    """The copy pipes, each with its copy node."""
    for pipe in snapshot.pipes.values():
        if node := pipe.copy_node:
            yield pipe, node


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A pipe that runs on a schedule, as a job of this kind."""

    pipe: CompiledPipe
    node: CompiledNode
    kind: str
    cron: str

    @property
    def target(self) -> str:
        return self.node.node.target_datasource


def scheduled(snapshot: Snapshot) -> Iterator[Scheduled]:
    """The copies and sinks. An environment's sinks would write the same files as the workspace's: they do not run."""
    for pipe, node in copies(snapshot):
        yield Scheduled(pipe, node, COPY.name, node.node.copy_schedule)
    for pipe in () if snapshot.workspace.environment else snapshot.pipes.values():
        if sink := pipe.sink_node:
            yield Scheduled(pipe, sink, SINK, sink.node.exports.get("EXPORT_SCHEDULE", "@on-demand"))


def minute(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(second=0, microsecond=0)


def text_of(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime(_FORM)


def last_due(expression: str, after: datetime, until: datetime) -> datetime | None:
    """The last minute of a schedule in (after, until]; None where there is none, or nothing is scheduled."""
    if expression.startswith("@"):
        return None
    try:
        found = next(CronSim(expression, until + timedelta(minutes=1), reverse=True))
    except (CronSimError, StopIteration):
        return None
    return found if after < found <= until else None

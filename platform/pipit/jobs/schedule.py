"""When a schedule is due: five cron fields, in UTC, by the minute (`datafiles/schedules.py` has checked the text)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError

from pipit.catalog.snapshot import CompiledNode, CompiledPipe, Snapshot

_FORM = "%Y-%m-%d %H:%M:%S"


def copies(snapshot: Snapshot) -> Iterator[tuple[CompiledPipe, CompiledNode]]:
    """The copy pipes, each with its copy node."""
    for pipe in snapshot.pipes.values():
        if node := pipe.copy_node:
            yield pipe, node


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

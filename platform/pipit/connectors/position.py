"""Where a partition stands, as its group's commits say: the offset, and in the commit's metadata which cut is pending.

A cut is fixed before it is inserted: its range is committed beside the unchanged offset. Whoever owns the partition
after a crash reads exactly that range again and inserts it under the same token, so its rows are stored once. Only then
the offset moves.

The epoch is made when a partition's position begins: for a group without commits, for a topic that was made anew, and
where somebody else moved the offset. The same range in another epoch has another token: it is to be stored, too.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

_FORM = re.compile(r"pipit1 ([0-9a-f]*) ([0-9a-f]{8})(?: pending:([0-9]+)-([0-9]+))?")


@dataclass(frozen=True, slots=True)
class Range:
    """Of offsets, both ends in it. Records may be fewer: transactions and compaction leave gaps."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class Committed:
    """`next` is the first offset that is not stored. `topic`: the topic's id in the cluster, '' where it has none."""

    next: int
    topic: str
    epoch: str
    pending: Range | None = None

    @property
    def metadata(self) -> str:
        pending = f" pending:{self.pending}" if self.pending else ""
        return f"pipit1 {self.topic} {self.epoch}{pending}"


def committed(offset: int, metadata: str | None, topic: str) -> Committed:
    """A commit as it was found; a new epoch where it is not one of ours, or is of another topic of this name."""
    found = _FORM.fullmatch(metadata or "")
    if found is None or found[1] != topic:
        return Committed(offset, topic, new_epoch())
    pending = Range(int(found[3]), int(found[4])) if found[3] else None
    if pending is not None and (pending.first != offset or pending.last < pending.first):
        pending = None
    return Committed(offset, topic, found[2], pending)


def is_of_another_topic(metadata: str | None, topic: str) -> bool:
    found = _FORM.fullmatch(metadata or "")
    return found is not None and found[1] != topic


def new_epoch() -> str:
    return secrets.token_hex(4)


def identity(cluster: str, topic: str, partition: int, range: Range, epoch: str) -> str:
    """Of a cut, for ever: the deduplication token of its rows, and the name of its file."""
    return f"{_safe(cluster)}.{topic or 'topic'}.{partition}.{range}.{epoch}"


def _safe(cluster: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", cluster) or "cluster"

"""How the reading of a topic goes, as its reader last saw it: for the API, commands and `tinybird.kafka_ops_log`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Done:
    """Of a partition, since it was last asked."""

    rows: int = 0
    bytes: int = 0
    bad: int = 0
    seconds_to_encode: float = 0.0
    seconds_to_store: float = 0.0


@dataclass(slots=True)
class Partition:
    """`position`: the first offset that is not stored; `end`: the first that the topic does not have yet."""

    position: int = 0
    end: int = 0
    done: Done = field(default_factory=Done)

    @property
    def lag(self) -> int:
        return max(0, self.end - self.position)

    def take(self) -> Done | None:
        """None: nothing happened."""
        done, self.done = self.done, Done()
        return done if done.rows else None


@dataclass(slots=True)
class Status:
    """`state` is starting, reading, waiting (for the engine), error or stopped; `note` says why."""

    state: str = "starting"
    note: str = ""
    since: float = field(default_factory=time.time)
    partitions: dict[int, Partition] = field(default_factory=dict)  # those that this process reads
    rows: int = 0
    bytes: int = 0
    quarantined: int = 0
    last_record_at: float = 0.0

    def become(self, state: str, note: str = "") -> bool:
        """Whether that is news."""
        if (state, note) == (self.state, self.note):
            return False
        self.state, self.note, self.since = state, note, time.time()
        return True

    @property
    def lag(self) -> int:
        return sum(partition.lag for partition in self.partitions.values())

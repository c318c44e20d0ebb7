"""How a bucket is loaded, as its reader last saw it: for the API and commands."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class BucketStatus:
    """`state` is starting, loading, ready, waiting (for the engine or the store), error or stopped; `note` says why.

    Counts are of this process, but for those that `/v0/connectors` takes from the state.
    """

    state: str = "starting"
    note: str = ""
    since: float = field(default_factory=time.time)
    objects: int = 0
    rows: int = 0
    bytes: int = 0
    quarantined: int = 0
    failed: int = 0
    found: int = 0  # by the look that is under way, or by the last one: objects that were not loaded yet
    looked_at: float = 0.0  # when the bucket was last seen to the end

    def become(self, state: str, note: str = "") -> bool:
        """Whether that is news."""
        if (state, note) == (self.state, self.note):
            return False
        self.state, self.note, self.since = state, note, time.time()
        return True

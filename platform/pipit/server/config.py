"""One server's settings; the CLI fills them from flags and PIPIT_* variables."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipit.catalog.sealing import NO_SEALS, Seals
from pipit.ingest.files.remote import AllowedHosts
from pipit.query.limits import Limits


@dataclass(frozen=True, slots=True)
class Config:
    data_dir: Path
    admin_token: str
    clickhouse_url: str | None = None
    max_event_bytes: int = 10 * 1024 * 1024
    max_body_bytes: int = 10 * 1024 * 1024
    max_file_bytes: int = 32 * 1024 * 1024 * 1024  # of a file that is loaded, unpacked
    urls: AllowedHosts = field(default_factory=AllowedHosts)  # where files are fetched from
    max_project_bytes: int = 64 * 1024 * 1024
    limits: Limits = field(default_factory=Limits)
    file_roots: tuple[Path, ...] = ()  # folders that rows may be loaded from besides the events' own
    # Writes a new admin token to where this one was found; None: it was given from outside and is changed there.
    keep_admin_token: Callable[[str], None] | None = None
    seals: Seals = NO_SEALS  # what the state's secrets are encrypted with
    # False, for a proof, whose tables hold its own rows only: no schedules, no log of reads, no fetching of keys.
    background: bool = True
    connectors: bool = False  # whether topics are read and buckets loaded here
    bucket_poll_seconds: float = 10.0  # of IMPORT_SCHEDULE @auto
    keep_previous_hours: float = 72.0  # of the deployment before the live one; 0: it is not kept
    writes_rps: int = 0  # requests a second that one token may append to one data source; 0: no limit
    metrics_token: str = ""  # opens /metrics and nothing else; empty: there is none
    cache_clock: Callable[[], float] = time.monotonic  # what the age of cached responses is measured with

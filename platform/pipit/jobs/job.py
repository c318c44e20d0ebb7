"""One job, as the state keeps it and as `GET /v0/jobs/<id>` shows it (shape: Tinybird's HTTP API)."""

from __future__ import annotations

from typing import Any

import msgspec

from pipit.query.limits import COPY, POPULATE

WAITING, WORKING, DONE, ERROR = "waiting", "working", "done", "error"
CANCELLING, CANCELLED = "cancelling", "cancelled"
STATUSES = (WAITING, WORKING, DONE, ERROR, CANCELLING, CANCELLED)
IMPORT, DELETE, REPLAY = "import", "delete_data", "replay_quarantine"
SYNC, SINK = "sync", "sink"
MISSING_IN = "missing_in_deployments"  # in a job's result: deployments that are kept and lack what it wrote, and why
KINDS = (COPY.name, POPULATE.name, IMPORT, DELETE, REPLAY, SYNC, SINK)
_OPEN = (WAITING, WORKING, CANCELLING)


class Job(msgspec.Struct, frozen=True, omit_defaults=True):
    """`scheduled_for`: the minute of its schedule that it runs for; empty on demand. Times are UTC.

    `repeatable`: all or nothing, so that it may run again after it was cut off. `made_at`: a copy's `job_timestamp`.
    `result`: what its kind shows besides.
    """

    id: str
    kind: str
    status: str
    created_at: str
    pipe: str = ""
    pipe_id: str = ""
    node: str = ""  # that a populate fills from
    datasource: str = ""
    datasource_id: str = ""
    mode: str = ""
    parameters: dict[str, Any] = {}
    asked_by: str = ""  # the token's name
    scheduled_for: str = ""
    started_at: str = ""
    updated_at: str = ""
    error: str = ""
    made_at: str = ""
    repeatable: bool = False
    rows: int = 0
    bytes: int = 0
    owner: str = ""  # who may ask after it besides admins; never shown
    result: dict[str, Any] = {}
    options: dict[str, str] = {}  # of a sink's run, in the place of its node's own

    @property
    def is_open(self) -> bool:
        return self.status in _OPEN

    @property
    def writes_all(self) -> bool:
        """Whether what it writes takes the place of all that was there."""
        return self.mode == "replace" or str(self.parameters.get("truncate", "")).lower() in ("true", "1")

    def shown(self, base_url: str, *, waiting_for: str = "") -> dict[str, Any]:
        """The object of the API."""
        found: dict[str, Any] = {
            "id": self.id,
            "job_id": self.id,
            "kind": self.kind,
            "status": self.status,
            "created_at": self.created_at,
            "started_at": self.started_at or None,
            "updated_at": self.updated_at or self.created_at,
            "is_cancellable": self.status in (WAITING, WORKING),
            "job_url": f"{base_url.rstrip('/')}/v0/jobs/{self.id}",
            "progress_percentage": 100 if self.status == DONE else 0,
            "pipe": {"id": self.pipe_id, "name": self.pipe},
            "datasource": {"id": self.datasource_id, "name": self.datasource},
            "mode": self.mode,
            "parameters": self.parameters,
            "statistics": {"bytes": self.bytes, "row_count": self.rows},
        }
        found |= self.result
        if self.scheduled_for:
            found["scheduled_for"] = self.scheduled_for
        if waiting_for:
            found["waiting_for"] = waiting_for
        if self.error:
            found |= {"error": self.error, "errors": [self.error]}
        return found

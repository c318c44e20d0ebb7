"""Work that takes its time and is asked after by its id: copies, on demand and on a schedule, and populates."""

from pipit.jobs.job import KINDS, STATUSES, Job
from pipit.jobs.kinds import JobKind, Work
from pipit.jobs.service import JobLog, Jobs

__all__ = ["KINDS", "STATUSES", "Job", "JobKind", "JobLog", "Jobs", "Work"]

"""Work that takes its time and is asked after by its id: copies, on demand and on a schedule, and populates."""

from pipit.jobs.job import KINDS, STATUSES, Job
from pipit.jobs.service import Jobs, Work

__all__ = ["KINDS", "STATUSES", "Job", "Jobs", "Work"]

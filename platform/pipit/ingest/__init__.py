"""Ingestion: events into segments on disk, segments into tables, bad rows into the quarantine."""

from pipit.ingest.body import read_body
from pipit.ingest.log import Pending
from pipit.ingest.parse import problems
from pipit.ingest.service import AppendResult, Generations, Ingest, Target
from pipit.ingest.target import target_of

__all__ = ["AppendResult", "Generations", "Ingest", "Pending", "Target", "problems", "read_body", "target_of"]

"""Connectors: topics of Kafka into tables, beside the API or in a process of their own.

A record is in its table once, however often a process is killed or a partition changes hands. Kafka keeps the position;
nothing that a connector holds alone has to outlive it.
"""

from pipit.connectors.ops_log import OpsLog
from pipit.connectors.service import Connectors
from pipit.connectors.source import Refused, Source, sources_of
from pipit.connectors.status import Status

__all__ = ["Connectors", "OpsLog", "Refused", "Source", "Status", "sources_of"]

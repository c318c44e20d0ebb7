"""The composition root: the one place where a server's parts are made and handed to each other.

The API, the commands, `pipit test`, the proof and the tests all run on what `open_server` or `running` builds.
"""

from pipit.server.build import Server, job_kinds, open_server, running
from pipit.server.config import Config

__all__ = ["Config", "Server", "job_kinds", "open_server", "running"]

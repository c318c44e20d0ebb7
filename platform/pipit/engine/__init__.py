"""The one wire to the engine. Others import from here."""

from pipit.engine.client import Engine, ParamValue, Settings
from pipit.engine.failures import without_values
from pipit.engine.opening import open_engine

__all__ = ["Engine", "ParamValue", "Settings", "open_engine", "without_values"]

"""The physical tables: the one lock of each, which every writer takes."""

from pipit.tables.locks import Locks, Mode, TableKey

__all__ = ["Locks", "Mode", "TableKey"]

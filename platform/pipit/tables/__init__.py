"""The physical tables: their DDL and its check, staging and exchange, and the one lock that every writer takes."""

from pipit.tables.locks import Locks, Mode, TableKey

__all__ = ["Locks", "Mode", "TableKey"]

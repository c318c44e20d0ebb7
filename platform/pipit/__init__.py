"""Pipit: SQL files in git become multi-tenant analytics APIs on ClickHouse."""

__version__ = "0.1.0"

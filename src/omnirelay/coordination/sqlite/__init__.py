"""The coordination store of a mesh whose clusters all run on one machine: one SQLite file that they share."""

from omnirelay.coordination.sqlite.adapter import SqliteCoordination

__all__ = ["SqliteCoordination"]

"""The log on SQLite: one writer thread with group commit, one reader thread, the latest batches in memory.

The idea: a batch is one row, an origin's head is its last row, and every row is proven by the chain digest of the row
before it. So there is no second place that could disagree with the rows, and reopening after a power cut is reading
them. Rejected: a head table (one more page in every commit, and a second truth) and a file of our own (340 MB/s instead
of the 100 and more that SQLite gives, at the price of writing recovery, indexes and retention ourselves).
"""

from omnirelay.storage.log import SqliteLog

__all__ = ["SqliteLog"]

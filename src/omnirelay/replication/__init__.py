"""Replication as decisions: what to admit, apply, send, deliver, and how far behind a peer is. Pure."""

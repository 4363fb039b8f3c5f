"""Measurements of the whole system on one machine. Each prints what it measured and how; nothing here judges."""

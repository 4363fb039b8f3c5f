"""Failover as decisions: transition tables, checks, approvals, leases. Pure: time and evidence come in as arguments."""

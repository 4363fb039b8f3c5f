-- name: state
SELECT revision, compacted, (SELECT min(deadline) FROM leases) FROM store;

-- name: advance
UPDATE store SET revision = ?, compacted = max(compacted, ?);

-- name: forget_changes
DELETE FROM changes WHERE revision <= (SELECT compacted FROM store);

-- name: entry
SELECT key, value, revision, lease FROM entries WHERE key = ?;

-- name: entries_from
SELECT key, value, revision, lease FROM entries WHERE key >= ? ORDER BY key;

-- name: keys_of_lease
SELECT key FROM entries WHERE lease = ? AND lease <> 0 ORDER BY key;

-- name: revision_of
SELECT revision FROM entries WHERE key = ?;

-- name: put
INSERT INTO entries (key, value, revision, lease) VALUES (?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision, lease = excluded.lease;

-- name: delete
DELETE FROM entries WHERE key = ?;

-- name: record_change
INSERT INTO changes (revision, ordinal, key, value, lease) VALUES (?, ?, ?, ?, ?);

-- name: changes_from
SELECT revision, key, value, lease FROM changes
WHERE revision >= ? AND substr(key, 1, ?) = ? ORDER BY revision, ordinal;

-- name: next_lease
UPDATE store SET last_lease = last_lease + 1;

-- name: last_lease
SELECT last_lease FROM store;

-- name: grant
INSERT INTO leases (lease, ttl_seconds, deadline) VALUES (?, ?, ?);

-- name: lease
SELECT 1 FROM leases WHERE lease = ?;

-- name: renew
UPDATE leases SET deadline = ? + ttl_seconds WHERE lease = ?;

-- name: end_lease
DELETE FROM leases WHERE lease = ?;

-- name: due_leases
SELECT lease FROM leases WHERE deadline <= ? ORDER BY lease;

-- name: boot_id
SELECT boot_id FROM store;

-- name: set_boot_id
UPDATE store SET boot_id = ?;

-- name: rearm_leases
UPDATE leases SET deadline = ? + ttl_seconds;

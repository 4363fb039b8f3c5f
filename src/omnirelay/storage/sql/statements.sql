-- Every statement that reads or changes the log, by name; see statements.py.

-- name: batch_insert
INSERT INTO batch (
    origin, first_sequence, last_sequence, count, namespace, epoch, kind, producer_id, producer_sequence,
    commit_time_ms, end_size, digest, header, records
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: batch_read
SELECT b.first_sequence, b.last_sequence, b.digest, b.header, b.records, coalesce(
    (SELECT p.digest FROM batch p WHERE p.origin = b.origin AND p.last_sequence = b.first_sequence - 1),
    (SELECT f.digest FROM floor f WHERE f.origin = b.origin AND f.sequence = b.first_sequence - 1)) AS previous
FROM batch b
WHERE b.origin = :origin AND b.last_sequence > :after
ORDER BY b.last_sequence

-- name: batch_read_namespace
SELECT b.first_sequence, b.last_sequence, b.digest, b.header, b.records, coalesce(
    (SELECT p.digest FROM batch p WHERE p.origin = b.origin AND p.last_sequence = b.first_sequence - 1),
    (SELECT f.digest FROM floor f WHERE f.origin = b.origin AND f.sequence = b.first_sequence - 1)) AS previous
FROM batch b INDEXED BY batch_in_namespace
WHERE b.namespace = :namespace AND b.epoch = :epoch AND b.origin = :origin
    AND b.last_sequence > :after AND b.first_sequence <= :upto
ORDER BY b.last_sequence

-- name: batch_last
SELECT last_sequence, digest, end_size, commit_time_ms
FROM batch WHERE origin = ? ORDER BY last_sequence DESC LIMIT 1

-- name: batch_size_until
SELECT end_size FROM batch WHERE origin = ? AND last_sequence <= ? ORDER BY last_sequence DESC LIMIT 1

-- name: batch_oldest
SELECT last_sequence, end_size, commit_time_ms, digest
FROM batch WHERE origin = ? ORDER BY last_sequence LIMIT ?

-- name: batch_drop
DELETE FROM batch WHERE origin = ? AND last_sequence <= ?

-- name: floor_insert
INSERT INTO floor (origin, sequence, digest, size, commit_time_ms) VALUES (?, ?, ?, ?, ?)

-- name: floor_raise
UPDATE floor SET sequence = ?, digest = ?, size = ?, commit_time_ms = ? WHERE origin = ?

-- name: floor_select
SELECT origin, sequence, digest, size, commit_time_ms FROM floor

-- name: floor_of
SELECT sequence, digest, size, commit_time_ms FROM floor WHERE origin = ?

-- name: dropped_put
INSERT OR REPLACE INTO dropped (namespace, epoch, origin, sequence)
SELECT namespace, epoch, origin, max(last_sequence) FROM batch
WHERE origin = ? AND last_sequence <= ? GROUP BY namespace, epoch

-- name: dropped_of
SELECT sequence FROM dropped WHERE namespace = ? AND epoch = ? AND origin = ?

-- name: dropped_select
SELECT namespace, epoch, sequence FROM dropped WHERE origin = ? ORDER BY namespace, epoch

-- name: dropped_sow
INSERT OR REPLACE INTO dropped (namespace, epoch, origin, sequence) VALUES (?, ?, ?, ?)

-- name: dropped_mark_select
-- An epoch has one log, so the ownership tells which log a mark is of.
SELECT m.namespace, m.epoch, m.producer_id, m.producer_sequence, m.first_sequence, m.count
FROM dropped_mark m JOIN ownership o ON o.namespace = m.namespace AND o.epoch = m.epoch
WHERE o.origin = ? ORDER BY m.namespace, m.epoch, m.producer_id

-- name: mark_put
INSERT OR REPLACE INTO mark (namespace, epoch, producer_id, producer_sequence, first_sequence, count)
VALUES (?, ?, ?, ?, ?, ?)

-- name: mark_select
SELECT namespace, epoch, producer_id, producer_sequence, first_sequence, count FROM mark

-- name: mark_epochs
SELECT DISTINCT epoch FROM mark WHERE namespace = ?

-- name: mark_clear
DELETE FROM mark WHERE namespace = :namespace AND epoch = :epoch

-- name: mark_restore
INSERT INTO mark (namespace, epoch, producer_id, producer_sequence, first_sequence, count)
SELECT namespace, epoch, producer_id, producer_sequence, first_sequence, count FROM dropped_mark
WHERE namespace = :namespace AND epoch = :epoch AND first_sequence + count - 1 <= :valid_end

-- name: mark_rebuild
-- With max(), SQLite takes the other columns from the row that holds the maximum.
INSERT OR REPLACE INTO mark (namespace, epoch, producer_id, producer_sequence, first_sequence, count)
SELECT namespace, epoch, producer_id, producer_sequence, first_sequence, count FROM (
    SELECT namespace, epoch, producer_id, producer_sequence, first_sequence, count, max(last_sequence)
    FROM batch
    WHERE namespace = :namespace AND epoch = :epoch AND last_sequence <= :valid_end AND kind = :data
    GROUP BY producer_id)

-- name: dropped_mark_put
-- One dropped batch at a time, in order.
INSERT OR REPLACE INTO dropped_mark (namespace, epoch, producer_id, producer_sequence, first_sequence, count)
VALUES (?, ?, ?, ?, ?, ?)

-- name: data_until
SELECT namespace, epoch, producer_id, producer_sequence, first_sequence, count FROM batch
WHERE origin = ? AND last_sequence <= ? AND kind = ? ORDER BY last_sequence

-- name: ownership_select
SELECT namespace, epoch, cluster, origin, cut_epoch, cut_sequence FROM ownership ORDER BY namespace, epoch

-- name: ownership_clear
DELETE FROM ownership WHERE namespace = ?

-- name: ownership_put
INSERT INTO ownership (namespace, epoch, cluster, origin, cut_epoch, cut_sequence) VALUES (?, ?, ?, ?, ?, ?)

-- name: cursor_put
INSERT OR REPLACE INTO cursor (peer, vector) VALUES (?, ?)

-- name: cursor_select
SELECT peer, vector FROM cursor

-- name: log_insert
INSERT INTO log (cluster, incarnation) VALUES (?, ?)

-- name: log_select
SELECT cluster, incarnation FROM log

-- name: log_rebuilt
UPDATE log SET incarnation = ?

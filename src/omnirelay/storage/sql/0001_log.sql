-- One row per batch. The columns beside the blobs are copies of what the header says, for the indexes' sake; the
-- header is what the digest proves. Small columns come first, so that reading them does not walk a blob's pages.
CREATE TABLE batch (
    id                INTEGER PRIMARY KEY,
    origin            TEXT    NOT NULL,
    first_sequence    INTEGER NOT NULL,
    last_sequence     INTEGER NOT NULL,
    count             INTEGER NOT NULL,
    namespace         TEXT    NOT NULL,
    epoch             INTEGER NOT NULL,
    kind              INTEGER NOT NULL,
    producer_id       TEXT    NOT NULL,
    producer_sequence INTEGER NOT NULL,
    commit_time_ms    INTEGER NOT NULL,
    end_size          INTEGER NOT NULL, -- bytes of all the origin's batches up to and including this one
    digest            BLOB    NOT NULL,
    header            BLOB    NOT NULL,
    records           BLOB    NOT NULL
) STRICT;

CREATE UNIQUE INDEX batch_in_origin ON batch (origin, last_sequence);

-- Covers the rebuilding of producers' marks, which must not read a gigabyte of rows while a failover waits.
CREATE INDEX batch_in_namespace ON batch (
    namespace, epoch, last_sequence, origin, kind, producer_id, producer_sequence, first_sequence, count
);

-- Where each origin's retained batches begin: the end of the last one dropped, at first zero and the genesis digest.
-- The head is the last row of `batch`, or this where nothing is retained.
CREATE TABLE floor (
    origin         TEXT    NOT NULL PRIMARY KEY,
    sequence       INTEGER NOT NULL,
    digest         BLOB    NOT NULL,
    size           INTEGER NOT NULL,
    commit_time_ms INTEGER NOT NULL
) STRICT;

-- The last sequence of each namespace and epoch that retention has dropped.
CREATE TABLE dropped (
    namespace TEXT    NOT NULL,
    epoch     INTEGER NOT NULL,
    origin    TEXT    NOT NULL,
    sequence  INTEGER NOT NULL,
    PRIMARY KEY (namespace, epoch, origin)
) STRICT, WITHOUT ROWID;

-- The last valid batch of each producer, by epoch.
CREATE TABLE mark (
    namespace         TEXT    NOT NULL,
    epoch             INTEGER NOT NULL,
    producer_id       TEXT    NOT NULL,
    producer_sequence INTEGER NOT NULL,
    first_sequence    INTEGER NOT NULL,
    count             INTEGER NOT NULL,
    PRIMARY KEY (namespace, epoch, producer_id)
) STRICT, WITHOUT ROWID;

-- The same over the dropped batches only: what a rebuild starts from.
CREATE TABLE dropped_mark (
    namespace         TEXT    NOT NULL,
    epoch             INTEGER NOT NULL,
    producer_id       TEXT    NOT NULL,
    producer_sequence INTEGER NOT NULL,
    first_sequence    INTEGER NOT NULL,
    count             INTEGER NOT NULL,
    PRIMARY KEY (namespace, epoch, producer_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE ownership (
    namespace    TEXT    NOT NULL,
    epoch        INTEGER NOT NULL,
    cluster      TEXT    NOT NULL,
    origin       TEXT    NOT NULL,
    cut_epoch    INTEGER NOT NULL,
    cut_sequence INTEGER NOT NULL,
    PRIMARY KEY (namespace, epoch)
) STRICT, WITHOUT ROWID;

-- A peer that holds nothing has a row too: retention waits for it.
CREATE TABLE cursor (
    peer   TEXT NOT NULL PRIMARY KEY,
    vector TEXT NOT NULL -- JSON object: origin → sequence
) STRICT, WITHOUT ROWID;

CREATE TABLE log (
    cluster     TEXT    NOT NULL,
    incarnation INTEGER NOT NULL
) STRICT;

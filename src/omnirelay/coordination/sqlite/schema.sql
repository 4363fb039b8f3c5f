-- One row: the counters of the whole store, and the boot that the deadlines in `leases` belong to.
CREATE TABLE store (
    only_row   INTEGER PRIMARY KEY CHECK (only_row = 1),
    revision   INTEGER NOT NULL,
    compacted  INTEGER NOT NULL,  -- changes up to and including this revision have been dropped
    last_lease INTEGER NOT NULL,
    boot_id    TEXT    NOT NULL
);

CREATE TABLE entries (
    key      TEXT    NOT NULL PRIMARY KEY,
    value    BLOB    NOT NULL,
    revision INTEGER NOT NULL,
    lease    INTEGER NOT NULL
);

CREATE INDEX entries_by_lease ON entries (lease) WHERE lease <> 0;

-- What watches read. `value` is NULL where the key was deleted.
CREATE TABLE changes (
    revision INTEGER NOT NULL,
    ordinal  INTEGER NOT NULL,
    key      TEXT    NOT NULL,
    value    BLOB,
    lease    INTEGER NOT NULL,
    PRIMARY KEY (revision, ordinal)
);

-- `deadline` is in seconds of the machine's boot-time clock.
CREATE TABLE leases (
    lease       INTEGER PRIMARY KEY,
    ttl_seconds REAL    NOT NULL,
    deadline    REAL    NOT NULL
);

-- An empty store stands at revision 1, as etcd's does.
INSERT INTO store (only_row, revision, compacted, last_lease, boot_id) VALUES (1, 1, 1, 0, '');

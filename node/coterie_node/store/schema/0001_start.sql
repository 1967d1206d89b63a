-- "Cote": what `PRAGMA application_id` of a node's store says.
PRAGMA application_id = 1131377765;

-- Small named values: uid, ring uid, position, remembered peers.
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

-- Rule 15: at least as high as every ballot counter ever promised here; `mark_check` is BLAKE2b-128 of the counter.
CREATE TABLE mark (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    counter INTEGER NOT NULL,
    mark_check BLOB NOT NULL
);

-- An acceptor's state of each slot's configuration (msgpack of registers.SlotRegister). Never deleted.
CREATE TABLE slot_registers (
    slot INTEGER PRIMARY KEY,
    register BLOB NOT NULL,
    row_check BLOB NOT NULL
);

-- An acceptor's state of each account (msgpack of registers.AccountRegister).
CREATE TABLE accounts (
    slot INTEGER NOT NULL,
    name TEXT NOT NULL,
    has_value INTEGER NOT NULL,
    register BLOB NOT NULL,
    row_check BLOB NOT NULL
);
CREATE UNIQUE INDEX accounts_by_name ON accounts (slot, name);

-- Mailbox records. A rowid table: rows are appended and only the small unique index is written at random places, which
-- measured twice as fast as WITHOUT ROWID. `hash` is records.key_hash, its first byte the digest bucket; `digest` is
-- records.record_digest, the row's checksum.
CREATE TABLE records (
    seq INTEGER PRIMARY KEY,
    slot INTEGER NOT NULL,
    hash BLOB NOT NULL,
    owner TEXT NOT NULL,
    sender TEXT NOT NULL,
    id BLOB NOT NULL,
    part INTEGER NOT NULL,
    state INTEGER NOT NULL,
    digest BLOB NOT NULL,
    size INTEGER NOT NULL,
    prekey BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    stored_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE UNIQUE INDEX records_by_key ON records (slot, hash);
CREATE INDEX records_pending ON records (slot, owner, stored_at, hash) WHERE state = 0;
CREATE INDEX records_archive ON records (slot, owner, stored_at, hash) WHERE state = 2 AND part = 0;

-- Records that failed their checksum: they count as not held, and are kept for whoever wants to look at them.
CREATE TABLE damaged_records (
    found_at INTEGER NOT NULL,
    slot, hash, owner, sender, id, part, state, digest, size, prekey, epoch, stored_at, changed_at, body
);

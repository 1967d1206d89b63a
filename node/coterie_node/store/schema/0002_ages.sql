-- Tombstones (expired, deleted) by age: only they are in it, so that storing a message costs nothing more.
CREATE INDEX records_tombstones ON records (slot, changed_at, hash) WHERE state IN (1, 3);

-- The archive is counted too (it has a quota), its attachments included: `part` comes before the order of the pages.
DROP INDEX records_archive;
CREATE INDEX records_archive ON records (slot, owner, part, stored_at, hash) WHERE state = 2;

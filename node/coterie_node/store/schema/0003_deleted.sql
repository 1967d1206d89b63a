-- Deleted records by owner: how many of them are remembered for one user has a quota.
CREATE INDEX records_deleted ON records (slot, owner) WHERE state = 3;

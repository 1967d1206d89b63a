"""Quorum append, rule 14 of the slot protocol: the coordinator, its batches, and the replica's half."""

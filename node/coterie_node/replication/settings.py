"""The timings of replication. Seconds, unless a field says otherwise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReplicationSettings:
    """Defaults suit one machine and one data centre; `replace_after` is the one that operators change."""

    round_timeout: float = 1.0
    """How long a proposer waits for one member's answer. As long as a frozen peer takes to be noticed."""
    account_timeout: float = 4.0
    """How long a change of an account is tried before its outcome is called unknown."""
    conflict_pause: float = 0.02
    """The mean pause before a round that lost against another proposer is tried again."""
    sync_attempts: int = 5
    """How often hand-over tries to re-accept one page of accounts before it leaves the slot for the next round."""
    handover_round: float = 0.25
    """How often a node compares what it acts for with what the ring suggests."""
    handover_batch: int = 256
    """Slots that go through one hand-over round together: a frame of some 50 KB."""
    settle: float = 0.5
    """How long a suggestion must stay the same before hand-over follows it: joins come in bursts."""
    confirm_after: float = 2.0
    """How long after it began to act for a slot a node makes sure that its configuration is chosen."""
    gossip_interval: float = 5.0
    """How often fellow members compare the epochs of the slots that they share."""
    replace_after: float = 60.0
    """How long a member may be dead before its slots get another: a restart that is shorter moves nothing."""
    append_timeout: float = 5.0
    """How long an append waits for its majority before its outcome is called unknown."""
    standin_after: float = 1.0
    """How long an append waits for a silent member before a stand-in gets the records too."""
    repair_interval: float = 30.0
    """How often members compare digests when nothing has changed."""
    append_records: int = 50_000
    """Records whose append is not decided yet, at most: further ones are answered BUSY ..."""
    append_bytes: int = 24 * 1024 * 1024
    """... and their bytes. All may wait for one peer: with what a gateway forwards, that does not cut a link yet."""
    hold_records: int = 50_000
    """Records of other coordinators that wait for this node's disk, at most: a disk that is too slow says so at once,
    the coordinators take stand-ins, and repair brings the records later ..."""
    hold_bytes: int = 32 * 1024 * 1024
    """... and their bytes."""
    settled_ms: int = 5000
    """Milliseconds: periodic comparison leaves out younger records, which are still on their way."""
    bulk_bytes_per_second: int = 64 * 1024 * 1024
    """Bytes a second that repair and hand-over send at most."""
    offer_retry: float = 2.0
    """How long a holder of strays waits before it offers again what was not confirmed."""
    offer_page: int = 512
    """How many records' versions it offers in one frame."""
    message_ttl: float = 30 * 86_400.0
    """How long a message waits for its recipient before it counts as expired."""
    tombstone_ttl: float = 45 * 86_400.0
    """How long is remembered that a message expired or was deleted; above `message_ttl` (calendar.py says why)."""
    clock_interval: float = 20.0
    """How often a node tells the others its clock."""
    ageing_interval: float = 60.0
    """How often a node looks for what has become too old in the slots that it acts for."""

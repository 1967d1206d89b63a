"""The node's durable state in SQLite: one writer thread, group commit, digests. It knows records, not chat.

`store.store.Store` implements `runtime.ports.Store` and `store.tx.Transaction` its `Tx`. These stand on the floor
above: nothing here imports them. This file imports nothing, so that whoever needs only `store.errors` gets only that.
"""

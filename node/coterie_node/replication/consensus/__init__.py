"""CASPaxos over a slot's registers: acceptors, proposers, account registers, and scrubbing of damaged ones."""

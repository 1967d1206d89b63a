"""One member of a ring: Chord, a replicated store, sessions and mailboxes, and the ports they are reached by."""

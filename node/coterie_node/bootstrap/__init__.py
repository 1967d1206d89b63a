"""The beginning of a node: its identity, the search for its ring, and rings that are not its own."""

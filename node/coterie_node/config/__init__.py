"""A node's settings: what they are, where they come from, how their values are read."""

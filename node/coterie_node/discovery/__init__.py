"""How a node finds the first others of its ring."""

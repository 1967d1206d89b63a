"""Changes of a slot's members: hand-over by joint configurations, state transfer, and unsafe recovery."""

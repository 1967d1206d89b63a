"""Anti-entropy (Demers et al. 1987): members compare digests, and exchange only what differs."""

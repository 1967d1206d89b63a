"""The commands of `coterie-node`."""

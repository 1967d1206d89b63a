"""The local ring: `coterie up`, `down` and `ring`.

Nodes are real `coterie-node` processes; this package starts and stops them and reads their admin ports. It imports
nothing of the node.
"""

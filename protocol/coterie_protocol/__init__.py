"""What travels between clients and nodes, and between nodes: types only, no I/O.

Every room may import this package; it imports none of them.
"""

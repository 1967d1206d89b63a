"""The slot, which decides: configurations, account registers, quorum append, repair and hand-over.

Everything here is async code over the Protocols of `runtime.ports`; it owns no socket, thread, clock or random source,
so that a simulation runs the very same code.
"""

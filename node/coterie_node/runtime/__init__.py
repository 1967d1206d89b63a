"""The world as replication and chat see it: ports, dispatch of messages, background tasks, the clock, a messenger."""

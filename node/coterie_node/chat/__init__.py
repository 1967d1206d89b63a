"""Chat: accounts, sessions, mailboxes and presence, on top of replication.

Half of it runs at a client's *gateway* (`gateway/`), half at the acting *owner* of a user's slot (`owner/`);
`service.Chat` puts the halves together. Like replication, it owns no socket, thread, clock or random source.
"""

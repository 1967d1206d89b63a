"""Chat: accounts, sessions, mailboxes and presence, on top of replication.

Half of it runs at a client's *gateway* (gateway, registration, forwarding, sessions, questions), half at the acting
*owner* of a user's slot (desk, current, boxes, mailbox, archive, delivery, presence); `service.Chat` puts the halves
together. Like replication, it owns no socket, thread, clock or random source.
"""

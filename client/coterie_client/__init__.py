"""Coterie's client: a library, and the `coterie` command built on it.

    settings = load_settings()
    async with Client.open(settings, receive=True) as client:
        message = await client.sender.send("bob", "hello")
        client.mailbox.start()
        while True:
            batch = await client.mailbox.next_batch()
            ...  # show batch.messages
            client.mailbox.done(batch)

Start at `client.Client`; `connection.Connection` is one WebSocket that finds another server by itself, `session` makes
and ends sessions, `sender` and `mailbox` are the two directions, `history` is what this device remembers. Import the
modules by name: this package imports nothing by itself, so that a command pays only for what it uses.
"""

__version__ = "0.1.0"

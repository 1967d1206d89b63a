"""The half of chat that serves clients: conversations, sessions, logins, and forwarding to the acting owner."""

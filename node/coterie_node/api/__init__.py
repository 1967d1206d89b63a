"""What the outside sees: the client API and the admin API. Everything below it is handed in."""

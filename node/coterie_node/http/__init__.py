"""Ports that take HTTP: opened, guarded, and bounded in what strangers can make them do."""

"""The node's log: its form, and the rate of lines that strangers can cause."""

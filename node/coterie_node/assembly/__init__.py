"""The rooms put together: a replica for one ring, its front end for clients, and the node around both."""

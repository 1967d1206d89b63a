"""Node-to-node links: one multiplexed WebSocket for each pair of nodes (`links.Links` implements `ports.Peers`)."""

"""What a node tells Prometheus. The rooms below keep plain totals; here they are read, at each scrape, and named."""

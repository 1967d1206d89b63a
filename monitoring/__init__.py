"""The Grafana dashboard of a ring, built from code: what it asks Prometheus, and how it is drawn.

No program of Coterie's imports this; it writes `chart/dashboards/coterie-ring.json`, which the chart ships.
"""

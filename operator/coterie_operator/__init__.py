"""The operator: it keeps rings on Kubernetes whole. Observe, plan, act."""

"""One training step as a graph, on one device or several replicas."""

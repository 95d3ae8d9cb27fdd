"""Layer sets for `tf_seresnet.network`: `core` and `slim` build a graph, `counting` counts operations."""

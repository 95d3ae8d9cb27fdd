"""ImageNet in tar shards, in the WebDataset format."""

"""What the standard library lacks: files written whole, caches, process pools, strict JSON, PNG."""

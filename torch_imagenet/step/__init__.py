"""One training step: losses, optimizer, mixing, weight average."""

"""What both halves' mode `export` does alike: the file and its name, its comparison with the network, Ascend's line."""

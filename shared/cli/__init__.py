"""The command lines of both halves: arguments, entry point, signals, standard streams, `--version`."""

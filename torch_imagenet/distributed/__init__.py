"""Several processes: one per device, over several machines where they are started so."""

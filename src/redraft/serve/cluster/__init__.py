"""Run redraft's work on the machines of a Ray cluster. This needs the extra `cluster`."""

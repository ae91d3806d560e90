"""Training: chains in, weights out. `redraft train` wires it."""

LOG, SAMPLES = "log.jsonl", "samples.jsonl"  # files of a run in its output folder

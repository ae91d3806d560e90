"""The run itself: steps, checkpoints, logs, guards, signals and the output folder."""

"""Score answers to tasks: the tasks' records and checks, the score of a run, and `redraft.evaluate`."""

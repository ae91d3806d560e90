"""Tasks with checkable truth: their records and checks, the score of a run, and `redraft.evaluate`."""

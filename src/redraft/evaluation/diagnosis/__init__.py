"""What revising did to answers, and whether it pays against other ways to spend the same tokens."""

SEEDS, SAMPLES = 3, 4
"""Default rounds over the records, and most answers of best of N, for runs of all strategies."""
